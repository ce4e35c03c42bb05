"""What every input looks like inside carvid: `Frame`s of a `VideoReader`, a `Part` of them."""

from __future__ import annotations

import math
import queue
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.brief import Brief
from carvid.base.errors import CarvidError, ConfigError, VideoError
from carvid.base.names import to_system, to_unicode

PREFETCHED_FRAMES = 4
PREFETCHED_BYTES = 32_000_000
"""Frames that are made ahead take no more than this, but for a single one."""
MAX_PIXELS = 80_000_000
"""Larger frames are refused (8K has 33 million pixels): memory is bounded whatever a header
says."""
RATES = (Fraction(1, 1000), Fraction(1000))
"""Frames per second of images, at least and at most."""
SAME_TIME_S = 1e-6
JOIN_S = 10.0
"""How long a thread is waited for that may be blocked by a silent pipe or camera."""

T = TypeVar("T")
Picture = Callable[[], NDArray[np.uint8]]
"""Makes the uint8 (H, W, 3) RGB of a frame when it is wanted."""


@dataclass(frozen=True, eq=False, repr=False)
class Frame(Brief):
    """One frame of a video."""

    index: int
    """From 0, without gaps, among the frames that are read."""
    time_s: float
    """Presentation time from that of the video's first frame, seconds."""
    image: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""
    duration_s: float = math.nan
    """How long it is shown, seconds; NaN where only the next frame's time tells."""


@dataclass(frozen=True)
class Selection:
    """Which frames of an input are read, and how large.

    Raises:
        ConfigError: no frame could be in it.
    """

    start_s: float = 0.0
    """The first time, seconds from the video's first frame."""
    end_s: float | None = None
    """The first time that is no longer in it; None is the end."""
    stride: int = 1
    """Every so manieth frame."""
    max_side: int = 0
    """Scale frames down to this longer side, pixels; 0 keeps the size."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and self.start_s >= 0):
            raise ConfigError(f"--start must be 0 or more seconds, got {self.start_s}")
        if self.end_s is not None and not self.end_s > self.start_s:
            raise ConfigError(f"--end must be after --start, got {self.end_s} and {self.start_s}")
        if self.stride < 1:
            raise ConfigError(f"--stride must be 1 or more, got {self.stride}")
        if self.max_side < 0:
            raise ConfigError(f"--max-side must be 0 or more pixels, got {self.max_side}")

    def size_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that frames of a size are read with."""
        height, width = size_hw
        if not self.max_side or max(size_hw) <= self.max_side:
            return size_hw
        scale = Fraction(self.max_side, max(size_hw))
        return (max(1, round(height * scale)), max(1, round(width * scale)))

    def expected(self, duration_s: float, frame_rate: Fraction) -> int:
        """Return about how many frames of a video are in it."""
        end_s = duration_s if self.end_s is None else min(self.end_s, duration_s)
        return max(0, math.ceil(round((end_s - self.start_s) * frame_rate / self.stride, 3)))

    def chosen(self, times_s: Iterable[float]) -> Iterator[int]:
        """Yield the positions of the frames that are in it, of times in order."""
        first = None
        for position, time_s in enumerate(times_s):
            if self.end_s is not None and time_s >= self.end_s - SAME_TIME_S:
                return
            if time_s < self.start_s - SAME_TIME_S:
                continue
            first = position if first is None else first
            if (position - first) % self.stride == 0:
                yield position

    def __str__(self) -> str:
        end = "the end" if self.end_s is None else f"{self.end_s:g} s"
        return f"from {self.start_s:g} s to {end}"


ALL = Selection()


def seconds(text: str) -> float:
    """Read `12.5`, `1:02.5` or `1:00:02` as seconds.

    Raises:
        ConfigError: it is none of them.
    """
    try:
        *larger, last = text.split(":")
        if len(larger) > 2 or not all(part.isdigit() for part in larger):
            raise ValueError
        whole = 0
        for part in larger:
            whole = 60 * (whole + int(part))
        return whole + float(last)
    except ValueError:
        raise ConfigError(f"cannot read the time '{text}'; write 12.5, 1:02.5 or 1:00:02") from None


