"""What some data sets measure of an expression beside J and F."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carvid.evaluation.expression_truth import NO_TARGET, TARGET
from carvid.evaluation.sequences import MaskSequence, Scores


def time_measures(sequence: MaskSequence, scores: Scores) -> dict[str, float]:
    """Return tIoU and vIoU of an expression."""
    t_iou, v_iou = time_overlap(scores.found, scores.shown, scores.j[0, 0])
    return {"tIoU": t_iou, "vIoU": v_iou}


def time_overlap(
    found: NDArray[np.bool_], shown: NDArray[np.bool_], j: NDArray[np.float64]
) -> tuple[float, float]:
    """Return tIoU and vIoU, as Long-RVOS's evaluation has them.

    S are the frames in which the truth shows the object, P those in which anything is predicted:
    tIoU = |S ∩ P| / |S ∪ P| says when it is found, vIoU = Σ J over S ∩ P / |S ∪ P| when and where.
    Both are 1 where S ∪ P is empty.

    Args:
        found: bool (T,), P.
        shown: bool (T,), S.
        j: float64 (T,) in [0, 1], J of each frame.
    """
    both, either = shown & found, int((shown | found).sum())
    if not either:
        return 1.0, 1.0
    return float(both.sum()) / either, float(j[both].sum()) / either


def target_measures(sequence: MaskSequence, scores: Scores) -> dict[str, float]:
    """Return 1 or 0, whether it is told from the masks if an expression names anything: N-acc. of
    one that does not, T-acc. of one that does; nothing where all of a split do.

    After GRES (Liu, Ding and Jiang, CVPR 2023), with a video for the image: a prediction without a
    pixel in any frame says that there is no target.
    """
    found = bool(scores.found.any())
    if sequence.kind == NO_TARGET:
        return {"N-acc.": float(not found)}
    return {"T-acc.": float(found)} if sequence.kind == TARGET else {}
