"""What survives from frame to frame: queries with their scores, and masks carried by flow.

A *key frame* gets CaR's step, with the carried masks as a prior. A frame between two key frames
gets the carried masks, snapped to its edges. A scene cut forgets everything.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.car.choice import Prior
from carvid.car.segmenter import StepResult
from carvid.config import CarConfig, TemporalConfig
from carvid.flow import Flow, carry, flow_between, snap_to_edges, to_gray


@dataclass(frozen=True)
class TemporalState:
    """The state between two frames, for N expressions of Q queries; plain data, so that a killed
    run resumes."""

    scores: NDArray[np.float32]
    """float32 (Q,): each query's score, smoothed over the key frames at which it was asked."""
    found: NDArray[np.bool_]
    """bool (Q,): which queries are there, with hysteresis."""
    misses: NDArray[np.int64]
    """int64 (Q,): for how many key frames in a row each was asked and not there."""
    settled: NDArray[np.int64]
    """int64 (Q,): at how many key frames in a row each was there."""
    since_offer: int = 0
    """Key frames since all queries were last asked together."""
    since_key: int = 0
    """Frames since the last key frame."""
    areas: NDArray[np.int64] | None = None
    """int64 (N,): the masks' areas at the last key frame, pixels of `gray`; None before it."""
    masks: NDArray[np.bool_] | None = None
    """bool (N, h, w): the last frame's masks, at the size of `gray`."""
    gray: NDArray[np.uint8] | None = None
    """uint8 (h, w): the last frame, at most `temporal.flow_side`."""

    @classmethod
    def initial(cls, queries: int) -> TemporalState:
        """Return the state before the first frame: everything is asked."""
        none = np.zeros(queries, np.int64)
        return cls(np.zeros(queries, np.float32), np.zeros(queries, bool), none, none)

    @property
    def is_initial(self) -> bool:
        """Whether there was no key frame yet."""
        return self.areas is None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping that `from_dict` loads back equal."""
        return {
            "scores": self.scores.astype(float).tolist(),
            "found": self.found.tolist(),
            "misses": self.misses.tolist(),
            "settled": self.settled.tolist(),
            "since_offer": self.since_offer,
            "since_key": self.since_key,
            "areas": None if self.areas is None else self.areas.tolist(),
            "masks": None if self.masks is None else _pack(np.packbits(self.masks)),
            "gray": None if self.gray is None else _pack(self.gray),
            "size_hw": None if self.gray is None else list(self.gray.shape),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TemporalState:
        """Load what `to_dict` saved."""
        state = cls(
            np.array(values["scores"], np.float32),
            np.array(values["found"], bool),
            np.array(values["misses"], np.int64),
            np.array(values["settled"], np.int64),
            int(values["since_offer"]),
            int(values["since_key"]),
        )
        if values["areas"] is not None:
            state = replace(state, areas=np.array(values["areas"], np.int64))
        if values["gray"] is None or state.areas is None:
            return state
        size_hw = tuple(values["size_hw"])
        shape = (len(state.areas), *size_hw)
        bits = np.unpackbits(_unpack(values["masks"]), count=int(np.prod(shape)))
        masks = bits.reshape(shape).astype(bool)
        return replace(state, masks=masks, gray=_unpack(values["gray"]).reshape(size_hw))


@dataclass(frozen=True)
class Arrival:
    """A new frame, seen with what the one before has left."""

    state: TemporalState
    """What was left; nothing of it after a cut."""
    gray: NDArray[np.uint8] | None
    """uint8 (h, w): the frame, for the flow; None where masks are not carried."""
    carried: NDArray[np.float32] | None
    """float32 (N, h, w) in [0, 1]: the masks, carried into this frame."""
    flow: Flow | None
    """How the picture moved, and how far to believe that."""
    asked: NDArray[np.bool_] | None
    """bool (Q,): h_0 of a key frame; None on a frame between."""

    def prior(self, size_hw: tuple[int, int], config: TemporalConfig) -> Prior | None:
        """Return the carried masks as a prior at the frame's size; None if there are none."""
        if self.carried is None or self.flow is None:
            return None
        weight = config.prior * resize(self.flow.trust[None], size_hw)[0]
        settled = self.state.settled[: len(self.carried)]
        masks = resize(self.carried, size_hw)
        return Prior(masks, weight, config.stickiness, settled, self.flow.motion)


