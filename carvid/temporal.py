"""What survives from frame to frame.

h of a frame starts from h of the frame before: a query that has stayed under θ for some frames is
asked no more, and is offered again at intervals, so that what left the picture can return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.car.segmenter import StepResult
from carvid.config import TemporalConfig


@dataclass(frozen=True)
class TemporalState:
    """The state between two frames, for Q queries: plain data, so that a killed run resumes."""

    misses: NDArray[np.int64]
    """int64 (Q,): how many times in a row each query was asked and not found."""
    scores: NDArray[np.float32]
    """float32 (Q,): each query's score when it was last asked."""
    since_offer: int
    """Frames since all queries were last asked together."""

    @classmethod
    def initial(cls, queries: int) -> TemporalState:
        """Return the state before the first frame: everything is asked."""
        return cls(np.zeros(queries, np.int64), np.zeros(queries, np.float32), 0)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping that `from_dict` loads back equal."""
        return {
            "misses": self.misses.tolist(),
            "scores": self.scores.astype(float).tolist(),
            "since_offer": self.since_offer,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TemporalState:
        """Load what `to_dict` saved."""
        return cls(
            np.array(values["misses"], np.int64),
            np.array(values["scores"], np.float32),
            int(values["since_offer"]),
        )


def queries_to_ask(state: TemporalState, config: TemporalConfig) -> NDArray[np.bool_]:
    """Return h_0 of the next frame, bool (Q,)."""
    if not config.carry_queries or state.since_offer + 1 >= config.reoffer_every:
        return np.ones(len(state.misses), bool)
    return state.misses < config.drop_after


def advance(state: TemporalState, asked: NDArray[np.bool_], result: StepResult) -> TemporalState:
    """Return the state that a frame leaves, given h_0, bool (Q,), and what was found."""
    return TemporalState(
        misses=np.where(result.kept, 0, state.misses + asked),
        scores=np.where(asked, result.scores, state.scores).astype(np.float32),
        since_offer=0 if asked.all() else state.since_offer + 1,
    )
