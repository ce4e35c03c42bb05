"""Frames in, frames out.

`open_video` gives one interface over video files (decord where it is exact, PyAV for the rest),
folders of images and single images. `VideoWriter` writes H.264 that browsers play.
"""

from __future__ import annotations

import importlib.util
import queue
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.errors import OutputError, VideoError
from carvid.files import replacing

Backend = Literal["auto", "decord", "pyav"]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
DEFAULT_FRAME_RATE = Fraction(24)
"""Frame rate of a folder of images, which has none of its own (DAVIS is shown at 24)."""
DECORD_CODECS = {"h264", "hevc", "mpeg4", "vp9"}
DECORD_PIXEL_FORMATS = {"yuv420p", "yuvj420p"}
"""What decord was measured to decode exactly; H.264 in RGB, for one, it returns garbled."""
DECORD_MIN_WIDTH = 64
"""At 48 pixels decord was seen to return four channels, misread."""
PREFETCHED_FRAMES = 4
H264_OPTIONS = {"preset": "veryfast", "crf": "18", "threads": "1"}
"""One thread, so that the same frames give the same bytes on any machine."""

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
        """Yield the frames from index `start` on.

        Raises:
            VideoError: a frame cannot be decoded; the message names it.
        """

    def close(self) -> None:  # noqa: B027  nothing to release by default
        """Release the file; closing twice is fine."""

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        reader = self._open()
        first_s = float(reader.get_frame_timestamp(0)[0]) if len(reader) else 0.0
        for index in range(start, len(reader)):
            try:
                image = reader[index].asnumpy()
                time_s = float(reader.get_frame_timestamp(index)[0]) - first_s
            except Exception as error:  # DECORDError derives from Exception alone
                raise _decode_error(self.info.path, index, error) from None
            yield Frame(index, time_s, image)

    def _open(self) -> Any:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        try:
            return decord.VideoReader(self.info.path, ctx=decord.cpu(0), num_threads=1)
        except RuntimeError as error:
            raise VideoError(
                f"decord cannot open '{self.info.path}': {_first_line(error)}; use the backend pyav"
            ) from None


class PyAVReader(VideoReader):
    """Files through PyAV: whatever FFmpeg reads, with rotation applied."""

    def __init__(self, path: Path, probe: _Probe) -> None:
        self.info = probe.info(path, "pyav", None)
        self._open: list[Any] = []

    def frames(self, start: int = 0) -> Iterator[Frame]:
        index, first_s = 0, None
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
    av.logging.set_level(av.logging.PANIC)
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
                and not _has_edit_list(path)
                and image.shape[1] >= DECORD_MIN_WIDTH
                and _has_decord()
            )
            return _Probe(codec, (image.shape[0], image.shape[1]), Fraction(rate), exact)
    except av.FFmpegError as error:
        raise VideoError(
            f"cannot read '{path}' as a video: {error.strerror}; give a video, an image or a "
            "folder of images"
        ) from None


def _has_edit_list(path: Path) -> bool:
    """Whether a container's first packets lie before the start of what is shown."""
    with av.open(str(path), options={"ignore_editlist": "1"}) as container:
        stream = container.streams.video[0]
        raw = stream.start_time or 0
        raw_frames, raw_length = stream.frames, stream.duration
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = stream.start_time or 0
        return (raw, raw_frames, raw_length) != (shown, stream.frames, stream.duration)


def _has_decord() -> bool:
    return importlib.util.find_spec("decord") is not None


def _upright(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The frame as shown, uint8 (H, W, 3) RGB."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)).astype(np.uint8, copy=False)


def _read_image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(
            f"cannot read '{path}' as an image: {_first_line(error)}; remove or replace it"
        ) from None


def _decode_error(path: str, index: int, error: Exception) -> VideoError:
    return VideoError(
        f"cannot decode frame {index} of '{path}': {_first_line(error)}; the file may be damaged, "
        "try to repair or convert it"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class VideoWriter:
    """Writes H.264 (yuv420p, faststart), beside its place and renamed when it is whole.

    Odd sizes are extended by one row or column of the edge, since yuv420p needs even ones.

    Args:
        path: the .mp4 to make.
        size_hw: height and width of the frames, pixels.
        frame_rate: exact, frames per second.

    Raises:
        OutputError: the place cannot be written.
    """

    def __init__(self, path: Path, size_hw: tuple[int, int], frame_rate: Fraction) -> None:
        self.path, self.size_hw = Path(path), size_hw
        self._place = replacing(self.path)
        self._partial = self._place.__enter__()
        try:
            self._partial.touch()  # FFmpeg would say only at the first frame
            self._container = av.open(str(self._partial), "w", options={"movflags": "faststart"})
            stream = self._container.add_stream("libx264", rate=frame_rate, options=H264_OPTIONS)
        except BaseException as error:
            self._abandon(error)
            raise self._as_output_error(error) from None
        stream.height, stream.width = (side + side % 2 for side in size_hw)
        stream.pix_fmt = "yuv420p"
        self._stream = stream

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append uint8 (H, W, 3) RGB of the writer's size."""
        if image.dtype != np.uint8 or image.shape != (*self.size_hw, 3):
            raise ValueError(
                f"image must be uint8 {(*self.size_hw, 3)}, got {image.dtype} {image.shape}"
            )
        odd = [(0, side % 2) for side in self.size_hw]
        padded = np.pad(image, (*odd, (0, 0)), mode="edge") if any(o[1] for o in odd) else image
        try:
            self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(padded)))
        except av.FFmpegError as error:
            raise self._as_output_error(error) from None

    def close(self) -> None:
        """Finish the file and give it its name."""
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        except BaseException as error:
            self._abandon(error)
            raise self._as_output_error(error) from None
        self._place.__exit__(None, None, None)

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
            self._container.close()
            self._abandon(error)

    def _abandon(self, error: BaseException) -> None:
        """Remove what was written so far."""
        self._partial.unlink(missing_ok=True)

    def _as_output_error(self, error: BaseException) -> BaseException:
        if isinstance(error, av.FFmpegError | OSError):
            return OutputError(
                f"cannot write '{self.path}': {error.strerror or error}; free some space or "
                "choose another place with -o"
            )
        return error


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
