"""The recurrent steps of one frame, one by one, for who looks inside."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from carvid.base.brief import Brief
from carvid.car.choice import Candidates
from carvid.car.proposals import Proposals


@dataclass(frozen=True, eq=False, repr=False)
class TraceStep(Brief):
    """One recurrent step: its inputs, P_t and what it chose."""

    queries: tuple[int, ...]
    """h_{t-1}: indices into `Queries.all`."""
    proposals: Proposals
    """y_t with its stages, one for each of `queries`."""
    competitors: tuple[str, ...]
    """Texts of the columns of `scores`."""
    scores: NDArray[np.float32]
    """P_t: float32 (len(queries), M), rows sum to 1."""
    own: NDArray[np.float32]
    """float32 (len(queries),): P[i, i], each query's score for its own text."""
    cosines: NDArray[np.float32]
    """float32 (len(queries),): cosine of the same view and text; NaN where nothing competed."""
    kept: tuple[int, ...]
    """h_t: indices into `Queries.all`."""
    candidates: tuple[Candidates, ...]
    """The candidates of each of `queries`."""


@dataclass(repr=False)
class Trace:
    """The steps of one frame, in order."""

    steps: list[TraceStep] = field(default_factory=list)
    """Filled by `RecurrentSegmenter.segment`."""

    def __repr__(self) -> str:
        return f"Trace(<{len(self.steps)} steps>)"
