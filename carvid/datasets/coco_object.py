"""COCO Object: the 80 things of COCO 2017, all else is background; nothing is void.

    images/val2017/<id>.jpg                            or val2017/<id>.jpg
    annotations/val2017/<id>_instanceTrainIds.png      GroupViT's: 0 background, 1–80
    annotations/val2017/<id>.png                       COCO-Stuff's, of which GroupViT's are made:
    stuffthingmaps/val2017/<id>.png                    category id − 1, 255
    annotations/instances_val2017.json                 where there are no maps

The first truth that is there is taken. Instances are painted, crowds first, then large to small,
later ones on top; where they overlap this may differ from the maps.

Lin et al., *Microsoft COCO*, ECCV 2014; Caesar et al., *COCO-Stuff*, CVPR 2018; Xu et al.,
*GroupViT*, CVPR 2022.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.base.files import read_text
from carvid.datasets.class_lists import ClassList, class_ids, class_list
from carvid.datasets.coco_instances import MAX_INSTANCES_BYTES, CocoInstances, mask_tools
from carvid.datasets.label_coding import Coding, in_order
from carvid.datasets.label_files import read_label_map
from carvid.datasets.labelled_folders import IMAGE_ENDING, Files, find_base, paired
from carvid.datasets.semantic_dataset import LabelledImage, SemanticDataset
from carvid.media.frames import check_size
from carvid.media.images import stamp_of

TRUTH_ENDING = "_instanceTrainIds.png"
STUFF_CATEGORIES = 182
"""The highest category id in COCO-Stuff."""
PLACES = ("coco", "coco2017", "")

_FORM = "give annotations_trainval2017.zip's"


@dataclass(frozen=True)
class CocoObject(SemanticDataset):
    """A split of COCO Object."""

    name = "COCO Object"
    download = (
        "val2017.zip and annotations_trainval2017.zip (https://cocodataset.org/#download), or "
        "stuffthingmaps_trainval2017.zip of COCO-Stuff"
    )

    coding: Coding | None
    """Of maps; None where instances are painted."""

    @classmethod
    def open(cls, root: Path, split: str, classes: ClassList) -> Self:
        """Find a split's images and truths; `val` is `val2017`.

        Raises:
            DatasetError: something is missing; the message lists all of it.
            ConfigError: there are instances only, and pycocotools is not installed.
        """
        year = split if split.endswith("2017") else f"{split}2017"
        base = find_base(root, PLACES, ("annotations", "images", year), cls.download)
        folder = next((f for f in (base / "images" / year, base / year) if f.is_dir()), None)
        images = Files(folder or base / "images" / year, IMAGE_ENDING)
        truths = Files(base / "annotations" / year, TRUTH_ENDING)
        if truths.found:
            pairs = paired(base, (), images, truths, cls.download)
            return cls(base, split, classes, pairs, (), in_order(len(classes.names), 1))
        for place in (base / "annotations" / year, base / "stuffthingmaps" / year):
            truths = Files(place, ".png")
            ids = {name for name in truths.found if name.isdecimal()}  # mmseg puts others beside
            if ids:
                names = sorted(ids.union(images.found))
                pairs = paired(base, names, images, truths, cls.download)
                return cls(base, split, classes, pairs, (), _stuff_coding())
        path = base / "annotations" / f"instances_{year}.json"
        if not path.is_file():
            faults = "" if images.found else f"no images in {images.folder.relative_to(base)}; "
            raise DatasetError(
                f"'{base}' is not whole: {faults}no truths: looked for "
                f"annotations/{year}/*{TRUTH_ENDING}, stuffthingmaps/{year}/*.png and "
                f"annotations/{path.name}; unpack {cls.download} again"
            )
        mask_tools()
        names = list(_instances(path, stamp_of(path))[1])
        pairs = paired(base, names, images, path, cls.download)
        return cls(base, split, classes, pairs, (path,), None)

    def labels(self, image: LabelledImage) -> NDArray[np.uint16]:
        """Read a truth, or paint it.

        Raises:
            DatasetError: it is damaged, or has a label that there is not.
            ConfigError: pycocotools is not installed, and there are instances only.
        """
        if self.coding is None:
            return _painted(image)
        values = read_label_map(image.truth)
        remedy = f"name COCO-Stuff's own maps <id>.png, and GroupViT's <id>{TRUTH_ENDING}"
        return self.coding.labels(image.truth, values, remedy)


@dataclass(frozen=True)
class _Instance:
    id: int
    label: int


@dataclass(frozen=True)
class _Picture:
    size_hw: tuple[int, int]
    instances: tuple[_Instance, ...]
    """In the order in which they are painted."""


def _stuff_coding() -> Coding:
    label_of = {category: k for k, category in enumerate(class_ids("coco-object"), 1)}
    labels = tuple(label_of.get(value + 1, 0) for value in range(STUFF_CATEGORIES))
    return Coding(labels, 0, void=255, void_label=0)


@lru_cache(maxsize=1)
def _instances(path: Path, stamp: tuple[int, int]) -> tuple[CocoInstances, dict[str, _Picture]]:
    """Outlines, and what to paint in each image by its name; `stamp` changes with the file."""
    try:
        values = json.loads(read_text(path, limit=MAX_INSTANCES_BYTES))
        label_of = _labels_by_category(path, values["categories"])
        sizes = {int(i["id"]): (int(i["height"]), int(i["width"])) for i in values["images"]}
        of_image: dict[int, list[_Instance]] = {key: [] for key in sizes}
        for each in sorted(values["annotations"], key=lambda a: (not a["iscrowd"], -a["area"])):
            instance = _Instance(int(each["id"]), label_of[each["category_id"]])
            of_image[each["image_id"]].append(instance)
        outlines = CocoInstances(sizes, {int(a["id"]): a for a in values["annotations"]})
        return outlines, {
            Path(str(image["file_name"])).stem: _Picture(
                sizes[image["id"]], tuple(of_image[image["id"]])
            )
            for image in values["images"]
        }
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}; check the path") from None
    except KeyError as error:
        raise DatasetError(f"'{path}' lacks the key or id {error}; {_FORM} instances") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}; {_FORM} instances") from None


def _labels_by_category(path: Path, categories: list[dict[str, Any]]) -> dict[int, int]:
    names = {category["id"]: category["name"] for category in categories}
    ids, classes = class_ids("coco-object"), class_list("coco-object").names
    for k, name in zip(ids, classes, strict=True):
        if names.get(k, name) != name:
            raise DatasetError(
                f"'{path}' has another order of classes: category {k} is '{names[k]}' there, and "
                f"'{name}' in COCO; {_FORM} instances"
            )
    return {category: k for k, category in enumerate(ids, 1)}


def _painted(image: LabelledImage) -> NDArray[np.uint16]:
    outlines, pictures = _instances(image.truth, stamp_of(image.truth))
    picture = pictures[image.name]
    check_size(image.truth, picture.size_hw, DatasetError)
    labels = np.zeros(picture.size_hw, np.uint16)
    for instance in picture.instances:
        try:
            labels[outlines.parts(instance.id) > 0] = instance.label
        except DatasetError as error:
            raise DatasetError(f"'{image.truth}': {error}") from None
    return labels
