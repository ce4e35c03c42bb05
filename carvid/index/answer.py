"""Answer: what an index says of expressions before the clip is read again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.brief import Brief
from carvid.base.scale import resize
from carvid.index.pieces import FLOW_LEVELS, FLOW_STEP
from carvid.index.quick import Anchor
from carvid.temporal.carry import from_levels


@dataclass(frozen=True, eq=False, repr=False)
class Answer(Brief):
    """Where and when N expressions are in a clip of T frames, K of them key frames, roughly."""

    texts: tuple[str, ...]
    """The N expressions; expression k, from 1, is label k."""
    times_s: NDArray[np.float64]
    """float64 (T,): the frames' times, seconds; NaN where the clip has none."""
    key_frames: NDArray[np.int64]
    """int64 (K,): the key frames' indices, from 0."""
    scores: NDArray[np.float32]
    """float32 (K, N) in [0, 1]: of what looks so at the frames of `anchors`, less where the
    dense map is weaker (`carvid.index.quick`)."""
    kept: NDArray[np.bool_]
    """bool (K, N): which expressions are there."""
    anchors: tuple[Anchor, ...]
    """N: where the classifier was asked, and found each expression best."""
    size_hw: tuple[int, int]
    """H, W: the frames' height and width, pixels."""
    eta: float
    """η: a map above it is inside the mask."""
    maps: NDArray[np.uint8]
    """uint8 (K, N, h, w): the key frames' proposals in steps of 1/255; zeros where one is not
    there."""
    motion_of: Callable[[int], NDArray[np.int16]]
    """`carvid.index.pieces.Piece.motion` of a key frame's piece."""

    def masks(self, frame: int) -> NDArray[np.bool_]:
        """Return the masks of a frame, bool (N, H, W): of a key frame its proposals above η, of
        another one those of the key frame before, moved along.

        Raises:
            IndexError: the clip has no such frame.
        """
        if not 0 <= frame < len(self.times_s):
            raise IndexError(f"frame {frame} is not among the clip's {len(self.times_s)}")
        position = int(np.searchsorted(self.key_frames, frame, side="right")) - 1
        key, maps = int(self.key_frames[position]), from_levels(self.maps[position])
        for motion in self.motion_of(key)[1 : frame - key + 1]:
            maps = _move(maps, motion)
        return resize(maps, self.size_hw) > self.eta

    def best_frame(self, label: int) -> int:
        """Return the index of the frame where the classifier found expression `label`, from 1, with
        the highest score.

        Raises:
            IndexError: there is no such label.
        """
        return self.anchors[self._row(label)].frame

    def spans(self, label: int) -> list[tuple[int, int]]:
        """Return where expression `label`, from 1, is there: first frame and the one after the last
        of each stretch, as far as key frames tell.

        Raises:
            IndexError: there is no such label.
        """
        there = np.concatenate([[False], self.kept[:, self._row(label)], [False]])
        changes = np.flatnonzero(there[1:] != there[:-1])
        edges = np.append(self.key_frames, len(self.times_s))
        return [(int(edges[a]), int(edges[b])) for a, b in changes.reshape(-1, 2)]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping: of each expression the highest score, its frame and time, and
        where it is there, in frames and seconds."""
        return {
            "frames": len(self.times_s),
            "expressions": [self._found(label) for label in range(1, len(self.texts) + 1)],
        }

    def _found(self, label: int) -> dict[str, Any]:
        best, spans = self.anchors[label - 1], self.spans(label)
        return {
            "label": label,
            "text": self.texts[label - 1],
            "best_score": round(best.score, 4),
            "best_frame": best.frame,
            "best_time_s": self._time_s(best.frame),
            "spans": [list(span) for span in spans],
            "spans_s": [[self._time_s(first), self._time_s(after - 1)] for first, after in spans],
        }

    def _time_s(self, frame: int) -> float | None:
        time_s = float(self.times_s[frame])
        return round(time_s, 3) if math.isfinite(time_s) else None

    def _row(self, label: int) -> int:
        if not 1 <= label <= len(self.texts):
            raise IndexError(f"label {label} is not among 1 to {len(self.texts)}")
        return label - 1


def _move(maps: NDArray[np.float32], motion: NDArray[np.int16]) -> NDArray[np.float32]:
    """Maps of the frame before, float32 (N, h, w), as they lie in this one."""
    height, width = motion.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    back = motion.astype(np.float32) / np.float32(FLOW_LEVELS * FLOW_STEP)
    return np.stack(
        [
            cv2.remap(plane, x - back[..., 0], y - back[..., 1], cv2.INTER_LINEAR)
            for plane in maps
        ]
    )
