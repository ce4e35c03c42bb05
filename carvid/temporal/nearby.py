"""What nearby frames know of a thing that a frame lacks: their masks, carried into it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import iou
from carvid.config import TemporalConfig
from carvid.temporal.flow import PixelMap
from carvid.temporal.seen import SeenFrame
from carvid.temporal.spread import LOST_SHARE, REFUTED_IOU
from carvid.temporal.spread_carrier import Thing

Outward = Sequence[tuple[SeenFrame, NDArray[np.bool_]]]
"""Frames of one shot, each further from the first one, with the run's own masks, bool (h, w)."""
REACH = 2
"""A point goes as the median of the pixels so near to it."""

Point = tuple[float, float]
"""x and y, pixels of the flow's size."""


def pointed_at(
    point: Point, frames: Outward, config: TemporalConfig, *, forward: bool
) -> NDArray[np.bool_] | None:
    """Return the mask that a point leads to: the run's own of the first frame where the point,
    which moves along, lies in one, carried into the frame of the point.

    Args:
        point: in the first frame.
        frames: from that one outward.
        config: settings.
        forward: whether they go to later ones.

    Returns:
        bool (h, w); None if the point meets no mask, or the mask is not carried back to it.
    """
    at = point
    for place in range(1, len(frames)):
        (near, _), (far, found) = frames[place - 1 : place + 1]
        flow = far.flow if forward else near.flow
        if flow is None:
            return None
        at = _follow(at, flow.forward_map if forward else flow.backward_map)
        if not _is_in(at, np.ones_like(found)):
            return None
        if _is_in(at, found):
            mask = _carry_home(frames[: place + 1], config, forward=forward)
            return mask if mask is not None and _is_in(point, mask) else None
    return None


def instead_of(
    refuted: NDArray[np.bool_], frames: Outward, config: TemporalConfig, *, forward: bool
) -> NDArray[np.bool_] | None:
    """Return what the run has instead of a refuted mask: its own mask of the first frame where it
    has another thing, carried into the first frame.

    Args:
        refuted: bool (h, w): in the first frame.
        frames: from that one outward.
        config: settings.
        forward: whether they go to later ones.

    Returns:
        bool (h, w); None if the run has nothing else, or nothing of it is carried back.
    """
    thing = Thing(refuted, frames[0][0], config)
    for place in range(1, len(frames)):
        (near, _), (far, found) = frames[place - 1 : place + 1]
        if (far.flow if forward else near.flow) is None:
            return None
        thing.go(near, far, forward=forward)
        if iou(thing.mask, found) > REFUTED_IOU:
            thing.take(found)
        elif found.any():
            return _carry_home(frames[: place + 1], config, forward=forward)
    return None


def _carry_home(
    frames: Outward, config: TemporalConfig, *, forward: bool
) -> NDArray[np.bool_] | None:
    """The mask of the last of the frames, carried into the first one; None if it is lost on the
    way."""
    thing = Thing(frames[-1][1], frames[-1][0], config)
    for place in range(len(frames) - 1, 0, -1):
        thing.go(frames[place][0], frames[place - 1][0], forward=not forward)
    kept = np.count_nonzero(thing.mask) >= LOST_SHARE * np.count_nonzero(frames[-1][1])
    return thing.mask if kept else None


def _follow(point: Point, pixel_map: PixelMap) -> Point:
    """Where a point goes by a map of its frame's pixels."""
    height, width = pixel_map.places.shape[:2]
    x, y = (int(np.clip(round(v), 0, n - 1)) for v, n in zip(point, (width, height), strict=True))
    box = (slice(max(0, y - REACH), min(height, y + REACH + 1)),
           slice(max(0, x - REACH), min(width, x + REACH + 1)))  # fmt: skip
    rows, columns = np.mgrid[box]
    moved = np.asarray(pixel_map.of_box(box)[0], np.float64) - np.stack([columns, rows], axis=-1)
    across, down = np.median(moved.reshape(-1, 2), axis=0)
    return point[0] + float(across), point[1] + float(down)


def _is_in(point: Point, mask: NDArray[np.bool_]) -> bool:
    x, y = round(point[0]), round(point[1])
    return 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0] and bool(mask[y, x])
