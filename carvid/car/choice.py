"""Which of a query's proposals is it? The best score, what was there before, what was wished.

CaR has one proposal for each query. Where there are several (parts of a CAM, masks that earlier
frames left), the choice follows a path through time: one step of the Viterbi algorithm for each
query, whose states are the candidate masks of a frame, and "it is not there".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import SAME_IOU, ious
from carvid.car.phrases import Phrase, rate_wishes

PLAUSIBLE, ODDS = 0.85, 400.0
"""Wishes choose among candidates with at least this share of the best one's score, whose odds, p to
1 − p, are not so many times worse: among what scores as the thing, never instead of it."""
NONE = -1
"""In place of an index: not there."""


@dataclass(frozen=True)
class TrackPrior:
    """What earlier frames say about Q queries: M tracks, carried into this frame."""

    masks: NDArray[np.float32]
    """float32 (M, H, W) in [0, 1]; a plane nowhere above 0.5 has left the picture."""
    owners: NDArray[np.int64]
    """int64 (M,): the query of each."""
    values: NDArray[np.float32]
    """float32 (M,): what the best path to each was worth, in units of score."""
    absent: NDArray[np.float32]
    """float32 (Q,): what the best path to "not there" was worth."""
    chosen: NDArray[np.int64]
    """int64 (Q,): the track that each query has taken, or `NONE`."""
    key_frames_seen: NDArray[np.int64]
    """int64 (Q,): at how many key frames in a row each thing was there."""
    smoothing: float
    """The past's share in a path's value."""
    hysteresis: float
    """What it costs a path to change from one thing to another, or to nothing and back."""
    flow: NDArray[np.float32]
    """float32 (h, w, 2): motion, (x, y) in pixels of its own size a second."""
    same_iou: float
    """Masks that overlap by more (IoU) are shown to the classifier once."""
    max_new: int
    """Up to so many new proposals are made for a query that was there at the key frame before."""
    at_edge: NDArray[np.bool_]
    """bool (M,): tracks that the picture's edge is cutting off."""

    def of(self, query: int) -> NDArray[np.int64]:
        """Return the tracks of a query that are still in the picture."""
        mine = np.flatnonzero(self.owners == query)
        return mine[(self.masks[mine] > 0.5).any(axis=(1, 2))]


@dataclass(frozen=True)
class Candidates:
    """The masks that one query could take in a frame, and what each choice is worth."""

    masks: NDArray[np.float32]
    """float32 (C, H, W) in [0, 1]."""
    own: NDArray[np.float32]
    """float32 (C,): P[i, i], the score for the query's own text."""
    values: NDArray[np.float32]
    """float32 (C,): what the best path to each is worth."""
    sources: NDArray[np.int64]
    """int64 (C,): the track that each path comes from, or `NONE`."""
    absent: float
    """What the best path to "not there" is worth."""
    absent_source: int
    """The track that it comes from, or `NONE`."""
    best: int
    """The candidate that the query takes, if it is there at all."""
    surely: bool = False
    """It is there, whatever the candidates score."""

    @property
    def there(self) -> bool:
        """Whether the best candidate is worth more than "not there"."""
        return self.surely or bool(self.values[self.best] > self.absent)


def rate(
    own: NDArray[np.float32],
    masks: NDArray[np.float32],
    query: int,
    phrase: Phrase,
    *,
    theta: float,
    wish_weight: float,
    prior: TrackPrior | None,
    surely: bool = False,
) -> Candidates:
    """Say what each of the C candidates of one query is worth.

    Args:
        own: float32 (C,): each candidate's score for the query's own text.
        masks: float32 (C, H, W) in [0, 1].
        query: the query's index.
        phrase: what it asks.
        theta: θ: what "not there" scores.
        wish_weight: what wholly fulfilled wishes are worth when a thing is first seen, in units of
            score.
        prior: what earlier frames say, if there are any.
        surely: the query is there in every frame: no path leads through "not there".
    """
    gain = own.copy()
    odds = own / np.maximum(1 - own, np.float32(1e-7))
    plausible = (own >= PLAUSIBLE * own.max()) & (ODDS * odds >= odds.max())
    open_to = np.flatnonzero((masks > 0.5).any(axis=(1, 2)) & plausible)
    seen = int(prior.key_frames_seen[query]) if prior else 0
    # What has been on the left may go to the right; only motion needs a second look.
    if phrase.wishes and seen <= phrase.of_motion and len(open_to) > 1:
        fulfilled = rate_wishes(phrase.wishes, masks[open_to] > 0.5, prior.flow if prior else None)
        gain[open_to] += wish_weight * (fulfilled - fulfilled.max())
    if prior is None:
        sources = np.full(len(own), NONE, np.int64)
        return Candidates(masks, own, gain, sources, theta, NONE, int(gain.argmax()), surely)
    tracks = np.flatnonzero(prior.owners == query)
    carried = prior.masks[tracks] > 0.5
    absent = -np.inf if surely and len(tracks) else prior.absent[query]
    path_values = np.append(prior.values[tracks], absent)
    same = np.minimum(1, ious(masks > 0.5, carried) / SAME_IOU)  # (C, tracks)
    was_taken = tracks == prior.chosen[query]
    # What the edge cuts off is not gone because it cannot be recognized: the past decides.
    leaves = (same[:, was_taken & prior.at_edge[tracks]] == 1).any(axis=1)
    gain[leaves] = np.maximum(gain[leaves], np.float32(theta))
    # No candidate is the same as "not there", the last column.
    paths = path_values - prior.hysteresis * (1 - np.pad(same, ((0, 0), (0, 1))))
    came = paths.argmax(axis=1)
    past = prior.smoothing
    values = (1 - past) * gain + past * paths.max(axis=1)
    # What was carried out of the picture is gone at no cost; found elsewhere, it has changed place.
    gone = path_values - prior.hysteresis * np.append(carried.any(axis=(1, 2)), False)
    indices = np.append(tracks, NONE)
    # Of two things that are worth the same, the one that was taken stays.
    taken = same[:, was_taken].sum(axis=1)
    return Candidates(
        masks,
        own,
        values.astype(np.float32),
        indices[came],
        float((1 - past) * theta + past * gone.max()),
        int(indices[gone.argmax()]),
        int((values + prior.hysteresis * taken).argmax()),
        surely,
    )


def representatives(
    masks: NDArray[np.bool_], kinds: Sequence[object], same_iou: float
) -> NDArray[np.int64]:
    """Say which mask can be shown in the place of each: int64 (C,), its own index if no other.

    Args:
        masks: bool (C, H, W).
        kinds: of the C prompts; those of another kind cannot stand in.
        same_iou: the IoU that two masks must exceed.
    """
    overlap = ious(masks, masks)
    result = np.arange(len(masks))
    for i in range(len(masks)):
        for j in range(i):
            if result[j] == j and overlap[i, j] > same_iou and kinds[i] == kinds[j]:
                result[i] = j
                break
    return result
