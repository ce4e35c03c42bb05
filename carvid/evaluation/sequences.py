"""Predicted masks of a sequence on disk beside their truth, and J and F of each frame.

This is what the processes of an evaluation do; they import no more than is here.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.evaluation.regions import frame_scores
from carvid.evaluation.true_masks import TrueMask, read_mask, read_truth
from carvid.media.label_images import INDEXED, read_labels
from carvid.media.label_png import VOID_LABEL

KEPT_BYTES = 16 << 20
"""More than an array of a frame of 4K takes."""

Matching = Literal["hungarian", "label", "expression"]


@dataclass(frozen=True)
class MaskSequence:
    """Predicted masks of a video, or of a stretch of it, frame by frame beside their truth."""

    video: str
    folder: Path
    """Holds the predictions, of the same file names as the truth."""
    truth: tuple[TrueMask, ...]
    """Masks of the frames that count."""
    matching: Matching
    """How labels find their objects."""
    objects: int
    """N: objects 1 … N of the truth count."""
    labels: int
    """M: so many labels may be predicted."""
    set_index: int = 0
    expression: str | None = None
    """Key of the expression whose mask this is."""
    object_id: int = 1
    """Label of the object that the expression names."""
    number: int | None = None
    """Of the object in reports, if that is not its label; 0 where an expression may name several
    objects."""
    kind: str = ""
    """What sort of expression it is, where a protocol has means of each."""


@dataclass
class Scores:
    """J and F of labels against objects, and what the frames showed."""

    j: NDArray[np.float64]
    """float64 (M, N, T)."""
    f: NDArray[np.float64]
    """float64 (M, N, T)."""
    highest: int = 0
    """The highest label predicted."""
    found: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """bool (T,): whether anything is predicted in a frame."""
    shown: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    """bool (T,): whether the truth shows any of the objects in a frame."""
    forms: set[str] = field(default_factory=set)
    """How predictions were understood that are no indexed PNGs, as `read_labels` says it."""

    @classmethod
    def empty(cls, sequence: MaskSequence) -> Scores:
        """Return scores yet to be filled in."""
        frames = len(sequence.truth)
        shape = (sequence.labels, sequence.objects, frames)
        found, shown = np.zeros(frames, bool), np.zeros(frames, bool)
        return cls(np.zeros(shape), np.zeros(shape), found=found, shown=shown)

    @property
    def seen(self) -> bool:
        """Whether the truth shows any of the objects."""
        return bool(self.shown.any())


Stretch = tuple[MaskSequence, ...]
"""The same frames of all sequences that share their truth, which is read once for all of them."""
StretchScores = tuple[Scores, ...]
"""Scores of each sequence of a stretch."""


def keep_memory() -> None:
    """Have freed memory kept for the next frame.

    By default glibc gives arrays of a frame's size back to the system at once, and to be given new
    pages takes as long as to decode a mask. It keeps what is smaller than any that was ever freed.
    """
    np.empty(KEPT_BYTES, np.uint8)


def score_stretch(
    _: None, stretch: Stretch
) -> Generator[StretchScores | DatasetError | None, None, None]:
    """Yield after each frame, and at last the scores, or what is wrong with a file."""
    scores = tuple(map(Scores.empty, stretch))
    try:
        for t, true_mask in enumerate(stretch[0].truth):
            shown = read_truth(true_mask)
            for sequence, each in zip(stretch, scores, strict=True):
                predicted, truth, form = _read_pair(sequence, true_mask, shown)
                highest = int(predicted.max(initial=0))
                each.forms.update({form} - {INDEXED})
                each.highest = max(each.highest, highest)
                each.found[t], each.shown[t] = highest > 0, truth.any()
                each.j[:, :, t], each.f[:, :, t] = frame_scores(
                    predicted, truth, labels=sequence.labels, objects=sequence.objects
                )
            yield None
    except DatasetError as error:
        yield error
    else:
        yield scores


def _read_pair(
    sequence: MaskSequence, true_mask: TrueMask, truth: NDArray[np.uint8] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
    """Read a frame's prediction; return it with its truth, uint8 (H, W) each, and how it was
    understood. Where nothing is to be seen the truth may be None: it is of any size."""
    path = sequence.folder / true_mask.name
    if sequence.expression is not None:
        predicted, form = read_mask(path).view(np.uint8), INDEXED
    else:
        predicted, form = read_labels(path, single=sequence.objects == 1)
    if truth is None:
        return predicted, np.zeros_like(predicted), form
    if sequence.expression is not None:
        truth = (truth == sequence.object_id).view(np.uint8)
    if predicted.shape != truth.shape:
        (height, width), (true_height, true_width) = predicted.shape, truth.shape
        raise DatasetError(
            f"'{path}' is {width}×{height}, its truth '{true_mask}' {true_width}×{true_height}; "
            "write masks in the size of the truth, or choose the truth's --resolution"
        )
    highest = int(predicted.max(initial=0))
    if highest > sequence.labels and sequence.matching == "label":
        raise DatasetError(
            f"'{path}' has label {highest}, and {sequence.video} has objects up to "
            f"{sequence.objects} (by its first true mask); write label k for object k, or match "
            "labels to objects with --protocol unsupervised"
        )
    if highest > sequence.labels:
        raise DatasetError(
            f"'{path}' has label {highest}, and at most {sequence.labels} may be matched; number "
            "the objects from 1"
        )
    # Without void there, which the official code makes background.
    if sequence.matching == "label" and truth.max(initial=0) == VOID_LABEL:
        truth = np.where(truth == VOID_LABEL, np.uint8(0), truth)
    return predicted, truth, form
