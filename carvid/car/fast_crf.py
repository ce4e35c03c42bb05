"""The CRF of `crf.mode=fast`: nearly pydensecrf's mean field, in torch and on fewer points.

Those are the pixels that may belong to a mask, and a thin grid of the others near them, each of
which stands for its neighbourhood. Where they are too many, points that are alike in place and
colour are one to the appearance kernel.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from carvid.car.exact_crf import MIN_PROBABILITY
from carvid.car.lattice import Lattice, rows_of
from carvid.config import CrfConfig

SURELY_BACKGROUND = 0.85
"""Probability of the background from which a pixel is decided (tools/bench.py crf)."""
STRIDE = 4
"""Of decided pixels every n-th in each direction takes part."""
REACH = 2.0
"""Standard deviations of the appearance kernel, beyond which decided pixels have no say: exp(-2)
of a pixel of the very same colour."""
CELLS = (
    (30_000, 1 / 4, 2 / 3), (150_000, 1 / 2, 1.0), (150_000, 1 / 2, 1.5), (150_000, 1.0, 2.0),
    (150_000, 1.0, 4.0), (150_000, 2.0, 8.0),
)  # fmt: skip
"""Of more points than so many those are pooled that lie in one cell; its sides in place and in
colour are in standard deviations: at first 17 pixels and 2 levels."""
SETTLED = 0.0003
"""The mean field ends early where no more than this share of the points changes sides."""
CUT = 3.0
"""Standard deviations at which the smoothness kernel is cut."""


@torch.inference_mode()
def fast_mean_field(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    config: CrfConfig,
    device: torch.device,
) -> NDArray[np.int64]:
    """Do nearly what `exact_mean_field` does: float32 (G, L, H, W) → best labels (G, H, W)."""
    best = np.zeros((len(probabilities), *image.shape[:2]), np.int64)
    total = probabilities.sum(axis=1)
    undecided = (probabilities[:, 0] < SURELY_BACKGROUND * total).any(axis=0)
    if undecided.any():
        box = _around(undecided, math.ceil(REACH * config.bilateral_sxy))
        points = _Points(image, undecided, box, config, device)
        best[:, *box] = points.labels(probabilities[:, :, *box])
    return best


def _around(mask: NDArray[np.bool_], reach: int) -> tuple[slice, slice]:
    """The rows and columns of a mask that is not empty, and `reach` pixels around; the grid's
    points stay where they are."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = (max(0, int(at[0]) - reach) // STRIDE * STRIDE for at in (rows, columns))
    return slice(top, int(rows[-1]) + reach + 1), slice(left, int(columns[-1]) + reach + 1)


