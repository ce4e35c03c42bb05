"""Look ahead: decide a key frame when some further key frames have been seen.

This is fixed-lag smoothing of the paths of `carvid.car.choice`: the path with the highest value at
the last key frame seen is followed back to the one that is to be decided. A thing that this one
lacks is carried back from a later key frame with a higher score. Between two key frames, masks are
carried from both of them. A cut ends the wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import SAME_IOU, box_around, ious
from carvid.base.scale import shrink_masks
from carvid.car.choice import NO_TRACK
from carvid.config import TemporalConfig
from carvid.temporal.carrier import Carrier, FlowCarrier
from carvid.temporal.carry import from_levels, select_maps
from carvid.temporal.pending import CausalFrame, DecidedFrame, PendingFrame
from carvid.temporal.state import TemporalState

SCORE_MARGIN = 0.2
"""A key frame gets a thing from a later one where its score is lower by more than this; later ones
whose scores differ by less are equally good."""
MIN_WEIGHT = 1e-6
"""The smallest sum of weights that a share is computed from; scores may be zero."""

Sharpen = Callable[[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]], NDArray[np.bool_]]
"""Turns proposals, float32 (n, h, w), of an image, uint8 (H, W, 3) RGB, and of the expressions
int64 (n,) into masks, bool (n, H, W); `carvid.car.sharpen`."""


def smooth(
    frames: Iterable[CausalFrame],
    count: int,
    config: TemporalConfig,
    sharpen: Sharpen,
    *,
    present: str = "ask",
    carrier: Carrier | None = None,
) -> Iterator[DecidedFrame]:
    """Yield each frame, in order, `config.lag` key frames late.

    Args:
        frames: the causal pass.
        count: N, the number of expressions.
        config: settings.
        sharpen: for masks of tracks that the causal pass did not choose.
        present: `car.present`, which expressions are there whatever they score.
        carrier: carries masks back; by flow, if not given.
    """
    carrier = carrier or FlowCarrier(config)
    smoother = _Smoother(count, config, sharpen, present, carrier)
    for frame in frames:
        if frame.context.begins_shot:
            yield from smoother.finish()
            smoother = _Smoother(count, config, sharpen, present, carrier)
        yield from smoother.add(frame)
    yield from smoother.finish()


@dataclass
class _KeyMasks:
    """The masks of a key frame for one choice of tracks, N expressions of Q queries."""

    tracks: NDArray[np.int64]
    """int64 (Q,): each query's track, or `NO_TRACK`."""
    maps: NDArray[np.float32]
    """float32 (N, h, w) in [0, 1]."""
    masks: NDArray[np.bool_]
    """bool (N, H, W)."""
    colors: NDArray[np.float32]
    """float32 (N, 2, C): the colours inside each track so far and around it; zeros without one."""


