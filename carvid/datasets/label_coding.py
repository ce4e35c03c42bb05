"""Which values of published label maps stand for which labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError

VOID = 65535
"""In a truth: the pixel is left out."""

_NONE = VOID - 1


@dataclass(frozen=True)
class Coding:
    """Which values of a published map stand for which labels."""

    order: tuple[int, ...]
    """The labels of the values `first`, `first` + 1, …"""
    first: int
    """1 where 0 stands for background, which stays 0; else 0."""
    void: int | None = None
    """A further value, for what is void."""
    void_label: int = VOID
    """What becomes of it: `VOID`, or 0."""

    def labels(self, path: Path, values: NDArray[np.uint16], remedy: str) -> NDArray[np.uint16]:
        """Turn values into labels.

        Args:
            path: where they come from.
            values: uint16 (H, W).
            remedy: what to do where there are others.

        Returns:
            uint16 (H, W): 0, 1 to `len(order)`, or `VOID`.

        Raises:
            DatasetError: a value stands for nothing.
        """
        labels = _table(self)[values]
        wrong = values[labels == _NONE]
        if wrong.size:
            known = f"0 to {self.first + len(self.order) - 1}"
            known += "" if self.void is None else f" and {self.void}"
            raise DatasetError(
                f"'{path}' has the value {wrong.max()} in {(wrong == wrong.max()).sum()} pixels, "
                f"and labels here are {known}; {remedy}"
            )
        return labels


@lru_cache(maxsize=16)
def _table(coding: Coding) -> NDArray[np.uint16]:
    table = np.full(1 << 16, _NONE, np.uint16)
    table[: coding.first] = 0
    table[coding.first : coding.first + len(coding.order)] = coding.order
    if coding.void is not None:
        table[coding.void] = coding.void_label
    return table


def in_order(count: int, first: int, void: int | None = None, void_label: int = VOID) -> Coding:
    """Return the coding whose values are in the order of the labels."""
    return Coding(tuple(range(1, count + 1)), first, void, void_label)
