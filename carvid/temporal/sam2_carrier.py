"""Sam2Carrier: a network that follows things carries what CaR has named.

The chosen tracks are things that the network follows; all others, rivals that may be chosen later,
are carried by flow. A thing is told by its mask at the key frame where a track is first chosen. At
later ones SAM 2's mask stands, and is what the frame gets, unless CaR's is better: then SAM 2 is
told that. Backward, a network of its own is told a key frame's masks and sees the frames before it
in reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import ConfigError
from carvid.base.masks import ious
from carvid.base.scale import cut_masks, resize
from carvid.car.choice import NO_TRACK, Candidates
from carvid.car.step import StepResult
from carvid.config import Config, Sam2Config, TemporalConfig
from carvid.temporal.carrier import Carrier, FlowCarrier
from carvid.temporal.carry import MASK_LEVEL, carry_tracks, from_levels, to_levels
from carvid.temporal.followed import NOT_FOLLOWED, Followed, log_odds
from carvid.temporal.observe import FrameContext
from carvid.temporal.pending import PendingFrame
from carvid.temporal.seen import SeenFrame
from carvid.temporal.state import TemporalState
from carvid.temporal.update import after_key


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


NewFollower = Callable[[], Follower]
"""Makes a network that follows nothing yet."""

F = TypeVar("F", bound=NewFollower)


def new_carrier(config: Config, new_follower: NewFollower | None) -> Carrier:
    """Return what carries the masks of one run.

    Args:
        config: settings.
        new_follower: makes networks that follow things.

    Raises:
        ConfigError: SAM 2 is to carry, and there is none; or as `check_carrier`.
    """
    check_carrier(config)
    if config.temporal.carrier == "flow":
        return FlowCarrier(config.temporal)
    new = needed(new_follower)
    return Sam2Carrier(config.temporal, config.sam2, new(), new())


def check_carrier(config: Config) -> None:
    """Check that masks of a run can be carried as its settings say.

    Raises:
        ConfigError: they are those of classes, and SAM 2 follows things.
    """
    temporal = config.temporal
    if config.car.mode == "semantic" and temporal.carry_masks and temporal.carrier == "sam2":
        raise ConfigError(
            "SAM 2 follows things, and classes are none; use temporal.carrier=flow for classes"
        )


def needed(new_follower: F | None) -> F:
    """Return what makes networks that follow things, where they are to carry masks.

    Raises:
        ConfigError: there is none.
    """
    if new_follower is None:
        raise ConfigError(
            "temporal.carrier=sam2 needs a SAM 2, and this model was loaded without; load it with "
            "this setting"
        )
    return new_follower


def go_on(follower: Follower, followed: Followed | None, *, begun: bool) -> None:
    """Let a network go on from where it was when a state was left.

    Args:
        follower: the network.
        followed: what the state knows of the things that it followed.
        begun: whether the state is of any frame.

    Raises:
        ValueError: the state is of a frame between two key frames, of another network, or of a run
            whose masks flow carried.
    """
    follower.forget()
    if followed is None:
        if begun:
            raise ValueError("nobody can go on with SAM 2 from where flow carried the masks")
        return
    if followed.memory is None:
        raise ValueError("nobody can go on from between two key frames with SAM 2")
    follower.load(followed.memory)


class Sam2Carrier:
    """Carries masks by a network that follows things.

    Args:
        config: settings of carrying.
        sam2: when the network is told anew.
        follower: the network.
        back: one that follows things backward, from one key frame at a time.
    """

    def __init__(
        self, config: TemporalConfig, sam2: Sam2Config, follower: Follower, back: Follower
    ) -> None:
        self._config, self._sam2 = config, sam2
        self._follower, self._back = follower, back

    @property
    def looks_back(self) -> bool:
        """Yes: the network sees the frames before a key frame."""
        return True

    def begin(self, state: TemporalState) -> None:
        """Take up what the network remembered at the frame that left a state.

        Raises:
            ValueError: as `go_on`.
        """
        go_on(self._follower, state.followed, begun=state.maps is not None)

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
        self,
        context: FrameContext,
        result: StepResult,
        theta: float,
        image: NDArray[np.uint8],
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], TemporalState]:
        """Let SAM 2's masks stand where CaR's are not better, and tell it the others; as
        `Carrier.at_key`."""
        if context.gray is None:
            return after_key(context, result, theta, self._config)
        before = None if context.begins_shot else context.state.followed
        standing = self._standing(context, result, before, theta)
        result = _with_carried(context, result, standing, image)
        masks, maps, state = after_key(context, result, theta, self._config)
        assert state.maps is not None
        if before is None:
            self._follower.forget()
            self._follower.step(image, (state.maps.shape[1], state.maps.shape[2]))
        followed = self._tell(state, before, result, standing)
        followed = replace(followed, memory=self._follower.state())
        return masks, maps, replace(state, followed=followed)

    def backward(
        self,
        frames: Sequence[PendingFrame],
        key: PendingFrame,
        maps: NDArray[np.float32],
        colors: NDArray[np.float32],
        known: NDArray[np.bool_],
    ) -> list[NDArray[np.uint8]]:
        """Carry a key frame's maps into the frames before it; as `Carrier.backward`."""
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

    def _standing(
        self,
        context: FrameContext,
        result: StepResult,
        before: Followed | None,
        theta: float,
    ) -> list[int]:
        """The expressions that are there and have SAM 2's mask, since CaR's is not better."""
        if before is None:
            return []
        found = []
        for query in map(int, np.flatnonzero(result.kept)):
            candidates = result.candidates[query]
            source = _source(candidates)
            if source != NO_TRACK and before.objects[source] != NOT_FOLLOWED:
                assert context.carried is not None
                carried, told = context.carried[source], float(before.told[source])
                if not self._is_better(candidates, carried, told, theta):
                    found.append(query)
        return found

    def _is_better(
        self, candidates: Candidates, carried: NDArray[np.uint8], told: float, theta: float
    ) -> bool:
        """Whether CaR's choice, and not SAM 2's mask, is where a thing is (`sam2.correct`).

        Args:
            candidates: the expression's.
            carried: uint8 (h, w), in steps of 1/255: where SAM 2 has the thing.
            told: log odds of what SAM 2 was told by.
            theta: θ: what scores no higher does not stand.
        """
        if self._sam2.correct != "better":
            return self._sam2.correct == "always"
        best = candidates.best
        if not (carried > MASK_LEVEL).any():
            return True
        size_hw = (candidates.masks.shape[1], candidates.masks.shape[2])
        there = resize(from_levels(carried[None]), size_hw) > 0.5
        overlaps = ious(candidates.masks > 0.5, there)[:, 0]
        nearest = int(overlaps.argmax())
        if best == nearest or overlaps[best] > self._config.same_iou:
            score = float(candidates.scores[best])
            return score <= theta or log_odds(score) > told
        return bool(candidates.values[best] > candidates.values[nearest])

    def _tell(
        self,
        state: TemporalState,
        before: Followed | None,
        result: StepResult,
        standing: Sequence[int],
    ) -> Followed:
        """Tell where the expressions' things are, but for those whose mask stands; drop those that
        are followed no more. Return what is followed."""
        assert state.maps is not None
        followed = _new_followed(state, before, len(result.masks))
        known = () if before is None else tuple(map(int, before.objects))
        for track in np.flatnonzero(followed.objects != NOT_FOLLOWED):
            number, owner = int(followed.objects[track]), int(state.owners[track])
            stands = owner in standing or state.chosen[owner] != track
            if before is not None and number in known and stands:
                followed.told[track] = before.told[state.sources[track]] - self._sam2.fade
            else:
                self._follower.add_mask(number, state.maps[track] > MASK_LEVEL)
                candidates = result.candidates[owner]
                followed.told[track] = log_odds(float(candidates.scores[candidates.best]))
        for number in known:
            if number != NOT_FOLLOWED and number not in followed.objects:
                self._follower.drop(number)
        return followed


