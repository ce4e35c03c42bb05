"""The permutohedral lattice (Adams, Baek and Davis 2010): a Gaussian between points, in torch.

Values go from the points to the corners of the simplices they lie in, are blurred from corner to
corner along each of the lattice's directions, and come back. This is the filter of pydensecrf, with
its scale, so that both blur alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

CHANNELS = 16
"""So many channels are filtered at once: memory is bounded, whatever their number."""


class Lattice:
    """exp(-|a - b|² / 2) between P points, nearly, and up to a constant factor.

    Corners of simplices are told apart by a code that is linear in their coordinates, so that from
    one corner to its neighbour is the same difference everywhere. Where coordinates range so far
    that codes wrap around in 64 bits, two corners are one with a chance of about M² / 2^64.

    Args:
        features: float32 (D, P), in standard deviations of the kernel.
    """

    def __init__(self, features: Tensor) -> None:
        dimensions, count = features.shape
        self._factor = 1 / (1 + 2.0**-dimensions)
        remainder, rank, within = _enclosing(_elevated(features))
        self._weights = _barycentric(rank, within).T.contiguous()  # (P, D + 1)
        steps = _steps(remainder[:-1])
        codes = _codes(remainder[:-1].long(), rank, steps)
        ordered, order = torch.sort(codes.reshape(-1), stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=first[1:])
        corners = torch.empty_like(order)
        corners[order] = first.cumsum(0) - 1
        self._corners = corners.reshape(dimensions + 1, count).T.contiguous()  # (P, D + 1)
        # Each corner's bag of points, for embedding_bag: its sums have an order, index_add_'s on a
        # GPU have none.
        self._points = order % count
        self._starts = torch.cat([first.nonzero()[:, 0], order.new_tensor([len(order)])])
        self._shares = self._weights.T.reshape(-1)[order]
        self._neighbours = list(_neighbours(ordered[first], steps, dimensions))

    def filter(self, values: Tensor) -> Tensor:
        """Return K values, float32 (C, P), of float32 (C, P)."""
        return torch.cat([self._filter(part) for part in torch.split(values, CHANNELS)])

    def _filter(self, values: Tensor) -> Tensor:
        splat = embedding_bag(
            self._points, rows_of(values), self._starts, mode="sum",
            per_sample_weights=self._shares, include_last_offset=True,
        )  # fmt: skip
        # (C, M + 1): the last one is nobody's, and stays 0.
        blurred = torch.nn.functional.pad(splat.T, (0, 1))
        for before, after in self._neighbours:
            sides = blurred.index_select(1, before)
            sides += blurred.index_select(1, after)
            blurred[:, :-1].add_(sides, alpha=0.5)
        sliced = embedding_bag(
            self._corners, rows_of(blurred), mode="sum", per_sample_weights=self._weights
        )
        return self._factor * sliced.T


def rows_of(values: Tensor) -> Tensor:
    """Turn (C, P) into a table (P, C), whose strides are a table's even if C is 1: with others
    embedding_bag takes twice as long."""
    return values.reshape(-1, 1) if len(values) == 1 else values.T.contiguous()


def _elevated(features: Tensor) -> Tensor:
    """Put points onto the plane of sum 0: float32 (D, P) → (D + 1, P).

    Neighbouring corners then lie so far apart that the whole filter has the kernel's variance
    (pydensecrf, `permutohedral.cpp`). Not by a matrix product, whose rounding depends on threads.
    """
    dimensions, count = features.shape
    spread = math.sqrt(2 / 3) * (dimensions + 1)
    elevated = features.new_empty(dimensions + 1, count)
    total = torch.zeros_like(features[0])
    for i in range(dimensions, 0, -1):
        scaled = features[i - 1] * (spread / math.sqrt(i * (i + 1)))
        elevated[i] = total - i * scaled
        total = total + scaled
    elevated[0] = total
    return elevated


def _enclosing(elevated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find each point's simplex.

    Returns:
        The corner of remainder 0, float32 (D + 1, P), multiples of D + 1; the rank of each
        coordinate, int64 (D + 1, P), 0 for the one that lies furthest above that corner; and how
        far it lies above, in edges, float32 (D + 1, P).
    """
    side = len(elevated)
    nearest = torch.round(elevated / side)
    off = nearest.sum(dim=0)  # 0 is wanted: so many coordinates are to be rounded the other way
    remainder = nearest * side
    above = elevated - remainder
    rank = torch.zeros_like(elevated)
    for i in range(side):
        for j in range(i + 1, side):
            less = (above[i] < above[j]).to(rank.dtype)
            rank[i] += less
            rank[j] += 1 - less
    rank += off
    turn = ((rank < 0).to(rank.dtype) - (rank >= side).to(rank.dtype)) * side
    remainder += turn
    return remainder, (rank + turn).long(), (elevated - remainder) / side


def _barycentric(rank: Tensor, within: Tensor) -> Tensor:
    """Weights of the corners of remainder 0 … D, float32 (D + 1, P), by `_enclosing`'s outcome."""
    falling = torch.empty_like(within).scatter_(0, rank, within).flip(0)
    weights = falling - falling.roll(1, dims=0)
    weights[0] += 1
    return weights


def _steps(remainder: Tensor) -> list[int]:
    """What one step in each of the D coordinates, and in the last, adds to a code.

    Odd numbers of values make odd steps, so that no coordinate gets lost where 64 bits are too few.
    """
    side = len(remainder) + 1
    spans = (remainder.amax(dim=1) - remainder.amin(dim=1)).long() + 4 * side  # and neighbours
    steps = [1]
    for span in spans[:-1].tolist():
        steps.append(_wrapped(steps[-1] * (span | 1)))
    return [*steps, 0]  # the last coordinate is what the others leave to 0


def _wrapped(number: int) -> int:
    """An integer as 64 bits hold it."""
    return (number + 2**63) % 2**64 - 2**63


def _codes(remainder: Tensor, rank: Tensor, steps: list[int]) -> Tensor:
    """Codes of the corners of each point's simplex, int64 (D + 1, P)."""
    step = remainder.new_tensor(steps)
    codes = remainder.new_empty(rank.shape)
    codes[0] = (remainder * step[:-1, None]).sum(dim=0)
    of_rank = torch.empty_like(codes).scatter_(0, rank, step[:, None].expand(rank.shape))
    # From one corner to the next all coordinates gain 1, and one, by rank, loses the side.
    side, forward = len(rank), _wrapped(sum(steps))
    for k in range(1, side):
        codes[k] = codes[k - 1] + forward - side * of_rank[side - k]
    return codes


def _neighbours(
    codes: Tensor, steps: list[int], dimensions: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each direction, the corners on both sides of each of M: int64 (M,), M for none."""
    count = len(codes)
    for step in steps:
        ahead = codes + _wrapped(sum(steps) - (dimensions + 1) * step)
        own, others = _matches(codes, ahead)
        before, after = (torch.full((count,), count, device=codes.device) for _ in range(2))
        before[own], after[others] = others, own
        yield before, after


def _matches(codes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where codes, in order, are equal to some of `wanted`, nearly in order: indices into both."""
    if codes.device.type == "cpu":  # NumPy uses that they are nearly in order
        at = torch.from_numpy(codes.numpy().searchsorted(wanted.numpy()))
    else:
        at = torch.searchsorted(codes, wanted)
    at = at.clamp_(max=len(codes) - 1)
    others = (codes[at] == wanted).nonzero()[:, 0]
    return at[others], others
