"""The blocks of CLIP's image encoder, forward, for those who need more than transformers' forward.

A block is transformers' `CLIPEncoderLayer`:

    x ← x + out_proj(A v)           A = softmax(q kᵀ · scale), q, k, v from layer_norm1(x)
    x ← x + mlp(layer_norm2(x))

L is the number of tokens, 1 + hw: CLS, then the patches. D is the number of channels. Tokens x have
`wide_dtype` of the network's precision, all else that precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import QuickGELUActivation

MAP_ROWS = 256
"""Rows of one head's attention map that a CPU makes at a time, so that they are still in its cache
when they are used."""
QUICK_GELU = 1.702
"""CLIP's activation is x · sigmoid(1.702 x) (openai/CLIP, `QuickGELU`)."""

Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values of one image, float (heads, L, D / heads) each."""


@dataclass(frozen=True)
class LastBlock:
    """One image as it enters the last block, and what that block's attention makes of it."""

    x: Tensor
    """float (1, L, D): the block's input."""
    heads: Heads
    """Its queries, keys and values."""
    grid_hw: tuple[int, int]
    """Patches down and across."""
    attended: Tensor | None
    """float (heads, L, D / heads): A v; None where no map was wanted."""
    attention: Tensor | None
    """float32 (hw, hw): attention of the last blocks, averaged over heads and blocks, rows attend
    to columns, without CLS; None where no map was wanted."""


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the precision of what a network of precision `dtype` adds up from layer to layer.

    In the 8 bits of bfloat16 each sum would round away up to a 256th of all that came before.
    """
    return torch.float32 if dtype == torch.bfloat16 else dtype


def normed(norm: Any, x: Tensor) -> Tensor:
    """Return a LayerNorm of tokens, in the precision of its weights, which is the network's."""
    return wide_norm(norm, x).to(norm.weight.dtype)


def wide_norm(norm: Any, x: Tensor) -> Tensor:
    """Return a LayerNorm of tokens, in their precision."""
    weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
    return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def run_block(layer: Any, x: Tensor, rows: int | None = None) -> Tensor:
    """Run a block on float (B, L, D); return only the first `rows` tokens, if that is given."""
    attention, tokens = layer.self_attn, normed(layer.layer_norm1, x)
    q, k, v = (
        each.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)  # (B, heads, L, D / heads)
        for each in (
            attention.q_proj(tokens[:, :rows]), attention.k_proj(tokens), attention.v_proj(tokens)
        )
    )  # fmt: skip
    return finish_block(layer, x[:, :rows], F.scaled_dot_product_attention(q, k, v))


def finish_block(layer: Any, x: Tensor, attended: Tensor) -> Tensor:
    """Run the rest of a block, once its heads have attended.

    Args:
        layer: the block.
        x: float (B, L, D), its input.
        attended: A v of each head, float (B, heads, L, D / heads).
    """
    x = add_attention(layer, x, attended)
    return x + _mlp(layer.mlp, normed(layer.layer_norm2, x))


def add_attention(layer: Any, x: Tensor, attended: Tensor) -> Tensor:
    """Return x + out_proj(A v), float (B, L, D); arguments as of `finish_block`."""
    merged = attended.transpose(1, 2).flatten(2)  # (B, L, D)
    out: Tensor = x + layer.self_attn.out_proj(merged)
    return out


def split_heads(attention: Any, tokens: Tensor) -> Heads:
    """Return queries, keys and values of float (1, L, D), the output of `layer_norm1`."""
    q, k, v = (
        project(tokens)[0]
        .unflatten(1, (attention.num_heads, -1))  # (L, heads, D / heads)
        .transpose(0, 1)  # (heads, L, D / heads)
        .contiguous()
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    return q, k, v


class AttentionMaps:
    """The attention maps A of one image, chunk by chunk, in memory that is used again and again.

    On a CPU a chunk is `MAP_ROWS` rows of one head; elsewhere it is all of A.
    """

    def __init__(self, heads: int, like: Tensor) -> None:
        """For `heads` heads, and tokens like float (1, L, D)."""
        self.heads, self._length = heads, like.shape[1]
        is_cpu = like.device.type == "cpu"
        self._rows = min(MAP_ROWS, self._length) if is_cpu else self._length
        self._heads_together = 1 if is_cpu else heads
        self._memory = like.new_empty(self._heads_together * self._rows * self._length)

    def chunks(self, attention: Any, q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield softmax(q kᵀ · scale) for float (heads, L, D / heads), chunk by chunk.

        Yields:
            The heads and the rows of a chunk, and its weights, float (heads, rows, L), which the
            next chunk overwrites.
        """
        q = q * attention.scale
        for start in range(0, self._length, self._rows):
            rows = slice(start, min(start + self._rows, self._length))
            for head in range(0, self.heads, self._heads_together):
                some = slice(head, head + self._heads_together)
                shape = (self._heads_together, rows.stop - start, self._length)
                weights = self._memory[: shape[0] * shape[1] * shape[2]].view(shape)
                torch.bmm(q[some, rows], k[some].transpose(1, 2), out=weights)
                yield some, rows, torch.softmax(weights, dim=-1, out=weights)

    def attend(self, attention: Any, heads: Heads, total: Tensor) -> Tensor:
        """Return A v of each head, float (heads, L, D / heads); add A of all heads to `total`,
        float32 (L, L)."""
        q, k, v = heads
        attended = torch.empty_like(v)
        for some, rows, weights in self.chunks(attention, q, k):
            for each in weights:
                total[rows] += each
            attended[some, rows] = weights @ v[some]
        return attended


def _mlp(mlp: Any, x: Tensor) -> Tensor:
    """Return `mlp(x)`, where no gradient is wanted: CLIP's activation in place, by SiLU.

    On a CPU the new tensors of the plain formula cost up to a third of the multiplications' time.
    """
    out: Tensor
    if isinstance(mlp.activation_fn, QuickGELUActivation):
        hidden = F.silu(mlp.fc1(x).mul_(QUICK_GELU), inplace=True)
        out = mlp.fc2(hidden.div_(QUICK_GELU))
    else:
        out = mlp(x)
    return out
