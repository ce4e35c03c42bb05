"""Gradient CAMs of many texts through CLIP's last block, with the backward pass by hand.

The target activation a is the output of the last block's first LayerNorm, patches only. With the
score p_i of text i, computed from the mean of the patch tokens (Grad-CAM, arXiv 1610.02391,
equations 1 and 2; CLIP-ES, arXiv 2212.09506):

    w_i = mean of ∂p_i / ∂a over the patches        CAM_i = ReLU(a · w_i)

Only the sum of each gradient over the patches is wanted, and everything up to the mean token is the
same for all texts: `through_last_block` computes that once, and `gradient_cams` takes the gradients
of all texts back together. Automatic differentiation would do one backward pass for each text.

L is the number of tokens, 1 + hw: CLS, then the patches. R gradients are taken back at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from carvid.clip.layers import AttentionMaps, Heads, add_attention, normed, wide_norm

GRADIENTS_PER_BATCH = 8
"""Texts whose gradients are taken together; each needs about 12 · hw · D floats of memory."""

SQUARES_VANISH = 1e-12
"""Where values are smaller, their squares may be 0 in single precision."""


@dataclass(frozen=True)
class Standardized:
    """The input of a LayerNorm, standardised: what its gradient needs."""

    values: Tensor
    """float (hw, D), of mean 0 and variance 1 in each row."""
    scale: Tensor
    """float (hw, 1): 1 / standard deviation of the input."""


@dataclass(frozen=True)
class PatchFeatures:
    """One image as the generator sees it: one pass serves all texts.

    Of the last block, whose CAMs are differentiated, all that does not depend on a text is here.
    """

    grid_hw: tuple[int, int]
    """Patches down and across."""
    attention: Tensor
    """float32 (hw, hw): attention of the last blocks, averaged over heads and blocks, rows attend
    to columns, without CLS."""
    activation: Tensor
    """float32 (hw, D): a, what the last block's first LayerNorm gives, without CLS."""
    heads: Heads
    """Queries, keys and values of the last block."""
    attended: Tensor
    """float (heads, L, D / heads): A v, what its attention makes of the values."""
    norm2_input: Standardized
    """Input of the last block's second LayerNorm."""
    activation_slope: Tensor
    """float (hw, 4 D): derivative of the activation function in the last block's MLP."""
    post_norm_input: Standardized
    """Input of the LayerNorm after the last block."""
    post_norm_through_mlp: Tensor
    """float (hw, D): `post_norm_input.values`, as a gradient, taken back through the MLP."""
    mean: Tensor
    """float32 (D,): the mean of the patch tokens after that LayerNorm."""


@torch.inference_mode()
def through_last_block(
    vision: Any,
    x: Tensor,
    heads: Heads,
    attended: Tensor,
    grid_hw: tuple[int, int],
    attention: Tensor,
) -> PatchFeatures:
    """Run the last block and the LayerNorm after it; keep what gradients need.

    Args:
        vision: transformers' `CLIPVisionTransformer`.
        x: float (1, L, D): the last block's input.
        heads: its queries, keys and values.
        attended: A v of each head, float (heads, L, D / heads).
        grid_hw: patches down and across.
        attention: float32 (hw, hw): the averaged maps.
    """
    layer = vision.encoder.layers[-1]
    activation = wide_norm(layer.layer_norm1, x)[0, 1:].float()  # (hw, D)
    x = add_attention(layer, x, attended[None])[0, 1:]  # (hw, D)
    norm2_input = _standardized(x, layer.layer_norm2)
    hidden = layer.mlp.fc1(normed(layer.layer_norm2, x))  # (hw, 4 D)
    with torch.inference_mode(False), torch.enable_grad():
        leaf = hidden.clone().requires_grad_()
        active = layer.mlp.activation_fn(leaf)
        (slope,) = torch.autograd.grad(active.sum(), leaf)
    x = x + layer.mlp.fc2(active.detach())
    post_norm_input = _standardized(x, vision.post_layernorm)
    hidden_gradient = post_norm_input.values @ layer.mlp.fc2.weight  # (hw, 4 D)
    post_norm_through_mlp = (slope * hidden_gradient) @ _first_weight(layer)  # (hw, D)
    mean = wide_norm(vision.post_layernorm, x).float().mean(dim=0)  # (D,)
    return PatchFeatures(
        grid_hw, attention, activation, heads, attended,
        norm2_input, slope, post_norm_input, post_norm_through_mlp, mean,
    )  # fmt: skip


