"""What a key frame has of things, before it is known what is whose: claims, and their masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_around, iou
from carvid.base.scale import resize
from carvid.config import TemporalConfig
from carvid.temporal.colors import by_color
from carvid.temporal.colors import log_odds as color_odds
from carvid.temporal.followed import log_odds
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
    stands: bool = False
    """Whether its map is the one that a network has carried here, and needs no sharpening."""


@dataclass(frozen=True, eq=False)
class Standing:
    """Which things stand at a key frame as a network has carried them."""

    correct: str
    """`sam2.correct`."""
    same_iou: float
    """What is found is where a thing is carried to if they overlap by more (IoU)."""
    told: Mapping[int, float]
    """Number of a track → log odds of the score of the mask that the network was told by."""
    cut: Sharpen
    """Makes masks of what stands."""
    stood: set[int] = field(default_factory=set)
    """Numbers of the tracks that stand: `keep` adds them."""

    def keep(
        self, track: InstanceTrack, asked: float, found: NDArray[np.bool_] | None, score: float
    ) -> bool:
        """Say if a thing stands, and note it: unless what is found is better, by `sam2.correct`.

        Args:
            track: the thing, where it is carried to.
            asked: the score of that.
            found: bool (h, w): where the key frame finds it; None where it does not, or finds it
                together with others, which refutes nothing.
            score: the score of what is found.
        """
        if self._stays(track, asked, found, score):
            self.stood.add(track.number)
            return True
        return False

    def _stays(
        self, track: InstanceTrack, asked: float, found: NDArray[np.bool_] | None, score: float
    ) -> bool:
        if track.number not in self.told or self.correct != "better":
            return track.number in self.told and self.correct == "never"
        if found is None:
            return True
        if iou(found, track.mask) > self.same_iou:
            return log_odds(score) <= self.told[track.number]
        return score <= asked


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
    stands = np.array([claim.stands for claim in claims], bool)
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
    odds = temporal.color * color_odds(counts)[colors[box]]
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
