"""f: the mask proposal generator (CaR section 3.2; CLIP-ES, arXiv 2212.09506).

Texts → gradient CAMs, or dense maps, against background queries → boxes of the strong patches →
spread by the network's own attention inside the boxes → float32 (N, H, W) in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carvid.car.affinity import Affinity, NearestAffinity, normalize_affinity
from carvid.car.competitors import not_named
from carvid.car.queries import in_template
from carvid.clip.backbone import ClipBackbone
from carvid.clip.dense import DenseFeatures, Precision, Variant, dense_maps, log_probabilities
from carvid.clip.gradient_cam import PatchFeatures
from carvid.clip.preprocessing import to_pixels
from carvid.config import ProposalsConfig

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in patches, right and lower end exclusive."""

LAMBDA_STEP = 0.1
"""How far λ is lowered when no patch passes (CLIP-ES)."""
FULL_SHARE = 0.95
"""Among grids with at least this share of the most patches, the aspect ratio decides."""
EPSILON = 1e-15
"""Keeps a map of zeros at zero in min-max scaling."""


@dataclass(frozen=True)
class EncodedFrame:
    """One frame after the one generator pass."""

    features: PatchFeatures | DenseFeatures
    """What the maps of texts are computed from, by `proposals.method`."""
    affinity: Affinity | None
    """The attention, doubly stochastic and symmetric, or what is kept of it; None where no map was
    made (dense maps without `proposals.affinity`)."""


@dataclass(frozen=True)
class Proposals:
    """Mask proposals of N texts, with the stages that led to them."""

    cams: NDArray[np.float32]
    """float32 (N, h, w) in [0, 1], one value a patch."""
    recomputed: NDArray[np.bool_]
    """bool (N,): the CAM was zero and was computed again (`proposals.zero_cam`), or the dense map
    was flat and is that of the cosine."""
    boxes: tuple[tuple[Box, ...], ...]
    """The affinity boxes of every text."""
    refined: NDArray[np.float32]
    """float32 (N, h, w) ≥ 0: CAMs after the affinity, not scaled."""
    masks: NDArray[np.float32]
    """float32 (N, H, W) in [0, 1]: y, `refined` scaled to [0, 1] and resized."""


def take_rows(proposals: Proposals, rows: Sequence[int]) -> Proposals:
    """Return the proposals of some of the N texts."""
    return Proposals(
        cams=proposals.cams[rows],
        recomputed=proposals.recomputed[rows],
        boxes=tuple(proposals.boxes[row] for row in rows),
        refined=proposals.refined[rows],
        masks=proposals.masks[rows],
    )


def join_proposals(each: Sequence[Proposals]) -> Proposals:
    """Return the proposals of several groups of texts, one group after the other."""
    if len(each) == 1:
        return each[0]
    return Proposals(
        cams=np.concatenate([group.cams for group in each]),
        recomputed=np.concatenate([group.recomputed for group in each]),
        boxes=tuple(boxes for group in each for boxes in group.boxes),
        refined=np.concatenate([group.refined for group in each]),
        masks=np.concatenate([group.masks for group in each]),
    )


