"""Which candidate mask is a query's: one step of the Viterbi algorithm for each query.

CaR makes one proposal for each query. Here a query has several candidates: parts of its CAM, and
the tracks that earlier frames carried into this one. The states of its Viterbi path are the
candidates of a frame, and "not there". With the tracks j of the key frame before, and "not there"
among them:

    gain_i       = score_i + wish_weight * (wishes_i - max wishes)
    path value_i = (1 - smoothing) * gain_i
                   + smoothing * max_j (path value_j - hysteresis * change_ij)

where change_ij is 0 if candidate i and track j are the same thing, and 1 if they do not overlap.
The gain of "not there" is θ. A query is there if its best candidate's path value is higher than
that of "not there".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import SAME_IOU, ious
from carvid.car.phrases import Phrase, rate_wishes
from carvid.config import Config

PLAUSIBLE_SHARE = 0.85
"""Wishes choose only among candidates with at least this share of the best score ..."""
PLAUSIBLE_ODDS = 400.0
"""... and whose odds, score to 1 - score, are not so many times worse: among what scores as the
thing, never instead of it."""
MIN_MISS = 1e-7
"""The smallest 1 - score that odds are divided by."""
NO_TRACK = -1
"""In place of a track's index: none, the query is not there."""


@dataclass(frozen=True)
class TrackPrior:
    """What earlier frames say about Q queries: M tracks, carried into this frame."""

    masks: NDArray[np.float32]
    """float32 (M, H, W) in [0, 1]; a track that is nowhere above 0.5 has left the picture."""
    owners: NDArray[np.int64]
    """int64 (M,): the query of each track."""
    values: NDArray[np.float32]
    """float32 (M,): path value of each track at the key frame before, in units of score."""
    absent_values: NDArray[np.float32]
    """float32 (Q,): path value of "not there" at the key frame before, in units of score."""
    chosen: NDArray[np.int64]
    """int64 (Q,): each query's track, or `NO_TRACK`."""
    key_frames_seen: NDArray[np.int64]
    """int64 (Q,): at how many key frames in a row, up to the last one, each query was there."""
    smoothing: float
    """Share of the path so far in a path value, in [0, 1]."""
    hysteresis: float
    """Cost, in units of score, of a path's change to another thing, to "not there" or back."""
    flow: NDArray[np.float32]
    """float32 (h, w, 2): motion, (x, y) in pixels of its own size a second."""
    same_iou: float
    """Candidates that overlap by more (IoU) are classified once."""
    max_new: int
    """Up to so many new proposals are made for a query that was there at the key frame before."""
    at_edge: NDArray[np.bool_]
    """bool (M,): tracks that the picture's edge is cutting off."""

    def tracks_of(self, query: int) -> NDArray[np.int64]:
        """Return the indices, int64, of a query's tracks that are still in the picture."""
        tracks = np.flatnonzero(self.owners == query)
        return tracks[(self.masks[tracks] > 0.5).any(axis=(1, 2))]


@dataclass(frozen=True)
class Candidates:
    """The C masks that one query can choose from in a frame, and the path values of each."""

    masks: NDArray[np.float32]
    """float32 (C, H, W) in [0, 1]."""
    scores: NDArray[np.float32]
    """float32 (C,): P[i, i], the score for the query's own text."""
    values: NDArray[np.float32]
    """float32 (C,): path value of each candidate, in units of score."""
    sources: NDArray[np.int64]
    """int64 (C,): the track of the key frame before that each path comes from, or `NO_TRACK`."""
    absent_value: float
    """Path value of "not there", in units of score."""
    absent_source: int
    """The track of the key frame before that this path comes from, or `NO_TRACK`."""
    best: int
    """The candidate that the query chooses, if it is there at all."""
    always_there: bool = False
    """The query is there, whatever the path values are."""

    @property
    def is_there(self) -> bool:
        """Whether the best candidate has a higher path value than "not there"."""
        return self.always_there or bool(self.values[self.best] > self.absent_value)


def rate(
    scores: NDArray[np.float32],
    masks: NDArray[np.float32],
    query: int,
    phrase: Phrase,
    *,
    theta: float,
    wish_weight: float,
    prior: TrackPrior | None,
    always_there: bool = False,
) -> Candidates:
    """Compute the path value of each of the C candidates of one query.

        gain       = score + wish_weight * (wishes - max wishes)
        path value = (1 - smoothing) * gain
                     + smoothing * max (previous path value - hysteresis * change)

    Without a prior the path value is the gain, and θ for "not there".

    Args:
        scores: float32 (C,): each candidate's score for the query's own text.
        masks: float32 (C, H, W) in [0, 1].
        query: the query's index.
        phrase: the query's text and wishes.
        theta: θ: the gain of "not there".
        wish_weight: weight of wishes when a thing is first seen, in units of score.
        prior: what earlier frames say; None if there are none.
        always_there: the query is there in every frame: no path leads through "not there".
    """
    gain = scores + wish_weight * _wish_gap(scores, masks, query, phrase, prior)
    if prior is not None:
        return _extend_paths(scores, gain, masks, query, theta, prior, always_there)
    return Candidates(
        masks=masks,
        scores=scores,
        values=gain,
        sources=np.full(len(scores), NO_TRACK, np.int64),
        absent_value=theta,
        absent_source=NO_TRACK,
        best=int(gain.argmax()),
        always_there=always_there,
    )


