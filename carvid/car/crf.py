"""Dense CRF on mask proposals (CaR section 3.3; Krähenbühl and Koltun 2011), by pydensecrf.

Two modes: `exact` is the library's own inference. `fast` is the same mean field on fewer pixels:
those that may belong to a mask, and a thin grid of the others, each of which stands for its
neighbourhood.

The Python binding holds the interpreter's lock and passes NaN through without a word.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.config import CrfConfig

BGR_MEAN = (104.008, 116.669, 122.675)
"""The mean that the released `crf.py` takes from BGR before it casts to uint8 and wraps around."""
SLOW_SIDE = 854
"""A side at which pydensecrf's hash table collides (4.5 s for 0.4 s); 856 is free of it."""
SLOW_SIDE_PADDED = 856
MIN_PROBABILITY = 1e-8
"""Floor of a probability before its logarithm."""
SURELY_BACKGROUND = 0.85
"""`fast`: probability of the background from which a pixel is decided (tools/bench.py crf)."""
STRIDE = 4
"""`fast`: of decided pixels every n-th in each direction takes part."""
LARGEST_LOGIT = 40.0
"""`fast`: exp(-40), and its square, are far from float32's underflow."""


def crf_masks(
    image: NDArray[np.uint8],
    proposals: NDArray[np.float32],
    config: CrfConfig,
    *,
    joint: bool,
) -> NDArray[np.bool_]:
    """Return the masks that a dense CRF makes of proposals.

    Args:
        image: uint8 (H, W, 3) RGB.
        proposals: float32 (N, H, W) in [0, 1].
        config: kernels and iterations.
        joint: one CRF in which proposals and background compete (semantic mode), or one for each
            proposal against its background (refer mode), where masks may overlap.

    Returns:
        bool (N, H, W). An empty mask stays in its place.

    Raises:
        ValueError: sizes differ, or a proposal is not finite.
    """
    if proposals.shape[1:] != image.shape[:2]:
        raise ValueError(f"proposals must be (N, {image.shape[:2]}), got {proposals.shape}")
    if not np.isfinite(proposals).all():
        raise ValueError("proposals must be finite numbers in [0, 1]")
    if not len(proposals):
        return np.zeros(proposals.shape, bool)
    picture = _wrapped(image) if config.wrap_colors else image
    groups = proposals[None] if joint else proposals[:, None]
    mean_field = _fast_mean_field if config.mode == "fast" else _mean_field
    best = mean_field(picture, _with_background(groups, config), config)
    return np.concatenate([best == k for k in range(1, groups.shape[1] + 1)])


def _with_background(groups: NDArray[np.float32], config: CrfConfig) -> NDArray[np.float32]:
    """Put a background plane in front of each group: (G, K, H, W) → float32 (G, 1 + K, H, W)."""
    background = (1 - groups.max(axis=1, keepdims=True)) ** config.background_power
    return np.concatenate([background, groups], axis=1).astype(np.float32)


def _mean_field(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], config: CrfConfig
) -> NDArray[np.int64]:
    """Run a CRF for each of G groups of L labels: float32 (G, L, H, W) → best labels (G, H, W)."""
    import pydensecrf.densecrf as dense

    count, labels, height, width = probabilities.shape
    if config.pad_slow_sizes and SLOW_SIDE in (height, width):
        bottom, right = (
            SLOW_SIDE_PADDED - side if side == SLOW_SIDE else 0 for side in (height, width)
        )
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        around = ((0, 0), (0, 0), (0, bottom), (0, right))
        probabilities = np.pad(probabilities, around, mode="edge")
    crf = dense.DenseCRF2D(image.shape[1], image.shape[0], labels)
    crf.addPairwiseGaussian(sxy=config.smooth_sxy, compat=config.smooth_compat)
    crf.addPairwiseBilateral(
        sxy=config.bilateral_sxy,
        srgb=config.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=config.bilateral_compat,
    )
    best = np.empty((count, height, width), np.int64)
    for group, plane in zip(probabilities, best, strict=True):  # the kernels serve all groups
        unary = -np.log(np.clip(group, MIN_PROBABILITY, 1.0))
        crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1)))
        field = np.asarray(crf.inference(config.iterations), np.float32)
        plane[:] = field.reshape(labels, *image.shape[:2])[:, :height, :width].argmax(axis=0)
    return best


