"""ClipBackbone: what CaR needs from a frozen CLIP, batched.

The network is transformers' own `CLIPModel`, run block by block, because no switch of that class
offers what is wanted: position embeddings of any grid, attention averaged over heads without
keeping every map, activations in place, no more than CLS from a last block of which only CLS is
read, and the gradient of the last block with respect to its first LayerNorm, of all queries
together.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer
from transformers.activations import QuickGELUActivation

from carvid.base.errors import ExpressionError, WeightsError

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""CLIP's mean, RGB in [0, 1] (openai/CLIP, `_transform`)."""
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's standard deviation, likewise."""

TEXTS_PER_BATCH = 64
IMAGES_PER_BATCH = 16
GRADIENTS_PER_BATCH = 8
"""Queries whose gradients are taken together; each needs about 12 · hw · D floats of memory."""
MAP_ROWS = 256
"""Rows of one head's attention map that a CPU makes at a time, to use them while they are near."""
QUICK_GELU = 1.702
"""CLIP's activation is x · sigmoid(1.702 x) (openai/CLIP, `QuickGELU`)."""
SAME_TEXT = 1e-5
"""Unit features that are nearer are equal, but for sums in another order."""


@dataclass(frozen=True)
class Preprocessing:
    """How a network's pixels are made: (value in [0, 1] − mean) / std, in each channel."""

    mean: tuple[float, ...] = IMAGE_MEAN
    """RGB, in [0, 1]."""
    std: tuple[float, ...] = IMAGE_STD
    """RGB, likewise."""
    side: int | None = None
    """Side of the square images that the network is made for, pixels; None: as its positions."""

    @property
    def padding_rgb(self) -> tuple[int, ...]:
        """The colour, levels of 255, that is zero once normalised, as nearly as can be."""
        return tuple(min(max(round(255 * mean), 0), 255) for mean in self.mean)


OPENAI = Preprocessing()
"""That of CLIP's authors."""


@dataclass(frozen=True)
class Normed:
    """A LayerNorm's input, standardised: what its gradient needs."""

    values: Tensor
    """float (hw, D), of mean 0 and variance 1 in each row."""
    scale: Tensor
    """float (hw, 1): 1 / standard deviation of the input."""


