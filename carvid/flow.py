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
    back = np.asarray(dis.calc(now, before, None), np.float32)  # type: ignore[call-overload]
    forth = np.asarray(dis.calc(before, now, None), np.float32)  # type: ignore[call-overload]
    source = _grid(now.shape[0], now.shape[1]) + back
    returned = cv2.remap(forth, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    error = np.square(back + returned).sum(axis=2)
    motion = np.square(back).sum(axis=2) + np.square(returned).sum(axis=2)
    trust = 1 / (1 + np.square(error / (RELATIVE_ERROR * motion + ABSOLUTE_ERROR)))
    last = np.array([now.shape[1] - 1, now.shape[0] - 1], np.float32)
    outside = ((source < -0.5) | (source > last + 0.5)).any(axis=2)
    return Flow(source, np.where(outside, 0, trust).astype(np.float32), forth)


def carry(maps: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """Return maps of the frame before, float32 (N, h, w), as they lie in this one."""
    return _pulled(maps, flow.source_xy)


def carry_back(maps: NDArray[np.float32], onward: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps of a frame, float32 (N, h, w), as they lie in the one before (`Flow.onward`)."""
    return _pulled(maps, _grid(maps.shape[1], maps.shape[2]) + onward)


def _pulled(maps: NDArray[np.float32], source_xy: NDArray[np.float32]) -> NDArray[np.float32]:
    carried = [
        cv2.remap(plane, source_xy, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)  # type: ignore[call-overload]
        for plane in maps
    ]
    return np.asarray(carried, np.float32).reshape(maps.shape)


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


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """float32 (h, w, 2): every pixel's own x and y."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([x, y], axis=2)
