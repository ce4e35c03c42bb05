"""ClipBackbone: what CaR needs from a frozen CLIP, batched.

The network is transformers' own `CLIPModel`. Only three things are done by hand, because no
switch of that class offers them: position embeddings of any grid, attention averaged over heads
without keeping every map, and the gradient of the last block with respect to its first LayerNorm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

from carvid.errors import ExpressionError

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""CLIP's mean, RGB in [0, 1] (openai/CLIP, `_transform`)."""
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's standard deviation, likewise."""

TEXTS_PER_BATCH = 64
IMAGES_PER_BATCH = 16
GRADIENTS_PER_BATCH = 4
"""Queries that share one batched backward; each needs heads · (hw)² floats of memory."""


@dataclass(frozen=True)
class PatchFeatures:
    """One image as the generator sees it, up to the last block: one pass serves all queries."""

    last_input: Tensor
    """float (1 + hw, D): what enters the last block; row 0 is CLS."""
    grid_hw: tuple[int, int]
    """Patches down and across."""
    attention: Tensor
    """float32 (hw, hw): attention of the last blocks, averaged over heads and blocks, rows attend
    to columns, without CLS."""


class ClipBackbone:
    """A frozen `CLIPModel` with its tokenizer, on one device.

    Attributes:
        patch_size: side of a patch, pixels.
        image_size: side of the square image that the model was trained on, pixels.
        logit_scale: factor from cosine to logit (100 for the released models).
        counts: how often images and texts were encoded; for tests and benchmarks.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: CLIPTokenizer | None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        half_positions: bool = False,
        name: str = "",
    ) -> None:
        self.model = model.to(device=torch.device(device), dtype=dtype).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device, self.dtype = torch.device(device), dtype
        self.half_positions = half_positions
        self.name = name
        vision = model.config.vision_config
        self.patch_size, self.image_size = int(vision.patch_size), int(vision.image_size)
        self.logit_scale = float(model.logit_scale.float().exp())
        self.counts = {"patches": 0, "images": 0, "texts": 0}
        self._texts: dict[str, Tensor] = {}
        self._positions: dict[tuple[int, int], Tensor] = {}

    # texts ----------------------------------------------------------------------------------

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit features, float32 (S, D); each text is encoded once in the model's life.

        Raises:
            ExpressionError: a text is longer than the text encoder reads.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for start in range(0, len(missing), TEXTS_PER_BATCH):
            batch = missing[start : start + TEXTS_PER_BATCH]
            self.remember_texts(batch, self._encode_texts(batch))
        return torch.stack([self._texts[text] for text in texts])

    def remember_texts(self, texts: Sequence[str], features: Tensor) -> None:
        """Put unit features, float (S, D), where `encode_texts` finds them."""
        self._texts.update(zip(texts, features.to(self.device, torch.float32), strict=True))

    def forget_texts(self) -> None:
        """Encode texts anew: with the same company, features are the same to the last bit."""
        self._texts.clear()

    @torch.inference_mode()
    def _encode_texts(self, texts: list[str]) -> Tensor:
        if self.tokenizer is None:
            raise ValueError(f"the CLIP '{self.name}' has no tokenizer; cannot encode {texts[0]!r}")
        limit = int(self.model.config.text_config.max_position_embeddings)
        ids = self.tokenizer(texts, padding=True, return_tensors="pt")
        lengths = ids["attention_mask"].sum(dim=1).tolist()
        for text, length in zip(texts, lengths, strict=True):
            if length > limit:
                raise ExpressionError(
                    f"the expression has {length} tokens, CLIP reads {limit}; "
                    f"shorten it: '{text[:60]}…'"
                )
        self.counts["texts"] += len(texts)
        output = self.model.get_text_features(**ids.to(self.device))
        return F.normalize(output.pooler_output.float(), dim=-1)

    # images ---------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode_images(self, pixels: Tensor, *, last_block: bool = True) -> Tensor:
        """Return unit features of whole images, float32 (B, D), from the CLS token.

        Args:
            pixels: float (B, 3, H, W), normalised, sides divisible by the patch size.
            last_block: leave the last block out, as the released CaR classifier does, if False.
        """
        vision = self.model.vision_model
        features = []
        for batch in torch.split(pixels, IMAGES_PER_BATCH):
            x = self._embed(batch)
            for layer in vision.encoder.layers[: None if last_block else -1]:
                x = layer(x, attention_mask=None)
            features.append(self.model.visual_projection(vision.post_layernorm(x[:, 0])))
            self.counts["images"] += len(batch)
        return F.normalize(torch.cat(features).float(), dim=-1)

    @torch.inference_mode()
    def encode_patches(self, pixels: Tensor, *, attention_blocks: int = 8) -> PatchFeatures:
        """Run one image, float (3, H, W), normalised, up to the last block.

        Args:
            pixels: sides divisible by the patch size.
            attention_blocks: how many of the last blocks' attention maps are averaged, the last
                one included.
        """
        grid_hw = (pixels.shape[1] // self.patch_size, pixels.shape[2] // self.patch_size)
        x = self._embed(pixels[None])
        layers = self.model.vision_model.encoder.layers
        first_map = max(0, len(layers) - attention_blocks)
        total = torch.zeros(x.shape[1] - 1, x.shape[1] - 1, device=self.device)
        for layer in layers[:first_map]:
            x = layer(x, attention_mask=None)
        for layer in layers[first_map:-1]:
            mixed = _attend(layer.self_attn, layer.layer_norm1(x), add_map_to=total)
            x = _rest_of_block(layer, x, mixed)
        _attend(layers[-1].self_attn, layers[-1].layer_norm1(x), add_map_to=total)
        self.counts["patches"] += 1
        return PatchFeatures(x[0], grid_hw, total / (len(layers) - first_map))

    def gradient_cams(
        self, features: PatchFeatures, texts: Tensor, background: Tensor, *, competing: bool
    ) -> Tensor:
        """Gradient CAM of every text, float32 (N, h, w), ≥ 0, not normalised (METHOD: CAM).

        The target is the output of the last block's first LayerNorm; what is differentiated is a
        softmax probability, computed from the mean of the patch tokens.

        Args:
            features: from `encode_patches`.
            texts: float32 (N, D), unit.
            background: float32 (B, D), unit.
            competing: one softmax over all texts and the background (semantic mode), or one for
                each text against the background only (refer mode).
        """

        def probabilities(pooled: Tensor) -> Tensor:
            logits = self.logit_scale * texts @ pooled
            others = self.logit_scale * background @ pooled
            if competing:
                return torch.cat([logits, others]).softmax(dim=0)[: len(logits)]
            rows = torch.cat([logits[:, None], others.expand(len(logits), -1)], dim=1)
            return rows.softmax(dim=1)[:, 0]

        return self._cams(features, probabilities, len(texts))

    def similarity_cams(self, features: PatchFeatures, texts: Tensor) -> Tensor:
        """As `gradient_cams`, but of the cosine itself: never zero for want of competitors."""
        return self._cams(features, lambda pooled: texts @ pooled, len(texts))

    def _cams(
        self, features: PatchFeatures, score: Callable[[Tensor], Tensor], count: int
    ) -> Tensor:
        layer = self.model.vision_model.encoder.layers[-1]
        with torch.inference_mode(False), torch.enable_grad():
            x = features.last_input[None].clone()
            target = layer.layer_norm1(x).detach().requires_grad_()  # (1, 1 + hw, D)
            x = _rest_of_block(layer, x, _attend(layer.self_attn, target))
            tokens = self.model.vision_model.post_layernorm(x[0, 1:])
            pooled = self.model.visual_projection(tokens.mean(dim=0))
            scores = score(F.normalize(pooled.float(), dim=0))
            weights = []
            for rows in torch.split(torch.eye(count, device=self.device), GRADIENTS_PER_BATCH):
                (gradient,) = torch.autograd.grad(
                    scores, target, rows, retain_graph=True, is_grads_batched=True
                )
                weights.append(gradient[:, 0, 1:].float().mean(dim=1))  # (rows, D)
        with torch.no_grad():
            activation = target[0, 1:].float()
            cams: Tensor = (torch.cat(weights) @ activation.T).relu()  # (N, hw)
            return cams.view(count, *features.grid_hw)

    def _embed(self, pixels: Tensor) -> Tensor:
        """Patch and position embeddings and the first LayerNorm, (B, 1 + hw, D)."""
        vision = self.model.vision_model
        embeddings = vision.embeddings
        patches = embeddings.patch_embedding(pixels.to(self.device, self.dtype))  # (B, D, h, w)
        grid_hw = (patches.shape[2], patches.shape[3])
        tokens = patches.flatten(2).transpose(1, 2)  # (B, hw, D)
        cls = embeddings.class_embedding.expand(len(tokens), 1, -1)
        x = torch.cat([cls, tokens], dim=1) + self._position(grid_hw)
        normed: Tensor = vision.pre_layrnorm(x)
        return normed

    def _position(self, grid_hw: tuple[int, int]) -> Tensor:
        """Position embeddings of a grid, (1 + hw, D), bilinear from the trained square."""
        if grid_hw not in self._positions:
            table = self.model.vision_model.embeddings.position_embedding.weight.float()
            side = round((len(table) - 1) ** 0.5)
            square = table[1:].T.reshape(1, -1, side, side)
            if grid_hw != (side, side):
                square = F.interpolate(square, grid_hw, mode="bilinear", align_corners=False)
            position = torch.cat([table[:1], square[0].flatten(1).T])  # (1 + hw, D)
            if self.half_positions:
                position = position.half()
            self._positions[grid_hw] = position.to(self.dtype)
        return self._positions[grid_hw]


def to_pixels(image: NDArray[np.uint8] | Image.Image, size_hw: tuple[int, int]) -> Tensor:
    """Resize uint8 (H, W, 3) RGB (PIL bicubic, antialiased), normalise: float32 (3, *size_hw)."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if picture.size != size_hw[::-1]:
        picture = picture.resize(size_hw[::-1], Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
    return (values - torch.tensor(IMAGE_MEAN)[:, None, None]) / torch.tensor(IMAGE_STD)[
        :, None, None
    ]


def _attend(attention: Any, x: Tensor, add_map_to: Tensor | None = None) -> Tensor:
    """Self-attention of (1, L, D); adds the mean over heads, without CLS, to `add_map_to`.

    One head at a time when the map is asked for: a map at 480×864 is 10 MB, all of them 126 MB.
    """
    heads = attention.num_heads
    q, k, v = (
        project(x)[0].unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, L, D / heads)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    if add_map_to is None:
        # Written out, since the fused kernels have no batched backward.
        mixed = (q * attention.scale @ k.transpose(1, 2)).softmax(dim=-1) @ v
    else:
        outputs = []
        for head in range(heads):
            weights = (q[head] * attention.scale @ k[head].T).softmax(dim=-1)  # (L, L)
            add_map_to.add_(weights[1:, 1:].float(), alpha=1 / heads)
            outputs.append(weights @ v[head])
        mixed = torch.stack(outputs)
    out: Tensor = attention.out_proj(mixed.transpose(0, 1).flatten(1))[None]  # (1, L, D)
    return out


def _rest_of_block(layer: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """What a CLIP encoder layer does after its attention."""
    x = x + mixed
    out: Tensor = x + layer.mlp(layer.layer_norm2(x))
    return out
