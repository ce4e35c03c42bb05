"""Frames that a caller in Python gives, as a reader like those of files."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sized
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import ConfigError, VideoError
from carvid.media.container import DEFAULT_FRAME_RATE
from carvid.media.frames import (
    ALL,
    Frame,
    Selection,
    VideoInfo,
    VideoReader,
    frames_ahead,
    prefetch,
    rate_of,
)
from carvid.media.frames import Picture as MakesPicture
from carvid.media.open import open_video
from carvid.media.pictures import MIN_SIDE, Picture, to_rgb

Source: TypeAlias = str | Path | Iterable[Frame | Picture]
"""What is segmented: a video file, a folder of images, one image, what comes live (`open_video`
says how it is named), or frames."""


def open_source(
    source: Source,
    *,
    frame_rate: Fraction | float | None = None,
    selection: Selection = ALL,
    raw: tuple[int, int, Fraction] | None = None,
) -> VideoReader:
    """Open what `open_video` does, or frames; a frame rate is that of pictures without times.

    Raises:
        ConfigError: a frame rate for a video, which has times of its own.
        VideoError: as `open_video`, or a side of the frames is under `MIN_SIDE` pixels.
        ValueError: as `GivenFrames`.
    """
    rate = None if frame_rate is None else rate_of(str(frame_rate))
    if isinstance(source, str | Path):
        reader = open_video(source, frame_rate=rate, selection=selection, raw=raw)
        if frame_rate is not None and reader.info.backend != "images":
            reader.close()
            raise ConfigError(
                f"'{source}' is a video, which has times of its own; leave --fps away, which is "
                "for images, or use fewer frames with --stride"
            )
        height, width = reader.info.size_hw
        if min(height, width) < MIN_SIDE:
            reader.close()
            raise VideoError(
                f"'{source}' has frames of {width}×{height} pixels, a side under {MIN_SIDE}; "
                "enlarge it first, or choose a larger --max-side"
            )
        return reader
    if not isinstance(source, Iterable):
        kind = type(source).__name__
        raise ValueError(f"a video must be a path or an iterable of frames, got {kind}")
    return GivenFrames(source, rate or DEFAULT_FRAME_RATE, selection)


def ahead(reader: VideoReader, start: int = 0) -> Generator[Frame, None, None]:
    """Yield a reader's frames from index `start` on, made ahead by a thread; given ones are made in
    the caller's."""
    if reader.info.backend == "frames":
        return (frame for frame in reader.frames(start))
    return prefetch(reader.frames(start), frames_ahead(reader.info.size_hw))


def to_frame(given: Frame | Picture, index: int) -> Frame:
    """Return what a caller gives as frame `index` as a `Frame`; one without a time has NaN.

    Raises:
        ValueError: it is no picture that `to_rgb` knows.
    """
    if isinstance(given, Frame):
        return Frame(given.index, given.time_s, to_rgb(given.image), given.duration_s)
    return Frame(index, math.nan, to_rgb(given))


def to_frames(given: Iterable[Frame | Picture]) -> Iterator[Frame]:
    """Yield what a caller gives, as `to_frame` does."""
    return (to_frame(each, index) for index, each in enumerate(given))


class GivenFrames(VideoReader):
    """Frames from any iterable, read once, in the caller's thread.

    Args:
        frames: `Frame`s, or pictures that `to_rgb` knows, all of one size.
        frame_rate: of pictures, which have no times.
        selection: which of the frames are used, and how large.

    Raises:
        ValueError: there is no frame, or the first is no picture.
    """

    def __init__(
        self,
        frames: Iterable[Frame | Picture],
        frame_rate: Fraction = DEFAULT_FRAME_RATE,
        selection: Selection = ALL,
    ) -> None:
        shape = tuple(getattr(frames, "shape", ()))
        if len(shape) == 3 and shape[-1] in (3, 4):
            raise ValueError(
                f"one picture of shape {shape} is no iterable of frames; give [picture], or call "
                "segment_image"
            )
        items: Iterator[Frame | Picture] = iter(frames)
        first = next(items, None)
        if first is None:
            raise ValueError("frames is empty; give at least one frame")
        self._items: Iterator[Frame | Picture] | None = chain([first], items)
        self._frame_rate = frame_rate
        self._given_hw = to_frame(first, 0).image.shape[:2]
        count = len(frames) if isinstance(frames, Sized) and selection == ALL else None
        super().__init__(
            VideoInfo(
                path="frames",
                backend="frames",
                size_hw=selection.size_hw((self._given_hw[0], self._given_hw[1])),
                frame_rate=frame_rate,
                frame_count=count,
                selection=selection,
                live=True,
            )
        )

    def pictures(self) -> Iterator[tuple[float, MakesPicture]]:
        items, self._items = self._items, None
        if items is None:
            raise ValueError("frames can be read only once; give them again")
        for index, given in enumerate(items):
            frame = to_frame(given, index)
            if frame.image.shape[:2] != self._given_hw:
                raise ValueError(
                    f"frame {index} has height and width {frame.image.shape[:2]}, the first "
                    f"{self._given_hw}; give frames of one size"
                )
            known = math.isfinite(frame.time_s)
            yield frame.time_s if known else float(index / self._frame_rate), _same(frame.image)


def _same(image: NDArray[np.uint8]) -> MakesPicture:
    return lambda: image