def arrive(
    state: TemporalState,
    image: NDArray[np.uint8],
    config: TemporalConfig,
    *,
    of_motion: Sequence[int] = (),
) -> Arrival:
    """Carry the state into a new frame and decide if it is a key frame.

    Args:
        state: what the frame before left.
        image: uint8 (H, W, 3) RGB.
        config: settings.
        of_motion: queries that motion decides on: seen once, they are looked at again at once.
    """
    if not config.carry_masks:
        return Arrival(state, None, None, None, queries_to_ask(state, config))
    gray = to_gray(image, config.flow_side)
    if state.gray is None or state.masks is None or state.gray.shape != gray.shape:
        return Arrival(state, gray, None, None, queries_to_ask(state, config))
    flow = flow_between(state.gray, gray)
    if flow.trust.mean() < config.cut_trust:
        fresh = TemporalState.initial(len(state.scores))
        return Arrival(fresh, gray, None, None, queries_to_ask(fresh, config))
    carried = carry(state.masks.astype(np.float32), flow)
    carried = snap_to_edges(carried, gray, config.snap_radius, config.snap_epsilon)
    key = (
        state.since_key + 1 >= config.key_every
        or any(state.settled[query] == 1 for query in of_motion)
        or _doubtful(state, carried, flow.trust, config)
    )
    return Arrival(state, gray, carried, flow, queries_to_ask(state, config) if key else None)


def queries_to_ask(state: TemporalState, config: TemporalConfig) -> NDArray[np.bool_]:
    """Return h_0 of the next key frame, bool (Q,)."""
    if not config.carry_queries or state.since_offer + 1 >= config.reoffer_every:
        return np.ones(len(state.misses), bool)
    return state.misses < config.drop_after


def after_key(
    arrival: Arrival, result: StepResult, car: CarConfig, config: TemporalConfig
) -> tuple[NDArray[np.bool_], NDArray[np.float32], TemporalState]:
    """Judge what CaR found in a key frame by what was known before.

    A thing that was there and is missed for a moment keeps its carried mask; one that was not there
    must score clearly above θ.

    Args:
        arrival: the key frame.
        result: what CaR found in it.
        car: θ, and whether the best query is kept whatever it scores.
        config: settings.

    Returns:
        Masks, bool (N, H, W); proposals, float32 (N, H, W); the state for the next frame.
    """
    state, asked = arrival.state, arrival.asked
    assert asked is not None
    count = len(result.masks)
    masks, proposals = result.masks, result.proposals
    scores, found = result.scores, result.kept
    if config.carry_queries and not state.is_initial:
        known = np.where(asked, scores, state.scores)
        old = np.where(state.found, config.smoothing, 0)  # what returns need not climb slowly
        scores = (old * state.scores + (1 - old) * known).astype(np.float32)
        stays = state.found & (scores > car.theta - config.hysteresis)
        clear = car.keep_best | (result.scores > car.theta + config.hysteresis)
        found = stays | (result.kept & clear)
        held = found[:count] & ~result.kept[:count]
        masks, proposals = masks & found[:count, None, None], proposals.copy()
        proposals[~found[:count]] = 0
        if arrival.carried is not None and held.any():
            carried = resize(arrival.carried[held], masks.shape[1:])
            masks[held], proposals[held] = carried > 0.5, carried
    following = TemporalState(
        scores=scores,
        found=found,
        misses=np.where(found, 0, state.misses + asked),
        settled=np.where(found, state.settled + 1, 0),
        since_offer=0 if asked.all() else state.since_offer + 1,
    )
    if arrival.gray is None:
        return masks, proposals, replace(following, areas=masks.sum(axis=(1, 2)))
    small = resize(masks.astype(np.float32), arrival.gray.shape) > 0.5
    areas = small.sum(axis=(1, 2))
    return masks, proposals, replace(following, areas=areas, masks=small, gray=arrival.gray)


def after_carrying(
    arrival: Arrival, size_hw: tuple[int, int]
) -> tuple[NDArray[np.bool_], NDArray[np.float32], TemporalState]:
    """Take the carried masks for a frame between two key frames; returns as `after_key`."""
    assert arrival.carried is not None
    proposals = resize(arrival.carried, size_hw)
    state = replace(
        arrival.state,
        since_key=arrival.state.since_key + 1,
        masks=arrival.carried > 0.5,
        gray=arrival.gray,
    )
    return proposals > 0.5, proposals, state


def resize(maps: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Resize maps, float32 (N, h, w), to `size_hw`."""
    if maps.shape[1:] == size_hw:
        return maps
    resized = np.empty((len(maps), *size_hw), np.float32)
    for plane, result in zip(maps, resized, strict=True):
        cv2.resize(plane, size_hw[::-1], dst=result, interpolation=cv2.INTER_LINEAR)
    return resized


def _doubtful(
    state: TemporalState,
    carried: NDArray[np.float32],
    trust: NDArray[np.float32],
    config: TemporalConfig,
) -> bool:
    """Whether a mask was carried by flow that is not trusted, or its area has jumped."""
    assert state.areas is not None
    for plane, area in zip(carried > 0.5, state.areas, strict=True):
        now = np.count_nonzero(plane)
        if now and trust[plane].mean() < config.min_trust:
            return True
        if area and not area / config.area_jump < now < area * config.area_jump:
            return True
    return False


def _pack(array: NDArray[np.uint8]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 1)).decode("ascii")


def _unpack(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
