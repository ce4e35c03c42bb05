"""g: the mask classifier (CaR section 3.2): does a prompted image look like its text?

Prompted images → one view each → CLS features (one network pass an image, whatever the number of
templates) → softmax over the texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from carvid.base.masks import box_of
from carvid.base.scale import Scales
from carvid.car.queries import in_template
from carvid.clip.backbone import ClipBackbone
from carvid.clip.preprocessing import OPENAI, Preprocessing, to_pixels
from carvid.config import ClassifierConfig


class MaskClassifier:
    """Scores prompted images against texts; texts are given bare and put into the templates."""

    def __init__(self, backbone: ClipBackbone, config: ClassifierConfig) -> None:
        self.backbone, self.config = backbone, config

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        masks: NDArray[np.bool_],
        scales: Scales | None = None,
    ) -> Tensor:
        """Encode prompted images in batches.

        Args:
            images: B images, uint8 (H, W, 3) RGB.
            masks: bool (B, H, W), what each of them marks; only `mask-crop` looks at them.
            scales: the frame without prompts; where it is larger than the images, crops of small
                things have its detail.

        Returns:
            float32 (B, D), unit.
        """
        side = self.backbone.image_size
        pairs = zip(images, masks, strict=True)
        views = [self._view(image, mask, side, scales) for image, mask in pairs]
        return self.backbone.encode_images(torch.stack(views), last_block=self.config.last_block)

    def score(
        self,
        features: Tensor,
        texts: Sequence[str],
        allowed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Return P, float32 (B, S): each image's probabilities over bare `texts`.

        Args:
            features: float32 (B, D), unit.
            texts: S texts.
            allowed: bool (B, S): the texts that each image is compared with; the others get 0. All
                of them, if none are given.
        """
        return self.score_templates(features, self._in_templates(texts), allowed)

    def score_templates(
        self,
        features: Tensor,
        texts: Sequence[Sequence[str]],
        allowed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """As `score`, with the finished texts of every template, all of one length S.

        One template: softmax over the texts. Several: a softmax each, summed, and a softmax over
        the sum (the released code's semantic mode).
        """
        out = None if allowed is None else torch.from_numpy(~allowed).to(features.device)

        def softmax(logits: Tensor) -> Tensor:
            return (logits if out is None else logits.masked_fill(out, -torch.inf)).softmax(dim=1)

        scale = self.backbone.logit_scale
        each = [softmax(scale * features @ self.backbone.encode_texts(row).T) for row in texts]
        probabilities = each[0] if len(each) == 1 else softmax(torch.stack(each).sum(dim=0))
        result: NDArray[np.float32] = probabilities.cpu().numpy()
        return result

    def cosines(self, features: Tensor, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return each image's cosines with bare `texts`, float32 (B, S), means over templates."""
        each = [features @ self.backbone.encode_texts(row).T for row in self._in_templates(texts)]
        result: NDArray[np.float32] = torch.stack(each).mean(dim=0).cpu().numpy()
        return result

    def _in_templates(self, texts: Sequence[str]) -> list[list[str]]:
        return [[in_template(each, text) for text in texts] for each in self.config.templates]

    def _view(
        self, image: NDArray[np.uint8], mask: NDArray[np.bool_], side: int, scales: Scales | None
    ) -> Tensor:
        if self.config.view == "center-crop":
            return center_crop(image, side, self.backbone.preprocessing)
        if self.config.view == "mask-crop" and mask.any():
            box = crop_box(mask, self.config.crop_margin)
            crop = image[box]
            enlarges = max(crop.shape) < side
            image = crop if scales is None or not enlarges else scales.detailed(crop, box)
        return letterbox(image, side, self.backbone.preprocessing)


def letterbox(image: NDArray[np.uint8], side: int, preprocessing: Preprocessing = OPENAI) -> Tensor:
    """Fit all of uint8 (H, W, 3) RGB into a square: float32 (3, side, side), normalised.

    What is around it is zero, as nearly as a colour can be.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size_hw = (max(1, round(height * scale)), max(1, round(width * scale)))
    canvas = Image.new("RGB", (side, side), preprocessing.padding_rgb)
    inner = Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.BICUBIC)
    canvas.paste(inner, ((side - size_hw[1]) // 2, (side - size_hw[0]) // 2))
    return to_pixels(canvas, (side, side), preprocessing)


def center_crop(
    image: NDArray[np.uint8], side: int, preprocessing: Preprocessing = OPENAI
) -> Tensor:
    """Scale the short side of uint8 (H, W, 3) RGB to `side` and keep the central square."""
    height, width = image.shape[:2]
    short = min(height, width)
    size_hw = (side * height // short, side * width // short)
    top, left = round((size_hw[0] - side) / 2), round((size_hw[1] - side) / 2)
    scaled = Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.BICUBIC)
    square = scaled.crop((left, top, left + side, top + side))
    return to_pixels(square, (side, side), preprocessing)


def mask_crop(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], margin: float
) -> NDArray[np.uint8]:
    """Cut a square around a mask, clipped to the frame.

    Args:
        image: uint8 (H, W, 3) RGB.
        mask: bool (H, W), not empty.
        margin: side of the square over the longer side of the mask's bounding box.
    """
    return image[crop_box(mask, margin)]


def crop_box(mask: NDArray[np.bool_], margin: float) -> tuple[slice, slice]:
    """Return rows and columns of the square that `mask_crop` cuts."""
    left, top, right, bottom = box_of(mask)
    center_y, center_x = (top + bottom) / 2, (left + right) / 2
    half = margin * max(bottom - top, right - left) / 2
    top, left = max(0, int(center_y - half)), max(0, int(center_x - half))
    return slice(top, int(np.ceil(center_y + half))), slice(left, int(np.ceil(center_x + half)))
