"""Arrays as text, for a state that is saved as JSON: their bytes by zlib and base64."""

from __future__ import annotations

import base64
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ARRAY_BYTES = 1 << 30
"""A larger array is not loaded: 1400 tracks of the largest flow have less."""


def pack(array: NDArray[Any]) -> str:
    """Return an array's bytes as text."""
    return base64.b64encode(zlib.compress(array.tobytes(), 1)).decode("ascii")


def unpack(text: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return bytes that `pack` made text of, uint8 of a shape.

    Raises:
        ValueError: they do not fill the shape, or it has more than `MAX_ARRAY_BYTES`.
        zlib.error, TypeError: it is no such text.
    """
    count = math.prod(shape)
    if count > MAX_ARRAY_BYTES:
        raise ValueError(f"an array of {count} bytes is more than {MAX_ARRAY_BYTES}")
    # One more than there should be: 0 would be no limit.
    data = zlib.decompressobj().decompress(base64.b64decode(text), count + 1)
    return np.frombuffer(data, np.uint8).reshape(shape)