class _Smoother:
    """The frames of one shot that wait to be decided."""

    def __init__(
        self,
        count: int,
        config: TemporalConfig,
        sharpen: Sharpen,
        present: str,
        carrier: Carrier,
    ) -> None:
        self._count, self._config, self._sharpen = count, config, sharpen
        self._present, self._carrier = present, carrier
        self._pending: list[PendingFrame] = []
        self._tracks_before: NDArray[np.int64] | None = None
        """int64 (Q,): the tracks of the last decided key frame; None if there is none."""

    def add(self, frame: CausalFrame) -> Iterator[DecidedFrame]:
        """Take a frame; yield those that can be decided now."""
        if not self._pending and self._tracks_before is None:
            self._tracks_before = frame.context.state.smoothed  # of a run that resumes
        self._pending.append(PendingFrame.of(frame, in_color=self._carrier.looks_back))
        if sum(each.is_key for each in self._pending) > self._config.lag:
            yield from self._decide()

    def finish(self) -> Iterator[DecidedFrame]:
        """Yield the rest: no later frames come."""
        while any(each.is_key for each in self._pending):
            yield from self._decide()
        yield from self._between(self._pending, [], np.zeros(0, np.float32))
        self._pending = []

    def _decide(self) -> Iterator[DecidedFrame]:
        """Decide the first key frame that waits; yield the frames up to it."""
        keys = [each for each in self._pending if each.is_key]
        key, position = keys[0], self._pending.index(keys[0])
        choices = self._follow_back(keys)
        found = self._masks_of(key, choices[0])
        self._take_from_later(found, keys, choices)
        before, self._pending = self._pending[:position], self._pending[position + 1 :]
        carried_back = self._carrier.backward(
            before, key, found.maps, found.colors, self._known_before()
        )
        yield from self._between(before, carried_back, key.state.scores)
        self._tracks_before = found.tracks
        yield _decided(key, found.maps, found.masks, found.tracks)

    def _follow_back(self, keys: Sequence[PendingFrame]) -> list[NDArray[np.int64]]:
        """The tracks at each key frame, int64 (Q,), of the paths that are best at the last one."""
        choices = [keys[-1].state.chosen]
        for later in reversed(keys[1:]):
            choices.insert(0, _sources(later.state, choices[0]))
        choices[0] = self._with_present(choices[0], keys[0].state)
        return choices

    def _with_present(self, tracks: NDArray[np.int64], state: TemporalState) -> NDArray[np.int64]:
        """The tracks, int64 (Q,); where an expression that is there by `car.present` has none, that
        of the causal pass."""
        lost = tracks == NO_TRACK
        lost[self._count :] = False
        if self._present == "ask" or (self._present == "best" and not lost[: self._count].all()):
            return tracks
        return np.where(lost, state.chosen, tracks)

    def _known_before(self) -> NDArray[np.bool_]:
        """Which expressions were there at the last decided key frame, bool (N,)."""
        if self._tracks_before is None:
            return np.zeros(self._count, bool)
        return np.asarray(self._tracks_before[: self._count] != NO_TRACK, bool)

    def _masks_of(self, key: PendingFrame, tracks: NDArray[np.int64]) -> _KeyMasks:
        """A key frame's masks for a choice of tracks, int64 (Q,): those of the causal pass where it
        chose the same track; else the track, sharpened."""
        state, count = key.state, self._count
        assert key.image is not None and key.maps is not None and state.maps is not None
        maps, masks = from_levels(key.maps), key.unpack_masks()
        others = np.flatnonzero(tracks[:count] != state.chosen[:count])
        maps[others], masks[others] = 0, False
        found = others[tracks[others] != NO_TRACK]
        if len(found):
            followed = from_levels(state.maps[tracks[found]])
            masks[found] = self._sharpen(key.image.image(), followed, found)
            maps[found] = shrink_masks(masks[found], key.flow_size_hw)
            if self._present == "each":
                empty = ~masks[found].any(axis=(1, 2))
                maps[found[empty]] = followed[empty]
                masks[found[empty]] = key.cut(followed[empty])
        colors = np.zeros((count, *state.colors.shape[1:]), np.float32)
        with_track = np.flatnonzero(tracks[:count] != NO_TRACK)
        colors[with_track] = state.colors[tracks[with_track]]
        return _KeyMasks(tracks=tracks.copy(), maps=maps, masks=masks, colors=colors)

    def _take_from_later(
        self,
        found: _KeyMasks,
        keys: Sequence[PendingFrame],
        choices: Sequence[NDArray[np.int64]],
    ) -> None:
        """Where a later key frame has a thing with a higher score, which the first one lacks or has
        elsewhere, carry it back to the first one, as far as the flow finds it all the way.

        Args:
            found: the first key frame's masks; changed. A thing that is carried back has no track.
            keys: the key frames that wait.
            choices: int64 (Q,) for each of them: the chosen tracks, or `NO_TRACK`.
        """
        sources = self._better_later(keys, choices)
        first = self._pending.index(keys[0])
        for index in np.unique(sources[sources > 0]):
            key, wanted = keys[index], np.flatnonzero(sources == index)
            frames = self._pending[first : self._pending.index(key)]
            later = self._masks_of(key, choices[index])
            new = np.zeros(len(wanted), bool)
            carried = self._carrier.backward(
                frames, key, later.maps[wanted], later.colors[wanted], new
            )[0]
            for query, levels in zip(wanted, carried, strict=True):
                other = from_levels(levels[None])
                same = ious(other > 0.5, found.maps[[query]] > 0.5) > SAME_IOU
                if (other > 0.5).any() and not same:
                    found.maps[query], found.masks[query] = other[0], keys[0].cut(other)[0]
                    found.colors[query] = later.colors[query]
                    found.tracks[query] = NO_TRACK

    def _better_later(
        self, keys: Sequence[PendingFrame], choices: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        """For each expression the key frame that the first one gets it from, int64 (N,), indices
        into `keys`: the earliest whose score is within `SCORE_MARGIN` of the highest; 0 if the
        first one's is hardly lower than that."""
        scores = np.stack([key.state.scores[: self._count] for key in keys])
        is_there = np.stack([tracks[: self._count] != NO_TRACK for tracks in choices])
        scores = np.where(is_there, scores, 0)
        highest = scores.max(axis=0)
        earliest = (scores >= highest - SCORE_MARGIN).argmax(axis=0)
        return np.where(highest > scores[0] + SCORE_MARGIN, earliest, 0)

    def _between(
        self,
        frames: Sequence[PendingFrame],
        carried_back: Sequence[NDArray[np.uint8]],
        scores: NDArray[np.float32],
    ) -> Iterator[DecidedFrame]:
        """Decide the frames between two key frames: mix what is carried from both sides.

        Args:
            frames: the frames, in order.
            carried_back: uint8 (N, h, w) for each frame, in steps of 1/255: what is carried from
                the next key frame; empty if there is none.
            scores: float32 (Q,): the scores at that one.
        """
        for position, frame in enumerate(frames):
            tracks, state = self._tracks_before, frame.state
            assert tracks is not None and state.maps is not None
            if carried_back:
                # A key frame's weight: its score, times the distance to the other one.
                weight_before = (len(frames) - position) * state.scores
                weight_after = state.since_key * scores
                total = np.maximum(weight_before + weight_after, np.float32(MIN_WEIGHT))
                shares = (weight_after / total)[: self._count]
                maps = _mixed(state.maps, tracks, carried_back[position], shares)
            else:
                maps = select_maps(state.maps, tracks, self._count, frame.flow_size_hw)
            masks = frame.cut(maps)
            if self._present == "each":  # the causal pass has lost none of them
                empty = ~masks.any(axis=(1, 2))
                causal = select_maps(state.maps, state.chosen, self._count, frame.flow_size_hw)
                maps[empty] = causal[empty]
                masks[empty] = frame.cut(causal[empty])
            yield _decided(frame, maps, masks, tracks)


def _mixed(
    before: NDArray[np.uint8],
    tracks: NDArray[np.int64],
    after: NDArray[np.uint8],
    shares: NDArray[np.float32],
) -> NDArray[np.float32]:
    """What two key frames carry into a frame, mixed: float32 (N, h, w) in [0, 1].

    Args:
        before: uint8 (M, h, w), in steps of 1/255: all tracks.
        tracks: int64 (Q,): each query's track, or `NO_TRACK`.
        after: uint8 (N, h, w), in steps of 1/255.
        shares: float32 (N,): weight of `after`.
    """
    maps = np.zeros(after.shape, np.float32)
    nothing = np.zeros(after.shape[1:], np.uint8)
    for result, track, later, share in zip(maps, tracks, after, shares, strict=False):
        earlier = nothing if track == NO_TRACK else before[track]
        box = box_around((earlier | later) > 0)
        result[box] = mix(from_levels(earlier[box]), from_levels(later[box]), share)
    return maps


def mix(
    before: NDArray[np.float32], after: NDArray[np.float32], share: float
) -> NDArray[np.float32]:
    """Return one map, float32 (h, w), of the two that key frames on both sides carry into a frame:
    their weighted mean if they are the same thing; else the one with the larger share, or the other
    one if that is empty.

    Args:
        before: float32 (h, w) in [0, 1], from the key frame before.
        after: float32 (h, w) in [0, 1], from the key frame after.
        share: weight of `after`, in [0, 1]; `before` has the rest.
    """
    inside_before, inside_after = before > 0.5, after > 0.5
    both = np.count_nonzero(inside_before & inside_after)
    either = np.count_nonzero(inside_before | inside_after)
    if both > SAME_IOU * either:
        return before + np.float32(share) * (after - before)
    return after if inside_after.any() and (share > 0.5 or not inside_before.any()) else before


def _decided(
    frame: PendingFrame,
    maps: NDArray[np.float32],
    masks: NDArray[np.bool_],
    tracks: NDArray[np.int64],
) -> DecidedFrame:
    return DecidedFrame(
        index=frame.index,
        time_s=frame.time_s,
        masks=masks,
        maps=maps,
        state=replace(frame.state, smoothed=tracks),
    )


def _sources(state: TemporalState, tracks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tracks of the key frame before, int64 (Q,), that the paths to these tracks come from."""
    with_track = tracks != NO_TRACK
    sources = state.absent_sources.copy()
    sources[with_track] = state.sources[tracks[with_track]]
    return sources
