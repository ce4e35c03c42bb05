"""What survives from frame to frame: scores, tracks with their path values, masks, colours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.brief import Brief
from carvid.car.choice import NO_TRACK
from carvid.temporal.colors import COLOR_BINS
from carvid.temporal.cuts import CutHistory
from carvid.temporal.followed import Followed
from carvid.temporal.packing import pack, unpack


@dataclass(frozen=True, eq=False, repr=False)
class TemporalState(Brief):
    """The state between two frames, for N expressions and Q queries (expressions, then
    distractors); plain data, so that a killed run resumes.

    A *track* is a candidate mask of a query, followed from frame to frame. A query has up to
    `temporal.tracks` of them from the key frame where it is first seen to the next one, and chooses
    the one with the highest path value (`carvid.car.choice`).
    """

    scores: NDArray[np.float32]
    """float32 (Q,) in [0, 1]: P[i, i] at the last key frame at which each query was alive."""
    cosines: NDArray[np.float32]
    """float32 (Q,): cosine of the same view with the query's text; NaN where there was none."""
    absent_values: NDArray[np.float32]
    """float32 (Q,): path value of "not there" at the last key frame, in units of score."""
    absent_sources: NDArray[np.int64]
    """int64 (Q,): the track of the key frame before that this path comes from, or `NO_TRACK`."""
    chosen: NDArray[np.int64]
    """int64 (Q,): each query's track, or `NO_TRACK` where it is not there."""
    misses: NDArray[np.int64]
    """int64 (Q,): for how many key frames in a row each query was alive and not there."""
    key_frames_seen: NDArray[np.int64]
    """int64 (Q,): at how many key frames in a row each query was there."""
    owners: NDArray[np.int64]
    """int64 (M,): the query of each track."""
    values: NDArray[np.float32]
    """float32 (M,): path value of each track at the last key frame, in units of score."""
    sources: NDArray[np.int64]
    """int64 (M,): the track of the key frame before that its path comes from, or `NO_TRACK`."""
    areas: NDArray[np.int64]
    """int64 (M,): each track's area at the last key frame, pixels of `gray`."""
    colors: NDArray[np.float32]
    """float32 (M, 2, C): how many pixels of each colour were inside each track and around it, at
    key frames; those of earlier key frames count less."""
    since_offer: int = 0
    """Key frames since all queries were last alive together."""
    since_key: int = 0
    """Frames since the last key frame."""
    since_key_s: float = 0.0
    """Seconds since the last key frame."""
    time_s: float = 0.0
    """The last frame's time, seconds."""
    maps: NDArray[np.uint8] | None = None
    """uint8 (M, h, w): the tracks in the last frame, in steps of 1/255, at the size of `gray`; what
    is above `carry.MASK_LEVEL` is in the mask. None where masks are not carried."""
    gray: NDArray[np.uint8] | None = None
    """uint8 (h, w): the last frame, at most `temporal.flow_side`; None before the first one, and
    where masks are not carried."""
    cut_history: CutHistory | None = None
    """The last frames, to compare the next one with; None before the first one, and where masks are
    not carried."""
    smoothed: NDArray[np.int64] | None = None
    """int64 (Q,): the track that looking ahead chose at the last key frame, or `NO_TRACK`; None
    where nothing looks ahead."""
    followed: Followed | None = None
    """The things that a network follows; None where flow carries masks."""

    @classmethod
    def initial(cls, queries: int) -> TemporalState:
        """Return the state before the first frame: no tracks, all queries alive."""
        return cls(
            scores=np.zeros(queries, np.float32),
            cosines=np.full(queries, np.nan, np.float32),
            absent_values=np.zeros(queries, np.float32),
            absent_sources=np.full(queries, NO_TRACK),
            chosen=np.full(queries, NO_TRACK),
            misses=np.zeros(queries, np.int64),
            key_frames_seen=np.zeros(queries, np.int64),
            owners=np.zeros(0, np.int64),
            values=np.zeros(0, np.float32),
            sources=np.zeros(0, np.int64),
            areas=np.zeros(0, np.int64),
            colors=np.zeros((0, 2, COLOR_BINS), np.float32),
        )

    @property
    def can_go_on(self) -> bool:
        """Whether a run can go on from it: where a network follows things, from key frames only."""
        return self.followed is None or self.followed.memory is not None

    def path_values(self, count: int) -> NDArray[np.float32]:
        """Return the path values of the first `count` queries' tracks, float32 (N,) in [0, 1]; 1
        for a query that has none, and where masks are not carried."""
        if self.gray is None:
            return np.ones(count, np.float32)
        tracks = self.chosen if self.smoothed is None else self.smoothed
        values = np.append(self.values, np.float32(1))[tracks[:count]]
        return np.asarray(np.clip(values, 0, 1), np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping that `from_dict` loads back equal."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS}
        values |= {name: getattr(self, name).tolist() for name in (*_FLOATS, *_INTS)}
        if self.followed is not None:
            values["followed"] = self.followed.to_dict()
        return values | {
            "colors": pack(self.colors),
            "maps": None if self.maps is None else pack(self.maps),
            "gray": None if self.gray is None else pack(self.gray),
            "size_hw": None if self.gray is None else list(self.gray.shape),
            "cut_history": None if self.cut_history is None else self.cut_history.to_dict(),
            "smoothed": None if self.smoothed is None else self.smoothed.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TemporalState:
        """Load what `to_dict` returned.

        Raises:
            ValueError: it is something else; so are KeyError, TypeError and zlib.error.
        """
        loaded: dict[str, Any] = {name: values[name] for name in _NUMBERS}
        loaded |= {name: np.array(values[name], np.float32) for name in _FLOATS}
        loaded |= {name: np.array(values[name], np.int64) for name in _INTS}
        counts = unpack(values["colors"], (len(loaded["owners"]), 2, COLOR_BINS, 4))
        state = cls(**loaded, colors=counts.view(np.float32)[..., 0])
        if values["smoothed"] is not None:
            state = replace(state, smoothed=np.array(values["smoothed"], np.int64))
        if values.get("followed") is not None:
            state = replace(state, followed=Followed.from_dict(values["followed"]))
        if values["cut_history"] is not None:
            state = replace(state, cut_history=CutHistory.from_dict(values["cut_history"]))
        if values["gray"] is None:
            return state
        size_hw = tuple(values["size_hw"])
        maps = unpack(values["maps"], (len(state.owners), *size_hw))
        return replace(state, maps=maps, gray=unpack(values["gray"], size_hw))


_NUMBERS = ("since_offer", "since_key", "since_key_s", "time_s")
_FLOATS = ("scores", "cosines", "absent_values", "values")
_INTS = ("absent_sources", "chosen", "misses", "key_frames_seen", "owners", "sources", "areas")
