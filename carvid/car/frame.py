"""What the loop knows of one frame: what is computed once, and what the steps have found so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from carvid.car.choice import Candidates, TrackPrior
from carvid.car.prompts import blur_all
from carvid.car.proposals import EncodedFrame, Proposals
from carvid.car.trace import TraceStep


@dataclass
class LoopFrame:
    """What is computed once for a frame, whatever the number of steps."""

    image: NDArray[np.uint8]
    """uint8 (h, w, 3) RGB, at the size of `prompts.scale`."""
    full: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""
    encoded: EncodedFrame
    """The generator's one pass."""
    prior: TrackPrior | None
    """What earlier frames say."""
    proposals: dict[tuple[tuple[str, ...], tuple[str, ...]], Proposals] = field(
        default_factory=dict
    )
    """Proposals made so far, by the texts that competed for them and the words of the ground."""
    prompted: dict[bytes, Tensor] = field(default_factory=dict)
    """Features of the prompted images encoded so far, float32 (D,), by kinds of prompt and mask."""

    @cached_property
    def blurred(self) -> NDArray[np.uint8]:
        """uint8 (h, w, 3) RGB: `image`, blurred."""
        return blur_all(self.image)

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


class Outcome:
    """What the steps of one frame have found so far, of Q queries."""

    def __init__(self, total: int) -> None:
        self.scores = np.zeros(total, np.float32)
        """float32 (Q,): P[i, i] when query i was last asked."""
        self.cosines = np.full(total, np.nan, np.float32)
        """float32 (Q,): cosine of the same view and text."""
        self.proposals: dict[int, NDArray[np.float32]] = {}
        """y, float32 (H, W), of the queries of each pass's last step that proposed anything."""
        self.candidates: dict[int, Candidates] = {}
        """Of each query that was asked: what it could choose from."""

    def add(self, step: TraceStep, asked: tuple[int, ...]) -> None:
        """Note what a step has found of the queries of its pass, `asked`."""
        h = list(step.queries)
        if step.proposals.masks.any():  # else the proposals of the step before stand
            for query in asked:
                self.proposals.pop(query, None)
            self.proposals.update(zip(h, step.proposals.masks, strict=True))
        self.candidates.update(zip(h, step.candidates, strict=True))
        self.scores[h], self.cosines[h] = step.own, step.cosines
