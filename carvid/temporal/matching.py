"""Which thing that is found in a key frame is which of those that are followed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from carvid.temporal.colors import LEVELS

NONE = -1
"""In place of an index: nothing."""
MIN_IOU = 0.1
"""What is found and what is followed are one thing only where their masks overlap by more (IoU),
..."""
MIN_NEAR = 0.5
"""... or where it is nearer than this to where it should be."""
COVERED = 0.5
"""A followed mask lies in a found one where more than this share of it does."""
COARSE = 8
"""Steps of each of red, green and blue in which colours are compared."""
MIN_ALIKE = 0.5
"""Something hidden is found again only where colours are more alike than this, in [0, 1]."""
SURELY_ALIKE = 0.85
"""... and after a cut, than this."""
REACH, REACH_PER_S = 1.5, 3.0
"""A hidden thing may be so far from its place, in units of the root of its area: at once, and for
each second that it was hidden."""
NEAR_PIXELS = 4.0
"""Over so many pixels from where a thing is carried to, its claim to a pixel falls to a third."""
COLOR_POWER = 0.5
"""Weight of colours in a division."""
SHARE_FLOOR = 1e-3
"""Added to each colour's share: one that was never seen is no certain evidence."""


def match_seen(
    found: NDArray[np.bool_],
    followed: NDArray[np.bool_],
    alike: NDArray[np.float32],
    near: NDArray[np.float32] | None = None,
    *,
    color: float,
    motion: float = 0.0,
) -> NDArray[np.int64]:
    """Return which of D found things each of K followed ones is, int64 (K,), or `NONE`.

    The sum of IoU + color · alike + motion · near is the highest there is, over pairs with an IoU
    above `MIN_IOU`, or nearer than `MIN_NEAR`. Of followed things that are left over, those
    that a found one covers are in it, too: things that cross are found as one.

    Args:
        found: bool (D, h, w).
        followed: bool (K, h, w).
        alike: float32 (D, K) in [0, 1]: how alike the colours are.
        near: float32 (D, K) in [0, 1]: how near a found one is to where a followed one should be by
            its motion (`nearness`); None leaves that away.
        color: weight of `alike`.
        motion: weight of `near`.
    """
    chosen = np.full(len(followed), NONE)
    if not len(found) or not len(followed):
        return chosen
    both, areas, known = _overlaps(found, followed)
    iou = both / np.maximum(1, areas[:, None] + known - both)
    near = np.zeros(iou.shape, np.float32) if near is None else near
    one = (iou > MIN_IOU) | (near > MIN_NEAR)
    value = np.where(one, iou + color * alike + motion * near, 0)
    for row, column in zip(*linear_sum_assignment(value, maximize=True), strict=True):
        if value[row, column] > 0:
            chosen[column] = row
    cover = both / np.maximum(1, known)
    for column in np.flatnonzero(chosen == NONE):
        if cover[:, column].max() > COVERED:
            chosen[column] = cover[:, column].argmax()
    return chosen


def nearness(
    centers_xy: NDArray[np.float64], places_xy: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return how near found things are to where others should be: exp(-(distance / size)²),
    float32 (D, K).

    Args:
        centers_xy: float64 (D, 2), pixels.
        places_xy: float64 (K, 2), pixels.
        sizes: float64 (K,): roots of areas, pixels.
    """
    away = np.linalg.norm(centers_xy[:, None] - places_xy, axis=2)
    return np.asarray(np.exp(-np.square(away / np.maximum(1, sizes))), np.float32)


def match_hidden(
    centers_xy: NDArray[np.float64],
    places_xy: NDArray[np.float64],
    sizes: NDArray[np.float64],
    hidden_s: NDArray[np.float64],
    alike: NDArray[np.float32],
    *,
    strict: bool = False,
) -> NDArray[np.int64]:
    """Return which of D found things each of K hidden ones is, int64 (K,), or `NONE`: by colours,
    and by how far it is from where it should be.

    Args:
        centers_xy: float64 (D, 2): where the found ones are, pixels.
        places_xy: float64 (K, 2): where the hidden ones should be.
        sizes: float64 (K,): roots of their areas, pixels.
        hidden_s: float64 (K,): seconds for which they have been hidden.
        alike: float32 (D, K) in [0, 1]: how alike the colours are.
        strict: only what is half as far and in nearly the same colours.
    """
    chosen = np.full(len(places_xy), NONE)
    if not len(centers_xy) or not len(places_xy):
        return chosen
    away = np.linalg.norm(centers_xy[:, None] - places_xy, axis=2)
    far = away / np.maximum(1, sizes * (REACH + REACH_PER_S * hidden_s))
    most, least = (0.5, SURELY_ALIKE) if strict else (1.0, MIN_ALIKE)
    value = np.where((far < most) & (alike > least), alike + 1 - far, 0)
    for row, column in zip(*linear_sum_assignment(value, maximize=True), strict=True):
        if value[row, column] > 0:
            chosen[column] = row
    return chosen


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how alike colours are, float32 (D, K) in [0, 1]: Bhattacharyya's coefficient of
    counts of colours, float32 (D, C) and (K, C), in coarse steps."""
    a, b = (np.sqrt(_coarse(counts)) for counts in (one, other))
    return np.asarray(a @ b.T, np.float32)


def _coarse(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shares of coarse colours, float32 (n, c), of counts, float32 (n, C)."""
    step = LEVELS // COARSE
    parts = counts.reshape(len(counts), COARSE, step, COARSE, step, COARSE, step)
    sums = parts.sum(axis=(2, 4, 6)).reshape(len(counts), COARSE**3)
    return np.asarray(sums / np.maximum(1, sums.sum(axis=1, keepdims=True)), np.float32)


def _overlaps(
    found: NDArray[np.bool_], followed: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pixels that each two have in common, (D, K), and those of each, (D,) and (K,)."""
    a, b = (each.reshape(len(each), -1).astype(np.float32) for each in (found, followed))
    return (
        np.asarray(a @ b.T, np.float64),
        np.asarray(a.sum(axis=1), np.float64),
        np.asarray(b.sum(axis=1), np.float64),
    )


def divide(
    masks: NDArray[np.bool_], counts: NDArray[np.float32], colors: NDArray[np.uint16]
) -> NDArray[np.float32]:
    """Divide a place among things that are found there as one: float32 (n, h, w) in [0, 1], the
    share of each pixel that each of them has, by how far it is from where the thing is carried to,
    and by its colours.

    Args:
        masks: bool (n, h, w): where they are carried to; one may be empty, and gets nothing.
        counts: float32 (n, C): their colours so far.
        colors: uint16 (h, w): the frame's.
    """
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True)) + np.float32(SHARE_FLOOR)
    weights = np.zeros(masks.shape, np.float32)
    for weight, mask, share in zip(weights, masks, shares, strict=True):
        if mask.any():
            outside = (~mask).astype(np.uint8)
            away = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            weight[:] = np.exp(-away / NEAR_PIXELS) * share[colors] ** COLOR_POWER
    return np.asarray(weights / np.maximum(weights.sum(axis=0), np.float32(1e-12)), np.float32)
