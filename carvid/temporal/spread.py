"""A correction, spread: what was corrected in one frame is carried outward, frame by frame.

A mask that a user has corrected is carried by flow into the next frames, on either side. There it
meets what the run has found. Where both are the same thing, the run's own mask is taken up, which
is as new as its last key frame; where they differ, the corrected thing stays, until it has been
lost: it has left the picture, or so little of it is left that the run's own word counts for more.
The thing that was there instead (the *refuted* one) is carried along, too, and is not taken up
where the run still has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import iou
from carvid.config import TemporalConfig
from carvid.temporal.carry import (
    MASK_LEVEL,
    around,
    carry,
    correct_carried,
    from_levels,
    to_levels,
)
from carvid.temporal.colors import count_colors
from carvid.temporal.seen import SeenFrame

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


class Thing:
    """A mask that is carried from frame to frame, with its colours.

    Args:
        mask: bool (h, w), of the flow's size.
        seen: the frame that it is in.
        config: settings.
    """

    def __init__(self, mask: NDArray[np.bool_], seen: SeenFrame, config: TemporalConfig) -> None:
        self._config = config
        self._counts = None if seen.colors is None else count_colors(seen.colors, mask)
        self.levels = to_levels(mask.astype(np.float32))
        """uint8 (h, w), in steps of 1/255: where it is."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool (h, w)."""
        return self.levels > MASK_LEVEL

    def take(self, mask: NDArray[np.bool_]) -> None:
        """Give it another shape, bool (h, w)."""
        self.levels = to_levels(mask.astype(np.float32))

    def go(self, frame: SeenFrame, to: SeenFrame, *, forward: bool) -> None:
        """Carry it from a frame into the one after it (`forward`) or before it, in one shot."""
        flow = to.flow if forward else frame.flow
        assert flow is not None and to.gray is not None
        carried = np.zeros_like(self.levels)
        pixel_map = flow.backward_map if forward else flow.forward_map
        box = around(pixel_map.leading_into(self.levels), self._config)
        if forward:
            levels, trust = carry([self.levels], pixel_map, box)[0], flow.trust[box]
        else:
            levels, there = carry([self.levels, to_levels(flow.trust)], pixel_map, box)
            trust = from_levels(there)
        if to.colors is not None and self._counts is not None:
            levels = correct_carried(
                levels, trust, to.gray[box], to.colors[box], self._counts, self._config
            )
        carried[box] = levels
        self.levels = carried


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
        forward: whether it goes to later frames.
        wanted: the correction says where the thing is; else it says where it is not, and the
            refuted thing is taken away even where there is no other.
        config: settings.
    """

    def __init__(
        self,
        mask: NDArray[np.bool_],
        refuted: NDArray[np.bool_],
        seen: SeenFrame,
        config: TemporalConfig,
        *,
        wanted: bool,
        forward: bool,
    ) -> None:
        self._thing = Thing(mask, seen, config)
        self._sure_area = np.count_nonzero(mask)
        self._refuted = Thing(refuted, seen, config) if refuted.any() else None
        self._wanted, self._forward = wanted, forward
        self._seen, self._start_s = seen, seen.time_s
        self._agreed = 0
        self.is_over = not mask.any() and (wanted or self._refuted is None)
        """What comes after is as the run has it."""

    def into(self, seen: SeenFrame, found: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
        """Go into the next frame outward.

        Args:
            seen: the frame.
            found: bool (h, w): the run's own mask there.

        Returns:
            The corrected map, uint8 (h, w) in steps of 1/255; None where the run's own stays.
        """
        before, self._seen = self._seen, seen
        self._thing.go(before, seen, forward=self._forward)
        is_refuted = self._follow_refuted(before, found)
        mask = self._thing.mask
        if self._have_met(mask):
            self.is_over = True
            return None
        if not mask.any():
            self.is_over = self._wanted or self._refuted is None
            return self._thing.levels if is_refuted and not self._wanted else None
        lost = bool(np.count_nonzero(mask) < LOST_SHARE * self._sure_area)
        if found.any() and not is_refuted and (lost or iou(mask, found) >= AGREE_IOU):
            self._agree(found, anew=lost)
            return None
        self._agreed, self._start_s = 0, seen.time_s
        return self._thing.levels

    def _have_met(self, mask: NDArray[np.bool_]) -> bool:
        """Whether the thing and the refuted one lie over each other: from here on nobody knows
        which is which, and most runs mistook them for each other here."""
        if self._refuted is None or not mask.any():
            return False
        refuted = self._refuted.mask
        both = np.count_nonzero(mask & refuted)
        return bool(both > MET_SHARE * min(np.count_nonzero(mask), np.count_nonzero(refuted)))

    def _follow_refuted(self, before: SeenFrame, found: NDArray[np.bool_]) -> bool:
        """Carry the refuted thing on; return whether it is what the run has found."""
        if self._refuted is None:
            return False
        self._refuted.go(before, self._seen, forward=self._forward)
        mask = self._refuted.mask
        if not mask.any():
            self._refuted = None
            return False
        is_found = iou(mask, found) > REFUTED_IOU
        if is_found and iou(self._thing.mask, found) < AGREE_IOU:
            self._refuted.take(found)
        return is_found and iou(mask, found) > iou(self._thing.mask, found)

    def _agree(self, found: NDArray[np.bool_], *, anew: bool) -> None:
        """Take up the run's own mask; `anew`: the corrected thing had been lost."""
        if anew:
            self._thing = Thing(found, self._seen, self._thing._config)
        else:
            self._thing.take(found)
        self._sure_area = np.count_nonzero(found)
        self._agreed += 1
        away_s = abs(self._seen.time_s - self._start_s)
        if self._agreed > SETTLED_FRAMES and away_s > SETTLED_S:
            self.is_over = True
