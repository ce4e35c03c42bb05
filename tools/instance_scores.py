"""Are there as many things as there should be, and do they keep their numbers?

Used by `tools/bench.py instances`. A found thing is matched with a true one where their IoU is
above 0.5, as in MOTS (Voigtlaender et al., CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from carvid.base.masks import ious

MATCH_IOU = 0.5
MIN_AREA = 0.001
"""A true thing counts as seen, and a found one as found, with more than this share of the picture;
between this and `SURE_AREA` both are right."""
SURE_AREA = 0.004

Found = Mapping[int, NDArray[np.bool_]]
"""A thing's label → where it is in a frame, bool (H, W)."""


@dataclass(frozen=True)
class InstanceScore:
    """How well the things of one clip were found and told apart."""

    right: int
    """Frames with the right number of things."""
    frames: int
    switches: int
    """How often a true thing is found under another label than when it was last found."""
    j: tuple[float, ...]
    """IoU of each true thing in each frame where it is seen and matched."""
    missed: int
    """True things in frames where they are seen, and nothing is matched with them."""
    labels: int
    """How many labels there are in the clip."""
    things: int
    """How many true things."""


def score_clip(found: Sequence[Found], truths: Sequence[NDArray[np.bool_]]) -> InstanceScore:
    """Score a clip.

    Args:
        found: of each of T frames what was found.
        truths: bool (K, H, W) each.
    """
    last: dict[int, int] = {}
    right = switches = missed = 0
    j: list[float] = []
    for things, truth in zip(found, truths, strict=True):
        pixels = truth.shape[1] * truth.shape[2]
        shares = truth.sum(axis=(1, 2)) / pixels
        labels = [label for label, mask in things.items() if mask.sum() > MIN_AREA * pixels]
        sure, any_ = int((shares > SURE_AREA).sum()), int((shares > MIN_AREA).sum())
        right += sure <= len(labels) <= any_
        masks = np.array([things[label] for label in labels], bool)
        overlap = ious(truth, masks.reshape(-1, *truth.shape[1:]))
        matched = {
            int(row): (labels[column], float(overlap[row, column]))
            for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True)
            if overlap[row, column] > MATCH_IOU
        }
        for row in np.flatnonzero(shares > SURE_AREA).tolist():
            if row not in matched:
                missed += 1
                continue
            label, value = matched[row]
            j.append(value)
            switches += last.get(row, label) != label
            last[row] = label
    labels = {label for things in found for label, mask in things.items() if mask.any()}
    return InstanceScore(right, len(found), switches, tuple(j), missed, len(labels), len(truths[0]))


HEAD = (
    "| clips | right number | switches / 100 frames | J of what is matched | missed | "
    "labels for each thing |\n|-|-|-|-|-|-|"
)


def row(name: str, scores: Sequence[InstanceScore]) -> str:
    """Return a line of the table."""
    frames = sum(each.frames for each in scores)
    j = [value for each in scores for value in each.j]
    missed = sum(each.missed for each in scores)
    return (
        f"| {name} | {sum(each.right for each in scores) / frames:.0%} | "
        f"{100 * sum(each.switches for each in scores) / frames:.2f} | "
        f"{100 * float(np.mean(j)) if j else 0:.1f} | {missed / max(1, missed + len(j)):.0%} | "
        f"{sum(each.labels for each in scores) / sum(each.things for each in scores):.2f} |"
    )
