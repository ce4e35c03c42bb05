"""What survives from frame to frame: queries with their scores, masks carried by flow, colours.

A *key frame* gets CaR's step; the carried masks compete with what it proposes, and the colours and
the motion of what was chosen complete it. A frame between two key frames gets the carried masks,
corrected by their colours and snapped to its edges. A scene cut forgets everything; a flash is
passed over.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import SAME_IOU, box_around, ious
from carvid.base.scale import resize, shrink_masks
from carvid.car.choice import NONE, Candidates, TrackPrior
from carvid.config import TemporalConfig
from carvid.temporal.colors import COLOR_BINS, by_color, count_colors, log_odds, to_colors
from carvid.temporal.cuts import SIZE_WH, SMALL_WH, Seen, look
from carvid.temporal.flow import (
    Flow,
    carry,
    flow_between,
    moving_along,
    snap_to_edges,
    standing_still,
    to_gray,
)

if TYPE_CHECKING:  # that module needs torch, which a state does not
    from carvid.car.step import StepResult

MOTION_BLUR = 2.0
"""Blur of a proposal that motion has changed, pixels of the flow."""
FAINT = 25
"""Where a carried map is above it, of 255, a pixel may belong to the mask ..."""
REACH = 3
"""... and in a square of this side around, pixels; not elsewhere, whatever its colour."""
BELIEF = (0.9, 0.98)
"""How far a carried mask is believed, against its colours: where the flow is not trusted at all,
and where it is."""
TRUSTED_COLOR = 0.1
"""Share of `temporal.color` that colours count for where the flow is trusted."""
KEY_BELIEF = 0.85
"""How far a key frame's proposal is believed, against its colours."""
REFUTED = -0.5
"""A carried mask is not on its thing any more where its colours, in log odds, are less than this on
average."""
EDGE, SHRUNK = 3, 0.7
"""A thing leaves the picture where its mask is within so many pixels of the edge, and has less than
this share of the area that it had at the last key frame."""
DECAY = 0.8
"""What colours that were seen count for at the next key frame."""
MAX_STATE_BYTES = 1 << 30
"""More masks than this are not loaded: 1400 tracks of the largest flow have less."""
USUAL_STEP_S = 1 / 24
"""Seconds from one frame to the next where the frames have no times, or impossible ones."""
MOST_BETWEEN = 24
"""A key frame comes after so many frames at the latest, however fast they follow each other:
looking ahead has some key frames' worth of them in memory."""
HALF = 127
"""A soft map in steps of 1/255 is a mask above this."""


