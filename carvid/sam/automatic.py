"""SAM on the masks of a frame (CaR section 3.3; Kirillov et al. 2023, Segment Anything).

Two ways to sharpen a mask. The *ensemble*, the paper's: SAM's automatic masks are matched to it and
united. *Prompted*, beyond the paper: the mask is the prompt, and SAM draws it anew; one pass of the
decoder for each mask, where the automatic masks take a thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import SamModel

from carvid.base.masks import box_of, iou
from carvid.config import Config, SamConfig
from carvid.sam.cache import MaskCache, cache_folder
from carvid.sam.weights import load_sam, not_enough_memory

SamRefiner = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.bool_]]
"""uint8 (H, W, 3) RGB and masks, bool (N, H, W) → sharper masks, bool (N, H, W)."""
Generate = Callable[[NDArray[np.uint8]], NDArray[np.bool_]]
"""uint8 (H, W, 3) RGB → automatic masks, bool (A, H, W), which may overlap."""

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""SAM's mean, RGB in [0, 255] (segment-anything, `build_sam.py`)."""
PIXEL_STD = (58.395, 57.12, 57.375)
"""SAM's standard deviation, likewise."""
STABILITY_OFFSET = 1.0
"""How far the threshold on the logits is moved to see how stable a mask is (likewise)."""
MASKS_PER_BATCH = 16
"""Masks that are enlarged to the frame together; each takes 4 HW bytes, twice."""
PROMPT_POINTS = 3
"""Most points of a prompt."""
PROMPT_LOGIT = 10.0
"""Logit of the mask prompt inside the mask; outside it is the negative."""


def sam_refiner(config: Config) -> SamRefiner | None:
    """Load the SAM that `config.sam` names, for its mode; None, if it names none.

    Raises:
        WeightsError: it cannot be found or read, is no SAM, or memory is too small for it.
        ConfigError: the device does not exist.
    """
    if not config.sam.model:
        return None
    network = SamNetwork(load_sam(config.sam.model, config.weights.device), config.sam)
    if config.sam.mode == "prompted":
        return network.redraw
    folder = cache_folder(config.sam.cache)
    return ensemble(network.generate if folder is None else network.cached(folder), config.sam)


