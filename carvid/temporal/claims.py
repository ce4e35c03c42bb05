"""What a key frame has of things, before it is known what is whose: claims, and their masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_around
from carvid.base.scale import resize
from carvid.config import TemporalConfig
from carvid.temporal.colors import by_color, log_odds
from carvid.temporal.instance_carry import OWN_SHARE, InstanceContext
from carvid.temporal.instance_state import InstanceTrack
from carvid.temporal.matching import NONE
from carvid.temporal.memory import PROPOSAL_BELIEF, by_motion

Sharpen = Callable[[NDArray[np.float32]], NDArray[np.bool_]]
"""Turns maps of the frame at hand, float32 (n, h, w) in [0, 1], into masks, bool (n, H, W)."""


@dataclass(frozen=True, eq=False)
class Claim:
    """A thing of a key frame, before its mask is made."""

    track: InstanceTrack
    """Which one it is; a new one has number `NONE`."""
    chance: NDArray[np.float32]
    """float32 (h, w) in [0, 1]: its map, of the flow's size."""
    score: float
    found: bool
    """Whether it was found by itself."""
    shared: bool = False
    """Whether it was found together with others, so that its colours are not sure."""
    refuted: float = np.inf
    """How much more it is worth where it is found than where it is carried to, summed over the key
    frames in a row at which it is elsewhere, in units of score; 0 where both are the same, ∞ where
    it was not carried."""


@dataclass(frozen=True)
class Standing:
    """What stands at a key frame as a network has carried it."""

    correct_above: float
    """What is refuted by more does not."""
    cut: Sharpen
    """Makes masks of what stands."""

    def holds(self, claim: Claim) -> bool:
        """Return whether a thing stands where it is carried to."""
        return claim.refuted <= self.correct_above


def masks_of(
    claims: Sequence[Claim], sharpen: Sharpen, standing: Standing | None, size_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the masks of things, bool (n, H, W); those of an expression do not overlap.

    Args:
        claims: n of them, at least one.
        sharpen: makes masks of what is found.
        standing: what stands as it is carried; None is nothing.
        size_hw: height and width of the frame, pixels.
    """
    masks = np.zeros((len(claims), *size_hw), bool)
    stands = np.array([standing is not None and standing.holds(each) for each in claims], bool)
    chances = np.stack([claim.chance for claim in claims])
    if not stands.all():
        masks[~stands] = sharpen(chances[~stands])
    if standing is not None and stands.any():
        masks[stands] = standing.cut(chances[stands])
    _apart(claims, masks)
    return masks


def by_colors(
    claim: Claim,
    counts: NDArray[np.float32],
    colors: NDArray[np.uint16],
    temporal: TemporalConfig,
) -> Claim:
    """Return a claim whose map has been completed by colours, float32 (2, C)."""
    if not temporal.color or not (claim.chance > 0.5).any():
        return claim
    box = box_around(claim.chance > 0.5, share=0.5)
    chance = np.zeros_like(claim.chance)
    odds = temporal.color * log_odds(counts)[colors[box]]
    chance[box] = by_color(claim.chance[box], odds, PROPOSAL_BELIEF)
    if claim.shared:  # the others' part stays theirs
        chance[claim.chance == 0] = 0
    return replace(claim, chance=chance)


def by_what_moves(
    claim: Claim,
    others: NDArray[np.bool_],
    context: InstanceContext,
    temporal: TemporalConfig,
) -> Claim:
    """Return a claim whose map has been completed by what moves along, but for where others,
    bool (h, w), are carried to; one that is shared as it is."""
    if claim.shared:
        return claim
    chance = by_motion(claim.chance, context.seen.flow, temporal)
    return replace(claim, chance=np.where(others & (claim.chance <= 0.5), claim.chance, chance))


def _apart(claims: Sequence[Claim], masks: NDArray[np.bool_]) -> None:
    """Give each pixel of masks, bool (n, H, W), which are changed, to one thing of an expression:
    to what was followed before what is new, and among those to the one with the highest map."""
    size_hw = (masks.shape[1], masks.shape[2])
    for owner in {claim.track.owner for claim in claims}:
        mine = [k for k, claim in enumerate(claims) if claim.track.owner == owner]
        twice = masks[mine].sum(axis=0) > 1
        if len(mine) < 2 or not twice.any():
            continue
        rank = resize(np.stack([claims[k].chance for k in mine]), size_hw)
        rank += np.array([claims[k].track.number != NONE for k in mine])[:, None, None]
        rank = np.where(masks[mine], rank, -1)
        winner = rank.argmax(axis=0)
        for place, k in enumerate(mine):
            left = masks[k] & ~(twice & (winner != place))
            new = claims[k].track.number == NONE
            if new and np.count_nonzero(left) < OWN_SHARE * np.count_nonzero(masks[k]):
                left[:] = False
            masks[k] = left
