"""Look ahead: decide a key frame when some further ones have been seen.

The path that is worth most at a later key frame is followed back to the one that is decided
(fixed-lag smoothing); between two key frames, masks are carried from both of them. Memory is that
of `temporal.lag` key frames and what lies between; a cut ends the wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carvid.car.choice import NONE
from carvid.config import TemporalConfig
from carvid.flow import carry_back, snap_to_edges
from carvid.temporal import Arrival, TemporalState, resize, taken
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
    onward: NDArray[np.float16] | None
    """float16 (h, w, 2): by how much the pixels of the frame before move into this one."""
    image: NDArray[np.uint8] | None
    """Of a key frame."""
    masks: NDArray[np.uint8] | None
    """Of a key frame: its N masks, packed."""
    proposals: NDArray[np.uint8] | None
    """Of a key frame: its N proposals, in steps of 1/255."""

    @classmethod
    def of(cls, step: Step) -> _Held:
        result, arrival = step.result, step.arrival
        is_key = arrival.asked is not None
        return cls(
            result.index,
            result.time_s,
            (step.image.shape[0], step.image.shape[1]),
            result.state,
            None if arrival.flow is None else arrival.flow.onward.astype(np.float16),
            step.image if is_key else None,
            np.packbits(result.masks) if is_key else None,
            np.rint(result.proposals * 255).astype(np.uint8) if is_key else None,
        )

    @property
    def is_key(self) -> bool:
        return self.image is not None


def smooth(
    steps: Iterable[Step], count: int, config: TemporalConfig, sharpen: Sharpen
) -> Iterator[FrameResult]:
    """Yield each frame's result, `config.lag` key frames late.

    Args:
        steps: the causal pass.
        count: N, the number of expressions.
        config: settings.
        sharpen: for a mask that is chosen only now.
    """
    smoother = _Smoother(count, config, sharpen)
    for step in steps:
        if step.arrival.is_fresh:
            yield from smoother.finish()
            smoother = _Smoother(count, config, sharpen)
        yield from smoother.add(step)
    yield from smoother.finish()


class _Smoother:
    """The frames of one shot that are not decided yet."""

    def __init__(self, count: int, config: TemporalConfig, sharpen: Sharpen) -> None:
        self._count, self._config, self._sharpen = count, config, sharpen
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
        yield from self._between(self._waiting, None, None)
        self._waiting = []

    def _decide(self) -> Iterator[FrameResult]:
        """Yield the frames up to the first waiting key frame."""
        keys = [held for held in self._waiting if held.is_key]
        key, chosen = keys[0], keys[-1].state.chosen
        for later in reversed(keys[1:]):
            chosen = _source(later.state, chosen)
        small, decided = self._key(key, chosen)
        position = self._waiting.index(key)
        yield from self._between(self._waiting[:position], key, small)
        self._waiting = self._waiting[position + 1 :]
        self._before = chosen
        yield decided

    def _key(
        self, key: _Held, chosen: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], FrameResult]:
        """A key frame's masks at the flow's size, float32 (N, h, w), and its result."""
        state, count = key.state, self._count
        assert key.image is not None and key.masks is not None and key.proposals is not None
        assert state.masks is not None and state.gray is not None
        shape = (count, *key.size_hw)
        masks = np.unpackbits(key.masks, count=int(np.prod(shape))).reshape(shape).astype(bool)
        proposals = key.proposals.astype(np.float32) / np.float32(255)
        tracks = state.masks.astype(np.float32)
        small = taken(tracks, chosen, count, state.gray.shape)
        other = np.flatnonzero(chosen[:count] != state.chosen[:count])
        if len(other):
            planes = taken(tracks, chosen, count, key.size_hw)[other]
            found = chosen[other] != NONE
            masks[other], proposals[other] = False, planes
            if found.any():
                masks[other[found]] = self._sharpen(key.image, planes[found])
            small[other] = resize(masks[other].astype(np.float32), state.gray.shape)
        return small, self._result(key, masks, proposals, chosen)

    def _between(
        self, frames: list[_Held], key: _Held | None, after: NDArray[np.float32] | None
    ) -> Iterator[FrameResult]:
        """Fuse what was carried from the key frame before with what the next one, if there is one,
        carries back."""
        if not frames:
            return
        assert self._before is not None
        count, before = self._count, self._before[: self._count] != NONE
        behind: list[NDArray[np.float32]] = []
        onward = None if key is None else key.onward
        for held in reversed(frames):
            if after is None or onward is None:
                break
            assert held.state.gray is not None
            after = carry_back(after, onward.astype(np.float32))
            after = snap_to_edges(
                after, held.state.gray, self._config.snap_radius, self._config.snap_epsilon
            )
            behind.insert(0, after)
            onward = held.onward
        for position, held in enumerate(frames):
            assert held.state.masks is not None and held.state.gray is not None
            tracks = held.state.masks.astype(np.float32)
            maps = taken(tracks, self._before, count, held.state.gray.shape)
            if behind:
                assert key is not None
                nearness = held.state.since_key / (held.state.since_key + len(frames) - position)
                later = behind[position]
                there = (later > 0.5).any(axis=(1, 2))
                shares = np.where(there & before, nearness, nearness > 0.5)
                maps += shares[:, None, None].astype(np.float32) * (later - maps)
            proposals = resize(maps, held.size_hw)
            yield self._result(held, proposals > 0.5, proposals, self._before)

    @staticmethod
    def _result(
        held: _Held,
        masks: NDArray[np.bool_],
        proposals: NDArray[np.float32],
        chosen: NDArray[np.int64],
    ) -> FrameResult:
        state = replace(held.state, smoothed=chosen)
        scores = state.scores[: len(masks)]
        return FrameResult(held.index, held.time_s, masks, proposals, scores, state)


def _source(state: TemporalState, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tracks of the key frame before that the paths to `chosen` come from."""
    here = chosen != NONE
    sources = state.absent_sources.copy()
    sources[here] = state.sources[chosen[here]]
    return sources
