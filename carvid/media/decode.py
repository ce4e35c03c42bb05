"""Video files and streams, decoded: decord where it is exact, PyAV for the rest.

Damage does not end a video: what decodes is used, and `VideoReader.lost` says what does not.
"""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import VideoError
from carvid.base.names import is_unicode
from carvid.media.container import (
    FILES_ONLY,
    Decoding,
    origin_s,
    pixel_aspect,
    say_once,
    shown_size,
    treatment,
    turns_of,
    video_stream,
)
from carvid.media.frames import Picture, Selection, VideoInfo, VideoReader
from carvid.media.sdr import conversion

DECORD_CODECS = {"h264", "hevc", "mpeg4", "vp9"}
DECORD_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}
"""What decord was measured to decode exactly; H.264 in RGB, for one, it returns garbled."""
DECORD_MIN_WIDTH = 96
"""decord misreads its rows, padded to 32 pixels, as more than three channels at widths of 2, 4, 6,
8, 12, 16, 24, 48 and 72 pixels; measured on all even widths up to 198."""
DECORD_CONTAINERS = {"mp4", "matroska", "avi"}
"""Of a transport stream that starts without a key frame it gives garbage for frames."""
DECORD_MAX_FRAMES = 2000
"""decord conceals damage without a word, so that a file must be decoded once before it gets it;
longer ones go to PyAV, which is as fast."""
ABOUT = 0.1
"""Matroska counts milliseconds: durations so near, as a share, are the same."""
PROGRESSIVE = 1
"""FFmpeg's number of that order of fields; 0 is an unknown one."""
PLAYLIST = b"#EXTM3U"
"""How a playlist begins. FFmpeg waits for hours for one that has no end to grow."""
LISTS = {"concat", "dash", "hls", "imf", "sdp"}
TEXTS = {"tty"}
"""FFmpeg's name of texts, which it would show as on a terminal."""


def open_file(path: Path, backend: str, selection: Selection) -> VideoReader:
    """Open a video file; see `carvid.media.open.open_video`."""
    probe = _probe(path)
    if backend == "auto":
        backend = "decord" if probe.exact_in_decord else "pyav"
    if backend == "decord":
        return DecordReader(path, probe, selection)
    if probe.said is not None:
        say_once(f"{path}: {probe.said}")
    length = probe.duration_s
    guess = None if length is None else selection.expected(length, probe.frame_rate)
    return PyAVReader(_info(path, probe, "pyav", selection), probe, guess)


class DecordReader(VideoReader):
    """Files through decord: exact on common codecs without edit lists.

    decord aborts the interpreter when threads share a reader, so `pictures` opens one of its own,
    in the thread that iterates.
    """

    def __init__(self, path: Path, probe: _Probe, selection: Selection) -> None:
        super().__init__(_info(path, probe, "decord", selection))
        self._size_hw = probe.size_hw
        count = len(self._open())
        scan = _scan(path, _stamp(path))
        # Its own times are float32: off by milliseconds after an hour.
        times = scan.times if scan is not None else ()
        self._times = times if len(times) == count else self._own_times()
        self._last_s = scan.last_s if scan is not None else math.nan
        self.info = replace(self.info, frame_count=sum(1 for _ in selection.chosen(self._times)))

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        reader = self._open()
        for index, time_s in enumerate(self._times):
            last = index == len(self._times) - 1
            self.shown_s = _held(self.info, time_s, self._last_s) if last else math.nan
            yield time_s, partial(self._picture, reader, index)

    def _picture(self, reader: Any, index: int) -> NDArray[np.uint8]:
        try:
            image: NDArray[np.uint8] = reader[index].asnumpy()
        except Exception as error:  # DECORDError derives from Exception alone
            raise VideoError(
                f"decord cannot decode frame {index} of '{self.info.path}': {first_line(error)}; "
                "use the backend pyav, which goes on after damage"
            ) from None
        if image.shape != (*self._size_hw, 3):
            raise VideoError(
                f"decord gives frame {index} of '{self.info.path}' the shape {image.shape}; "
                "use the backend pyav"
            )
        return image

    def _own_times(self) -> tuple[float, ...]:
        reader = self._open()
        count = len(reader)
        times = reader.get_frame_timestamp(range(count))[:, 0] if count else np.empty(0)
        return tuple(float(time - times[0]) for time in times)

    def _open(self) -> Any:
        try:
            return _open_decord(self.info.path)
        except ImportError:
            raise VideoError("decord is not installed; use the backend pyav") from None
        except Exception as error:  # RuntimeError, or DECORDError, which derives from Exception
            raise VideoError(
                f"decord cannot open '{self.info.path}': {first_line(error)}; use the backend pyav"
            ) from None


