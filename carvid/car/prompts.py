"""v: visual prompts, which show a classifier the object that a mask marks (CaR section 3.2).

Kinds are applied in the order of `carvid.config.PROMPT_KINDS`, whichever are named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.config import PROMPT_KINDS

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

RED = (255, 0, 0)
"""Colour of the drawn prompts, RGB."""
LINE_WIDTH = 1
"""Width of the drawn prompts, pixels."""
BLUR_KERNEL = (15, 15)
"""Gaussian kernel of the background blur, pixels; OpenCV derives σ = 2.6 from it."""
MIN_PIXELS = 2
"""A mask smaller than this leaves the image as it is."""


def draw_prompts(
    image: Image,
    mask: Mask,
    kinds: Collection[str],
    blurred: Image | None = None,
    *,
    swap_gray: bool = False,
) -> Image:
    """Return `image` with the prompts of `mask` drawn.

    Args:
        image: uint8 (H, W, 3) RGB; not changed.
        mask: bool (H, W): the object.
        kinds: of `PROMPT_KINDS`.
        blurred: `image`, blurred (`blur_all`), where that is at hand.
        swap_gray: grey with the weights of red and blue exchanged (the released code).

    Raises:
        ValueError: `mask` has another size or dtype than the image asks for, or an unknown kind.
    """
    if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        raise ValueError(f"mask must be bool {image.shape[:2]}, got {mask.dtype} {mask.shape}")
    if unknown := set(kinds) - set(PROMPT_KINDS):
        raise ValueError(f"unknown visual prompts {sorted(unknown)}; known are {PROMPT_KINDS}")
    if np.count_nonzero(mask) < MIN_PIXELS:
        return image
    for kind in PROMPT_KINDS:
        if kind == "gray" and kind in kinds:
            image = gray(image, mask, swapped=swap_gray)
        elif kind == "blur" and kind in kinds and blurred is not None:
            image = _outside(image, mask, blurred.copy())
        elif kind in kinds:
            image = _DRAW[kind](image, mask)
    return image


def blur(image: Image, mask: Mask) -> Image:
    """Blur everything outside the mask."""
    return _outside(image, mask, blur_all(image))


def blur_all(image: Image) -> Image:
    """Blur a whole image."""
    return np.asarray(cv2.GaussianBlur(image, BLUR_KERNEL, 0), np.uint8)


def gray(image: Image, mask: Mask, *, swapped: bool = False) -> Image:
    """Take the colour from everything outside the mask."""
    plane = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if swapped else cv2.COLOR_RGB2GRAY)
    return _outside(image, mask, np.asarray(cv2.cvtColor(plane, cv2.COLOR_GRAY2RGB), np.uint8))


def black(image: Image, mask: Mask) -> Image:
    """Blacken everything outside the mask."""
    return _outside(image, mask, np.zeros_like(image))


def circle(image: Image, mask: Mask) -> Image:
    """Draw a red ellipse around the mask's mean, with half its bounding box as axes."""
    center, axes = _center_and_axes(mask)
    return cv2.ellipse(image.copy(), center, axes, 0, 0, 360, RED, LINE_WIDTH)  # type: ignore[return-value]


def rectangle(image: Image, mask: Mask) -> Image:
    """Draw a red rectangle of the mask's bounding box's size around the mask's mean.

    The released code centres it so; for a lopsided mask it is not the bounding box.
    """
    (x, y), (a, b) = _center_and_axes(mask)
    return cv2.rectangle(image.copy(), (x - a, y - b), (x + a, y + b), RED, LINE_WIDTH)  # type: ignore[return-value]


def contour(image: Image, mask: Mask) -> Image:
    """Draw the mask's outer contours in red, holes filled."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), contours, -1, RED, LINE_WIDTH)  # type: ignore[return-value]


def _center_and_axes(mask: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the mask's mean (x, y) and half its bounding box (width, height), whole pixels."""
    rows, columns = np.nonzero(mask)
    axes = ((int(np.ptp(columns)) + 1) // 2, (int(np.ptp(rows)) + 1) // 2)
    return (int(columns.mean()), int(rows.mean())), axes


def _outside(image: Image, mask: Mask, other: Image) -> Image:
    """The image within the mask, and `other`, which is changed, outside of it."""
    return np.asarray(cv2.copyTo(image, mask.view(np.uint8), other), np.uint8)


_DRAW: dict[str, Callable[[Image, Mask], Image]] = {
    "blur": blur, "black": black, "circle": circle, "rectangle": rectangle, "contour": contour,
}  # fmt: skip
