"""A correction, spread: what was corrected in one frame is carried outward, frame by frame.

A mask that a user has corrected is carried by flow, or by a network that follows it, into the next
frames, on either side. There it meets what the run has found. Where both are the same thing, the
run's own mask is taken up, which is as new as its last key frame; where they differ, the corrected
thing stays, until it has been lost: it has left the picture, or so little of it is left that the
run's own word counts for more. The thing that was there instead (the *refuted* one) is carried
along, too, and is not taken up where the run still has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import iou
from carvid.temporal.carry import MASK_LEVEL
from carvid.temporal.pending import KeptImage
from carvid.temporal.seen import SeenFrame
from carvid.temporal.spread_carrier import SpreadCarrier

THING, REFUTED = 0, 1
"""What carries them calls the corrected thing and the refuted one so."""

AGREE_IOU = 0.4
"""The carried mask and the run's own are the same thing where they overlap by this (IoU)."""
REFUTED_IOU = 0.3
"""The run's own mask is the refuted thing where they overlap by more."""
PART_SHARE = 0.1
"""Of the smaller of two masks: where what is wanted has so much of the run's mask, or the other way
round, that was a part of the thing, or had it as a part."""
MET_SHARE = 0.2
"""The thing and the refuted one have met where they share more than this of the smaller one."""
LOST_SHARE = 0.5
"""The corrected thing is lost where it has less than this share of the area that it had where it
was last sure."""
SETTLED_S = 1.0
"""Both have agreed for so many seconds: the rest of the run is as it is."""
SETTLED_FRAMES = 12
"""... and for so many frames."""


def refuted_by(
    mask: NDArray[np.bool_], before: NDArray[np.bool_], *, wanted: bool
) -> NDArray[np.bool_]:
    """Return what a run had in a frame instead of the thing, bool (h, w); empty where it had the
    thing, perhaps in another shape.

    Args:
        mask: bool (h, w): what a correction has left.
        before: bool (h, w): what the run had.
        wanted: the correction says what the thing is, and not what it is not.
    """
    both, either = np.count_nonzero(mask & before), np.count_nonzero(mask | before)
    small = min(np.count_nonzero(mask), np.count_nonzero(before))
    same = both > PART_SHARE * small if wanted else both >= AGREE_IOU * either
    return before & ~mask & (not (small and same))


class Spread:
    """A corrected mask on its way outward, in one direction.

    Args:
        mask: bool (h, w), of the flow's size: the corrected mask; empty where the thing is not
            there.
        refuted: bool (h, w): what the run had there instead; empty where it had the thing.
        seen: the frame.
        carrier: carries both; has carried nothing yet.
        wanted: the correction says where the thing is; else it says where it is not, and the
            refuted thing is taken away even where there is no other.
    """

    def __init__(
        self,
        mask: NDArray[np.bool_],
        refuted: NDArray[np.bool_],
        seen: SeenFrame,
        carrier: SpreadCarrier,
        *,
        wanted: bool,
    ) -> None:
        self._carrier, self._wanted = carrier, wanted
        carrier.tell(THING, mask, seen)
        self._sure_area = np.count_nonzero(mask)
        self._has_refuted = bool(refuted.any())
        if self._has_refuted:
            carrier.tell(REFUTED, refuted, seen)
        self._seen, self._start_s = seen, seen.time_s
        self._agreed = 0
        self.is_over = not mask.any() and (wanted or not self._has_refuted)
        """What comes after is as the run has it."""

    def into(
        self, seen: SeenFrame, found: NDArray[np.bool_], image: KeptImage | None = None
    ) -> NDArray[np.uint8] | None:
        """Go into the next frame outward.

        Args:
            seen: the frame.
            found: bool (h, w): the run's own mask there.
            image: the frame's picture; flow needs none.

        Returns:
            The corrected map, uint8 (h, w) in steps of 1/255; None where the run's own stays.
        """
        self._carrier.step(self._seen, seen, image)
        self._seen = seen
        levels, mask = self._carrier.levels(THING), self._mask(THING)
        is_refuted = self._follow_refuted(mask, found)
        if self._have_met(mask):
            self.is_over = True
            return None
        if not mask.any():
            self.is_over = self._wanted or not self._has_refuted
            return levels if is_refuted and not self._wanted else None
        lost = bool(np.count_nonzero(mask) < LOST_SHARE * self._sure_area)
        if found.any() and not is_refuted and (lost or iou(mask, found) >= AGREE_IOU):
            self._agree(found, anew=lost)
            return None
        self._agreed, self._start_s = 0, seen.time_s
        return levels

    def _mask(self, number: int) -> NDArray[np.bool_]:
        return self._carrier.levels(number) > MASK_LEVEL

    def _have_met(self, mask: NDArray[np.bool_]) -> bool:
        """Whether the thing and the refuted one lie over each other: from here on nobody knows
        which is which, and most runs mistook them for each other here."""
        if not self._has_refuted or not mask.any():
            return False
        refuted = self._mask(REFUTED)
        both = np.count_nonzero(mask & refuted)
        return bool(both > MET_SHARE * min(np.count_nonzero(mask), np.count_nonzero(refuted)))

    def _follow_refuted(self, mask: NDArray[np.bool_], found: NDArray[np.bool_]) -> bool:
        """Whether the refuted thing is what the run has found, and not the thing, bool (h, w)."""
        if not self._has_refuted:
            return False
        refuted = self._mask(REFUTED)
        if not refuted.any():
            self._has_refuted = False
            self._carrier.drop(REFUTED)
            return False
        is_found = iou(refuted, found) > REFUTED_IOU
        if is_found and iou(mask, found) < AGREE_IOU:
            self._carrier.take(REFUTED, found)
        return is_found and iou(refuted, found) > iou(mask, found)

    def _agree(self, found: NDArray[np.bool_], *, anew: bool) -> None:
        """Take up the run's own mask; `anew`: the corrected thing had been lost."""
        if anew:
            self._carrier.tell(THING, found, self._seen)
        else:
            self._carrier.take(THING, found)
        self._sure_area = np.count_nonzero(found)
        self._agreed += 1
        away_s = abs(self._seen.time_s - self._start_s)
        if self._agreed > SETTLED_FRAMES and away_s > SETTLED_S:
            self.is_over = True
