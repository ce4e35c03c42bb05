"""What a state knows of the things that a network follows: which track is which, and its memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.brief import Brief
from carvid.temporal.packing import pack, unpack

NOT_FOLLOWED = -1
"""Stands for the thing of a track that flow carries."""
KINDS = ("float32", "float16", "uint16", "int64")
"""Of the arrays of a memory that are saved."""
LEAST_SCORE = 1e-6
"""Scores are at least so far from 0 and 1 in log odds."""


@dataclass(frozen=True, eq=False, repr=False)
class Followed(Brief):
    """The things that a network follows, for M tracks."""

    objects: NDArray[np.int64]
    """int64 (M,): the number of each track's thing, or `NOT_FOLLOWED`."""
    told: NDArray[np.float64]
    """float64 (M,): log odds of the score of the mask that each thing was last told by; those of
    long ago count less."""
    next_number: int = 0
    """The number of the next new thing; none is used twice."""
    memory: Mapping[str, NDArray[Any]] | None = None
    """What the network remembers, at a key frame; None between two of them, where nobody can go on
    from."""

    def between(self) -> Followed:
        """Return the same for a frame between two key frames."""
        return replace(self, memory=None)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping that `from_dict` loads back equal."""
        memory = None if self.memory is None else {
            name: [str(each.dtype), list(each.shape), pack(each)]
            for name, each in self.memory.items()
        }  # fmt: skip
        return {"objects": self.objects.tolist(), "told": self.told.tolist(),
                "next_number": self.next_number, "memory": memory}  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Followed:
        """Load what `to_dict` returned.

        Raises:
            ValueError: it is something else; so are KeyError, TypeError and zlib.error.
        """
        memory = values["memory"]
        return cls(
            np.array(values["objects"], np.int64),
            np.array(values["told"], np.float64),
            int(values["next_number"]),
            None if memory is None else {name: _array(*each) for name, each in memory.items()},
        )


def log_odds(score: float) -> float:
    """Return log(score / (1 - score)) of a score in [0, 1], finite."""
    score = min(max(score, LEAST_SCORE), 1 - LEAST_SCORE)
    return math.log(score / (1 - score))


def _array(kind: str, shape: list[int], packed: str) -> NDArray[Any]:
    if kind not in KINDS:
        raise ValueError(f"a memory has no '{kind}'")
    dtype = np.dtype(kind)
    return unpack(packed, (*shape, dtype.itemsize)).reshape(-1).view(dtype).reshape(shape)
