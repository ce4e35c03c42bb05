"""What things look like: the colours inside each track and close around it, gathered along time.

Two histograms tell, pixel by pixel, how much likelier a colour is in a thing than beside it (the
appearance model of Boykov and Jolly, ICCV 2001). Where both have the same colours it tells nothing.
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
RARE = 1e-4
"""Added to each share, so that a colour that was seen on one side only is not certain evidence."""


def to_colors(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint16]:
    """Return each pixel's colour, uint16 (h, w) below C, of uint8 (H, W, 3) RGB made that small."""
    if image.shape[:2] != size_hw:
        image = np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    red, green, blue = cv2.split(image // (256 // LEVELS))
    high = red.astype(np.uint16) * LEVELS + green
    return np.asarray(high * LEVELS + blue, np.uint16)


def count_colors(colors: NDArray[np.uint16], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return how many pixels of each colour are inside a mask and around it.

    Args:
        colors: uint16 (h, w).
        mask: bool (h, w).

    Returns:
        float32 (2, C).
    """
    box = box_around(mask, share=0.5)
    near, within = colors[box], mask[box]
    sides = (near[within], near[~within])
    return np.array([np.bincount(side, minlength=COLOR_BINS) for side in sides], np.float32)


def log_odds(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of how much likelier each colour is inside: float32 (C,), of (2, C)."""
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True)) + np.float32(RARE)
    return np.asarray(np.log(shares[0] / shares[1]), np.float32)


def by_color(
    chance: NDArray[np.float32],
    odds: NDArray[np.float32],
    belief: NDArray[np.float32] | float = 1.0,
) -> NDArray[np.float32]:
    """Return the chance that a pixel is a thing's, its colour being seen too (Bayes' rule).

    Args:
        chance: float32 (h, w) in [0, 1]: what was known before.
        odds: float32 (h, w): log odds of each pixel's colour.
        belief: in [0, 1], float32 (h, w) or one for all: how far to believe `chance`; below 1,
            colours can overrule what was certain.
    """
    before = np.asarray(belief * chance + (1 - belief) / 2, np.float32)
    inside = before * np.exp(odds)
    return np.asarray(inside / (inside + 1 - before), np.float32)
