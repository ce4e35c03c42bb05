"""Frames of any size: made small for what was meant for 480p, and masks made large again.

A mask is enlarged with the frame as a guide (the guided filter, He et al., ECCV 2010, in its fast
form, arXiv 1505.00996): the small map, linearly enlarged, plus what the frame has and the small
frame lacks, times the slope of the map over the grey. So the mask's edges are the frame's own. The
small map is filtered as far as it follows the grey, and stays as it is where it does not, so that
thin and faint things keep their form. Of one size, nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SHORT_SIDE = 480
"""The shorter side of 480p, pixels, whatever the aspect ratio."""
RADIUS = 5
"""Of the square window in which the map follows the frame, pixels of the small frame."""
PASSES = 2
"""A mask made of mixed pixels is up to one of them off the edge; once more, it is on it."""
EPSILON = 0.001
"""Variance, of grey in [0, 1], under which such a window counts as flat."""
MIN_VARIATION = 0.05
"""Where a map varies less than this from pixel to pixel, the frame does not lead it: a mask's edge
moves by a pixel of the small frame, not more."""
FLAT_VARIANCE = 1e-4
"""Variance under which a map is flat in a window, and follows nothing."""
ROWS = 128
"""So many rows of a mask are made at a time, which bounds the memory."""
MIN_COVER = 0.11
"""A pixel of the small frame that is covered by half of this, or by half of what the fullest one
beside it is, is in the small mask: thin masks do not vanish, specks do."""


def small_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a frame at 480p; its own, if it has no more."""
    scale = SHORT_SIDE / min(size_hw)
    if scale >= 1:
        return size_hw
    return round(size_hw[0] * scale), round(size_hw[1] * scale)


def working_size(image: NDArray[np.uint8], scale: str) -> tuple[int, int]:
    """Height and width of an image at one of `SCALES`."""
    size_hw = (image.shape[0], image.shape[1])
    return size_hw if scale == "frame" else small_size(size_hw)


