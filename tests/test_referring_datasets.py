from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import ConfigError, DatasetError
from carvid.datasets.coco_instances import read_instances
from carvid.datasets.open_referring import open_referring
from carvid.datasets.pickles import read_pickle
from tests.referring_trees import (
    GREFS,
    IMAGES,
    OBJECTS,
    REFS,
    RLE_ID,
    SIZES,
    gref_tree,
    python2_pickle,
    ref,
    refer_tree,
    write_images,
    write_parquet,
)


def boxes_of(annotation_id: int) -> NDArray[np.int64]:
    """How many of an object's boxes each pixel is in, drawn without pycocotools."""
    image_id, boxes = OBJECTS[annotation_id]
    counts = np.zeros(SIZES[image_id], int)
    for left, top, right, bottom in boxes:
        counts[top:bottom, left:right] += 1
    return counts


def line_of(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return refer_tree(tmp_path)


# refs and sentences ---------------------------------------------------------------------------


def test_all_sentences_of_a_ref_are_one_sample(root: Path) -> None:
    dataset = open_referring("refcoco", root)
    assert (dataset.name, dataset.split, dataset.root) == ("RefCOCO", "val", root)
    assert [(s.name, s.sentences, s.annotations) for s in dataset.samples] == [
        ("0", ("leftmost dog", "the dog", "dog", "dog"), (71,)),
        ("1", ("striped thing",), (72,)),
    ]
    image = root / IMAGES / "COCO_train2014_000000000007.jpg"
    assert [sample.image for sample in dataset.samples] == [image, image]
    folder = root / "refcoco"
    assert dataset.files() == [folder / "refs(unc).p", folder / "instances.json", image]


def test_pixels_in_two_polygons_are_background_as_released(root: Path) -> None:
    dataset = open_referring("refcoco", root)
    for sample, annotation_id in zip(dataset.samples, (71, 72), strict=True):
        counts = boxes_of(annotation_id)
        np.testing.assert_array_equal(dataset.truth(sample), counts == 1)
        np.testing.assert_array_equal(dataset.whole_truth(sample), counts > 0)
    assert (boxes_of(72) == 2).any()


@pytest.mark.parametrize(("split", "image_id"), [("testA", 8), ("testB", 8)])
def test_other_splits(root: Path, split: str, image_id: int) -> None:
    samples = open_referring("refcoco", root, split=split).samples
    assert [sample.image_id for sample in samples] == [image_id]


def test_run_lengths(root: Path) -> None:
    dataset = open_referring("refcoco", root, split="testB")
    truth = dataset.truth(dataset.samples[0])
    assert truth.shape == SIZES[8]
    assert truth[:, :5].all() and not truth[:, 5:].any()


def test_compressed_run_lengths(root: Path) -> None:
    tools = pytest.importorskip("pycocotools.mask")
    mask = np.zeros(SIZES[8], np.uint8)
    mask[3:7, 2:9] = 1
    path = root / "refcoco" / "instances.json"
    values = json.loads(path.read_text())
    code = tools.encode(np.asfortranarray(mask))
    values["annotations"][-1]["segmentation"] = {**code, "counts": code["counts"].decode()}
    path.write_text(json.dumps(values))
    np.testing.assert_array_equal(read_instances(path, {8}).parts(RLE_ID), mask)


def test_who_made_the_splits(root: Path) -> None:
    google = [ref(9, 81, ["by google"], "test", 8)]
    (root / "refcoco" / "refs(google).p").write_bytes(pickle.dumps(google, protocol=2))
    by_google = open_referring("refcoco", root, split="test", by="google")
    assert by_google.samples[0].sentences == ("by google",)
    assert open_referring("refcoco", root, by="unc") == open_referring("refcoco", root)
    with pytest.raises(ConfigError, match="RefCOCO has no splits by 'umd'; choose of unc, google"):
        open_referring("refcoco", root, by="umd")


@pytest.mark.parametrize(
    ("name", "folder", "stem"),
    [("refcoco+", "refcoco+", "refs(unc)"), ("refcocog", "refcocog", "refs(umd)"),
     ("refcoco+", "refcocoplus", "refs(unc)")],
)  # fmt: skip
def test_sisters(tmp_path: Path, name: str, folder: str, stem: str) -> None:
    assert len(open_referring(name, refer_tree(tmp_path, folder, stem)).samples) == 2


def test_empty_sentences_are_not_asked(root: Path) -> None:
    refs = [ref(0, 71, ["", '"/"', "dog"], "val"), ref(1, 71, [" "], "val")]
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs))
    samples = open_referring("refcoco", root).samples
    assert [(s.name, s.sentences) for s in samples] == [("0", ("dog",))]


# where things lie -----------------------------------------------------------------------------


@pytest.mark.parametrize("images", ["images/train2014", "train2014"])
@pytest.mark.parametrize("own", [False, True])
def test_images_elsewhere_and_the_sets_own_folder(root: Path, images: str, own: bool) -> None:
    (root / images).parent.mkdir(exist_ok=True)
    shutil.move(root / IMAGES, root / images)
    shutil.rmtree(root / "images" / "mscoco")
    dataset = open_referring("refcoco", root / "refcoco" if own else root)
    assert dataset.samples[0].image.parent == root / images


