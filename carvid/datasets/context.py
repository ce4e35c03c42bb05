"""PASCAL Context: 59 classes and background, or 459 classes, in every layout that is about.

    VOCdevkit/VOC2010/
        JPEGImages/<name>.jpg
        SegmentationClassContext/<name>.png           mmsegmentation's: 0 background, 1–59
        annotations_detectron2/pc59_val/<name>.png    0–58, 255 what is none of them
        annotations_detectron2/pc459_val/<name>.tif   0–458, 65535
        trainval/<name>.mat, labels.txt               as published: `LabelMap`, 1–459
        ImageSets/SegmentationContext/<split>.txt, pascalcontext_<split>.txt,
        ImageSets/Main/<split>.txt                    the first that is there; not for detectron2's
    pascal_ctx_d2/
        images/validation/<name>.jpg
        annotations_ctx59/validation/<name>.png       0–58, 255
        annotations_ctx459/validation/<name>.tif      0–458, 65535

The 59 are numbered alphabetically. Older converters numbered them as the published `59_labels.txt`
does, VOC's 20 first (`OLD_ORDER`): the same values, so that the user has to say it. In the `.mat`
the 59 are those of the 459 that bear their names.

Mottaghi et al., *The Role of Context for Object Detection and Semantic Segmentation in the Wild*,
CVPR 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import ConfigError, DatasetError
from carvid.datasets.class_lists import ClassList, class_list
from carvid.datasets.class_order import check_order, read_names
from carvid.datasets.folders import IMAGE_FOLDER, LIST_FOLDER
from carvid.datasets.label_coding import VOID, Coding, in_order
from carvid.datasets.label_files import read_label_map, read_mat
from carvid.datasets.labelled_folders import (
    IMAGE_ENDING,
    SPLIT_FOLDERS,
    Files,
    find_base,
    no_split,
    paired,
    read_split,
)
from carvid.datasets.semantic_dataset import LabelledImage, SemanticDataset

_OLD_ORDER = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow table dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor bag bed bench book building cabinet ceiling cloth "
    "computer cup door fence floor flower food grass ground keyboard light mountain mouse curtain "
    "platform sign plate road rock shelves sidewalk sky snow bedclothes track tree truck wall "
    "water window wood"
)
OLD_ORDER = tuple(_OLD_ORDER.split())
"""The 59 in the order of `59_labels.txt`."""
OTHER_NAMES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
"""As `59_labels.txt` calls some of them."""
SAY = "--old-order (old_order=True)"
"""What says that maps are numbered so, as the command line and Python call it."""
MAT_FOLDER, LABELS_NAME, LABELS_59_NAME = "trainval", "labels.txt", "59_labels.txt"
HOLDS = (
    IMAGE_FOLDER, "images", "SegmentationClassContext", "annotations_ctx59", "annotations_ctx459",
    "annotations_detectron2", MAT_FOLDER,
)  # fmt: skip
PLACES = ("VOCdevkit/VOC2010", "VOC2010", "pascal_ctx_d2", "")

_D2_REMEDY = "maps of 0 for background and 1 to 59 belong into SegmentationClassContext"
_REMEDY = "maps of 0 to 58 and 255 belong into annotations_detectron2/pc59_val"


@dataclass(frozen=True)
class _Layout:
    """Where truths and images lie, and what values mean."""

    folder: Path
    ending: str
    images: Path
    coding: Coding
    remedy: str
    listed: bool = False
    """A list says which images are the split's."""


@dataclass(frozen=True)
class Context(SemanticDataset):
    """A split of PASCAL Context."""

    name = "PASCAL Context"
    download = (
        "VOCtrainval_03-May-2010.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2010/) and the "
        "annotations (https://cs.stanford.edu/~roozbeh/pascal-context/)"
    )

    coding: Coding
    remedy: str

    @classmethod
    def open(cls, root: Path, split: str, classes: ClassList, *, old_order: bool = False) -> Self:
        """Find a split's images and truths.

        Args:
            root: the folder of the data set.
            split: as its list or folder is called; `val` is also `validation`.
            classes: the 59 or the 459.
            old_order: the maps are numbered in `OLD_ORDER`.

        Raises:
            ConfigError: no map has an old order here.
            DatasetError: something is missing or in another order; the message lists all that is
                missing.
        """
        base = find_base(root, PLACES, HOLDS, cls.download)
        known = _layouts(base, split, classes, old_order)
        layout = next((each for each in known if each.folder.is_dir()), None)
        if layout is None:
            looked = ", ".join(str(each.folder.relative_to(base)) for each in known)
            raise DatasetError(
                f"no truths in '{base}': looked for {looked}; unpack {cls.download} there"
            )
        lists = _checked_names(base, layout, old_order)
        truths, images = Files(layout.folder, layout.ending), Files(layout.images, IMAGE_ENDING)
        # All of VOC 2010 lies beside the images: where there is no list, truths say what is asked.
        names, faults = tuple(truths.found), []
        if layout.listed:
            paths = _list_paths(base, split)
            listed = read_split(paths)
            if listed is None:
                faults.append(no_split(paths[0]))
            else:
                lists, names = (listed[0], *lists), listed[1]
        pairs = paired(base, names, images, truths, cls.download, faults)
        return cls(base, split, classes, pairs, lists, layout.coding, layout.remedy)

    def labels(self, image: LabelledImage) -> NDArray[np.uint16]:
        """Read a truth.

        Raises:
            DatasetError: it is damaged, or has a label that there is not.
        """
        if image.truth.suffix == ".mat":
            values = read_mat(image.truth, "LabelMap")
        else:
            values = read_label_map(image.truth)
        return self.coding.labels(image.truth, values, self.remedy)