@dataclass(frozen=True)
class TemporalState:
    """The state between two frames, for N expressions of Q queries; plain data, so that a killed
    run resumes.

    A *track* is a mask that a query could take, followed from frame to frame. A query has up to
    `temporal.tracks` of them until the key frame after the one where it is first seen; it takes
    the one whose path through the key frames has the highest value.
    """

    scores: NDArray[np.float32]
    """float32 (Q,): P[i, i] when each query was asked last."""
    cosines: NDArray[np.float32]
    """float32 (Q,): cosine of the same view with the query's text; NaN where there was none."""
    absent: NDArray[np.float32]
    """float32 (Q,): what the best path to "not there" is worth, in units of score."""
    absent_sources: NDArray[np.int64]
    """int64 (Q,): the track of the key frame before that this path comes from, or `NONE`."""
    chosen: NDArray[np.int64]
    """int64 (Q,): each query's track, or `NONE`."""
    misses: NDArray[np.int64]
    """int64 (Q,): for how many key frames in a row each was asked and not there."""
    key_frames_seen: NDArray[np.int64]
    """int64 (Q,): at how many key frames in a row each was there."""
    owners: NDArray[np.int64]
    """int64 (M,): the query of each track."""
    values: NDArray[np.float32]
    """float32 (M,): what the best path to each track is worth, in units of score."""
    sources: NDArray[np.int64]
    """int64 (M,): the track of the key frame before that this path comes from, or `NONE`."""
    areas: NDArray[np.int64]
    """int64 (M,): the tracks' areas at the last key frame, pixels of `gray`."""
    colors: NDArray[np.float32]
    """float32 (M, 2, C): how often each colour was seen inside the tracks and around them, at key
    frames long ago counting less."""
    since_offer: int = 0
    """Key frames since all queries were last asked together."""
    since_key: int = 0
    """Frames since the last key frame."""
    since_key_s: float = 0.0
    """Seconds since then."""
    time_s: float = 0.0
    """The last frame's time, seconds."""
    maps: NDArray[np.uint8] | None = None
    """uint8 (M, h, w): the tracks in the last frame, at the size of `gray`; a mask is what is above
    `HALF`."""
    gray: NDArray[np.uint8] | None = None
    """uint8 (h, w): the last frame, at most `temporal.flow_side`; None before the first one."""
    seen: Seen | None = None
    """What cuts are told from; None before the first frame."""
    smoothed: NDArray[np.int64] | None = None
    """int64 (Q,): the track that looking ahead has chosen at the last key frame, or `NONE`; None
    where nothing looks ahead."""

    @classmethod
    def initial(cls, queries: int) -> TemporalState:
        """Return the state before the first frame: everything is asked."""
        zeros, nothing = np.zeros(queries, np.float32), np.zeros(queries, np.int64)
        none, empty = np.full(queries, NONE), np.zeros(0, np.int64)
        return cls(
            scores=zeros, cosines=np.full(queries, np.nan, np.float32), absent=zeros,
            absent_sources=none, chosen=none, misses=nothing,
            key_frames_seen=nothing, owners=empty, values=np.zeros(0, np.float32), sources=empty,
            areas=empty, colors=np.zeros((0, 2, COLOR_BINS), np.float32),
        )  # fmt: skip

    def path_values(self, count: int) -> NDArray[np.float32]:
        """Return what the first `count` queries' choices are worth, float32 (N,) in [0, 1]; 1
        where masks are not carried."""
        if self.gray is None:
            return np.ones(count, np.float32)
        tracks = self.chosen if self.smoothed is None else self.smoothed
        values = np.append(self.values, np.float32(1))[tracks[:count]]
        return np.asarray(np.clip(values, 0, 1), np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping that `from_dict` loads back equal."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _COUNTS}
        values |= {name: getattr(self, name).tolist() for name in (*_FLOATS, *_INTS)}
        return values | {
            "colors": _pack(self.colors),
            "maps": None if self.maps is None else _pack(self.maps),
            "gray": None if self.gray is None else _pack(self.gray),
            "size_hw": None if self.gray is None else list(self.gray.shape),
            "seen": None if self.seen is None else _seen_to_dict(self.seen),
            "smoothed": None if self.smoothed is None else self.smoothed.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TemporalState:
        """Load what `to_dict` saved.

        Raises:
            ValueError: it is something else; so are KeyError, TypeError and zlib.error.
        """
        loaded: dict[str, Any] = {name: values[name] for name in _COUNTS}
        loaded |= {name: np.array(values[name], np.float32) for name in _FLOATS}
        loaded |= {name: np.array(values[name], np.int64) for name in _INTS}
        counts = _unpack(values["colors"], (len(loaded["owners"]), 2, COLOR_BINS, 4))
        state = cls(**loaded, colors=counts.view(np.float32)[..., 0])
        if values["smoothed"] is not None:
            state = replace(state, smoothed=np.array(values["smoothed"], np.int64))
        if values["seen"] is not None:
            state = replace(state, seen=_seen_from_dict(values["seen"]))
        if values["gray"] is None:
            return state
        size_hw = tuple(values["size_hw"])
        maps = _unpack(values["maps"], (len(state.owners), *size_hw))
        return replace(state, maps=maps, gray=_unpack(values["gray"], size_hw))


_COUNTS = ("since_offer", "since_key", "since_key_s", "time_s")
_FLOATS = ("scores", "cosines", "absent", "values")
_INTS = ("absent_sources", "chosen", "misses", "key_frames_seen", "owners", "sources", "areas")


@dataclass(frozen=True)
class FrameContext:
    """A new frame, seen with what the one before has left."""

    state: TemporalState
    """What was left; nothing of it after a cut."""
    gray: NDArray[np.uint8] | None
    """uint8 (h, w): the frame, for the flow, or the one before a flash; None where masks are not
    carried."""
    colors: NDArray[np.uint16] | None
    """uint16 (h, w): its colours; None where a flash hides them."""
    carried: NDArray[np.uint8] | None
    """uint8 (M, h, w): the tracks, carried into this frame, in steps of 1/255."""
    flow: Flow | None
    """How the picture moved, and how far to believe that."""
    asked: NDArray[np.bool_] | None
    """bool (Q,): h_0 of a key frame; None on a frame between."""
    time_s: float = 0.0
    """The frame's time, seconds."""
    step_s: float = USUAL_STEP_S
    """Seconds since the frame before."""
    seen: Seen | None = None
    """What cuts are told from, from now on."""

    @property
    def begins_shot(self) -> bool:
        """Whether nothing is known from before: the first frame, or the first one after a cut."""
        return self.carried is None

    def prior(self, size_hw: tuple[int, int], config: TemporalConfig) -> TrackPrior | None:
        """Return the tracks as a prior at the frame's size; None if nothing is known."""
        if self.carried is None or self.flow is None:
            return None
        state = self.state
        return TrackPrior(
            masks=resize(from_levels(self.carried), size_hw),
            owners=state.owners,
            values=state.values,
            absent=state.absent,
            chosen=state.chosen,
            key_frames_seen=state.key_frames_seen,
            smoothing=config.smoothing,
            hysteresis=config.hysteresis,
            flow=self.flow.motion / np.float32(self.step_s),
            same_iou=config.same_iou,
            max_new=config.max_new,
            at_edge=self._at_edge(),
        )

    def _at_edge(self) -> NDArray[np.bool_]:
        """Which tracks the picture's edge is cutting off, bool (M,)."""
        assert self.carried is not None
        inside = self.carried > HALF
        middle = inside[:, EDGE:-EDGE, EDGE:-EDGE].sum(axis=(1, 2))
        area = inside.sum(axis=(1, 2))
        return np.asarray((area > middle) & (area < SHRUNK * self.state.areas), bool)


def observe(
    state: TemporalState,
    image: NDArray[np.uint8],
    config: TemporalConfig,
    *,
    time_s: float = math.nan,
    of_motion: Sequence[int] = (),
    surely: Sequence[int] = (),
) -> FrameContext:
    """Carry the state into a new frame and decide if it is a key frame.

    Args:
        state: what the frame before left.
        image: uint8 (H, W, 3) RGB.
        config: settings.
        time_s: the frame's time, seconds; NaN where it has none.
        of_motion: queries that motion decides on: seen once, they are looked at again at once.
        surely: queries that are there in every frame: lost, they are looked for at once.
    """
    now_s, step_s = _clock(state, time_s)
    if not config.carry_masks:
        asked = queries_to_ask(state, config)
        return FrameContext(state, None, None, None, None, asked, now_s, step_s)
    gray = to_gray(image, config.flow_side)
    colors = to_colors(image, gray.shape)
    known = state.gray is not None and state.maps is not None and state.gray.shape == gray.shape
    flow = flow_between(state.gray, gray) if known and state.gray is not None else None
    verdict, seen = look(
        state.seen if known else None,
        image,
        now_s,
        float(flow.trust.mean()) if flow else 1.0,
        config,
    )
    if verdict == "flash" and state.gray is not None:
        still = standing_still(state.gray.shape)
        return FrameContext(state, state.gray, None, state.maps, still, None, now_s, step_s, seen)
    if flow is None or verdict == "cut" or state.maps is None:
        state = TemporalState.initial(len(state.scores)) if known else state
        asked = queries_to_ask(state, config)
        return FrameContext(state, gray, colors, None, None, asked, now_s, step_s, seen)
    carried = carry(state.maps, flow.source)
    for track in state.chosen[state.chosen != NONE]:
        carried[track] = correct_carried(
            carried[track], flow.trust, gray, colors, state.colors[track], config
        )
    key = (
        _is_due(state, step_s, config)
        or any(state.key_frames_seen[query] == 1 for query in of_motion)
        or any(
            state.chosen[query] == NONE or not (carried[state.chosen[query]] > HALF).any()
            for query in surely
        )
        or _doubtful(state, carried, flow.trust, config)
    )
    return FrameContext(
        state, gray, colors, carried, flow, queries_to_ask(state, config) if key else None,
        now_s, step_s, seen,
    )  # fmt: skip


def _clock(state: TemporalState, time_s: float) -> tuple[float, float]:
    """The time of a frame, and seconds since the one before; of frames without times, or whose
    clock stands or goes back, as if they came 24 a second."""
    step_s = time_s - state.time_s
    if state.gray is None and math.isfinite(time_s):
        return time_s, USUAL_STEP_S
    if math.isfinite(step_s) and step_s > 0:
        return time_s, step_s
    return (time_s if math.isfinite(time_s) else state.time_s + USUAL_STEP_S), USUAL_STEP_S


def _is_due(state: TemporalState, step_s: float, config: TemporalConfig) -> bool:
    """Whether a frame is the one nearest to the time when the next key frame should come."""
    if config.key_every:
        return state.since_key + 1 >= config.key_every
    late_s = state.since_key_s + step_s - config.key_every_s
    return late_s > -step_s / 2 or state.since_key + 1 >= MOST_BETWEEN


def correct_carried(
    carried: NDArray[np.uint8],
    trust: NDArray[np.float32],
    gray: NDArray[np.uint8],
    colors: NDArray[np.uint16],
    counts: NDArray[np.float32],
    config: TemporalConfig,
) -> NDArray[np.uint8]:
    """Correct a carried mask by the colours it has had, and snap it to the frame's edges; return an
    empty one where its colours say that it has been left behind on something else.

    Args:
        carried: uint8 (h, w), in steps of 1/255.
        trust: float32 (h, w) in [0, 1]: how far to believe it; the colours decide the rest.
        gray: uint8 (h, w): the frame.
        colors: uint16 (h, w): its colours.
        counts: float32 (2, C): the colours that were seen inside the mask and around it.
        config: settings.
    """
    corrected = np.zeros_like(carried)
    near = cv2.dilate((carried > FAINT).astype(np.uint8), np.ones((REACH, REACH), np.uint8))
    if not near.any():
        return corrected
    box = box_around(near > 0, margin=2 * config.snap_radius)
    chance = from_levels(carried[box])
    if config.color:
        sure = trust[box]
        belief = BELIEF[0] + (BELIEF[1] - BELIEF[0]) * sure
        weight = config.color * (1 - (1 - TRUSTED_COLOR) * sure)
        odds = log_odds(counts)[colors[box]]
        chance = near[box] * by_color(chance, weight * odds, belief)
        inside = chance > 0.5
        if inside.any() and odds[inside].mean() < REFUTED:
            return corrected
    chance = snap_to_edges(chance, gray[box], config.snap_radius, config.snap_epsilon)
    corrected[box] = to_levels(chance)
    return corrected


def queries_to_ask(state: TemporalState, config: TemporalConfig) -> NDArray[np.bool_]:
    """Return h_0 of the next key frame, bool (Q,)."""
    if not config.carry_queries or state.since_offer + 1 >= config.reoffer_every:
        return np.ones(len(state.misses), bool)
    return state.misses < config.drop_after


def apply_memory(
    context: FrameContext,
    proposals: NDArray[np.float32],
    chosen: Sequence[Candidates],
    config: TemporalConfig,
) -> NDArray[np.float32]:
    """Turn a key frame's proposals into those that memory would make: what has a thing's colours
    and what moves as it does joins it, the rest leaves.

    Args:
        context: the key frame.
        proposals: float32 (n, H, W) in [0, 1].
        chosen: of each, the candidates that it is the best of.
        config: settings.

    Returns:
        float32 (n, H, W) in [0, 1].
    """
    if context.gray is None:
        return proposals
    results = proposals.copy()
    for result, candidates in zip(results, chosen, strict=True):
        chance = resize(result[None], context.gray.shape)[0]
        if (chance > 0.5).any():
            source = int(candidates.sources[candidates.best])
            chance = _moved(_colored(chance, context, source, config), context.flow, config)
            result[:] = resize(chance[None], result.shape)[0]
    return results


def _colored(
    chance: NDArray[np.float32], context: FrameContext, source: int, config: TemporalConfig
) -> NDArray[np.float32]:
    """A map, float32 (h, w), when the colours of its track so far are seen too; a new one has those
    that it covers itself."""
    assert context.colors is not None
    if not config.color:
        return chance
    mask = chance > 0.5
    known = context.state.colors[source] if source != NONE else count_colors(context.colors, mask)
    box = box_around(mask, share=0.5)
    told = np.zeros_like(chance)
    odds = config.color * log_odds(known)[context.colors[box]]
    told[box] = by_color(chance[box], odds, KEY_BELIEF)
    return told


def _moved(
    chance: NDArray[np.float32], flow: Flow | None, config: TemporalConfig
) -> NDArray[np.float32]:
    """A map, float32 (h, w), with what moves along."""
    if flow is None or not config.motion:
        return chance
    mask = chance > 0.5
    moved = moving_along(mask, flow)
    if (moved == mask).all():
        return chance
    mixed = config.motion * moved + (1 - config.motion) * chance
    return np.asarray(cv2.GaussianBlur(mixed.astype(np.float32), (0, 0), MOTION_BLUR), np.float32)


def after_key(
    context: FrameContext, result: StepResult, theta: float, config: TemporalConfig
) -> tuple[NDArray[np.bool_], NDArray[np.float32], TemporalState]:
    """Take what CaR found in a key frame, and follow it from there.

    Args:
        context: the key frame.
        result: what CaR found in it.
        theta: θ: what "not there" scores.
        config: settings.

    Returns:
        Masks, bool (N, H, W); the same as maps, float32 (N, h, w) of the flow's size, or what they
        were cut from where masks are not carried; the state for the next frame.
    """
    state, asked = context.state, context.asked
    assert asked is not None
    count, kept = len(asked), result.queries_kept
    absent = np.full(count, theta, np.float32)
    absent_sources, chosen = np.full(count, NONE), np.full(count, NONE)
    owners: list[int] = []
    values: list[float] = []
    sources: list[int] = []
    planes: list[NDArray[np.float32]] = []
    size_hw = result.maps.shape[1:] if context.gray is None else context.gray.shape
    maps = shrink_masks(result.masks, (size_hw[0], size_hw[1]))
    for query, candidates in sorted(result.candidates.items()):
        absent[query], absent_sources[query] = candidates.absent, candidates.absent_source
        for index in _followed(candidates, 1 if state.key_frames_seen[query] else config.tracks):
            plane = candidates.masks[index]
            if index == candidates.best and kept[query]:
                chosen[query] = len(owners)
                if query < len(maps) and maps[query].any():
                    plane = maps[query]
            owners.append(query)
            values.append(float(candidates.values[index]))
            sources.append(int(candidates.sources[index]))
            planes.append(plane)
    following = TemporalState(
        scores=np.where(asked, result.query_scores, state.scores),
        cosines=np.where(asked, result.query_cosines, state.cosines),
        absent=absent,
        absent_sources=absent_sources,
        chosen=chosen,
        misses=np.where(kept, 0, state.misses + asked),
        key_frames_seen=np.where(kept, state.key_frames_seen + 1, 0),
        owners=np.array(owners, np.int64),
        values=np.array(values, np.float32),
        sources=np.array(sources, np.int64),
        areas=np.zeros(len(owners), np.int64),
        colors=np.zeros((len(owners), 2, COLOR_BINS), np.float32),
        since_offer=0 if asked.all() else state.since_offer + 1,
        time_s=context.time_s,
        seen=context.seen,
    )
    if context.gray is None:
        return result.masks, result.maps, following
    small = np.zeros((len(planes), *context.gray.shape), np.uint8)
    for track, plane in zip(small, planes, strict=True):
        track[:] = to_levels(resize(plane[None], context.gray.shape)[0])
    inside = small > HALF
    assert context.colors is not None
    colors = np.zeros((len(planes), 2, COLOR_BINS), np.float32)
    for track, (source, mask) in enumerate(zip(sources, inside, strict=True)):
        colors[track] = count_colors(context.colors, mask)
        if source != NONE:
            colors[track] += DECAY * state.colors[source]
    following = replace(
        following, areas=inside.sum(axis=(1, 2)), maps=small, gray=context.gray, colors=colors
    )
    return result.masks, maps, following


def _followed(candidates: Candidates, most: int) -> list[int]:
    """The candidates that become tracks: the best, then others that are not the same thing."""
    binary = candidates.masks > 0.5
    followed = [candidates.best]
    for index in np.argsort(-candidates.values, kind="stable").tolist():
        if len(followed) == most:
            break
        if binary[index].any() and (ious(binary[[index]], binary[followed]) <= SAME_IOU).all():
            followed.append(index)
    return followed


def after_carrying(context: FrameContext) -> TemporalState:
    """Return the state that a frame between two key frames leaves."""
    assert context.carried is not None
    return replace(
        context.state,
        since_key=context.state.since_key + 1,
        since_key_s=context.state.since_key_s + context.step_s,
        time_s=context.time_s,
        seen=context.seen,
        maps=context.carried,
        gray=context.gray,
    )


def select_maps(
    maps: NDArray[np.uint8], tracks: NDArray[np.int64], count: int, size_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the maps, uint8 (M, h, w), of the first `count` queries' tracks: float32 (N, H, W) in
    [0, 1] of `size_hw`; zeros where a query has none."""
    result = np.zeros((count, *size_hw), np.float32)
    there = np.flatnonzero(tracks[:count] != NONE)
    result[there] = resize(from_levels(maps[tracks[there]]), size_hw)
    return result


def to_levels(maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round maps, float32 (…, h, w) in [0, 1], to steps of 1/255: uint8, of the same shape."""
    if not maps.size:
        return np.zeros(maps.shape, np.uint8)
    rows = maps.reshape(-1, maps.shape[-1])
    return np.asarray(cv2.convertScaleAbs(rows, alpha=255), np.uint8).reshape(maps.shape)


def from_levels(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return maps in steps of 1/255, uint8, as float32 in [0, 1]."""
    return np.multiply(levels, np.float32(1 / 255), dtype=np.float32)


def _doubtful(
    state: TemporalState,
    carried: NDArray[np.uint8],
    trust: NDArray[np.float32],
    config: TemporalConfig,
) -> bool:
    """Whether a mask was carried by flow that is not trusted, or its area has jumped."""
    for track in state.chosen[state.chosen != NONE]:
        plane, area = carried[track] > HALF, state.areas[track]
        now = np.count_nonzero(plane)
        if now and trust[plane].mean() < config.min_trust:
            return True
        if area and not area / config.area_jump < now < area * config.area_jump:
            return True
    return False


def _seen_to_dict(seen: Seen) -> dict[str, Any]:
    return {
        "last": _pack(seen.last), "time_s": seen.time_s, "flashes": seen.flashes,
        "past": _pack(seen.past), "times_s": seen.times_s.tolist(), "told_s": seen.told_s,
    }  # fmt: skip


def _seen_from_dict(values: dict[str, Any]) -> Seen:
    times_s = np.array(values["times_s"], np.float64)
    last = _unpack(values["last"], (*SIZE_WH[::-1], 3))
    past = _unpack(values["past"], (len(times_s), *SMALL_WH[::-1], 3))
    return Seen(last, values["time_s"], past, times_s, values["flashes"], values["told_s"])


def _pack(array: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 1)).decode("ascii")


def _unpack(text: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    count = math.prod(shape)
    if count > MAX_STATE_BYTES:
        raise ValueError(f"a state of {count} bytes is more than {MAX_STATE_BYTES}")
    # One more than there should be: 0 would be no limit.
    data = zlib.decompressobj().decompress(base64.b64decode(text), count + 1)
    return np.frombuffer(data, np.uint8).reshape(shape)