class _Points:
    """The P points of a part of the picture that take part, and both kernels, for all groups.

    The smoothness kernel is a Gaussian blur of the whole picture; the appearance kernel K is over
    the points, each weighing as many pixels as it stands for. Both are normalised as pydensecrf
    does, symmetrically.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        undecided: NDArray[np.bool_],
        box: tuple[slice, slice],
        config: CrfConfig,
        device: torch.device,
    ) -> None:
        image, undecided = image[box], undecided[box]
        taking_part = undecided.copy()
        taking_part[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] = True
        at = np.flatnonzero(taking_part)
        weights = np.where(undecided.reshape(-1)[at], 1, STRIDE**2).astype(np.float32)
        # In the picture's coordinates: the lattice lies as pydensecrf's does.
        row, column = np.divmod(at, image.shape[1])
        place = np.stack([box[1].start + column, box[0].start + row]) / config.bilateral_sxy
        color = image.reshape(-1, 3)[at].T / config.bilateral_srgb
        features = np.concatenate([place, color]).astype(np.float32)
        self._config, self._size_hw = config, undecided.shape
        self._at = torch.from_numpy(at).to(device)
        self._weights = torch.from_numpy(weights).to(device)
        self._kernel = _Appearance(torch.from_numpy(features).to(device), self._weights)
        self._scale = torch.rsqrt(self._kernel.filter(self._weights[None]))
        self._alike = self._appearance(torch.ones_like(self._weights)[None])
        self._edges = torch.rsqrt(self._blurred(torch.ones((1, *self._size_hw), device=device)))
        self._near = self._smoothness(self._edges.reshape(1, -1))

    def labels(self, probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
        """Run the mean field: float32 (G, L, H, W) → best labels, int64 (G, H, W)."""
        count, labels, height, width = probabilities.shape
        flat = torch.from_numpy(np.ascontiguousarray(probabilities)).to(self._at.device)
        given = flat.reshape(count, labels, -1).index_select(2, self._at)
        given = given.clamp_(MIN_PROBABILITY, 1.0).log_()
        unary = given[:, 1:] - given[:, :1]  # (G, L - 1, P): log odds against the background
        odds = self._inferred(unary)
        largest, label = odds.max(dim=1)
        best = torch.zeros((count, height * width), dtype=torch.int64, device=self._at.device)
        best[:, self._at] = torch.where(largest > 0, 1 + label, 0)
        return best.reshape(count, height, width).cpu().numpy()

    def _inferred(self, unary: Tensor) -> Tensor:
        """The log odds, float32 (G, L - 1, P), after all iterations."""
        config, odds = self._config, unary
        planes = unary.new_zeros(unary.shape[0] * unary.shape[1], math.prod(self._size_hw))
        for _ in range(config.iterations):
            before, q = odds > 0, _probabilities(odds)
            flat = q.reshape(-1, q.shape[2])
            planes.index_copy_(1, self._at, flat)
            near = self._smoothness(planes * self._edges.reshape(1, -1)).reshape(q.shape)
            alike = self._appearance(flat).reshape(q.shape)
            odds = unary + config.smooth_compat * _against(near, self._near)
            odds += config.bilateral_compat * _against(alike, self._alike)
            if ((odds > 0) != before).sum() <= SETTLED * len(self._at) * len(odds):
                break
        return odds

    def _appearance(self, q: Tensor) -> Tensor:
        """Messages of the appearance kernel, float32 (C, P) → (C, P)."""
        return self._scale * self._kernel.filter(self._weights * self._scale * q)

    def _smoothness(self, planes: Tensor) -> Tensor:
        """Messages of the smoothness kernel, float32 (C, H · W), normalised once, → (C, P)."""
        blurred = self._blurred(planes.reshape(-1, *self._size_hw)) * self._edges
        return blurred.reshape(len(planes), -1).index_select(1, self._at)

    def _blurred(self, planes: Tensor) -> Tensor:
        """A Gaussian blur, black around, float32 (C, H, W)."""
        return blurred(planes, self._config.smooth_sxy)


class _Appearance:
    """The appearance kernel between P points of given weights, unnormalised.

    Points are pooled if they are many (`CELLS`); a cell lies where its points do on average.

    Args:
        features: float32 (5, P): place and colour, in standard deviations.
        weights: float32 (P,).
    """

    def __init__(self, features: Tensor, weights: Tensor) -> None:
        self._bags: tuple[Tensor, Tensor] | None = None
        for most, place, color in CELLS:
            if (features.shape[1] if self._bags is None else self._cells) > most:
                self._pool(features, place, color)
        if self._bags is not None:
            sums = self._pooled(torch.cat([features * weights, weights[None]]))
            features = sums[:-1] / sums[-1]
        self._lattice = Lattice(features)

    def filter(self, values: Tensor) -> Tensor:
        """Return K values, float32 (C, P), of float32 (C, P)."""
        if self._bags is None:
            return self._lattice.filter(values)
        return self._lattice.filter(self._pooled(values)).index_select(1, self._members)

    def _pool(self, features: Tensor, place: float, color: float) -> None:
        """Sort the points into cells of these sides, in standard deviations."""
        side = features.new_tensor([place] * 2 + [color] * 3)
        codes = torch.zeros(features.shape[1], dtype=torch.int64, device=features.device)
        for row in (features / side[:, None]).floor_().long():
            codes = codes * (int(row.max()) + 1) + row
        ordered, order = torch.sort(codes, stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=first[1:])
        self._members = torch.empty_like(order)
        self._members[order] = first.cumsum(0) - 1
        self._bags = order, torch.cat([first.nonzero()[:, 0], order.new_tensor([len(order)])])
        self._cells = len(self._bags[1]) - 1

    def _pooled(self, values: Tensor) -> Tensor:
        """Sums over the cells, float32 (C, P) → (C, R)."""
        assert self._bags is not None
        order, starts = self._bags
        table = rows_of(values)
        return embedding_bag(order, table, starts, mode="sum", include_last_offset=True).T


def blurred(planes: Tensor, sigma: float) -> Tensor:
    """Return a Gaussian blur, black around, of float32 (C, H, W); on a CPU by OpenCV, which takes a
    sixth of the time."""
    if planes.device.type == "cpu":
        across, down = (np.array(_taps(sigma, side), np.float32) for side in planes.shape[:0:-1])
        return torch.from_numpy(np.stack([
            cv2.sepFilter2D(plane, -1, across, down, borderType=cv2.BORDER_CONSTANT)
            for plane in planes.numpy()
        ]))  # fmt: skip
    return blurred_by_shifting(planes, sigma)


def blurred_by_shifting(planes: Tensor, sigma: float) -> Tensor:
    """Do as `blurred` on any device: with few taps, shifting is faster than convolving."""
    for axis in (1, 2):
        length = planes.shape[axis]
        taps = _taps(sigma, length)
        radius = len(taps) // 2
        sides = (0, 0, radius, radius) if axis == 1 else (radius, radius, 0, 0)
        padded, planes = pad(planes, sides), torch.zeros_like(planes)
        for k, tap in enumerate(taps):
            planes.add_(padded.narrow(axis, k, length), alpha=tap)
    return planes


@lru_cache(maxsize=8)
def _taps(sigma: float, length: int) -> list[float]:
    """A Gaussian's weights for a side of so many pixels."""
    radius = min(math.ceil(CUT * sigma), length - 1)
    taps = {k: math.exp(-0.5 * (k / sigma) ** 2) for k in range(-length, length + 1)}
    whole = sum(taps.values())
    return [taps[k] / whole for k in range(-radius, radius + 1)]


def _against(foreground: Tensor, total: Tensor) -> Tensor:
    """Messages to the labels but the background, (G, L - 1, P), less its own, the total's rest."""
    return foreground + foreground.sum(dim=1, keepdim=True) - total


def _probabilities(odds: Tensor) -> Tensor:
    """What log odds against the background, float32 (G, L - 1, P), leave to each label."""
    return torch.softmax(pad(odds, (0, 0, 1, 0)), dim=1)[:, 1:]
