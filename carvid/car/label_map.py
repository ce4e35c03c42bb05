"""One label a pixel from the masks of classes (semantic segmentation, as the released code)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carvid.car.step import StepResult


def label_map(result: StepResult, is_stuff: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Return uint16 (H, W): 0 background, k the k-th text.

    Stuff is painted first, then things, each in ascending order of their scores: things cover
    stuff, and the higher score covers the lower one.

    Args:
        result: of N texts.
        is_stuff: bool (N,).
    """
    return paint(result.masks, result.scores, is_stuff)


def paint(
    masks: NDArray[np.bool_], scores: NDArray[np.float32], is_stuff: NDArray[np.bool_]
) -> NDArray[np.uint16]:
    """Return `label_map` of masks, bool (N, H, W), and scores, float32 (N,)."""
    labels = np.zeros(masks.shape[1:], np.uint16)
    for text in np.lexsort((scores, ~is_stuff)).tolist():  # by pass, then by score
        labels[masks[text]] = text + 1
    return labels


def foreground_map(result: StepResult, labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the label map without background: what the CRF left to it gets the text with the
    highest proposal there; of texts without any proposal there, the one with the highest score.

    Args:
        result: of N texts.
        labels: uint16 (H, W), its `label_map`.
    """
    kept = np.flatnonzero(result.kept)
    if not len(kept):
        kept = np.array([int(result.scores.argmax())])
    by_score = kept[np.argsort(-result.scores[kept], kind="stable")]
    proposals = result.proposals_of(by_score)
    nearest = (by_score[proposals.argmax(axis=0)] + 1).astype(np.uint16)
    return np.where(labels == 0, nearest, labels)
