"""Dense features: text maps without a backward pass, by a changed last block (NACLIP, WACV 2025).

x is the last block's input; q, k, v come from its first LayerNorm, as always. There is no residual
and no MLP:

    features = unit(projection(post_layernorm(out_proj(softmax(k kᵀ · scale + ω) v))))
    ω_ij = exp(-((row_i - row_j)² + (column_i - column_j)²) / (2 σ²))     0 in CLS's row and column

so that a patch asks those that are like it, and those near it. Variants: `qq` has q qᵀ instead, and
no ω (ClearCLIP, ECCV 2024); `sclip` has softmax(q qᵀ) + softmax(k kᵀ), no ω, and keeps residual and
MLP (SCLIP, ECCV 2024). The map of a text is its cosine with the features of the patches: all texts
cost one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from carvid.clip.layers import Heads, finish_block, wide_norm

Variant = Literal["kk", "qq", "sclip"]
Precision = Literal["float32", "float16", "int8"]
LEVELS = 63
"""`int8` has so many steps on either side of 0: with 127 cosines would be off by half as much, and
an index would take a fifth more."""
FLAT = 2.5e-6
"""Where a text's log probabilities differ by no more than this share of the scale, they say nothing
of where it is: that may be the rounding of logits, which are up to the scale, in float32."""


@dataclass(frozen=True)
class DenseFeatures:
    """One image as dense maps see it: one pass serves all texts, and an index keeps it."""

    grid_hw: tuple[int, int]
    """Patches down and across."""
    values: Tensor
    """float32, float16 or int8 (hw, D'): the patches' unit features, in the space that they share
    with texts, each row divided by its step."""
    steps: Tensor
    """float32 (hw, 1): each row's step; 1 but for int8."""

    @classmethod
    def of(
        cls, grid_hw: tuple[int, int], features: Tensor, precision: Precision = "float32"
    ) -> DenseFeatures:
        """Keep unit features, float32 (hw, D'), in a precision."""
        if precision == "int8":
            largest = features.abs().amax(dim=1, keepdim=True)  # (hw, 1)
            steps = largest.clamp(min=torch.finfo(torch.float32).tiny) / LEVELS
            return cls(grid_hw, (features / steps).round().to(torch.int8), steps)
        steps = torch.ones_like(features[:, :1])
        return cls(grid_hw, features.half() if precision == "float16" else features, steps)

    def cosines(self, texts: Tensor) -> Tensor:
        """Return the cosines of texts, float32 (S, D') and unit, with the patches: (S, h, w)."""
        cosines = (self.values.float() @ texts.T) * self.steps  # (hw, S)
        return cosines.T.reshape(-1, *self.grid_hw)  # (S, h, w)


@torch.inference_mode()
def dense_features(
    model: Any,
    projection: Tensor,
    x: Tensor,
    heads: Heads,
    grid_hw: tuple[int, int],
    *,
    variant: Variant = "kk",
    sigma: float = 5.0,
) -> Tensor:
    """Return the patches' unit features, float32 (hw, D'), by the changed last block.

    Args:
        model: transformers' `CLIPModel`.
        projection: float32 (D', D): from a token to the space that it shares with texts.
        x: float (1, L, D): the last block's input, CLS first.
        heads: its queries, keys and values, float (heads, L, D / heads) each.
        grid_hw: patches down and across.
        variant: what attends to what, as above.
        sigma: σ of `kk`, patches; 0 is no ω.
    """
    layer = model.vision_model.encoder.layers[-1]
    attended = _attend(heads, layer.self_attn.scale, grid_hw, variant, sigma)[None]
    if variant == "sclip":
        tokens = finish_block(layer, x, attended)  # (1, L, D)
    else:
        tokens = layer.self_attn.out_proj(attended.transpose(1, 2).flatten(2))  # (1, L, D)
    patches = wide_norm(model.vision_model.post_layernorm, tokens[0, 1:]).float()  # (hw, D)
    return F.normalize(patches @ projection.T, dim=-1)


def dense_maps(
    features: DenseFeatures,
    texts: Tensor,
    background: Tensor,
    left_out: Tensor | None = None,
    *,
    scale: float = 40.0,
    competing: bool,
) -> tuple[Tensor, Tensor]:
    """Return every text's map, and which of them had to do without competitors.

    Arguments are those of `log_probabilities`.

    Returns:
        float32 (N, h, w) in [-1, 1]: the probabilities over the largest of the map, so that not
        even a text that hardly has any vanishes; and bool (N,): the probability was the same
        everywhere, since nothing competes with the text, or it wins everywhere, and the map is its
        cosine.
    """
    logs = log_probabilities(
        features, texts, background, left_out, scale=scale, competing=competing
    )
    highest, lowest = logs.amax(dim=(1, 2), keepdim=True), logs.amin(dim=(1, 2), keepdim=True)
    maps, flat = (logs - highest).exp(), (highest - lowest <= FLAT * scale).flatten()
    maps[flat] = features.cosines(texts[flat])
    return maps, flat


def log_probabilities(
    features: DenseFeatures,
    texts: Tensor,
    background: Tensor,
    left_out: Tensor | None = None,
    *,
    scale: float = 40.0,
    competing: bool,
) -> Tensor:
    """Return the logarithm of every text's softmax probability in every patch, float32 (N, h, w).

    Args:
        features: from `dense_features`.
        texts: float32 (N, D'), unit.
        background: float32 (B, D'), unit.
        left_out: bool (N, B): the background that each text does not compete with; none, if not
            given.
        scale: factor from cosine to logit.
        competing: one softmax over all texts and the background (semantic mode), or one for each
            text against the background only (refer mode).
    """
    logits = scale * features.cosines(texts)  # (N, h, w)
    others = scale * features.cosines(background)  # (B, h, w)
    against = others.logsumexp(dim=0, keepdim=True)  # (1, h, w); -inf where there is no background
    if left_out is not None:
        against = against.repeat(len(texts), 1, 1)  # (N, h, w)
        # Text by text: of hundreds of texts, (N, B, h, w) would not fit into memory.
        for text in left_out.any(dim=1).nonzero().flatten().tolist():
            against[text] = others[~left_out[text]].logsumexp(dim=0)
    own = logits.logsumexp(dim=0) if competing else logits
    return logits - torch.logaddexp(own, against)


def _attend(
    heads: Heads, scale: float, grid_hw: tuple[int, int], variant: Variant, sigma: float
) -> Tensor:
    """What the patches take from the values, float (heads, L, D / heads)."""
    q, k, v = (each[None] for each in heads)
    near = None
    if variant == "kk" and sigma:
        near = nearness(grid_hw, sigma).to(v.device, v.dtype)
    asked = {"kk": (k,), "qq": (q,), "sclip": (q, k)}[variant]
    maps = [
        F.scaled_dot_product_attention(each, each, v, attn_mask=near, scale=scale)[0]
        for each in asked
    ]
    return torch.stack(maps).sum(dim=0)


def nearness(grid_hw: tuple[int, int], sigma: float) -> Tensor:
    """Return ω, float32 (L, L), for patches down and across, and σ > 0 in patches."""
    down, across = (
        torch.exp(-((places[:, None] - places) / sigma).square() / 2)
        for places in (torch.arange(side, dtype=torch.float64) for side in grid_hw)
    )  # (h, h), (w, w); in double precision any σ has a square
    return F.pad(torch.kron(down.float(), across.float()), (1, 0, 1, 0))  # (1 + hw, 1 + hw)
