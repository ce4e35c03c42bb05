"""Data sets of labelled images: their classes, and every layout that is about."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from carvid.base.errors import ConfigError, DatasetError
from carvid.datasets.class_lists import (
    BACKGROUNDS,
    CLASS_LISTS,
    background_words,
    class_ids,
    class_list,
)
from carvid.datasets.context import OLD_ORDER
from carvid.datasets.open_semantic import SEMANTIC_SETS, open_semantic
from tests.benchmark_trees import (
    COUNT,
    SEMANTIC_LAYOUTS,
    SIZE,
    ade847_tree,
    coco_tree,
    context_tree,
    drawn,
    numbered,
    published_59,
    voc_tree,
    write_lines,
)

VOC = "VOCdevkit/VOC2012"
CONTEXT = "VOCdevkit/VOC2010"
FULL = "ADE20K_2021_17_01"


def test_lists_of_classes_are_whole() -> None:
    lists = [class_list(name) for name in CLASS_LISTS]
    counts = {each.name: (len(each.things), len(each.stuff)) for each in lists}
    assert counts == {
        "voc": (20, 0), "coco-object": (80, 0), "context59": (38, 21), "context459": (433, 26),
        "ade150": (125, 25), "ade847": (818, 29),
    }  # fmt: skip
    for classes in lists:
        assert len(classes.names) == len(classes.queries)
        assert sorted((*classes.things, *classes.stuff)) == list(range(len(classes.names)))
    assert class_list("voc").queries[14] == "person with clothes,people,human"
    ade = class_list("ade150")
    tables = ade.queries[ade.names.index("pool table, billiard table, snooker table")]
    assert tables == "pool, table, billiard, table, snooker, table"
    assert (
        set(class_list("context59").names) == set(OLD_ORDER) < set(class_list("context459").names)
    )
    assert class_ids("coco-object")[-1] == 90 and len(set(class_ids("ade847"))) == 847


def test_lists_of_background_words() -> None:
    counts = {name: len(background_words(name)) for name in BACKGROUNDS}
    assert counts == {
        "released": 23, "terrestrial": 32, "aquatic_atmospheric": 44, "man_made": 36, "clip_es": 23,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no background words 'man'; known are"):
        background_words("man")
    with pytest.raises(ConfigError, match="no list of classes 'vocs'; did you mean 'voc'"):
        class_list("vocs")
    with pytest.raises(ValueError, match="no other ids"):
        class_ids("voc")


@pytest.mark.parametrize("layout", SEMANTIC_LAYOUTS)
def test_every_layout_is_read(layout: str, tmp_path: Path) -> None:
    name, count, make = SEMANTIC_LAYOUTS[layout]
    dataset = open_semantic(name, make(tmp_path))
    assert len(dataset.classes.names) == count and len(dataset.images) == COUNT
    for index, image in enumerate(dataset.images):
        expected = drawn(index, SIZE, count, void=name.startswith("voc"))
        truth = dataset.truth(image)
        assert truth.dtype == np.uint16
        np.testing.assert_array_equal(truth, expected)
        picture = dataset.picture(image)
        assert picture.dtype == np.uint8 and picture.shape == (*SIZE, 3)
        assert image.name == image.image.stem
    files = dataset.files()
    assert all(path.is_file() for path in files) and len(files) == len(set(files))
    assert {path for i in dataset.images for path in (i.image, i.truth)} <= set(files)


def test_every_benchmark_has_a_layout() -> None:
    assert {name for name, _, _ in SEMANTIC_LAYOUTS.values()} == set(SEMANTIC_SETS)


@pytest.mark.parametrize("place", ["", "VOCdevkit", VOC])
def test_the_root_may_be_above(place: str, tmp_path: Path) -> None:
    voc_tree(tmp_path)
    assert open_semantic("voc21", tmp_path / place).root == tmp_path / VOC


def test_one_with_more_truths_is_taken(tmp_path: Path) -> None:
    """SBD's masks are for more images than VOC's."""
    voc_tree(tmp_path, folder="SegmentationClassAug")
    shutil.copytree(tmp_path / VOC / "SegmentationClassAug", tmp_path / VOC / "SegmentationClass")
    names = [image.truth.parent.name for image in open_semantic("voc21", tmp_path).images]
    assert names == ["SegmentationClass"] * COUNT
    (tmp_path / VOC / "SegmentationClass" / "2007_000001.png").unlink()
    names = [image.truth.parent.name for image in open_semantic("voc21", tmp_path).images]
    assert names == ["SegmentationClassAug"] * COUNT


def test_a_list_of_paths_is_a_list_of_names(tmp_path: Path) -> None:
    voc_tree(tmp_path)
    row = "/JPEGImages/2007_000002.jpg /SegmentationClassAug/2007_000002.png"
    write_lines(tmp_path / VOC / "ImageSets/Segmentation/some.txt", [row, "", "2007_000000", row])
    dataset = open_semantic("voc21", tmp_path, split="some")
    assert [image.name for image in dataset.images] == ["2007_000002", "2007_000000"]


def test_truths_in_vocs_colours_are_read_by_them(tmp_path: Path) -> None:
    voc_tree(tmp_path)
    path = tmp_path / VOC / "SegmentationClass" / "2007_000001.png"
    with Image.open(path) as picture:
        picture.convert("RGB").save(path)
    dataset = open_semantic("voc21", tmp_path)
    np.testing.assert_array_equal(dataset.truth(dataset.images[1]), drawn(1, void=True))


def test_images_are_not_turned(tmp_path: Path) -> None:
    """Truths are of the pixels as they lie in the file."""
    voc_tree(tmp_path)
    path = tmp_path / VOC / "JPEGImages" / "2007_000001.jpg"
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.convert("L").save(path, exif=exif)
    dataset = open_semantic("voc21", tmp_path)
    assert dataset.picture(dataset.images[1]).shape == (*SIZE, 3)


@pytest.mark.parametrize("layout", ["mmseg", "d2", "pc"])
def test_context_in_the_old_order(layout: str, tmp_path: Path) -> None:
    context_tree(tmp_path, layout=layout, old_order=True)
    dataset = open_semantic("context60", tmp_path, old_order=True)
    for index, image in enumerate(dataset.images):
        np.testing.assert_array_equal(dataset.truth(image), drawn(index, SIZE, 59))
    straight = open_semantic("context60", tmp_path)
    assert (straight.truth(straight.images[1]) != drawn(1, SIZE, 59)).any()


def test_an_old_order_that_can_be_told_must_be_said(tmp_path: Path) -> None:
    context_tree(tmp_path, layout="pc")
    path = tmp_path / CONTEXT / "59_labels.txt"
    write_lines(path, published_59())
    with pytest.raises(DatasetError, match=r"59_labels.txt' has VOC's .*'pc59_val'.*give --old-or"):
        open_semantic("context59", tmp_path)
    assert path in open_semantic("context59", tmp_path, old_order=True).files()
    write_lines(path, numbered(class_list("context59").names))
    with pytest.raises(DatasetError, match=r"has the alphabet's order.*leave out --old-order"):
        open_semantic("context59", tmp_path, old_order=True)
    open_semantic("context59", tmp_path)


def test_what_has_no_old_order_says_so(tmp_path: Path) -> None:
    context_tree(tmp_path, layout="mat")
    with pytest.raises(ConfigError, match=r"trainval' holds .mat files.*leave out --old-order"):
        open_semantic("context59", tmp_path, old_order=True)
    with pytest.raises(ConfigError, match=r"old_order=True.* leave it out for voc20"):
        open_semantic("voc20", tmp_path, old_order=True)


@pytest.mark.parametrize("name", ["pascalcontext_val.txt", "ImageSets/Main/val.txt"])
def test_lists_of_contexts_splits(name: str, tmp_path: Path) -> None:
    context_tree(tmp_path, layout="mat", list_name=name)
    dataset = open_semantic("context459", tmp_path)
    assert tmp_path / CONTEXT / name in dataset.files() and len(dataset.images) == COUNT


def test_large_images_of_the_full_ade_are_scaled_with_their_truth(tmp_path: Path) -> None:
    ade847_tree(tmp_path, 1, (1023, 1280), layout="full")
    dataset = open_semantic("ade847", tmp_path)
    (image,) = dataset.images
    truth, picture = dataset.truth(image), dataset.picture(image)
    assert truth.shape == picture.shape[:2] == (512, 641)
    rows, columns = np.arange(512) * 1023 // 512, np.arange(641) * 1280 // 641
    expected = drawn(0, (1023, 1280), 847)[rows[:, None], columns]
    assert (truth != expected).mean() < 1e-3
    assert set(np.unique(truth)) == set(np.unique(expected))


def test_pictures_of_the_full_ade_that_are_no_larger_stay(tmp_path: Path) -> None:
    ade847_tree(tmp_path, 1, (512, 700), layout="full")
    dataset = open_semantic("ade847", tmp_path)
    assert dataset.truth(dataset.images[0]).shape == (512, 700)


def test_instances_need_pycocotools(tmp_path: Path) -> None:
    coco_tree(tmp_path, layout="instances")
    with (
        mock.patch.dict("sys.modules", {"pycocotools": None}),
        pytest.raises(ConfigError, match=r"pycocotools; pip install 'carvid\[coco]'"),
    ):
        open_semantic("coco-object", tmp_path)


def test_a_changed_json_is_read_again(tmp_path: Path) -> None:
    coco_tree(tmp_path, layout="instances")
    dataset = open_semantic("coco-object", tmp_path)
    path = tmp_path / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": []}))
    assert not dataset.truth(dataset.images[0]).any()


def test_a_vocs_other_year_is_told(tmp_path: Path) -> None:
    voc_tree(tmp_path, place="VOC2010")
    with pytest.raises(DatasetError, match="VOC2010' is another year's VOC; give VOC2012"):
        open_semantic("voc21", tmp_path / "VOC2010")


def test_names_of_sets_and_roots_are_suggested(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no data set 'voc2'; did you mean 'voc2[01]'"):
        open_semantic("voc2", tmp_path)
    with pytest.raises(DatasetError, match=r"no folder .*nowhere'; give"):
        open_semantic("voc21", tmp_path / "nowhere")


def test_the_real_pieces(shared: Path, tmp_path: Path) -> None:
    """Painted instances and the full ADE's colours give the maps that are there."""
    data = shared / "data" / "bench"
    if not data.is_dir():
        pytest.skip("the pieces of the benchmarks are not here")
    for name, folder, split in (
        ("voc21", "voc", "val"), ("context60", "context", "val"), ("ade150", "ade", "val"),
    ):  # fmt: skip
        assert open_semantic(name, data / folder, split=split).images
    ade = data / "ade" / FULL
    (tmp_path / FULL).mkdir()
    (tmp_path / FULL / "images").symlink_to(ade / "images")
    pairs, own = (open_semantic("ade847", root, split="train") for root in (ade, tmp_path))
    for pair, image in zip(pairs.images, own.images, strict=True):
        np.testing.assert_array_equal(own.truth(image), pairs.truth(pair))
        assert own.picture(image).shape == pairs.picture(pair).shape
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    (coco / "images").symlink_to(data / "coco" / "images")
    (coco / "annotations" / "instances_val2017.json").symlink_to(
        data / "coco" / "annotations" / "instances_val2017.json"
    )
    maps, painted = open_semantic("coco-object", data / "coco"), open_semantic("coco-object", coco)
    for left, right in zip(maps.images, painted.images, strict=True):
        np.testing.assert_array_equal(painted.truth(right), maps.truth(left))
