"""CaR's step where every thing of an expression counts: all parts of its CAM that score as it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import ious
from carvid.car.choice import NO_TRACK, TrackPrior
from carvid.car.detections import Detections
from carvid.car.frame import LoopFrame, Outcome
from carvid.car.peaks import split_peaks
from carvid.car.phrases import Phrase, understand
from carvid.car.proposals import EncodedFrame, Proposals, to_masks
from carvid.car.queries import Queries
from carvid.car.segmenter import ApplyMemory, RecurrentSegmenter

SAME_VIEW_IOU = 0.7
"""Candidates that overlap by more are shown to the classifier once."""


class InstanceSegmenter(RecurrentSegmenter):
    """The recurrent unit with the parts of expressions' CAMs for candidates, as many as there are.

    Words of place, size and motion are left to CLIP: they choose one thing, and here all count.

    Args:
        unit: the segmenter whose networks and settings it has.
    """

    def __init__(self, unit: RecurrentSegmenter) -> None:
        super().__init__(
            unit.generator.backbone, unit.classifier.backbone, unit.config, unit.sharpen.sam
        )
        self.generator, self.classifier = unit.generator, unit.classifier
        self._count = 0
        """Expressions of the frame at hand."""

    def understand(self, text: str) -> Phrase:
        """Return what an expression asks of CLIP: all that it says."""
        return understand(text, replace(self.config.phrases, enabled=False))

    def find(
        self,
        image: NDArray[np.uint8],
        queries: Queries,
        followed: Sequence[NDArray[np.float32]],
        *,
        encoded: EncodedFrame | None = None,
    ) -> list[Detections]:
        """Return what a key frame has of each of the N expressions; distractors compete.

        Args:
            image: uint8 (H, W, 3) RGB.
            queries: expressions and distractors.
            followed: of each expression the K masks that are followed, float32 (K, h, w) in
                [0, 1] at `size_of` the image.
            encoded: as of `segment`.

        Raises:
            ExpressionError: as `segment`.
        """
        self._count = len(queries.texts)
        prior = _prior(followed, len(queries.all), self.size_of(image))
        result = self.segment(image, queries, prior=prior, encoded=encoded)
        found = []
        for query, tracks in enumerate(followed):
            candidates = result.candidates.get(query)
            asked = np.zeros(len(tracks), np.float32)
            masks, scores = np.zeros((0, *self.size_of(image)), np.float32), asked[:0]
            if candidates is not None:
                there = prior.tracks_of(query) - prior.tracks_before(query)
                parts = len(candidates.scores) - len(there)
                asked[there] = candidates.scores[parts:]
                masks, scores = candidates.masks[:parts], candidates.scores[:parts]
            best = float(max([*scores, *asked], default=0.0))
            rows = self._distinct(masks, scores)
            found.append(Detections(masks[rows], scores[rows], asked, best))
        return found

    def _distinct(self, masks: NDArray[np.float32], scores: NDArray[np.float32]) -> list[int]:
        """Which candidates score above θ, the best first, without those that are mostly one of
        those before; float32 (C, h, w) in [0, 1], float32 (C,)."""
        inside = masks > self.config.prompts.eta
        rows: list[int] = []
        for row in np.argsort(-scores, kind="stable").tolist():
            if scores[row] <= self.config.car.theta or not inside[row].any():
                continue
            if not rows or ious(inside[[row]], inside[rows]).max() <= SAME_VIEW_IOU:
                rows.append(row)
        return rows

    def _candidates(
        self, frame: LoopFrame, proposals: Proposals, h: list[int], phrases: Sequence[Phrase]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Candidates of the queries in h: of an expression the parts of its CAM, and what is
        followed of it; of a distractor the whole CAM."""
        config, prior = self.config.instances, frame.prior
        assert prior is not None
        parts = [
            split_peaks(plane, level=config.level, saddle=config.saddle, most=config.parts)
            if query < self._count else plane[None]
            for query, plane in zip(h, proposals.refined, strict=True)
        ]  # fmt: skip
        owners = np.repeat(np.arange(len(h)), [len(each) for each in parts])
        tracks = [prior.tracks_of(query) for query in h]
        followed = [prior.masks[mine] for mine in tracks]
        return (
            np.concatenate([to_masks(np.concatenate(parts), frame.size_hw), *followed]),
            np.concatenate([owners, np.repeat(np.arange(len(h)), [len(mine) for mine in tracks])]),
        )

    def _masks(
        self,
        image: NDArray[np.uint8],
        queries: Queries,
        kept: NDArray[np.bool_],
        outcome: Outcome,
        apply_memory: ApplyMemory | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """No masks: of what is found only the tracks know what is whose."""
        count = len(queries.texts)
        return np.zeros((count, 0, 0), np.float32), np.zeros((count, 0, 0), bool)


class _Followed(TrackPrior):
    """A prior in which what is followed is a candidate like any other one."""

    def tracks_before(self, query: int) -> int:
        """Return how many tracks lie before those of a query, whose rows follow each other."""
        return int(np.count_nonzero(self.owners < query))


def _prior(
    followed: Sequence[NDArray[np.float32]], queries: int, size_hw: tuple[int, int]
) -> _Followed:
    """What is followed, as a prior that leaves the scores as they are."""
    owners = np.repeat(np.arange(len(followed)), [len(each) for each in followed])
    count, zeros = len(owners), np.zeros(queries, np.float32)
    return _Followed(
        masks=np.concatenate([np.zeros((0, *size_hw), np.float32), *followed]),
        owners=owners,
        values=np.zeros(count, np.float32),
        absent_values=zeros,
        chosen=np.full(queries, NO_TRACK),
        key_frames_seen=np.zeros(queries, np.int64),
        smoothing=0.0,
        hysteresis=0.0,
        flow=np.zeros((1, 1, 2), np.float32),
        same_iou=SAME_VIEW_IOU,
        max_new=1,
        at_edge=np.zeros(count, bool),
    )
