"""Frames in, frames out.

`open_video` gives one interface over video files (decord where it is exact, PyAV for the rest),
folders of images and single images. `VideoWriter` writes H.264 that browsers play.
"""

from __future__ import annotations

import importlib.util
import math
import queue
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from carvid.errors import VideoError
from carvid.files import cannot_write, replacing

Backend = Literal["auto", "decord", "pyav"]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
DEFAULT_FRAME_RATE = Fraction(24)
"""Frame rate of a folder of images, which has none of its own (DAVIS is shown at 24)."""
DECORD_CODECS = {"h264", "hevc", "mpeg4", "vp9"}
DECORD_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}
"""What decord was measured to decode exactly; H.264 in RGB, for one, it returns garbled."""
DECORD_MIN_WIDTH = 96
"""decord misreads its rows, padded to 32 pixels, as more than three channels at widths of 2, 4, 6,
8, 12, 16, 24, 48 and 72 pixels; measured on all even widths up to 198."""
PREFETCHED_FRAMES = 4
MP4_SOUND_CODECS = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}
BT709 = 1
"""H.273's number of BT.709 primaries, transfer and matrix; browsers take HD for it anyway."""
LIMITED_RANGE = 1
H264_OPTIONS = {
    "preset": "veryfast", "crf": "18", "threads": "1", "x264-params": "mbtree=0",
}  # fmt: skip
"""The same frames give the same bytes in every process. x264's macroblock tree does not on CPUs
with AVX-512: 8 runs of 8 differed, none without it, at 1 % more bytes."""

T = TypeVar("T")


@dataclass(frozen=True)
class Frame:
    """One frame of a video."""

    index: int
    """From 0."""
    time_s: float
    """Presentation time from the first frame's, seconds."""
    image: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of an input before its frames are read."""

    path: str
    backend: Literal["decord", "pyav", "images"]
    size_hw: tuple[int, int]
    """Height and width, pixels, as shown (after rotation)."""
    frame_rate: Fraction
    """Average, frames per second."""
    frame_count: int | None
    """Exact, or None where only reading to the end would tell."""
    codec: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping; the frame rate as `"30000/1001"`."""
        return asdict(self) | {"size_hw": list(self.size_hw), "frame_rate": str(self.frame_rate)}