@dataclass(frozen=True)
class PatchFeatures:
    """One image as the generator sees it: one pass serves all queries.

    Of the last block, whose CAMs are differentiated, all that does not depend on a query is here.
    """

    grid_hw: tuple[int, int]
    """Patches down and across."""
    attention: Tensor
    """float32 (hw, hw): attention of the last blocks, averaged over heads and blocks, rows attend
    to columns, without CLS."""
    activation: Tensor
    """float32 (hw, D): what the last block's first LayerNorm gives, without CLS."""
    heads: tuple[Tensor, Tensor, Tensor]
    """Queries, keys and values of the last block, float (heads, 1 + hw, D / heads) each."""
    mixed: Tensor
    """float (heads, 1 + hw, D / heads): what attention makes of them."""
    between: Normed
    """Input of the last block's second LayerNorm."""
    slope: Tensor
    """float (hw, 4 D): the activation's derivative in the last block's MLP."""
    after: Normed
    """Input of the LayerNorm behind the last block."""
    back: Tensor
    """float (hw, D): `after.values`, gone back through the MLP to `between.values`."""
    mean: Tensor
    """float32 (D,): the mean of the patch tokens, behind that LayerNorm."""


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
        self.model = model.to(device=torch.device(device), dtype=dtype).eval().requires_grad_(False)
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
        self._told_apart: set[frozenset[str]] = set()
        self._positions: dict[tuple[int, int], Tensor] = {}

    # texts ----------------------------------------------------------------------------------

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit features, float32 (S, D); each text is encoded once in the model's life.

        Raises:
            ExpressionError: a text is longer than the text encoder reads, or it has the features
                of another one.
            WeightsError: features are not numbers.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for start in range(0, len(missing), TEXTS_PER_BATCH):
            batch = missing[start : start + TEXTS_PER_BATCH]
            self.remember_texts(batch, self._encode_texts(batch))
        features = torch.stack([self._texts[text] for text in texts])
        if frozenset(texts) not in self._told_apart:
            self._check_apart(texts, features)
            self._told_apart.add(frozenset(texts))
        return features

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

    def _check_apart(self, texts: Sequence[str], features: Tensor) -> None:
        """Check that texts with equal features, float32 (S, D), differ in nothing CLIP reads."""
        if not features.isfinite().all():
            raise WeightsError(
                f"the text encoder of '{self.name}' gives no numbers; its weights are damaged, or "
                "need more than half precision (--set weights.dtype=float32)"
            )
        distances = torch.cdist(
            features, features, compute_mode="donot_use_mm_for_euclid_dist"
        )  # (S, S)
        for first, second in (distances < SAME_TEXT).triu(diagonal=1).nonzero().tolist():
            if _letters(texts[first]) != _letters(texts[second]):
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
                x = _block(layer, x)
            cls = _block(layers[-1], x, rows=1)[:, 0]  # (B, D)
            features.append(self.model.visual_projection(vision.post_layernorm(cls)))
            self.counts["images"] += len(batch)
        return F.normalize(torch.cat(features).float(), dim=-1)

    @torch.inference_mode()
    def encode_patches(self, pixels: Tensor, *, attention_blocks: int = 8) -> PatchFeatures:
        """Run one image, float (3, H, W), normalised, as far as all its CAMs have in common.

        Args:
            pixels: sides divisible by the patch size.
            attention_blocks: how many of the last blocks' attention maps are averaged, the last
                one included.
        """
        grid_hw = (pixels.shape[1] // self.patch_size, pixels.shape[2] // self.patch_size)
        x = self._embed(pixels[None])
        layers = self.model.vision_model.encoder.layers
        first_map = max(0, len(layers) - attention_blocks)
        maps = _Maps(layers[-1].self_attn.num_heads, x)
        total = torch.zeros(x.shape[1], x.shape[1], device=self.device)
        for layer in layers[:first_map]:
            x = _block(layer, x)
        for layer in layers[first_map:]:
            q, k, v = heads = _heads(layer.self_attn, layer.layer_norm1(x))
            mixed = torch.empty_like(v)
            for some, rows, weights in maps.parts(layer.self_attn, q, k):
                for each in weights:
                    total[rows] += each
                mixed[some, rows] = weights @ v[some]
            if layer is not layers[-1]:
                x = _rest_of_block(layer, x, mixed[None])
        self.counts["patches"] += 1
        attention = total[1:, 1:] / (maps.heads * (len(layers) - first_map))
        return self.through_last_block(x, heads, mixed, grid_hw, attention)

    @torch.inference_mode()
    def through_last_block(
        self,
        x: Tensor,
        heads: tuple[Tensor, Tensor, Tensor],
        mixed: Tensor,
        grid_hw: tuple[int, int],
        attention: Tensor,
    ) -> PatchFeatures:
        """Finish `encode_patches` from the last block's attention on.

        Args:
            x: float (1, 1 + hw, D): what enters the last block.
            heads: its queries, keys and values, float (heads, 1 + hw, D / heads) each.
            mixed: what its attention makes of them, likewise.
            grid_hw: patches down and across.
            attention: float32 (hw, hw): the averaged maps.
        """
        vision = self.model.vision_model
        layer = vision.encoder.layers[-1]
        activation = layer.layer_norm1(x)[0, 1:].float()
        x = _attended(layer, x, mixed[None])[0, 1:]  # (hw, D)
        between = _standardized(x, layer.layer_norm2)
        hidden = layer.mlp.fc1(layer.layer_norm2(x))  # (hw, 4 D)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = hidden.clone().requires_grad_()
            active = layer.mlp.activation_fn(leaf)
            (slope,) = torch.autograd.grad(active.sum(), leaf)
        x = x + layer.mlp.fc2(active.detach())
        after = _standardized(x, vision.post_layernorm)
        back = (slope * (after.values @ layer.mlp.fc2.weight)) @ _first_weight(layer)
        mean = vision.post_layernorm(x).float().mean(dim=0)
        return PatchFeatures(
            grid_hw, attention, activation, heads, mixed, between, slope, after, back, mean
        )

    def gradient_cams(
        self,
        features: PatchFeatures,
        texts: Tensor,
        background: Tensor,
        against: NDArray[np.bool_] | None = None,
        *,
        competing: bool,
    ) -> Tensor:
        """Gradient CAM of every text, float32 (N, h, w), ≥ 0, not normalised (METHOD: CAM).

        The target is the output of the last block's first LayerNorm; what is differentiated is a
        softmax probability, computed from the mean of the patch tokens.

        Args:
            features: from `encode_patches`.
            texts: float32 (N, D), unit.
            background: float32 (B, D), unit.
            against: bool (N, B): the background that each text competes with; all of it, if none
                is given.
            competing: one softmax over all texts and the background (semantic mode), or one for
                each text against the background only (refer mode).
        """
        count = len(texts)
        out = None if against is None else torch.from_numpy(~against).to(self.device)

        def probabilities(pooled: Tensor) -> Tensor:
            logits = self.logit_scale * texts @ pooled
            others = self.logit_scale * background @ pooled
            if competing and out is None:
                return torch.cat([logits, others]).softmax(dim=0)[:count]
            others = others.expand(count, -1)
            if out is not None:
                others = others.masked_fill(out, -torch.inf)
            own = logits.expand(count, -1) if competing else logits[:, None]
            rows = torch.cat([own, others], dim=1).softmax(dim=1)
            return rows.diagonal() if competing else rows[:, 0]

        return self._cams(features, probabilities, count)

    def similarity_cams(self, features: PatchFeatures, texts: Tensor) -> Tensor:
        """As `gradient_cams`, but of the cosine itself: never zero for want of competitors."""
        return self._cams(features, lambda pooled: texts @ pooled, len(texts))

    @torch.no_grad()
    def _cams(
        self, features: PatchFeatures, score: Callable[[Tensor], Tensor], count: int
    ) -> Tensor:
        layer = self.model.vision_model.encoder.layers[-1]
        with torch.inference_mode(False), torch.enable_grad():
            mean = features.mean.clone().requires_grad_()
            pooled = F.normalize(self._projection @ mean, dim=0)
            (pull,) = torch.autograd.grad(
                score(pooled), mean, torch.eye(count, device=self.device), is_grads_batched=True
            )  # (N, D)
        # A unit gradient, whatever a saturated softmax leaves of it, suits half precision.
        size = pull.norm(dim=1, keepdim=True)
        pull = pull / size.clamp(min=torch.finfo(torch.float32).tiny)
        weights = [
            _through_attention(
                layer.self_attn,
                features.heads,
                features.mixed,
                self._through_mlp(features, some.to(self.dtype)),
            )
            for some in torch.split(pull, GRADIENTS_PER_BATCH)
        ]
        weight = size * torch.cat(weights) / len(features.activation) ** 2  # (N, D)
        cams: Tensor = (weight @ features.activation.T).relu()  # (N, hw)
        return cams.view(count, *features.grid_hw)

    def _through_mlp(self, features: PatchFeatures, pull: Tensor) -> Tensor:
        """Take gradients of the sum of the patch tokens back to what attention mixed.

        With the tokens' standardised values y and c, the gradient before the last LayerNorm's
        weight, without its mean, a token's own gradient is (c − (c·y / D) y) · scale. Through the
        MLP's second layer goes c, once for all tokens, and y, once for all queries.

        Args:
            features: from `encode_patches`.
            pull: float (R, D).

        Returns:
            float (R, heads, 1 + hw, D / heads), zero at CLS, whose output no one reads.
        """
        vision = self.model.vision_model
        layer = vision.encoder.layers[-1]
        between, after = features.between, features.after
        pull = pull * vision.post_layernorm.weight
        pull = pull - pull.mean(dim=1, keepdim=True)
        along = (pull @ after.values.T / pull.shape[1])[..., None]  # (R, hw, 1): c·y / D
        first = _first_weight(layer)
        hidden = pull @ layer.mlp.fc2.weight  # (R, 4 D)
        gradient = torch.stack([features.slope @ (row[:, None] * first) for row in hidden])
        gradient = (gradient - along * features.back) * after.scale  # (R, hw, D)
        gradient -= gradient.mean(dim=2, keepdim=True)
        gradient -= between.values * (gradient * between.values).mean(dim=2, keepdim=True)
        gradient *= between.scale
        gradient += (pull[:, None] - along * after.values) * after.scale
        mixed = F.pad(gradient @ layer.self_attn.out_proj.weight, (0, 0, 1, 0))  # (R, 1 + hw, D)
        return mixed.view(*mixed.shape[:2], layer.self_attn.num_heads, -1).transpose(1, 2)

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
            table = self._position_table
            side = round((len(table) - 1) ** 0.5)
            square = table[1:].T.reshape(1, -1, side, side)
            if grid_hw != (side, side):
                square = F.interpolate(square, grid_hw, mode="bilinear", align_corners=False)
            position = torch.cat([table[:1], square[0].flatten(1).T])  # (1 + hw, D)
            if self.half_positions:
                position = position.half()
            self._positions[grid_hw] = position.to(self.dtype)
        return self._positions[grid_hw]


def to_pixels(
    image: NDArray[np.uint8] | Image.Image,
    size_hw: tuple[int, int],
    preprocessing: Preprocessing = OPENAI,
) -> Tensor:
    """Resize uint8 (H, W, 3) RGB (PIL bicubic, antialiased), normalise: float32 (3, *size_hw)."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if picture.size != size_hw[::-1]:
        picture = picture.resize(size_hw[::-1], Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    return (values - mean[:, None, None]) / std[:, None, None]


def _letters(text: str) -> str:
    """What CLIP's tokenizer reads of a text, whose case and spaces mean nothing to it."""
    return "".join(unicodedata.normalize("NFC", text).lower().split())


class _Maps:
    """Attention maps of all heads, a part at a time, in memory that is used again and again."""

    def __init__(self, heads: int, x: Tensor) -> None:
        """For tokens like x, (1, L, D)."""
        self.heads, self._length = heads, x.shape[1]
        is_cpu = x.device.type == "cpu"
        self._rows = min(MAP_ROWS, self._length) if is_cpu else self._length
        self._together = 1 if is_cpu else heads
        self._memory = x.new_empty(self._together * self._rows * self._length)

    def parts(self, attention: Any, q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield softmax(q kᵀ · scale), q and k being (heads, L, D / heads), part by part.

        Yields which heads, which rows, and their weights, (heads, rows, L); the next ones overwrite
        them.
        """
        q = q * attention.scale
        for start in range(0, self._length, self._rows):
            rows = slice(start, min(start + self._rows, self._length))
            for head in range(0, self.heads, self._together):
                some = slice(head, head + self._together)
                shape = (self._together, rows.stop - start, self._length)
                weights = self._memory[: shape[0] * shape[1] * shape[2]].view(shape)
                torch.bmm(q[some, rows], k[some].transpose(1, 2), out=weights)
                yield some, rows, torch.softmax(weights, dim=-1, out=weights)


def _heads(attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of (1, L, D), each (heads, L, D / heads)."""
    q, k, v = (
        project(x)[0].unflatten(1, (attention.num_heads, -1)).transpose(0, 1).contiguous()
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    return q, k, v


def _block(layer: Any, x: Tensor, rows: int | None = None) -> Tensor:
    """Run a CLIP encoder layer on (B, L, D); only the first `rows` of its output, if given."""
    attention, normed = layer.self_attn, layer.layer_norm1(x)
    q, k, v = (
        each.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for each in (
            attention.q_proj(normed[:, :rows]), attention.k_proj(normed), attention.v_proj(normed)
        )
    )  # fmt: skip
    return _rest_of_block(layer, x[:, :rows], F.scaled_dot_product_attention(q, k, v))


def _rest_of_block(layer: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """What a layer does with (B, L, D) behind its heads' mix, (B, heads, L, D / heads)."""
    x = _attended(layer, x, mixed)
    return x + _mlp(layer.mlp, layer.layer_norm2(x))


def _attended(layer: Any, x: Tensor, mixed: Tensor) -> Tensor:
    """Add to (B, L, D) what a layer's heads mixed, (B, heads, L, D / heads)."""
    out: Tensor = x + layer.self_attn.out_proj(mixed.transpose(1, 2).flatten(2))
    return out


def _mlp(mlp: Any, x: Tensor) -> Tensor:
    """As `mlp(x)`, where no gradient is wanted: CLIP's activation in place, by SiLU.

    On a CPU the new tensors of the plain formula cost up to a third of the multiplications' time.
    """
    out: Tensor
    if isinstance(mlp.activation_fn, QuickGELUActivation):
        hidden = F.silu(mlp.fc1(x).mul_(QUICK_GELU), inplace=True)
        out = mlp.fc2(hidden.div_(QUICK_GELU))
    else:
        out = mlp(x)
    return out


def _standardized(x: Tensor, norm: Any) -> Normed:
    values, _, scale = torch.native_layer_norm(x, x.shape[-1:], None, None, norm.eps)
    return Normed(values, scale.to(x.dtype))


def _first_weight(layer: Any) -> Tensor:
    """The MLP's first layer as the standardised values see it: (4 D, D)."""
    weight: Tensor = layer.mlp.fc1.weight * layer.layer_norm2.weight
    return weight


@torch.no_grad()
def _through_attention(
    attention: Any, heads: tuple[Tensor, Tensor, Tensor], mixed: Tensor, gradient: Tensor
) -> Tensor:
    """Take gradients through self-attention, summed over the patches of its input.

    Only sums over patches are wanted, so that no gradient of an attention map A is ever made.
    With o = A v and its gradient g (zero at CLS, whose output no one reads), the softmax's is
    dS_ji = A_ji (g_j·v_i − g_j·o_j), and its rows sum to zero: over the patches i alone they sum to
    −dS_j0. Likewise those of A sum to 1 − A_j0.

    Args:
        attention: the layer.
        heads: q, k and v, (heads, L, D / heads); row 0 is CLS.
        mixed: o, likewise.
        gradient: g of R scores, (R, heads, L, D / heads).

    Returns:
        float32 (R, D).
    """
    q, k, v = heads
    along = (gradient * mixed).sum(dim=-1, keepdim=True)  # (R, heads, L, 1): g_j·o_j
    both = torch.cat([gradient, along], dim=-1)  # (R, heads, L, D / heads + 1)
    flat = both.permute(1, 2, 0, 3).flatten(2)  # (heads, L, R · (D / heads + 1))
    spread = torch.zeros_like(flat)  # Aᵀ (g, g·o)
    at_cls = torch.empty_like(q[..., 0])  # (heads, L): A_j0
    maps = _Maps(len(q), q.reshape(1, q.shape[1], -1))
    for some, rows, weights in maps.parts(attention, q, k):
        spread[some].baddbmm_(weights.transpose(1, 2), flat[some, rows])
        at_cls[some, rows] = weights[..., 0]
    spread = spread.view(*spread.shape[:2], len(gradient), -1).permute(2, 0, 1, 3)  # as `both`
    strength = (spread[..., :-1] * v).sum(dim=-1) - spread[..., -1]  # (R, heads, L): Σ_j dS_ji
    from_cls = at_cls * ((gradient * v[:, :1]).sum(dim=-1) - along[..., 0])  # (R, heads, L): dS_j0
    per_head = {
        attention.q_proj: torch.einsum("rhl,hld->rhd", strength, k) * attention.scale,
        attention.k_proj: torch.einsum("rhl,hld->rhd", from_cls, q) * -attention.scale,
        attention.v_proj: torch.einsum("hl,rhld->rhd", 1 - at_cls, gradient),
    }
    sums = [each.flatten(1) @ project.weight for project, each in per_head.items()]
    return torch.stack(sums).sum(dim=0).float()
