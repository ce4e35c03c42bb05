"""When images are shown: at a frame rate, or at times of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

from carvid.media.container import DEFAULT_FRAME_RATE
from carvid.media.frames import Selection, VideoInfo

MAX_DENOMINATOR = 1001
"""Of a mean frame rate."""


@dataclass
class ImageClock:
    """When each of an input's images is shown, seconds from the first."""

    times_s: list[float]
    end_s: float
    """When the last one is no longer shown."""
    frame_rate: Fraction
    own: bool
    """The times are the input's own."""
    _ends_s: dict[int, float] | None = None
    """When those that are read give way to the next."""

    @classmethod
    def of(
        cls, count: int, frame_rate: Fraction | None, lasts_s: Sequence[float] | None
    ) -> ImageClock:
        """Return that of images with a frame rate, or of which each lasts so long."""
        if lasts_s is None:
            rate = frame_rate or DEFAULT_FRAME_RATE
            return cls([float(k / rate) for k in range(count)], float(count / rate), rate, False)
        *times_s, end_s = (round(time_s, 9) for time_s in accumulate(lasts_s, initial=0.0))
        rate = Fraction(count / end_s).limit_denominator(MAX_DENOMINATOR)
        return cls(times_s, end_s, rate or Fraction(1, MAX_DENOMINATOR), True)

    def choose(self, selection: Selection) -> list[int]:
        """Return the positions of the images that are read, and note how long each is shown."""
        chosen = list(selection.chosen(self.times_s))
        if self.own and chosen:
            last_s = self.end_s if selection.end_s is None else min(self.end_s, selection.end_s)
            ends_s = [*(self.times_s[k] for k in chosen[1:]), last_s]
            self._ends_s = dict(zip(chosen, ends_s, strict=True))
        return chosen

    def shown_s(self, position: int) -> float:
        """Return how long an image that is read is shown, seconds; NaN if the frame rate tells."""
        end_s = math.nan if self._ends_s is None else self._ends_s.get(position, math.nan)
        return end_s - self.times_s[position]

    def info(
        self, path: str | Path, size_hw: tuple[int, int], count: int, selection: Selection
    ) -> VideoInfo:
        """Return what is known of images of a size, of which so many are read."""
        return VideoInfo(
            str(path), "images", selection.size_hw(size_hw), self.frame_rate, count,
            selection=selection, own_times=self.own,
        )  # fmt: skip
