"""J and F, the region and the boundary measure of DAVIS, equal to the official evaluation's bits.

Perazzi et al., *A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation*,
CVPR 2016, section 5; void pixels as in the official evaluation of DAVIS 2017 (2019 annotations).
NumPy and OpenCV only. Letters: M predicted labels, N objects, T frames.

All masks of a frame are computed with at once: an array of unsigned integers, each bit a mask.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.media.label_png import VOID_LABEL

BOUNDARY_TOLERANCE = 0.008
"""How far a boundary may be off, as a share of the picture's diagonal (section 5)."""
RECALL_THRESHOLD = 0.5
"""Recall is the share of frames above it (section 5)."""
DECAY_BINS = 4
"""Decay compares the first with the last of so many parts of a sequence (section 5)."""
MASKS_AT_ONCE = 32
"""Of predicted and of true ones each, so that both fit into 64 bits."""

Masks = NDArray[np.unsignedinteger[Any]]
"""Unsigned (H, W); bit k of a pixel says whether it is in mask k."""


class Statistics(NamedTuple):
    """What a measure's values over the frames of a sequence come down to."""

    mean: float
    recall: float
    decay: float


def boundary_radius(size_hw: tuple[int, int]) -> int:
    """Return the boundary tolerance in pixels: 8 at 480×854."""
    return math.ceil(BOUNDARY_TOLERANCE * float(np.linalg.norm(size_hw)))


def dilate(masks: Masks, radius: int) -> Masks:
    """Dilate with the disk x² + y² ≤ r², which no element of OpenCV's has the shape of.

    Row by row of the disk: every pixel gathers more and more of those to its right, and what it has
    then goes to the rows above and below that have this width in the disk. That is some 3r
    operations a pixel in place of 3r².
    """
    height, width = masks.shape
    # One row behind the other, with zeros between them, so that a shift is a slice.
    stride = width + radius
    size = height * stride
    runs = np.zeros(radius + size + radius, masks.dtype)
    runs[radius : radius + size].reshape(height, stride)[:, :width] = masks
    length = 1
    dilated = np.zeros(size, masks.dtype)
    for y in range(min(radius, height - 1), -1, -1):
        half = math.isqrt(radius * radius - y * y)
        while length < 2 * half + 1:
            more = min(length, 2 * half + 1 - length)
            runs = runs[:-more] | runs[more:]
            length += more
        row, shift = runs[radius - half :][:size], y * stride
        dilated[: size - shift] |= row[shift:]
        dilated[shift:] |= row[: size - shift]
    return dilated.reshape(height, stride)[:, :width]


def boundary(masks: Masks) -> Masks:
    """Mark the pixels that differ from their right, lower or lower-right neighbour.

    What lies beyond the array's edge repeats the edge.
    """
    edges = np.zeros_like(masks)
    edges[:, :-1] = masks[:, :-1] ^ masks[:, 1:]
    edges[:-1] |= masks[:-1] ^ masks[1:]
    edges[:-1, :-1] |= masks[:-1, :-1] ^ masks[1:, 1:]
    return edges


def frame_scores(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], *, labels: int, objects: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score predicted labels 1 … M against objects 1 … N in one frame, each with each.

    All masks are outlined and dilated together, so that the pairs cost next to nothing.

    Args:
        predicted: uint8 (H, W) labels; those above `labels` are left out.
        truth: uint8 (H, W) labels; `VOID_LABEL` pixels are taken out of both masks.
        labels: M.
        objects: N.

    Returns:
        J and F: float64 (M, N) each, in [0, 1].
    """
    for name, array in (("predicted", predicted), ("truth", truth)):
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape != truth.shape:
            raise ValueError(
                f"{name} must be uint8 {truth.shape} (H, W), got {array.dtype} {array.shape}"
            )
    radius = boundary_radius((truth.shape[0], truth.shape[1]))
    predicted, truth = _crop(predicted, truth)
    j, f = np.empty((labels, objects)), np.empty((labels, objects))
    for a in range(1, labels + 1, MASKS_AT_ONCE):
        for b in range(1, objects + 1, MASKS_AT_ONCE):
            ours = range(a, min(a + MASKS_AT_ONCE, labels + 1))
            theirs = range(b, min(b + MASKS_AT_ONCE, objects + 1))
            block = np.s_[a - 1 : ours.stop - 1, b - 1 : theirs.stop - 1]
            j[block], f[block] = _block_scores(predicted, truth, ours, theirs, radius)
    return j, f


def mask_scores(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    void: NDArray[np.bool_] | None = None,
) -> tuple[float, float]:
    """Return `jaccard` and `boundary_f` of two masks, bool (H, W), for the price of one."""
    void = np.zeros_like(truth) if void is None else void
    for name, mask in (("predicted", predicted), ("truth", truth), ("void", void)):
        if mask.dtype != np.bool_ or mask.ndim != 2 or mask.shape != truth.shape:
            raise ValueError(
                f"{name} must be bool {truth.shape} (H, W), got {mask.dtype} {mask.shape}"
            )
    labels = np.where(void, np.uint8(VOID_LABEL), truth.astype(np.uint8))
    j, f = frame_scores(predicted.astype(np.uint8), labels, labels=1, objects=1)
    return float(j[0, 0]), float(f[0, 0])


def jaccard(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    void: NDArray[np.bool_] | None = None,
) -> float:
    """Return J of two masks, bool (H, W): intersection over union; 1 when both are empty."""
    return mask_scores(predicted, truth, void)[0]


def boundary_f(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    void: NDArray[np.bool_] | None = None,
) -> float:
    """Return F of two masks, bool (H, W): the harmonic mean of boundary precision and recall.

    A boundary pixel is matched if the other boundary comes as near as `boundary_radius`; 1 when
    neither mask has a boundary.
    """
    return mask_scores(predicted, truth, void)[1]


def statistics(values: NDArray[np.float64]) -> Statistics:
    """Return mean, recall and decay of a measure over the frames of a sequence, float64 (T,).

    The bins of decay overlap in one frame, as in the official code. That code keeps their ends in
    8 bits and so compares the wrong frames in sequences of more than 256; here they are right.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values must be (T ≥ 1,), got {values.shape}")
    ends = np.round(np.linspace(1, len(values), DECAY_BINS + 1) + 1e-10).astype(int) - 1
    first, last = values[: ends[1] + 1], values[ends[-2] : ends[-1] + 1]
    return Statistics(
        mean=float(values.mean()),
        recall=float((values > RECALL_THRESHOLD).mean()),
        decay=float(first.mean() - last.mean()),
    )


