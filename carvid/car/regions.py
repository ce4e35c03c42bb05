"""The region around a click: what has the colours of its surroundings, in several sizes.

GrabCut (Rother et al., SIGGRAPH 2004), from discs around the point that stand for what the region
may be, or from a box. Nobody knows how large the thing is; so several are made, and who asks
chooses.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import shrink

LONGER_SIDE = 427
"""Regions are made at most so large, pixels, half of 480p's; their edges are enlarged."""
RADII = (0.03, 0.06, 0.12, 0.2)
"""Radii of the discs that may be in the region, of the square root of the picture's area ..."""
SURE_SHARE = 0.25
"""... the share of such a radius that surely is ..."""
AROUND = 2.2
"""... and how much further than it the region may reach."""
ROUNDS = 3
"""Of GrabCut."""
COMPONENTS = 65
"""Numbers of a model of colours in OpenCV's GrabCut."""


def regions_at(
    image: NDArray[np.uint8], point: tuple[float, float], excluded: NDArray[np.bool_] | None = None
) -> list[NDArray[np.bool_]]:
    """Return regions around a point, from small to large.

    Args:
        image: uint8 (H, W, 3) RGB.
        point: x and y, pixels.
        excluded: bool (H, W): what is in none of them; None excludes nothing.

    Returns:
        bool (H, W) each, with the point in it; equal ones once.
    """
    small = _small(image)
    height, width = small.shape[:2]
    x, y = _scaled(point, image, small)
    out = None if excluded is None else shrink(excluded.view(np.uint8), (height, width)) > 0
    found: list[NDArray[np.bool_]] = []
    for radius in (share * (height * width) ** 0.5 for share in RADII):
        trimap = np.full((height, width), cv2.GC_BGD, np.uint8)
        cv2.circle(trimap, (x, y), int(AROUND * radius), cv2.GC_PR_BGD, -1)
        cv2.circle(trimap, (x, y), int(radius), cv2.GC_PR_FGD, -1)
        cv2.circle(trimap, (x, y), max(1, int(SURE_SHARE * radius)), cv2.GC_FGD, -1)
        if out is not None:
            trimap[out] = cv2.GC_BGD
        trimap[y, x] = cv2.GC_FGD
        region = _connected(_grown(small, trimap), (x, y))
        if not any((region == other).all() for other in found):
            found.append(region)
    masks = [_enlarged(region, image) for region in found]
    for mask in masks:
        mask[int(point[1]), int(point[0])] = True
    return masks


def region_in(
    image: NDArray[np.uint8], box: tuple[float, float, float, float]
) -> NDArray[np.bool_]:
    """Return what a box, left, top, right and bottom in pixels, holds: bool (H, W), not empty.

    Args:
        image: uint8 (H, W, 3) RGB.
        box: as said.
    """
    small = _small(image)
    left, top = _scaled(box[:2], image, small)
    right, bottom = _scaled(box[2:], image, small)
    trimap = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    inside = (slice(top, bottom + 1), slice(left, right + 1))
    trimap[inside] = cv2.GC_PR_FGD
    region = _grown(small, trimap)
    if not region.any():
        region[inside] = True
    return _enlarged(region, image)


def _grown(image: NDArray[np.uint8], trimap: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What GrabCut takes for the foreground, bool (h, w)."""
    has = [bool((trimap % 2 == side).any()) for side in (0, 1)]  # odd: foreground
    if all(has):
        cv2.setRNGSeed(0)
        cv2.grabCut(
            image, trimap, None, np.zeros((1, COMPONENTS)), np.zeros((1, COMPONENTS)), ROUNDS,
            cv2.GC_INIT_WITH_MASK,
        )  # type: ignore[call-overload]  # fmt: skip
    return np.asarray(trimap % 2 == 1, bool)


def _connected(mask: NDArray[np.bool_], point: tuple[int, int]) -> NDArray[np.bool_]:
    """The part of a mask that a point is in."""
    _, parts = cv2.connectedComponents(mask.view(np.uint8))
    return np.asarray(mask & (parts == parts[point[1], point[0]]), bool)


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = min(1.0, LONGER_SIDE / max(height, width))
    return shrink(image, (max(1, round(scale * height)), max(1, round(scale * width))))


def _scaled(
    point: tuple[float, ...], image: NDArray[np.uint8], small: NDArray[np.uint8]
) -> tuple[int, int]:
    """A point, x and y, in the small image."""
    x, y = (
        min(int(value * few / many), few - 1)
        for value, few, many in zip(point, small.shape[1::-1], image.shape[1::-1], strict=True)
    )
    return x, y


def _enlarged(region: NDArray[np.bool_], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """A region at the image's size."""
    size = (image.shape[1], image.shape[0])
    soft = cv2.resize(region.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft > 0.5, bool)
