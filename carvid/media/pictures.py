"""Placeholder until merged."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Picture: TypeAlias = Any


def to_rgb(picture: Any) -> NDArray[np.uint8]:
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"a frame must be uint8 (H, W, 3), got {array.dtype} {array.shape}")
    return array
