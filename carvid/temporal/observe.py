"""A new frame: is it a cut or a flash, where have the tracks gone, is it a key frame?

A frame is a key frame where its time has come, and earlier where carrying is doubtful. A scene cut
forgets everything; a flash is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import resize
from carvid.car.choice import NO_TRACK, TrackPrior
from carvid.config import TemporalConfig
from carvid.temporal.carry import MASK_LEVEL, carry, correct_carried, from_levels
from carvid.temporal.colors import to_colors
from carvid.temporal.cuts import CutHistory, detect_cut
from carvid.temporal.flow import Flow, flow_between, standing_still, to_gray
from carvid.temporal.state import TemporalState

DEFAULT_STEP_S = 1 / 24
"""Seconds from one frame to the next where the frames have no times, or impossible ones."""
MAX_FRAMES_BETWEEN = 24
"""A key frame comes after so many frames at the latest, however fast they follow each other:
looking ahead has some key frames' worth of them in memory."""
EDGE_PIXELS = 3
"""The picture's edge cuts a mask off that is within so many pixels of it ..."""
CUT_OFF_SHARE = 0.7
"""... and has less than this share of the area that it had at the last key frame."""


@dataclass(frozen=True)
class FrameContext:
    """A new frame with what the state says about it: the input of a key frame's step."""

    state: TemporalState
    """The state that the frame before left; the initial one after a cut."""
    gray: NDArray[np.uint8] | None = None
    """uint8 (h, w): the frame, at most `temporal.flow_side`; of a flash, the frame before it. None
    where masks are not carried."""
    colors: NDArray[np.uint16] | None = None
    """uint16 (h, w): each pixel's colour (`colors.to_colors`); None in a flash, and where masks are
    not carried."""
    carried: NDArray[np.uint8] | None = None
    """uint8 (M, h, w): the tracks, carried into this frame, in steps of 1/255; None where a shot
    begins."""
    flow: Flow | None = None
    """The flow from the frame before; None where a shot begins."""
    alive: NDArray[np.bool_] | None = None
    """bool (Q,): h_0 of a key frame, the queries that its step begins with; None on a frame between
    two key frames."""
    time_s: float = 0.0
    """The frame's time, seconds."""
    step_s: float = DEFAULT_STEP_S
    """Seconds since the frame before."""
    cut_history: CutHistory | None = None
    """The last frames, to compare the next one with."""

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
    image: NDArray[np.uint8],
    config: TemporalConfig,
    *,
    time_s: float = math.nan,
    of_motion: Sequence[int] = (),
    always_there: Sequence[int] = (),
) -> FrameContext:
    """Carry the state into a new frame and decide if it is a key frame.

    Args:
        state: what the frame before left.
        image: uint8 (H, W, 3) RGB.
        config: settings.
        time_s: the frame's time, seconds; NaN where it has none.
        of_motion: queries that motion decides on: the frame after the one where such a query was
            first seen is a key frame, too.
        always_there: queries that are there in every frame: where one has lost its mask, the frame
            is a key frame.
    """
    now_s, step_s = _clock(state, time_s)
    if not config.carry_masks:
        alive = alive_queries(state, config)
        return FrameContext(state=state, alive=alive, time_s=now_s, step_s=step_s)
    gray = to_gray(image, config.flow_side)
    flow = _flow_from(state, gray)
    trust = float(flow.trust.mean()) if flow else 1.0
    history = state.cut_history if flow else None
    verdict, history = detect_cut(history, image, now_s, trust, config)
    context = FrameContext(
        state=state,
        gray=gray,
        colors=to_colors(image, gray.shape),
        time_s=now_s,
        step_s=step_s,
        cut_history=history,
    )
    if flow is None:
        return replace(context, alive=alive_queries(state, config))
    if verdict == "cut":
        fresh = TemporalState.initial(len(state.scores))
        return replace(context, state=fresh, alive=alive_queries(fresh, config))
    if verdict == "flash":
        return _passed_over(context)
    context = replace(context, flow=flow, carried=_carried_tracks(context, flow, config))
    if _is_due(state, step_s, config) or _is_doubtful(context, config, of_motion, always_there):
        return replace(context, alive=alive_queries(state, config))
    return context


def alive_queries(state: TemporalState, config: TemporalConfig) -> NDArray[np.bool_]:
    """Return h_0 of the next key frame, bool (Q,): all queries, but for those that were not there
    at the last `temporal.drop_after` key frames, until they are offered again."""
    if not config.carry_queries or state.since_offer + 1 >= config.reoffer_every:
        return np.ones(len(state.misses), bool)
    return state.misses < config.drop_after


def _clock(state: TemporalState, time_s: float) -> tuple[float, float]:
    """The time of a frame, and seconds since the one before. Frames without times, or whose clock
    stands or goes back, count as if they came 24 a second."""
    step_s = time_s - state.time_s
    if state.gray is None and math.isfinite(time_s):
        return time_s, DEFAULT_STEP_S
    if math.isfinite(step_s) and step_s > 0:
        return time_s, step_s
    return (time_s if math.isfinite(time_s) else state.time_s + DEFAULT_STEP_S), DEFAULT_STEP_S


def _flow_from(state: TemporalState, gray: NDArray[np.uint8]) -> Flow | None:
    """The flow from the state's frame to a new one, uint8 (h, w); None if there is no frame, or it
    has another size."""
    if state.gray is None or state.maps is None or state.gray.shape != gray.shape:
        return None
    return flow_between(state.gray, gray)


def _passed_over(flash: FrameContext) -> FrameContext:
    """A flash, in which the tracks stay where they were; the next frame is compared with the one
    before it."""
    state = flash.state
    assert state.gray is not None
    still = standing_still((state.gray.shape[0], state.gray.shape[1]))
    return replace(flash, gray=state.gray, colors=None, carried=state.maps, flow=still)


def _carried_tracks(context: FrameContext, flow: Flow, config: TemporalConfig) -> NDArray[np.uint8]:
    """The tracks, uint8 (M, h, w), carried by flow; those that are chosen are corrected."""
    state = context.state
    assert state.maps is not None and context.gray is not None and context.colors is not None
    carried = carry(state.maps, flow.backward_map)
    for track in state.chosen[state.chosen != NO_TRACK]:
        carried[track] = correct_carried(
            carried[track], flow.trust, context.gray, context.colors, state.colors[track], config
        )
    return carried


def _is_due(state: TemporalState, step_s: float, config: TemporalConfig) -> bool:
    """Whether a frame is the one nearest to the time when the next key frame should come."""
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
        if area and flow.trust[mask].mean() < config.min_trust:
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