def test_all_in_one_folder(root: Path) -> None:
    shutil.move(root / "images", root / "refcoco" / "images")
    assert len(open_referring("refcoco", root / "refcoco").samples) == 2


def test_another_sets_folder(root: Path) -> None:
    with pytest.raises(DatasetError, match="is RefCOCO's folder; give that of RefCOCOg"):
        open_referring("refcocog", root / "refcoco")


def test_refs_as_json(root: Path) -> None:
    before = open_referring("refcoco", root)
    (root / "refcoco" / "refs(unc).p").unlink()
    (root / "refcoco" / "refs(unc).json").write_text(json.dumps(REFS))
    assert open_referring("refcoco", root).samples == before.samples


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    whole = open_referring("refcoco", refer_tree(tmp_path / "refer"))
    root = tmp_path / "hub"
    write_images(root / "images" / "train2014")
    data = root / "refcoco" / "data"
    write_parquet(data / "validation-00000-of-00002.parquet", REFS[:1])
    write_parquet(data / "validation-00001-of-00002.parquet", REFS[1:2])
    write_parquet(data / "test-00000-of-00001.parquet", REFS[2:3])
    dataset = open_referring("refcoco", root)
    told = [(s.name, s.sentences, s.annotations, s.image.name) for s in dataset.samples]
    assert told == [(s.name, s.sentences, s.annotations, s.image.name) for s in whole.samples]
    for ours, theirs in zip(dataset.samples, whole.samples, strict=True):
        np.testing.assert_array_equal(dataset.truth(ours), whole.truth(theirs))
    assert [path.suffix for path in dataset.files()] == [".parquet", ".parquet", ".jpg"]
    in_test = open_referring("refcoco", root, split="testA")  # the hub's test is testA
    assert [sample.name for sample in in_test.samples] == ["2"]
    with pytest.raises(DatasetError, match="lacks refcoco/refs"):
        open_referring("refcoco", root, split="testB")
    with pytest.raises(DatasetError, match="no split 'test'; choose of train, val, testA, testB"):
        open_referring("refcoco", root, split="test")
    (data / "test-00000-of-00001.parquet").write_bytes(b"no parquet")
    with pytest.raises(DatasetError) as error:
        open_referring("refcoco", root, split="testA")
    assert "test-00000-of-00001.parquet' cannot be read" in line_of(error)


# gRefCOCO -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "p"])
def test_generalized_refs_are_asked_sentence_by_sentence(tmp_path: Path, form: str) -> None:
    root = gref_tree(tmp_path)
    if form == "p":
        (root / "grefcoco" / "grefs(unc).json").unlink()
        (root / "grefcoco" / "grefs(unc).p").write_bytes(pickle.dumps(GREFS))
    dataset = open_referring("grefcoco", root)
    assert dataset.name == "gRefCOCO"
    assert [(s.name, s.sentences, s.annotations) for s in dataset.samples] == [
        ("4_0", ("Both Dogs",), (71, 72)),
        ("4_2", ("all",), (71, 72)),
        ("5_0", ("zebra",), ()),
    ]
    both, _, none = dataset.samples
    first, second = boxes_of(71), boxes_of(72)
    np.testing.assert_array_equal(dataset.truth(both), first == 1)  # the first object only
    np.testing.assert_array_equal(dataset.whole_truth(both), (first > 0) | (second > 0))
    assert not dataset.truth(none).any() and not dataset.whole_truth(none).any()


# pickles --------------------------------------------------------------------------------------


class RunsCode:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.flag),)


def test_a_pickle_that_would_run_code_is_refused(root: Path) -> None:
    path = root / "refcoco" / "refs(unc).p"
    flag = root / "was run"
    path.write_bytes(pickle.dumps([RunsCode(flag)], protocol=2))
    with pytest.raises(DatasetError) as error:
        open_referring("refcoco", root)
    assert not flag.exists()
    assert f"'{path}' would run code" in line_of(error)
    assert "posix.mkdir" in line_of(error) and "remove it" in line_of(error)


