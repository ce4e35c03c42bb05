"""SAM's automatic masks of a frame (segment-anything, `automatic_mask_generator.py`, no crops).

A grid of points is asked, three masks for each. Those stay that SAM itself rates above `min_iou`,
that hardly depend on the threshold (`min_stability`), and of those whose boxes are nearly the same
the best one (`max_box_iou`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carvid.base.masks import box_of
from carvid.config import SamConfig
from carvid.sam.network import Embedding, SamNetwork
from carvid.sam.weights import not_enough_memory

STABILITY_OFFSET = 1.0
"""How far the threshold on the logits is moved to see how stable a mask is (segment-anything)."""
MASKS_PER_BATCH = 16
"""Masks that are enlarged to the frame together; each takes 4 HW bytes, twice."""
IOU_ROUNDING = 2e-7
"""What OpenCV's float32 may add to an IoU that is exactly at the bound."""


@dataclass(frozen=True)
class _Candidate:
    """A mask that SAM made of a point."""

    packed: NDArray[np.uint8]
    """The mask, uint8 (H, ⌈W / 8⌉), 8 pixels to a number: a thousand of them are kept."""
    rating: float
    """SAM's own estimate of the mask's IoU with the truth."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom, pixels; right and bottom are the last ones of the mask, as in
    segment-anything, so that a mask one pixel wide has a box without an area."""


@torch.inference_mode()
def automatic_masks(
    network: SamNetwork, image: NDArray[np.uint8], config: SamConfig
) -> NDArray[np.bool_]:
    """Return the automatic masks of uint8 (H, W, 3) RGB, the best first: bool (A, H, W).

    Raises:
        WeightsError: memory is too small.
    """
    size_hw = image.shape[:2]
    with not_enough_memory(config.model):
        found = list(_candidates(network, network.embed(image), config))
    boxes = np.array([each.box for each in found], np.int64).reshape(-1, 4)
    ratings = np.array([each.rating for each in found])
    kept = non_maximum_suppression(boxes, ratings, config.max_box_iou)
    masks = np.zeros((len(kept), *size_hw), bool)
    for mask, i in zip(masks, kept, strict=True):
        mask[:] = np.unpackbits(found[i].packed, axis=1, count=size_hw[1])
    return masks


def point_grid(points_per_side: int, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return the centres of the cells of a grid over a frame, float64 (P, 2), x and y in pixels."""
    offsets = (np.arange(points_per_side) + 0.5) / points_per_side
    grid = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 2)  # (P, 2)
    return np.asarray(grid * (size_hw[1], size_hw[0]))


def non_maximum_suppression(
    boxes: NDArray[np.int64], scores: NDArray[np.float64], max_iou: float
) -> NDArray[np.int64]:
    """Return indices of the boxes that overlap no better one by more than `max_iou`, best first.

    Args:
        boxes: int64 (n, 4), left, top, right, bottom. Those without an area all stay.
        scores: float64 (n,); of equal ones the first is better.
        max_iou: IoU of two boxes, in [0, 1]; one that is exactly at it is not above it.
    """
    order = np.argsort(-scores, kind="stable")
    # OpenCV wants left, top, width, height, and scores above 0: the ranks have the same order.
    sizes = boxes[:, 2:] - boxes[:, :2]
    rectangles = np.concatenate([boxes[:, :2], sizes], axis=1)[order]
    flat = (rectangles[:, 2:] == 0).any(axis=1)  # of two such, OpenCV says that they are the same
    thick = np.flatnonzero(~flat)
    ranks = np.arange(len(thick), 0, -1, dtype=np.float64).tolist()
    kept = cv2.dnn.NMSBoxes(rectangles[thick].tolist(), ranks, 0.0, max_iou + IOU_ROUNDING)
    stays = flat
    stays[thick[np.asarray(kept, np.int64)]] = True
    return np.asarray(order[stays])


def _candidates(
    network: SamNetwork, embedding: Embedding, config: SamConfig
) -> Iterator[_Candidate]:
    """Ask at the grid's points; yield the masks with a high rating that are stable."""
    points = point_grid(config.points_per_side, embedding.size_hw)
    for start in range(0, len(points), config.points_per_batch):
        batch = points[start : start + config.points_per_batch]
        logits, ratings = network.masks_at(embedding, batch)
        good = ratings > config.min_iou
        masks = _stable_masks(network, logits[good], embedding.size_hw, config.min_stability)
        for mask, rating in zip(masks, ratings[good], strict=True):
            if mask is not None:
                left, top, right, bottom = box_of(mask)
                box = (left, top, right - 1, bottom - 1)
                yield _Candidate(np.packbits(mask, axis=1), float(rating), box)


def _stable_masks(
    network: SamNetwork, logits: Tensor, size_hw: tuple[int, int], min_stability: float
) -> list[NDArray[np.bool_] | None]:
    """Masks of logits, float (n, h', w'), at the frame's size, bool (H, W) each.

    None for those that are empty or not stable. Stability is the IoU of the masks at thresholds
    `STABILITY_OFFSET` above and below 0, one of which contains the other.
    """
    masks: list[NDArray[np.bool_] | None] = []
    for batch in torch.split(logits, MASKS_PER_BATCH):
        planes = network.at_frame_size(batch, size_hw)  # (n, H, W)
        strict = (planes > STABILITY_OFFSET).sum(dim=(1, 2))
        loose = (planes > -STABILITY_OFFSET).sum(dim=(1, 2))
        stable = strict >= min_stability * loose
        inside = planes > 0
        stable &= inside.any(dim=(1, 2))
        masks += [m.cpu().numpy() if s else None for m, s in zip(inside, stable, strict=True)]
    return masks
