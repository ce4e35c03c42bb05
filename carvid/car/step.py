"""What the recurrent unit leaves of one frame: plain data, without torch, so that what follows it
along time needs no network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carvid.base.brief import Brief
from carvid.base.scale import resize
from carvid.car.choice import Candidates


@dataclass(frozen=True, eq=False, repr=False)
class StepResult(Brief):
    """What the recurrent unit leaves of one frame: N expressions and D distractors, Q queries."""

    maps: NDArray[np.float32]
    """float32 (N, h, w) in [0, 1], the proposals, at the size at which the loop works
    (`prompts.scale`); zeros where a query is not kept."""
    masks: NDArray[np.bool_]
    """bool (N, H, W); empty where a query is not kept."""
    query_scores: NDArray[np.float32]
    """float32 (Q,): P[i, i] at the last step in which query i was alive; 0 if it was in none."""
    query_cosines: NDArray[np.float32]
    """float32 (Q,): cosine of the same view with the query's text; NaN if the query was alive in no
    step, or nothing competed with it."""
    queries_kept: NDArray[np.bool_]
    """bool (Q,): h after the last step, the queries that are there."""
    candidates: dict[int, Candidates]
    """From a query's index to its candidates at the last step in which it was alive; no entry if it
    was in none."""

    @property
    def proposals(self) -> NDArray[np.float32]:
        """`maps` at the frame's size, float32 (N, H, W)."""
        return resize(self.maps, (self.masks.shape[1], self.masks.shape[2]))

    def proposals_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of some of the N expressions, int64 (n,), the `proposals`, float32 (n, H, W)."""
        return resize(self.maps[rows], (self.masks.shape[1], self.masks.shape[2]))

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 (N,): the expressions' scores."""
        return self.query_scores[: len(self.masks)]

    @property
    def cosines(self) -> NDArray[np.float32]:
        """float32 (N,): the expressions' cosines."""
        return self.query_cosines[: len(self.masks)]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """bool (N,): the expressions that are there."""
        return self.queries_kept[: len(self.masks)]

    @property
    def distractor_scores(self) -> NDArray[np.float32]:
        """float32 (D,): the distractors' scores."""
        return self.query_scores[len(self.masks) :]

    @property
    def distractors_kept(self) -> NDArray[np.bool_]:
        """bool (D,): the distractors that are there."""
        return self.queries_kept[len(self.masks) :]
