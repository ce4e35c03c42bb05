"""Stills in which every pixel is labelled: named things, and the named ground that they stand on.

They are made of the few drawings that carvid comes with (`shipped_sprites`), so that they need
nothing else. A still is a number: the same on every machine, up to the rounding of the image
library. Axis letters as in the package docstring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import cv2
import numpy as np

from carvid.base.errors import DatasetError
from carvid.demo.pictures import (
    HELD_OUT_SURFACES,
    NOUNS,
    Image,
    Sprites,
    paint_background,
    paste,
    recolor,
    transform,
)

PORTRAIT = 0.25
"""Share of the stills that stand upright."""
TILT_DEG = 12.0
"""Standard deviation of a thing's angle."""


@dataclass(frozen=True)
class StillSpec:
    """What a still is made from."""

    seed: int
    nouns: tuple[str, ...]
    """What it may show, of `shipped_sprites`."""
    things: tuple[int, int] = (2, 3)
    """Least and largest number of things."""
    heights: tuple[float, float] = (0.25, 0.5)
    """Least and largest height of a thing, over the picture's shorter side."""
    side: int = 500
    """The longer side, pixels; the shorter one is three quarters of it."""
    colors: tuple[str, ...] = ()
    """Of `HUES`: two things are of one noun, in two of these colours."""


@dataclass(frozen=True)
class StillThing:
    """One thing of a still."""

    noun: str
    color: str | None
    """Its colour word, where it was recoloured."""
    center_xy: tuple[float, float]
    """Pixels."""


@dataclass(frozen=True)
class Still:
    """A drawn still, and what is where in it."""

    image: Image
    """uint8 (H, W, 3) RGB."""
    labels: Image
    """uint8 (H, W): 0 the ground, k thing k, from 1."""
    things: tuple[StillThing, ...]
    ground: Image
    """uint8 (H, W): the index of the surface that is there, or would be without the things."""
    surfaces: tuple[tuple[str, ...], ...]
    """What each surface is called."""


def shipped_sprites() -> dict[str, list[Image]]:
    """Return the drawings that carvid comes with: noun → one drawing, uint8 (h, w, 4) RGBA.

    Raises:
        DatasetError: they are not there.
    """
    folder = resources.files("carvid") / "demo" / "sprites"
    sprites: dict[str, list[Image]] = {}
    for noun in NOUNS:
        file = folder / sprite_name(noun)
        if file.is_file():
            data = np.frombuffer(file.read_bytes(), np.uint8)
            picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            if picture is not None and picture.ndim == 3 and picture.shape[2] == 4:
                rgba: Image = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA), np.uint8)
                sprites[noun] = [rgba]
    if not sprites:
        raise DatasetError(f"the drawings are not in '{folder}'; install carvid again")
    return sprites


def sprite_name(noun: str) -> str:
    """Return how the file of a noun's drawing is called."""
    return f"{noun.replace(' ', '_')}.png"


def draw_still(spec: StillSpec, sprites: Sprites) -> Still:
    """Draw the still of a number.

    Args:
        spec: what it is made from.
        sprites: drawings of its nouns, as `shipped_sprites` gives them.
    """
    rng = np.random.default_rng([spec.seed, 2])
    size_hw = (round(spec.side * 0.75), spec.side)
    if rng.random() < PORTRAIT:
        size_hw = size_hw[::-1]
    image, ground, surfaces = paint_background(rng, size_hw, HELD_OUT_SURFACES.values())
    labels = np.zeros(size_hw, np.uint8)
    kinds = _pick_kinds(rng, spec)
    places = _pick_places(rng, size_hw, len(kinds))
    things = []
    for label, ((noun, color), center_xy) in enumerate(zip(kinds, places, strict=True), 1):
        drawing = sprites[noun][int(rng.integers(len(sprites[noun])))]
        sprite = recolor(drawing, color) if color else drawing
        height = rng.uniform(*spec.heights) * min(size_hw)
        height *= min(1.0, 1.3 * sprite.shape[0] / sprite.shape[1])  # wide ones would fill it
        drawn = transform(sprite, height, rng.normal(0, TILT_DEG), flip=bool(rng.random() < 0.5))
        paste(image, labels, drawn, center_xy, label)
        things.append(StillThing(noun, color, center_xy))
    return Still(image, labels, tuple(things), ground, surfaces)


def _pick_kinds(rng: np.random.Generator, spec: StillSpec) -> list[tuple[str, str | None]]:
    count = int(rng.integers(spec.things[0], spec.things[1] + 1))
    nouns = [str(noun) for noun in rng.permutation(list(spec.nouns))[:count]]
    if not spec.colors:
        return [(noun, None) for noun in nouns]
    first, second = (str(color) for color in rng.permutation(list(spec.colors))[:2])
    return [(nouns[0], first), (nouns[0], second), *((noun, None) for noun in nouns[2:])]


def _pick_places(
    rng: np.random.Generator, size_hw: tuple[int, int], count: int
) -> Sequence[tuple[float, float]]:
    """Centres, side by side along the longer side, in any order."""
    height, width = size_hw
    along = (rng.permutation(count) + rng.uniform(0.4, 0.6, count)) / count
    across = rng.uniform(0.35, 0.7, count)
    if width >= height:
        return [(float(a * width), float(b * height)) for a, b in zip(along, across, strict=True)]
    return [(float(b * width), float(a * height)) for a, b in zip(along, across, strict=True)]