def ensemble(generate: Generate, config: SamConfig) -> SamRefiner:
    """Return what matches masks with those that `generate` makes of the frame, once a frame."""

    def sharpen(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return match_masks(masks, generate(image), config) if masks.any() else masks

    return sharpen


def match_masks(
    masks: NDArray[np.bool_], automatic: NDArray[np.bool_], config: SamConfig
) -> NDArray[np.bool_]:
    """Replace masks by the union of the automatic masks that match them.

    An automatic mask matches if its IoM with the mask, the intersection over the smaller of the
    two, is above φ_iom. `paper`: the union replaces the mask if their IoU is above φ_iou.
    `released`: it does whatever the IoU; if nothing matches, the automatic mask of the largest IoM
    does. An empty mask stays empty, and an empty automatic mask matches nothing.

    Args:
        masks: bool (N, H, W).
        automatic: bool (A, H, W).
        config: thresholds and rule.

    Returns:
        bool (N, H, W).

    Raises:
        ValueError: sizes differ.
    """
    if masks.shape[1:] != automatic.shape[1:]:
        raise ValueError(f"automatic masks must be (A, {masks.shape[1:]}), got {automatic.shape}")
    parts = automatic[automatic.any(axis=(1, 2))]
    sharper = masks.copy()
    for k, mask in enumerate(masks):
        if not mask.any() or not len(parts):
            continue
        both = (parts & mask).sum(axis=(1, 2))
        iom = both / np.minimum(parts.sum(axis=(1, 2)), mask.sum())
        matching = iom > config.phi_iom
        if config.match == "released" and not matching.any():
            matching[iom.argmax()] = True
        union = parts[matching].any(axis=0)
        if config.match == "released" or iou(union, mask) > config.phi_iou:
            sharper[k] = union
    return sharper


class SamNetwork:
    """A frozen `SamModel`: automatic masks of a frame, and masks drawn anew."""

    def __init__(self, model: SamModel, config: SamConfig) -> None:
        self.model = model.eval().requires_grad_(False)
        self.config = config
        self.device = next(model.parameters()).device
        self.side = int(model.config.vision_config.image_size)
        mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
        self._mean, self._std = mean.to(self.device), std.to(self.device)

    @torch.inference_mode()
    def generate(self, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return the automatic masks of a frame, the best first: bool (A, H, W).

        A grid of points is asked, three masks for each. Those stay that SAM itself rates above
        `min_iou`, that hardly depend on the threshold (`min_stability`), and of those whose boxes
        are nearly the same the best one (segment-anything, `automatic_mask_generator.py`, without
        its crops).
        """
        config, size_hw = self.config, image.shape[:2]
        with not_enough_memory(config.model):
            embedding = self._encode(image)
            offsets = (np.arange(config.points_per_side) + 0.5) / config.points_per_side
            grid = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(-1, 1, 2)
            points = self._to_input(grid * (size_hw[1], size_hw[0]), size_hw)
            packed: list[NDArray[np.uint8]] = []
            scores: list[float] = []
            boxes: list[tuple[int, int, int, int]] = []
            for batch in torch.split(points, config.points_per_batch):
                labels = torch.ones(batch.shape[:2], dtype=torch.int64, device=self.device)
                output = self.model(
                    image_embeddings=embedding, input_points=batch[None], input_labels=labels[None]
                )
                rated = output.iou_scores.flatten()
                good = rated > config.min_iou
                logits = output.pred_masks.flatten(0, 2)[good]
                for mask, score in zip(self._stable(logits, size_hw), rated[good], strict=True):
                    if mask is not None:
                        packed.append(np.packbits(mask, axis=1))
                        scores.append(float(score))
                        boxes.append(box_of(mask))
        kept = suppress(np.array(boxes).reshape(-1, 4), np.array(scores), config.max_box_iou)
        masks = np.zeros((len(kept), *size_hw), bool)
        for mask, i in zip(masks, kept, strict=True):
            mask[:] = np.unpackbits(packed[i], axis=1, count=size_hw[1])
        return masks

    def cached(self, folder: Path) -> Generate:
        """Return `generate` with a cache on disk, for each picture, weights and settings."""
        config = self.config
        settings = (
            config.points_per_side, config.min_iou, config.min_stability, config.max_box_iou,
        )  # fmt: skip
        limit = 1e6 * config.cache_mb
        cache = MaskCache(folder, self.model.state_dict(), settings, limit)
        return lambda image: cache.get(image, self.generate)

    @torch.inference_mode()
    def redraw(self, image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Let SAM draw masks anew, bool (N, H, W), each from its box, points in it, and itself.

        What comes back replaces the mask if their IoU is above φ_iou.
        """
        sharper = masks.copy()
        size_hw = image.shape[:2]
        with not_enough_memory(self.config.model):
            embedding = self._encode(image) if masks.any() else None
            for k, mask in enumerate(masks):
                if not mask.any():
                    continue
                points = inner_points(mask, PROMPT_POINTS)
                corners = np.array(box_of(mask), float).reshape(2, 2) - ((0, 0), (1, 1))
                output = self.model(
                    image_embeddings=embedding,
                    input_points=self._to_input(points, size_hw)[None, None],
                    input_labels=torch.ones((1, 1, len(points)), device=self.device).long(),
                    input_boxes=self._to_input(corners, size_hw).reshape(1, 1, 4),
                    input_masks=self._mask_prompt(mask),
                    multimask_output=False,
                )
                drawn = self._to_frame(output.pred_masks.flatten(0, 2), size_hw)[0] > 0
                found = drawn.cpu().numpy()
                if iou(found, mask) > self.config.phi_iou:
                    sharper[k] = found
        return sharper

    def _encode(self, image: NDArray[np.uint8]) -> Tensor:
        """The frame as the decoder reads it: float (1, D, h, w), padded at right and bottom."""
        height, width = self._scaled(image.shape[:2])
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).to(self.device).permute(2, 0, 1)[None].float()
        pixels = (pixels - self._mean) / self._std
        padding = (0, self.side - width, 0, self.side - height)
        embedding: Tensor = self.model.get_image_embeddings(F.pad(pixels, padding))
        return embedding

    def _scaled(self, size_hw: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of a frame whose longer side is the model's."""
        height, width = (int(s * self.side / max(size_hw) + 0.5) for s in size_hw[:2])
        return height, width

    def _to_input(self, points: NDArray[np.float64], size_hw: tuple[int, ...]) -> Tensor:
        """Points of the frame, (…, 2) as x and y in pixels, in the model's input."""
        height, width = self._scaled(size_hw)
        scaled = points * (width / size_hw[1], height / size_hw[0])
        return torch.from_numpy(scaled).float().to(self.device)

    def _to_frame(self, logits: Tensor, size_hw: tuple[int, ...]) -> Tensor:
        """The decoder's masks, float (n, h, w), at the frame's size: float (n, H, W)."""
        square = F.interpolate(logits[:, None], (self.side, self.side), mode="bilinear")
        height, width = self._scaled(size_hw)
        inside = square[:, :, :height, :width]  # (n, 1, H', W'), without the padding
        return F.interpolate(inside, size_hw[:2], mode="bilinear")[:, 0]

    def _stable(
        self, logits: Tensor, size_hw: tuple[int, ...]
    ) -> list[NDArray[np.bool_] | None]:  # fmt: skip
        """Masks at the frame's size, bool (H, W); None for those that are empty or not stable."""
        masks: list[NDArray[np.bool_] | None] = []
        for batch in torch.split(logits, MASKS_PER_BATCH):
            planes = self._to_frame(batch, size_hw)
            strict = (planes > STABILITY_OFFSET).sum(dim=(1, 2))
            loose = (planes > -STABILITY_OFFSET).sum(dim=(1, 2))
            stable = strict >= self.config.min_stability * loose
            inside = planes > 0
            stable &= inside.any(dim=(1, 2))
            masks += [m.cpu().numpy() if s else None for m, s in zip(inside, stable, strict=True)]
        return masks

    def _mask_prompt(self, mask: NDArray[np.bool_]) -> Tensor:
        """A mask as the prompt encoder reads it: logits, float (1, 1, h, w) of the whole input."""
        prompt = self.model.config.prompt_encoder_config
        side = 4 * int(prompt.image_size) // int(prompt.patch_size)
        height, width = (round(s * side / self.side) for s in self._scaled(mask.shape))
        share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        logits = np.full((side, side), -PROMPT_LOGIT, np.float32)
        logits[:height, :width] = (2 * share - 1) * PROMPT_LOGIT
        return torch.from_numpy(logits)[None, None].to(self.device)


def inner_points(mask: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """Return up to `count` points deep inside a mask and apart: float64 (n, 2), x and y."""
    # The border counts as outside, so that a mask at the frame's edge has its depth too.
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    deepest = float(depth.max())
    points: list[tuple[int, int]] = []
    for _ in range(count):
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        if points and depth[y, x] < deepest / 2:
            break
        points.append((int(x), int(y)))
        cv2.circle(depth, points[-1], max(round(2 * deepest), 1), 0.0, -1)
    return np.array(points, np.float64)


def suppress(
    boxes: NDArray[np.int64], scores: NDArray[np.float64], max_iou: float
) -> NDArray[np.int64]:
    """Non-maximum suppression: indices of boxes that overlap no better one by more than `max_iou`.

    Args:
        boxes: (n, 4), left, top, right, bottom.
        scores: (n,); of equal ones the first is better.
        max_iou: IoU of two boxes, in [0, 1].

    Returns:
        Indices, the best first.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        corner = np.maximum(boxes[rest, :2], boxes[best, :2])
        opposite = np.minimum(boxes[rest, 2:], boxes[best, 2:])
        both = np.clip(opposite - corner, 0, None).prod(axis=1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        order = rest[both <= max_iou * (areas[rest] + areas[best] - both)]
    return np.array(kept, np.int64)