def _layouts(base: Path, split: str, classes: ClassList, old_order: bool) -> list[_Layout]:
    """The layouts that a base may have, in the order in which they are looked for."""
    folder, detectron2 = SPLIT_FOLDERS.get(split, split), base / "annotations_detectron2"
    jpegs, images, mats = base / IMAGE_FOLDER, base / "images" / folder, base / MAT_FOLDER
    if classes.name == "context459":
        tif, remedy = in_order(459, 0, VOID, void_label=0), "give the published maps"
        return [
            _Layout(base / "annotations_ctx459" / folder, ".tif", images, tif, remedy),
            _Layout(detectron2 / f"pc459_{split}", ".tif", jpegs, tif, remedy),
            _Layout(mats, ".mat", jpegs, in_order(459, 1), remedy, listed=True),
        ]
    label_of = {name: label for label, name in enumerate(classes.names, 1)}
    labels = tuple(label_of[name] for name in (OLD_ORDER if old_order else classes.names))
    grey, png = Coding(labels, 1), Coding(labels, 0, 255, void_label=0)
    mat = Coding(tuple(label_of.get(name, 0) for name in class_list("context459").names), 1)
    return [
        _Layout(base / "SegmentationClassContext", ".png", jpegs, grey, _REMEDY, listed=True),
        _Layout(base / "annotations_ctx59" / folder, ".png", images, png, _D2_REMEDY),
        _Layout(detectron2 / f"pc59_{split}", ".png", jpegs, png, _D2_REMEDY),
        _Layout(mats, ".mat", jpegs, mat, "give the published .mat files", listed=True),
    ]


def _list_paths(base: Path, split: str) -> list[Path]:
    name = f"{split}.txt"
    return [
        base / LIST_FOLDER / "SegmentationContext" / name,
        base / f"pascalcontext_{name}",
        base / LIST_FOLDER / "Main" / name,
    ]


def _checked_names(base: Path, layout: _Layout, old_order: bool) -> tuple[Path, ...]:
    """The published lists of names, after a look at the order of labels that they tell."""
    if old_order and layout.ending == ".mat":
        raise ConfigError(
            f"'{layout.folder}' holds .mat files, which have no old order; leave out {SAY}"
        )
    found = []
    for name in (LABELS_NAME, LABELS_59_NAME):
        path = next((p for p in (base / name, base / MAT_FOLDER / name) if p.is_file()), None)
        if path is None:
            continue
        found.append(path)
        if name == LABELS_NAME:
            check_order(path, class_list("context459").names)
        else:
            _check_59(path, layout.folder.name, old_order)
    return tuple(found)


def _check_59(path: Path, folder: str, old_order: bool) -> None:
    """Refuse a `59_labels.txt` in no known order, or in another than said: `pc59_val` is numbered
    by it."""
    there = read_names(path)
    told = tuple(OTHER_NAMES.get(there[k], there[k]) for k in sorted(there))
    names = class_list("context59").names
    if told not in (names, OLD_ORDER):
        raise DatasetError(
            f"'{path}' has another order of classes than any of PASCAL Context's; give the "
            "published list, or remove it"
        )
    if folder.startswith("pc59_") and (told == OLD_ORDER) != old_order:
        order, remedy = (
            ("VOC's classes first", "give")
            if not old_order
            else ("the alphabet's order", "leave out")
        )
        raise DatasetError(
            f"'{path}' has {order}, and '{folder}' is numbered by it; {remedy} {SAY}, or remove "
            "the list if the maps were not made with it"
        )
