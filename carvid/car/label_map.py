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
    labels = np.zeros(result.masks.shape[1:], np.uint16)
    order = np.lexsort((result.scores, ~is_stuff))  # by pass, then by score
    for text in order[result.kept[order]].tolist():
        labels[result.masks[text]] = text + 1
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
