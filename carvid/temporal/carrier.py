"""What carries masks from frame to frame, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.car.step import StepResult
from carvid.config import TemporalConfig
from carvid.temporal.backward import carry_back
from carvid.temporal.carry import carry_tracks
from carvid.temporal.observe import FrameContext
from carvid.temporal.pending import PendingFrame
from carvid.temporal.seen import SeenFrame
from carvid.temporal.state import TemporalState
from carvid.temporal.update import after_key


class Carrier(Protocol):
    """Carries masks of a frame into the next one, and those of a key frame into those before it."""

    @property
    def looks_back(self) -> bool:
        """Whether `backward` looks at the frames' images."""

    def begin(self, state: TemporalState) -> None:
        """Go on after the frame that left a state.

        Raises:
            ValueError: nobody can go on from there.
        """

    def forward(
        self, state: TemporalState, seen: SeenFrame, image: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Carry the tracks into the next frame.

        Args:
            state: what the frame before left.
            seen: the next frame; no shot begins there, and it is no flash.
            image: uint8 (H, W, 3) RGB: the same frame.

        Returns:
            uint8 (M, h, w), in steps of 1/255.
        """

    def at_key(
        self,
        context: FrameContext,
        result: StepResult,
        theta: float,
        image: NDArray[np.uint8],
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], TemporalState]:
        """Return a key frame's masks, and the state that it leaves; as `update.after_key`.

        Args:
            context: the key frame.
            result: what CaR found in it.
            theta: θ: the path value of "not there" of queries that were not alive.
            image: uint8 (H, W, 3) RGB: the same frame.
        """

    def backward(
        self,
        frames: Sequence[PendingFrame],
        key: PendingFrame,
        maps: NDArray[np.float32],
        colors: NDArray[np.float32],
        known: NDArray[np.bool_],
    ) -> list[NDArray[np.uint8]]:
        """Carry a key frame's maps into the frames before it; as `backward.carry_back`."""


class FlowCarrier:
    """Carries masks by optical flow, corrected by their colours and the frame's edges.

    Args:
        config: settings.
    """

    def __init__(self, config: TemporalConfig) -> None:
        self._config = config

    @property
    def looks_back(self) -> bool:
        """No: motion and colours are enough."""
        return False

    def begin(self, state: TemporalState) -> None:
        """Go on after any frame: a state is all that there is."""

    def forward(
        self, state: TemporalState, seen: SeenFrame, image: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Carry the tracks into the next frame; as `Carrier.forward`."""
        return carry_tracks(state, seen, self._config)

    def at_key(
        self,
        context: FrameContext,
        result: StepResult,
        theta: float,
        image: NDArray[np.uint8],
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], TemporalState]:
        """Return CaR's masks, and the state that they leave; as `Carrier.at_key`."""
        return after_key(context, result, theta, self._config)

    def backward(
        self,
        frames: Sequence[PendingFrame],
        key: PendingFrame,
        maps: NDArray[np.float32],
        colors: NDArray[np.float32],
        known: NDArray[np.bool_],
    ) -> list[NDArray[np.uint8]]:
        """Carry a key frame's maps into the frames before it; as `Carrier.backward`."""
        return carry_back(frames, key, maps, colors, known, self._config)
