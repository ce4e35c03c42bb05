"""The clip that a window works on, read once from front to back, and single frames of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carvid.app.limits import Limits
from carvid.base.errors import VideoError
from carvid.base.interrupt import until_stopped
from carvid.media.given import open_source
from carvid.media.open import (
    ALL,
    Backend,
    Frame,
    Selection,
    VideoInfo,
    is_live,
    open_video,
)

READ_ON = 12
"""A frame that is no more than so many ahead is reached by decoding on, another one by seeking."""
KEPT_BYTES = 16_000_000
"""Decoded frames that a window keeps take no more than this, but for a single one."""


@dataclass(frozen=True)
class Clip:
    """A clip that can be read, and when each of its frames is shown."""

    path: Path
    info: VideoInfo
    """As its frames are read."""
    times_s: NDArray[np.float64]
    """float64 (T,): seconds from the clip's first frame."""
    lost: tuple[str, ...] = ()
    """What could not be read, a line each."""
    is_example: bool = False
    """Whether it is the clip that carvid comes with."""

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def selection(self) -> Selection:
        """Which frames of the file it is."""
        return self.info.selection


def read_clip(
    path: Path,
    *,
    selection: Selection = ALL,
    limits: Limits | None = None,
    is_example: bool = False,
) -> Clip:
    """Read all frames of a clip once: they are counted, and what is damaged is told.

    Args:
        path: a video, an image or a folder of images.
        selection: which frames.
        limits: of an uploaded clip.
        is_example: whether it is the clip that carvid comes with.

    Raises:
        Stopped: somebody wanted to stop.
        VideoError: it cannot be read, is live, or exceeds `limits`.
    """
    if is_live(str(path)):
        raise VideoError(f"'{path}' comes only once; give a file or a folder of images")
    times_s: list[float] = []
    with open_source(path, selection=selection) as reader:
        if limits is not None and (count := reader.info.frame_count) is not None:
            _check_count(path, count, limits)
        for frame in until_stopped(reader):
            times_s.append(frame.time_s)
            if limits is not None:
                _check_count(path, len(times_s), limits)
                _check_length(path, frame.time_s - times_s[0], limits)
        return Clip(path, reader.info, np.array(times_s), tuple(reader.lost), is_example)


def _check_count(path: Path, count: int, limits: Limits) -> None:
    if count > limits.frames:
        raise VideoError(
            f"'{path.name}' has more than {limits.frames} frames, which is the most that may be "
            "uploaded; choose a part of it, or every n-th frame"
        )


def _check_length(path: Path, seconds: float, limits: Limits) -> None:
    if seconds > limits.seconds:
        raise VideoError(
            f"'{path.name}' is longer than {limits.seconds:g} s, which is the most that may be "
            "uploaded; choose a part of it"
        )


class FrameSource:
    """Single frames of a clip, by their index, whichever thread asks; a few are kept.

    PyAV reads videos here: decord's readers bear one thread only.
    """

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._lock = threading.Lock()
        info = clip.info
        backend: Backend = "auto" if info.backend == "images" else "pyav"
        self._reader = open_video(
            clip.path, backend=backend, frame_rate=info.asked_rate, selection=info.selection
        )
        self._frames: Generator[Frame, None, None] | None = None
        self._next = 0
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._closed = False

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return a frame, uint8 (H, W, 3) RGB, not to be changed.

        Raises:
            VideoError: there is no such frame, or it can no longer be read.
        """
        if not 0 <= index < len(self._clip):
            raise VideoError(f"the clip has frames 0 to {len(self._clip) - 1}, not {index}")
        with self._lock:
            if self._closed:
                raise VideoError("another clip was opened; load the page again")
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            image = self._read(index)
            self._kept[index] = image
            while len(self._kept) > 1 and len(self._kept) * image.nbytes > KEPT_BYTES:
                self._kept.popitem(last=False)
            return image

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._closed = True
            self._end()
            self._kept.clear()
            self._reader.close()

    def _read(self, index: int) -> NDArray[np.uint8]:
        if self._frames is None or not self._next <= index < self._next + READ_ON:
            self._end()
            if index:
                self._reader.known = (index - 1, float(self._clip.times_s[index - 1]))
            self._frames, self._next = self._begin(index), index
        for frame in self._frames:
            self._next = frame.index + 1
            if frame.index == index:
                return frame.image
        self._frames = None
        raise VideoError(f"frame {index} of '{self._clip.path}' can no longer be read")

    def _begin(self, index: int) -> Generator[Frame, None, None]:
        yield from self._reader.frames(index)

    def _end(self) -> None:
        if self._frames is not None:
            self._frames.close()
        self._frames = None