class PyAVReader(VideoReader):
    """Files through PyAV: whatever FFmpeg reads, turned and mirrored as it is shown."""

    _containers: list[Any]

    def __init__(self, info: VideoInfo, probe: _Probe, guess: int | None = None) -> None:
        super().__init__(info, guess)
        self._probe = probe
        self._containers = []

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        yield from self.pictures_from(0.0)

    def pictures_from(self, time_s: float) -> Iterator[tuple[float, Picture]]:
        container, decoding = self._begun_at(time_s)
        try:
            with container:
                for at_s, frame in decoding:
                    if shown_size(frame) != self._probe.size_hw:
                        decoding.resized += 1
                    self.shown_s = _held(self.info, at_s, decoding.shown_s(frame))
                    yield at_s, decoding.picture(frame)
                self.lost.extend(decoding.losses())
        finally:
            if container in self._containers:
                self._containers.remove(container)

    def _begun_at(self, time_s: float) -> tuple[Any, Decoding]:
        """Open the file, and begin at a key frame before a time if what comes is the same then."""
        container, decoding = self._open()
        if time_s <= 0 or not self._probe.has_times:
            return container, decoding
        if decoding.begin_at(
            time_s, self._probe.origin_s, frame_before=self._probe.interlaced
        ):  # fmt: skip
            return container, decoding
        self._containers.remove(container)
        container.close()
        return self._open()

    def _open(self) -> tuple[Any, Decoding]:
        try:
            container = av.open(os.path.abspath(self.info.path), options=FILES_ONLY)
        except av.FFmpegError as error:
            raise cannot_read(self.info.path, error) from None
        self._containers.append(container)
        return container, Decoding(container, self.info.path)

    def close(self) -> None:
        while self._containers:
            self._containers.pop().close()


@dataclass(frozen=True)
class _Probe:
    """What PyAV says of a file's first video stream."""

    codec: str
    size_hw: tuple[int, int]
    frame_rate: Fraction
    pixel_aspect: Fraction
    origin_s: float
    duration_s: float | None
    """As the container tells; not exact."""
    has_times: bool
    """The first frame has a time."""
    interlaced: bool
    """The first frame is, or its codec says that it may be."""
    said: str | None
    """What is done to its pictures before they are used, if anything."""
    exact_in_decord: bool


def _info(
    path: Path, probe: _Probe, backend: Literal["decord", "pyav"], selection: Selection
) -> VideoInfo:
    return VideoInfo(
        str(path), backend, selection.size_hw(probe.size_hw), probe.frame_rate, None, probe.codec,
        probe.pixel_aspect, selection, probe.origin_s,
    )  # fmt: skip