@torch.no_grad()
def gradient_cams(
    vision: Any,
    projection: Tensor,
    features: PatchFeatures,
    score: Callable[[Tensor], Tensor],
    count: int,
) -> Tensor:
    """Return the CAM of each of N scores, float32 (N, h, w), ≥ 0, not normalised.

    Args:
        vision: transformers' `CLIPVisionTransformer`.
        projection: float32 (D', D): from a token to the space that it shares with texts.
        features: from `through_last_block`.
        score: from an image's unit feature, float32 (D',), to N scores, float32 (N,).
        count: N.
    """
    with torch.inference_mode(False), torch.enable_grad():
        mean = features.mean.clone().requires_grad_()
        pooled = F.normalize(projection @ mean, dim=0)  # (D',)
        (gradients,) = torch.autograd.grad(
            score(pooled), mean, torch.eye(count, device=projection.device), is_grads_batched=True
        )  # (N, D)
    # A unit gradient, whatever a saturated softmax leaves of it, suits half precision.
    size = _norms(gradients)  # (N, 1)
    gradients = gradients / size.clamp(min=torch.finfo(torch.float32).tiny)
    attention = vision.encoder.layers[-1].self_attn
    weights = []
    for some in torch.split(gradients.to(features.attended.dtype), GRADIENTS_PER_BATCH):
        of_attended = _back_through_mlp(vision, features, some)
        weights.append(_back_through_attention(attention, features, of_attended))
    # One 1 / hw is the mean of the patch tokens, the other that of the gradient.
    weight = size * torch.cat(weights) / len(features.activation) ** 2  # (N, D): w
    cams: Tensor = (weight @ features.activation.T).relu()  # (N, hw)
    return cams.view(count, *features.grid_hw)  # (N, h, w)


def _back_through_mlp(vision: Any, features: PatchFeatures, gradients: Tensor) -> Tensor:
    """Take gradients of the sum of the final patch tokens back to what attention gives.

    Let y be a token's standardised values at the last LayerNorm, and c the gradient before that
    LayerNorm's weight, less its mean. The token's own gradient is (c − (c·y / D) y) · scale. So
    only c, once for all tokens, and y, once for all texts, go back through the MLP's second layer.

    Args:
        vision: transformers' `CLIPVisionTransformer`.
        features: from `through_last_block`.
        gradients: float (R, D).

    Returns:
        float (R, heads, L, D / heads): gradients of A v; zero at CLS, which no patch token reads.
    """
    layer = vision.encoder.layers[-1]
    norm2, post_norm = features.norm2_input, features.post_norm_input
    c = gradients * vision.post_layernorm.weight
    c = c - c.mean(dim=1, keepdim=True)  # (R, D)
    along_y = (c @ post_norm.values.T / c.shape[1])[..., None]  # (R, hw, 1): c·y / D
    first = _first_weight(layer)
    hidden = c @ layer.mlp.fc2.weight  # (R, 4 D)
    gradient = torch.stack(
        [features.activation_slope @ (row[:, None] * first) for row in hidden]
    )  # (R, hw, D)
    gradient = (gradient - along_y * features.post_norm_through_mlp) * post_norm.scale
    gradient -= gradient.mean(dim=2, keepdim=True)
    gradient -= norm2.values * (gradient * norm2.values).mean(dim=2, keepdim=True)
    gradient *= norm2.scale
    gradient += (c[:, None] - along_y * post_norm.values) * post_norm.scale
    merged = F.pad(gradient @ layer.self_attn.out_proj.weight, (0, 0, 1, 0))  # (R, L, D)
    heads = layer.self_attn.num_heads
    split = merged.view(*merged.shape[:2], heads, -1)  # (R, L, heads, D / heads)
    return split.transpose(1, 2)  # (R, heads, L, D / heads)


