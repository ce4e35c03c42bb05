#!/usr/bin/env python3
"""Read a run's exports with the programs that they are for, and compare with its masks.

    python tools/check_exports.py RUN

Readers that are not installed are left out: pycocotools, supervision, ultralytics, datumaro,
labelme, OpenEXR. Each in an environment of its own is fine, and for ultralytics and labelme best.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import carvid
from carvid.base.masks import iou
from carvid.exports.data_set import category_names
from carvid.exports.exr import layer_name
from carvid.exports.numbered import sequence_names

Masks = dict[tuple[int, str], Any]
"""(frame, what it is of) → bool (H, W); what is absent may have no entry."""


def by_label(track: carvid.Track) -> Masks:
    """The run's masks, label by label."""
    return {(t, str(k + 1)): mask for t, masks in enumerate(track.masks)
            for k, mask in enumerate(masks)}  # fmt: skip


def by_category(track: carvid.Track) -> Masks:
    """The run's masks, all of a category in one."""
    found: Masks = defaultdict(lambda: np.zeros(track.facts.video.size_hw, bool))
    for (t, label), mask in by_label(track).items():
        found[t, category_names(track.facts)[int(label) - 1]] |= mask
    return found


def from_pycocotools(track: carvid.Track, folder: Path) -> Iterator[tuple[str, Masks, Masks]]:
    """coco.json and YouTube-VIS."""
    from pycocotools import mask as tools
    from pycocotools.coco import COCO

    coco = COCO(str(folder / "coco.json"))
    read = {(each["image_id"] - 1, str(each["track_id"])): coco.annToMask(each) > 0
            for each in coco.dataset["annotations"]}  # fmt: skip
    yield "coco", read, by_label(track)
    for name in ("instances", "results"):
        values = json.loads((folder / "youtube_vis" / f"{name}.json").read_text())
        tracks = values["annotations"] if name == "instances" else values
        found = [label for label in range(1, len(track.texts) + 1)
                 if any(masks[label - 1].any() for masks in track.masks)]  # fmt: skip
        read = {(t, str(label)): tools.decode(code) > 0
                for label, each in zip(found, tracks, strict=True)
                for t, code in enumerate(each["segmentations"]) if code}  # fmt: skip
        yield f"youtube-vis, {name}", read, by_label(track)


def from_supervision(track: carvid.Track, folder: Path) -> Iterator[tuple[str, Masks, Masks]]:
    """A YOLO data set."""
    import supervision

    yolo = folder / "yolo"
    images, labels = yolo / "images" / "train", yolo / "labels" / "train"
    data = supervision.DetectionDataset.from_yolo(
        str(images), str(labels), str(yolo / "data.yaml"), force_masks=True
    )
    read: Masks = defaultdict(lambda: np.zeros(track.facts.video.size_hw, bool))
    order = {path.stem: t for t, path in enumerate(sorted(images.iterdir()))}
    for path, detections in data.annotations.items():
        for k, mask in zip(detections.class_id, detections.mask, strict=True):
            read[order[Path(path).stem], data.classes[k]] |= mask
    yield "yolo", read, by_category(track)


def from_ultralytics(track: carvid.Track, folder: Path) -> Iterator[tuple[str, Masks, Masks]]:
    """A YOLO data set, as it is trained on: the polygons as they are, and with more corners."""
    from ultralytics.data.utils import (
        check_det_dataset,
        img2label_paths,
        polygon2mask,
        verify_image_label,
    )
    from ultralytics.utils.ops import resample_segments

    data = check_det_dataset(str(folder / "yolo" / "data.yaml"), autodownload=False)
    images = sorted(Path(data["train"]).iterdir())
    height, width = track.facts.video.size_hw
    reads: list[Masks] = [defaultdict(lambda: np.zeros((height, width), bool)) for _ in range(2)]
    for t, (image, label) in enumerate(
        zip(images, img2label_paths(list(map(str, images))), strict=True)
    ):
        _, boxes, _, segments, *_, corrupt, said = verify_image_label(
            (str(image), label, "", False, len(data["names"]), 0, 0, False)
        )
        if corrupt or said:
            raise SystemExit(f"{image}: {said}")
        scaled = [segment * np.float32([width, height]) for segment in segments]
        more = resample_segments([segment.copy() for segment in scaled])
        for read, corners in zip(reads, (scaled, more), strict=True):
            for k, polygon in zip(boxes[:, 0], corners, strict=True):
                mask = polygon2mask((height, width), [polygon.ravel()])
                read[t, data["names"][int(k)]] |= mask > 0
    yield "yolo", reads[0], by_category(track)
    yield "yolo, resampled", reads[1], by_category(track)


