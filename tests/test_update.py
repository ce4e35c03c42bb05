"""The state that a key frame leaves: its tracks, their maps, colours and path values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from carvid.car.choice import NO_TRACK, Candidates
from carvid.car.step import StepResult
from carvid.config import TemporalConfig
from carvid.temporal.carry import MASK_LEVEL
from carvid.temporal.colors import count_colors
from carvid.temporal.observe import FrameContext
from carvid.temporal.state import TemporalState
from carvid.temporal.update import COLOR_DECAY, after_key
from tests.squares import SIZE_HW, box, meet, two_colors

CONFIG = TemporalConfig(tracks=3)
HERE, NEARLY_HERE, THERE = box(60), box(62), box(130)
THETA = 0.3


def key_frame(queries: int = 2) -> FrameContext:
    """The first frame of a shot."""
    return meet(TemporalState.initial(queries), two_colors()[0], CONFIG)


def result(kept: list[bool], mask: NDArray[np.float32] = HERE) -> StepResult:
    """One expression, which has three candidates, and one distractor that was not alive."""
    values = np.array([0.9, 0.8, 0.7], np.float32)
    candidates = Candidates(
        masks=np.stack([HERE, NEARLY_HERE, THERE]), scores=values, values=values,
        sources=np.array([NO_TRACK, NO_TRACK, NO_TRACK]), absent_value=0.4,
        absent_source=NO_TRACK, best=0,
    )  # fmt: skip
    return StepResult(
        maps=mask[None], masks=mask[None] > 0.5,
        query_scores=np.array([0.9, 0], np.float32),
        query_cosines=np.array([0.2, np.nan], np.float32),
        queries_kept=np.array(kept), candidates={0: candidates},
    )  # fmt: skip


def test_distinct_candidates_become_tracks() -> None:
    masks, maps, state = after_key(key_frame(), result([True, False]), THETA, CONFIG)
    assert (masks[0] == (HERE > 0.5)).all() and (maps[0] == HERE).all()
    assert state.owners.tolist() == [0, 0]  # of two that are nearly the same, one
    assert state.values.tolist() == [np.float32(0.9), np.float32(0.7)]
    assert state.chosen.tolist() == [0, NO_TRACK]
    assert state.maps is not None
    assert (state.maps > MASK_LEVEL).tolist() == (np.stack([HERE, THERE]) > 0.5).tolist()
    assert state.areas.tolist() == [400, 400]
    assert state.absent_values.tolist() == [np.float32(0.4), np.float32(THETA)]
    assert state.misses.tolist() == [0, 1] and state.key_frames_seen.tolist() == [1, 0]


def test_the_chosen_track_has_the_mask_and_another_one_its_candidate() -> None:
    sharpened = box(64)
    for kept, first in ((True, sharpened), (False, HERE)):
        state = after_key(key_frame(), result([kept, False], sharpened), THETA, CONFIG)[2]
        assert state.maps is not None and state.chosen[0] == (0 if kept else NO_TRACK)
        assert ((state.maps[0] > MASK_LEVEL) == (first > 0.5)).all()
        assert ((state.maps[1] > MASK_LEVEL) == (THERE > 0.5)).all()


def test_a_known_query_has_one_track_which_keeps_its_colors() -> None:
    context = key_frame()
    assert context.colors is not None
    before = np.ones((1, 2, *count_colors(context.colors, HERE > 0.5).shape[1:]), np.float32)
    known = replace(context.state, colors=before, key_frames_seen=np.array([1, 0]))
    found = result([True, False])
    sources = np.array([0, NO_TRACK, NO_TRACK])
    found.candidates[0] = replace(found.candidates[0], sources=sources)
    state = after_key(replace(context, state=known), found, THETA, CONFIG)[2]
    assert state.sources.tolist() == [0] and state.key_frames_seen.tolist() == [2, 0]
    expected = count_colors(context.colors, HERE > 0.5) + np.float32(COLOR_DECAY)
    np.testing.assert_allclose(state.colors[0], expected, rtol=1e-6)


def test_nothing_is_carried_where_masks_are_not() -> None:
    config = replace(CONFIG, carry_masks=False)
    context = meet(TemporalState.initial(2), two_colors()[0], config)
    masks, maps, state = after_key(context, result([True, False]), THETA, config)
    assert masks.shape == maps.shape == (1, *SIZE_HW)
    assert state.maps is None and state.gray is None and len(state.owners) == 2
    assert state.path_values(1).tolist() == [1]
