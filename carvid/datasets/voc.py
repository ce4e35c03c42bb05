"""PASCAL VOC 2012, segmentation: 20 classes, 0 background, 255 void.

    VOCdevkit/VOC2012/
        JPEGImages/<name>.jpg
        SegmentationClass/<name>.png           a palette's indices
        SegmentationClassAug/<name>.png        instead, or for more images: SBD's, grey or palette
        ImageSets/Segmentation/<split>.txt

Everingham et al., *The Pascal Visual Object Classes (VOC) Challenge*, IJCV 2010.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.datasets.class_lists import ClassList
from carvid.datasets.folders import IMAGE_FOLDER, LIST_FOLDER
from carvid.datasets.label_coding import in_order
from carvid.datasets.label_files import read_label_map
from carvid.datasets.labelled_folders import (
    IMAGE_ENDING,
    Files,
    find_base,
    no_split,
    paired,
    read_split,
)
from carvid.datasets.semantic_dataset import LabelledImage, SemanticDataset

TRUTHS = ("SegmentationClass", "SegmentationClassAug")
"""Folders of truths; of two that are there that is taken which lacks fewer, the first if equal."""
OTHER_YEAR = re.compile(r"VOC20(?!12)\d\d")
"""They have the same folders and other images."""
PLACES = ("VOCdevkit/VOC2012", "VOC2012", "")

_CODING = in_order(20, 1, void=255)


class Voc(SemanticDataset):
    """A split of VOC 2012."""

    name = "PASCAL VOC 2012"
    download = "VOCtrainval_11-May-2012.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/)"

    @classmethod
    def open(cls, root: Path, split: str, classes: ClassList) -> Self:
        """Find a split's images and truths.

        Raises:
            DatasetError: something is missing; the message lists all of it.
        """
        base = find_base(root, PLACES, (IMAGE_FOLDER, *TRUTHS), cls.download)
        if OTHER_YEAR.fullmatch(base.name):
            raise DatasetError(f"'{base}' is another year's VOC; give VOC2012, of {cls.download}")
        path = base / LIST_FOLDER / "Segmentation" / f"{split}.txt"
        listed = read_split([path])
        names = listed[1] if listed else ()
        truths = min(
            (Files(base / folder, ".png") for folder in TRUTHS),
            key=lambda files: (not files.found, len(files.lacking(names))),
        )
        images = Files(base / IMAGE_FOLDER, IMAGE_ENDING)
        faults = [] if listed else [no_split(path)]
        pairs = paired(base, names, images, truths, cls.download, faults)
        return cls(base, split, classes, pairs, (path,))

    def labels(self, image: LabelledImage) -> NDArray[np.uint16]:
        """Read a truth: indices or grey levels; one in colours is taken by VOC's.

        Raises:
            DatasetError: it is damaged, or has a label that there is not.
        """
        values = read_label_map(image.truth, colors=True)
        return _CODING.labels(image.truth, values, "give VOC's own maps of classes")