def from_datumaro(track: carvid.Track, folder: Path) -> Iterator[tuple[str, Masks, Masks]]:
    """coco.json, put where Datumaro looks for it."""
    import datumaro

    place = folder / "datumaro" / "annotations" / "instances_default.json"
    place.parent.mkdir(parents=True)
    place.write_bytes((folder / "coco.json").read_bytes())
    (folder / "datumaro" / "images" / "default").mkdir(parents=True)
    data = datumaro.Dataset.import_from(str(folder / "datumaro"), "coco")
    read: Masks = defaultdict(lambda: np.zeros(track.facts.video.size_hw, bool))
    for item in data:
        for each in item.annotations:
            if each.type != datumaro.AnnotationType.mask:
                continue
            category = data.categories()[datumaro.AnnotationType.label][each.label].name
            read[item.attributes["id"] - 1, category] |= np.asarray(each.image) > 0
    yield "coco", read, by_category(track)


def from_labelme(track: carvid.Track, folder: Path) -> Iterator[tuple[str, Masks, Masks]]:
    """LabelMe's files; where masks overlap, each by itself."""
    from labelme._label_file import read_label_file
    from labelme.utils.shape import shape_to_mask

    read: Masks = defaultdict(lambda: np.zeros(track.facts.video.size_hw, bool))
    for t, path in enumerate(sorted((folder / "labelme").glob("*.json"))):
        for shape in read_label_file(str(path)).shapes:
            mask = shape_to_mask(track.facts.video.size_hw, shape["points"], shape["shape_type"])
            read[t, str(shape["group_id"])] |= mask
    yield "labelme", read, by_label(track)


def from_openexr(track: carvid.Track, folder: Path) -> Iterator[tuple[str, Masks, Masks]]:
    """Layers of OpenEXR."""
    import OpenEXR

    read: Masks = {}
    for t, name in enumerate(sequence_names(track)):
        with OpenEXR.File(str(folder / "exr" / f"{name}.exr")) as file:
            for k, text in enumerate(track.texts, 1):
                pixels = file.channels()[f"{layer_name(k, text)}.A"].pixels
                read[t, str(k)] = pixels == 1
    yield "exr", read, by_label(track)


def from_pillow(track: carvid.Track, folder: Path) -> Iterator[tuple[str, Masks, Masks]]:
    """Numbered PNGs."""
    read = {(t, str(k)): np.asarray(Image.open(folder / "png" / str(k) / f"{name}.png")) == 255
            for t, name in enumerate(sequence_names(track))
            for k in range(1, len(track.texts) + 1)}  # fmt: skip
    yield "png", read, by_label(track)


READERS: dict[str, tuple[Callable[..., Iterator[tuple[str, Masks, Masks]]], tuple[str, ...]]] = {
    "pycocotools": (from_pycocotools, ("coco", "youtube-vis")),
    "datumaro": (from_datumaro, ("coco",)),
    "supervision": (from_supervision, ("yolo",)),
    "ultralytics": (from_ultralytics, ("yolo",)),
    "labelme": (from_labelme, ("labelme",)),
    "OpenEXR": (from_openexr, ("exr",)),
    "pillow": (from_pillow, ("png",)),
}  # fmt: skip
MODULES = {"pillow": "PIL"}


def main() -> None:
    """Print a line for each reader and format: its version, how many masks there are, how many
    come back equal, and the least IoU of the others."""
    track = carvid.Track.open(sys.argv[1])
    print("| reader | format | masks | equal | least IoU |\n|-|-|-|-|-|")
    for name, (read, formats) in READERS.items():
        try:
            importlib.import_module(MODULES.get(name, name))
        except ImportError:
            continue
        with tempfile.TemporaryDirectory() as folder:
            carvid.export(track, folder, formats)
            for form, given, true in read(track, Path(folder)):
                print(f"| {name} {version(name)} | {form} | {compared(given, true)} |")


def compared(given: Masks, true: Masks) -> str:
    """Masks that are somewhere, how many of them are equal, and the least IoU."""
    empty = np.zeros_like(next(iter(true.values())))
    keys = [key for key in {*given, *true}
            if given.get(key, empty).any() or true.get(key, empty).any()]  # fmt: skip
    pairs = [(given.get(key, empty), true.get(key, empty)) for key in keys]
    equal = sum(bool((one == other).all()) for one, other in pairs)
    least = min((iou(one, other) for one, other in pairs), default=1.0)
    return f"{len(pairs)} | {equal} | {least:.4f}"


if __name__ == "__main__":
    main()
