"""The legend beside an overlay: which classes a frame has, each with its colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from carvid.base.palette import Color, color_of
from carvid.show.fonts import font_of, lettering

GROUND: Color = (24, 24, 24)
INK: Color = (235, 235, 235)
FONT_SHARE = 1 / 34
"""Height of the letters over the frame's height."""
MIN_FONT_PX = 12
ASPECT = 0.75
"""Of a frame that is higher than wide, so much of the width over it counts as its height."""
MAX_WIDTH_SHARE = 0.3
"""Width of a name over the frame's width; longer ones are shortened."""
MIN_LETTERS = 10
"""But for so many letters there is always room."""
FEWEST_ROWS = 8
"""Room for so many classes, if there are as many, beside however small a frame."""
USUAL = 20
"""Classes that a frame may well have; where one column has no room for them, there are two."""
SCORE = "  0.00"


@dataclass(frozen=True)
class LegendPlan:
    """The place of a legend, pixels; the same in all frames of a video."""

    size: int
    """Height of the letters."""
    rows: int
    """Rows of a column."""
    columns: int
    name_width: int
    """Of the longest name."""
    score_width: int
    """Of a score; 0 if none are shown."""
    least_height: int
    """Height of the rows that there have to be."""

    @property
    def gap(self) -> int:
        """Between things, and around all."""
        return max(3, self.size // 3)

    @property
    def row_height(self) -> int:
        """From one row to the next."""
        return _row_height(self.size)

    @property
    def column_width(self) -> int:
        """A patch of colour, a name and a score, with what is between them."""
        return self.size + self.name_width + self.score_width + 4 * self.gap

    @property
    def width(self) -> int:
        """Of the whole legend."""
        return self.columns * self.column_width


@lru_cache(maxsize=16)
def plan_legend(
    names: tuple[str, ...], size_hw: tuple[int, int], *, scores: bool = False
) -> LegendPlan:
    """Return where the legend of a video is drawn.

    Args:
        names: of all classes that may be in a frame.
        size_hw: height and width of the frames, pixels.
        scores: whether a score stands behind each name.
    """
    height, width = size_hw
    size = max(MIN_FONT_PX, round(min(height, ASPECT * width) * FONT_SHARE))
    limit = max(MIN_LETTERS * size, round(MAX_WIDTH_SHARE * width))
    drawn = [lettering(name, k, size, limit) for k, name in enumerate(names, 1)]
    longest = max(font.getlength(name) for name, font in drawn)
    tail = max(font_of(SCORE, font, size).getlength(SCORE) for _, font in drawn) if scores else 0
    least = min(len(names), FEWEST_ROWS)
    rows = max(least, (height - _row_height(size) // 2) // _row_height(size))
    return LegendPlan(
        size=size,
        rows=rows,
        columns=1 if min(len(names), USUAL) <= rows else 2,
        name_width=round(longest + 0.5),
        score_width=round(tail + 0.5),
        least_height=least * _row_height(size) + _row_height(size) // 2,
    )


def draw_legend(
    plan: LegendPlan,
    height: int,
    names: Sequence[str],
    areas: Mapping[int, int],
    palette: str,
    scores: Sequence[float] | None = None,
    *,
    colors: Sequence[Color] | None = None,
) -> NDArray[np.uint8]:
    """Draw the legend of one frame.

    Args:
        plan: of `plan_legend`.
        height: of the legend, pixels.
        names: of all N classes.
        areas: from a label, from 1, that is in the frame to its pixels there.
        palette: of `PALETTES`.
        scores: N scores in [0, 1], if they are shown.
        colors: of the N classes; None are those of the palette.

    Returns:
        uint8 (height, plan.width, 3) RGB: the classes in the order of their labels. If there is no
        room for all, the smallest are left out, and their number is told.
    """
    canvas = Image.new("RGB", (plan.width, height), GROUND)
    draw = ImageDraw.Draw(canvas)
    room, listed = plan.rows * plan.columns, sorted(areas)
    if len(listed) > room:
        largest = sorted(areas, key=lambda label: (-areas[label], label))
        listed = sorted(largest[: room - 1])
    size, gap = plan.size, plan.gap
    for place, label in enumerate([*listed, 0] if len(listed) < len(areas) else listed):
        column, row = divmod(place, plan.rows)
        left = column * plan.column_width + gap
        middle = plan.row_height * (row + 0.75)
        if not label:
            text, font = lettering(f"+ {len(areas) - len(listed)} more", 0, size, plan.name_width)
            draw.text((left, middle), text, font=font, fill=INK, anchor="lm")
            break
        box = (left, round(middle - size / 2), left + size - 1, round(middle + size / 2) - 1)
        fill = color_of(label - 1, palette) if colors is None else colors[label - 1]
        draw.rectangle(box, fill=fill)
        name, font = lettering(names[label - 1], label, size, plan.name_width)
        draw.text((left + size + gap, middle), name, font=font, fill=INK, anchor="lm")
        if scores is not None:
            tail = f"{scores[label - 1]:.2f}"
            right = left + size + gap + plan.name_width + plan.score_width
            draw.text((right, middle), tail, font=font_of(tail, font, size), fill=INK, anchor="rm")
    return np.array(canvas)


def beside(
    parts: Sequence[NDArray[np.uint8]], legend: NDArray[np.uint8]
) -> NDArray[np.uint8]:  # fmt: skip
    """Put pictures, uint8 (H, W, 3), and a legend that may be higher beside each other."""
    below = legend.shape[0] - parts[0].shape[0]
    picture = np.concatenate(parts, axis=1)
    if below:
        ground = np.full((below, picture.shape[1], 3), GROUND, np.uint8)
        picture = np.concatenate([picture, ground])
    return np.concatenate([picture, legend], axis=1)


def _row_height(size: int) -> int:
    return size + 2 * max(3, size // 3)
