"""The state meets a new frame: where have the tracks gone, is it a key frame?

A frame is a key frame where its time has come, and earlier where carrying is doubtful. A scene cut
forgets everything; a flash is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import resize
from carvid.car.choice import NO_TRACK, TrackPrior
from carvid.config import TemporalConfig
from carvid.temporal.carry import MASK_LEVEL, carry_tracks, from_levels
from carvid.temporal.cuts import CutHistory
from carvid.temporal.flow import Flow
from carvid.temporal.followed import NOT_FOLLOWED
from carvid.temporal.seen import SeenFrame
from carvid.temporal.state import TemporalState

MAX_FRAMES_BETWEEN = 24
"""A key frame comes after so many frames at the latest, however fast they follow each other:
looking ahead has some key frames' worth of them in memory."""
EDGE_PIXELS = 3
"""The picture's edge cuts a mask off that is within so many pixels of it ..."""
CUT_OFF_SHARE = 0.7
"""... and has less than this share of the area that it had at the last key frame."""


CarryTracks = Callable[[TemporalState, SeenFrame], NDArray[np.uint8]]
"""Carries the tracks that a state knows into the next frame: uint8 (M, h, w) in steps of 1/255."""


class SinceKey(Protocol):
    """How long ago the last key frame was, as a state knows it."""

    @property
    def since_key(self) -> int:
        """Frames."""

    @property
    def since_key_s(self) -> float:
        """Seconds."""


@dataclass(frozen=True)
class FrameContext:
    """A new frame with what the state says about it: the input of a key frame's step."""

    state: TemporalState
    """The state that the frame before left; the initial one after a cut."""
    seen: SeenFrame
    """What the frame shows, whatever is looked for."""
    carried: NDArray[np.uint8] | None = None
    """uint8 (M, h, w): the tracks, carried into this frame, in steps of 1/255; None where a shot
    begins."""
    alive: NDArray[np.bool_] | None = None
    """bool (Q,): h_0 of a key frame, the queries that its step begins with; None on a frame between
    two key frames."""

    @property
    def gray(self) -> NDArray[np.uint8] | None:
        """uint8 (h, w): as `SeenFrame.gray`."""
        return self.seen.gray

    @property
    def colors(self) -> NDArray[np.uint16] | None:
        """uint16 (h, w): as `SeenFrame.colors`."""
        return self.seen.colors

    @property
    def flow(self) -> Flow | None:
        """The flow from the frame before; None where a shot begins."""
        return self.seen.flow

    @property
    def time_s(self) -> float:
        """The frame's time, seconds."""
        return self.seen.time_s

    @property
    def step_s(self) -> float:
        """Seconds since the frame before."""
        return self.seen.step_s

    @property
    def cut_history(self) -> CutHistory | None:
        """The last frames, to compare the next one with."""
        return self.seen.cut_history

    @property
    def is_key(self) -> bool:
        """Whether it is a key frame."""
        return self.alive is not None

    @property
    def begins_shot(self) -> bool:
        """Whether nothing is known from before: the first frame, or the first one after a cut."""
        return self.carried is None

    def prior(self, size_hw: tuple[int, int], config: TemporalConfig) -> TrackPrior | None:
        """Return the tracks as a prior of the choice, at height and width `size_hw`; None if
        nothing is known."""
        if self.carried is None or self.flow is None:
            return None
        state = self.state
        return TrackPrior(
            masks=resize(from_levels(self.carried), size_hw),
            owners=state.owners,
            values=state.values,
            absent_values=state.absent_values,
            chosen=state.chosen,
            key_frames_seen=state.key_frames_seen,
            smoothing=config.smoothing,
            hysteresis=config.hysteresis,
            flow=self.flow.motion / np.float32(self.step_s),
            same_iou=config.same_iou,
            max_new=config.max_new,
            at_edge=_at_edge(self.carried, state.areas),
        )


