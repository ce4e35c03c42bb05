"""Masks of a key frame, carried backward in time into the frames before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_around
from carvid.config import TemporalConfig
from carvid.temporal.carry import (
    MASK_LEVEL,
    around,
    carry,
    correct_carried,
    from_levels,
    to_levels,
)
from carvid.temporal.pending import PendingFrame


def carry_back(
    frames: Sequence[PendingFrame],
    key: PendingFrame,
    maps: NDArray[np.float32],
    colors: NDArray[np.float32],
    known: NDArray[np.bool_],
    config: TemporalConfig,
) -> list[NDArray[np.uint8]]:
    """Carry a key frame's maps into the frames before it.

    Args:
        frames: the frames, in order; the key frame follows the last one.
        key: the key frame.
        maps: float32 (N, h, w) in [0, 1], of the key frame.
        colors: float32 (N, 2, C): the colours inside each mask so far and around it; zeros where
            there is no mask.
        known: bool (N,): which things were there before `frames`. Of the others only what the flow
            surely finds in a frame goes on to the one before, and nothing if that is little: they
            have come into the picture there.
        config: settings.

    Returns:
        uint8 (N, h, w) for each of `frames`, in steps of 1/255.
    """
    carried: list[NDArray[np.uint8]] = []
    levels, later = to_levels(maps), key
    with_colors = np.any(colors, axis=(1, 2)).tolist()
    for frame in reversed(frames):
        assert later.trust is not None
        earlier = np.zeros_like(levels)
        for query, plane in enumerate(levels):
            found = plane if known[query] else _found_before(plane, later.trust, config)
            counts = colors[query] if with_colors[query] else None
            _carry_one(found, earlier[query], later, frame, counts, config)
        carried.insert(0, earlier)
        levels, later = earlier, frame
    return carried


def _carry_one(
    levels: NDArray[np.uint8],
    earlier: NDArray[np.uint8],
    later: PendingFrame,
    frame: PendingFrame,
    counts: NDArray[np.float32] | None,
    config: TemporalConfig,
) -> None:
    """Carry a map of a frame into the one before it.

    Args:
        levels: uint8 (h, w), in steps of 1/255.
        earlier: uint8 (h, w), zeros: is filled.
        later: the frame.
        frame: the one before it.
        counts: float32 (2, C): the thing's colours, to correct the map by; None if unknown.
        config: settings.
    """
    assert later.forward_map is not None and later.trust is not None
    assert frame.state.gray is not None
    box = around(later.forward_map.leading_into(levels), config)
    carried, trust = carry([levels, later.trust], later.forward_map, box)
    if frame.colors is not None and counts is not None:
        carried = correct_carried(
            carried, from_levels(trust), frame.state.gray[box], frame.colors[box], counts, config
        )
    earlier[box] = carried


def _found_before(
    levels: NDArray[np.uint8], trust: NDArray[np.uint8], config: TemporalConfig
) -> NDArray[np.uint8]:
    """The part of a map that was in the frame before, too, by the trust in the flow: uint8 (h, w)
    each, in steps of 1/255; zeros if the whole mask is not trusted."""
    found = np.zeros_like(levels)
    box = box_around(levels > 0)
    inside = trust[box][levels[box] > MASK_LEVEL]
    if len(inside) and inside.mean() >= 255 * config.min_trust:
        found[box] = np.where(trust[box] > MASK_LEVEL, levels[box], np.uint8(0))
    return found
