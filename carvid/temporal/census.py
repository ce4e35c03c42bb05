"""Which of all that was followed are things, when a clip is whole, and how they are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from carvid.temporal.instance_state import InstanceFrame


@dataclass
class _Life:
    """What is known of one track."""

    owner: int
    """The expression's index."""
    shot: int
    """The shot that it is of."""
    first: int
    """The index of the frame where it was first seen ..."""
    left: float
    """... and where its middle was in that, from the left, pixels."""
    frames: int = 0
    """In how many frames it is seen."""
    found: int = 0
    """At how many key frames it was found."""


class Census:
    """Counts, frame by frame, what is seen of each track."""

    def __init__(self) -> None:
        self._lives: dict[int, _Life] = {}
        self._key_frames: Counter[int] = Counter()
        """Of each shot."""
        self._owners = 0
        """N, the number of expressions."""

    def add(self, frame: InstanceFrame) -> None:
        """Count a frame."""
        self._key_frames[frame.shot] += frame.is_key
        self._owners = max(self._owners, len(frame.best))
        for number, owner, found, mask in zip(
            frame.numbers, frame.owners, frame.found, frame.masks, strict=True
        ):
            if not mask.any():
                continue
            if number not in self._lives:
                columns = np.flatnonzero(mask.any(axis=0))
                left = float(columns[0] + columns[-1]) / 2
                self._lives[number] = _Life(owner, frame.shot, frame.index, left)
            life = self._lives[number]
            life.frames += 1
            life.found += found

    def things(self, confirm: int, most: int | None = None) -> list[tuple[int, ...]]:
        """Return the numbers of the tracks that are things, of each of the N expressions, in the
        order in which they appear; those that appear together from left to right.

        Args:
            confirm: a thing was found at so many key frames, or at each of its shot, if that has
                fewer.
            most: how many there may be of all expressions together; those that are seen in most
                frames are kept. None: any number.
        """
        lives = {
            number: life for number, life in self._lives.items()
            if life.found >= min(confirm, self._key_frames[life.shot])
        }  # fmt: skip
        if most is not None and len(lives) > most:
            longest = sorted(lives, key=lambda number: (-lives[number].frames, number))[:most]
            lives = {number: lives[number] for number in longest}
        return [tuple(_in_order(lives, owner)) for owner in range(self._owners)]


def _in_order(lives: dict[int, _Life], owner: int) -> Iterable[int]:
    mine = [number for number, life in lives.items() if life.owner == owner]
    return sorted(mine, key=lambda number: (lives[number].first, lives[number].left, number))
