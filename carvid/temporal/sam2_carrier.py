"""Sam2Carrier: a network that follows things carries what CaR has named.

The chosen tracks are things that the network follows; all others, rivals that may be chosen later,
are carried by flow. A thing is told by its mask at the key frame where a track is first chosen, and
told anew where key frames find it elsewhere for long enough. Backward, a network of its own is told
a key frame's masks and sees the frames before it in reverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import iou
from carvid.car.choice import NO_TRACK
from carvid.config import TemporalConfig
from carvid.temporal.backward import carry_back
from carvid.temporal.carry import MASK_LEVEL, carry_tracks, to_levels
from carvid.temporal.followed import NOT_FOLLOWED, Followed
from carvid.temporal.observe import FrameContext
from carvid.temporal.pending import PendingFrame
from carvid.temporal.seen import SeenFrame
from carvid.temporal.state import TemporalState


class Found(Protocol):
    """Things in a frame."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Which they are."""

    @property
    def maps(self) -> NDArray[np.float32]:
        """float32 (K, h, w) in [0, 1]: where they are."""


class Follower(Protocol):
    """A network that follows things; `carvid.sam.video.VideoCarrier` is one."""

    def step(self, image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Found:
        """Go to the next frame, uint8 (H, W, 3) RGB; the maps get the size `size_hw`."""

    def add_mask(self, number: int, mask: NDArray[np.bool_]) -> None:
        """Tell where a thing is in this frame, bool (h, w)."""

    def drop(self, number: int) -> None:
        """Follow a thing no more."""

    def forget(self) -> None:
        """Follow nothing."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what is remembered after this frame."""

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from there."""


class Sam2Carrier:
    """Carries masks by a network that follows things.

    Args:
        config: settings.
        follower: the network.
        correct_after: a thing that so many key frames in a row find elsewhere is told anew; 0 tells
            each thing anew at each key frame.
        back: follows things backward, one key frame at a time; if None, flow carries them back.
    """

    def __init__(
        self,
        config: TemporalConfig,
        follower: Follower,
        correct_after: int = 1,
        back: Follower | None = None,
    ) -> None:
        self._config, self._follower, self._correct_after = config, follower, correct_after
        self._back = back

    @property
    def looks_back(self) -> bool:
        """Whether a network carries masks back."""
        return self._back is not None

    def begin(self, state: TemporalState) -> None:
        """Take up what the network remembered at the frame that left a state.

        Raises:
            ValueError: it is of a frame between two key frames, of another network, or of a run
                whose masks flow carried.
        """
        self._follower.forget()
        if state.followed is None:
            if state.maps is not None:
                raise ValueError("nobody can go on with SAM 2 from where flow carried the masks")
            return
        if state.followed.memory is None:
            raise ValueError("nobody can go on from between two key frames with SAM 2")
        self._follower.load(state.followed.memory)

    def forward(
        self, state: TemporalState, seen: SeenFrame, image: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Carry the tracks into the next frame; as `Carrier.forward`."""
        assert state.followed is not None
        tracks = {
            int(number): track
            for track, number in enumerate(state.followed.objects)
            if number != NOT_FOLLOWED
        }
        maps = carry_tracks(state, seen, self._config, without=tracks.values())
        found = self._follower.step(image, (maps.shape[1], maps.shape[2]))
        for number, plane in zip(found.numbers, found.maps, strict=True):
            maps[tracks[number]] = to_levels(plane)
        return maps

    def at_key(
        self, context: FrameContext, state: TemporalState, image: NDArray[np.uint8]
    ) -> TemporalState:
        """Tell the network what a key frame has found; as `Carrier.at_key`."""
        if state.maps is None:
            return state
        if context.begins_shot:
            self._follower.forget()
            self._follower.step(image, (state.maps.shape[1], state.maps.shape[2]))
        before = None if context.begins_shot else context.state.followed
        followed = _new_followed(state, before)
        for track in np.flatnonzero(followed.objects != NOT_FOLLOWED):
            self._tell(int(track), context, state, followed, before)
        for number in [] if before is None else before.objects:
            if number != NOT_FOLLOWED and number not in followed.objects:
                self._follower.drop(int(number))
        return replace(state, followed=replace(followed, memory=self._follower.state()))

    def backward(
        self,
        frames: Sequence[PendingFrame],
        key: PendingFrame,
        maps: NDArray[np.float32],
        colors: NDArray[np.float32],
        known: NDArray[np.bool_],
    ) -> list[NDArray[np.uint8]]:
        """Carry a key frame's maps into the frames before it; as `Carrier.backward`."""
        if self._back is None:
            return carry_back(frames, key, maps, colors, known, self._config)
        assert key.image is not None
        self._back.forget()
        self._back.step(key.image.image(), key.flow_size_hw)
        for query in np.flatnonzero((maps > 0.5).any(axis=(1, 2))):
            self._back.add_mask(int(query), maps[query] > 0.5)
        levels = to_levels(maps)
        carried: list[NDArray[np.uint8]] = []
        for frame in reversed(frames):
            if frame.colors is not None:  # a flash is passed over
                levels = _in(frame, self._back, len(maps))
            carried.insert(0, levels)
        return carried

    def _tell(
        self,
        track: int,
        context: FrameContext,
        state: TemporalState,
        followed: Followed,
        before: Followed | None,
    ) -> None:
        """Tell where a track's thing is if it is new, or found elsewhere for long enough; note in
        `followed` for how long it was."""
        assert state.maps is not None
        number, mask = int(followed.objects[track]), state.maps[track] > MASK_LEVEL
        is_new = before is None or number not in before.objects
        if before is not None and not is_new:
            assert context.carried is not None
            source = int(state.sources[track])
            carried = context.carried[source] > MASK_LEVEL
            same = iou(carried, mask) > self._config.same_iou
            followed.disagreed[track] = 0 if same else before.disagreed[source] + 1
        if is_new or followed.disagreed[track] >= self._correct_after:
            self._follower.add_mask(number, mask)
            followed.disagreed[track] = 0


def _in(frame: PendingFrame, follower: Follower, count: int) -> NDArray[np.uint8]:
    """Things 0, 1, … in the next frame that a follower sees, uint8 (N, h, w) in steps of 1/255."""
    assert frame.image is not None
    levels = np.zeros((count, *frame.flow_size_hw), np.uint8)
    found = follower.step(frame.image.image(), frame.flow_size_hw)
    for number, plane in zip(found.numbers, found.maps, strict=True):
        levels[number] = to_levels(plane)
    return levels


def _new_followed(state: TemporalState, before: Followed | None) -> Followed:
    """Which tracks of a key frame are followed: a thing goes on with the track whose path comes
    from its own, the chosen one first; a chosen track without one is a new thing."""
    assert state.maps is not None
    chosen = [int(track) for track in np.unique(state.chosen) if track != NO_TRACK]
    objects = np.full(len(state.owners), NOT_FOLLOWED)
    next_number = 0 if before is None else before.next_number
    free = set() if before is None else {int(each) for each in before.objects} - {NOT_FOLLOWED}
    for track in dict.fromkeys([*chosen, *range(len(objects))]):
        source = int(state.sources[track])
        number = NOT_FOLLOWED
        if before is not None and source != NO_TRACK:
            number = int(before.objects[source])
        if number in free:
            free.remove(number)
            objects[track] = number
        elif track in chosen and (state.maps[track] > MASK_LEVEL).any():
            objects[track], next_number = next_number, next_number + 1
    return Followed(objects, np.zeros(len(objects), np.int64), next_number)
