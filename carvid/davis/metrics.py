"""J and F, the region and the boundary measure of DAVIS, equal to the official evaluation's bits.

Perazzi et al., *A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation*,
CVPR 2016, section 5; void pixels as in the official evaluation of DAVIS 2017 (2019 annotations).
numpy and OpenCV only. Letters: M predicted labels, N objects, T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

VOID_LABEL = 255
"""Ground-truth pixels with it belong to nobody; they are taken out of both masks."""
BOUNDARY_TOLERANCE = 0.008
"""How far a boundary may be off, as a share of the picture's diagonal (section 5)."""
RECALL_THRESHOLD = 0.5
"""Recall is the share of frames above it (section 5)."""
DECAY_BINS = 4
"""Decay compares the first with the last of so many parts of a sequence (section 5)."""


class Statistics(NamedTuple):
    """What a measure's values over the frames of a sequence come down to."""

    mean: float
    recall: float
    decay: float


def boundary_radius(size_hw: tuple[int, int]) -> int:
    """Return the boundary tolerance in pixels: 8 at 480×854."""
    return math.ceil(BOUNDARY_TOLERANCE * float(np.linalg.norm(size_hw)))


def dilate(mask: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """Dilate with the disk x² + y² ≤ r², which no element of OpenCV's has the shape of.

    Row by row of the disk: the mask is widened step by step, and each width goes to the rows above
    and below that the disk gives it. That is some 4r operations a pixel in place of 3r².

    Args:
        mask: uint8 (H, W) of 0 and 1.
        radius: r, in pixels.

    Returns:
        uint8 (H, W) of 0 and 1.
    """
    height = len(mask)
    dilated = np.zeros((height + 2 * radius, mask.shape[1]), np.uint8)
    width = 0
    for y in range(radius, -1, -1):
        more = math.isqrt(radius * radius - y * y) - width
        if more:
            element = np.ones((1, 2 * more + 1), np.uint8)
            mask, width = np.asarray(cv2.dilate(mask, element), np.uint8), width + more
        for row in {radius - y, radius + y}:
            dilated[row : row + height] |= mask
    return dilated[radius : radius + height]


def boundary(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mark the pixels that differ from their right, lower or lower-right neighbour.

    Args:
        mask: uint8 (H, W) of 0 and 1. What lies beyond its edge repeats the edge.

    Returns:
        uint8 (H, W) of 0 and 1.
    """
    padded = np.asarray(cv2.copyMakeBorder(mask, 0, 1, 0, 1, cv2.BORDER_REPLICATE), np.uint8)
    right, lower, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    edges: NDArray[np.uint8] = (mask ^ right) | (mask ^ lower) | (mask ^ diagonal)
    return edges


def frame_scores(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], *, labels: int, objects: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score predicted labels 1 … M against objects 1 … N in one frame, each with each.

    Every mask is outlined and dilated once and cropped to its own box, so that the pairs cost
    next to nothing.

    Args:
        predicted: uint8 (H, W) labels; those above `labels` are left out.
        truth: uint8 (H, W) labels; 255 is void.
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
    if truth.max(initial=0) == VOID_LABEL:
        void = truth == VOID_LABEL
        predicted = np.where(void, np.uint8(0), predicted)
        truth = np.where(void, np.uint8(0), truth)
    ours = _regions(predicted, labels)
    theirs = _regions(truth, objects)
    j = np.array([_j(a, b) for a in ours for b in theirs], np.float64)
    f = np.array([_f(a, b) for a in ours for b in theirs], np.float64)
    return j.reshape(labels, objects), f.reshape(labels, objects)


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


class _Box(NamedTuple):
    """Pixels top ≤ y < bottom, left ≤ x < right of a frame."""

    top: int
    bottom: int
    left: int
    right: int

    def grown(self, margin: int, size_hw: tuple[int, int]) -> _Box:
        return _Box(
            max(self.top - margin, 0),
            min(self.bottom + margin, size_hw[0]),
            max(self.left - margin, 0),
            min(self.right + margin, size_hw[1]),
        )


class _Crop(NamedTuple):
    """Part of a frame outside which everything is 0; `pixels` is uint8 of 0 and 1."""

    pixels: NDArray[np.uint8]
    box: _Box

    def part(self, box: _Box) -> _Crop:
        """Return what lies in a box inside this one's."""
        top, left = self.box.top, self.box.left
        return _Crop(
            self.pixels[box.top - top : box.bottom - top, box.left - left : box.right - left], box
        )


@dataclass(frozen=True)
class _Region:
    """One mask of a frame, with what the measures ask of it, computed when first asked."""

    mask: _Crop
    """A margin of one pixel holds the boundary, which lies up to one pixel outside the mask."""
    size_hw: tuple[int, int]
    """Size of the frame."""

    @cached_property
    def area(self) -> int:
        return cv2.countNonZero(self.mask.pixels)

    @cached_property
    def outline(self) -> _Crop:
        return _Crop(boundary(self.mask.pixels), self.mask.box)

    @cached_property
    def outline_length(self) -> int:
        return cv2.countNonZero(self.outline.pixels)

    @cached_property
    def near(self) -> _Crop:
        """Where the outline is near enough."""
        radius = boundary_radius(self.size_hw)
        inner, outer = self.outline.box, self.outline.box.grown(radius, self.size_hw)
        framed = cv2.copyMakeBorder(
            self.outline.pixels,
            inner.top - outer.top, outer.bottom - inner.bottom,
            inner.left - outer.left, outer.right - inner.right,
            cv2.BORDER_CONSTANT, value=0,
        )  # fmt: skip
        return _Crop(dilate(np.asarray(framed, np.uint8), radius), outer)


def _regions(labels: NDArray[np.uint8], count: int) -> list[_Region | None]:
    """Find the regions of labels 1 … `count`, None for each that is nowhere."""
    size_hw = (labels.shape[0], labels.shape[1])
    highest = int(labels.max(initial=0))
    # Everything happens in the box of all labels: arrays of a frame's size cost page faults.
    whole = _box_of(labels).grown(1, size_hw) if highest else _Box(0, 0, 0, 0)
    shown = labels[whole.top : whole.bottom, whole.left : whole.right]
    regions: list[_Region | None] = [None] * count
    for index in range(min(count, highest)):
        mask = (shown == index + 1).view(np.uint8)
        box = _box_of(mask)
        if box.top == box.bottom:
            continue
        box = _Box(
            box.top + whole.top, box.bottom + whole.top,
            box.left + whole.left, box.right + whole.left,
        ).grown(1, size_hw)  # fmt: skip
        regions[index] = _Region(_Crop(mask, whole).part(box), size_hw)
    return regions


def _box_of(mask: NDArray[np.uint8]) -> _Box:
    left, top, width, height = cv2.boundingRect(mask)
    return _Box(top, top + height, left, left + width)


def _common(a: _Crop, b: _Crop) -> int:
    """Count the pixels that are 1 in both."""
    both = _Box(
        max(a.box.top, b.box.top), min(a.box.bottom, b.box.bottom),
        max(a.box.left, b.box.left), min(a.box.right, b.box.right),
    )  # fmt: skip
    if both.top >= both.bottom or both.left >= both.right:
        return 0
    return cv2.countNonZero(cv2.bitwise_and(a.part(both).pixels, b.part(both).pixels))


def _j(a: _Region | None, b: _Region | None) -> float:
    if a is None or b is None:
        return float(a is b)
    intersection = _common(a.mask, b.mask)
    return intersection / (a.area + b.area - intersection)


def _f(a: _Region | None, b: _Region | None) -> float:
    # A mask that fills the frame has no boundary, just as an empty one.
    lengths = [0 if region is None else region.outline_length for region in (a, b)]
    if a is None or b is None or not all(lengths):
        return float(not any(lengths))
    precision = _common(a.outline, b.near) / lengths[0]
    recall = _common(b.outline, a.near) / lengths[1]
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
