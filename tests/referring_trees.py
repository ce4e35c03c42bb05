"""Small data sets of referring expressions, in the layouts in which they are had."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SIZES = {7: (20, 30), 8: (24, 16)}
"""Height and width of the images, by id."""
Boxes = Sequence[tuple[int, int, int, int]]
OBJECTS: dict[int, tuple[int, Boxes]] = {
    71: (7, [(2, 2, 12, 10)]),
    72: (7, [(4, 4, 20, 12), (10, 6, 26, 16)]),  # two polygons with pixels in common
    81: (8, [(1, 1, 9, 9)]),
}
"""Annotation id → image id and boxes: left, top, right and bottom, the latter exclusive."""
RLE_ID = 82
"""An object of image 8 that is written as run lengths: the first five columns."""
IMAGES = "images/mscoco/images/train2014"


def ref(
    ref_id: int, objects: int | list[int], texts: Iterable[str], split: str, image_id: int = 7
) -> dict[str, Any]:
    """A ref as the pickles hold it."""
    sentences = [
        {"raw": text, "sent": text.lower(), "tokens": text.lower().split(), "sent_id": k}
        for k, text in enumerate(texts)
    ]
    return {
        "ref_id": ref_id, "ann_id": objects, "image_id": image_id, "category_id": 1,
        "split": split, "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",
        "sent_ids": [each["sent_id"] for each in sentences], "sentences": sentences,
    }  # fmt: skip


REFS = [
    ref(0, 71, ["Left/most Dog", 'the "DOG"', "dog", "dog"], "val"),
    ref(1, 72, ["striped thing"], "val"),
    ref(2, 81, ["box"], "testA", 8),
    ref(3, RLE_ID, ["left stripe"], "testB", 8),
]
GREFS = [
    ref(4, [71, 72], ["Both Dogs", "", "all"], "val"),
    {**ref(5, [-1], ["zebra"], "val"), "no_target": True},
    ref(6, [81], ["box"], "testA", 8),
]


def write_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for image_id, (height, width) in SIZES.items():
        Image.new("RGB", (width, height)).save(folder / f"COCO_train2014_{image_id:012d}.jpg")


def annotation(annotation_id: int) -> dict[str, Any]:
    """An object as COCO writes it."""
    if annotation_id == RLE_ID:
        height, width = SIZES[8]
        outline: Any = {"size": [height, width], "counts": [0, 5 * height, (width - 5) * height]}
        return {"id": annotation_id, "image_id": 8, "iscrowd": 1, "segmentation": outline}
    image_id, boxes = OBJECTS[annotation_id]
    outline = [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in boxes]
    return {"id": annotation_id, "image_id": image_id, "iscrowd": 0, "segmentation": outline}


def write_instances(path: Path) -> None:
    images = [{"id": k, "height": h, "width": w} for k, (h, w) in SIZES.items()]
    values = {"images": images, "annotations": [annotation(k) for k in (*OBJECTS, RLE_ID)]}
    path.write_text(json.dumps(values))


def refer_tree(root: Path, folder: str = "refcoco", stem: str = "refs(unc)") -> Path:
    """A tree as refer's, with one set in it."""
    (root / folder).mkdir(parents=True)
    (root / folder / f"{stem}.p").write_bytes(pickle.dumps(REFS, protocol=2))
    write_instances(root / folder / "instances.json")
    write_images(root / IMAGES)
    return root


def gref_tree(root: Path) -> Path:
    (root / "grefcoco").mkdir(parents=True)
    (root / "grefcoco" / "grefs(unc).json").write_text(json.dumps(GREFS))
    write_instances(root / "grefcoco" / "instances.json")
    write_images(root / "images" / "train2014")
    return root


def write_parquet(path: Path, refs: Sequence[dict[str, Any]]) -> None:
    """The hub's parquet; pyarrow must be there."""
    import pyarrow
    import pyarrow.parquet

    rows = []
    for each in refs:
        image_id = each["image_id"]
        height, width = SIZES[image_id]
        rows.append({
            **each,
            **{key: str(each[key]) for key in ("ref_id", "ann_id", "image_id", "category_id")},
            "raw_anns": json.dumps(annotation(each["ann_id"])),
            "raw_image_info": json.dumps({"id": image_id, "height": height, "width": width}),
            "bbox": [0.0, 0.0, 1.0, 1.0],
            "captions": [text["sent"] for text in each["sentences"]],
            "image_path": f"coco/train2014/COCO_train2014_{image_id:012d}.jpg",
        })  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def python2_pickle(value: Any) -> bytes:
    """Protocol 2 as Python 2 writes it: texts are byte strings."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value
    if isinstance(value, str):
        return _python2(value.encode("utf-8"))
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, dict):
        parts = [_python2(each) for pair in value.items() for each in pair]
        return b"}(" + b"".join(parts) + b"u"
    return b"J" + struct.pack("<i", value)
