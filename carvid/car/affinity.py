"""The affinity that spreads CAMs: the attention between patches, and how little of it is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SINKHORN_ROUNDS = 3
"""Column and row normalisations of the affinity (CLIP-ES)."""
LEVELS = 255
"""A kept affinity is rounded to so many steps of its row's largest."""


@dataclass(frozen=True)
class NearestAffinity:
    """Of an affinity, float32 (hw, hw), each row's k largest, scaled to the row's sum."""

    columns: Tensor
    """int64 (hw, k): which patches."""
    levels: Tensor
    """uint8 (hw, k): their affinity, in steps."""
    steps: Tensor
    """float32 (hw, 1): each row's step."""

    @classmethod
    def of(cls, affinity: Tensor, count: int) -> NearestAffinity:
        """Keep the `count` largest of each row."""
        largest, columns = affinity.topk(min(count, affinity.shape[1]), dim=1)
        top = largest[:, :1].clamp(min=torch.finfo(torch.float32).tiny)
        levels = (largest / top * LEVELS).round()  # the first is 255, so that no sum is 0
        steps = affinity.sum(dim=1, keepdim=True) / levels.sum(dim=1, keepdim=True)
        return cls(columns, levels.to(torch.uint8), steps)

    @property
    def device(self) -> torch.device:
        return self.levels.device

    def __matmul__(self, maps: Tensor) -> Tensor:
        """Return what it makes of maps, float32 (hw, N), of the same shape."""
        asked = maps[self.columns.flatten()].view(*self.columns.shape, -1)  # (hw, k, N)
        return torch.einsum("pk,pkn->pn", self.levels.float(), asked) * self.steps


def nothing_near(count: int) -> NearestAffinity:
    """Return an affinity between so many patches of which nothing is kept."""
    return NearestAffinity(
        torch.zeros((count, 0), dtype=torch.int64),
        torch.zeros((count, 0), dtype=torch.uint8),
        torch.zeros((count, 1)),
    )


Affinity = Tensor | NearestAffinity
"""float32 (hw, hw), or what is kept of it; `affinity @ maps` spreads maps, float32 (hw, N)."""


def normalize_affinity(attention: Tensor) -> Tensor:
    """Make attention, float32 (hw, hw), doubly stochastic (Sinkhorn), then symmetric."""
    affinity = attention
    for _ in range(SINKHORN_ROUNDS):
        affinity = affinity / affinity.sum(dim=0, keepdim=True)
        affinity = affinity / affinity.sum(dim=1, keepdim=True)
    return (affinity + affinity.T) / 2
