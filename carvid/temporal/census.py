"""Which of all that was followed are things, when a clip is whole, and how they are counted.

A thing was found at several key frames, and scores nearly as its expression's best ones do. Tracks
that touch each other all the time are parts of one thing: what is beside another thing moves away
from it, or was apart from it, at some time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.config import InstancesConfig
from carvid.temporal.instance_state import InstanceFrame

TOUCH_SHARE = 0.9
"""Two tracks are parts of one thing where they touch in more than this share of the frames in which
the one that is seen less often is seen ..."""
REACH = 5
"""... with so many pixels between them, or fewer."""

Thing = tuple[int, ...]
"""The numbers of the tracks that are parts of one thing."""


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
    scores: list[float] = field(default_factory=list)
    """Its scores at the key frames where it is seen."""


class Census:
    """Counts, frame by frame, what is seen of each track."""

    def __init__(self) -> None:
        self._lives: dict[int, _Life] = {}
        self._touches: Counter[tuple[int, int]] = Counter()
        """In how many frames two tracks touch."""
        self._key_frames: Counter[int] = Counter()
        """Of each shot."""
        self._owners = 0
        """N, the number of expressions."""

    def add(self, frame: InstanceFrame) -> None:
        """Count a frame."""
        self._key_frames[frame.shot] += frame.is_key
        self._owners = max(self._owners, len(frame.best))
        seen = [row for row, mask in enumerate(frame.masks) if mask.any()]
        for row in seen:
            number, mask = frame.numbers[row], frame.masks[row]
            if number not in self._lives:
                columns = np.flatnonzero(mask.any(axis=0))
                left = float(columns[0] + columns[-1]) / 2
                self._lives[number] = _Life(frame.owners[row], frame.shot, frame.index, left)
            life = self._lives[number]
            life.frames += 1
            life.found += frame.found[row]
            if frame.is_key:
                life.scores.append(frame.scores[row])
        for one, other in combinations(seen, 2):
            if frame.owners[one] == frame.owners[other] and touch(*frame.masks[[one, other]]):
                self._touches[frame.numbers[one], frame.numbers[other]] += 1

    def things(self, config: InstancesConfig, most: int | None = None) -> list[list[Thing]]:
        """Return the things of each of the N expressions, in the order in which they appear; those
        that appear together from left to right.

        Args:
            config: settings.
            most: how many there may be of all expressions together; those that are seen in most
                frames are kept. None: any number.
        """
        kept = [
            each for owner in range(self._owners)
            for each in self._joined([n for n, life in self._lives.items() if life.owner == owner
                                      and self._is_found(life, config)], config)
        ]  # fmt: skip
        if most is not None:
            kept = sorted(kept, key=lambda each: (-self._frames(each), each))[:most]
        things: list[list[Thing]] = [[] for _ in range(self._owners)]
        for each in sorted(kept, key=self._place):
            things[self._lives[each[0]].owner].append(each)
        return things

    def _is_found(self, life: _Life, config: InstancesConfig) -> bool:
        return life.found >= min(config.confirm, self._key_frames[life.shot])

    def _joined(self, numbers: Collection[int], config: InstancesConfig) -> list[Thing]:
        """The things that tracks of one expression are."""
        groups: dict[int, set[int]] = {number: {number} for number in numbers}
        for (one, other), count in sorted(self._touches.items()):
            if one in groups and other in groups:
                less = min(self._lives[one].frames, self._lives[other].frames)
                if count > TOUCH_SHARE * less and groups[one] is not groups[other]:
                    groups[one] |= groups[other]
                    groups.update(dict.fromkeys(groups[other], groups[one]))
        things = {tuple(sorted(group)) for group in groups.values()}
        scores = {each: self._score(each) for each in things}
        best = max(scores.values(), default=0.0)
        return [each for each in things if scores[each] >= config.share * best]

    def _score(self, thing: Thing) -> float:
        """The mean score of a thing, of its best part."""
        return max(float(np.mean(self._lives[number].scores or [0])) for number in thing)

    def _frames(self, thing: Thing) -> int:
        return max(self._lives[number].frames for number in thing)

    def _place(self, thing: Thing) -> tuple[int, float, int]:
        lives = [(self._lives[n].first, self._lives[n].left, n) for n in thing]
        return min(lives)


def touch(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Return whether two masks, bool (H, W), are next to each other."""
    square = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
    return bool((np.asarray(cv2.dilate(one.astype(np.uint8), square), bool) & other).any())


def numbers_of(things: Sequence[Thing]) -> dict[int, int]:
    """Return which thing each track is a part of: its number → the thing's place, from 0."""
    return {number: place for place, thing in enumerate(things) for number in thing}
