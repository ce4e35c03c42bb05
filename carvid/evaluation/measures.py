"""What some data sets measure of an expression beside J and F."""

from __future__ import annotations

from carvid.evaluation.expression_truth import NO_TARGET, TARGET
from carvid.evaluation.sequences import MaskSequence, Scores


def time_measures(sequence: MaskSequence, scores: Scores) -> dict[str, float]:
    """Return tIoU and vIoU, as Long-RVOS's evaluation has them.

    S are the frames in which the truth shows the object, P those in which anything is predicted:
    tIoU = |S ∩ P| / |S ∪ P| says when it is found, vIoU = Σ J over S ∩ P / |S ∪ P| when and where.
    Both are 1 where S ∪ P is empty.
    """
    both, either = scores.shown & scores.found, int((scores.shown | scores.found).sum())
    if not either:
        return {"tIoU": 1.0, "vIoU": 1.0}
    return {
        "tIoU": float(both.sum()) / either,
        "vIoU": float(scores.j[0, 0][both].sum()) / either,
    }


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
