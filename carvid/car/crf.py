"""Dense CRF on mask proposals (CaR section 3.3; Krähenbühl and Koltun 2011).

Two modes: `exact` is pydensecrf's inference. `fast` is the same mean field in torch, on fewer
points and on any device.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from carvid.car.exact_crf import exact_mean_field
from carvid.car.fast_crf import fast_mean_field
from carvid.config import CrfConfig

BGR_MEAN = (104.008, 116.669, 122.675)
"""The mean that the released `crf.py` takes from BGR before it casts to uint8 and wraps around."""
CPU = torch.device("cpu")


def crf_masks(
    image: NDArray[np.uint8],
    proposals: NDArray[np.float32],
    config: CrfConfig,
    *,
    joint: bool,
    device: torch.device = CPU,
) -> NDArray[np.bool_]:
    """Return the masks that a dense CRF makes of proposals.

    Args:
        image: uint8 (H, W, 3) RGB.
        proposals: float32 (N, H, W) in [0, 1].
        config: kernels and iterations.
        joint: one CRF in which proposals and background compete (semantic mode), or one for each
            proposal against its background (refer mode), where masks may overlap.
        device: where `fast` computes.

    Returns:
        bool (N, H, W). An empty mask stays in its place.

    Raises:
        ValueError: sizes differ, or a proposal is not finite.
        ConfigError: `exact`, without pydensecrf.
    """
    if proposals.shape[1:] != image.shape[:2]:
        raise ValueError(f"proposals must be (N, {image.shape[:2]}), got {proposals.shape}")
    if not np.isfinite(proposals).all():
        raise ValueError("proposals must be finite numbers in [0, 1]")
    if not len(proposals):
        return np.zeros(proposals.shape, bool)
    picture = _wrapped(image) if config.wrap_colors else image
    groups = proposals[None] if joint else proposals[:, None]
    probabilities = _with_background(groups, config)
    if config.mode == "fast":
        best = fast_mean_field(picture, probabilities, config, device)
    else:
        best = exact_mean_field(picture, probabilities, config)
    return np.concatenate([best == k for k in range(1, groups.shape[1] + 1)])


def _with_background(groups: NDArray[np.float32], config: CrfConfig) -> NDArray[np.float32]:
    """Put a background plane in front of each group: (G, K, H, W) → float32 (G, 1 + K, H, W)."""
    background = (1 - groups.max(axis=1, keepdims=True)) ** config.background_power
    return np.concatenate([background, groups], axis=1).astype(np.float32)


def _wrapped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BGR minus the mean, truncated and wrapped around at 0 as the released code's cast does."""
    shifted = image[..., ::-1].astype(np.float32) - np.array(BGR_MEAN, np.float32)
    wrapped: NDArray[np.uint8] = shifted.astype(np.int32).astype(np.uint8)
    return wrapped
