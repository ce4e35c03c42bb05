"""Binary masks: how far they overlap and where they lie. Every room measures with these."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

SAME_IOU = 0.5
"""Masks that overlap by more (IoU) are taken for the same thing."""


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks, bool (H, W); 0 if both are empty."""
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 0.0


def ious(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float32]:
    """IoU of each two masks, bool (C, H, W) and (M, H, W): float32 (C, M); 0 of empty ones."""
    one, other = _bits(a), _bits(b)
    both = np.empty((len(one), len(other)), np.int64)
    for row, bits in zip(both, one, strict=True):
        row[:] = np.bitwise_count(bits & other).sum(axis=1, dtype=np.int64)
    areas = [np.bitwise_count(bits).sum(axis=1, dtype=np.int64) for bits in (one, other)]
    either = areas[0][:, None] + areas[1] - both
    return np.asarray(both / np.maximum(1, either), np.float32)


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a mask, bool (H, W), that is not empty; pixels, right and
    bottom exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_around(
    mask: NDArray[np.bool_], *, share: float = 0.0, margin: int = 0
) -> tuple[slice, slice]:
    """Return rows and columns of a mask's bounding box and what is next to it.

    Args:
        mask: bool (h, w).
        share: how much of its height and width is added on each side.
        margin: how many pixels are.
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    across, down = int(share * width) + margin, int(share * height) + margin
    return (slice(max(0, top - down), top + height + down),
            slice(max(0, left - across), left + width + across))  # fmt: skip


def _bits(masks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Masks, bool (n, H, W), 64 pixels to a number: uint64 (n, P)."""
    packed = np.packbits(masks.reshape(len(masks), math.prod(masks.shape[1:])), axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)
