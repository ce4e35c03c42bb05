"""Folders of label maps against a drawn data set in VOC's layout: numbers, reports, and faults."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import ConfigError, DatasetError
from carvid.datasets.class_lists import class_list
from carvid.datasets.label_files import read_label_map
from carvid.datasets.open_semantic import open_semantic
from carvid.datasets.semantic_dataset import LabelledImage, SemanticDataset
from carvid.evaluation import label_maps
from carvid.evaluation.confusion import semantic_scores, usual_scores
from carvid.evaluation.label_maps import SemanticReport, score_label_maps
from carvid.media.label_png import write_label_png

NAMES = ("2007_000001", "2007_000002", "2007_000003", "2007_000004", "2007_000005")
SIZE = (6, 9)
TRUE = 15
"""A person; the cat, 8, is never found."""


def true_labels(index: int) -> NDArray[np.uint8]:
    labels = np.zeros(SIZE, np.uint8)
    labels[1:5, 1 : 3 + index] = TRUE
    labels[0, :2] = 8 if index != 4 else 0
    labels[5] = 255
    return labels if index != 3 else np.full(SIZE, 255, np.uint8)  # where nothing counts


def predicted_labels(index: int) -> NDArray[np.uint8]:
    labels = np.zeros(SIZE, np.uint8)
    labels[1:5, 2 : 4 + index] = TRUE
    labels[2, 7:] = 3  # a bird, of which there is none
    return labels


@pytest.fixture
def data(tmp_path: Path) -> SemanticDataset:
    voc = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    (voc / "ImageSets/Segmentation/val.txt").write_text("\n".join(NAMES) + "\n")
    for index, name in enumerate(NAMES):
        Image.new("RGB", SIZE[::-1]).save(voc / "JPEGImages" / f"{name}.jpg")
        write_label_png(voc / "SegmentationClass" / f"{name}.png", true_labels(index))
    return open_semantic("voc21", tmp_path / "data")


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    folder = tmp_path / "maps"
    write_maps(folder, predicted_labels)
    return folder


def write_maps(folder: Path, labels: Callable[[int], NDArray[np.uint8]]) -> None:
    folder.mkdir(parents=True)
    for index, name in enumerate(NAMES):
        write_label_png(folder / f"{name}.png", labels(index))


def counted(
    labels: Callable[[int], NDArray[np.uint8]], indices: range = range(5)
) -> NDArray[np.int64]:
    """The matrix, pixel by pixel."""
    matrix = np.zeros((21, 21), np.int64)
    for index in indices:
        pairs = zip(true_labels(index).flat, labels(index).flat, strict=True)
        for t, p in pairs:
            if t != 255:
                matrix[t, p] += 1
    return matrix


def score(data: SemanticDataset, folder: Path, protocol: str, **options: bool) -> SemanticReport:
    return score_label_maps(data, folder, protocol=protocol, **{"background": False} | options)


def test_numbers(data: SemanticDataset, maps: Path) -> None:
    matrix = counted(predicted_labels)
    report = score(data, maps, "released")
    assert np.array_equal(report.matrix, matrix)
    assert report.own == semantic_scores(matrix, background=False)
    assert score(data, maps, "usual").own == usual_scores(matrix)
    both = [score(data, maps, p, background=True).own for p in ("released", "usual")]
    assert both[0] == both[1] == semantic_scores(matrix, background=True)
    assert len({report.own.miou, both[0].miou, usual_scores(matrix).miou}) == 3
    assert report.never_labelled == (3,)


def test_each_image_by_the_same_protocol(data: SemanticDataset, maps: Path) -> None:
    released, usual = (score(data, maps, protocol) for protocol in ("released", "usual"))
    assert [each.name for each in released.images] == list(NAMES)
    for index in range(5):
        matrix = counted(predicted_labels, range(index, index + 1))
        expected = semantic_scores(matrix, background=False).miou, usual_scores(matrix).miou
        made = released.images[index].miou, usual.images[index].miou
        np.testing.assert_equal(made, expected)
    assert np.isnan(released.images[3].miou)
    worst = [each.miou for each in usual.worst(9)]
    assert worst == sorted(worst) and len(worst) == 4


def test_processes_count_the_same(
    data: SemanticDataset, maps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score(data, maps, "released")
    monkeypatch.setattr(label_maps, "IMAGES_PER_STRETCH", 2)
    parts = score_label_maps(data, maps, protocol="released", background=False, workers=2)
    assert parts.to_csv() == whole.to_csv() and np.array_equal(parts.matrix, whole.matrix)


def test_grey_and_deep_maps(data: SemanticDataset, maps: Path) -> None:
    whole = score(data, maps, "released")
    Image.fromarray(predicted_labels(0)).save(maps / f"{NAMES[0]}.png")
    Image.fromarray(predicted_labels(1).astype(np.uint16)).save(maps / f"{NAMES[1]}.png")
    for name, mode in zip(NAMES, "LIP", strict=False):
        with Image.open(maps / f"{name}.png") as picture:
            assert picture.mode.startswith(mode)
    assert score(data, maps, "released").to_csv() == whole.to_csv()


def test_folder_of_a_run(data: SemanticDataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_maps(run / "labels", predicted_labels)
    with pytest.raises(DatasetError) as error:
        score(data, run, "usual")
    assert str(error.value) == (
        f"'{run}' has no folder 'foreground', which the protocol usual reads; predict again, or "
        "choose the other protocol"
    )

    def foreground(index: int) -> NDArray[np.uint8]:
        labels = predicted_labels(index)
        return np.where(labels == 0, np.uint8(TRUE), labels)

    write_maps(run / "foreground", foreground)
    assert np.array_equal(score(data, run, "usual").matrix, counted(foreground))
    assert np.array_equal(score(data, run, "released").matrix, counted(predicted_labels))
    with_background = score(data, run, "usual", background=True)
    assert np.array_equal(with_background.matrix, counted(predicted_labels))


def test_reports(data: SemanticDataset, maps: Path) -> None:
    (maps / "other.png").write_bytes(b"")
    report = score(data, maps, "usual")
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert values["data"] == "PASCAL VOC 2012 val" and values["protocol"] == "usual"
    assert values["scores"]["usual"]["mIoU"] == report.own.miou
    assert values["classes"][TRUE - 1] == "person"
    assert values["per_image"][3] == {"name": NAMES[3], "mIoU": None}
    assert values["classes_predicted_but_never_labelled"] == [3]
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [row["of"] for row in rows] == ["all", "class", "class", *["image"] * 5]
    assert float(rows[0]["IoU"]) == report.own.miou
    person = next(row for row in rows if row["name"] == "person")
    assert int(person["label"]) == TRUE and float(person["IoU"]) == report.own.class_iou[TRUE]
    assert int(person["true_pixels"]) == report.matrix[TRUE].sum()
    assert int(person["predicted_pixels"]) == report.matrix[:, TRUE].sum()
    assert rows[-2]["IoU"] == ""
    lines = report.to_text().splitlines()
    assert lines[0].split() == ["PASCAL", "VOC", "2012", "val,", "usual,", "percent", "5", "images"]
    assert lines[1].split() == ["mIoU", f"{100 * report.own.miou:.2f}"]
    assert f"{100 * report.own.class_iou[TRUE]:.2f}" in next(x for x in lines if "person" in x)
    assert lines[-2] == "predicted, never true, no part of the mean: bird"
    assert lines[-1].startswith("note: ") and "other.png" in lines[-1]


def test_all_that_is_missing_is_told(data: SemanticDataset, maps: Path) -> None:
    for name in NAMES[1:3]:
        (maps / f"{name}.png").unlink()
    with pytest.raises(DatasetError) as error:
        score(data, maps, "released")
    assert str(error.value) == (
        f"'{maps}' lacks {NAMES[1]}.png, {NAMES[2]}.png; write a label map for every image"
    )
    for path in maps.iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"lacks all label maps \(5\); write"):
        score(data, maps, "released")


WRONG_MAPS = {
    "a colour": (Image.new("RGB", SIZE[::-1]), "is a picture of colours (mode RGB), and no map"),
    "black and white": (Image.new("1", SIZE[::-1]), "is a picture of colours (mode 1)"),
    "no such class": (
        Image.new("L", SIZE[::-1], 21),
        "has label 21, and there are 20 classes; write 0 for background and k for class k",
    ),
    "another size": (
        Image.new("L", (8, 6)),
        "is 8×6, its truth '{truth}' 9×6; write maps in the size of the image",
    ),
}


@pytest.mark.parametrize("name", WRONG_MAPS)
def test_wrong_maps(name: str, data: SemanticDataset, maps: Path) -> None:
    picture, told = WRONG_MAPS[name]
    for image in data.images[1:3]:
        picture.save(maps / f"{image.name}.png")
    with pytest.raises(DatasetError) as error:
        score(data, maps, "released")
    line = str(error.value)
    assert line.startswith(f"'{maps / NAMES[1]}.png' ")
    assert told.format(truth=data.images[1].truth) in line and "\n" not in line


def test_what_was_asked_for(data: SemanticDataset, maps: Path) -> None:
    with pytest.raises(ConfigError, match="unknown protocol 'relased'; did you mean 'released'"):
        score(data, maps, "relased")
    with pytest.raises(ConfigError, match="workers is 0"):
        score_label_maps(data, maps, protocol="usual", background=True, workers=0)
    with pytest.raises(DatasetError, match="no folder"):
        score(data, maps / "nowhere", "usual")


def test_background_alone(data: SemanticDataset, tmp_path: Path) -> None:
    write_maps(tmp_path / "none", lambda index: np.zeros(SIZE, np.uint8))
    report = score(data, tmp_path / "none", "released")
    assert report.to_json()["scores"]["released"]["mIoU"] is None
    assert "nothing is counted" in report.notes[0] and "nan" in report.to_text()
    assert score(data, tmp_path / "none", "usual").own.miou == 0


class Full(SemanticDataset):
    """ADE's 847 classes, as 16-bit PNGs."""

    name = "ADE20K-847"

    @classmethod
    def open(cls, root: Path, split: str, classes: object) -> Full:
        image = LabelledImage("a", root / "truth.png", root / "truth.png")
        return cls(root, split, class_list("ade847"), (image,), ())

    def labels(self, image: LabelledImage) -> NDArray[np.uint16]:
        return read_label_map(image.truth)


def test_one_class_too_few_is_told_beside(tmp_path: Path) -> None:
    truth = np.array([[0, 1, 1, 847, 5, 5]], np.uint16)
    prediction = np.array([[1, 1, 847, 847, 5, 0]], np.uint16)
    (tmp_path / "maps").mkdir()
    Image.fromarray(truth).save(tmp_path / "truth.png")
    Image.fromarray(prediction).save(tmp_path / "maps" / "a.png")
    data = Full.open(tmp_path, "val", None)
    report = score(data, tmp_path / "maps", "released")
    assert list(report.scores) == ["released", "released, 847 classes"]
    assert report.own.class_iou == {1: 1 / 2, 5: 1, 847: 1 / 2}
    assert report.scores["released, 847 classes"].class_iou == {1: 1, 5: 1}
    assert list(score(data, tmp_path / "maps", "usual").scores) == ["usual"]
    truth[0, 0], prediction[0, 0] = 846, 847
    Image.fromarray(truth).save(tmp_path / "truth.png")
    Image.fromarray(prediction).save(tmp_path / "maps" / "a.png")
    report = score(data, tmp_path / "maps", "released")
    assert list(report.scores) == ["released"]
    assert report.notes[0].startswith("released, 847 classes: label 847 is predicted where 846")
