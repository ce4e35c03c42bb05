"""Masks as COCO's run lengths.

They are decoded here, as pycocotools (2.0.11) gives back whatever lay in memory where runs do not
fill the picture.

Runs of background and mask take turns, background first, column by column. Compressed, a run is a
number of 5 bits a letter, lowest first, and from the fourth on the difference to the run before the
last one (`rleToString` of COCO's API).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIRST_LETTER = 48
"""The letter of 0, `0`."""
BITS = 5
"""Of a number, in a letter; a sixth says that more follow."""
MORE, SIGN = 0x20, 0x10
MAX_LETTERS = 7
"""Of a number; more than any picture's run takes."""


@dataclass(frozen=True)
class RunLengths:
    """A mask."""

    size_hw: tuple[int, int]
    counts: bytes | tuple[int, ...]
    """Compressed, or the runs as they are."""

    @classmethod
    def of_coco(cls, value: Mapping[str, Any]) -> RunLengths:
        """Take `{"size": [H, W], "counts": …}`, as COCO's API writes it.

        Raises:
            KeyError, TypeError, ValueError: it is of another form.
        """
        height, width = (int(side) for side in value["size"])
        if height < 1 or width < 1:
            raise ValueError(f"its size is {height}×{width}")
        counts = value["counts"]
        if isinstance(counts, str):
            return cls((height, width), counts.encode("ascii"))
        if isinstance(counts, bytes):
            return cls((height, width), counts)
        return cls((height, width), tuple(int(count) for count in counts))

    def decode(self) -> NDArray[np.bool_]:
        """Return the mask, bool (H, W).

        Raises:
            ValueError: the runs do not fill the picture, or are none.
        """
        height, width = self.size_hw
        runs = _runs(self.counts) if isinstance(self.counts, bytes) else np.array(self.counts, int)
        if (runs < 0).any() or runs.sum() != height * width:
            raise ValueError(f"its runs do not fill {height}×{width} pixels")
        inside = np.arange(len(runs)) % 2 == 1
        return np.repeat(inside, runs).reshape(width, height).T


def _runs(letters: bytes) -> NDArray[np.int64]:
    """Runs of a compressed mask, int64 (N,)."""
    codes = np.frombuffer(letters, np.uint8).astype(np.int64) - FIRST_LETTER
    last = (codes & MORE) == 0
    if len(codes) == 0 or not last[-1] or codes.min() < 0 or codes.max() >= 2 * MORE:
        raise ValueError("its letters are no compressed runs")
    ends = np.flatnonzero(last)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if lengths.max() > MAX_LETTERS:
        raise ValueError("its letters are no compressed runs")
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & (MORE - 1)) << (BITS * places), starts)
    negative = (codes[ends] & SIGN) != 0
    values -= np.where(negative, np.int64(1) << (BITS * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
