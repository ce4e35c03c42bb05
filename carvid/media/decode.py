"""Video files and streams, decoded: decord where it is exact, PyAV for the rest.

Damage does not end a video: what decodes is used, and `VideoReader.lost` says what does not.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
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
    shown_size,
    turns_of,
    upright,
    video_stream,
)
from carvid.media.frames import Picture, Selection, VideoInfo, VideoReader, check_size

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
STDIN = 0
LIVE_TIMEOUT_S = 15.0
URL = re.compile(r"(?:rtsps?|rtmps?|https?|udp|tcp|rtp|srt)://", re.IGNORECASE)
PLAYLIST = b"#EXTM3U"
"""How a playlist begins. FFmpeg waits for hours for one that has no end to grow."""
CAMERA = "camera:"
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
"""FFmpeg's format and name of camera k, by platform."""


def open_file(path: Path, backend: str, selection: Selection) -> VideoReader:
    """Open a video file; see `carvid.media.open.open_video`."""
    probe = _probe(path)
    if backend == "auto":
        backend = "decord" if probe.exact_in_decord else "pyav"
    if backend == "decord":
        return DecordReader(path, probe, selection)
    length = probe.duration_s
    guess = None if length is None else selection.expected(length, probe.frame_rate)
    return PyAVReader(_info(path, probe, "pyav", selection), guess)


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
        self.info = replace(self.info, frame_count=sum(1 for _ in selection.chosen(self._times)))

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        reader = self._open()
        for index, time_s in enumerate(self._times):
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

    def __init__(self, info: VideoInfo, guess: int | None = None) -> None:
        super().__init__(info, guess)
        self._containers = []

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        try:
            container = av.open(os.path.abspath(self.info.path), options=FILES_ONLY)
        except av.FFmpegError as error:
            raise cannot_read(self.info.path, error) from None
        self._containers.append(container)
        try:
            with container:
                decoding = Decoding(container, self.info.path)
                size_hw = None
                for time_s, frame in decoding:
                    shown = shown_size(frame)
                    size_hw = size_hw or shown
                    if shown != size_hw:
                        decoding.resized += 1
                    yield time_s, partial(upright, frame)
                self.lost.extend(decoding.losses())
        finally:
            if container in self._containers:
                self._containers.remove(container)

    def close(self) -> None:
        while self._containers:
            self._containers.pop().close()


class LiveReader(VideoReader):
    """A camera, a pipe or a network stream: read once, as it comes.

    Args:
        source: `-`, `camera:0`, a URL, or a named pipe.
        raw: of frames without a header (uint8 RGB, row by row): height, width, frame rate.
    """

    def __init__(
        self, source: str, selection: Selection, raw: tuple[int, int, Fraction] | None = None
    ) -> None:
        try:
            self._container, self._pipe = _open_live(source, raw)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise VideoError(
                f"cannot open '{source}': {reason}; see that it is there and sends video"
            ) from None
        try:
            self._decoding = Decoding(self._container, source)
            self._items: Iterator[tuple[float, av.VideoFrame]] | None = iter(self._decoding)
            first = next(self._items, None)
            if first is None:
                raise VideoError(f"'{source}' sends no frame that can be decoded; check it")
        except BaseException:
            self._container.close()
            self._release()
            raise
        self._first = first
        size_hw = shown_size(first[1])
        super().__init__(
            VideoInfo(
                source, "pyav", selection.size_hw(size_hw), self._decoding.rate, None,
                self._decoding.codec, pixel_aspect(self._decoding.stream, first[1]), selection,
                live=True,
            )
        )  # fmt: skip

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        items, self._items = self._items, None
        if items is None:
            raise VideoError(f"'{self.info.path}' can be read only once; save it to a file first")
        yield self._first[0], partial(upright, self._first[1])
        for time_s, frame in items:
            yield time_s, partial(upright, frame)
        self.lost.extend(self._decoding.losses())
        self._release()

    def close(self) -> None:
        if self._items is not None:  # else another thread may still be reading
            self._items = None
            self._container.close()
            self._release()

    def _release(self) -> None:
        if self._pipe is not None and self._pipe.descriptor != STDIN:
            os.close(self._pipe.descriptor)
        self._pipe = None


def _open_live(source: str, raw: tuple[int, int, Fraction] | None) -> tuple[Any, _Pipe | None]:
    """Open what comes only once: its container, and the pipe if it is one."""
    if source.startswith(CAMERA):
        number = source.removeprefix(CAMERA)
        form, name = CAMERAS.get(sys.platform, ("", ""))
        if not form or not number.isdigit():
            raise ValueError("cameras are numbered from 0, on Linux and macOS")
        return av.open(name.format(number), format=form), None
    if URL.match(source):
        return av.open(source, timeout=LIVE_TIMEOUT_S), None
    facts: dict[str, str] = {}
    if raw is not None:
        height, width, rate = raw
        check_size(source, (height, width))
        size = f"{width}x{height}"
        facts = {"video_size": size, "pixel_format": "rgb24", "framerate": str(rate)}
    pipe = _Pipe(STDIN if source == "-" else os.open(source, os.O_RDONLY))
    file: Any = pipe
    if raw is not None:
        return av.open(file, format="rawvideo", options=facts), pipe
    return av.open(file), pipe


@dataclass(frozen=True)
class _Pipe:
    """Gives what is there instead of waiting for a full buffer, and cannot seek."""

    descriptor: int

    def read(self, size: int) -> bytes:
        return os.read(self.descriptor, size)


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
                origin_s(stream, first), decoding.duration_s(), exact,
            )  # fmt: skip
    except (av.FFmpegError, OSError) as error:
        raise cannot_read(path, error) from None


@dataclass(frozen=True)
class _Scan:
    times: tuple[float, ...]
    whole: bool


@lru_cache(maxsize=16)
def _scan(path: Path, stamp: tuple[int, int]) -> _Scan | None:
    """Decode a file of at most `DECORD_MAX_FRAMES` once: its times, and whether it is whole."""
    with av.open(os.path.abspath(path), options=FILES_ONLY) as container:
        decoding = Decoding(container, str(path))
        times = []
        for time_s, _ in decoding:
            times.append(time_s)
            if len(times) > DECORD_MAX_FRAMES:
                return None
        return _Scan(tuple(times), decoding.whole and not decoding.interlaced)


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
