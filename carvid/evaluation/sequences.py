"""J and F of masks on disk: what a process of an evaluation does.

Apart from `evaluate`, so that a new process imports no more than it needs.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.evaluation.regions import VOID_LABEL, frame_scores
from carvid.media.label_png import read_label_png, read_png

KEPT_BYTES = 16 << 20
"""More than an array of a frame of 4K takes."""

Matching = Literal["hungarian", "label", "expression"]


@dataclass(frozen=True)
class Stream:
    """Predicted masks of a video, or of a stretch of it, frame by frame beside their truth."""

    video: str
    folder: Path
    """Holds the predictions, of the same file names as the truth."""
    truth: tuple[Path, ...]
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
    """The object that the expression names."""


@dataclass
class Scores:
    """J and F of labels against objects, and what the frames showed."""

    j: NDArray[np.float64]
    """float64 (M, N, T)."""
    f: NDArray[np.float64]
    """float64 (M, N, T)."""
    highest: int = 0
    """The highest label predicted."""
    seen: bool = False
    """Whether the truth shows any of the objects."""

    @classmethod
    def empty(cls, stream: Stream) -> Scores:
        """Return scores yet to be filled in."""
        shape = (stream.labels, stream.objects, len(stream.truth))
        return cls(np.zeros(shape), np.zeros(shape))


Task = tuple[Stream, ...]
"""Stretches of streams that share their truth, which is read once for all of them."""
Parts = tuple[Scores, ...]
"""The same of their scores."""


def keep_memory() -> None:
    """Have freed memory kept for the next frame.

    By default glibc gives arrays of a frame's size back to the system at once, and to be given new
    pages takes as long as to decode a mask. It keeps what is smaller than any that was ever freed.
    """
    np.empty(KEPT_BYTES, np.uint8)


def score(_: None, task: Task) -> Generator[Parts | DatasetError | None, None, None]:
    """Yield after each frame, and at last the scores, or what is wrong with a file."""
    parts = tuple(map(Scores.empty, task))
    try:
        for t, path in enumerate(task[0].truth):
            shown = read_label_png(path)
            for stream, part in zip(task, parts, strict=True):
                predicted, truth = _read_pair(stream, path, shown)
                part.highest = max(part.highest, int(predicted.max(initial=0)))
                part.seen = part.seen or bool(truth.any())
                part.j[:, :, t], part.f[:, :, t] = frame_scores(
                    predicted, truth, labels=stream.labels, objects=stream.objects
                )
            yield None
    except DatasetError as error:
        yield error
    else:
        yield parts


def _read_pair(
    stream: Stream, truth_path: Path, truth: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read a frame's prediction; return it with its truth, uint8 (H, W) each."""
    path = stream.folder / truth_path.name
    if stream.expression is not None:
        predicted = _read_mask(path).view(np.uint8)
        truth = (truth == stream.object_id).view(np.uint8)
    else:
        predicted = read_label_png(path)
    if predicted.shape != truth.shape:
        (height, width), (true_height, true_width) = predicted.shape, truth.shape
        raise DatasetError(
            f"'{path}' is {width}×{height}, its truth '{truth_path}' {true_width}×{true_height}; "
            "write masks in the size of the truth, or choose the truth's --resolution"
        )
    highest = int(predicted.max(initial=0))
    if highest > stream.labels and stream.matching == "label":
        raise DatasetError(
            f"'{path}' has label {highest}, and {stream.video} has objects up to "
            f"{stream.objects} (by its first true mask); write label k for object k, or match "
            "labels to objects with --protocol unsupervised"
        )
    if highest > stream.labels:
        raise DatasetError(
            f"'{path}' has label {highest}, and at most {stream.labels} may be matched; number the "
            "objects from 1"
        )
    # Without void there, which the official code makes background.
    if stream.matching == "label" and truth.max(initial=0) == VOID_LABEL:
        truth = np.where(truth == VOID_LABEL, np.uint8(0), truth)
    return predicted, truth


def _read_mask(path: Path) -> NDArray[np.bool_]:
    """Read the mask of one object, bool (H, W): one channel, pixels 0 or one other value.

    Submissions to Ref-YouTube-VOS are such (mode L, 0 and 255), and carvid's own (mode P, 0 and 1).
    """
    values = read_png(path, ("1", "L", "P"), "a mask; write a PNG of one channel")
    mask: NDArray[np.bool_] = values > 0
    if (values != values.max(initial=0) * mask).any():
        raise DatasetError(
            f"'{path}' has more than two values; write the object's mask alone, thresholded"
        )
    return mask
