"""A first answer: the classifier is asked about a few key frames, and dense maps say the rest.

A mask's *strength* for a text is the mean probability of the dense map in it. At the few key frames
where a text's map is strongest CaR runs as always, with its classifier. What it says of the best
mask there, score s₀ at strength p₀, stands for that text in the whole clip: a mask of strength p
scores s₀ · min(1, p / p₀).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.car.competitors import Competitors
from carvid.car.frame import LoopFrame
from carvid.car.proposals import EncodedFrame
from carvid.car.queries import Queries, in_template
from carvid.car.segmenter import RecurrentSegmenter
from carvid.config import Config

STRONG = 0.5
"""A map's strength before there is a mask is its mean where it is above this share of its
maximum."""
WEAKEST = 1e-6
"""The least strength that others are compared with."""


@dataclass(frozen=True)
class Anchor:
    """What the classifier has said of a text's best mask."""

    score: float
    """Its score, in [0, 1]."""
    strength: float
    """The mask's strength for the text, in [0, 1]."""
    frame: int
    """The key frame's index."""


class QuickSegmenter(RecurrentSegmenter):
    """CaR's loop without its classifier: scores follow from anchors, by text.

    Args:
        unit: the segmenter whose networks and settings it has.
        anchors: of each text that is asked for, as `text_of` writes it.
    """

    def __init__(self, unit: RecurrentSegmenter, anchors: Mapping[str, Anchor]) -> None:
        super().__init__(
            unit.generator.backbone, unit.classifier.backbone, unit.config, unit.sharpen.sam
        )
        self.anchors = anchors
        """What scores follow from, by text."""

    def _scores(
        self,
        frame: LoopFrame,
        kinds: Sequence[tuple[str, ...]],
        owners: NDArray[np.int64],
        masks: NDArray[np.float32],
        competitors: Competitors,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        columns = competitors.own[owners]
        texts = [competitors.texts[column] for column in columns]
        chances = probabilities(self, frame.encoded, list(dict.fromkeys(texts)))
        scores = np.zeros((len(masks), len(competitors.texts)), np.float32)
        for row, (text, mask) in enumerate(zip(texts, masks, strict=True)):
            anchor = self.anchors[text]
            share = strength(chances[text], mask > self.config.prompts.eta) / anchor.strength
            scores[row, columns[row]] = anchor.score * min(1.0, share)
        return scores, np.full(len(masks), np.nan, np.float32)


def with_config(unit: RecurrentSegmenter, config: Config) -> RecurrentSegmenter:
    """Return a segmenter of the same networks with other settings."""
    generator, classifier = unit.generator.backbone, unit.classifier.backbone
    return RecurrentSegmenter(generator, classifier, config, unit.sharpen.sam)


def forgetting(unit: RecurrentSegmenter, queries: Queries) -> RecurrentSegmenter:
    """Return a segmenter that encodes the texts of these queries anew: what it says depends, bit
    by bit, on no others that were asked before."""
    texts = [unit.text_of(queries, query) for query in range(len(queries.all))]
    networks = (unit.generator.backbone, unit.classifier.backbone)
    templates = ("{}", unit.config.proposals.template, *unit.config.classifier.templates)
    gone = [in_template(template, text) for template in templates for text in texts]
    first, second = (network.forgetting(gone) for network in networks)
    same = networks[0] is networks[1]
    other = RecurrentSegmenter(first, first if same else second, unit.config, unit.sharpen.sam)
    other.check_texts(queries)
    return other


def without_crf(unit: RecurrentSegmenter) -> RecurrentSegmenter:
    """Return a segmenter whose masks are the proposals above η."""
    config = replace(unit.config, crf=replace(unit.config.crf, enabled=False))
    return RecurrentSegmenter(unit.generator.backbone, unit.classifier.backbone, config)


def probabilities(
    unit: RecurrentSegmenter, encoded: EncodedFrame, texts: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return each text's dense map, float32 (h, w) in [0, 1], not scaled to its own range."""
    maps = unit.generator.probabilities(encoded, texts)
    return dict(zip(texts, maps, strict=True))


def strength(chances: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Return the mean of a map, float32 (h, w) in [0, 1], in a mask, bool (H, W)."""
    size = (chances.shape[1], chances.shape[0])
    cover = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return float((cover * chances).sum() / max(float(cover.sum()), WEAKEST))


def peak(chances: NDArray[np.float32]) -> float:
    """Return a map's strength before there is a mask: the mean of what is above `STRONG` of its
    maximum; `chances` is float32 (h, w) in [0, 1]."""
    above = chances[chances > STRONG * chances.max()]
    return float(above.mean()) if above.size else 0.0


def strongest(
    peaks: NDArray[np.float64], times_s: NDArray[np.float64], most: int, apart_s: float
) -> list[int]:
    """Return the key frames in which a text's map is strongest, the strongest first.

    Args:
        peaks: float64 (K,): its `peak` in K key frames.
        times_s: float64 (K,): their times, seconds, or NaN.
        most: how many.
        apart_s: the least time between two of them, seconds, as long as there are such.
    """
    order = np.argsort(-peaks, kind="stable").tolist()
    chosen: list[int] = []
    for distance_s in (apart_s, 0.0):
        for key in order:
            far = all(not abs(times_s[key] - times_s[other]) < distance_s for other in chosen)
            if len(chosen) < most and key not in chosen and far:
                chosen.append(key)
    return chosen


def anchor_of(
    unit: RecurrentSegmenter,
    queries: Queries,
    query: int,
    key_frames: Sequence[tuple[int, NDArray[np.uint8], EncodedFrame]],
) -> Anchor:
    """Ask the classifier about a query's strongest key frames.

    Args:
        unit: CaR, whose masks are not looked at.
        queries: all that is asked for; they compete.
        query: the one.
        key_frames: index, image, uint8 (H, W, 3) RGB, and encoding of each.

    Returns:
        Of the key frame with the highest score, among those where the query is kept, if it is in
        any.
    """
    alive = np.arange(len(queries.all)) == query
    text = unit.text_of(queries, query)
    found: list[tuple[bool, float, Anchor]] = []
    for index, image, encoded in key_frames:
        step = unit.segment(image, queries, alive=alive, encoded=encoded)
        candidates = step.candidates[query]
        mask = candidates.masks[candidates.best] > unit.config.prompts.eta
        chances = probabilities(unit, encoded, [text])[text]
        at = max(strength(chances, mask), WEAKEST)
        score = float(step.query_scores[query])
        found.append((bool(step.queries_kept[query]), score, Anchor(score, at, index)))
    return max(found, key=lambda each: each[:2])[2]
