"""What every data set of labelled images has: images, each with a class for each of its pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.datasets.class_lists import ClassList
from carvid.datasets.label_coding import VOID
from carvid.datasets.label_files import picture_size, read_picture

__all__ = ["VOID", "LabelledImage", "SemanticDataset"]

TRIED = 8
"""As many truths, evenly spread, are read when a data set is opened: one of another kind is told
before anything is predicted."""


@dataclass(frozen=True)
class LabelledImage:
    """An image and where its truth is."""

    name: str
    """Names files, and no other image of the data set: `2007_000061`."""
    image: Path
    truth: Path


@dataclass(frozen=True)
class SemanticDataset(ABC):
    """A split of a data set: every image has its truth.

    A subclass says in `open` where things lie, and in `labels` how the truth is written.
    """

    name: ClassVar[str]
    """Its name, as papers write it."""
    download: ClassVar[str]
    """What is to be unpacked where something is missing, and where it is to be had."""

    root: Path
    split: str
    classes: ClassList
    images: tuple[LabelledImage, ...]
    lists: tuple[Path, ...]
    """Further files that it is read from: the list of a split, names of classes, a JSON."""

    @classmethod
    @abstractmethod
    def open(cls, root: Path, split: str, classes: ClassList) -> SemanticDataset:
        """Find a split's images and truths.

        Raises:
            DatasetError: something is missing; the message lists all of it.
        """

    @abstractmethod
    def labels(self, image: LabelledImage) -> NDArray[np.uint16]:
        """Read a truth's labels, as `truth` gives them, whatever its size is.

        Raises:
            DatasetError: it is damaged, or has a label that there is not.
        """

    def truth(self, image: LabelledImage) -> NDArray[np.uint16]:
        """Read the truth of an image.

        Returns:
            uint16 (H, W), of the size of `picture`: 0 background or unlabelled, k class k, `VOID`
            what is left out.

        Raises:
            DatasetError: it is damaged, has a label that there is not, or not its image's size.
        """
        labels = self.labels(image)
        size_hw = picture_size(image.image)
        if labels.shape != size_hw:
            raise DatasetError(
                f"the truth '{image.truth}' has {_pixels(labels.shape)} pixels, and its image "
                f"{_pixels(size_hw)}; unpack both again"
            )
        return labels

    def picture(self, image: LabelledImage) -> NDArray[np.uint8]:
        """Read an image as it is to be segmented, uint8 (H, W, 3) RGB.

        Raises:
            DatasetError: it is damaged.
        """
        return read_picture(image.image)

    def files(self) -> list[Path]:
        """Return the files that the data set is read from."""
        paths = [path for image in self.images for path in (image.image, image.truth)]
        return list(dict.fromkeys([*self.lists, *paths]))

    def tried(self) -> Self:
        """Return the data set itself, after a look at some of its truths.

        Raises:
            DatasetError: one of them is wrong.
        """
        places = np.linspace(0, len(self.images) - 1, min(TRIED, len(self.images))).round()
        for place in places.astype(int):
            self.truth(self.images[place])
        return self


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"