def _source(candidates: Candidates) -> int:
    """The track that the best candidate's path comes from, or `NO_TRACK`."""
    return int(candidates.sources[candidates.best])


def _with_carried(
    context: FrameContext,
    result: StepResult,
    queries: Sequence[int],
    image: NDArray[np.uint8],
) -> StepResult:
    """What CaR found, with the masks that were carried here of some queries."""
    if not queries:
        return result
    assert context.carried is not None
    sources = [_source(result.candidates[query]) for query in queries]
    masks = result.masks.copy()
    masks[list(queries)] = cut_masks(from_levels(context.carried[sources]), image)
    return replace(result, masks=masks)


def _in(frame: PendingFrame, follower: Follower, count: int) -> NDArray[np.uint8]:
    """Things 0, 1, … in the next frame that a follower sees, uint8 (N, h, w) in steps of 1/255."""
    assert frame.image is not None
    levels = np.zeros((count, *frame.flow_size_hw), np.uint8)
    found = follower.step(frame.image.image(), frame.flow_size_hw)
    for number, plane in zip(found.numbers, found.maps, strict=True):
        levels[number] = to_levels(plane)
    return levels


def _new_followed(state: TemporalState, before: Followed | None, count: int) -> Followed:
    """Which tracks of a key frame are followed, of the first `count` queries: a thing goes on with
    the track whose path comes from its own, the chosen one first; a chosen track without one is a
    new thing."""
    assert state.maps is not None
    chosen = [int(track) for track in state.chosen[:count] if track != NO_TRACK]
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
    return Followed(objects, np.zeros(len(objects)), next_number)
