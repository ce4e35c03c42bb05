"""What a key frame has of an expression where all its things count; without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Detections:
    """What a key frame has of one expression: D things, and what is said of K that are followed."""

    maps: NDArray[np.float32]
    """float32 (D, h, w) in [0, 1], at the size at which the loop works, the best score first."""
    scores: NDArray[np.float32]
    """float32 (D,): P[i, i] of each, above θ."""
    followed: NDArray[np.float32]
    """float32 (K,): the same of the masks that are followed; 0 of one that is empty, and where the
    expression was dropped before they were asked for."""
    best: float
    """The highest score of all that was looked at; 0 if nothing was."""
