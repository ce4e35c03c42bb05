"""The causal pass: what each frame has by what it shows and what came before; no later one counts.

A key frame gets CaR's step; the frames between two of them get what is carried into them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import cut_masks
from carvid.car.step import StepResult
from carvid.config import TemporalConfig
from carvid.temporal.carrier import Carrier, FlowCarrier
from carvid.temporal.carry import select_maps
from carvid.temporal.observe import FrameContext, observe
from carvid.temporal.pending import CausalFrame
from carvid.temporal.seen import SeenFrame
from carvid.temporal.state import TemporalState
from carvid.temporal.update import after_carrying


class AnyFrame(Protocol):
    """What is needed of a frame."""

    @property
    def index(self) -> int:
        """From 0."""

    @property
    def time_s(self) -> float:
        """Seconds; NaN where it has none."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB."""


F = TypeVar("F", bound=AnyFrame)


def causal_pass(
    frames: Iterable[tuple[F, SeenFrame]],
    state: TemporalState,
    segment: Callable[[F, FrameContext], StepResult],
    count: int,
    config: TemporalConfig,
    *,
    theta: float,
    of_motion: Sequence[int] = (),
    always_there: Sequence[int] = (),
    carrier: Carrier | None = None,
) -> Iterator[CausalFrame]:
    """Yield each frame's masks and the state that it leaves.

    Args:
        frames: each with what it shows.
        state: what the frame before the first one left.
        segment: CaR's step on a key frame.
        count: N, the number of expressions.
        config: settings.
        theta: θ: the path value of "not there".
        of_motion: as of `observe`.
        always_there: likewise.
        carrier: carries the tracks; by flow, if not given.
    """
    carrier = carrier or FlowCarrier(config)
    carrier.begin(state)
    for frame, seen in frames:
        context = observe(
            state, seen, config, of_motion=of_motion, always_there=always_there,
            carry=partial(carrier.forward, image=frame.image),
        )  # fmt: skip
        if context.is_key:
            found = segment(frame, context)
            masks, maps, state = carrier.at_key(context, found, theta, frame.image)
        else:
            assert context.carried is not None
            state = after_carrying(context)
            maps = select_maps(context.carried, state.chosen, count, context.carried.shape[1:])
            masks = cut_masks(maps, frame.image)
        yield CausalFrame(
            index=frame.index, time_s=frame.time_s, image=frame.image, context=context,
            masks=masks, maps=maps, state=state,
        )  # fmt: skip
