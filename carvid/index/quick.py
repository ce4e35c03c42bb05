"""A first answer: the classifier is asked about a few key frames, and dense maps say the rest.

A mask's *strength* for a text is the mean probability of the dense map in it, its *look* the mean
dense feature. At the few key frames where a text's map is strongest CaR runs as always, with its
classifier, and scores candidates j: s_j, at strength p_j. A mask of strength p in another frame is
scored as those that it looks like,

    w_j = softmax_j(κ · cos(look, look_j))      score = Σ w_j s_j · min(1, p / Σ w_j p_j)

so that what the classifier has told from the thing there is told from it here, and a thing that is
weaker than where it was seen has less of its score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from carvid.base.brief import Brief
from carvid.car.competitors import Competitors
from carvid.car.frame import LoopFrame
from carvid.car.proposals import EncodedFrame
from carvid.car.queries import Queries, in_template
from carvid.car.segmenter import RecurrentSegmenter
from carvid.clip.dense import DenseFeatures
from carvid.config import Config

STRONG = 0.5
"""A map's strength before there is a mask is its mean where it is above this share of its
maximum."""
WEAKEST = 1e-6
"""The least strength that others are compared with."""
LOOKS_SCALE = 200.0
"""κ: with a cosine that is 0.02 less, a candidate has a fiftieth of the say. Dense features of one
picture are all alike, and differ there."""


@dataclass(frozen=True, eq=False, repr=False)
class Anchor(Brief):
    """What the classifier has said of a text: of its best mask, and of the n candidates of its
    strongest key frames."""

    score: float
    """The best mask's score, in [0, 1]."""
    frame: int
    """Its key frame's index."""
    looks: NDArray[np.float32]
    """float32 (n, D'): the candidates' looks, unit; zeros of an empty one."""
    scores: NDArray[np.float32]
    """float32 (n,) in [0, 1]: the candidates' scores, s_j."""
    strengths: NDArray[np.float32]
    """float32 (n,) in [0, 1]: their strengths for the text, p_j."""

    def score_of(self, look: NDArray[np.float32], strength: float) -> float:
        """Return the score of another mask, by its look, float32 (D',), and its strength."""
        alike = LOOKS_SCALE * (self.looks @ look)
        weights = np.exp(alike - alike.max())
        weights /= weights.sum()
        usual = max(float(weights @ self.strengths), WEAKEST)
        return float(weights @ self.scores) * min(1.0, strength / usual)


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
        inside = masks > self.config.prompts.eta
        for row, (text, mask) in enumerate(zip(texts, inside, strict=True)):
            look = look_of(frame.encoded, mask)
            scores[row, columns[row]] = self.anchors[text].score_of(
                look, strength(chances[text], mask)
            )
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
    cover = _cover(mask, (chances.shape[0], chances.shape[1]))
    return float((cover * chances).sum() / max(float(cover.sum()), WEAKEST))


def look_of(encoded: EncodedFrame, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the mean of dense features in a mask, bool (H, W): float32 (D',), unit; zeros if the
    mask is empty."""
    features = encoded.features
    assert isinstance(features, DenseFeatures)
    cover = torch.from_numpy(_cover(mask, features.grid_hw).reshape(-1, 1))
    cover = cover.to(features.steps.device)
    mean = (cover * features.steps).T @ features.values.float()  # (1, D')
    return np.asarray(F.normalize(mean[0], dim=0).cpu().numpy(), np.float32)


def _cover(mask: NDArray[np.bool_], grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """How much of each patch a mask, bool (H, W), covers: float32 (h, w) in [0, 1]."""
    covered = cv2.resize(mask.astype(np.float32), grid_hw[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(covered, np.float32)


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
        Score and frame are of the key frame with the highest score, among those where the query is
        kept, if it is in any.
    """
    alive = np.arange(len(queries.all)) == query
    text = unit.text_of(queries, query)
    found: list[tuple[bool, float, int]] = []
    looks, scores, strengths = [], [], []
    for index, image, encoded in key_frames:
        step = unit.segment(image, queries, alive=alive, encoded=encoded)
        candidates = step.candidates[query]
        chances = probabilities(unit, encoded, [text])[text]
        for mask in candidates.masks > unit.config.prompts.eta:
            looks.append(look_of(encoded, mask))
            strengths.append(strength(chances, mask))
        scores.append(candidates.scores)
        found.append((bool(step.queries_kept[query]), float(step.query_scores[query]), index))
    _, score, frame = max(found, key=lambda each: each[:2])
    return Anchor(
        score, frame, np.stack(looks), np.concatenate(scores), np.array(strengths, np.float32)
    )
