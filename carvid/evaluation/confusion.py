"""Confusion matrices of label maps, and what semantic segmentation is scored by.

Protocols by name, for a set that has no background (for one that has, both are the plain mIoU):

    released  pixels of the background, true or predicted, count for nothing (CaR's own code)
    usual     true background counts for nothing; background predicted elsewhere is wrong

Everything comes from one matrix over a whole set. Letter: n classes with the background, which
is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError

SemanticProtocol = Literal["released", "usual"]
Matrix = NDArray[np.int64]
"""int64 (n, n): pixels of each class, in rows by the truth, in columns by the prediction."""
Labels = NDArray[np.unsignedinteger[Any]]
"""Unsigned (H, W): 0 background, k class k."""


@dataclass(frozen=True)
class SemanticScores:
    """Numbers of one protocol, fractions in [0, 1]; NaN where no pixel counts."""

    miou: float
    """Mean IoU of the classes that have truth; a class that is only predicted is no part of it."""
    pixel_accuracy: float
    mean_accuracy: float
    """Mean over the classes that have truth."""
    frequency_weighted_iou: float
    """Mean IoU, weighted with the truth's pixels."""
    class_iou: Mapping[int, float]
    """Label → IoU, of the classes that have truth or are predicted."""

    def to_json(self) -> dict[str, Any]:
        """Return mIoU, pixel_accuracy, mean_accuracy, frequency_weighted_iou and class_iou, whose
        keys are labels as text; None where no pixel counts."""
        values = {
            "mIoU": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
        }
        numbers = {name: None if np.isnan(value) else value for name, value in values.items()}
        return numbers | {"class_iou": {str(k): value for k, value in self.class_iou.items()}}


def confusion(truth: Labels, prediction: Labels, n_class: int) -> Matrix:
    """Count the pixels of an image by true and predicted label.

    Args:
        truth: unsigned (H, W); `n_class` and above is void and left out.
        prediction: unsigned (H, W), of the same size.
        n_class: n, with the background.

    Returns:
        int64 (n, n), rows truth, columns prediction.

    Raises:
        ValueError: a map has another dtype or shape.
        DatasetError: a label is predicted that there is no class for.
    """
    for name, labels in (("truth", truth), ("prediction", prediction)):
        if labels.dtype.kind != "u" or labels.ndim != 2:
            raise ValueError(f"{name} must be unsigned (H, W), got {labels.dtype} {labels.shape}")
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape}, prediction {prediction.shape}")
    highest = int(prediction.max(initial=0))
    if highest >= n_class:
        raise DatasetError(
            f"the prediction has label {highest}, and labels go from 0 (background) to "
            f"{n_class - 1}; write label k for class k"
        )
    # Void goes to a row of its own, which is cut off.
    cells = truth.astype(np.int64)
    np.minimum(cells, n_class, out=cells)
    cells *= n_class
    cells += prediction
    counts = np.bincount(cells.ravel(), minlength=(n_class + 1) * n_class)
    return counts.reshape(n_class + 1, n_class)[:n_class]


def semantic_scores(matrix: Matrix, *, background: bool) -> SemanticScores:
    """Score a set as the released code does.

    Args:
        matrix: int64 (n, n), the sum over a set's images.
        background: whether the background is a class. If not, row and column 0 are deleted first:
            what is predicted as background vanishes, from the unions, too.
    """
    first = 0 if background else 1
    counted = matrix[first:, first:]
    return _scores(counted.sum(axis=1), counted.sum(axis=0), np.diagonal(counted), first)


def usual_scores(matrix: Matrix) -> SemanticScores:
    """Score a set without background in the usual way: true background is left out, and what is
    predicted as background elsewhere is wrong.

    Args:
        matrix: int64 (n, n), of predictions that give every pixel one of the classes.
    """
    counted = matrix[1:]
    return _scores(counted.sum(axis=1), counted[:, 1:].sum(axis=0), np.diagonal(matrix)[1:], 1)


def scores_by(protocol: SemanticProtocol, matrix: Matrix, *, background: bool) -> SemanticScores:
    """Score a set by a protocol's name; with background both are the same."""
    if protocol == "usual" and not background:
        return usual_scores(matrix)
    return semantic_scores(matrix, background=background)


def never_labelled(matrix: Matrix) -> tuple[int, ...]:
    """Return the labels that are predicted, though the truth shows none of them."""
    only_predicted = (matrix.sum(axis=0) > 0) & (matrix.sum(axis=1) == 0)
    return tuple(np.flatnonzero(only_predicted).tolist())


def one_class_short(matrix: Matrix) -> Matrix:
    """Return the matrix (n − 1, n − 1) that the released code counts with where it is told of one
    class too few, as for ADE 847 (847 where 848 is meant).

    The last class's truth is left out as void, and where it is predicted, the pixel goes to the
    next row's column 0.

    Raises:
        DatasetError: the last class is predicted where the last but one is true, which the
            released code ends at.
    """
    last = len(matrix) - 1
    if matrix[last - 1, last]:
        raise DatasetError(
            f"label {last} is predicted where {last - 1} is true, which the released code cannot "
            f"count with {last} classes; count with {last + 1}"
        )
    short = matrix[:last, :last].copy()
    short[1:, 0] += matrix[: last - 1, last]
    return short


def _scores(truth: Matrix, predicted: Matrix, right: Matrix, first: int) -> SemanticScores:
    """Scores of int64 (n,) each: true pixels, predicted ones, and those that are both; the first
    class has label `first`."""
    union = truth + predicted - right
    iou = _ratio(right, union)
    labelled = truth > 0
    total = int(truth.sum())
    if not total:
        return SemanticScores(np.nan, np.nan, np.nan, np.nan, _by_label(iou, union, first))
    return SemanticScores(
        miou=float(iou[labelled].mean()),
        pixel_accuracy=float(right.sum() / total),
        mean_accuracy=float(_ratio(right, truth)[labelled].mean()),
        frequency_weighted_iou=float((truth / total * iou).sum()),
        class_iou=_by_label(iou, union, first),
    )


def _by_label(iou: NDArray[np.float64], union: Matrix, first: int) -> dict[int, float]:
    return {int(k) + first: float(iou[k]) for k in np.flatnonzero(union)}


def _ratio(part: Matrix, whole: Matrix) -> NDArray[np.float64]:
    """Part / whole, 0 where the whole is."""
    return part / np.maximum(whole, 1)
