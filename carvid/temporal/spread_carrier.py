"""What carries the things of a correction outward: flow, or a network that follows them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.config import TemporalConfig
from carvid.temporal.carry import (
    MASK_LEVEL,
    around,
    carry,
    correct_carried,
    from_levels,
    to_levels,
)
from carvid.temporal.colors import count_colors
from carvid.temporal.pending import KeptImage
from carvid.temporal.sam2_carrier import Follower
from carvid.temporal.seen import SeenFrame


class Thing:
    """A mask that is carried from frame to frame, with its colours.

    Args:
        mask: bool (h, w), of the flow's size.
        seen: the frame that it is in.
        config: settings.
    """

    def __init__(self, mask: NDArray[np.bool_], seen: SeenFrame, config: TemporalConfig) -> None:
        self._config = config
        self._counts = None if seen.colors is None else count_colors(seen.colors, mask)
        self.levels = to_levels(mask.astype(np.float32))
        """uint8 (h, w), in steps of 1/255: where it is."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool (h, w)."""
        return self.levels > MASK_LEVEL

    def take(self, mask: NDArray[np.bool_]) -> None:
        """Give it another shape, bool (h, w)."""
        self.levels = to_levels(mask.astype(np.float32))

    def go(self, frame: SeenFrame, to: SeenFrame, *, forward: bool) -> None:
        """Carry it from a frame into the one after it (`forward`) or before it, in one shot."""
        flow = to.flow if forward else frame.flow
        assert flow is not None and to.gray is not None
        carried = np.zeros_like(self.levels)
        pixel_map = flow.backward_map if forward else flow.forward_map
        box = around(pixel_map.leading_into(self.levels), self._config)
        if forward:
            levels, trust = carry([self.levels], pixel_map, box)[0], flow.trust[box]
        else:
            levels, there = carry([self.levels, to_levels(flow.trust)], pixel_map, box)
            trust = from_levels(there)
        if to.colors is not None and self._counts is not None:
            levels = correct_carried(
                levels, trust, to.gray[box], to.colors[box], self._counts, self._config
            )
        carried[box] = levels
        self.levels = carried


class SpreadCarrier(Protocol):
    """Carries things, called by numbers, from a corrected frame outward."""

    def tell(self, number: int, mask: NDArray[np.bool_], seen: SeenFrame) -> None:
        """Say where a thing is in the frame that has been reached, bool (h, w), of the flow's size;
        empty: it is not there."""

    def take(self, number: int, mask: NDArray[np.bool_]) -> None:
        """Give a thing that has come along the shape that the run has of it, bool (h, w)."""

    def drop(self, number: int) -> None:
        """Carry a thing no more."""

    def levels(self, number: int) -> NDArray[np.uint8]:
        """Return where a thing is, uint8 (h, w) in steps of 1/255."""

    def step(self, before: SeenFrame, seen: SeenFrame, image: KeptImage | None) -> None:
        """Carry all things from a frame into the next one outward, in one shot.

        Args:
            before: the frame.
            seen: the next one.
            image: its picture; flow needs none.
        """


class ByFlow:
    """Carries things by flow and colours.

    Args:
        config: settings.
        forward: whether it goes to later frames.
    """

    def __init__(self, config: TemporalConfig, *, forward: bool) -> None:
        self._config, self._forward = config, forward
        self._things: dict[int, Thing] = {}

    def tell(self, number: int, mask: NDArray[np.bool_], seen: SeenFrame) -> None:
        """Carry this mask and its colours; as `SpreadCarrier.tell`."""
        self._things[number] = Thing(mask, seen, self._config)

    def take(self, number: int, mask: NDArray[np.bool_]) -> None:
        """Carry this mask, with the colours of the one told; as `SpreadCarrier.take`."""
        self._things[number].take(mask)

    def drop(self, number: int) -> None:
        """As `SpreadCarrier.drop`."""
        del self._things[number]

    def levels(self, number: int) -> NDArray[np.uint8]:
        """As `SpreadCarrier.levels`."""
        return self._things[number].levels

    def step(self, before: SeenFrame, seen: SeenFrame, image: KeptImage | None) -> None:
        """Carry each thing; as `SpreadCarrier.step`."""
        for thing in self._things.values():
            thing.go(before, seen, forward=self._forward)


class ByFollower:
    """Carries things by a network that follows them.

    Args:
        follower: follows nothing yet, and has seen the corrected frame.
    """

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._levels: dict[int, NDArray[np.uint8]] = {}

    def tell(self, number: int, mask: NDArray[np.bool_], seen: SeenFrame) -> None:
        """Tell the network, which forgets what it had by this number; it follows nothing that is
        not there. As `SpreadCarrier.tell`."""
        if number in self._levels:
            self._follower.drop(number)
        self.take(number, mask)
        if mask.any():
            self._follower.add_mask(number, mask)

    def take(self, number: int, mask: NDArray[np.bool_]) -> None:
        """The network is told nothing, since it has the thing; as `SpreadCarrier.take`."""
        self._levels[number] = to_levels(mask.astype(np.float32))

    def drop(self, number: int) -> None:
        """As `SpreadCarrier.drop`."""
        self._follower.drop(number)
        del self._levels[number]

    def levels(self, number: int) -> NDArray[np.uint8]:
        """As `SpreadCarrier.levels`."""
        return self._levels[number]

    def step(self, before: SeenFrame, seen: SeenFrame, image: KeptImage | None) -> None:
        """Show the network the next frame; a flash is passed over. As `SpreadCarrier.step`."""
        assert seen.gray is not None and image is not None
        if seen.verdict == "flash":
            return
        found = self._follower.step(image.image(), (seen.gray.shape[0], seen.gray.shape[1]))
        for number, plane in zip(found.numbers, found.maps, strict=True):
            self._levels[number] = to_levels(plane)
