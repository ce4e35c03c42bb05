"""Colours of the expressions of a run: the same wherever they are shown or written."""

from __future__ import annotations

import colorsys
from typing import TypeAlias

Color: TypeAlias = tuple[int, int, int]
"""RGB, 0 to 255."""
VIVID: tuple[Color, ...] = (
    (255, 94, 58), (40, 160, 255), (255, 200, 30), (60, 200, 110), (200, 90, 230),
    (20, 205, 205), (255, 120, 180), (160, 190, 40),
)  # fmt: skip
"""Colours of expressions 1, 2, …, RGB; further ones follow by the golden ratio of hue."""
SHADES = ((0.75, 1.0), (0.9, 0.66), (0.4, 1.0))
"""Saturation and value of those, by turns: strong, dark, light."""
OKABE_ITO: tuple[Color, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
"""RGB of Okabe and Ito's "Color Universal Design" (2008), without its black, in their order."""
GOLDEN_RATIO = 0.618034
WCAG_MIDDLE = 0.179
"""Relative luminance (WCAG 2) above which black has more contrast than white."""


def color_of(index: int, palette: str = "vivid") -> Color:
    """Return the RGB of expression `index`, from 0, in one of `PALETTES`; the same in every run."""
    if palette == "okabe-ito":
        return OKABE_ITO[index % len(OKABE_ITO)]
    if index < len(VIVID):
        return VIVID[index]
    r, g, b = colorsys.hsv_to_rgb(index * GOLDEN_RATIO % 1, *SHADES[index % len(SHADES)])
    return (round(255 * r), round(255 * g), round(255 * b))


def contrast(color: Color) -> Color:
    """Return black or white, whichever has more contrast with `color`."""
    r, g, b = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in color)
    )
    luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return (0, 0, 0) if luminance > WCAG_MIDDLE else (255, 255, 255)
