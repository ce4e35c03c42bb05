"""A clip's frames, read again from any one outward: to later frames, or to earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, takewhile

import numpy as np
from numpy.typing import NDArray

from carvid.config import TemporalConfig
from carvid.media.frames import Frame, VideoReader
from carvid.temporal.seen import SeenFrame, seen_frames

Outward = Iterator[tuple[Frame, SeenFrame]]
"""Frames with what they show. Between two that follow each other the later one's flow leads."""

LEAD = 16
"""So many frames before a piece are read, so that cuts, flashes and dissolves in it are seen as in
the run."""
PIECE_BYTES = 300_000_000
"""Going back, frames are read in pieces that take about so much memory ..."""
FEWEST, MOST = 2, 24
"""... of so many frames."""
FLOW_BYTES = 30
"""Of each pixel of the flow, about."""


FramesFrom = Callable[[int], Iterator[Frame]]
"""Yields a clip's frames from an index on."""


def frames_of(reader: VideoReader, times_s: NDArray[np.float64]) -> FramesFrom:
    """Return what yields a reader's frames from an index on; `times_s`, float64 (T,), when each of
    them is shown, so that a video need not be decoded from its beginning."""

    def frames_from(index: int) -> Iterator[Frame]:
        reader.known = (index - 1, float(times_s[index - 1])) if index else None
        return reader.frames(index)

    return frames_from


class Clip:
    """The frames of a clip that can be read again.

    Args:
        frames_from: yields them from an index on.
        size_hw: their height and width, pixels.
        config: settings.
    """

    def __init__(
        self, frames_from: FramesFrom, size_hw: tuple[int, int], config: TemporalConfig
    ) -> None:
        self._frames_from, self._size_hw, self._config = frames_from, size_hw, config

    def outward(self, index: int, *, forward: bool) -> Outward:
        """Yield frame `index` and those after it (`forward`) or before it, up to where its shot
        ends.

        Raises:
            VideoError: the clip cannot be read.
        """
        return self._later(index) if forward else self._earlier(index)

    def _later(self, index: int) -> Outward:
        frames_from = self._seen_from(index)
        yield from islice(frames_from, 1)
        yield from takewhile(lambda each: each[1].flow is not None, frames_from)

    def _earlier(self, index: int) -> Outward:
        size = self._piece_size()
        last = index
        while last >= 0:
            first = max(0, last + 1 - size)
            for frame, seen in reversed(self._piece(first, last)):
                yield frame, seen
                if seen.flow is None:  # the shot begins here
                    return
            last = first - 1

    def _piece(self, first: int, last: int) -> list[tuple[Frame, SeenFrame]]:
        """Frames from `first` to `last`."""
        return list(islice(self._seen_from(first), last + 1 - first))

    def _seen_from(self, index: int) -> Outward:
        """Frames from `index` on."""
        start = max(0, index - LEAD)
        frames = seen_frames(self._frames_from(start), None, self._config)
        return islice(frames, index - start, None)

    def _piece_size(self) -> int:
        height, width = self._size_hw
        pixels = height * width
        flow_pixels = pixels * min(1.0, self._config.flow_side / max(height, width)) ** 2
        size = int(PIECE_BYTES / (3 * pixels + FLOW_BYTES * flow_pixels))
        return max(FEWEST, min(MOST, size))