class VideoReader(ABC):
    """An input that is read from front to back, as often as wanted; a context manager.

    A reader belongs to one thread and one process at a time.
    """

    info: VideoInfo

    @abstractmethod
    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Yield the frames from index `start`, 0 or more, on; none if that is past the end.

        Raises:
            VideoError: a frame cannot be decoded; the message names it.
        """

    def close(self) -> None:  # noqa: B027  nothing to release by default
        """Release the file; closing twice is fine."""

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_video(
    source: str | Path, *, backend: Backend = "auto", frame_rate: Fraction = DEFAULT_FRAME_RATE
) -> VideoReader:
    """Open a video file, a folder of images (in natural order) or one image.

    Args:
        source: the path.
        backend: how files are decoded; `auto` is decord where it is exact, PyAV elsewhere.
        frame_rate: of images, which have none of their own.

    Raises:
        VideoError: there is no such input, or it cannot be decoded.
    """
    path = Path(source)
    if path.is_dir():
        paths = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
             and not p.name.startswith(".")),
            key=lambda p: natural_key(p.name),
        )  # fmt: skip
        if not paths:
            raise VideoError(
                f"'{path}' holds no images; give a folder of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        return ImagesReader(path, paths, frame_rate)
    if not path.exists():
        raise VideoError(
            f"no file or folder '{path}'; give a video, an image or a folder of images"
        )
    if path.stat().st_size == 0:
        raise VideoError(f"'{path}' is empty (0 bytes); give a video or an image")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImagesReader(path, [path], frame_rate)
    probe = _probe(path)
    if backend == "auto":
        backend = "decord" if probe.exact_in_decord else "pyav"
    return DecordReader(path, probe) if backend == "decord" else PyAVReader(path, probe)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which frame10 follows frame9."""
    parts = re.findall(r"\d+|\D+", name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


class ImagesReader(VideoReader):
    """Images, one a frame, all of one size."""

    def __init__(self, path: Path, paths: list[Path], frame_rate: Fraction) -> None:
        self._paths = paths
        first = _read_image(paths[0])
        size_hw = (first.shape[0], first.shape[1])
        self.info = VideoInfo(str(path), "images", size_hw, frame_rate, len(paths))

    def frames(self, start: int = 0) -> Iterator[Frame]:
        _check_start(start)
        for index in range(start, len(self._paths)):
            image = _read_image(self._paths[index])
            if image.shape[:2] != self.info.size_hw:
                raise VideoError(
                    f"'{self._paths[index]}' is {image.shape[1]}×{image.shape[0]}, the first image "
                    f"{self.info.size_hw[1]}×{self.info.size_hw[0]}; give images of one size"
                )
            yield Frame(index, float(index / self.info.frame_rate), image)


class DecordReader(VideoReader):
    """Files through decord: exact on common codecs without edit lists.

    decord aborts the interpreter when threads share a reader, so `frames` opens one of its own,
    in the thread that iterates.
    """

    def __init__(self, path: Path, probe: _Probe) -> None:
        self.info = probe.info(path, "decord", None)
        self.info = replace(self.info, frame_count=len(self._open()))

    def frames(self, start: int = 0) -> Iterator[Frame]:
        _check_start(start)
        reader = self._open()
        first_s = float(reader.get_frame_timestamp(0)[0]) if len(reader) else 0.0
        for index in range(start, len(reader)):
            try:
                image = reader[index].asnumpy()
                time_s = float(reader.get_frame_timestamp(index)[0]) - first_s
            except Exception as error:  # DECORDError derives from Exception alone
                raise _decode_error(self.info.path, index, error) from None
            if image.shape != (*self.info.size_hw, 3):
                raise VideoError(
                    f"decord gives frame {index} of '{self.info.path}' the shape {image.shape}; "
                    "use the backend pyav"
                )
            yield Frame(index, time_s, image)

    def _open(self) -> Any:
        try:
            return _open_decord(self.info.path)
        except ImportError:
            raise VideoError("decord is not installed; use the backend pyav") from None
        except Exception as error:  # RuntimeError, or DECORDError, which derives from Exception
            raise VideoError(
                f"decord cannot open '{self.info.path}': {_first_line(error)}; use the backend pyav"
            ) from None


class PyAVReader(VideoReader):
    """Files through PyAV: whatever FFmpeg reads, with rotation applied."""

    def __init__(self, path: Path, probe: _Probe) -> None:
        self.info = probe.info(path, "pyav", None)
        self._open: list[Any] = []

    def frames(self, start: int = 0) -> Iterator[Frame]:
        _check_start(start)
        index, first_s, container = 0, None, None
        try:
            with av.open(self.info.path) as container:
                self._open.append(container)
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for decoded in container.decode(stream):
                    time_s = (
                        decoded.time
                        if decoded.time is not None
                        else index / float(self.info.frame_rate)
                    )
                    first_s = time_s if first_s is None else first_s
                    if index >= start:
                        yield Frame(index, time_s - first_s, _upright(decoded))
                    index += 1
        except av.FFmpegError as error:
            raise _decode_error(self.info.path, index, error) from None
        finally:
            if container in self._open:
                self._open.remove(container)

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


@dataclass(frozen=True)
class _Probe:
    """What PyAV says of a file's first video stream."""

    codec: str
    size_hw: tuple[int, int]
    frame_rate: Fraction
    exact_in_decord: bool

    def info(
        self, path: Path, backend: Literal["decord", "pyav"], frame_count: int | None
    ) -> VideoInfo:
        return VideoInfo(str(path), backend, self.size_hw, self.frame_rate, frame_count, self.codec)


def _probe(path: Path) -> _Probe:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"'{path}' has no video in it; give a file with a video stream")
            stream = container.streams.video[0]
            first = next(container.decode(stream), None)
            if first is None:
                raise VideoError(f"'{path}' has no frame that can be decoded; give another file")
            image = _upright(first)
            rate = stream.average_rate or stream.guessed_rate or DEFAULT_FRAME_RATE
            codec = stream.codec_context.name
            # decord ignores edit lists: they show as packets that are decoded but not shown,
            # or as a stream that does not start at its first packet.
            starts_at_zero = first.pts is not None and first.pts == (stream.start_time or 0) >= 0
            exact = (
                codec in DECORD_CODECS
                and stream.pix_fmt in DECORD_PIXEL_FORMATS
                and starts_at_zero
                and image.shape[1] >= DECORD_MIN_WIDTH
                and _has_decord()
                and not _has_edit_list(path)  # opens the file twice more
            )
            return _Probe(codec, (image.shape[0], image.shape[1]), Fraction(rate), exact)
    except av.FFmpegError as error:
        raise VideoError(
            f"cannot read '{path}' as a video: {error.strerror}; give a video, an image or a "
            "folder of images"
        ) from None


