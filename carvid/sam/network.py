"""SamNetwork: embeddings of frames, and the masks that prompts give (Kirillov et al. 2023).

The network is transformers' own `SamModel`. A prompt is a point, or a mask with its box and points
in it; a mask comes as logits, true above 0. Points are x and y in pixels of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SamModel

from carvid.base.masks import box_of

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""SAM's mean, RGB in [0, 255] (segment-anything, `build_sam.py`)."""
PIXEL_STD = (58.395, 57.12, 57.375)
"""SAM's standard deviation, likewise."""
DECODER_EPSILON = 1e-5
"""Of the decoder's LayerNorms, with which SAM was trained (segment-anything); transformers has 1e-6
in most of them."""
PROMPT_POINTS = 3
"""Most points of a prompt made of a mask."""
PROMPT_LOGIT = 10.0
"""Logit of the mask prompt inside the mask; outside it is the negative."""


@dataclass(frozen=True)
class Embedding:
    """A frame, encoded: one pass of the image encoder serves all prompts."""

    values: Tensor
    """float (1, D, h, w): the frame as the decoder reads it, padded at right and bottom."""
    size_hw: tuple[int, int]
    """The frame's size, pixels."""


class SamNetwork:
    """A frozen `SamModel`.

    Attributes:
        side: side of the square that the network sees, pixels; a frame's longer side is scaled to
            it.
    """

    def __init__(self, model: SamModel) -> None:
        self.model = model.eval().requires_grad_(False)
        for module in model.mask_decoder.transformer.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = DECODER_EPSILON
        self.device = next(model.parameters()).device
        self.side = int(model.config.vision_config.image_size)
        mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
        self._mean, self._std = mean.to(self.device), std.to(self.device)

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Encode uint8 (H, W, 3) RGB."""
        size_hw = (image.shape[0], image.shape[1])
        height, width = self._input_size(size_hw)
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).to(self.device)  # (H', W', 3)
        pixels = pixels.permute(2, 0, 1)[None].float()  # (1, 3, H', W')
        pixels = (pixels - self._mean) / self._std
        padding = (0, self.side - width, 0, self.side - height)
        values: Tensor = self.model.get_image_embeddings(F.pad(pixels, padding))
        return Embedding(values, size_hw)

    @torch.inference_mode()
    def masks_at(self, embedding: Embedding, points: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Ask for three masks at each of P points.

        Args:
            embedding: from `embed`.
            points: float64 (P, 2).

        Returns:
            Logits of the masks, float (3 P, h', w'), for `at_frame_size`; SAM's own estimate of
            each one's IoU with the truth, float (3 P,).
        """
        prompts = self._to_input(points, embedding.size_hw)[None, :, None]  # (1, P, 1, 2)
        output = self.model(
            image_embeddings=embedding.values,
            input_points=prompts,
            input_labels=torch.ones(prompts.shape[:3], dtype=torch.int64, device=self.device),
        )
        return output.pred_masks.flatten(0, 2), output.iou_scores.flatten()

    @torch.inference_mode()
    def mask_like(self, embedding: Embedding, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Ask for the mask at a mask's box, points in it, and the mask itself.

        Args:
            embedding: from `embed`.
            mask: bool (H, W), not empty.

        Returns:
            bool (H, W).
        """
        size_hw = embedding.size_hw
        points = inner_points(mask, PROMPT_POINTS)
        left, top, right, bottom = box_of(mask)
        corners = np.array([(left, top), (right - 1, bottom - 1)], float)  # both in the mask's box
        output = self.model(
            image_embeddings=embedding.values,
            input_points=self._to_input(points, size_hw)[None, None],  # (1, 1, n, 2)
            input_labels=torch.ones((1, 1, len(points)), device=self.device).long(),
            input_boxes=self._to_input(corners, size_hw).reshape(1, 1, 4),
            input_masks=self._mask_prompt(mask),
            multimask_output=False,
        )
        logits = self.at_frame_size(output.pred_masks.flatten(0, 2), size_hw)  # (1, H, W)
        found: NDArray[np.bool_] = (logits[0] > 0).cpu().numpy()
        return found

    def at_frame_size(self, logits: Tensor, size_hw: tuple[int, ...]) -> Tensor:
        """Resize the decoder's logits, float (n, h', w'), to the frame: float (n, H, W)."""
        square = F.interpolate(logits[:, None], (self.side, self.side), mode="bilinear")
        height, width = self._input_size(size_hw)
        inside = square[:, :, :height, :width]  # (n, 1, H', W'), without the padding
        return F.interpolate(inside, size_hw[:2], mode="bilinear")[:, 0]

    def _input_size(self, size_hw: tuple[int, ...]) -> tuple[int, int]:
        """Height and width, H' and W', of a frame whose longer side is the network's."""
        height, width = (int(s * self.side / max(size_hw) + 0.5) for s in size_hw[:2])
        return height, width

    def _to_input(self, points: NDArray[np.float64], size_hw: tuple[int, ...]) -> Tensor:
        """Points of the frame, (…, 2), in pixels of the network's input."""
        height, width = self._input_size(size_hw)
        scaled = points * (width / size_hw[1], height / size_hw[0])
        return torch.from_numpy(scaled).float().to(self.device)

    def _mask_prompt(self, mask: NDArray[np.bool_]) -> Tensor:
        """A mask as the prompt encoder reads it: logits of the whole input, float (1, 1, h, w)."""
        prompt = self.model.config.prompt_encoder_config
        side = 4 * int(prompt.image_size) // int(prompt.patch_size)
        height, width = (round(s * side / self.side) for s in self._input_size(mask.shape))
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