def shrink(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Average uint8 (H, W) or (H, W, 3) down to `size_hw`; of that size, return it as it is."""
    if image.shape[:2] == size_hw:
        return image
    return np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def resize(maps: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Resize maps, float32 (N, h, w), linearly to `size_hw`; of that size, return them as they
    are."""
    if maps.shape[1:] == size_hw:
        return maps
    resized = np.empty((len(maps), *size_hw), np.float32)
    for plane, result in zip(maps, resized, strict=True):
        cv2.resize(plane, size_hw[::-1], dst=result, interpolation=cv2.INTER_LINEAR)
    return resized


def enlarged_rows(
    plane: NDArray[np.float32], size_hw: tuple[int, ...], top: int
) -> NDArray[np.float32]:
    """Enlarge a plane, float32 (h, w), linearly to `size_hw`, but return only `ROWS` rows of it,
    from `top` on (fewer at the end), and take no more memory."""
    height, width = size_hw
    count = min(ROWS, height - top)
    if plane.shape == (height, width):
        return plane[top : top + count]
    y = (np.arange(top, top + count, dtype=np.float32) + 0.5) * len(plane) / height - 0.5
    y = np.clip(y, 0, len(plane) - 1)
    above = y.astype(np.int64)
    below = np.minimum(above + 1, len(plane) - 1)
    share = (y - above).astype(np.float32)[:, None]
    rows = plane[above] + share * (plane[below] - plane[above])
    size = (width, count)
    return np.asarray(cv2.resize(rows, size, interpolation=cv2.INTER_LINEAR), np.float32)


def shrink_masks(masks: NDArray[np.bool_], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Make masks, bool (N, H, W), small: float32 (N, *size_hw) in [0, 1], the share of each pixel
    that they cover over that of the fullest one beside it."""
    if masks.shape[1:] == size_hw:
        return masks.astype(np.float32)
    shares = np.empty((len(masks), *size_hw), np.float32)
    for share, mask in zip(shares, masks, strict=True):
        share[:] = shrink(mask.view(np.uint8) * np.uint8(255), size_hw)
        share /= np.maximum(cv2.dilate(share, np.ones((3, 3), np.uint8)), 255 * MIN_COVER)
    return shares


@dataclass(frozen=True)
class Scales:
    """A frame, and the same made small, without prompts."""

    small: NDArray[np.uint8]
    """uint8 (h, w, 3) RGB."""
    full: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""

    def detailed(self, crop: NDArray[np.uint8], box: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Give a crop of the prompted small frame the detail of the frame, where no prompt is.

        Args:
            crop: uint8 (r, c, 3) RGB: the prompted small frame in the box.
            box: its rows and columns.

        Returns:
            uint8 (R, C, 3) RGB; the crop itself where the frame is not larger.
        """
        if self.small.shape == self.full.shape:
            return crop
        changed = (crop != self.small[box]).any(axis=2).astype(np.uint8)
        changed = cv2.dilate(changed, np.ones((3, 3), np.uint8))  # what enlarging reaches
        rows, columns = (
            slice(round(part.start * full / small), round((part.start + count) * full / small))
            for part, count, full, small in zip(
                box, crop.shape, self.full.shape, self.small.shape, strict=False
            )
        )
        detail = self.full[rows, columns]
        size = detail.shape[1::-1]
        large = cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR)
        drawn = cv2.resize(changed, size, interpolation=cv2.INTER_NEAREST) > 0
        return np.where(drawn[..., None], np.asarray(large, np.uint8), detail)


def cut_masks(maps: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the masks of maps in a frame: where they are above 0.5, at the frame's size.

    Args:
        maps: float32 (N, h, w) in [0, 1]; not larger than the frame.
        image: uint8 (H, W, 3) RGB, or (H, W) grey.

    Returns:
        bool (N, H, W).
    """
    if maps.shape[1:] == image.shape[:2]:
        return maps > 0.5
    masks = np.zeros((len(maps), *image.shape[:2]), bool)
    there = np.flatnonzero((maps > 0.5).any(axis=(1, 2)))
    if len(there):
        gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        _Guide(np.asarray(gray, np.uint8), maps.shape[1:]).fill(maps, masks, there)
    return masks


class _Guide:
    """A grey frame, uint8 (H, W), and the same made small, float32 (h, w) in [0, 1]."""

    def __init__(self, gray: NDArray[np.uint8], size_hw: tuple[int, ...]) -> None:
        size = size_hw[::-1]
        self._gray = gray
        self._small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA) / np.float32(255)
        square = cv2.multiply(gray, gray, dtype=cv2.CV_16U)
        squares = cv2.resize(square, size, interpolation=cv2.INTER_AREA) / np.float32(255**2)
        self._mean = _mean(self._small)
        # Of the frame itself: detail that the small frame lacks makes for less slope, not for more.
        variance = np.maximum(_mean(squares) - self._mean * self._mean, 0)
        self._variance = variance + np.float32(EPSILON)

    def fill(
        self, maps: NDArray[np.float32], masks: NDArray[np.bool_], which: NDArray[np.int64]
    ) -> None:
        """Fill the masks, bool (N, H, W), of some of the maps, float32 (N, h, w)."""
        fits = [self._fit(maps[k]) for k in which]
        for top in range(0, len(self._gray), ROWS):
            gray = self._gray[top : top + ROWS]
            lacking = gray / np.float32(255) - enlarged_rows(self._small, self._gray.shape, top)
            for k, fit in zip(which, fits, strict=True):
                snapped, slope, near = (
                    enlarged_rows(plane, self._gray.shape, top) for plane in fit
                )
                chance = enlarged_rows(maps[k], self._gray.shape, top)
                guided = np.where(near > MIN_VARIATION, snapped + slope * lacking, chance)
                masks[k, top : top + ROWS] = guided > 0.5

    def _fit(self, chance: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """How a map, float32 (h, w), follows the small frame: itself, snapped to the edges as far
        as it does; its slope over the grey; and how much it varies from pixel to pixel."""
        square = np.ones((3, 3), np.uint8)
        near = cv2.dilate(chance, square) - cv2.erode(chance, square)
        slope = chance
        for _ in range(PASSES):
            mean = _mean(chance)
            together = _mean(self._small * chance) - self._mean * mean
            slope = np.asarray(together / self._variance, np.float32)
            spread = np.maximum(_mean(chance * chance) - mean * mean, FLAT_VARIANCE)
            share = _mean(np.minimum(slope * together / spread, 1))
            filtered = _mean(slope) * self._small + _mean(mean - slope * self._mean)
            chance = np.clip(chance + share * (filtered - chance), 0, 1)
        return chance, _mean(slope), near


def _mean(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    size = (2 * RADIUS + 1, 2 * RADIUS + 1)
    return np.asarray(cv2.blur(plane, size, borderType=cv2.BORDER_REFLECT), np.float32)