@pytest.mark.parametrize("value", [{1}, 2j, np.int64(3), range(4), Path("x")])
def test_nothing_with_a_name_is_allowed(tmp_path: Path, value: object) -> None:
    """Of the builtins, too, none: protocol 2 names them all."""
    path = tmp_path / "x.p"
    path.write_bytes(pickle.dumps(value, protocol=2))
    with pytest.raises(DatasetError, match="would run code"):
        read_pickle(path)


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02", b"no pickle", b"\x80\x02]q\x00(K\x01e", b"h\x05."]
)
def test_a_damaged_pickle(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.p"
    path.write_bytes(data)
    with pytest.raises(DatasetError) as error:
        read_pickle(path)
    assert f"'{path}' cannot be read as a pickle" in line_of(error)


def test_a_pickle_that_holds_itself(tmp_path: Path) -> None:
    endless: list[object] = []
    endless.append(endless)
    path = tmp_path / "x.p"
    path.write_bytes(pickle.dumps(endless))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_pickle(path)


def test_pickles_of_python_2(root: Path) -> None:
    before = open_referring("refcoco", root)
    path = root / "refcoco" / "refs(unc).p"
    path.write_bytes(python2_pickle(REFS))
    assert open_referring("refcoco", root).samples == before.samples
    path.write_bytes(python2_pickle([ref(0, 71, ["café"], "val")]))
    assert open_referring("refcoco", root).samples[0].sentences == ("café",)
    path.write_bytes(python2_pickle(["café".encode("latin-1")]))
    assert read_pickle(path) == ["café"]
    path.write_bytes(pickle.dumps({b"ref_id": [b"a", {b"b": 3}]}, protocol=4))  # Python 2's, again
    assert read_pickle(path) == {"ref_id": ["a", {"b": 3}]}


# what is missing ------------------------------------------------------------------------------


def test_all_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        open_referring("refcocog", tmp_path)
    for part in (
        "refcocog/refs(umd).p",
        "refcocog/instances.json",
        "refcocog.zip",
        "train2014.zip",
    ):
        assert part in line_of(error)
    with pytest.raises(DatasetError, match=r"github\.com/henghuiding/gRefCOCO"):
        open_referring("grefcoco", tmp_path)
    with pytest.raises(DatasetError, match="no folder"):
        open_referring("refcoco", tmp_path / "none")
    with pytest.raises(ConfigError, match="did you mean 'refcocog'"):
        open_referring("refcoco_g", tmp_path)


def test_missing_instances(root: Path) -> None:
    (root / "refcoco" / "instances.json").unlink()
    with pytest.raises(DatasetError) as error:
        open_referring("refcoco", root)
    assert "lacks refcoco/instances.json (refcoco.zip" in line_of(error)
    assert "train2014" not in line_of(error)


def test_a_missing_split(root: Path) -> None:
    with pytest.raises(DatasetError) as error:
        open_referring("refcoco", root, split="test")
    assert "has no split 'test'; choose of testA, testB, val" in line_of(error)


def test_missing_images_and_objects(root: Path) -> None:
    (root / IMAGES / "COCO_train2014_000000000007.jpg").unlink()
    path = root / "refcoco" / "instances.json"
    values = json.loads(path.read_text())
    values["annotations"] = values["annotations"][1:]
    path.write_text(json.dumps(values))
    with pytest.raises(DatasetError) as error:
        open_referring("refcoco", root)
    assert "1 image (COCO_train2014_000000000007.jpg; from train2014.zip" in line_of(error)
    assert "1 object of its images in instances.json (71; from refcoco.zip" in line_of(error)


def test_a_truth_of_another_size(root: Path) -> None:
    path = root / IMAGES / "COCO_train2014_000000000007.jpg"
    Image.new("RGB", (31, 20)).save(path)
    dataset = open_referring("refcoco", root)
    with pytest.raises(DatasetError) as error:
        dataset.truth(dataset.samples[0])
    assert f"'{path}' has 20×31 pixels (height × width), and its truth 20×30" in line_of(error)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda refs: refs[0].pop("ann_id"), "lacks the key 'ann_id'"),
        (lambda refs: refs[0].update(image_id="x"), "invalid literal"),
        (lambda refs: refs.append(refs[0]), "has ref 0 twice"),
        (lambda refs: refs.append(5), "cannot be read"),
    ],
)
def test_refs_of_another_form(root: Path, change: Any, told: str) -> None:
    refs = json.loads(json.dumps(REFS))
    change(refs)
    path = root / "refcoco" / "refs(unc).p"
    path.write_bytes(pickle.dumps(refs))
    with pytest.raises(DatasetError) as error:
        open_referring("refcoco", root)
    assert told in line_of(error) and str(path) in line_of(error)


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"images": [{"id": 7}], "annotations": []}', "[" * 9999]
)
def test_instances_of_another_form(root: Path, text: str) -> None:
    path = root / "refcoco" / "instances.json"
    path.write_text(text)
    with pytest.raises(DatasetError) as error:
        open_referring("refcoco", root)
    assert str(path) in line_of(error)


def test_an_outline_that_cannot_be_drawn(root: Path) -> None:
    path = root / "refcoco" / "instances.json"
    values = json.loads(path.read_text())
    values["annotations"][0]["segmentation"] = [[1, 2]]
    values["annotations"][1]["segmentation"] = {"size": [9, 9], "counts": [0, 81]}
    path.write_text(json.dumps(values))
    dataset = open_referring("refcoco", root)
    for sample in dataset.samples:
        with pytest.raises(DatasetError, match=r"annotation 7[12] cannot be drawn"):
            dataset.truth(sample)


def test_the_research_data(shared: Path) -> None:
    root = shared / "data" / "bench" / "refer"
    if not root.is_dir():
        pytest.skip("the research data is not here")
    dataset = open_referring("refcoco", root)
    truths = [(dataset.truth(s), dataset.whole_truth(s)) for s in dataset.samples]
    assert any((one != whole).any() for one, whole in truths)
    assert open_referring("refcocog", root, by="google") != open_referring("refcocog", root)