def _probe(path: Path) -> _Probe:
    try:
        with path.open("rb") as file:
            if file.read(len(PLAYLIST)) == PLAYLIST:
                raise VideoError(f"'{path}' is a list of videos; give one of them")
        with av.open(os.path.abspath(path), options=FILES_ONLY) as container:
            if container.format.name in LISTS:
                raise VideoError(f"'{path}' is a list of videos; give one of them")
            if container.format.name in TEXTS:
                raise VideoError(f"'{path}' is a text; give a video")
            decoding = Decoding(container, str(path))
            stream = decoding.stream
            _, first = next(iter(decoding), (0.0, None))
            if first is None:
                raise VideoError(f"'{path}' has no frame that can be decoded; give another file")
            # decord ignores edit lists: they show as packets that are decoded but not shown,
            # or as a stream that does not start at its first packet.
            starts_at_zero = first.pts is not None and first.pts == (stream.start_time or 0) >= 0
            exact = (
                decoding.codec in DECORD_CODECS
                and not DECORD_CONTAINERS.isdisjoint(container.format.name.split(","))
                and stream.codec_context.pix_fmt in DECORD_PIXEL_FORMATS
                and len(container.streams.video) == 1
                and conversion(first) is None
                and not decoding.interlaced
                and len(stream.index_entries) <= DECORD_MAX_FRAMES
                and starts_at_zero
                and turns_of(first)[1] is False
                and shown_size(first)[1] >= DECORD_MIN_WIDTH
                and is_unicode(os.path.abspath(path))  # decord takes no other names
                and _has_decord()
                and not _has_edit_list(path)  # opens the file twice more
                and _clean(path)
            )
            return _Probe(
                decoding.codec, shown_size(first), decoding.rate, pixel_aspect(stream, first),
                origin_s(stream, first), decoding.duration_s(), first.time is not None,
                decoding.interlaced or stream.codec_context.field_order > PROGRESSIVE,
                treatment(first, interlaced=decoding.interlaced), exact,
            )  # fmt: skip
    except (av.FFmpegError, OSError) as error:
        raise cannot_read(path, error) from None


@dataclass(frozen=True)
class _Scan:
    times: tuple[float, ...]
    last_s: float
    """How long the last frame is shown, seconds; NaN where nothing tells."""
    whole: bool


@lru_cache(maxsize=16)
def _scan(path: Path, stamp: tuple[int, int]) -> _Scan | None:
    """Decode a file of at most `DECORD_MAX_FRAMES` once: its times, and whether it is whole."""
    with av.open(os.path.abspath(path), options=FILES_ONLY) as container:
        decoding = Decoding(container, str(path))
        times, last_s = [], math.nan
        for time_s, frame in decoding:
            times.append(time_s)
            last_s = decoding.shown_s(frame)
            if len(times) > DECORD_MAX_FRAMES:
                return None
        return _Scan(tuple(times), last_s, decoding.whole and not decoding.interlaced)


def _clean(path: Path) -> bool:
    scan = _scan(path, _stamp(path))
    return scan is not None and scan.whole


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


def _has_edit_list(path: Path) -> bool:
    """Whether a container shows something else than all that it holds, from the beginning."""
    raw, shown = (_timeline(path, ignored) for ignored in ("1", "0"))
    return raw != shown


def _timeline(path: Path, ignore_edit_list: str) -> tuple[int | None, ...]:
    options = {"ignore_editlist": ignore_edit_list, **FILES_ONLY}
    with av.open(os.path.abspath(path), options=options) as container:
        stream = video_stream(container, path)
        index = stream.index_entries
        # A list that skips the beginning alone leaves start, duration and count as they are:
        # only the index then starts before 0.
        first = index[0].timestamp if len(index) else None
        return stream.start_time, stream.duration, stream.frames, len(index), first


def _held(info: VideoInfo, time_s: float, own_s: float) -> float:
    """How long a frame is shown that may be the last one, seconds, by its own duration; NaN where
    that is about one step of the frame rate."""
    step_s = float(info.selection.stride / info.frame_rate)
    if info.selection.end_s is not None:
        own_s = min(own_s, max(step_s, info.selection.end_s - time_s))
    shorter = own_s < (1 - ABOUT) * step_s and info.selection.stride == 1
    return own_s if shorter or own_s > (1 + ABOUT) * step_s else math.nan


def _has_decord() -> bool:
    """Whether decord is there and its libraries load; it has no build for many systems."""
    try:
        importlib.import_module("decord")
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def _open_decord(path: str) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord.VideoReader(os.path.abspath(path), ctx=decord.cpu(0), num_threads=1)


def cannot_read(path: str | Path, error: av.FFmpegError | OSError) -> VideoError:
    """The error of a file that FFmpeg does not open."""
    return VideoError(
        f"cannot read '{path}' as a video: {error.strerror}; give a video, an image or a "
        "folder of images"
    )


def first_line(error: Exception) -> str:
    """What an error says, without the times and source lines that decord puts before it."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"(?:\[\d\d:\d\d:\d\d\] )?\S+\.(?:cc|h):\d+: ", "", line)
