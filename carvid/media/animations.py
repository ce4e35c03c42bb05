"""Files of several pictures: animations, at their own times, and TIFFs of several pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.media.frames import ALL, Picture, Selection, VideoReader
from carvid.media.image_clock import ImageClock
from carvid.media.images import DAMAGED, TIMED, checked_size, open_image, reading, say_once
from carvid.media.stills import Tones, is_deep, say_if_transparent, shown, values_of

LEAST_MS = 10
"""Frames that a file shows no longer than this, milliseconds, are shown `UNTIMED_MS`; so in
browsers and FFmpeg."""
UNTIMED_MS = 100.0


@dataclass(frozen=True)
class FramesInFile:
    """The pictures of a file."""

    pages: tuple[int, ...]
    """Their places in it; an APNG's first picture may be for those alone who cannot play it."""
    sizes_hw: tuple[tuple[int, int], ...]
    lasts_s: tuple[float, ...] | None
    """How long each is shown, seconds; None: they are pages."""
    tones: Tones | None
    """Of pictures of more than 8 bits."""
    lost: tuple[str, ...]


class AnimationReader(VideoReader):
    """A file of several pictures, one a frame.

    Args:
        path: the file.
        frames: what is in it.
        frame_rate: frames per second; None is its own times, or else `DEFAULT_FRAME_RATE`.
        selection: which of the frames are read, and how large.
    """

    def __init__(
        self,
        path: Path,
        frames: FramesInFile,
        frame_rate: Fraction | None = None,
        selection: Selection = ALL,
    ) -> None:
        self._path, self._frames = path, frames
        lasts_s = None if frame_rate is not None else frames.lasts_s
        self._clock = ImageClock.of(len(frames.pages), frame_rate, lasts_s)
        count = len(self._clock.choose(selection))
        super().__init__(self._clock.info(path, frames.sizes_hw[0], count, selection))
        if frames.lasts_s is None:
            say_once(f"'{path}': its {len(frames.pages)} pages are taken for frames")
        if frames.tones is not None:
            say_once(f"'{path}': pictures of more than 8 bits, all alike: {frames.tones}")

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        with reading(self._path), open_image(self._path) as image:
            for position, page in enumerate(self._frames.pages):
                self.shown_s = self._clock.shown_s(position)
                yield self._clock.times_s[position], partial(self._picture, image, page)
        self.lost.extend(self._frames.lost)

    def _picture(self, image: Image.Image, page: int) -> NDArray[np.uint8]:
        with reading(self._path):
            image.seek(page)
            values = values_of(image, self._path)
        say_if_transparent(self._path, values)
        return shown(values, self._frames.tones or Tones(0.0, 1.0))


@lru_cache(maxsize=16)
def frames_in(path: Path, stamp: tuple[int, int]) -> FramesInFile:
    """Look through all pictures of a file; an animation's times are known only when it is decoded.

    Args:
        path: the file.
        stamp: its `stamp_of`.

    Raises:
        VideoError: it has no picture that can be decoded.
    """
    pages: list[int] = []
    sizes_hw: list[tuple[int, int]] = []
    lasts_s: list[float] = []
    lost: list[str] = []
    deep = False
    with reading(path), open_image(path) as image:
        timed = image.format in TIMED
        begin = int(bool(getattr(image, "default_image", False)))
        for page in count(begin):
            try:
                image.seek(page)
                size_hw = checked_size(path, image)
                if timed:
                    image.load()
            except EOFError:
                break
            except DAMAGED:
                if not pages:
                    raise
                lost.append(f"it is damaged: only {len(pages)} of its frames can be decoded")
                break
            deep = deep or is_deep(image)
            pages.append(page)
            sizes_hw.append(size_hw)
            lasts_s.append(_lasts_s(image))
        tones = Tones.of(_values(image, path, pages)) if deep else None
    return FramesInFile(
        tuple(pages), tuple(sizes_hw), tuple(lasts_s) if timed else None, tones, tuple(lost)
    )


def _lasts_s(image: Image.Image) -> float:
    given_ms = float(image.info.get("duration") or 0)
    return (given_ms if given_ms > LEAST_MS else UNTIMED_MS) / 1000


def _values(image: Image.Image, path: Path, pages: list[int]) -> Iterator[NDArray[Any]]:
    for page in pages:
        image.seek(page)
        yield values_of(image, path)
