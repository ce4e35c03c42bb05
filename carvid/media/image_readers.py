"""Images as frames: folders and patterns of them, and files that hold several.

| file                                        | its frames                                        |
|---------------------------------------------|---------------------------------------------------|
| GIF, animated PNG, WebP and AVIF            | all, at their own times                           |
| TIFF of several pages of one size           | its pages, at the frame rate of images            |
| TIFF of pages of several sizes, HEIF        | the first page, or the main picture               |
| JPEG                                        | its picture, without depth and gain maps          |
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from carvid.base.errors import VideoError
from carvid.media.animations import AnimationReader, frames_in
from carvid.media.frames import ALL, Picture, Selection, VideoReader
from carvid.media.image_clock import ImageClock
from carvid.media.images import TIMED, checked_size, open_image, reading, say_once, stamp_of
from carvid.media.sequences import ImageList
from carvid.media.stills import (
    ORIENTATION,
    Tones,
    is_deep,
    say_if_transparent,
    shown,
    tiff_values,
    values_of,
)

TONED = 200
"""Of so many images at most, evenly spread, the range of values is looked at."""


def open_image_file(
    path: Path, frame_rate: Fraction | None = None, selection: Selection = ALL
) -> VideoReader:
    """Open one image file, of one picture or several; see the table above.

    Args:
        path: the file.
        frame_rate: frames per second, instead of the file's own times.
        selection: which of the frames are read, and how large.

    Raises:
        VideoError: it is damaged, or no image.
    """
    kind, several = _kind_of(path)
    notes = []
    if several and kind in (*TIMED, "TIFF"):
        frames = frames_in(path, stamp_of(path))
        if len(frames.pages) > 1 and len(set(frames.sizes_hw)) == 1:
            return AnimationReader(path, frames, frame_rate, selection)
    if several and kind != "MPO":  # of which the others are a phone's maps and previews
        main = "main" if kind == "HEIF" else "first"
        notes.append(f"it holds several pictures, of which the {main} one is used")
    return ImagesReader(path, ImageList([path], None, notes), frame_rate, selection)


class ImagesReader(VideoReader):
    """Images, one a frame, all of one size.

    Args:
        path: the folder, pattern or file, as the caller names it.
        images: its images; at least one.
        frame_rate: frames per second; None is their own times, or else `DEFAULT_FRAME_RATE`.
        selection: which of the frames are read, and how large.

    Raises:
        VideoError: an image that is to be read is none, or has another size than the first.
    """

    def __init__(
        self,
        path: str | Path,
        images: ImageList,
        frame_rate: Fraction | None = None,
        selection: Selection = ALL,
    ) -> None:
        self.paths = images.paths
        """The file of each image, in order, whether it is read or not."""
        lasts_s = None if frame_rate is not None else _lasting(images.times_s)
        self._clock = ImageClock.of(len(self.paths), frame_rate, lasts_s)
        chosen = self._clock.choose(selection)
        heads = {position: _head_of(self.paths[position]) for position in chosen or [0]}
        first = next(iter(heads))
        self._deep = {position for position, head in heads.items() if head.deep}
        self._tones = self._tones_of(sorted(self._deep))
        self._path = path
        self._size_hw: tuple[int, int] | None = None
        image = self._picture(first)
        self._size_hw = (image.shape[0], image.shape[1])
        for position, head in heads.items():
            if self._size_hw not in head.sizes_hw:
                raise self._of_another_size(position, head.sizes_hw[0])
        several = [self.paths[position].name for position, head in heads.items() if head.several]
        info = self._clock.info(path, self._size_hw, len(chosen), selection)
        super().__init__(replace(info, names=_names_of(self.paths, Path(path), chosen)))
        for note in images.notes:
            say_once(f"'{path}': {note}")
        if several and len(self.paths) > 1:
            say_once(
                f"'{path}': some of its images hold several pictures, of which the first is used: "
                f"{several[0]}, for one"
            )
        if self._deep:
            say_once(f"'{path}': pictures of more than 8 bits, all alike: {self._tones}")

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        for position, time_s in enumerate(self._clock.times_s):
            self.shown_s = self._clock.shown_s(position)
            yield time_s, partial(self._picture, position)

    def _picture(self, position: int) -> NDArray[np.uint8]:
        path = self.paths[position]
        with reading(path):
            values = _values_of(path)
        say_if_transparent(self._path, values)
        image = shown(values, self._tones)
        if self._size_hw not in (None, image.shape[:2]):
            raise self._of_another_size(position, (image.shape[0], image.shape[1]))
        return image

    def _of_another_size(self, position: int, size_hw: tuple[int, int]) -> VideoError:
        height, width = self._size_hw or (0, 0)
        return VideoError(
            f"'{self.paths[position]}' is {size_hw[1]}×{size_hw[0]}, the first image "
            f"{width}×{height}; give images of one size"
        )

    def _tones_of(self, positions: Sequence[int]) -> Tones:
        """The tones of the deep ones among them."""
        few = np.unique(np.linspace(0, len(positions) - 1, min(TONED, len(positions))).round())
        paths = [self.paths[positions[int(k)]] for k in few]
        return _tones_of(tuple((path, stamp_of(path)) for path in paths))


def _names_of(paths: Sequence[Path], source: Path, chosen: Iterable[int]) -> tuple[str, ...]:
    """The chosen images' paths from the folder that is the input, or that a pattern's are all in;
    with `/`."""
    folder = source if source.is_dir() else Path(os.path.commonpath([p.parent for p in paths]))
    return tuple(paths[position].relative_to(folder).as_posix() for position in chosen)


@dataclass(frozen=True)
class _Head:
    """What an image's header says."""

    sizes_hw: tuple[tuple[int, int], ...]
    """Height and width as shown; both ways where the header does not tell how it is turned."""
    deep: bool
    several: bool


