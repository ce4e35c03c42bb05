"""What every data set of referring expressions has: images, sentences, and the objects meant."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.datasets.coco_instances import CocoInstances
from carvid.media.images import checked_size, open_image, reading


@dataclass(frozen=True)
class ReferringSample:
    """What is asked of an image at once."""

    name: str
    """File-safe and unique: `<ref_id>`, or `<ref_id>_<number>` where each sentence of a ref is a
    sample of its own."""
    image: Path
    sentences: tuple[str, ...]
    """As the released code asks for them; at least one."""
    annotations: tuple[int, ...]
    """Ids of the objects that are meant; none if what is named is not there."""
    image_id: int = 0
    """COCO's."""


@dataclass(frozen=True)
class ReferringDataset:
    """A split of a data set: every sample has its image, and the truth that belongs to it."""

    name: str
    """As papers write it."""
    root: Path
    split: str
    samples: tuple[ReferringSample, ...]
    sources: tuple[Path, ...] = ()
    """The files that hold refs and objects."""
    instances: CocoInstances = field(default_factory=lambda: CocoInstances({}, {}), repr=False)
    """The objects of its images."""

    def truth(self, sample: ReferringSample) -> NDArray[np.bool_]:
        """Return what the released evaluation compares with: bool (H, W), the pixels that are in
        exactly one polygon of the first object; none if there is no object.

        Raises:
            ConfigError: pycocotools is not installed.
            DatasetError: the truth cannot be drawn, or the image has another size.
        """
        mask = np.zeros(self._size_of(sample), bool)
        if sample.annotations:
            mask |= self.instances.parts(sample.annotations[0]) == 1
        return mask

    def whole_truth(self, sample: ReferringSample) -> NDArray[np.bool_]:
        """Return the union of all objects that are meant: bool (H, W). Raises as `truth`."""
        mask = np.zeros(self._size_of(sample), bool)
        for annotation in sample.annotations:
            mask |= self.instances.parts(annotation) > 0
        return mask

    def files(self) -> list[Path]:
        """Return the files that the split is read from."""
        return [*self.sources, *dict.fromkeys(sample.image for sample in self.samples)]

    def _size_of(self, sample: ReferringSample) -> tuple[int, int]:
        """Height and width of the truth, which are those of the image."""
        told = self.instances.sizes[sample.image_id]
        with reading(sample.image), open_image(sample.image) as picture:
            found = checked_size(sample.image, picture)
        if found != told:
            raise DatasetError(
                f"'{sample.image}' has {found[0]}×{found[1]} pixels (height × width), and its "
                f"truth {told[0]}×{told[1]}; unpack the images of train2014 again"
            )
        return told
