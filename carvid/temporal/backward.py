"""Masks of a key frame, carried backward in time into the frames before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carvid.config import TemporalConfig
from carvid.temporal.carry import MASK_LEVEL, carry, correct_carried, from_levels, to_levels
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
    with_colors = np.flatnonzero(colors.any(axis=(1, 2)))
    for frame in reversed(frames):
        assert frame.state.gray is not None
        assert later.forward_map is not None and later.trust is not None
        for query in np.flatnonzero(~known):
            levels[query] = _found_before(levels[query], later.trust, config)
        planes = carry(np.concatenate([levels, later.trust[None]]), later.forward_map)
        levels, trust = planes[:-1], from_levels(planes[-1])
        if frame.colors is not None:
            for query in with_colors:
                levels[query] = correct_carried(
                    levels[query], trust, frame.state.gray, frame.colors, colors[query], config
                )
        carried.insert(0, levels)
        levels, later = levels.copy(), frame
    return carried


def _found_before(
    levels: NDArray[np.uint8], trust: NDArray[np.uint8], config: TemporalConfig
) -> NDArray[np.uint8]:
    """The part of a map that was in the frame before, too, by the trust in the flow: uint8 (h, w)
    each, in steps of 1/255; zeros if the whole mask is not trusted."""
    inside = trust[levels > MASK_LEVEL]
    if not len(inside) or inside.mean() < 255 * config.min_trust:
        return np.zeros_like(levels)
    return np.where(trust > MASK_LEVEL, levels, np.uint8(0))