def _fast_mean_field(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], config: CrfConfig
) -> NDArray[np.int64]:
    """Do nearly what `_mean_field` does, on points: float32 (G, L, H, W) → labels (G, H, W).

    The smoothness kernel is a Gaussian blur of the whole picture. The appearance kernel K, over the
    points only, is normalised as pydensecrf does (symmetrically), each point weighing as many
    pixels as it stands for. All groups share K and are filtered together.
    """
    count, labels, height, width = probabilities.shape
    best = np.zeros((count, height, width), np.int64)
    total = probabilities.sum(axis=1)
    undecided = (probabilities[:, 0] < SURELY_BACKGROUND * total).any(axis=0)
    if not undecided.any():
        return best
    taking_part = undecided.copy()
    taking_part[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] = True
    rows, columns = np.nonzero(taking_part)  # P points
    weights = np.where(undecided[rows, columns], 1, STRIDE**2).astype(np.float32)
    appearance = _Appearance(image, rows, columns, count * (labels - 1), config)
    scale = 1 / np.sqrt(appearance.filter(weights)[0])
    everything = scale * appearance.filter(weights * scale)[0]

    given = np.clip(probabilities[:, :, rows, columns], MIN_PROBABILITY, 1.0)  # (G, L, P)
    unary = np.log(given[:, 1:] / given[:, :1])  # (G, L - 1, P): log odds against the background
    odds = unary
    planes = np.zeros((count, labels - 1, height, width), np.float32)
    size = 2 * math.ceil(3 * config.smooth_sxy) + 1
    for _ in range(config.iterations):
        q = _probabilities(odds)
        planes[:, :, rows, columns] = q
        near = np.stack(
            [
                cv2.GaussianBlur(plane, (size, size), config.smooth_sxy)[rows, columns]
                for plane in planes.reshape(-1, *planes.shape[2:])
            ]
        )
        alike = scale * appearance.filter(weights * scale * q.reshape(-1, len(rows)))
        odds = unary + config.smooth_compat * _against(near.reshape(q.shape), 1.0)
        odds += config.bilateral_compat * _against(alike.reshape(q.shape), everything)
    best[:, rows, columns] = np.where(odds.max(axis=1) > 0, 1 + odds.argmax(axis=1), 0)
    return best


class _Appearance:
    """The appearance kernel between P points, unnormalised; pydensecrf's lattice as a filter.

    The binding has no call for the filter alone, but a step of inference without unary leaves
    softmax(K q): against a label whose q is 0, the logarithm of that is K q.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        channels: int,
        config: CrfConfig,
    ) -> None:
        import pydensecrf.densecrf as dense

        place = np.stack([columns, rows]) / config.bilateral_sxy
        color = image[rows, columns].T / config.bilateral_srgb
        self._crf = dense.DenseCRF(len(rows), channels + 1)
        self._crf.setUnaryEnergy(np.zeros((channels + 1, len(rows)), np.float32))
        self._crf.addPairwiseEnergy(
            np.concatenate([place, color]).astype(np.float32),
            compat=1.0,
            kernel=dense.CONST_KERNEL,
            normalization=dense.NO_NORMALIZATION,
        )
        self._state = self._crf.startInference()
        self._q = np.asarray(self._state[0])  # a view: what is written there is what is filtered
        # K sums to less than that of a picture of one colour, which is a plane Gaussian's.
        self._factor = LARGEST_LOGIT / (2 * math.pi * config.bilateral_sxy**2 + STRIDE**2)

    def filter(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return K values, float32 (C, P), of float32 (C, P) or (P,), at least 0."""
        self._q[:-1] = values * self._factor
        self._q[-1] = 0
        self._crf.stepInference(*self._state)
        logits = np.log(self._q)
        filtered: NDArray[np.float32] = (logits[:-1] - logits[-1]) / self._factor
        return filtered


def _against(
    foreground: NDArray[np.float32], total: NDArray[np.float32] | float
) -> NDArray[np.float32]:
    """Messages to the labels but the background, (G, L - 1, P), less its own, the total's rest."""
    less: NDArray[np.float32] = foreground + foreground.sum(axis=1, keepdims=True) - total
    return less


def _probabilities(odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """What log odds against the background, float32 (G, L - 1, P), leave to each label."""
    largest = np.maximum(odds.max(axis=1, keepdims=True), 0)
    powers = np.exp(odds - largest)
    shares: NDArray[np.float32] = powers / (powers.sum(axis=1, keepdims=True) + np.exp(-largest))
    return shares


def _wrapped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BGR minus the mean, truncated and wrapped around at 0 as the released code's cast does."""
    shifted = image[..., ::-1].astype(np.float32) - np.array(BGR_MEAN, np.float32)
    wrapped: NDArray[np.uint8] = shifted.astype(np.int32).astype(np.uint8)
    return wrapped