def _crop(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut off what has no labels, but for a pixel around, where boundaries may lie."""
    left, top, width, height = cv2.boundingRect(predicted | truth)
    rows = slice(max(top - 1, 0), top + height + 1)
    columns = slice(max(left - 1, 0), left + width + 1)
    return predicted[rows, columns], truth[rows, columns]


def _block_scores(
    predicted: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    labels: range,
    objects: range,
    radius: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """J and F, float64 (M, N) each, of M labels against N objects."""
    # Objects have the lower bits. Labels above all that the frame shows need none.
    n = len(objects)
    shown = min(max(int(predicted.max(initial=0)) + 1 - labels.start, 0), len(labels))
    dtype = np.min_scalar_type((1 << (n + shown)) - 1)
    bits = np.array([1 << k for k in range(n + shown)], dtype)
    true_bits, predicted_bits = np.zeros(256, dtype), np.zeros(256, dtype)
    true_bits[objects.start : objects.stop] = bits[:n]
    predicted_bits[labels.start : labels.start + shown] = bits[n:]

    # Runs of equal pixels are looked up, not each pixel.
    flat_truth, flat_predicted = truth.ravel(), predicted.ravel()
    ending = (flat_truth[1:] != flat_truth[:-1]) | (flat_predicted[1:] != flat_predicted[:-1])
    ends = np.append(np.flatnonzero(ending), truth.size - 1)
    lengths = np.diff(ends, prepend=-1)
    run_truth = flat_truth[ends]
    runs = true_bits[run_truth] | predicted_bits[flat_predicted[ends]]
    runs[run_truth == VOID_LABEL] = 0
    common = _pairs(runs, runs, bits, n + len(labels), lengths)
    areas, both = common.diagonal(), common[n:, :n]
    either = areas[n:, None] + areas[:n] - both
    j = np.where(either == 0, 1, both / np.maximum(either, 1))

    outlines = boundary(np.repeat(runs, lengths).reshape(truth.shape))
    near = dilate(outlines, radius).ravel()
    outlines = outlines.ravel()
    marked = np.flatnonzero(outlines != 0)
    matched = _pairs(outlines[marked], near[marked], bits, n + len(labels))
    sizes = matched.diagonal()  # an outline is near to itself
    precision = matched[n:, :n] / np.maximum(sizes[n:, None], 1)
    recall = matched[:n, n:].T / np.maximum(sizes[:n], 1)
    total = precision + recall
    f = 2 * precision * recall / np.where(total == 0, 1, total)
    # A mask that fills the frame has no boundary, just as an empty one.
    f[(sizes[n:, None] == 0) & (sizes[:n] == 0)] = 1
    return j, f


def _pairs(
    first: Masks, second: Masks, bits: Masks, size: int, weights: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Count the pixels (K,) that are in mask a of `first` and in mask b of `second`.

    Returns:
        float64 (`size`, `size`), 0 where there are no `bits`.
    """
    ours, theirs = (((each & bits[:, None]) != 0).astype(np.float64) for each in (first, second))
    if weights is not None:
        theirs *= weights
    counts = np.zeros((size, size))
    counts[: len(bits), : len(bits)] = ours @ theirs.T
    return counts
