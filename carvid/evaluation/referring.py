"""Referring segmentation of images: one mask of several sentences, and what is counted of it.

The released evaluation of CaR has an IoU for each sample, and from them mIoU, oIoU and precision.
gRefCOCO has metrics of its own, which know samples without a target: Liu, Ding and Jiang, *GRES*,
CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MERGE_LEVEL = 0.5
"""Least weighted mean of the masks at a pixel of the merged one."""
LEAST_SHARE = 0.05
"""A merged mask that covers no more of the image gives way to the union of all masks."""
PRECISION_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""IoU from which on a sample counts as found."""


@dataclass(frozen=True)
class Overlap:
    """Areas of a predicted and a true mask, pixels."""

    intersection: int
    union: int
    predicted: int
    true: int

    @property
    def iou(self) -> float:
        """Intersection over union; 0 if both masks are empty, as released. Rounded to float32, as
        torch divides there."""
        return float(np.float32(self.intersection) / np.float32(self.union)) if self.union else 0.0


@dataclass(frozen=True)
class ReferringScores:
    """The released evaluation, over samples."""

    miou: float
    """Mean of the IoUs, in [0, 1]."""
    oiou: float
    """Sum of the intersections over that of the unions, in [0, 1]."""
    precision: Mapping[float, float]
    """Share of the samples whose IoU reaches a level of `PRECISION_LEVELS`."""


@dataclass(frozen=True)
class GeneralizedScores:
    """gRefCOCO's own metrics, over samples, some of which have no target."""

    giou: float
    """Mean of the IoUs; without a target 1 if nothing is predicted, else 0."""
    ciou: float
    """Sum of the intersections over that of the unions."""
    n_acc: float
    """Share of the samples without a target for which nothing is predicted; NaN without such."""
    t_acc: float
    """Share of the samples with a target for which something is predicted; NaN without such."""


def overlap(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> Overlap:
    """Measure two masks, bool (H, W).

    Raises:
        ValueError: they have another dtype, or not one shape.
    """
    if truth.shape != prediction.shape or truth.dtype != bool or prediction.dtype != bool:
        raise ValueError(
            f"masks must be bool (H, W) of one size, got {truth.dtype} {truth.shape} and "
            f"{prediction.dtype} {prediction.shape}"
        )
    both = int(np.count_nonzero(truth & prediction))
    predicted, true = int(np.count_nonzero(prediction)), int(np.count_nonzero(truth))
    return Overlap(both, predicted + true - both, predicted, true)


def merge_masks(
    masks: NDArray[np.bool_], scores: NDArray[np.float32], size_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Merge the masks of several sentences that name one thing, as released.

    A pixel belongs to the result if the mean of the masks there, weighted by their scores, is at
    least one half. If that is at most a twentieth of the image, the union of all masks is taken.

    Args:
        masks: bool (N, h, w).
        scores: float32 (N,) in [0, 1], 0 where a sentence was pruned.
        size_hw: height and width of the truth, to which masks of another size are scaled.

    Returns:
        bool (H, W).

    Raises:
        ValueError: the masks have another dtype or shape, or not as many scores.
    """
    if masks.dtype != bool or masks.ndim != 3 or len(masks) != len(scores) or not len(masks):
        raise ValueError(
            f"masks must be bool (N, H, W) with N ≥ 1 scores, got {masks.dtype} {masks.shape} "
            f"and {len(scores)} scores"
        )
    planes = masks.astype(np.float32)
    if masks.shape[1:] != size_hw:
        planes = np.stack([cv2.resize(plane, size_hw[::-1]) for plane in planes])
    weights = np.asarray(scores, np.float32)
    total = weights.sum()
    mean = np.tensordot(weights, planes, 1)
    merged = mean >= MERGE_LEVEL * total if total > 0 else np.zeros(size_hw, bool)
    if np.count_nonzero(merged) <= LEAST_SHARE * merged.size:
        merged = (planes > 0).any(axis=0)
    return np.asarray(merged, bool)


def referring_scores(overlaps: Iterable[Overlap]) -> ReferringScores:
    """Sum up samples by the released evaluation; all is NaN without any."""
    samples = list(overlaps)
    ious = np.array([each.iou for each in samples])
    return ReferringScores(
        _mean(ious), _overall(samples), {level: _mean(ious >= level) for level in PRECISION_LEVELS}
    )


def generalized_scores(overlaps: Iterable[Overlap]) -> GeneralizedScores:
    """Sum up samples by gRefCOCO's own metrics; the truth is the union of a sample's objects."""
    samples = list(overlaps)
    ious = np.array([
        each.intersection / each.union if each.true else float(not each.predicted)
        for each in samples
    ])  # fmt: skip
    return GeneralizedScores(
        _mean(ious),
        _overall(samples),
        _mean(np.array([not each.predicted for each in samples if not each.true])),
        _mean(np.array([each.predicted > 0 for each in samples if each.true])),
    )


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _overall(samples: list[Overlap]) -> float:
    union = sum(each.union for each in samples)
    if not samples:
        return float("nan")
    return sum(each.intersection for each in samples) / union if union else 0.0
