"""What one frame leaves to the next where every thing of an expression is a track of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.temporal.carry import MASK_LEVEL
from carvid.temporal.colors import COLOR_BINS
from carvid.temporal.cuts import CutHistory
from carvid.temporal.followed import Followed
from carvid.temporal.packing import pack, unpack


@dataclass(frozen=True, eq=False)
class InstanceTrack:
    """One thing of an expression, as it is followed."""

    number: int
    """Of all that is followed in a run, from 0; never given twice."""
    owner: int
    """The expression's index."""
    levels: NDArray[np.uint8]
    """uint8 (h, w): its map in the last frame, in steps of 1/255; zeros while it is hidden, unless
    a key frame is to be asked if it is there again."""
    counts: NDArray[np.float32]
    """float32 (2, C): how many pixels of each colour were inside it and around it, at key frames;
    those of earlier key frames count less."""
    center_xy: tuple[float, float]
    """Where its middle is, pixels; of one that is hidden, where it should be."""
    speed_xy: tuple[float, float]
    """How it moves against the camera, pixels a second."""
    area: int
    """Pixels at the last key frame at which it was seen."""
    score: float
    """In [0, 1], at the last key frame."""
    value: float
    """Its scores along time: the path value, in units of score."""
    hidden_s: float = 0.0
    """Seconds since it was last seen; 0 while it is."""

    @property
    def is_hidden(self) -> bool:
        """Whether it is out of sight."""
        return self.hidden_s > 0

    @property
    def mask(self) -> NDArray[np.bool_]:
        """bool (h, w): where it is."""
        return self.levels > MASK_LEVEL

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping that `from_dict` loads back equal."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "center_xy": list(self.center_xy),
            "speed_xy": list(self.speed_xy),
            "levels": pack(self.levels),
            "counts": pack(self.counts),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], size_hw: tuple[int, int]) -> InstanceTrack:
        """Load what `to_dict` returned, of maps of that size.

        Raises:
            ValueError: it is something else; so are KeyError, TypeError and zlib.error.
        """
        counts = unpack(values["counts"], (2, COLOR_BINS, 4)).view(np.float32)[..., 0]
        (x, y), (across, down) = values["center_xy"], values["speed_xy"]
        return cls(
            **{name: values[name] for name in _PLAIN}, levels=unpack(values["levels"], size_hw),
            counts=counts, center_xy=(x, y), speed_xy=(across, down),
        )  # fmt: skip


_PLAIN = ("number", "owner", "area", "score", "value", "hidden_s")


@dataclass(frozen=True, eq=False)
class InstanceState:
    """What one frame leaves to the next."""

    tracks: tuple[InstanceTrack, ...] = ()
    """All that is followed, in sight or hidden."""
    begun: int = 0
    """How many tracks have ever begun: the next one's number."""
    shot: int = -1
    """The shot that the last frame is of, from 0; -1 before the first."""
    since_key: int = 0
    """Frames since the last key frame."""
    since_key_s: float = 0.0
    """Seconds since the last key frame."""
    time_s: float = 0.0
    """The last frame's time, seconds."""
    gray: NDArray[np.uint8] | None = None
    """uint8 (h, w): the last frame; None before the first one."""
    cut_history: CutHistory | None = None
    """The last frames, to compare the next one with; None before the first one."""
    followed: Followed | None = None
    """The tracks that a network follows, by their numbers; None where flow carries them."""

    @property
    def can_go_on(self) -> bool:
        """Whether a run can go on from it: where a network follows things, from key frames only."""
        return self.followed is None or self.followed.memory is not None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping that `from_dict` loads back equal."""
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            "tracks": [track.to_dict() for track in self.tracks],
            "gray": None if self.gray is None else pack(self.gray),
            "size_hw": None if self.gray is None else list(self.gray.shape),
            "cut_history": None if self.cut_history is None else self.cut_history.to_dict(),
            **({} if self.followed is None else {"followed": self.followed.to_dict()}),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InstanceState:
        """Load what `to_dict` returned.

        Raises:
            ValueError: it is something else; so are KeyError, TypeError and zlib.error.
        """
        state = cls(**{name: values[name] for name in _NUMBERS})
        if values["cut_history"] is not None:
            state = replace(state, cut_history=CutHistory.from_dict(values["cut_history"]))
        if values.get("followed") is not None:
            state = replace(state, followed=Followed.from_dict(values["followed"]))
        if values["gray"] is None:
            return state
        height, width = values["size_hw"]
        size_hw = (int(height), int(width))
        tracks = tuple(InstanceTrack.from_dict(each, size_hw) for each in values["tracks"])
        return replace(state, tracks=tracks, gray=unpack(values["gray"], size_hw))


_NUMBERS = ("begun", "shot", "since_key", "since_key_s", "time_s")


@dataclass(frozen=True, eq=False)
class InstanceFrame:
    """What one frame shows of all that is followed: n things in sight, in the order of their
    numbers."""

    is_key: bool
    """Whether it is a key frame."""
    shot: int
    """The shot that it is of, from 0."""
    numbers: tuple[int, ...]
    """n numbers of tracks."""
    owners: tuple[int, ...]
    """n indices of expressions."""
    scores: tuple[float, ...]
    """n scores in [0, 1], of the last key frame."""
    found: tuple[bool, ...]
    """n times, at a key frame: whether the thing was found in it, by its own part of the CAM or by
    its mask's score; false between key frames."""
    masks: NDArray[np.bool_]
    """bool (n, H, W); masks of one expression do not overlap."""
    index: int = 0
    """The frame's index, from 0."""
    time_s: float = 0.0
    """The frame's time, seconds; NaN where the input has none."""
    best: tuple[float, ...] = ()
    """N times the highest score of all that was looked at, at a key frame; empty between them."""
