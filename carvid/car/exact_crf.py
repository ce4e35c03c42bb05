"""The CRF of `crf.mode=exact`: pydensecrf's own inference, an extra that a compiler builds.

The Python binding holds the interpreter's lock and passes NaN through without a word.
"""

from __future__ import annotations

import importlib.util

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import ConfigError
from carvid.config import CrfConfig

MODULE = "pydensecrf"
REMEDY = 'pip install "carvid[exact]" (it needs a C++ compiler), or --set crf.mode=fast'
SLOW_SIDE = 854
"""A side at which pydensecrf's hash table collides (4.5 s for 0.4 s); 856 is free of it."""
SLOW_SIDE_PADDED = 856
MIN_PROBABILITY = 1e-8
"""Floor of a probability before its logarithm."""


def installed() -> bool:
    """Whether pydensecrf is there."""
    try:
        return importlib.util.find_spec(MODULE) is not None
    except ValueError:  # its import is blocked: None stands for it in sys.modules
        return False


def check_installed(config: CrfConfig) -> None:
    """Raise unless the mode that is set can run.

    Raises:
        ConfigError: `exact` is set, and pydensecrf is not installed.
    """
    if config.enabled and config.mode == "exact" and not installed():
        raise ConfigError(f"crf.mode=exact needs pydensecrf, which is not installed; {REMEDY}")


def exact_mean_field(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], config: CrfConfig
) -> NDArray[np.int64]:
    """Run a CRF for each of G groups of L labels: float32 (G, L, H, W) → best labels (G, H, W)."""
    check_installed(config)
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
