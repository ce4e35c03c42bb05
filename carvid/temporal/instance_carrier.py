"""What carries things that are followed one by one: flow, or a network that is told of them.

Each track is a thing of the network, by its number, as long as it goes on: one that is out of sight
is remembered, and may come back by the network alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import cut_masks
from carvid.config import Config, Sam2Config, TemporalConfig
from carvid.temporal.carry import MASK_LEVEL, to_levels
from carvid.temporal.claims import Standing
from carvid.temporal.followed import Followed, log_odds
from carvid.temporal.instance_carry import OWN_SHARE, InstanceContext, apart, by_flow
from carvid.temporal.instance_state import InstanceState, InstanceTrack
from carvid.temporal.sam2_carrier import Follower, NewFollower, go_on, needed
from carvid.temporal.seen import SeenFrame


class InstanceCarrier(Protocol):
    """Carries all things that are followed from frame to frame."""

    def begin(self, state: InstanceState) -> None:
        """Go on after the frame that left a state.

        Raises:
            ValueError: nobody can go on from there.
        """

    def forward(
        self, state: InstanceState, seen: SeenFrame, image: NDArray[np.uint8]
    ) -> Mapping[int, NDArray[np.uint8]]:
        """Carry the tracks into the next frame.

        Args:
            state: what the frame before left.
            seen: the next frame; no shot begins there, and it is no flash.
            image: uint8 (H, W, 3) RGB: the same frame.

        Returns:
            As `CarryThings`.
        """

    def standing(self, context: InstanceContext, image: NDArray[np.uint8]) -> Standing | None:
        """Return what says which tracks stand at a key frame as they are carried; None: none.

        Args:
            context: the key frame.
            image: uint8 (H, W, 3) RGB: the same frame.
        """

    def at_key(
        self,
        context: InstanceContext,
        state: InstanceState,
        standing: Standing | None,
        image: NDArray[np.uint8],
    ) -> InstanceState:
        """Take up what a key frame says; return the state that it leaves.

        Args:
            context: the key frame.
            state: the state after it, as `instances.after_key_frame` returns it.
            standing: what has said which tracks stand.
            image: uint8 (H, W, 3) RGB: the same frame.
        """


def new_instance_carrier(config: Config, new_follower: NewFollower | None) -> InstanceCarrier:
    """Return what carries the things of one run.

    Args:
        config: settings.
        new_follower: makes networks that follow things.

    Raises:
        ConfigError: SAM 2 is to carry, and there is none.
    """
    if config.temporal.carrier == "flow":
        return FlowInstances(config.temporal)
    return Sam2Instances(config.temporal, config.sam2, needed(new_follower)())


class FlowInstances:
    """Carries things by optical flow, corrected by their colours and the frame's edges.

    Args:
        config: settings.
    """

    def __init__(self, config: TemporalConfig) -> None:
        self._config = config

    def begin(self, state: InstanceState) -> None:
        """Go on after any frame: a state is all that there is."""

    def forward(
        self, state: InstanceState, seen: SeenFrame, image: NDArray[np.uint8]
    ) -> Mapping[int, NDArray[np.uint8]]:
        """Carry the tracks in sight; as `InstanceCarrier.forward`."""
        return by_flow(state, seen, self._config)

    def standing(self, context: InstanceContext, image: NDArray[np.uint8]) -> Standing | None:
        """Nothing: key frames decide."""
        return None

    def at_key(
        self,
        context: InstanceContext,
        state: InstanceState,
        standing: Standing | None,
        image: NDArray[np.uint8],
    ) -> InstanceState:
        """Return the state as it is."""
        return state


class Sam2Instances:
    """Carries things by a network that follows them.

    A key frame tells it of tracks that begin, and of those that come back where it does not have
    them, as after a cut, at which it forgets all. Of the others those stand as the network has
    them of which the key frame has nothing better (`sam2.correct`, by the track's scores). What a
    key frame finds as one, since things cross, or does not find, refutes nothing.

    Args:
        config: settings of carrying.
        sam2: when the network is told anew.
        follower: the network.
    """

    def __init__(self, config: TemporalConfig, sam2: Sam2Config, follower: Follower) -> None:
        self._config, self._sam2, self._follower = config, sam2, follower

    def begin(self, state: InstanceState) -> None:
        """Take up what the network remembered at the frame that left a state.

        Raises:
            ValueError: as `go_on`.
        """
        go_on(self._follower, state.followed, begun=state.gray is not None)

    def forward(
        self, state: InstanceState, seen: SeenFrame, image: NDArray[np.uint8]
    ) -> Mapping[int, NDArray[np.uint8]]:
        """Carry the tracks, in sight or hidden; as `InstanceCarrier.forward`."""
        assert seen.gray is not None
        found = self._follower.step(image, (seen.gray.shape[0], seen.gray.shape[1]))
        planes = dict(zip(found.numbers, map(to_levels, found.maps), strict=True))
        return _own([
            replace(track, levels=planes[track.number])
            for track in state.tracks if track.number in planes
        ])  # fmt: skip

    def standing(self, context: InstanceContext, image: NDArray[np.uint8]) -> Standing | None:
        """Return what keeps tracks that key frames have nothing better for; as
        `InstanceCarrier.standing`."""
        told = {} if context.begins_shot else _told(context.state.followed)
        cut = partial(cut_masks, image=image)
        return Standing(self._sam2.correct, self._config.same_iou, told, cut)

    def at_key(
        self,
        context: InstanceContext,
        state: InstanceState,
        standing: Standing | None,
        image: NDArray[np.uint8],
    ) -> InstanceState:
        """Tell the network of what is new, or does not stand; drop what has ended; as
        `InstanceCarrier.at_key`."""
        assert standing is not None and context.seen.gray is not None
        if context.begins_shot:
            self._follower.forget()
            self._follower.step(image, (context.seen.gray.shape[0], context.seen.gray.shape[1]))
        told = dict(standing.told)
        for track in state.tracks:
            if not track.is_hidden and track.number not in standing.stood:
                self._follower.add_mask(track.number, track.mask)
                told[track.number] = log_odds(track.score)
            elif track.number in told:
                told[track.number] -= self._sam2.fade
        for number in told.keys() - {track.number for track in state.tracks}:
            self._follower.drop(number)
            del told[number]
        numbers, values = np.array([*told], np.int64), np.array([*told.values()], np.float64)
        followed = Followed(numbers, values, state.begun, self._follower.state())
        return replace(state, followed=followed)


def _told(followed: Followed | None) -> dict[int, float]:
    """Number of a thing → log odds of what the network was told by."""
    return {} if followed is None else dict(
        zip(followed.objects.tolist(), followed.told.tolist(), strict=True)
    )  # fmt: skip


def _own(tracks: Sequence[InstanceTrack]) -> dict[int, NDArray[np.uint8]]:
    """The maps of tracks of which more than `OWN_SHARE` is nobody else's of their expression, a
    hidden one's after those in sight: a network may have two things in the place of one. What is
    another one's is taken away."""
    seen = apart([track for track in tracks if not track.is_hidden])
    hidden = []
    for track in tracks:
        if track.is_hidden:
            others = [each.mask for each in seen if each.owner == track.owner]
            theirs = np.any(others, axis=0) if others else np.zeros(track.levels.shape, bool)
            levels = np.where(theirs, np.minimum(track.levels, MASK_LEVEL), track.levels)
            hidden.append(replace(track, levels=np.asarray(levels, np.uint8)))
    areas = {track.number: np.count_nonzero(track.mask) for track in tracks}
    return {
        track.number: track.levels for track in (*seen, *apart(hidden))
        if np.count_nonzero(track.mask) > OWN_SHARE * areas[track.number]
    }  # fmt: skip
