"""The state that a frame leaves: after a key frame, and after a frame between two of them.

A key frame's candidates become the tracks that are followed from it; what each of them looks like
is added to what was seen before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import SAME_IOU, ious
from carvid.base.scale import resize, shrink_masks
from carvid.car.choice import NO_TRACK, Candidates
from carvid.car.step import StepResult
from carvid.config import TemporalConfig
from carvid.temporal.carry import MASK_LEVEL, to_levels
from carvid.temporal.colors import COLOR_BINS, count_colors
from carvid.temporal.observe import FrameContext
from carvid.temporal.state import TemporalState

COLOR_DECAY = 0.8
"""Weight of the colours seen so far against those of the next key frame."""


@dataclass(frozen=True)
class _NewTrack:
    """A candidate that is followed from this key frame on."""

    query: int
    candidates: Candidates
    """The query's candidates."""
    index: int
    """Which of them it is."""
    is_chosen: bool
    """The query is there, and has chosen it."""

    @property
    def source(self) -> int:
        """The track of the key frame before that its path comes from, or `NO_TRACK`."""
        return int(self.candidates.sources[self.index])


def after_key(
    context: FrameContext, result: StepResult, theta: float, config: TemporalConfig
) -> tuple[NDArray[np.bool_], NDArray[np.float32], TemporalState]:
    """Return a key frame's masks, and the state that it leaves.

    Args:
        context: the key frame.
        result: what CaR found in it.
        theta: θ: the path value of "not there" of queries that were not alive.
        config: settings.

    Returns:
        Masks, bool (N, H, W); the same as maps, float32 (N, h, w) of the flow's size, or what they
        were made from where masks are not carried; the state for the next frame.
    """
    tracks = _new_tracks(context.state, result, config)
    state = _state_at_key(context, result, tracks, theta)
    if context.gray is None:
        return result.masks, result.maps, state
    maps = shrink_masks(result.masks, (context.gray.shape[0], context.gray.shape[1]))
    levels = _track_maps(tracks, maps)
    inside = levels > MASK_LEVEL
    state = replace(
        state,
        areas=inside.sum(axis=(1, 2)),
        maps=levels,
        gray=context.gray,
        colors=_track_colors(context, tracks, inside),
    )
    return result.masks, maps, state


def after_carrying(context: FrameContext) -> TemporalState:
    """Return the state that a frame between two key frames leaves."""
    assert context.carried is not None
    return replace(
        context.state,
        since_key=context.state.since_key + 1,
        since_key_s=context.state.since_key_s + context.step_s,
        time_s=context.time_s,
        cut_history=context.cut_history,
        maps=context.carried,
        gray=context.gray,
        followed=None if context.state.followed is None else context.state.followed.between(),
    )


def _new_tracks(
    state: TemporalState, result: StepResult, config: TemporalConfig
) -> list[_NewTrack]:
    """The candidates that become tracks, in the order of their queries: one for a query that was
    there before, up to `temporal.tracks` for another one."""
    return [
        _NewTrack(
            query=query,
            candidates=candidates,
            index=index,
            is_chosen=index == candidates.best and bool(result.queries_kept[query]),
        )
        for query, candidates in sorted(result.candidates.items())
        for index in _distinct(candidates, 1 if state.key_frames_seen[query] else config.tracks)
    ]


def _distinct(candidates: Candidates, most: int) -> list[int]:
    """Up to so many candidates: the best one, then those with the highest path values that are not
    the same thing as one before."""
    binary = candidates.masks > 0.5
    found = [candidates.best]
    for index in np.argsort(-candidates.values, kind="stable").tolist():
        if len(found) == most:
            break
        if binary[index].any() and (ious(binary[[index]], binary[found]) <= SAME_IOU).all():
            found.append(index)
    return found


def _state_at_key(
    context: FrameContext, result: StepResult, tracks: Sequence[_NewTrack], theta: float
) -> TemporalState:
    """The state after a key frame, without what is carried: no maps, areas and colours."""
    state, alive, kept = context.state, context.alive, result.queries_kept
    assert alive is not None
    absent_values = np.full(len(alive), theta, np.float32)
    absent_sources = np.full(len(alive), NO_TRACK)
    for query, candidates in result.candidates.items():
        absent_values[query] = candidates.absent_value
        absent_sources[query] = candidates.absent_source
    chosen = np.full(len(alive), NO_TRACK)
    for number, track in enumerate(tracks):
        if track.is_chosen:
            chosen[track.query] = number
    return TemporalState(
        scores=np.where(alive, result.query_scores, state.scores),
        cosines=np.where(alive, result.query_cosines, state.cosines),
        absent_values=absent_values,
        absent_sources=absent_sources,
        chosen=chosen,
        misses=np.where(kept, 0, state.misses + alive),
        key_frames_seen=np.where(kept, state.key_frames_seen + 1, 0),
        owners=np.array([track.query for track in tracks], np.int64),
        values=np.array([track.candidates.values[track.index] for track in tracks], np.float32),
        sources=np.array([track.source for track in tracks], np.int64),
        areas=np.zeros(len(tracks), np.int64),
        colors=np.zeros((len(tracks), 2, COLOR_BINS), np.float32),
        since_offer=0 if alive.all() else state.since_offer + 1,
        time_s=context.time_s,
        cut_history=context.cut_history,
    )


def _track_maps(tracks: Sequence[_NewTrack], maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The tracks' maps, uint8 (M, h, w) in steps of 1/255: an expression's mask, of float32
    (N, h, w), for the track that it chose, if it is not empty; else the candidate as it is."""
    levels = np.zeros((len(tracks), *maps.shape[1:]), np.uint8)
    for level, track in zip(levels, tracks, strict=True):
        plane = track.candidates.masks[track.index]
        if track.is_chosen and track.query < len(maps) and maps[track.query].any():
            plane = maps[track.query]
        level[:] = to_levels(resize(plane[None], (maps.shape[1], maps.shape[2]))[0])
    return levels


def _track_colors(
    context: FrameContext, tracks: Sequence[_NewTrack], inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The colours in the tracks' masks, bool (M, h, w), and around them, added to those of the
    tracks that they come from: float32 (M, 2, C)."""
    assert context.colors is not None
    colors = np.zeros((len(tracks), 2, COLOR_BINS), np.float32)
    for counts, track, mask in zip(colors, tracks, inside, strict=True):
        counts[:] = count_colors(context.colors, mask)
        if track.source != NO_TRACK:
            counts += COLOR_DECAY * context.state.colors[track.source]
    return colors
