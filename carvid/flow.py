"""Dense optical flow: where each pixel was one frame earlier, and how far that can be trusted.

OpenCV's DIS flow (Kroeger et al., ECCV 2016) in both directions. A pixel is trusted when going back
and forth leads home: the forward-backward check of Sundaram et al., ECCV 2010, made smooth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

RELATIVE_ERROR, ABSOLUTE_ERROR = 0.01, 0.5
"""A squared round trip error of `0.01 (|u|² + |v|²) + 0.5` pixels² halves the trust (Sundaram)."""

MIN_PIXELS, MIN_SPEED = 30, 0.7
"""Fewer trusted pixels, or fewer pixels a frame against the camera, tell nothing of motion."""
ALIKE = 0.5
"""Share of a mask's speed against the camera by which motion may differ from its own."""
FIT_SCALE = 0.5
"""Error, pixels, at which a vector's weight in the fit is halved."""
LARGEST_CHANGE = 3.0
"""A mask does not grow or shrink by more than this factor."""


@dataclass(frozen=True)
class Flow:
    """From a frame back to the one before it."""

    source_xy: NDArray[np.float32]
    """float32 (h, w, 2): where a pixel was, x and y."""
    trust: NDArray[np.float32]
    """float32 (h, w) in [0, 1]; 0 where it came from outside the picture."""
    onward: NDArray[np.float32]
    """float32 (h, w, 2): by how much the pixels of the frame before have moved, x and y."""

    @property
    def motion(self) -> NDArray[np.float32]:
        """float32 (h, w, 2): by how many pixels it has moved since, x and y."""
        return _grid(*self.trust.shape) - self.source_xy


def to_gray(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3) RGB as grey, uint8 (h, w), its longer side at most `max_side`."""
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = gray if scale == 1 else cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def flow_between(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> Flow:
    """Compute the flow from `now` back to `before`, uint8 (h, w) each, of one size."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setFinestScale(1)  # without refinement: it blurs the edges of what moves
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # what DIS finds depends on their number
    try:
        back = np.asarray(dis.calc(now, before, None), np.float32)  # type: ignore[call-overload]
        forth = np.asarray(dis.calc(before, now, None), np.float32)  # type: ignore[call-overload]
    finally:
        cv2.setNumThreads(threads)
    source = _grid(now.shape[0], now.shape[1]) + back
    returned = cv2.remap(forth, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    error = _squared_lengths(back + returned)
    motion = _squared_lengths(back) + _squared_lengths(returned)
    trust = 1 / (1 + np.square(error / (RELATIVE_ERROR * motion + ABSOLUTE_ERROR)))
    x, y = source[..., 0], source[..., 1]
    outside = (x < -0.5) | (x > now.shape[1] - 0.5) | (y < -0.5) | (y > now.shape[0] - 0.5)
    return Flow(source, np.where(outside, 0, trust).astype(np.float32), forth)


def carry(maps: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """Return maps of the frame before, float32 (N, h, w), as they lie in this one."""
    return _pulled(maps, flow.source_xy)


def carry_back(maps: NDArray[np.float32], onward: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps of a frame, float32 (N, h, w), as they lie in the one before (`Flow.onward`)."""
    return _pulled(maps, _grid(maps.shape[1], maps.shape[2]) + onward)


def _pulled(maps: NDArray[np.float32], source_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    carried = np.empty(maps.shape, np.float32)
    for plane, result in zip(maps, carried, strict=True):
        cv2.remap(  # type: ignore[call-overload]
            plane, source_xy, None, cv2.INTER_LINEAR, dst=result, borderMode=cv2.BORDER_CONSTANT
        )
    return carried


def snap_to_edges(
    maps: NDArray[np.float32], gray: NDArray[np.uint8], radius: int, epsilon: float
) -> NDArray[np.float32]:
    """Filter maps, float32 (N, h, w) in [0, 1], guided by a grey frame (He et al., ECCV 2010).

    Args:
        maps: what is filtered.
        gray: uint8 (h, w): the guide.
        radius: of the square window, pixels.
        epsilon: variance of the guide, in [0, 1]², under which a window counts as flat.
    """
    guide = gray.astype(np.float32) / 255
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(plane: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(plane, size, borderType=cv2.BORDER_REFLECT), np.float32)

    mean_guide = mean(guide)
    variance = mean(guide * guide) - mean_guide * mean_guide + epsilon
    filtered = np.empty_like(maps)
    for plane, result in zip(maps, filtered, strict=True):
        mean_plane = mean(plane)
        slope = (mean(guide * plane) - mean_guide * mean_plane) / variance
        result[:] = mean(slope) * guide + mean(mean_plane - slope * mean_guide)
    return np.clip(filtered, 0, 1, out=filtered)


def moving_along(mask: NDArray[np.bool_], flow: Flow) -> NDArray[np.bool_]:
    """Return what moves as a mask does, bool (h, w), as far as motion can tell.

    An affine motion is fitted to the mask, and the camera's taken from what lies outside. Connected
    pixels that fit the first better join the mask, those that fit the second leave it. A mask that
    hardly moves, and one that would change beyond recognition, stay as they are.

    Args:
        mask: bool (h, w), of `flow`'s size.
        flow: from the frame before into this one.
    """
    motion, sure = flow.motion, flow.trust > 0.5
    inside, outside = mask & sure, sure & ~mask
    if np.count_nonzero(inside) < MIN_PIXELS or not outside.any():
        return mask
    camera = np.median(motion[outside], axis=0)
    own = _affine_motion(motion, inside)
    relative = _lengths(own - camera)
    speed = float(np.median(relative[inside]))
    if speed < MIN_SPEED:
        return mask
    error, rest = _lengths(motion - own), _lengths(motion - camera)
    tolerance = ALIKE * np.maximum(relative, speed / 2)
    joins = sure & (error < np.minimum(tolerance, rest)) & _surroundings(mask)
    joins = cv2.morphologyEx(joins.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    stays = mask & ~(sure & (rest < np.minimum(tolerance, error)))
    _, parts = cv2.connectedComponents((joins | stays).astype(np.uint8))
    result = np.isin(parts, np.unique(parts[stays & joins])) & (joins | stays)
    area, changed = np.count_nonzero(mask), np.count_nonzero(result)
    return result if area / LARGEST_CHANGE < changed < area * LARGEST_CHANGE else mask


def _affine_motion(motion: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The affine motion, float32 (h, w, 2), that fits best inside a mask (robust least squares)."""
    height, width = inside.shape
    design = np.ones((height, width, 3), np.float32)
    design[..., :2] = _grid(height, width) / width
    points, target = design[inside], motion[inside]
    weights = np.ones((len(points), 1), np.float32)
    for _ in range(3):
        solution = np.linalg.lstsq(points * weights, target * weights, rcond=None)[0]
        error = _lengths(target - points @ solution)
        weights = (1 / (1 + np.square(error / FIT_SCALE)))[:, None]
    return np.asarray(design @ solution, np.float32)


def _surroundings(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask's bounding box, and half of it on each side."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    near = np.zeros_like(mask)
    rows = slice(max(0, y - height // 2), y + height + height // 2)
    near[rows, max(0, x - width // 2) : x + width + width // 2] = True
    return near


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean lengths of (..., 2)."""
    return np.asarray(np.sqrt(_squared_lengths(vectors)), np.float32)


def _squared_lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of (..., 2), plane by plane: NumPy's sum over an axis of 2 takes ten times as long."""
    return np.square(vectors[..., 0]) + np.square(vectors[..., 1])


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """float32 (h, w, 2): every pixel's own x and y."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([x, y], axis=2)
