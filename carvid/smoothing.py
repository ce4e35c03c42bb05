"""Look ahead: decide a key frame when some further ones have been seen.

The path that is worth most at a later key frame is followed back to the one that is decided
(fixed-lag smoothing); between two key frames, masks are carried from both of them. Memory is that
of `temporal.lag` key frames and what lies between, large images as JPEGs; a cut ends the wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.car.choice import NONE, SAME
from carvid.config import TemporalConfig
from carvid.flow import Places, carry
from carvid.scale import Waiting, cut, shrink_masks
from carvid.temporal import (
    HALF,
    Arrival,
    TemporalState,
    from_levels,
    settle,
    taken,
    to_levels,
)
from carvid.tracks import FrameResult

Sharpen = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.bool_]]
"""Turns proposals, float32 (n, H, W), of an image, uint8 (H, W, 3), into masks, bool (n, H, W)."""


@dataclass(frozen=True)
class Step:
    """A frame as the causal pass leaves it."""

    image: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""
    arrival: Arrival
    result: FrameResult


@dataclass(frozen=True)
class _Held:
    """What is kept of a frame that waits."""

    index: int
    time_s: float
    size_hw: tuple[int, int]
    state: TemporalState
    colors: NDArray[np.uint16] | None
    """uint16 (h, w); None in a flash."""
    onward: Places | None
    """Where the pixels of the frame before have gone."""
    trust: NDArray[np.uint8] | None
    """uint8 (h, w): how far to believe where this frame's pixels came from, in steps of 1/255."""
    image: Waiting | None
    """RGB of a key frame; grey of one between that is larger than its maps."""
    maps: NDArray[np.uint8] | None
    """uint8 (N, h, w), of a key frame: its masks, in steps of 1/255."""
    masks: NDArray[np.uint8] | None
    """uint8: the same, bool (N, H, W), as bits."""

    @classmethod
    def of(cls, step: Step) -> _Held:
        result, arrival = step.result, step.arrival
        is_key = arrival.asked is not None
        return cls(
            result.index,
            result.time_s,
            (step.image.shape[0], step.image.shape[1]),
            result.state,
            arrival.colors,
            None if arrival.flow is None else arrival.flow.onward,
            None if arrival.flow is None else to_levels(arrival.flow.trust),
            _waiting(step),
            to_levels(result.maps) if is_key else None,
            np.packbits(result.masks) if is_key else None,
        )

    @property
    def is_key(self) -> bool:
        return self.masks is not None

    def unpacked(self) -> NDArray[np.bool_]:
        """The masks of a key frame, bool (N, H, W)."""
        assert self.masks is not None and self.maps is not None
        shape = (len(self.maps), *self.size_hw)
        return np.unpackbits(self.masks, count=math.prod(shape)).reshape(shape).view(bool)

    def cut(self, maps: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The masks, bool (N, H, W), of a frame between that maps, float32 (N, h, w), become."""
        assert self.state.gray is not None
        return cut(maps, self.state.gray if self.image is None else self.image.image())


def _waiting(step: Step) -> Waiting | None:
    """What of a frame's image is still needed when it is decided."""
    if step.arrival.asked is not None:
        return Waiting(step.image)
    if step.arrival.gray is None or step.arrival.gray.shape == step.image.shape[:2]:
        return None
    return Waiting(np.asarray(cv2.cvtColor(step.image, cv2.COLOR_RGB2GRAY), np.uint8))


def smooth(
    steps: Iterable[Step],
    count: int,
    config: TemporalConfig,
    sharpen: Sharpen,
    *,
    present: str = "ask",
) -> Iterator[FrameResult]:
    """Yield each frame's result, `config.lag` key frames late.

    Args:
        steps: the causal pass.
        count: N, the number of expressions.
        config: settings.
        sharpen: for a mask that is chosen only now.
        present: `car.present`, what is there whatever it scores.
    """
    smoother = _Smoother(count, config, sharpen, present)
    for step in steps:
        if step.arrival.is_fresh:
            yield from smoother.finish()
            smoother = _Smoother(count, config, sharpen, present)
        yield from smoother.add(step)
    yield from smoother.finish()


class _Smoother:
    """The frames of one shot that are not decided yet."""

    def __init__(self, count: int, config: TemporalConfig, sharpen: Sharpen, present: str) -> None:
        self._count, self._config, self._sharpen = count, config, sharpen
        self._present = present
        self._waiting: list[_Held] = []
        self._before: NDArray[np.int64] | None = None
        """The tracks that were chosen at the last decided key frame."""

    def add(self, step: Step) -> Iterator[FrameResult]:
        """Take a frame; yield those that it decides."""
        if not self._waiting and self._before is None:
            self._before = step.arrival.state.smoothed  # of a run that goes on
        self._waiting.append(_Held.of(step))
        if sum(held.is_key for held in self._waiting) > self._config.lag:
            yield from self._decide()

    def finish(self) -> Iterator[FrameResult]:
        """Yield the rest: nothing more comes."""
        while any(held.is_key for held in self._waiting):
            yield from self._decide()
        yield from self._between(self._waiting, [])
        self._waiting = []

    def _decide(self) -> Iterator[FrameResult]:
        """Yield the frames up to the first waiting key frame."""
        keys = [held for held in self._waiting if held.is_key]
        key, chosen = keys[0], keys[-1].state.chosen
        for later in reversed(keys[1:]):
            chosen = _source(later.state, chosen)
        chosen = self._with_present(chosen, key.state)
        position, (maps, masks) = self._waiting.index(key), self._maps(key, chosen)
        before, self._waiting = self._waiting[:position], self._waiting[position + 1 :]
        yield from self._between(before, self._carried_back(before, key, maps, chosen))
        self._before = chosen
        yield self._result(key, maps, masks, chosen)

    def _with_present(self, chosen: NDArray[np.int64], state: TemporalState) -> NDArray[np.int64]:
        """The chosen tracks, and where it is known that something is there (`car.present`), but
        none was chosen, those of the causal pass."""
        lost = chosen == NONE
        lost[self._count :] = False
        if self._present == "ask" or (self._present == "best" and not lost[: self._count].all()):
            return chosen
        return np.where(lost, state.chosen, chosen)

    def _maps(
        self, key: _Held, chosen: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """A key frame's chosen tracks as maps, float32 (N, h, w), and masks, bool (N, H, W)."""
        state, count = key.state, self._count
        assert key.image is not None and key.maps is not None and state.maps is not None
        maps, masks = from_levels(key.maps), key.unpacked()
        other = np.flatnonzero(chosen[:count] != state.chosen[:count])
        maps[other], masks[other] = 0, False
        found = other[chosen[other] != NONE]
        if len(found):
            tracks = from_levels(state.maps[chosen[found]])
            masks[found] = self._sharpen(key.image.image(), tracks)
            maps[found] = shrink_masks(masks[found], _small_size(key))
            if self._present == "each":
                gone = ~masks[found].any(axis=(1, 2))
                maps[found[gone]] = tracks[gone]
                masks[found[gone]] = key.cut(tracks[gone])
        return maps, masks

    def _carried_back(
        self,
        frames: list[_Held],
        key: _Held,
        maps: NDArray[np.float32],
        chosen: NDArray[np.int64],
    ) -> list[NDArray[np.uint8]]:
        """Carry the maps of a key frame's chosen tracks into the frames before it: uint8 (N, h, w)
        for each, in steps of 1/255.

        Of things that were not known before, only what is surely seen in a frame goes on to the one
        before, and nothing if that is little: they have come into the picture then.
        """
        if not frames:
            return []
        assert self._before is not None
        known = self._before[: self._count] != NONE
        carried: list[NDArray[np.uint8]] = []
        levels, later = to_levels(maps), key
        for held in reversed(frames):
            assert held.state.gray is not None
            assert later.onward is not None and later.trust is not None
            for query in np.flatnonzero(~known):
                levels[query] = self._seen_before(levels[query], later.trust)
            planes = carry(np.concatenate([levels, later.trust[None]]), later.onward)
            levels, trust = planes[:-1], from_levels(planes[-1])
            there = np.flatnonzero(chosen[: self._count] != NONE)
            for query in there if held.colors is not None else ():
                assert held.colors is not None
                levels[query] = settle(
                    levels[query], trust, held.state.gray, held.colors,
                    key.state.colors[chosen[query]], self._config,
                )  # fmt: skip
            carried.insert(0, levels)
            levels, later = levels.copy(), held
        return carried

    def _seen_before(
        self, levels: NDArray[np.uint8], trust: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """What of a map was in the frame before, both uint8 (h, w), in steps of 1/255."""
        inside = trust[levels > HALF]
        if not len(inside) or inside.mean() < 255 * self._config.min_trust:
            return np.zeros_like(levels)
        return to_levels(from_levels(levels) * from_levels(trust))

    def _between(
        self, frames: list[_Held], behind: list[NDArray[np.uint8]]
    ) -> Iterator[FrameResult]:
        """Fuse what was carried from the key frame before with what the next one, if there is one,
        carries `behind`, a map for each frame."""
        for position, held in enumerate(frames):
            assert self._before is not None and held.state.maps is not None
            maps = taken(held.state.maps, self._before, self._count, _small_size(held))
            if behind:
                nearness = held.state.since_key / (held.state.since_key + len(frames) - position)
                later = from_levels(behind[position])
                new = held.state.settled[: self._count] == 1
                sides = zip(maps, later, new, strict=True)
                maps = np.stack(
                    [mix(before, after, nearness, new=bool(each)) for before, after, each in sides]
                )
            masks = held.cut(maps)
            if self._present == "each":  # the causal pass has lost none of them
                gone = ~masks.any(axis=(1, 2))
                held_maps = taken(held.state.maps, held.state.chosen, self._count, maps.shape[1:])
                maps[gone] = held_maps[gone]
                masks[gone] = held.cut(held_maps[gone])
            yield self._result(held, maps, masks, self._before)

    @staticmethod
    def _result(
        held: _Held,
        maps: NDArray[np.float32],
        masks: NDArray[np.bool_],
        chosen: NDArray[np.int64],
    ) -> FrameResult:
        state = replace(held.state, smoothed=chosen)
        count = len(maps)
        return FrameResult(held.index, held.time_s, masks, maps, state.scores[:count], state)


def mix(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    nearness: float,
    *,
    new: bool = False,
) -> NDArray[np.float32]:
    """Return one map of the two that key frames on both sides carry into a frame.

    What both take for the same thing is mixed by how near they are; of a new thing it is the later
    one's, which has seen it move. Of two different things the nearer one's is taken, and where one
    of them has nothing, the other's.

    Args:
        before: float32 (h, w) in [0, 1].
        after: likewise.
        nearness: of `after`, in [0, 1].
        new: the thing was first seen at the earlier one.
    """
    earlier, later = before > 0.5, after > 0.5
    both, either = np.count_nonzero(earlier & later), np.count_nonzero(earlier | later)
    if both > SAME * either:
        return after if new else before + np.float32(nearness) * (after - before)
    return after if later.any() and (nearness > 0.5 or not earlier.any()) else before


def _small_size(held: _Held) -> tuple[int, int]:
    assert held.state.gray is not None
    return held.state.gray.shape[0], held.state.gray.shape[1]


def _source(state: TemporalState, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tracks of the key frame before that the paths to `chosen` come from."""
    here = chosen != NONE
    sources = state.absent_sources.copy()
    sources[here] = state.sources[chosen[here]]
    return sources
