"""Look ahead: decide a key frame when some further ones have been seen.

The path that is worth most at a later key frame is followed back to the one that is decided
(fixed-lag smoothing), and what that one lacks is carried back from one that is surer; between two
key frames, masks are carried from both of them. Memory is that of `temporal.lag` key frames and
what lies between, large images as JPEGs; a cut ends the wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import SAME_IOU, ious
from carvid.base.scale import Waiting, cut, shrink_masks
from carvid.car.choice import NONE
from carvid.config import TemporalConfig
from carvid.run.result import FrameResult
from carvid.temporal.flow import Places, carry
from carvid.temporal.state import (
    HALF,
    FrameContext,
    TemporalState,
    correct_carried,
    from_levels,
    select_maps,
    to_levels,
)

SURER = 0.2
"""A key frame is surer than another where its score is higher by this."""

Sharpen = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.bool_]]
"""Turns proposals, float32 (n, H, W), of an image, uint8 (H, W, 3), into masks, bool (n, H, W)."""


@dataclass(frozen=True)
class Step:
    """A frame as the causal pass leaves it."""

    image: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""
    context: FrameContext
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
        result, context = step.result, step.context
        is_key = context.asked is not None
        return cls(
            result.index,
            result.time_s,
            (step.image.shape[0], step.image.shape[1]),
            result.state,
            context.colors,
            None if context.flow is None else context.flow.onward,
            None if context.flow is None else to_levels(context.flow.trust),
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
    if step.context.asked is not None:
        return Waiting(step.image)
    if step.context.gray is None or step.context.gray.shape == step.image.shape[:2]:
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
        if step.context.begins_shot:
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
            self._before = step.context.state.smoothed  # of a run that goes on
        self._waiting.append(_Held.of(step))
        if sum(held.is_key for held in self._waiting) > self._config.lag:
            yield from self._decide()

    def finish(self) -> Iterator[FrameResult]:
        """Yield the rest: nothing more comes."""
        while any(held.is_key for held in self._waiting):
            yield from self._decide()
        yield from self._between(self._waiting, [], np.zeros(0, np.float32))
        self._waiting = []

    def _decide(self) -> Iterator[FrameResult]:
        """Yield the frames up to the first waiting key frame."""
        keys = [held for held in self._waiting if held.is_key]
        choices = [keys[-1].state.chosen]
        for later in reversed(keys[1:]):
            choices.insert(0, _source(later.state, choices[0]))
        key = keys[0]
        choices[0] = self._with_present(choices[0], key.state)
        position, (maps, masks) = self._waiting.index(key), self._maps(key, choices[0])
        colors = self._colors(key, choices[0])
        chosen = self._look_back(maps, masks, colors, keys, choices)
        before, self._waiting = self._waiting[:position], self._waiting[position + 1 :]
        carried_back = self._carried_back(before, key, maps, colors, self._known())
        yield from self._between(before, carried_back, key.state.scores)
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

    def _known(self) -> NDArray[np.bool_]:
        """Which of the N things were there at the last decided key frame, bool (N,)."""
        if self._before is None:
            return np.zeros(self._count, bool)
        return np.asarray(self._before[: self._count] != NONE, bool)

    def _look_back(
        self,
        maps: NDArray[np.float32],
        masks: NDArray[np.bool_],
        colors: NDArray[np.float32],
        keys: Sequence[_Held],
        choices: Sequence[NDArray[np.int64]],
    ) -> NDArray[np.int64]:
        """Give the first waiting key frame what a later one, which is surer, carries back to it, as
        far as that is surely seen all the way, where it lacks a thing or has another.

        Args:
            maps: float32 (N, h, w) of the first key frame; written.
            masks: bool (N, H, W): what they are cut to; written.
            colors: float32 (N, 2, C), the colours seen in them and around; written.
            keys: the waiting key frames.
            choices: int64 (Q,) for each of them: the chosen tracks, or `NONE`.

        Returns:
            int64 (Q,): the first one's tracks, `NONE` in place of those that are not theirs now.
        """
        chosen, surer = choices[0].copy(), self._surer(keys, choices)
        for index in np.unique(surer[surer > 0]):
            wanted = surer == index
            key, end = keys[index], self._waiting.index(keys[index])
            frames = self._waiting[self._waiting.index(keys[0]) : end]
            (later, _), seen = self._maps(key, choices[index]), self._colors(key, choices[index])
            carried = self._carried_back(frames, key, later, seen, ~wanted)[0]
            for query in np.flatnonzero(wanted):
                other = from_levels(carried[query][None])
                same = ious(other > 0.5, maps[[query]] > 0.5) > SAME_IOU
                if (other > 0.5).any() and not same:
                    maps[query], masks[query] = other[0], keys[0].cut(other)[0]
                    colors[query], chosen[query] = seen[query], NONE
        return chosen

    def _surer(
        self, keys: Sequence[_Held], choices: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        """For each of the N things, the first key frame that is about as sure of it as any, if that
        is much surer than the first one: int64 (N,), indices into `keys`; 0 if there is none."""
        scores = np.stack([key.state.scores[: self._count] for key in keys])
        there = np.stack([chosen[: self._count] != NONE for chosen in choices])
        sure = np.where(there, scores, 0)
        best = sure.max(axis=0)
        first = (sure >= best - SURER).argmax(axis=0)
        return np.where((best > sure[0] + SURER), first, 0)

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

    def _colors(self, key: _Held, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """The colours of a key frame's chosen tracks, float32 (N, 2, C); zeros where there is
        none."""
        colors = np.zeros((self._count, *key.state.colors.shape[1:]), np.float32)
        there = np.flatnonzero(chosen[: self._count] != NONE)
        colors[there] = key.state.colors[chosen[there]]
        return colors

    def _carried_back(
        self,
        frames: list[_Held],
        key: _Held,
        maps: NDArray[np.float32],
        colors: NDArray[np.float32],
        known: NDArray[np.bool_],
    ) -> list[NDArray[np.uint8]]:
        """Carry the maps of a key frame, which have had these colours, into the frames before it:
        uint8 (N, h, w) for each, in steps of 1/255.

        Of things that are not `known` from before, bool (N,), only what is surely seen in a frame
        goes on to the one before, and nothing if that is little: they have come into the picture
        then.
        """
        if not frames:
            return []
        carried: list[NDArray[np.uint8]] = []
        levels, later = to_levels(maps), key
        for held in reversed(frames):
            assert held.state.gray is not None
            assert later.onward is not None and later.trust is not None
            for query in np.flatnonzero(~known):
                levels[query] = self._seen_before(levels[query], later.trust)
            planes = carry(np.concatenate([levels, later.trust[None]]), later.onward)
            levels, trust = planes[:-1], from_levels(planes[-1])
            there = np.flatnonzero(colors.any(axis=(1, 2)))
            for query in there if held.colors is not None else ():
                assert held.colors is not None
                levels[query] = correct_carried(
                    levels[query], trust, held.state.gray, held.colors, colors[query], self._config
                )
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
        return np.where(trust > HALF, levels, np.uint8(0))

    def _between(
        self,
        frames: list[_Held],
        carried_back: list[NDArray[np.uint8]],
        scores: NDArray[np.float32],
    ) -> Iterator[FrameResult]:
        """Fuse what was carried from the key frame before with what the next one, if there is one,
        carries `carried_back`, a map for each frame; `scores`, float32 (Q,), are that one's."""
        for position, held in enumerate(frames):
            assert self._before is not None and held.state.maps is not None
            maps = select_maps(held.state.maps, self._before, self._count, _small_size(held))
            if carried_back:
                earlier, later = len(frames) - position, held.state.since_key
                weights = (earlier * held.state.scores, later * scores)
                shares = weights[1] / np.maximum(sum(weights), np.float32(1e-6))
                sides = zip(
                    maps, from_levels(carried_back[position]), shares[: self._count], strict=True
                )
                maps = np.stack([mix(*side) for side in sides])
            masks = held.cut(maps)
            if self._present == "each":  # the causal pass has lost none of them
                gone = ~masks.any(axis=(1, 2))
                held_maps = select_maps(
                    held.state.maps, held.state.chosen, self._count, maps.shape[1:]
                )
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
    before: NDArray[np.float32], after: NDArray[np.float32], share: float
) -> NDArray[np.float32]:
    """Return one map of the two that key frames on both sides carry into a frame.

    What both take for the same thing is mixed. Of two different things the one with the larger
    share is taken, and where one of them has nothing, the other's.

    Args:
        before: float32 (h, w) in [0, 1].
        after: likewise.
        share: of `after`, in [0, 1]: how near and how sure its key frame is, against the other.
    """
    earlier, later = before > 0.5, after > 0.5
    both, either = np.count_nonzero(earlier & later), np.count_nonzero(earlier | later)
    if both > SAME_IOU * either:
        return before + np.float32(share) * (after - before)
    return after if later.any() and (share > 0.5 or not earlier.any()) else before


def _small_size(held: _Held) -> tuple[int, int]:
    assert held.state.gray is not None
    return held.state.gray.shape[0], held.state.gray.shape[1]


def _source(state: TemporalState, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tracks of the key frame before that the paths to `chosen` come from."""
    here = chosen != NONE
    sources = state.absent_sources.copy()
    sources[here] = state.sources[chosen[here]]
    return sources