class ProposalGenerator:
    """Proposals of any texts on an image; the image is encoded once, whatever is asked of it."""

    def __init__(self, backbone: ClipBackbone, config: ProposalsConfig, *, competing: bool) -> None:
        self.backbone, self.config, self.competing = backbone, config, competing

    def input_size(self, size_hw: Sequence[int]) -> tuple[int, int]:
        """Return the size at which a frame is encoded: whole patches, within the limits."""
        limits = (self.config.max_side, self.config.max_tokens)
        multiple = self.config.size_multiple or self.backbone.patch_size
        return patch_multiple(size_hw, multiple, *limits)

    def encode(self, image: NDArray[np.uint8]) -> EncodedFrame:
        """Encode uint8 (H, W, 3) RGB: the one generator pass of a frame."""
        size_hw, config = self.input_size(image.shape[:2]), self.config
        pixels = to_pixels(image, size_hw, self.backbone.preprocessing)
        features: PatchFeatures | DenseFeatures
        if config.method == "dense":
            features, attention = self.backbone.encode_dense(
                pixels, attention_blocks=config.affinity_blocks if config.affinity else 0,
                variant=cast("Variant", config.dense_variant), sigma=config.dense_sigma,
                precision=cast("Precision", config.dense_precision),
            )  # fmt: skip
        else:
            # Its last map is made for the gradients; without the others it is no faster.
            features = self.backbone.encode_patches(pixels, attention_blocks=config.affinity_blocks)
            attention = features.attention
        return EncodedFrame(features, None if attention is None else self._affinity(attention))

    def _affinity(self, attention: Tensor) -> Affinity:
        affinity, count = normalize_affinity(attention), self.config.affinity_top
        return NearestAffinity.of(affinity, count) if count else affinity

    def propose(
        self,
        frame: EncodedFrame,
        texts: Sequence[str],
        size_hw: tuple[int, int],
        *,
        bare: Sequence[str] = (),
        background: Sequence[str] | None = None,
    ) -> Proposals:
        """Return the proposals of `texts`, already in their template, at `size_hw`.

        Args:
            frame: from `encode`.
            texts: N texts.
            size_hw: of the masks.
            bare: the same outside their template, if they stand in one; background queries that
                one of them names do not compete with it (`proposals.skip_own_words`).
            background: the background queries; those of the settings, if none are given.
        """
        words = self.config.background if background is None else background
        cams, recomputed = self._cams(frame.features, texts, bare or texts, words)
        boxes = tuple(affinity_boxes(cam, self.config.lambda_) for cam in cams)
        refined = cams
        if self.config.affinity:
            assert frame.affinity is not None
            refined = refine(frame.affinity, cams, boxes)
        return Proposals(cams, recomputed, boxes, refined, to_masks(refined, size_hw))

    def probabilities(self, frame: EncodedFrame, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the dense maps of texts, not yet in their template, each against the background
        alone: float32 (N, h, w) in [0, 1], not scaled to their own ranges."""
        assert isinstance(frame.features, DenseFeatures)
        words = self.config.background
        queries = self.backbone.encode_texts(self._in_template(texts))
        logs = log_probabilities(
            frame.features, queries, self._background(queries, words),
            self._left_out(queries, texts, words), scale=self.config.dense_scale, competing=False,
        )  # fmt: skip
        return np.asarray(logs.exp().cpu().numpy(), np.float32)

    def _cams(
        self,
        features: PatchFeatures | DenseFeatures,
        texts: Sequence[str],
        bare: Sequence[str],
        words: Sequence[str],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        queries = self.backbone.encode_texts(texts)
        if isinstance(features, DenseFeatures):
            against = self._left_out(queries, bare, words)
            maps, flat = dense_maps(
                features, queries, self._background(queries, words), against,
                scale=self.config.dense_scale, competing=self.competing,
            )  # fmt: skip
            return min_max(maps.cpu().numpy()), flat.cpu().numpy()
        # With no background at all, refer mode's softmax is 1, its gradient 0, and so is the CAM.
        raw = self.backbone.gradient_cams(
            features,
            queries,
            self._background(queries, words),
            self._competing_background(bare, words),
            competing=self.competing,
        )
        zero = raw.flatten(1).amax(dim=1) <= 0
        for i in torch.nonzero(zero).flatten().tolist():
            raw[i] = self._cam_without_background(features, queries, i)
        return min_max(min_max(raw.cpu().numpy())), zero.cpu().numpy()

    def _left_out(
        self, queries: Tensor, bare: Sequence[str], words: Sequence[str]
    ) -> Tensor | None:
        """`_competing_background`, the other way round, beside `queries`."""
        against = self._competing_background(bare, words)
        return None if against is None else torch.from_numpy(~against).to(queries.device)

    def _in_template(self, texts: Sequence[str]) -> list[str]:
        return [in_template(self.config.template, text) for text in texts]

    def _background(self, queries: Tensor, words: Sequence[str]) -> Tensor:
        """Features of the background queries, float32 (B, D), beside those of `queries`."""
        return self.backbone.encode_texts(self._in_template(words)) if words else queries[:0]

    def _competing_background(
        self, bare: Sequence[str], words: Sequence[str]
    ) -> NDArray[np.bool_] | None:
        """Which background queries compete with each text, bool (N, B); None: all with all."""
        if not (self.config.skip_own_words and words):
            return None
        against = np.stack([not_named(text, words) for text in bare])
        return None if against.all() else against

    def _cam_without_background(
        self, features: PatchFeatures, queries: Tensor, index: int
    ) -> Tensor:
        """Compute a CAM that was all zeros again, without background (`proposals.zero_cam`)."""
        if self.config.zero_cam == "similarity":
            return self.backbone.similarity_cams(features, queries[index : index + 1])[0]
        group = queries if self.competing else queries[index : index + 1]
        cams = self.backbone.gradient_cams(features, group, queries[:0], competing=self.competing)
        return cams[index if self.competing else 0]


def patch_multiple(
    size_hw: Sequence[int], patch: int, max_side: int = 0, max_tokens: int = 0
) -> tuple[int, int]:
    """Return the size to resize to: whole patches, rounded up from a longer side of at most
    `max_side`; if those are more than `max_tokens`, about as many, in the same aspect ratio. 0 is
    no limit."""
    height, width = size_hw
    scale = min(1.0, max_side / max(height, width)) if max_side else 1.0
    down, across = (math.ceil(round(side * scale, 6) / patch) for side in (height, width))
    if max_tokens and down * across > max_tokens:
        down, across = _within(max_tokens, down, across, height / width)
    return down * patch, across * patch


def _within(most: int, down: int, across: int, ratio: float) -> tuple[int, int]:
    """Patches down and across, at most `most` and hardly fewer, of nearly the aspect ratio, height
    over width."""
    exact = math.sqrt(most * ratio)
    rows = {min(max(1, round(exact) + step), down, most) for step in (-1, 0, 1)}
    grids = [(row, min(across, most // row, math.ceil(row / ratio))) for row in sorted(rows)]
    least = FULL_SHARE * max(row * column for row, column in grids)
    full = [grid for grid in grids if grid[0] * grid[1] >= least]
    return min(full, key=lambda grid: abs(math.log(grid[0] / grid[1] / ratio)))


def affinity_boxes(cam: NDArray[np.float32], lambda_: float) -> tuple[Box, ...]:
    """Return the bounding boxes of the contours where a CAM exceeds λ of its maximum.

    As CLIP-ES has it: all contours, holes too; the exclusive ends are clipped to the last patch,
    so that the last column and row never belong; λ falls until something passes; a CAM of zeros
    has the one empty box (0, 0, 0, 0).

    Args:
        cam: float32 (h, w) in [0, 1].
        lambda_: λ in [0, 1].
    """
    height, width = cam.shape
    levels = (cam * 255).astype(np.uint8)
    while True:
        binary = (levels > int(lambda_ * levels.max())).astype(np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if contours:
            break
        lambda_ -= LAMBDA_STEP
        if lambda_ <= 0:
            return ((0, 0, 0, 0),)
    boxes = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        boxes.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
    return tuple(boxes)


def refine(
    affinity: Affinity, cams: NDArray[np.float32], boxes: Sequence[Sequence[Box]]
) -> NDArray[np.float32]:
    """Spread CAMs, float32 (N, h, w), from the patches in their boxes by the affinity squared.

    A·A is never formed: zeroing columns of A² outside the boxes is zeroing those patches of the
    CAM, and A² c = A (A c).
    """
    inside = np.zeros_like(cams)
    for plane, plane_boxes in zip(inside, boxes, strict=True):
        for x0, y0, x1, y1 in plane_boxes:
            plane[y0:y1, x0:x1] = 1
    columns = torch.from_numpy((cams * inside).reshape(len(cams), -1)).to(affinity.device).T
    spread: NDArray[np.float32] = (affinity @ (affinity @ columns)).T.cpu().numpy()
    return spread.reshape(cams.shape)


def split_parts(
    maps: NDArray[np.float32], level: float, most: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cut maps into their connected parts (8 neighbours), each with the slope around it.

    Args:
        maps: float32 (N, h, w) ≥ 0.
        level: share of a map's maximum above which patches are connected.
        most: N numbers: how many parts of each map are kept, those with the highest peaks; 1 leaves
            the map as it is.

    Returns:
        float32 (P, h, w), the parts, a map's strongest first; int64 (P,), which map each is of.
        A map of zeros is one part.
    """
    parts, owners = [], []
    for owner, (plane, limit) in enumerate(zip(maps, most, strict=True)):
        if limit == 1:
            parts.append(plane)
            owners.append(owner)
            continue
        strong = (plane > level * plane.max()).astype(np.uint8)
        count, labels = cv2.connectedComponents(strong)
        found = []
        for label in range(1, count):
            part = (labels == label).astype(np.uint8)
            slope = (cv2.dilate(part, np.ones((3, 3), np.uint8)) > 0) & (strong <= part)
            found.append(np.where(slope, plane, 0))
        found.sort(key=np.max, reverse=True)
        kept = found[:limit] or [plane]
        parts.extend(kept)
        owners.extend([owner] * len(kept))
    return np.stack(parts), np.array(owners)


def to_masks(maps: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Scale maps, float32 (N, h, w), to [0, 1] each and resize them: float32 (N, *size_hw)."""
    masks = np.empty((len(maps), *size_hw), np.float32)
    for mask, scaled in zip(masks, min_max(maps), strict=True):
        cv2.resize(scaled, size_hw[::-1], dst=mask, interpolation=cv2.INTER_LINEAR)
    return masks


def min_max(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each of maps, float32 (N, h, w), to [0, 1]; a constant one becomes zeros."""
    shifted = maps - maps.min(axis=(1, 2), keepdims=True)
    scaled: NDArray[np.float32] = shifted / (EPSILON + shifted.max(axis=(1, 2), keepdims=True))
    return scaled.astype(np.float32)
