"""Small data sets of labelled images in every layout that is about, whose truths are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from carvid.datasets.class_lists import class_ids, class_list
from carvid.datasets.context import OLD_ORDER
from carvid.datasets.semantic_dataset import VOID
from carvid.media.label_png import write_label_png

SIZE = (24, 32)
COUNT = 3

Labels = NDArray[np.uint16]


def drawn(
    index: int, size: tuple[int, int] = SIZE, classes: int = 20, *, void: bool = False
) -> Labels:
    """The truth of image `index` of a data set: a large and a small square, perhaps void below."""
    height, width = size
    labels = np.zeros(size, np.uint16)
    labels[2 : height // 2, 3 : width - 4] = 1 + (7 * index) % classes
    labels[height // 4 : height - 4, width // 3 : width // 2] = classes - index % classes
    if void:
        labels[-2:] = VOID
    return labels


def write_picture(path: Path, labels: Labels) -> None:
    """A JPEG that shows what is where: a colour for each label, over noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(int(labels.sum())).integers(0, 60, (*labels.shape, 3))
    tint = labels[..., None].astype(int) * (37, 91, 53) % 190
    Image.fromarray((noise + tint).astype(np.uint8)).save(path, quality=95)


def write_map(path: Path, values: NDArray[np.integer]) -> None:
    """A grey PNG, or a TIFF of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16 if path.suffix == ".tif" else np.uint8)).save(path)


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def voc_tree(
    root: Path,
    count: int = COUNT,
    size: tuple[int, int] = SIZE,
    *,
    folder: str = "SegmentationClass",
    place: str = "VOCdevkit/VOC2012",
) -> Path:
    """VOC 2012: palette PNGs, 255 void."""
    base, names = root / place, [f"2007_{index:06d}" for index in range(count)]
    (base / folder).mkdir(parents=True)
    for index, name in enumerate(names):
        labels = drawn(index, size, 20, void=True)
        write_picture(base / "JPEGImages" / f"{name}.jpg", labels)
        write_label_png(base / folder / f"{name}.png", labels.astype(np.uint8))  # VOID becomes 255
    write_lines(base / "ImageSets" / "Segmentation" / "val.txt", names)
    return root


def context_tree(
    root: Path,
    count: int = COUNT,
    size: tuple[int, int] = SIZE,
    *,
    layout: str = "mmseg",
    classes: int = 59,
    old_order: bool = False,
    list_name: str = "ImageSets/SegmentationContext/val.txt",
) -> Path:
    """PASCAL Context: `mmseg`, `d2` (pascal_ctx_d2), `pc` (annotations_detectron2) or `mat`."""
    names = [f"2008_{index:06d}" for index in range(count)]
    base = root / ("pascal_ctx_d2" if layout == "d2" else "VOCdevkit/VOC2010")
    images = base / ("images/validation" if layout == "d2" else "JPEGImages")
    ending = ".tif" if classes == 459 else ".png"
    void = 65535 if classes == 459 else 255
    ours, all_names = class_list(f"context{classes}").names, class_list("context459").names
    for index, name in enumerate(names):
        labels = drawn(index, size, classes)
        write_picture(images / f"{name}.jpg", labels)
        values = labels.astype(int)
        if old_order:
            values = np.array([0, *(OLD_ORDER.index(name) + 1 for name in ours)])[values]
        if layout == "mmseg":
            write_map(base / "SegmentationClassContext" / f"{name}.png", values)
        elif layout == "mat":
            # 460 classes are none; what is none of the 59 has one of the other 400.
            ids = np.array([1, *(all_names.index(name) + 1 for name in ours)])
            (base / "trainval").mkdir(exist_ok=True)
            whole = ids[values] if classes == 59 else values
            savemat(base / "trainval" / f"{name}.mat", {"LabelMap": whole.astype(np.uint16)})
        else:
            place = f"annotations_ctx{classes}/validation"
            place = place if layout == "d2" else f"annotations_detectron2/pc{classes}_val"
            write_map(base / place / f"{name}{ending}", np.where(values, values - 1, void))
    if layout in ("mmseg", "mat"):
        write_lines(base / list_name, names)
    if layout == "mat":
        write_lines(base / "labels.txt", numbered(all_names))
        write_lines(base / "59_labels.txt", published_59())
    return root


def numbered(names: tuple[str, ...]) -> list[str]:
    return [f"{k}: {name}" for k, name in enumerate(names, 1)]


def published_59() -> list[str]:
    """`59_labels.txt`, in its own spelling."""
    spelt = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}
    return numbered(tuple(spelt.get(name, name) for name in OLD_ORDER))


def coco_tree(
    root: Path, count: int = COUNT, size: tuple[int, int] = SIZE, *, layout: str = "maps"
) -> Path:
    """COCO Object: GroupViT's `maps`, COCO-Stuff's `stuff`, or `instances`."""
    ids = class_ids("coco-object")
    images, annotations = [], []
    for index in range(count):
        name, labels = f"{index + 7:012d}", drawn(index, size, 80)
        write_picture(root / "images" / "val2017" / f"{name}.jpg", labels)
        place = root / "annotations" / "val2017"
        if layout == "maps":
            write_map(place / f"{name}_instanceTrainIds.png", labels)
        elif layout == "stuff":
            values = np.array([0, *(k - 1 for k in ids)])[labels]
            values[labels == 0], values[0], values[1] = 91, 255, 181  # two of stuff, and void
            write_map(root / "stuffthingmaps" / "val2017" / f"{name}.png", values)
        images.append({
            "id": index + 7, "file_name": f"{name}.jpg", "height": size[0], "width": size[1]
        })  # fmt: skip
        annotations.extend(_instances(index, labels, ids))
    if layout == "instances":
        names = class_list("coco-object").names
        categories = [{"id": k, "name": name} for k, name in zip(ids, names, strict=True)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / "annotations" / "instances_val2017.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    return root


def _instances(index: int, labels: Labels, ids: tuple[int, ...]) -> list[dict[str, object]]:
    """The small square, the large one, and a crowd, which is behind both."""
    height, width = labels.shape
    large, small = 1 + (7 * index) % 80, 80 - index % 80
    crowd = np.zeros(labels.shape, np.uint8)
    crowd[3 : height // 2, 3 : width // 3] = 1

    def instance(
        number: int, label: int, top: int, bottom: int, left: int, right: int
    ) -> dict[str, object]:
        polygon = [left, top, right, top, right, bottom, left, bottom]
        area = (bottom - top) * (right - left)
        return {
            "id": 3 * index + number, "image_id": index + 7, "category_id": ids[label - 1],
            "iscrowd": 0, "area": area, "segmentation": [polygon],
        }  # fmt: skip

    first = instance(0, small, height // 4, height - 4, width // 3, width // 2)
    second = instance(1, large, 2, height // 2, 3, width - 4)
    counts = _run_lengths(crowd)
    third = second | {
        "id": 3 * index + 2, "category_id": ids[(large + 3) % 80], "iscrowd": 1, "area": 1,
        "segmentation": {"counts": counts, "size": [height, width]},
    }  # fmt: skip
    return [first, second, third]


def _run_lengths(mask: NDArray[np.uint8]) -> list[int]:
    """COCO's: down the columns, zeros first."""
    flat = np.concatenate([[0], mask.T.ravel(), [1 - mask.T.ravel()[-1]]])
    edges = np.flatnonzero(np.diff(flat))
    return [int(k) for k in np.diff([0, *edges])]