def raw_frames(text: str) -> tuple[int, int, Fraction]:
    """Read `640x480@30000/1001` as height, width and frame rate.

    Raises:
        ConfigError: it is not of that form.
    """
    form = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)@([1-9]\d*(?:/[1-9]\d*)?)", text)
    if form is None:
        raise ConfigError(f"cannot read the frames' form '{text}'; write 640x480@25")
    return int(form[2]), int(form[1]), Fraction(form[3])


def rate_of(text: str) -> Fraction:
    """Read `24`, `23.976` or `30000/1001` as frames per second.

    Raises:
        ConfigError: it is none of them, or not within `RATES`.
    """
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not RATES[0] <= rate <= RATES[1]:
        raise ConfigError(
            f"cannot use '{text}' frames per second; write 24, 23.976 or 30000/1001, from "
            f"{float(RATES[0]):g} to {float(RATES[1]):g}"
        )
    return rate


@dataclass(frozen=True)
class VideoInfo:
    """What is known of an input before its frames are read."""

    path: str
    backend: Literal["decord", "pyav", "images", "frames"]
    """What reads it; `frames`: a caller in Python gives its frames."""
    size_hw: tuple[int, int]
    """Height and width, pixels, as read (after rotation and scaling)."""
    frame_rate: Fraction
    """Average, frames per second."""
    frame_count: int | None
    """Exact, or None where only reading to the end would tell."""
    codec: str | None = None
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel over its height, as shown."""
    selection: Selection = ALL
    """What of the input is read."""
    origin_s: float = 0.0
    """When the first frame is shown by the file's own clock, which its sound goes by."""
    live: bool = False
    """It can be read once: a camera, a pipe, a network stream, or frames given in Python."""
    names: tuple[str, ...] = ()
    """Of the frames that are read, where each is a file: its path from the folder that is the
    input, with `/`; a picture's own name. Empty elsewhere."""
    own_times: bool = False
    """It is of images that have times of their own: an animation, or in their names."""

    @property
    def is_picture(self) -> bool:
        """Whether it is one picture."""
        return self.backend == "images" and self.frame_count == 1

    @property
    def endless(self) -> bool:
        """Whether it may never end, so that no frame waits for later ones."""
        return self.live and self.backend != "frames"

    @property
    def at_hand(self) -> bool:
        """Whether its frames can be had at any time; else each comes when it comes."""
        return not self.live or self.frame_count is not None

    @property
    def asked_rate(self) -> Fraction | None:
        """The frame rate that it has to be opened with to be read again as it was; None where its
        own times are used."""
        return self.frame_rate if self.backend == "images" and not self.own_times else None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping without `names`; the frame rate as `"30000/1001"`."""
        values = asdict(self) | {
            "path": to_unicode(self.path), "size_hw": list(self.size_hw),
            "frame_rate": str(self.frame_rate), "pixel_aspect": str(self.pixel_aspect),
        }  # fmt: skip
        del values["names"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VideoInfo:
        """Load what `to_dict` gave."""
        height, width = values["size_hw"]
        changes = {
            "path": to_system(values["path"]),
            "size_hw": (height, width),
            "frame_rate": Fraction(values["frame_rate"]),
            "pixel_aspect": Fraction(values.get("pixel_aspect", 1)),
            "selection": Selection(**values.get("selection", values.get("part", {}))),
        }
        return cls(**{**values, **changes})


class VideoReader(ABC):
    """An input that is read from front to back, as often as wanted; a context manager.

    A reader belongs to one thread and one process at a time.
    """

    def __init__(self, info: VideoInfo, guess: int | None = None) -> None:
        self.info = info
        self._guess = guess
        self.lost: list[str] = []
        """What could not be read, a line each; complete when `frames` has come to its end."""
        self.known: tuple[int, float] | None = None
        """Index of a frame, and when it is shown, seconds, if known beforehand: for `frames`
        from the next one on, what is before is not decoded where a reader can do without."""
        self.shown_s = math.nan
        """How long the picture that `pictures` yielded last is shown among those that are read,
        seconds; a reader that knows sets it before it yields."""

    @property
    def expected(self) -> int | None:
        """About how many frames will come, for progress bars; None if nothing tells."""
        return self._guess if self.info.frame_count is None else self.info.frame_count

    @abstractmethod
    def pictures(self) -> Iterator[tuple[float, Picture]]:
        """Yield every frame's time, seconds from the first one's, and what makes its picture."""

    def pictures_from(self, time_s: float) -> Iterator[tuple[float, Picture]]:
        """As `pictures`; those before `time_s` may be left out."""
        return self.pictures()

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Yield the frames from index `start`, 0 or more, on; none if that is past the end.

        Raises:
            VideoError: nothing can be decoded, or no frame is in the part that was asked for.
        """
        if start < 0:
            raise ValueError(f"start must be 0 or more, got {start}")
        self.lost.clear()
        index, last_s = 0, 0.0
        selection = self.info.selection
        at, time_s = self.known or (-1, math.nan)
        known_s = time_s if start and at == start - 1 and math.isfinite(time_s) else None
        if known_s is not None:
            index, selection = start - 1, replace(selection, start_s=known_s)
        waiting: list[Picture] = []

        def times() -> Iterator[float]:
            nonlocal last_s
            for last_s, picture in pictures:
                waiting[:] = [picture]
                yield last_s

        with closing(_closable(self.pictures_from(selection.start_s))) as pictures:
            for _ in selection.chosen(times()):
                if known_s is not None and index < start and abs(last_s - known_s) > SAME_TIME_S:
                    break  # it is not shown then
                if index >= start:
                    yield Frame(index, last_s, self._fitted(waiting[0]()), self.shown_s)
                index += 1
        if known_s is not None and index < start:
            self.known = None
            yield from self.frames(start)
        elif not index:
            raise VideoError(
                f"no frame of '{self.info.path}' is shown {self.info.selection}; its last begins "
                f"at {last_s:.2f} s, choose other times"
            )

    def close(self) -> None:  # noqa: B027  nothing to release by default
        """Release the file; closing twice is fine."""

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _fitted(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale a picture to the size of `info`."""
        if image.shape[:2] == self.info.size_hw:
            return image
        height, width = self.info.size_hw
        scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return scaled.astype(np.uint8, copy=False)


def _closable(items: Iterator[T]) -> Generator[T, None, None]:
    yield from items


def check_size(
    path: str | Path, size_hw: tuple[int, int], error: type[CarvidError] = VideoError
) -> None:
    """Refuse frames that would fill the memory.

    Raises:
        CarvidError: of the type `error`; a frame has more than `MAX_PIXELS`.
    """
    height, width = size_hw
    if height * width > MAX_PIXELS:
        raise error(
            f"'{path}' has frames of {width}×{height} pixels, more than {MAX_PIXELS // 10**6} "
            "million; scale it down first"
        )


def frames_ahead(size_hw: tuple[int, int]) -> int:
    """Return how many frames of a size to make ahead."""
    return max(1, min(PREFETCHED_FRAMES, PREFETCHED_BYTES // (3 * size_hw[0] * size_hw[1])))


def prefetch(items: Iterable[T], depth: int = PREFETCHED_FRAMES) -> Generator[T, None, None]:
    """Yield `items`, made ahead by a thread; its exception is raised here, at its place.

    The iterable is used in that thread alone. Closing the generator ends the thread, or leaves
    one that waits for a silent camera or pipe behind.
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
        thread.join(JOIN_S)
