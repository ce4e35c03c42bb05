"""Memory: a key frame's proposals, completed by the colours and the motion of their tracks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_around
from carvid.base.scale import resize
from carvid.car.choice import NO_TRACK, Candidates
from carvid.config import TemporalConfig
from carvid.temporal.colors import by_color, count_colors, log_odds
from carvid.temporal.flow import Flow
from carvid.temporal.motion import moving_along
from carvid.temporal.observe import FrameContext

PROPOSAL_BELIEF = 0.85
"""How far a key frame's proposal is believed against its colours, in [0, 1]."""
MOTION_BLUR = 2.0
"""Standard deviation, pixels of the flow, of the blur of a proposal that motion has changed."""

BLUR_MARGIN = 16
"""Twice as far as that blur reaches, pixels: with so much around what is blurred, the rest of the
picture makes no difference."""


def apply_memory(
    context: FrameContext,
    proposals: NDArray[np.float32],
    chosen: Sequence[Candidates],
    config: TemporalConfig,
) -> NDArray[np.float32]:
    """Complete a key frame's proposals: what has a track's colours and moves as it does joins its
    proposal, the rest leaves it.

    Args:
        context: the key frame.
        proposals: float32 (n, H, W) in [0, 1].
        chosen: for each proposal, the candidates whose best it is.
        config: settings.

    Returns:
        float32 (n, H, W) in [0, 1]; the proposals as they are where masks are not carried.
    """
    if context.gray is None:
        return proposals
    results = proposals.copy()
    for result, candidates in zip(results, chosen, strict=True):
        chance = resize(result[None], context.gray.shape)[0]
        if (chance > 0.5).any():
            source = int(candidates.sources[candidates.best])
            chance = _by_colors(chance, context, source, config)
            chance = by_motion(chance, context.flow, config)
            result[:] = resize(chance[None], result.shape)[0]
    return results


def _by_colors(
    chance: NDArray[np.float32], context: FrameContext, source: int, config: TemporalConfig
) -> NDArray[np.float32]:
    """A map, float32 (h, w), given the colours of the track `source`; of a new one (`NO_TRACK`),
    given the colours that it covers itself."""
    assert context.colors is not None
    if not config.color:
        return chance
    mask = chance > 0.5
    is_new = source == NO_TRACK
    counts = count_colors(context.colors, mask) if is_new else context.state.colors[source]
    box = box_around(mask, share=0.5)
    result = np.zeros_like(chance)
    odds = config.color * log_odds(counts)[context.colors[box]]
    result[box] = by_color(chance[box], odds, PROPOSAL_BELIEF)
    return result


def by_motion(
    chance: NDArray[np.float32], flow: Flow | None, config: TemporalConfig
) -> NDArray[np.float32]:
    """Return a map, float32 (h, w), mixed with what moves along."""
    if flow is None or not config.motion:
        return chance
    mask = chance > 0.5
    moved = moving_along(mask, flow)
    if (moved == mask).all():
        return chance
    result, box = np.zeros_like(chance), box_around(moved | (chance > 0), margin=BLUR_MARGIN)
    mixed = config.motion * moved[box] + (1 - config.motion) * chance[box]
    result[box] = cv2.GaussianBlur(mixed.astype(np.float32), (0, 0), MOTION_BLUR)
    return result
