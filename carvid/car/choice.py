"""Which of a query's proposals is it? The best score, what was there before, what was wished.

CaR has one proposal for each query. Where there are several (parts of a CAM, the mask that an
earlier frame left), their classifier scores, their overlap with what is expected, and what the
expression says of place and motion are added up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carvid.phrases import Phrase, grant

MIN_OVERLAP = 0.2
"""A proposal that overlaps what is expected by more (IoU) is taken for the same thing."""
PLAUSIBLE = 0.5
"""Wishes choose among proposals with at least this share of the best one's score."""


@dataclass(frozen=True)
class Prior:
    """What earlier frames say about where the N expressions' things are."""

    masks: NDArray[np.float32]
    """float32 (N, H, W) in [0, 1]; a plane nowhere above 0.5 expects nothing."""
    weight: NDArray[np.float32]
    """float32 (H, W) in [0, 1]: a mask's share in a proposal that overlaps it."""
    stickiness: float
    """What overlap is worth, in units of score."""
    settled: NDArray[np.int64]
    """int64 (N,): at how many key frames in a row each thing was there."""
    flow: NDArray[np.float32]
    """float32 (h, w, 2): motion since the frame before, (x, y) in pixels of its own size."""

    def expects(self, query: int) -> bool:
        """Whether the thing of a query (distractors have none) has a place."""
        return query < len(self.masks) and bool((self.masks[query] > 0.5).any())

    def overlaps(self, query: int, masks: NDArray[np.float32]) -> NDArray[np.float32]:
        """IoU with soft masks, float32 (C, H, W), above a half: float32 (C,)."""
        expected = self.masks[query] > 0.5
        found = masks > 0.5
        both = (found & expected).sum(axis=(1, 2))
        either = (found | expected).sum(axis=(1, 2))
        return np.asarray(both / np.maximum(either, 1), np.float32)


@dataclass(frozen=True)
class Choice:
    """The proposal that a query takes."""

    index: int
    """Which it is."""
    mask: NDArray[np.float32]
    """float32 (H, W) in [0, 1]: the proposal, blended with what was expected."""


def choose(
    own: NDArray[np.float32],
    masks: NDArray[np.float32],
    query: int,
    phrase: Phrase,
    wish_weight: float,
    prior: Prior | None,
) -> Choice:
    """Choose among the C proposals of one query.

    Args:
        own: float32 (C,): each proposal's score for the query's own text.
        masks: float32 (C, H, W) in [0, 1].
        query: the query's index.
        phrase: what it asks.
        wish_weight: what wholly fulfilled wishes are worth at first sight, in units of score.
        prior: what earlier frames say, if there are any.
    """
    values = own.copy()
    settled = int(prior.settled[query]) if prior and query < len(prior.settled) else 0
    open_to = np.flatnonzero((masks > 0.5).any(axis=(1, 2)) & (own >= PLAUSIBLE * own.max()))
    if phrase.wishes and len(open_to) > 1:
        granted = grant(phrase.wishes, masks[open_to] > 0.5, prior.flow if prior else None)
        values[open_to] += wish_weight / (1 + settled) * granted
    if prior is None or not prior.expects(query):
        index = int(values.argmax())
        return Choice(index, masks[index])
    overlaps = prior.overlaps(query, masks)
    index = int((values + prior.stickiness * overlaps).argmax())
    mask = masks[index]
    if overlaps[index] > MIN_OVERLAP:
        mask = mask + prior.weight * (prior.masks[query] - mask)
    return Choice(index, mask)
