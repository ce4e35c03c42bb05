"""What moves as a mask does: affine motion of a thing, against that of the camera."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_around
from carvid.temporal.flow import Flow

MIN_PIXELS = 30
"""From fewer trusted pixels in a mask no motion is fitted."""
MIN_SPEED = 0.7
"""A mask that moves less against the camera, pixels a frame (median), stays as it is."""
TRUSTED = 0.5
"""A pixel's flow is used where its trust is above this."""
MOTION_TOLERANCE = 0.5
"""Share of a mask's speed against the camera by which a pixel's motion may differ from its own."""
FIT_PIXELS = 2000
"""A motion is fitted to about so many pixels, however many a mask has ..."""
CAMERA_STEP = 4
"""... and the camera's to every n-th pixel in each direction."""
FIT_ROUNDS = 3
"""Rounds of robust least squares."""
FIT_SCALE = 0.5
"""Error, pixels, at which a vector's weight in the fit is halved."""
MAX_AREA_CHANGE = 3.0
"""A mask that would grow or shrink by more than this factor stays as it is."""

MotionXY = Sequence[NDArray[np.float32]] | NDArray[np.float32]
"""Motion along x and along y, pixels a frame: float32 (h, w) each, or one number for all pixels."""


def moving_along(mask: NDArray[np.bool_], flow: Flow) -> NDArray[np.bool_]:
    """Return what moves as a mask does, bool (h, w).

    An affine motion is fitted to the mask, and the camera's motion is the median of what lies
    outside. Connected pixels that the first explains better join the mask; those that the camera
    explains better leave it.

    Args:
        mask: bool (h, w), of `flow`'s size.
        flow: from the frame before into this one.

    Returns:
        bool (h, w); the mask itself where it hardly moves or has too few trusted pixels, and where
        it would change by more than `MAX_AREA_CHANGE`.
    """
    box = box_around(mask, share=0.5)
    near, trusted = mask[box], flow.trust[box] > TRUSTED
    motion = [np.asarray(plane, np.float32) for plane in cv2.split(flow.motion[box])]
    inside = near & trusted
    thin = (slice(None, None, CAMERA_STEP),) * 2
    outside = ~mask[thin] & (flow.trust[thin] > TRUSTED)
    if np.count_nonzero(inside) < MIN_PIXELS or not outside.any():
        return mask
    camera = np.median(flow.motion[thin][outside], axis=0)
    own = _affine_motion(motion, inside)
    relative = _distance(own, camera)
    speed = float(np.median(relative[inside]))
    if speed < MIN_SPEED:
        return mask
    own_error, camera_error = _distance(motion, own), _distance(motion, camera)
    tolerance = MOTION_TOLERANCE * np.maximum(relative, speed / 2)
    moved = _connected(
        near,
        joins=trusted & (own_error < np.minimum(tolerance, camera_error)),
        leaves=trusted & (camera_error < np.minimum(tolerance, own_error)),
    )
    area, new_area = np.count_nonzero(near), np.count_nonzero(moved)
    if not area / MAX_AREA_CHANGE < new_area < area * MAX_AREA_CHANGE:
        return mask
    result = np.zeros_like(mask)
    result[box] = moved
    return result


def _connected(
    mask: NDArray[np.bool_], *, joins: NDArray[np.bool_], leaves: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """A mask with the pixels that join it and without those that leave it, bool (h, w) each: the
    connected parts that have something of both the mask and what joins. Specks do not join."""
    opened = cv2.morphologyEx(joins.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    stays = mask & ~leaves
    _, parts = cv2.connectedComponents((opened | stays).astype(np.uint8))
    return np.isin(parts, np.unique(parts[stays & opened])) & (opened | stays)


def _affine_motion(motion: MotionXY, inside: NDArray[np.bool_]) -> MotionXY:
    """The affine motion, float32 (h, w) along x and along y, that fits best inside a mask (robust
    least squares)."""
    height, width = inside.shape
    columns, rows = np.arange(width) / width, np.arange(height) / width
    y, x = (axis[:: max(1, len(axis) // FIT_PIXELS)] for axis in np.nonzero(inside))
    points = np.stack([columns[x], rows[y], np.ones(len(x))], axis=1)
    target = np.stack([plane[y, x] for plane in motion], axis=1)
    weights = np.ones((len(points), 1))
    for _ in range(FIT_ROUNDS):
        solution = np.linalg.lstsq(points * weights, target * weights, rcond=None)[0]
        error = np.hypot(*(target - points @ solution).T)
        weights = (1 / (1 + np.square(error / FIT_SCALE)))[:, None]
    return [
        np.add.outer(along_y * rows + constant, along_x * columns).astype(np.float32)
        for along_x, along_y, constant in solution.T
    ]


def _distance(a: MotionXY, b: MotionXY) -> NDArray[np.float32]:
    """How far two motions are apart, float32 (h, w), pixels a frame."""
    return np.asarray(np.sqrt(np.square(a[0] - b[0]) + np.square(a[1] - b[1])), np.float32)