def _wish_gap(
    scores: NDArray[np.float32],
    masks: NDArray[np.float32],
    query: int,
    phrase: Phrase,
    prior: TrackPrior | None,
) -> NDArray[np.float32]:
    """How well each candidate fulfils the wishes, minus the best one's, float32 (C,) in [-1, 0]; 0
    where wishes have no say."""
    gap = np.zeros_like(scores)
    odds = scores / np.maximum(1 - scores, np.float32(MIN_MISS))
    plausible = (scores >= PLAUSIBLE_SHARE * scores.max()) & (PLAUSIBLE_ODDS * odds >= odds.max())
    compared = np.flatnonzero((masks > 0.5).any(axis=(1, 2)) & plausible)
    seen = int(prior.key_frames_seen[query]) if prior else 0
    # What has been on the left may go to the right; only motion needs a second look.
    if phrase.wishes and seen <= phrase.of_motion and len(compared) > 1:
        flow = prior.flow if prior else None
        fulfilled = rate_wishes(phrase.wishes, masks[compared] > 0.5, flow)
        gap[compared] = fulfilled - fulfilled.max()
    return gap


def _extend_paths(
    scores: NDArray[np.float32],
    gain: NDArray[np.float32],
    masks: NDArray[np.float32],
    query: int,
    theta: float,
    prior: TrackPrior,
    always_there: bool,
) -> Candidates:
    """Extend the best paths to the T tracks of the key frame before, and to "not there", by one
    key frame: `rate` with a prior."""
    tracks = np.flatnonzero(prior.owners == query)
    carried = prior.masks[tracks] > 0.5
    same = np.minimum(1, ious(masks > 0.5, carried) / SAME_IOU)  # (C, T) in [0, 1]
    was_chosen = tracks == prior.chosen[query]
    cut_off = same[:, was_chosen & prior.at_edge[tracks]] == 1
    gain = _keep_at_edge(gain, cut_off.any(axis=1), theta)

    # The states of the key frame before, "not there" last: (T + 1,).
    states = np.append(tracks, NO_TRACK)
    absent_before = -np.inf if always_there and len(tracks) else prior.absent_values[query]
    before = np.append(prior.values[tracks], absent_before)
    change = 1 - np.pad(same, ((0, 0), (0, 1)))  # (C, T + 1)
    # To become "not there" is a change, but for a track that was carried out of the picture. Found
    # elsewhere, such a track has changed its place.
    change_to_absent = np.append(carried.any(axis=(1, 2)), False)

    past = prior.smoothing
    paths = before - prior.hysteresis * change
    absent_paths = before - prior.hysteresis * change_to_absent
    values = (1 - past) * gain + past * paths.max(axis=1)
    # Of two candidates with equal path values, the one that was chosen before stays.
    stays = same[:, was_chosen].sum(axis=1)
    return Candidates(
        masks=masks,
        scores=scores,
        values=values.astype(np.float32),
        sources=states[paths.argmax(axis=1)],
        absent_value=float((1 - past) * theta + past * absent_paths.max()),
        absent_source=int(states[absent_paths.argmax()]),
        best=int((values + prior.hysteresis * stays).argmax()),
        always_there=always_there,
    )


def _keep_at_edge(
    gain: NDArray[np.float32], cut_off: NDArray[np.bool_], theta: float
) -> NDArray[np.float32]:
    """The gains, float32 (C,), of candidates that the picture's edge cuts off, bool (C,), raised to
    θ: they are hard to recognise, which does not mean that they are not there. The path so far
    decides."""
    return np.where(cut_off, np.maximum(gain, np.float32(theta)), gain)


def representatives(
    masks: NDArray[np.bool_], kinds: Sequence[object], same_iou: float
) -> NDArray[np.int64]:
    """Return which mask can be classified in place of each, int64 (C,): an earlier one that is
    nearly the same, or else its own index.

    Args:
        masks: bool (C, H, W).
        kinds: each mask's kind of prompt; only one of the same kind can represent it.
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


def most_parts(query: int, phrase: Phrase, prior: TrackPrior | None, config: Config) -> int:
    """Return the most parts of a query's CAM that are candidates."""
    most = config.proposals.parts
    if phrase.wishes:
        most = max(most, config.phrases.parts)
    if prior is not None and prior.key_frames_seen[query] > phrase.of_motion:
        most = min(most, prior.max_new)  # a known thing is not looked for everywhere
    return most


def rows_in(owners: NDArray[np.int64], owner: int) -> slice | NDArray[np.int64]:
    """Return which rows are an owner's, of int64 (C,); as a slice, which copies nothing, where they
    lie side by side."""
    rows = np.flatnonzero(owners == owner)
    if rows[-1] - rows[0] + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
