"""The colours inside each track and close around it, gathered along time.

Two histograms say how much likelier a colour is inside a thing than beside it: the log odds of a
pixel, by its colour (the appearance model of Boykov and Jolly, ICCV 2001). They are 0 where both
sides have the same colours.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_around

LEVELS = 16
"""Steps of each of red, green and blue."""
COLOR_BINS = LEVELS**3
"""C, the number of colours."""
MIN_SHARE = 1e-4
"""Added to each colour's share: one that was seen on one side only is not certain evidence."""


def to_colors(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint16]:
    """Return each pixel's colour, uint16 (h, w) below C, of uint8 (H, W, 3) RGB made that small."""
    if image.shape[:2] != size_hw:
        image = np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    red, green, blue = cv2.split(image // (256 // LEVELS))
    high = red.astype(np.uint16) * LEVELS + green
    return np.asarray(high * LEVELS + blue, np.uint16)


def count_colors(colors: NDArray[np.uint16], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Count the pixels of each colour inside a mask and around it, in its box and half of that on
    each side.

    Args:
        colors: uint16 (h, w).
        mask: bool (h, w).

    Returns:
        float32 (2, C): inside, around.
    """
    box = box_around(mask, share=0.5)
    near, within = colors[box], mask[box]
    sides = (near[within], near[~within])
    return np.array([np.bincount(side, minlength=COLOR_BINS) for side in sides], np.float32)


def log_odds(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log(share inside / share around) of each colour, float32 (C,), of counts, float32
    (2, C)."""
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True)) + np.float32(MIN_SHARE)
    return np.asarray(np.log(shares[0] / shares[1]), np.float32)


def by_color(
    chance: NDArray[np.float32],
    odds: NDArray[np.float32],
    belief: NDArray[np.float32] | float = 1.0,
) -> NDArray[np.float32]:
    """Return each pixel's chance to be in a mask, given its colour (Bayes' rule): float32 (h, w) in
    [0, 1],

        p = belief * chance + (1 - belief) / 2
        p * exp(odds) / (p * exp(odds) + 1 - p)

    Args:
        chance: float32 (h, w) in [0, 1]: the chance without the colour.
        odds: float32 (h, w): log odds of each pixel's colour (`log_odds`).
        belief: float32 (h, w), or one for all, in [0, 1]: how far to believe `chance`; below 1,
            colours can overrule certainty.
    """
    p = np.asarray(belief * chance + (1 - belief) / 2, np.float32)
    inside = p * np.exp(odds)
    return np.asarray(inside / (inside + 1 - p), np.float32)