def ade150_tree(
    root: Path, count: int = COUNT, size: tuple[int, int] = SIZE, *, layout: str = "ade"
) -> Path:
    """ADE with 150 classes: as published (`ade`), or detectron2's (`detectron2`)."""
    base = root / "ADEChallengeData2016"
    for index in range(count):
        name, labels = f"ADE_val_{index + 1:08d}", drawn(index, size, 150)
        write_picture(base / "images" / "validation" / f"{name}.jpg", labels)
        if layout == "ade":
            write_map(base / "annotations" / "validation" / f"{name}.png", labels)
        else:
            values = np.where(labels, labels.astype(int) - 1, 255)
            write_map(base / "annotations_detectron2" / "validation" / f"{name}.png", values)
    rows = [f"{k}\t0.1\t10\t1\t{name}" for k, name in enumerate(class_list("ade150").names, 1)]
    write_lines(base / "objectInfo150.txt", ["Idx\tRatio\tTrain\tVal\tName", *rows])
    return root


def ade847_tree(
    root: Path, count: int = COUNT, size: tuple[int, int] = SIZE, *, layout: str = "pairs"
) -> Path:
    """ADE with 847 classes: detectron2's `pairs`, or the `full` data set's own files."""
    base, ids = root / "ADE20K_2021_17_01", np.array([2999, *class_ids("ade847")])
    for index in range(count):
        name, labels = f"ADE_val_{index + 1:08d}", drawn(index, size, 847)
        if layout == "pairs":
            write_picture(base / "images_detectron2" / "validation" / f"{name}.jpg", labels)
            values = np.where(labels, labels.astype(int) - 1, 65535)
            write_map(base / "annotations_detectron2" / "validation" / f"{name}.tif", values)
            continue
        folder = base / "images" / "ADE" / "validation" / ("urban" if index % 2 else "home") / "a"
        write_picture(folder / f"{name}.jpg", labels)
        red, green = np.divmod(ids[labels], 256)
        colors = np.stack([10 * red + index, green, np.full_like(red, 99)], axis=2)
        Image.fromarray(colors.astype(np.uint8)).save(folder / f"{name}_seg.png")
    return root


Maker = Callable[[Path], Path]

SEMANTIC_LAYOUTS: Mapping[str, tuple[str, int, Maker]] = {
    "voc": ("voc21", 20, voc_tree),
    "voc-aug": ("voc20", 20, lambda root: voc_tree(root, folder="SegmentationClassAug")),
    "context-mmseg": ("context60", 59, context_tree),
    "context-d2": ("context59", 59, lambda root: context_tree(root, layout="d2")),
    "context-pc59": ("context59", 59, lambda root: context_tree(root, layout="pc")),
    "context-mat": ("context60", 59, lambda root: context_tree(root, layout="mat")),
    "context459-d2": (
        "context459", 459, lambda root: context_tree(root, layout="d2", classes=459),
    ),
    "context459-pc459": (
        "context459", 459, lambda root: context_tree(root, layout="pc", classes=459),
    ),
    "context459-mat": (
        "context459", 459, lambda root: context_tree(root, layout="mat", classes=459),
    ),
    "coco-maps": ("coco-object", 80, coco_tree),
    "coco-stuff": ("coco-object", 80, lambda root: coco_tree(root, layout="stuff")),
    "coco-instances": ("coco-object", 80, lambda root: coco_tree(root, layout="instances")),
    "ade150": ("ade150", 150, ade150_tree),
    "ade150-detectron2": ("ade150", 150, lambda root: ade150_tree(root, layout="detectron2")),
    "ade847-pairs": ("ade847", 847, ade847_tree),
    "ade847-full": ("ade847", 847, lambda root: ade847_tree(root, layout="full")),
}  # fmt: skip
"""Every layout: the benchmark's name, its number of classes, and what makes a tree of it."""