def _has_edit_list(path: Path) -> bool:
    """Whether a container shows something else than all that it holds, from the beginning."""
    raw, shown = (_timeline(path, ignored) for ignored in ("1", "0"))
    return raw != shown


def _timeline(path: Path, ignore_edit_list: str) -> tuple[int | None, ...]:
    with av.open(str(path), options={"ignore_editlist": ignore_edit_list}) as container:
        stream = container.streams.video[0]
        index = stream.index_entries
        # A list that skips the beginning alone leaves start, duration and count as they are:
        # only the index then starts before 0.
        first = index[0].timestamp if len(index) else None
        return stream.start_time, stream.duration, stream.frames, len(index), first


def _has_decord() -> bool:
    return importlib.util.find_spec("decord") is not None


def _open_decord(path: str) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The frame as shown, uint8 (H, W, 3) RGB."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)).astype(np.uint8, copy=False)


def _read_image(path: Path) -> NDArray[np.uint8]:
    """The image as shown (a camera's orientation applied), uint8 (H, W, 3) RGB."""
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):  # Pillow would clip these to 255
                grey = (np.asarray(upright) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise VideoError(
            f"cannot read '{path}' as an image: {_first_line(error)}; remove or replace it"
        ) from None


def _decode_error(path: str, index: int, error: Exception) -> VideoError:
    return VideoError(
        f"cannot decode frame {index} of '{path}': {_first_line(error)}; the file may be damaged, "
        "try to repair or convert it"
    )


def _first_line(error: Exception) -> str:
    """What an error says, without the times and source lines that decord puts before it."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"(?:\[\d\d:\d\d:\d\d\] )?\S+\.(?:cc|h):\d+: ", "", line)


def _check_start(start: int) -> None:
    if start < 0:
        raise ValueError(f"start must be 0 or more, got {start}")


class VideoWriter:
    """Writes H.264 (yuv420p, BT.709, faststart), beside its place and renamed when it is whole.

    Odd sizes are extended by one row or column of the edge, since yuv420p needs even ones.

    Args:
        path: the .mp4 to make.
        size_hw: height and width of the frames, pixels.
        frame_rate: exact, frames per second.
        audio_from: copy this file's first sound track, packet by packet, if it has one that
            fits an mp4; its time 0 is that of the file's first video frame.

    Raises:
        OutputError: the place cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size_hw: tuple[int, int],
        frame_rate: Fraction,
        *,
        audio_from: str | Path | None = None,
    ) -> None:
        self.path, self.size_hw, self._rate = Path(path), size_hw, frame_rate
        self._frames, self._closed = 0, False
        self._place = ExitStack()
        partial = self._place.enter_context(replacing(self.path))
        self._container: Any = None
        try:
            partial.touch()  # FFmpeg would say only at the first frame
            self._container = av.open(str(partial), "w", options={"movflags": "faststart"})
            self._stream = self._container.add_stream(
                "libx264", rate=frame_rate, options=H264_OPTIONS
            )
            self._stream.height, self._stream.width = (side + side % 2 for side in size_hw)
            self._stream.pix_fmt = "yuv420p"
            context = self._stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = LIMITED_RANGE
            self._copy_sound_until = self._place.enter_context(
                _copied_sound(audio_from, self._container)
            )
        except BaseException as error:
            self._discard()
            raise self._as_output_error(error) from None

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append uint8 (H, W, 3) RGB of the writer's size."""
        if image.dtype != np.uint8 or image.shape != (*self.size_hw, 3):
            raise ValueError(
                f"image must be uint8 {(*self.size_hw, 3)}, got {image.dtype} {image.shape}"
            )
        odd = [(0, side % 2) for side in self.size_hw]
        padded = np.pad(image, (*odd, (0, 0)), mode="edge") if any(o[1] for o in odd) else image
        frame = av.VideoFrame.from_ndarray(padded).reformat(
            format="yuv420p", dst_colorspace="ITU709"
        )
        try:
            self._container.mux(self._stream.encode(frame))
            self._frames += 1
            self._copy_sound_until(float(self._frames / self._rate))
        except av.FFmpegError as error:
            raise self._as_output_error(error) from None

    def close(self) -> None:
        """Finish the file and give it its name; closing twice is fine.

        Raises:
            OutputError: what was still to be written could not be.
            ValueError: there is no frame.
        """
        if self._closed:
            return
        try:
            if not self._frames:
                raise ValueError(f"no frame was written to '{self.path}'")
            self._container.mux(self._stream.encode())
            self._copy_sound_until(math.inf)
            self._container.close()
        except BaseException as error:
            self._discard()
            raise self._as_output_error(error) from None
        self._closed = True
        self._place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._discard()

    def _discard(self) -> None:
        """Remove what was written so far."""
        if self._closed:
            return
        if self._container is not None:
            with suppress(OSError, ValueError):  # it wants to write its index, too
                self._container.close()
        self._closed = True
        self._place.__exit__(GeneratorExit, GeneratorExit(), None)

    def _as_output_error(self, error: BaseException) -> BaseException:
        if isinstance(error, av.FFmpegError | OSError):
            return cannot_write(self.path, str(error.strerror or error))
        return error


