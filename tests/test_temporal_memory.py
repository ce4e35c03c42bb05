"""A key frame's proposals, completed by colours and by what moves along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from carvid.base.masks import iou
from carvid.car.choice import NO_TRACK, Candidates
from carvid.config import TemporalConfig
from carvid.temporal.colors import count_colors
from carvid.temporal.flow import flow_between, to_gray
from carvid.temporal.memory import apply_memory
from carvid.temporal.motion import moving_along
from carvid.temporal.observe import FrameContext
from carvid.temporal.state import TemporalState
from tests.squares import SIZE_HW, meet, moving, two_colors


def test_what_moves_along_joins_a_mask() -> None:
    (first, _), (second, now) = moving(2, step=8)
    flow = flow_between(to_gray(first, 854), to_gray(second, 854))
    half = now.copy()
    half[64:] = False
    leaking = now | np.roll(now, -24, axis=0)
    assert iou(moving_along(half, flow), now) > iou(half, now) + 0.1
    assert iou(moving_along(leaking, flow), now) > iou(leaking, now) + 0.1
    still = flow_between(to_gray(first, 854), to_gray(first, 854))
    assert (moving_along(half, still) == half).all()


def test_a_proposal_recalls_the_colors_of_its_track() -> None:
    image, mask = two_colors()
    config, state = TemporalConfig(motion=0), TemporalState.initial(1)
    context = meet(state, image, config)
    assert context.colors is not None
    blob = np.zeros((1, *SIZE_HW), np.float32)
    blob[0, 44:70, 64:126] = 0.6  # half of the thing, and some of what is beside it

    def recalled(source: int, context: FrameContext) -> float:
        values = np.ones(1, np.float32)
        candidates = Candidates(
            masks=blob, scores=values, values=values, sources=np.array([source]),
            absent_value=0.3, absent_source=NO_TRACK, best=0,
        )  # fmt: skip
        return iou(apply_memory(context, blob, [candidates], config)[0] > 0.5, mask)

    counts = count_colors(context.colors, mask)[None]
    known = replace(context, state=replace(state, colors=counts))
    # By its own colours it only leaves what is beside the thing.
    assert recalled(0, known) > 0.85 > recalled(NO_TRACK, context) > iou(blob[0] > 0.5, mask)
    unseen = replace(context, seen=replace(context.seen, gray=None))
    assert (apply_memory(unseen, blob, [], config) == blob).all()


def test_a_part_that_was_never_carried_joins_by_its_motion() -> None:
    (first, _), (second, now) = moving(2, step=8)
    half = now.copy()
    half[64:] = False
    config = TemporalConfig(color=0)
    state = replace(
        TemporalState.initial(1), gray=to_gray(first, 854), maps=np.zeros((0, *SIZE_HW), np.uint8)
    )
    context = replace(meet(state, second, config), carried=half[None] * np.uint8(255))
    proposal, values = half[None].astype(np.float32), np.ones(1, np.float32)
    candidates = Candidates(
        masks=proposal, scores=values, values=values, sources=np.array([0]),
        absent_value=0.3, absent_source=NO_TRACK, best=0,
    )  # fmt: skip
    found = apply_memory(context, proposal, [candidates], config)[0]
    missed = now & ~half
    missed[70:] = False  # no further than its motion is looked for
    assert found[missed].mean() > 0.8 * config.motion
    still = apply_memory(context, proposal, [candidates], replace(config, motion=0))[0]
    assert still[missed].mean() < 0.1
