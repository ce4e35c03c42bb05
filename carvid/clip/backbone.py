"""ClipBackbone: what CaR needs from a frozen CLIP, batched.

The network is transformers' own `CLIPModel`, run block by block, because no switch of that class
offers what is wanted: position embeddings of any grid, attention averaged over heads without
keeping every map, activations in place, no more than CLS from a last block of which only CLS is
read (`layers`), and the gradient of the last block with respect to its first LayerNorm, of all
queries together (`gradient_cam`).
"""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

from carvid.base.errors import ExpressionError, WeightsError
from carvid.clip.dense import DenseFeatures, Precision, Variant, dense_features
from carvid.clip.gradient_cam import PatchFeatures, gradient_cams, through_last_block
from carvid.clip.layers import (
    AttentionMaps,
    LastBlock,
    finish_block,
    normed,
    run_block,
    split_heads,
    wide_dtype,
    wide_norm,
)
from carvid.clip.preprocessing import OPENAI, Preprocessing

TEXTS_PER_BATCH = 64
IMAGES_PER_BATCH = 16
SAME_TEXT = 1e-5
"""Distance of two texts' unit features under which they are equal up to rounding."""


class ClipBackbone:
    """A frozen `CLIPModel` with its tokenizer, on one device.

    Attributes:
        patch_size: side of a patch, pixels.
        preprocessing: how its pixels are made.
        image_size: side of the square images that it is made for, pixels: the preprocessing's, or
            else that of its position embeddings.
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
        preprocessing: Preprocessing = OPENAI,
    ) -> None:
        # What is computed with in float32 is taken before half precision rounds it.
        self.logit_scale = float(model.logit_scale.detach().float().exp())
        positions = model.vision_model.embeddings.position_embedding.weight
        self._position_table = positions.detach().to(device, torch.float32)
        self._projection = model.visual_projection.weight.detach().to(device, torch.float32)
        self.model = model.to(torch.device(device)).eval().requires_grad_(False)
        model.vision_model.to(dtype)
        model.visual_projection.to(dtype)
        # Once a run: not worth the 1 % that a difference of two texts' features would lose.
        model.text_model.to(wide_dtype(dtype))
        model.text_projection.to(wide_dtype(dtype))
        self.tokenizer = tokenizer
        self.device, self.dtype = torch.device(device), dtype
        self.half_positions = half_positions
        self.name = name
        sizes = model.config.vision_config
        self.patch_size = int(sizes.patch_size)
        self.preprocessing = preprocessing
        side = preprocessing.side or int(sizes.image_size)
        self.image_size = max(1, side // self.patch_size) * self.patch_size
        self.counts = {"patches": 0, "images": 0, "texts": 0}
        self._texts: dict[str, Tensor] = {}
        self._checked: set[frozenset[str]] = set()
        self._positions: dict[tuple[int, int], Tensor] = {}

    # texts ----------------------------------------------------------------------------------

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit features, float32 (S, D); each text is encoded once in the model's life.

        A text of several lines has the mean of its lines' features, made unit: words for the same.

        Raises:
            ExpressionError: a text is longer than the text encoder reads, or it has the features
                of another one.
            WeightsError: features are not numbers.
        """
        lines = dict.fromkeys(line for text in texts for line in text.split("\n"))
        missing = [line for line in lines if line not in self._texts]
        for start in range(0, len(missing), TEXTS_PER_BATCH):
            batch = missing[start : start + TEXTS_PER_BATCH]
            self.remember_texts(batch, self._encode_texts(batch))
        features = torch.stack([self._feature(text) for text in texts])
        if not any(done.issuperset(texts) for done in self._checked):
            self._check_features(texts, features)
            self._checked.add(frozenset(texts))
        return features

    def _feature(self, text: str) -> Tensor:
        lines = text.split("\n")
        if len(lines) == 1:
            return self._texts[text]
        return F.normalize(torch.stack([self._texts[line] for line in lines]).mean(dim=0), dim=0)

    def remember_texts(self, texts: Sequence[str], features: Tensor) -> None:
        """Keep unit features, float (S, D); `encode_texts` returns them from then on."""
        self._texts.update(zip(texts, features.to(self.device, torch.float32), strict=True))

    def forget_texts(self) -> None:
        """Drop all kept features of texts.

        A text's feature depends, in its last bits, on the texts encoded in the same batch; after
        this, results do not depend on what was asked before.
        """
        self._texts.clear()

    def forgetting(self, texts: Iterable[str] | None = None) -> ClipBackbone:
        """Return the same network, which has its own features of texts: none of these, or of all,
        if none are given. See `forget_texts`; nobody who uses this one notices."""
        gone = None if texts is None else {line for text in texts for line in text.split("\n")}
        kept = {} if gone is None else {t: f for t, f in self._texts.items() if t not in gone}
        other = copy.copy(self)
        other._texts = kept
        return other

    @torch.inference_mode()
    def _encode_texts(self, texts: list[str]) -> Tensor:
        if self.tokenizer is None:
            raise ValueError(f"the CLIP '{self.name}' has no tokenizer; cannot encode {texts[0]!r}")
        limit = int(self.model.config.text_config.max_position_embeddings)
        ids = self.tokenizer(texts, padding=True, return_tensors="pt", verbose=False)
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

    def _check_features(self, texts: Sequence[str], features: Tensor) -> None:
        """Check that features, float32 (S, D), are finite, and equal only for texts that CLIP reads
        as the same."""
        if not features.isfinite().all():
            raise WeightsError(
                f"the text encoder of '{self.name}' gives no numbers; its weights are damaged, or "
                "need more than half precision (--set weights.dtype=float32)"
            )
        distances = torch.cdist(
            features, features, compute_mode="donot_use_mm_for_euclid_dist"
        )  # (S, S)
        for first, second in (distances < SAME_TEXT).triu(diagonal=1).nonzero().tolist():
            if _as_read(texts[first]) != _as_read(texts[second]):
                raise ExpressionError(
                    f"'{texts[first]}' and '{texts[second]}' are the same to the text encoder of "
                    f"'{self.name}'; use other words, or weights with their own tokenizer"
                )

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
            layers = vision.encoder.layers[: None if last_block else -1]
            for layer in layers[:-1]:
                x = run_block(layer, x)
            cls = run_block(layers[-1], x, rows=1)[:, 0]  # (B, D)
            features.append(self.model.visual_projection(normed(vision.post_layernorm, cls)))
            self.counts["images"] += len(batch)
        return F.normalize(torch.cat(features).float(), dim=-1)

    @torch.inference_mode()
    def encode_patches(self, pixels: Tensor, *, attention_blocks: int = 8) -> PatchFeatures:
        """Run one image through the network, and keep what the CAMs of any texts need.

        Args:
            pixels: float (3, H, W), normalised, sides divisible by the patch size.
            attention_blocks: how many of the last blocks' attention maps are averaged, the last
                one included; 1 or more.

        Raises:
            ValueError: `attention_blocks` is 0.
        """
        last = self.enter_last_block(pixels, attention_blocks=attention_blocks)
        if last.attended is None or last.attention is None:
            raise ValueError("gradients go through the last map; attention_blocks must be positive")
        return through_last_block(
            self.model.vision_model, last.x, last.heads, last.attended, last.grid_hw, last.attention
        )

    @torch.inference_mode()
    def encode_dense(
        self,
        pixels: Tensor,
        *,
        attention_blocks: int = 8,
        variant: Variant = "kk",
        sigma: float = 5.0,
        precision: Precision = "float32",
    ) -> tuple[DenseFeatures, Tensor | None]:
        """Run one image through the network, and keep what the dense maps of any texts need.

        Args:
            pixels: float (3, H, W), normalised, sides divisible by the patch size.
            attention_blocks: how many of the last blocks' attention maps are averaged, the last
                one included; 0 makes none.
            variant: what attends to what in the last block (`carvid.clip.dense`).
            sigma: σ of `kk`, patches; 0 is no Gaussian.
            precision: in which the features are kept.

        Returns:
            The features, and the averaged attention as of `PatchFeatures`.
        """
        last = self.enter_last_block(pixels, attention_blocks=attention_blocks)
        features = dense_features(
            self.model, self._projection, last.x, last.heads, last.grid_hw,
            variant=variant, sigma=sigma,
        )  # fmt: skip
        return DenseFeatures.of(last.grid_hw, features, precision), last.attention

    @torch.inference_mode()
    def enter_last_block(self, pixels: Tensor, *, attention_blocks: int) -> LastBlock:
        """Run one image up to the last block; arguments as of `encode_patches`."""
        *earlier, last = self.model.vision_model.encoder.layers
        first_map = max(0, len(earlier) + 1 - attention_blocks)
        x = self._embed(pixels[None])  # (1, L, D)
        maps, total = AttentionMaps(last.self_attn.num_heads, x.to(self.dtype)), None
        if attention_blocks:
            total = torch.zeros(x.shape[1], x.shape[1], device=self.device)  # (L, L)
        for index, layer in enumerate(earlier):
            if total is None or index < first_map:
                x = run_block(layer, x)
            else:
                heads = split_heads(layer.self_attn, normed(layer.layer_norm1, x))
                x = finish_block(layer, x, maps.attend(layer.self_attn, heads, total)[None])
        heads = split_heads(last.self_attn, normed(last.layer_norm1, x))
        self.counts["patches"] += 1
        grid_hw = (pixels.shape[1] // self.patch_size, pixels.shape[2] // self.patch_size)
        if total is None:
            return LastBlock(x, heads, grid_hw, None, None)
        attended = maps.attend(last.self_attn, heads, total)  # (heads, L, D / heads)
        attention = total[1:, 1:] / (maps.heads * (len(earlier) + 1 - first_map))  # (hw, hw)
        return LastBlock(x, heads, grid_hw, attended, attention)

    # CAMs -----------------------------------------------------------------------------------

    def gradient_cams(
        self,
        features: PatchFeatures,
        texts: Tensor,
        background: Tensor,
        against: NDArray[np.bool_] | None = None,
        *,
        competing: bool,
    ) -> Tensor:
        """Gradient CAM of every text, float32 (N, h, w), ≥ 0, not normalised (CaR section 3.2).

        What is differentiated is a softmax probability, computed from the mean of the patch tokens.

        Args:
            features: from `encode_patches`.
            texts: float32 (N, D), unit.
            background: float32 (B, D), unit.
            against: bool (N, B): the background that each text competes with; all of it, if none
                is given.
            competing: one softmax over all texts and the background (semantic mode), or one for
                each text against the background only (refer mode).
        """
        left_out = None if against is None else torch.from_numpy(~against).to(self.device)

        def probabilities(image: Tensor) -> Tensor:
            return _probabilities(
                self.logit_scale * texts @ image,
                self.logit_scale * background @ image,
                left_out,
                competing=competing,
            )

        return self._cams(features, probabilities, len(texts))

    def similarity_cams(self, features: PatchFeatures, texts: Tensor) -> Tensor:
        """As `gradient_cams`, but of the cosine itself: never zero for want of competitors."""
        return self._cams(features, lambda image: texts @ image, len(texts))

    def _cams(
        self, features: PatchFeatures, score: Callable[[Tensor], Tensor], count: int
    ) -> Tensor:
        vision = self.model.vision_model
        return gradient_cams(vision, self._projection, features, score, count)

    # tokens ---------------------------------------------------------------------------------

    def _embed(self, pixels: Tensor) -> Tensor:
        """Patch and position embeddings and the first LayerNorm, float (B, L, D)."""
        vision = self.model.vision_model
        embeddings = vision.embeddings
        patches = embeddings.patch_embedding(pixels.to(self.device, self.dtype))  # (B, D, h, w)
        grid_hw = (patches.shape[2], patches.shape[3])
        tokens = patches.flatten(2).transpose(1, 2)  # (B, hw, D)
        cls = embeddings.class_embedding.expand(len(tokens), 1, -1)
        x = torch.cat([cls, tokens], dim=1) + self._position(grid_hw)
        return wide_norm(vision.pre_layrnorm, x.to(wide_dtype(self.dtype)))

    def _position(self, grid_hw: tuple[int, int]) -> Tensor:
        """Position embeddings of a grid, (L, D), bilinear from the trained square."""
        if grid_hw not in self._positions:
            table = self._position_table
            side = round((len(table) - 1) ** 0.5)
            square = table[1:].T.reshape(1, -1, side, side)  # (1, D, side, side), then (1, D, h, w)
            if grid_hw != (side, side):
                square = F.interpolate(square, grid_hw, mode="bilinear", align_corners=False)
            position = torch.cat([table[:1], square[0].flatten(1).T])  # (L, D)
            if self.half_positions:
                position = position.half()
            self._positions[grid_hw] = position.to(self.dtype)
        return self._positions[grid_hw]


def _probabilities(
    logits: Tensor, background: Tensor, left_out: Tensor | None, *, competing: bool
) -> Tensor:
    """Softmax probability of every text, float32 (N,).

    Args:
        logits: float32 (N,), of the texts.
        background: float32 (B,), of the background.
        left_out: bool (N, B): the background that each text does not compete with.
        competing: texts compete with each other, too.
    """
    count = len(logits)
    if competing and left_out is None:
        return torch.cat([logits, background]).softmax(dim=0)[:count]
    others = background.expand(count, -1)  # (N, B)
    if left_out is not None:
        others = others.masked_fill(left_out, -torch.inf)
    own = logits.expand(count, -1) if competing else logits[:, None]  # (N, N) or (N, 1)
    rows = torch.cat([own, others], dim=1).softmax(dim=1)
    return rows.diagonal() if competing else rows[:, 0]


def _as_read(text: str) -> str:
    """Return a text without what CLIP's tokenizer ignores: case and spaces."""
    return "".join(unicodedata.normalize("NFC", text).lower().split())