def _kind_of(path: Path) -> tuple[str, bool]:
    """Pillow's name of a file's format, and whether it holds several pictures."""
    with reading(path):
        try:
            with open_image(path) as image:
                return image.format or "", bool(getattr(image, "is_animated", False))
        except UnidentifiedImageError:
            tiff_values(path)
            return "TIFF", False


def _head_of(path: Path) -> _Head:
    with reading(path):
        try:
            with open_image(path) as image:
                size_hw = checked_size(path, image)
                several = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
                return _Head(_turns(image, size_hw), is_deep(image), several)
        except UnidentifiedImageError:
            values = tiff_values(path)
            return _Head(((values.shape[0], values.shape[1]),), values.dtype != np.uint8, False)


def _turns(image: Image.Image, size_hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """An image's height and width when it is turned as its header says."""
    if image.format == "TIFF":  # which Pillow turns by itself
        return (size_hw,)
    if image.format == "PNG":  # which may say it behind its pixels
        return (size_hw, size_hw[::-1])
    turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    return (size_hw[::-1] if turned else size_hw,)


def _values_of(path: Path) -> NDArray[Any]:
    try:
        with open_image(path) as image:
            checked_size(path, image)
            return values_of(image, path)
    except UnidentifiedImageError:
        return tiff_values(path)


def _lasting(times_s: Sequence[float] | None) -> list[float] | None:
    """How long images of such times are shown, the last one as long as most."""
    if times_s is None:
        return None
    lasts_s = [after - before for before, after in pairwise(times_s)]
    return [*lasts_s, median(lasts_s)]


@lru_cache(maxsize=16)
def _tones_of(files: tuple[tuple[Path, tuple[int, int]], ...]) -> Tones:
    """The tones of images, each with its `_stamp`."""

    def values() -> Iterator[NDArray[Any]]:
        for path, _ in files:
            with reading(path):
                yield _values_of(path)

    return Tones.of(values())
