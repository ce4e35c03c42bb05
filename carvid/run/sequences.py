"""An array for each frame of a run: packed in memory, or in the run's folder."""

from __future__ import annotations

import logging
import math
import operator
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.media.label_images import read_labels
from carvid.media.label_png import MAX_LABEL
from carvid.run.layout import MASK_NAME

log = logging.getLogger("carvid")

Scalar = TypeVar("Scalar", np.bool_, np.uint8)


class FrameArrays(ABC, Generic[Scalar]):
    """An array of one shape for each of T frames, made when it is asked for.

    `arrays[t]` is frame t's, `arrays[a:b]` stacks those of several, with T as the first axis;
    negative indices count from the end.

    Args:
        length: T.
        shape: of one frame's array.
        dtype: of all of them.
    """

    def __init__(self, length: int, shape: tuple[int, ...], dtype: type[Scalar]) -> None:
        self._length, self._shape = length, shape
        self._dtype: type[Scalar] = dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all of them stacked, T first."""
        return (self._length, *self._shape)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[NDArray[Scalar]]:
        return map(self._make, range(self._length))

    def __getitem__(self, index: SupportsIndex | slice) -> NDArray[Scalar]:
        if not isinstance(index, slice):
            try:
                return self._make(range(self._length)[operator.index(index)])
            except IndexError:
                raise IndexError(f"frame {index} is asked for, there are {self._length}") from None
        chosen = range(self._length)[index]
        stacked = np.empty((len(chosen), *self._shape), self._dtype)
        for row, frame in zip(stacked, chosen, strict=True):
            row[...] = self._make(frame)
        return stacked

    @abstractmethod
    def _make(self, index: int) -> NDArray[Scalar]:
        """Return the array of frame `index`, from 0."""


class PackedMasks(FrameArrays[np.bool_]):
    """Masks, bool (N, H, W) a frame, in memory: bits, compressed."""

    def __init__(self, packed: list[bytes], shape: tuple[int, int, int]) -> None:
        super().__init__(len(packed), shape, np.bool_)
        self._packed = packed

    @staticmethod
    def pack(masks: NDArray[np.bool_]) -> bytes:
        """Return one frame's masks packed."""
        return zlib.compress(np.packbits(masks).tobytes(), 1)

    @staticmethod
    def unpack(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return what `pack` packed."""
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=math.prod(shape)).astype(bool).reshape(shape)

    def _make(self, index: int) -> NDArray[np.bool_]:
        return self.unpack(self._packed[index], self._shape)


class PackedLabels(FrameArrays[np.uint8]):
    """Label maps, uint8 (H, W) a frame, in memory, compressed."""

    def __init__(self, packed: list[bytes], size_hw: tuple[int, int]) -> None:
        super().__init__(len(packed), size_hw, np.uint8)
        self._packed = packed

    @staticmethod
    def pack(labels: NDArray[np.uint8]) -> bytes:
        """Return one frame's label map packed."""
        return zlib.compress(labels.tobytes(), 1)

    @staticmethod
    def unpack(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return what `pack` packed."""
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)

    def _make(self, index: int) -> NDArray[np.uint8]:
        return self.unpack(self._packed[index], self._shape)


class FolderLabels(FrameArrays[np.uint8]):
    """Label maps, uint8 (H, W) a frame, in the folder of a run's masks: DAVIS PNGs, or what another
    program made of them (`carvid.media.label_images`).

    Args:
        folder: of the masks.
        length: T.
        size_hw: height and width of the frames, pixels.
        count: N, the number of expressions.
        name_of: gives the name of a frame's mask.
    """

    def __init__(
        self,
        folder: Path,
        length: int,
        size_hw: tuple[int, int],
        count: int = MAX_LABEL,
        name_of: Callable[[int], str] = MASK_NAME.format,
    ) -> None:
        super().__init__(length, size_hw, np.uint8)
        self.folder, self._count, self._name_of = folder, count, name_of
        self._told: set[str] = set()

    def path(self, index: int) -> Path:
        """Return the file of frame `index`, from 0."""
        return self.folder / self._name_of(index)

    def _make(self, index: int) -> NDArray[np.uint8]:
        path = self.path(index)
        labels, form = read_labels(path, self._count, single=self._count == 1, repainted=True)
        if labels.shape != self._shape:
            (height, width), (wanted, across) = labels.shape, self._shape
            raise DatasetError(
                f"'{path}' is {width}×{height}, its frame {across}×{wanted}; write it in the "
                "frame's size"
            )
        if (highest := int(labels.max(initial=0))) > self._count:
            raise DatasetError(
                f"'{path}' has label {highest}, and the run has {self._count}; write label k for "
                "expression k"
            )
        if form and form not in self._told:
            self._told.add(form)
            log.warning("'%s' is no indexed PNG as a run writes it; %s", path, form)
        return labels


class MasksOfLabels(FrameArrays[np.bool_]):
    """The masks, bool (N, H, W) a frame, of N labels in label maps."""

    def __init__(self, labels: FolderLabels, count: int) -> None:
        super().__init__(len(labels), (count, *labels.shape[1:]), np.bool_)
        self._labels = labels

    def _make(self, index: int) -> NDArray[np.bool_]:
        numbers = np.arange(1, self._shape[0] + 1)[:, None, None]
        return np.asarray(self._labels[index][None] == numbers, bool)