@contextmanager
def _copied_sound(
    path: str | Path | None, into: av.container.OutputContainer
) -> Iterator[Callable[[float], None]]:
    """Give a function that copies a file's sound up to a time, seconds, if there is any."""
    with ExitStack() as stack:
        source = None
        if path is not None:
            with suppress(av.FFmpegError):  # what is no file has no sound
                source = stack.enter_context(av.open(str(path)))
        sound = source.streams.audio[0] if source and source.streams.audio else None
        if source is None or sound is None or sound.codec_context.name not in MP4_SOUND_CODECS:
            yield lambda until_s: None
            return
        copy = into.add_stream_from_template(sound)
        video = source.streams.video[0] if source.streams.video else None
        first_s = (video.start_time or 0) * video.time_base if video and video.time_base else 0
        packets = _packets_from(source, sound, Fraction(first_s))
        waiting = next(packets, None)

        def copy_until(until_s: float) -> None:
            nonlocal waiting
            while waiting is not None and waiting.dts * waiting.time_base < until_s:
                waiting.stream = copy
                into.mux(waiting)
                waiting = next(packets, None)

        yield copy_until


def _packets_from(
    source: av.container.InputContainer, sound: av.AudioStream, first_s: Fraction
) -> Iterator[Any]:
    """A sound track's packets, in order, with `first_s` as time 0; damage ends them."""
    last = None
    with suppress(av.FFmpegError):
        for packet in source.demux(sound):
            if packet.dts is None or packet.pts is None:
                continue  # the end
            if last is not None and packet.dts <= last:
                continue  # an mp4 cannot hold it
            last = packet.dts
            shift = round(first_s / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            yield packet


def prefetch(items: Iterable[T], depth: int = PREFETCHED_FRAMES) -> Generator[T, None, None]:
    """Yield `items`, made ahead by a thread; its exception is raised here, at its place.

    The iterable is used in that thread alone. Closing the generator ends the thread.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def offer(entry: tuple[str, Any]) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer(("item", item)):
                    return
            offer(("end", None))
        except BaseException as error:
            offer(("error", error))
        finally:
            if isinstance(items, Generator):
                items.close()  # here: what it holds open belongs to this thread

    thread = threading.Thread(target=work, name="carvid-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()
