"""Data sets of labelled images that are not whole, or wrong: one line names the file and the
remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from carvid.base.errors import DatasetError
from carvid.datasets.class_lists import class_list
from carvid.datasets.context import OLD_ORDER
from carvid.datasets.open_semantic import open_semantic
from tests.benchmark_trees import SEMANTIC_LAYOUTS, SIZE, numbered, write_lines, write_map

Change = Callable[[Path], object]


def remove(*names: str) -> Change:
    def change(tree: Path) -> None:
        for path in (tree / name for name in names):
            path.unlink() if path.is_file() else shutil.rmtree(path)

    return change


def put(name: str, *values: int, size: tuple[int, int] = SIZE) -> Change:
    """Put a map in the place of one: its first pixels have these values, others 0."""

    def change(tree: Path) -> None:
        labels = np.zeros(size, np.uint16)
        labels.flat[: len(values)] = values
        write_map(tree / name, labels)

    return change


def text(name: str, content: str) -> Change:
    return lambda tree: (tree / name).write_text(content)


def lines(name: str, *names: str) -> Change:
    """A list of names whose first two are exchanged."""
    return lambda tree: write_lines(tree / name, numbered((names[1], names[0], *names[2:])))


def cut(name: str) -> Change:
    return lambda tree: (tree / name).write_bytes((tree / name).read_bytes()[:700])


def move(name: str, to: str) -> Change:
    return lambda tree: (tree / name).rename(tree / to)


def colored(name: str, size: tuple[int, int] = SIZE) -> Change:
    return lambda tree: Image.new("RGB", size[::-1], (1, 2, 3)).save(tree / name)


def mat(name: str, **values: object) -> Change:
    return lambda tree: savemat(tree / name, values)


def instances(edit: Callable[[Any], object]) -> Change:
    def change(tree: Path) -> None:
        path = tree / JSON
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return change


VOC = "VOCdevkit/VOC2012"
LIST = f"{VOC}/ImageSets/Segmentation/val.txt"
JPEG, MASK = f"{VOC}/JPEGImages/2007_000001.jpg", f"{VOC}/SegmentationClass/2007_000001.png"
CONTEXT, D2 = "VOCdevkit/VOC2010", "pascal_ctx_d2"
GREY = f"{CONTEXT}/SegmentationClassContext/2008_000001.png"
MAT = f"{CONTEXT}/trainval/2008_000001.mat"
PC = f"{CONTEXT}/annotations_detectron2"
D2_MAP = f"{D2}/annotations_ctx59/validation/2008_000001.png"
MAPS, STUFF = "annotations/val2017", "stuffthingmaps/val2017"
COCO_MAP = f"{MAPS}/000000000008_instanceTrainIds.png"
JSON = "annotations/instances_val2017.json"
ADE, FULL = "ADEChallengeData2016", "ADE20K_2021_17_01"
ADE_MAP = f"{ADE}/annotations/validation/ADE_val_00000002.png"
ADE_D2 = f"{ADE}/annotations_detectron2/validation"
TIF = f"{FULL}/annotations_detectron2/validation/ADE_val_00000002.tif"
SEG = f"{FULL}/images/ADE/validation/urban/a/ADE_val_00000002_seg.png"

MISSING: dict[str, tuple[str, Change, str]] = {
    "no data set": ("voc", remove("VOCdevkit"), "nothing of .* VOCtrainval_11-May-2012.tar"),
    "another year": ("voc", move(VOC, CONTEXT), "nothing of .* VOCdevkit/VOC2012.*give"),
    "list": ("voc", remove(LIST), "not whole: no list Segmentation/val.txt; unpack VOCtrainval"),
    "other lists": (
        "voc", move(LIST, LIST.replace("val", "a")), r"no list Segmentation/val.txt \(there: a.txt"
    ),
    "an empty list": ("voc", text(LIST, "\n"), "val.txt' is empty; write"),
    "list and images": (
        "voc", remove(LIST, f"{VOC}/JPEGImages"),
        r"no list Segmentation/val.txt; no images in JPEGImages \(\*.jpg\); unpack",
    ),
    "images and truths": (
        "voc", remove(JPEG, JPEG.replace("1.j", "2.j"), MASK),
        "2 of 3 images missing in JPEGImages: 2007_000001.jpg, 2007_000002.jpg; 1 of 3 truths "
        "missing in SegmentationClass: 2007_000001.png; unpack VOCtrainval",
    ),
    "all truths": (
        "voc", remove(f"{VOC}/SegmentationClass"), r"no truths in SegmentationClass \(\*.png\); un"
    ),
    "context truths": (
        "context-mmseg", remove(f"{CONTEXT}/SegmentationClassContext"),
        "no truths in .*VOC2010': looked for SegmentationClassContext, annotations_ctx59/validat",
    ),
    "context list": (
        "context-mat", remove(f"{CONTEXT}/ImageSets"), "no list SegmentationContext/val.txt; unp"
    ),
    "context image": (
        "context-pc59", remove(f"{CONTEXT}/JPEGImages/2008_000001.jpg"),
        "1 of 3 images missing in JPEGImages: 2008_000001.jpg; unpack VOCtrainval_03-May-2010",
    ),
    "context images": (
        "context459-d2", remove(f"{D2}/images"), r"no images in images/validation \(\*.jpg\); unp"
    ),
    "coco truth": (
        "coco-maps", remove(COCO_MAP),
        f"1 of 3 truths missing in {MAPS}: 000000000008_instanceTrainIds.png; unpack val2017.zip",
    ),
    "coco truths": ("coco-maps", remove(MAPS), f"no truths: looked for {MAPS}/.* unpack"),
    "coco": ("coco-maps", remove("annotations", "images"), "nothing of .* val2017.zip"),
    "coco image": (
        "coco-instances", remove("images/val2017/000000000008.jpg"),
        "1 of 3 images missing in images/val2017: 000000000008.jpg; unpack",
    ),
    "coco stuff": (
        "coco-stuff", remove(f"{STUFF}/000000000008.png"),
        f"1 of 3 truths missing in {STUFF}: 000000000008.png; unpack",
    ),
    "ade truth": (
        "ade150", remove(ADE_MAP),
        "1 of 3 truths missing in annotations/validation: ADE_val_00000002.png; unpack ADEChalle",
    ),
    "ade": (
        "ade150-detectron2", remove(f"{ADE}/images", ADE_D2),
        r"no images in images/validation \(\*.jpg\); no truths in annotations/validation \(\*.png",
    ),
    "ade847 image": (
        "ade847-pairs", remove(f"{FULL}/images_detectron2/validation/ADE_val_00000002.jpg"),
        "1 of 3 images missing in images_detectron2/validation: ADE_val_00000002.jpg; unpack ADE2",
    ),
    "ade full truth": (
        "ade847-full", remove(SEG),
        "1 of 3 truths missing in images/ADE/validation: ADE_val_00000002_seg.png; unpack",
    ),
}  # fmt: skip

WRONG: dict[str, tuple[str, Change, str]] = {
    "voc label": (
        "voc", put(MASK, 20, 21, 21),
        "1.png' has the value 21 in 2 pixels, and labels here are 0 to 20 and 255; give VOC's",
    ),
    "voc size": (
        "voc", put(MASK, size=(24, 31)), "1.png' has 31×24 pixels, and its image 32×24; unpack"
    ),
    "voc colours": ("voc", colored(MASK), "1.png' has the colour .* paint"),
    "no png": ("voc", text(MASK, "no"), "1.png' is not a label map .* unpack it again"),
    "a cut png": ("voc", cut(MASK), "cannot read .*1.png': .* unpack it again"),
    "no jpeg": ("voc", text(JPEG, ""), "1.jpg' is not an image; unpack it again"),
    "context 60": (
        "context-mmseg", put(GREY, 59, 60),
        "1.png' has the value 60 .* 0 to 59; maps of 0 to 58 and 255 belong into .*/pc59_val",
    ),
    "context void": ("context-mmseg", put(GREY, 58, 255), "the value 255 .* belong into"),
    "context d2": (
        "context-d2", put(D2_MAP, 59),
        "the value 59 .* 0 to 58 and 255; maps .* belong into SegmentationClassContext",
    ),
    "context colours": (
        "context-pc59", colored(f"{PC}/pc59_val/2008_000001.png"), "1.png' is a .* not coloured"
    ),
    "context459": (
        "context459-pc459", put(f"{PC}/pc459_val/2008_000001.tif", 459),
        "1.tif' has the value 459 .* 0 to 458 and 65535; give the published maps",
    ),
    "mat 460": (
        "context-mat", mat(MAT, LabelMap=np.full(SIZE, 460)), "1.mat' has the value 460 .* 0 to 459"
    ),
    "mat without map": (
        "context-mat", mat(MAT, Labels=np.ones(3)), r"1.mat' has no map 'LabelMap' \(Labels is in"
    ),
    "mat of halves": (
        "context-mat", mat(MAT, LabelMap=np.full(SIZE, 1.5)), "1.mat' has no whole numbers .* unp"
    ),
    "mat below zero": (
        "context-mat", mat(MAT, LabelMap=np.full(SIZE, -3)), "1.mat' has no whole numbers .* unpack"
    ),
    "no mat": ("context-mat", text(MAT, "none" * 99), "cannot read .*1.mat'.* unpack it again"),
    "a cut mat": ("context-mat", cut(MAT), "cannot read .*1.mat'.* unpack it again"),
    "mat order": (
        "context-mat", lines(f"{CONTEXT}/labels.txt", *class_list("context459").names),
        "labels.txt' has another order of classes: 'aeroplane' is 1 there, and 2 as published; un",
    ),
    "context order": (
        "context-mmseg", lines(f"{CONTEXT}/59_labels.txt", *OLD_ORDER),
        "59_labels.txt' has another order .* give the published list",
    ),
    "coco 81": ("coco-maps", put(COCO_MAP, 81), "the value 81 .* 0 to 80; name COCO-Stuff's own"),
    "coco stuff": (
        "coco-stuff", put(f"{STUFF}/000000000008.png", 200), "the value 200 .* 0 to 181 and 255; n"
    ),
    "coco no json": ("coco-instances", text(JSON, "{"), "2017.json' cannot be read: .*; give"),
    "coco json": ("coco-instances", text(JSON, "{}"), "2017.json' lacks .* 'categories'; give"),
    "coco order": (
        "coco-instances", instances(lambda c: c["categories"][0].update(name="cat")),
        "2017.json' has another order of classes: category 1 is 'cat' .* 'person' in COCO; give",
    ),
    "coco mask": (
        "coco-instances", instances(lambda c: c["annotations"][0].update(segmentation=[["a"]])),
        "2017.json': annotation 0 cannot be drawn: .* unpack",
    ),
    "coco mask size": (
        "coco-instances",
        instances(lambda c: c["annotations"][2]["segmentation"].update(counts=[81], size=[9, 9])),
        "2017.json': annotation 2 cannot be drawn: .* unpack",
    ),
    "coco image": (
        "coco-instances",
        instances(lambda c: [c["annotations"].clear(), c["images"][0].update(width=40)]),
        "2017.json' has 40×24 pixels, and its image 32×24; unpack both",
    ),
    "ade of detectron2": (
        "ade150", put(ADE_MAP, 149, 255),
        "2.png' has the value 255 .* 0 to 150; maps of 0 to 149 and 255 belong into annotations_d",
    ),
    "ade in detectron2's place": (
        "ade150-detectron2", put(f"{ADE_D2}/ADE_val_00000002.png", 150),
        "the value 150 .* 0 to 149 and 255; maps .* 1 to 150 belong into annotations",
    ),
    "ade order": (
        "ade150", lines(f"{ADE}/objectInfo150.txt", *class_list("ade150").names),
        "objectInfo150.txt' has another order of classes: 'building, edifice' is 1 there, and 2",
    ),
    "ade names": (
        "ade150", text(f"{ADE}/objectInfo150.txt", "wall\n"), "Info150.txt' has no line .* unpack"
    ),
    "ade847 label": (
        "ade847-pairs", put(TIF, 847), "2.tif' has the value 847 .* 0 to 846 and 65535; give maps"
    ),
    "ade full size": (
        "ade847-full", colored(SEG, (12, 16)), "_seg.png' has 16×12 pixels, and its image 32×24; u"
    ),
    "ade full grey": (
        "ade847-full", put(SEG, 3), r"_seg.png' has no colours \(mode L\), .* unpack it again"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", MISSING)
def test_all_that_is_missing_is_said(fault: str, tmp_path: Path) -> None:
    _refused(*MISSING[fault], tmp_path)


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_refused(fault: str, tmp_path: Path) -> None:
    _refused(*WRONG[fault], tmp_path)


def _refused(layout: str, change: Change, message: str, tree: Path) -> None:
    name, _, make = SEMANTIC_LAYOUTS[layout]
    change(make(tree))
    with pytest.raises(DatasetError, match=message) as refusal:
        open_semantic(name, tree)
    line = str(refusal.value)
    assert "\n" not in line and "; " in line and str(tree) in line
