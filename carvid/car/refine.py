"""Dense CRF on mask proposals (CaR section 3.3; Krähenbühl and Koltun 2011), by pydensecrf.

The Python binding holds the interpreter's lock and passes NaN through without a word.
"""

from __future__ import annotations

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
    groups = [proposals] if joint else list(proposals[:, None])
    masks: list[NDArray[np.bool_]] = []
    for group in groups:
        best = _mean_field(picture, _with_background(group, config), config).argmax(axis=0)
        masks.extend(best == k for k in range(1, len(group) + 1))
    return np.stack(masks)


def _with_background(proposals: NDArray[np.float32], config: CrfConfig) -> NDArray[np.float32]:
    """Put the background plane in front: float32 (1 + N, H, W)."""
    background = (1 - proposals.max(axis=0, keepdims=True)) ** config.background_power
    return np.concatenate([background, proposals]).astype(np.float32)


def _mean_field(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], config: CrfConfig
) -> NDArray[np.float32]:
    """Run the CRF: float32 (L, H, W) → float32 (L, H, W), probabilities of L labels."""
    import pydensecrf.densecrf as dense

    labels, height, width = probabilities.shape
    if config.pad_slow_sizes and SLOW_SIDE in (height, width):
        bottom, right = (
            SLOW_SIDE_PADDED - side if side == SLOW_SIDE else 0 for side in (height, width)
        )
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        probabilities = np.pad(probabilities, ((0, 0), (0, bottom), (0, right)), mode="edge")
    unary = -np.log(np.clip(probabilities, MIN_PROBABILITY, 1.0))
    crf = dense.DenseCRF2D(image.shape[1], image.shape[0], labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1)))
    crf.addPairwiseGaussian(sxy=config.smooth_sxy, compat=config.smooth_compat)
    crf.addPairwiseBilateral(
        sxy=config.bilateral_sxy,
        srgb=config.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=config.bilateral_compat,
    )
    field = np.asarray(crf.inference(config.iterations), np.float32)
    return field.reshape(labels, *image.shape[:2])[:, :height, :width]


def _wrapped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BGR minus the mean, truncated and wrapped around at 0 as the released code's cast does."""
    shifted = image[..., ::-1].astype(np.float32) - np.array(BGR_MEAN, np.float32)
    wrapped: NDArray[np.uint8] = shifted.astype(np.int32).astype(np.uint8)
    return wrapped
