"""ADE20K: the 150 classes of the scene parsing benchmark, and the 847 of the full data set.

    ADEChallengeData2016/
        images/validation/<name>.jpg
        annotations/validation/<name>.png                 0 unlabelled, 1–150
        annotations_detectron2/validation/<name>.png      0–149, 255 unlabelled
        objectInfo150.txt
    ADE20K_2021_17_01/
        images_detectron2/validation/<name>.jpg
        annotations_detectron2/validation/<name>.tif      0–846, 65535 unlabelled
        images/ADE/validation/**/<name>.jpg, <name>_seg.png

Where detectron2's pairs of the full data set are not there they are made of its own files: class
(R // 10) · 256 + G of a pixel; a shorter side above 512 becomes 512, the image by linear
interpolation, labels by the nearest. The pairs' images have been through JPEG once more, which is
not done here.

Zhou et al., *Scene Parsing through ADE20K Dataset*, CVPR 2017. The 847: Cheng, Schwing and
Kirillov, *Per-Pixel Classification is Not All You Need for Semantic Segmentation*, NeurIPS 2021.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.datasets.class_lists import ClassList, class_ids
from carvid.datasets.class_order import check_order
from carvid.datasets.label_coding import VOID, in_order
from carvid.datasets.label_files import read_color_map, read_label_map
from carvid.datasets.labelled_folders import (
    IMAGE_ENDING,
    SPLIT_FOLDERS,
    Files,
    find_base,
    paired,
)
from carvid.datasets.semantic_dataset import LabelledImage, SemanticDataset

NAMES_NAME = "objectInfo150.txt"
DETECTRON2 = "annotations_detectron2"
SEG_ENDING = "_seg.png"
SHORT_SIDE = 512
"""Pixels; images of the full data set are made no larger."""

_OURS = in_order(150, 1)
_DETECTRON2 = in_order(150, 0, void=255, void_label=0)
_FULL = in_order(847, 0, void=VOID, void_label=0)


class Ade150(SemanticDataset):
    """A split of ADE20K with 150 classes."""

    name = "ADE20K-150"
    download = "ADEChallengeData2016.zip (http://sceneparsing.csail.mit.edu/)"

    @classmethod
    def open(cls, root: Path, split: str, classes: ClassList) -> Self:
        """Find a split's images and truths; `val` is also `validation`.

        Raises:
            DatasetError: something is missing or in another order; the message lists all that is
                missing.
        """
        holds = ("annotations", DETECTRON2, "images")
        base = find_base(root, ("ADEChallengeData2016", ""), holds, cls.download)
        folder = SPLIT_FOLDERS.get(split, split)
        places = [base / name / folder for name in ("annotations", DETECTRON2)]
        truths = Files(next((place for place in places if place.is_dir()), places[0]), ".png")
        names = base / NAMES_NAME
        if names.is_file():
            check_order(names, classes.names)
        images = Files(base / "images" / folder, IMAGE_ENDING)
        pairs = paired(base, (), images, truths, cls.download)
        return cls(base, split, classes, pairs, (names,) if names.is_file() else ())

    def labels(self, image: LabelledImage) -> NDArray[np.uint16]:
        """Read a truth.

        Raises:
            DatasetError: it is damaged, or has a label that there is not.
        """
        values = read_label_map(image.truth)
        if image.truth.is_relative_to(self.root / DETECTRON2):
            remedy = "maps of 0 for unlabelled and 1 to 150 belong into annotations"
            return _DETECTRON2.labels(image.truth, values, remedy)
        remedy = f"maps of 0 to 149 and 255 belong into {DETECTRON2}"
        return _OURS.labels(image.truth, values, remedy)


class Ade847(SemanticDataset):
    """A split of ADE20K with 847 classes."""

    name = "ADE20K-847"
    download = "ADE20K_2021_17_01 (https://groups.csail.mit.edu/vision/datasets/ADE20K/)"

    @classmethod
    def open(cls, root: Path, split: str, classes: ClassList) -> Self:
        """Find a split's images and truths; `val` is also `validation`.

        Raises:
            DatasetError: something is missing; the message lists all of it.
        """
        holds = (DETECTRON2, "images_detectron2", "images")
        base = find_base(root, ("ADE20K_2021_17_01", ""), holds, cls.download)
        folder = SPLIT_FOLDERS.get(split, split)
        images = Files(base / "images_detectron2" / folder, IMAGE_ENDING)
        truths = Files(base / DETECTRON2 / folder, ".tif")
        if not truths.folder.is_dir():
            own = base / "images" / "ADE" / folder
            images, truths = Files(own, IMAGE_ENDING, deep=True), Files(own, SEG_ENDING, deep=True)
        pairs = paired(base, (), images, truths, cls.download)
        return cls(base, split, classes, pairs, ())

    def labels(self, image: LabelledImage) -> NDArray[np.uint16]:
        """Read a truth in the size of its file.

        Raises:
            DatasetError: it is damaged, or has a label that there is not.
        """
        if not _is_own(image):
            values = read_label_map(image.truth)
            return _FULL.labels(image.truth, values, "give maps of 0 to 846 and 65535")
        colors = read_color_map(image.truth)
        ids = colors[..., 0].astype(np.uint16) // 10 * 256 + colors[..., 1]
        return np.take(_label_of_id(), ids)

    def truth(self, image: LabelledImage) -> NDArray[np.uint16]:
        """Read the truth of an image, as `SemanticDataset.truth`, in the size of `picture`.

        Raises:
            DatasetError: it is damaged, has a label that there is not, or not its image's size.
        """
        labels = super().truth(image)
        return _scaled(labels, cv2.INTER_NEAREST) if _is_own(image) else labels

    def picture(self, image: LabelledImage) -> NDArray[np.uint8]:
        """Read an image, uint8 (H, W, 3) RGB; the shorter side of one of the data set's own is
        scaled down to 512.

        Raises:
            DatasetError: it is damaged.
        """
        pixels = super().picture(image)
        return _scaled(pixels, cv2.INTER_LINEAR) if _is_own(image) else pixels


def _is_own(image: LabelledImage) -> bool:
    return image.truth.name.endswith(SEG_ENDING)


@cache
def _label_of_id() -> NDArray[np.uint16]:
    """The label of each class of the full data set, of which most are none of the 847."""
    labels = np.zeros(1 << 16, np.uint16)
    labels[list(class_ids("ade847"))] = np.arange(1, 848)
    return labels


def _scaled(pixels: NDArray[Any], interpolation: int) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    if scale >= 1:
        return pixels
    size_wh = (int(width * scale + 0.5), int(height * scale + 0.5))
    return np.asarray(cv2.resize(pixels, size_wh, interpolation=interpolation))