def observe(
    state: TemporalState,
    seen: SeenFrame,
    config: TemporalConfig,
    *,
    of_motion: Sequence[int] = (),
    always_there: Sequence[int] = (),
    carry: CarryTracks | None = None,
) -> FrameContext:
    """Carry the state into a new frame and decide if it is a key frame.

    Args:
        state: what the frame before left.
        seen: what the new frame shows, against the one before (`carvid.temporal.seen.see`).
        config: settings.
        of_motion: queries that motion decides on: the frame after the one where such a query was
            first seen is a key frame, too.
        always_there: queries that are there in every frame: where one has lost its mask, the frame
            is a key frame.
        carry: what carries the tracks; by flow, if not given.
    """
    if seen.verdict == "cut":
        state = TemporalState.initial(len(state.scores))
    if seen.flow is None:
        return FrameContext(state=state, seen=seen, alive=alive_queries(state, config))
    if seen.verdict == "flash":
        return FrameContext(state=state, seen=seen, carried=state.maps)
    carried = carry(state, seen) if carry else carry_tracks(state, seen, config)
    context = FrameContext(state=state, seen=seen, carried=carried)
    if is_due(state, seen.step_s, config) or (
        config.early_keys and _is_doubtful(context, config, of_motion, always_there)
    ):
        return replace(context, alive=alive_queries(state, config))
    return context


def alive_queries(state: TemporalState, config: TemporalConfig) -> NDArray[np.bool_]:
    """Return h_0 of the next key frame, bool (Q,): all queries, but for those that were not there
    at the last `temporal.drop_after` key frames, until they are offered again."""
    if not config.carry_queries or state.since_offer + 1 >= config.reoffer_every:
        return np.ones(len(state.misses), bool)
    return state.misses < config.drop_after


def is_due(state: SinceKey, step_s: float, config: TemporalConfig) -> bool:
    """Return whether a frame is the one nearest to the time when the next key frame should come."""
    if config.key_every:
        return state.since_key + 1 >= config.key_every
    late_s = state.since_key_s + step_s - config.key_every_s
    return late_s > -step_s / 2 or state.since_key + 1 >= MAX_FRAMES_BETWEEN


def _is_doubtful(
    context: FrameContext,
    config: TemporalConfig,
    of_motion: Sequence[int],
    always_there: Sequence[int],
) -> bool:
    """Whether a key frame must come early: motion has to decide, what is always there is lost, or a
    mask was carried by flow that is not trusted, or its area has jumped."""
    state, carried, flow = context.state, context.carried, context.flow
    assert carried is not None and flow is not None
    if any(state.key_frames_seen[query] == 1 for query in of_motion):
        return True
    tracks = state.chosen[list(always_there)]
    if any(track == NO_TRACK or not (carried[track] > MASK_LEVEL).any() for track in tracks):
        return True
    for track in state.chosen[state.chosen != NO_TRACK]:
        mask, area_before = carried[track] > MASK_LEVEL, state.areas[track]
        area = np.count_nonzero(mask)
        by_flow = state.followed is None or state.followed.objects[track] == NOT_FOLLOWED
        if by_flow and area and flow.trust[mask].mean() < config.min_trust:
            return True
        jump = config.area_jump
        if area_before and not area_before / jump < area < area_before * jump:
            return True
    return False


def _at_edge(carried: NDArray[np.uint8], areas: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tracks the picture's edge is cutting off, bool (M,).

    Args:
        carried: uint8 (M, h, w): the tracks' maps, in steps of 1/255.
        areas: int64 (M,): their areas at the last key frame, pixels.
    """
    inside = carried > MASK_LEVEL
    middle = inside[:, EDGE_PIXELS:-EDGE_PIXELS, EDGE_PIXELS:-EDGE_PIXELS].sum(axis=(1, 2))
    area = inside.sum(axis=(1, 2))
    return np.asarray((area > middle) & (area < CUT_OFF_SHARE * areas), bool)
