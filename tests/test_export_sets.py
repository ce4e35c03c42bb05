"""Data sets for trainers, of one run and of several, come back as the masks are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import carvid
from carvid.base.errors import ConfigError, OutputError, VideoError
from carvid.base.interrupt import Stopped, stop_when
from carvid.base.masks import iou
from carvid.exports.data_set import category_names
from carvid.exports.export import export
from carvid.exports.runs import find_runs
from carvid.exports.written import Stems, safe_stem
from carvid.run.asked import Asked
from carvid.run.layout import LIST_NAME, check_contents
from carvid.run.track import Track
from tests.conftest import carvid as run_carvid
from tests.export_scenes import (
    POLYGON_IOU,
    SIZE,
    categories_of_yolo,
    images,
    odd_masks,
    run_of,
    things_of_labelme,
    yolo_names,
)

ODD = list(odd_masks().values())
TEXTS = ("собака: 'белая'", "yes")
PYCOCOTOOLS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SETS = ("coco", "youtube-vis", "yolo", "labelme")


def odd_run(folder: Path, **how: Any) -> Track:
    """A run of two expressions: each odd mask is the first one's in a frame, the second one has
    what is left of the lower half in every third; the last frame is empty."""
    masks = np.zeros((len(ODD) + 1, 2, *SIZE), bool)
    for t, mask in enumerate(ODD):
        masks[t, 0] = mask
        if t % 3 == 0:
            masks[t, 1, 17:] = ~mask[17:]
    return run_of(images(folder, len(masks)), masks, TEXTS, **how)


def square(count: int, at: int) -> NDArray[np.bool_]:
    """Masks of one expression, bool (T, 1, H, W)."""
    masks = np.zeros((count, 1, *SIZE), bool)
    masks[:, 0, 3:12, at : at + 9] = True
    return masks


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if LIST_NAME not in name)


@pytest.mark.parametrize("cut", [np.trunc, np.round])
def test_yolo_gives_the_masks_back(tmp_path: Path, cut: Any) -> None:
    track = odd_run(tmp_path / "frames")
    export(track, tmp_path, ["yolo"])
    folder = tmp_path / "yolo"
    assert yolo_names(folder) == list(TEXTS)
    for t, masks in enumerate(track.masks.planes):  # type: ignore[attr-defined]
        image = cv2.imread(str(folder / "images" / "train" / f"{t:04d}.jpg"))
        assert image is not None and image.shape[:2] == SIZE
        found = categories_of_yolo(folder / "labels" / "train" / f"{t:04d}.txt", SIZE, cut)
        assert set(found) == set(np.flatnonzero(masks.any(axis=(1, 2))))
        assert all(iou(mask, masks[k]) >= POLYGON_IOU for k, mask in found.items())
    assert (folder / "labels" / "train" / f"{len(ODD):04d}.txt").read_bytes() == b""
    assert "path" not in (folder / "data.yaml").read_text()  # so that the folder may be moved


def test_labelme_gives_the_masks_back(tmp_path: Path) -> None:
    track = odd_run(tmp_path / "frames")
    export(track, tmp_path, ["labelme"])
    for t, masks in enumerate(track.masks.planes):  # type: ignore[attr-defined]
        found = things_of_labelme(tmp_path / "labelme" / f"{t:04d}.json")
        assert set(found) == {(TEXTS[k], k + 1) for k in np.flatnonzero(masks.any(axis=(1, 2)))}
        assert all(iou(mask, masks[k - 1]) >= POLYGON_IOU for (_, k), mask in found.items())


@PYCOCOTOOLS
def test_youtube_vis_gives_the_masks_back(tmp_path: Path) -> None:
    tools = pytest.importorskip("pycocotools.mask")
    track = odd_run(tmp_path / "frames")
    export(track, tmp_path, ["youtube-vis"])
    truth, results = (
        json.loads((tmp_path / "youtube_vis" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("instances", "results")
    )
    assert list(truth) == ["info", "licenses", "videos", "categories", "annotations"]
    (video,) = truth["videos"]
    assert (video["height"], video["width"]) == SIZE and video["length"] == len(track)
    assert video["file_names"] == [f"frames/{t:04d}.png" for t in range(len(track))]
    assert [each["name"] for each in truth["categories"]] == list(TEXTS)
    for k, (one, other) in enumerate(zip(truth["annotations"], results, strict=True)):
        assert one["category_id"] == other["category_id"] == k + 1
        assert one["video_id"] == other["video_id"] == 1 and one["iscrowd"] == 0
        masks = track.masks.planes[:, k]  # type: ignore[attr-defined]
        there = masks.any(axis=(1, 2))
        assert other["score"] == pytest.approx(track.scores[there, k].mean(), abs=1e-6)
        assert one["segmentations"] == other["segmentations"]
        for mask, code, box, area in zip(
            masks, one["segmentations"], one["bboxes"], one["areas"], strict=True
        ):
            assert (code is None) == (box is None) == (area is None) == (not mask.any())
            if code is not None:
                assert (tools.decode(code) == mask).all() and area == mask.sum()
                assert tools.toBbox(code).tolist() == box


def test_a_run_in_which_nothing_is_found_is_a_data_set_of_its_frames(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    export(run_of(images(tmp_path / "f", 1), 0 * square(1, 1) > 0, ("dog",)), tmp_path, SETS)
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert len(coco["images"]) == len(coco["categories"]) == 1 and coco["annotations"] == []
    vis = json.loads((tmp_path / "youtube_vis" / "instances.json").read_text())
    assert len(vis["videos"]) == 1 and vis["annotations"] == []
    assert json.loads((tmp_path / "youtube_vis" / "results.json").read_text()) == []
    assert files(tmp_path / "yolo") == [
        "data.yaml", "images/train/0000.jpg", "labels/train/0000.txt",
    ]  # fmt: skip
    assert json.loads((tmp_path / "labelme" / "0000.json").read_text())["shapes"] == []


def test_instances_are_of_one_category(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    masks = np.concatenate([square(2, at) for at in (0, 12, 30)], axis=1)
    asked = (Asked("dog", True, (1, 2)), Asked("dog 2 go", False, (3,)))
    track = run_of(images(tmp_path / "f", 2), masks, ("dog 1", "dog 2", "dog 2 go"), asked)
    assert category_names(track.facts) == ["dog", "dog", "dog 2 go"]
    export(track, tmp_path, SETS)
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [each["name"] for each in coco["categories"]] == ["dog", "dog 2 go"]
    assert [each["category_id"] for each in coco["annotations"]] == 2 * [1, 1, 2]
    assert [each["track_id"] for each in coco["annotations"]] == 2 * [1, 2, 3]
    vis = json.loads((tmp_path / "youtube_vis" / "instances.json").read_text())
    assert [each["category_id"] for each in vis["annotations"]] == [1, 1, 2]
    lines = (tmp_path / "yolo" / "labels" / "train" / "0000.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "0", "1"]
    shapes = json.loads((tmp_path / "labelme" / "0000.json").read_text())["shapes"]
    assert [(each["label"], each["group_id"], each["description"]) for each in shapes] == [
        ("dog", 1, "dog 1"), ("dog", 2, "dog 2"), ("dog 2 go", 3, ""),
    ]  # fmt: skip


def test_classes_are_categories(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    masks = np.concatenate([square(1, 0), square(1, 12)], axis=1)
    track = run_of(images(tmp_path / "f", 1), masks, ("sky", "dog"), mode="semantic")
    export(track, tmp_path, SETS)
    kinds = json.loads((tmp_path / "coco.json").read_text())["categories"]
    assert [each["name"] for each in kinds] == ["sky", "dog"] and "isthing" in kinds[0]
    assert yolo_names(tmp_path / "yolo") == ["sky", "dog"]


# several runs --------------------------------------------------------------------------------


def clips(tmp_path: Path, count: int) -> dict[str, Track]:
    """Runs of three frames; the expression of the even ones is "dog", of the others "cat"."""
    return {
        f"клип {k}": run_of(
            images(tmp_path / f"c{k}", 3), square(3, 2 * k), (["dog", "cat"][k % 2],)
        )
        for k in range(count)
    }


@PYCOCOTOOLS
def test_runs_are_joined(tmp_path: Path) -> None:
    coco_tools = pytest.importorskip("pycocotools.coco")
    runs = clips(tmp_path, 3)
    carvid.export(runs, tmp_path / "set", SETS)
    coco = coco_tools.COCO(str(tmp_path / "set" / "coco.json"))
    assert [each["name"] for each in coco.dataset["categories"]] == ["dog", "cat"]
    names = [each["file_name"] for each in coco.dataset["images"]]
    assert names == [f"клип {k}/{t:04d}.png" for k in range(3) for t in range(3)]
    assert sorted(coco.imgs) == sorted(coco.anns) == list(range(1, 10))
    for each in coco.dataset["annotations"]:
        clip = (each["image_id"] - 1) // 3
        assert each["category_id"] == clip % 2 + 1 and each["track_id"] == clip + 1
        assert (coco.annToMask(each) == square(1, 2 * clip)[0, 0]).all()
    vis = json.loads((tmp_path / "set" / "youtube_vis" / "instances.json").read_text())
    assert [each["id"] for each in vis["videos"]] == [1, 2, 3]
    assert [each["video_id"] for each in vis["annotations"]] == [1, 2, 3]
    assert [each["category_id"] for each in vis["annotations"]] == [1, 2, 1]
    assert vis["videos"][1]["file_names"][0] == "клип 1/0000.png"
    yolo = tmp_path / "set" / "yolo"
    for part, numbers in (("train", (0, 1)), ("val", (2,))):  # the last one of few
        stems = [f"клип_{k}_{t:04d}" for k in numbers for t in range(3)]
        assert files(yolo / "images" / part) == [f"{stem}.jpg" for stem in stems]
        assert files(yolo / "labels" / part) == [f"{stem}.txt" for stem in stems]
    label = yolo / "labels" / "train" / "клип_1_0002.txt"
    ((category, mask),) = categories_of_yolo(label, SIZE).items()
    assert category == 1 and (mask == square(1, 2)[0, 0]).all()
    assert len(files(tmp_path / "set" / "labelme")) == 18


def test_every_fifth_run_is_for_validation(tmp_path: Path) -> None:
    export(clips(tmp_path, 11), tmp_path / "set", ["yolo"])
    found = {name.rpartition("_")[0] for name in files(tmp_path / "set/yolo/images/val")}
    assert found == {"клип_4", "клип_9"}
    assert len(files(tmp_path / "set/yolo/images/train")) == 27


def test_what_is_no_data_set_is_of_one_run(tmp_path: Path) -> None:
    runs = clips(tmp_path, 2)
    for name in ("alpha", "davis", "png", "html"):
        with pytest.raises(
            ConfigError, match=rf"format {name} is of one run; coco, .* join several"
        ):
            export(runs, tmp_path / "set", ["coco", name])
    with pytest.raises(ConfigError, match="give at least one run"):
        export({}, tmp_path / "set", ["yolo"])
    object.__setattr__(runs["клип 1"].facts.video, "live", True)
    with pytest.raises(OutputError, match=r"клип 1: '.*' comes only once"):
        export(runs, tmp_path / "set", ["yolo"])
    object.__setattr__(runs["клип 1"].facts.video, "live", False)
    (tmp_path / "c1").rename(tmp_path / "gone")
    with pytest.raises(VideoError, match="клип 1: no file"):
        export(runs, tmp_path / "set", ["labelme"])
    assert not (tmp_path / "set").exists()


# files ---------------------------------------------------------------------------------------


def test_an_earlier_longer_export_goes_and_nothing_else(tmp_path: Path) -> None:
    export(clips(tmp_path / "a", 2), tmp_path / "set", ["yolo", "labelme"])
    mine = tmp_path / "set" / "yolo" / "images" / "train" / "mine.jpg"
    mine.write_bytes(b"mine")
    for part in ("train", "val"):
        (tmp_path / "set" / "yolo" / "labels" / f"{part}.cache").write_bytes(b"of Ultralytics")
    export(clips(tmp_path / "b", 1), tmp_path / "set", ["yolo", "labelme"])
    stems = [f"клип_0_{t:04d}" for t in range(3)]
    assert files(tmp_path / "set" / "yolo") == sorted([
        "data.yaml", "images/train/mine.jpg", *(f"images/train/{stem}.jpg" for stem in stems),
        *(f"labels/train/{stem}.txt" for stem in stems),
    ])  # fmt: skip
    assert len(files(tmp_path / "set" / "labelme")) == 6


def test_an_export_that_was_stopped_is_in_the_list(tmp_path: Path) -> None:
    asked = iter([False, False, True])
    runs, folder = clips(tmp_path, 2), tmp_path / "set"
    with pytest.raises(Stopped), stop_when(lambda: next(asked)):
        export(runs, folder, ["yolo"])
    assert len(files(folder / "yolo")) == 6 and not (folder / "yolo" / "data.yaml").exists()
    export(clips(tmp_path / "b", 1), folder, ["yolo"])
    assert len(files(folder / "yolo")) == 7


def test_a_list_leads_nowhere_else(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim.txt", tmp_path / "set" / "yolo"
    victim.write_text("here")
    folder.mkdir(parents=True)
    (folder / LIST_NAME).write_text('"../../victim.txt"\n"/etc/x"\n3\n"cut')
    export(clips(tmp_path, 1), tmp_path / "set", ["yolo"])
    assert victim.read_text() == "here"


def test_a_run_with_data_sets_in_it_can_be_replaced(tmp_path: Path) -> None:
    track, out = odd_run(tmp_path / "frames"), tmp_path / "out"
    track.save(out)
    export(Track.open(out), out, ["yolo", "labelme", "png"])
    (out / "yolo" / "labels" / "train.cache").write_bytes(b"of Ultralytics")
    check_contents(out)
    track.save(out, overwrite=True)
    assert not (out / "yolo").exists() and not (out / "png").exists()
    export(Track.open(out), out, ["labelme"])
    (out / "labelme" / "mine.json").write_text("{}")
    with pytest.raises(OutputError, match=r"mine\.json' is none of what carvid wrote"):
        track.save(out, overwrite=True)


def test_names_that_some_system_takes_for_one_are_told_apart() -> None:
    stems = Stems()
    names = [
        "a/b",
        "a_b",
        "A_B",
        "caf\u00e9",
        "cafe\u0301",
        "x\udce9:?",
        "..",
        "shot.1001",
        "é" * 99,
    ]
    made = [stems.of(name) for name in names]
    assert made[:8] == ["a_b", "a_b_2", "A_B_3", "café", "café_2", "x___", "_", "shot.1001"]
    assert len(made[8].encode()) <= 150
    assert safe_stem("100% #1") == "100___1"


# folders -------------------------------------------------------------------------------------


def test_a_batch_and_runs_named_alike(tmp_path: Path) -> None:
    for k, folder in enumerate(("batch/clip2", "batch/clip10", "other/clip2")):
        track = run_of(images(tmp_path / f"in{k}", 2), square(2, 5 * k), ("dog",))
        track.save(tmp_path / folder)
    (tmp_path / "batch" / "begun" / ".carvid").mkdir(parents=True)
    result = run_carvid("export", tmp_path / "batch", tmp_path / "other" / "clip2", "-f", "yolo",
                        "-o", tmp_path / "set")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "left out, as unfinished: 1 run, 'begun' for one" in result.stderr
    assert result.stdout.endswith("set, of 3 clips\n")
    assert {name.rpartition("_")[0] for name in files(tmp_path / "set/yolo/images/train")} == {
        "clip2", "clip10",
    }  # fmt: skip
    assert files(tmp_path / "set/yolo/images/val") == ["clip2_2_0000.jpg", "clip2_2_0001.jpg"]
    assert list(find_runs([tmp_path / "batch"])) == ["clip2", "clip10"]


@pytest.mark.parametrize(
    ("folders", "options", "message"),
    [
        (["a", "b"], [], "several runs goes, with --out"),
        (["a", "a"], ["-o", "set"], "again; give each run once"),
        (["a", "frames"], ["-o", "set"], "no folder of a finished run, and holds none"),
        (["a", "b"], ["-o", "set", "-f", "green"], "format green is of one run"),
        (["frames"], ["-o", "set"], "no folder of a finished run; give"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_joined_take_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: list[str], options: list[str],
    message: str,
) -> None:  # fmt: skip
    for name in ("a", "b"):
        run_of(images(tmp_path / "in" / name, 1), square(1, 3), ("dog",)).save(tmp_path / name)
    (tmp_path / "frames").mkdir()
    monkeypatch.chdir(tmp_path)
    result = run_carvid("export", *folders, "-f", "labelme", *options)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "set").exists()
