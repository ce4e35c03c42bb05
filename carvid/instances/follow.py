"""Frames and expressions in, every thing of an expression out, frame by frame; no files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import resize
from carvid.car.instance_segmenter import InstanceSegmenter
from carvid.car.queries import Queries
from carvid.config import Config
from carvid.media.open import Frame
from carvid.temporal.carry import from_levels
from carvid.temporal.instance_carrier import FlowInstances, InstanceCarrier
from carvid.temporal.instance_carry import InstanceContext, meet_frame
from carvid.temporal.instance_state import InstanceFrame, InstanceState
from carvid.temporal.instances import after_key_frame, between_key_frames, seen_tracks
from carvid.temporal.seen import SeenFrame


def instance_pass(
    frames: Iterable[tuple[Frame, SeenFrame]],
    state: InstanceState,
    segmenter: InstanceSegmenter,
    queries: Queries,
    config: Config,
    *,
    carrier: InstanceCarrier | None = None,
) -> Iterator[tuple[InstanceFrame, InstanceState]]:
    """Yield what each frame shows of all that is followed, and the state that it leaves.

    Args:
        frames: each with what it shows, whatever is looked for.
        state: what the frame before the first one left.
        segmenter: finds things in a key frame.
        queries: the expressions all of whose things are wanted; distractors compete.
        config: settings; masks are carried (`temporal.carry_masks`).
        carrier: carries the tracks; by flow, if not given.

    Raises:
        ValueError: nobody can go on from the state.
    """
    carrier = carrier or FlowInstances(config.temporal)
    carrier.begin(state)
    for frame, seen in frames:
        context = meet_frame(
            state, seen, config.temporal, config.instances,
            carry_things=partial(carrier.forward, image=frame.image),
        )  # fmt: skip
        if context.is_key:
            state, shown = _key_frame(frame, context, segmenter, queries, config, carrier)
        else:
            state, shown = between_key_frames(context, frame.image)
        yield replace(shown, index=frame.index, time_s=frame.time_s), state


def _key_frame(
    frame: Frame,
    context: InstanceContext,
    segmenter: InstanceSegmenter,
    queries: Queries,
    config: Config,
    carrier: InstanceCarrier,
) -> tuple[InstanceState, InstanceFrame]:
    """What a key frame leaves, and what it shows."""
    image = frame.image
    size_hw, count = segmenter.size_of(image), len(queries.texts)
    followed = [resize(_maps(context.state, owner, size_hw), size_hw) for owner in range(count)]
    detections = segmenter.find(image, queries, followed)

    def sharpen(maps: NDArray[np.float32]) -> NDArray[np.bool_]:
        return segmenter.sharpen(image, maps)

    standing = carrier.standing(context, image)
    state, shown = after_key_frame(
        context, detections, sharpen, (image.shape[0], image.shape[1]), config.car.theta,
        config.temporal, config.instances, standing,
    )  # fmt: skip
    state = carrier.at_key(context, state, standing, image)
    return state, replace(shown, best=tuple(each.best for each in detections))


def _maps(state: InstanceState, owner: int, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """The maps of an expression's tracks that are asked for, float32 (K, h, w) in [0, 1]."""
    levels = [track.levels for track in seen_tracks(state, owner)]
    return from_levels(np.stack(levels)) if levels else np.zeros((0, *size_hw), np.float32)