@torch.no_grad()
def _back_through_attention(attention: Any, features: PatchFeatures, gradient: Tensor) -> Tensor:
    """Take gradients back through self-attention, summed over the patches of its input.

    Only sums over patches are wanted, so that no gradient of an attention map A is ever made.
    With o = A v and its gradient g (zero at CLS, which no patch token reads), the softmax's is
    dS_ji = A_ji (g_j·v_i − g_j·o_j), and its rows sum to zero: over the patches i alone they sum to
    −dS_j0. Likewise those of A sum to 1 − A_j0.

    Args:
        attention: the layer.
        features: from `through_last_block`, with q, k, v and o; row 0 is CLS.
        gradient: g of R scores, float (R, heads, L, D / heads).

    Returns:
        float32 (R, D).
    """
    q, k, v = features.heads
    g_o = (gradient * features.attended).sum(dim=-1, keepdim=True)  # (R, heads, L, 1): g_j·o_j
    both = torch.cat([gradient, g_o], dim=-1)  # (R, heads, L, D / heads + 1)
    flat = both.permute(1, 2, 0, 3).flatten(2)  # (heads, L, R · (D / heads + 1))
    spread = torch.zeros_like(flat)  # Aᵀ (g, g·o)
    a_cls = torch.empty_like(q[..., 0])  # (heads, L): A_j0
    maps = AttentionMaps(len(q), q.reshape(1, q.shape[1], -1))
    for some, rows, weights in maps.chunks(attention, q, k):
        spread[some].baddbmm_(weights.transpose(1, 2), flat[some, rows])
        a_cls[some, rows] = weights[..., 0]
    spread = spread.view(*spread.shape[:2], len(gradient), -1)  # (heads, L, R, D / heads + 1)
    spread = spread.permute(2, 0, 1, 3)  # (R, heads, L, D / heads + 1)
    ds_sums = (spread[..., :-1] * v).sum(dim=-1) - spread[..., -1]  # (R, heads, L): Σ_j dS_ji
    ds_cls = a_cls * ((gradient * v[:, :1]).sum(dim=-1) - g_o[..., 0])  # (R, heads, L): dS_j0
    per_head = {
        attention.q_proj: torch.einsum("rhl,hld->rhd", ds_sums, k) * attention.scale,
        attention.k_proj: torch.einsum("rhl,hld->rhd", ds_cls, q) * -attention.scale,
        attention.v_proj: torch.einsum("hl,rhld->rhd", 1 - a_cls, gradient),
    }  # (R, heads, D / heads) each
    sums = [each.flatten(1) @ project.weight for project, each in per_head.items()]  # (R, D) each
    return torch.stack(sums).sum(dim=0).float()


def _norms(rows: Tensor) -> Tensor:
    """Length of each of rows, float32 (N, D) → (N, 1), though squares of its values be 0."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    scaled = rows / largest.clamp(min=torch.finfo(torch.float32).tiny)
    plain = rows.norm(dim=1, keepdim=True)
    return torch.where(largest > SQUARES_VANISH, plain, largest * scaled.norm(dim=1, keepdim=True))


def _standardized(x: Tensor, norm: Any) -> Standardized:
    """Standardise the input of a LayerNorm, float (hw, D); the result is in its precision."""
    values, _, scale = torch.native_layer_norm(x, x.shape[-1:], None, None, norm.eps)
    dtype = norm.weight.dtype
    return Standardized(values.to(dtype), scale.to(dtype))


def _first_weight(layer: Any) -> Tensor:
    """The MLP's first layer as the standardised values see it: float (4 D, D)."""
    weight: Tensor = layer.mlp.fc1.weight * layer.layer_norm2.weight
    return weight
