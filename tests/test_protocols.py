from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import CarvidError, ConfigError, DatasetError
from carvid.evaluation import workers as module
from carvid.evaluation.protocols import PROTOCOLS, evaluate
from carvid.evaluation.regions import Statistics, boundary_f, jaccard
from carvid.evaluation.report import (
    F_COLOR,
    J_COLOR,
    PANEL_HW,
    ObjectScore,
    Report,
    compare,
    plot_worst,
)
from carvid.media.label_png import read_label_png, write_label_png
from carvid.workers.processes import Event
from tests.trees import BLANK, FRAMES, OBJECTS, SIZE, drop, paint, put, scene, scored_tree

OFFICIAL_TOLERANCE = 1e-9
LETTERS = {"mean": "M", "recall": "R", "decay": "D"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    scored_tree(tmp_path)
    return tmp_path


def run(tree: Path, protocol: str, predictions: str = "run/anno_1") -> Report:
    return evaluate(tree / predictions, tree / "data", protocol)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("protocol", ["semi-supervised", "unsupervised"])
def test_official_numbers(
    shared: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, workers: int
) -> None:
    monkeypatch.setattr(module, "FRAMES_PER_STRETCH", 5)  # so that stretches are joined
    golden = shared / "golden" / "jf"
    official = json.loads((golden / "official.json").read_text())[protocol]
    report = evaluate(
        golden / "predictions", golden, protocol, videos=list(official), workers=workers
    )
    values = json.loads(json.dumps(report.to_json()))
    assert list(values) == ["protocol", "truth", "J", "F", "J&F", "objects"]
    places = [(o["video"], o["object"]) for o in values["objects"]]
    assert places == sorted(
        (video, k + 1) for video, scores in official.items() for k in range(len(scores["J_M"]))
    )
    for each in values["objects"]:
        scores = official[each["video"]]
        for measure, (name, letter) in itertools.product("JF", LETTERS.items()):
            theirs = scores[f"{measure}_{letter}"][each["object"] - 1]
            assert abs(each[f"{measure}_{name}"] - theirs) <= OFFICIAL_TOLERANCE, (each, name)
    for measure in "JF":
        theirs = [value for scores in official.values() for value in scores[f"{measure}_M"]]
        assert abs(values[measure] - np.mean(theirs)) <= OFFICIAL_TOLERANCE


def test_where_the_official_code_stops(shared: Path) -> None:
    golden = shared / "golden" / "jf"
    official = json.loads((golden / "official.json").read_text())
    (stopped,) = set(official["unsupervised"]) - set(official["semi-supervised"])
    with pytest.raises(DatasetError, match=f"{stopped}/.*has label 3, and {stopped} has objects"):
        evaluate(golden / "predictions", golden, "semi-supervised")


def test_scores_of_squares(tree: Path) -> None:
    report = run(tree, "semi-supervised")
    # Squares of 9 × 9, one pixel too low; the boundary is within the tolerance of one pixel.
    assert [(o.video, o.number) for o in report.objects] == [("ape", 1), ("cat", 1), ("cat", 2)]
    for each in report.objects:
        assert each.j == (pytest.approx(72 / 90), 1, pytest.approx(0, abs=1e-12))
        assert each.f.mean == 1
        assert len(each.j_frames) == FRAMES - 2
    assert report.j_and_f == pytest.approx((0.8 + 1) / 2)


def test_every_frame_counts_where_labels_are_matched(tree: Path) -> None:
    report = run(tree, "unsupervised")
    assert {len(o.j_frames) for o in report.objects} == {FRAMES}
    path = tree / "run" / "anno_1" / "ape" / "00000.png"
    write_label_png(path, np.zeros(SIZE, np.uint8))
    assert run(tree, "unsupervised").objects[0].j_frames.tolist() == [0] + [pytest.approx(0.8)] * (
        FRAMES - 1
    )
    assert run(tree, "semi-supervised").objects[0].j.mean == pytest.approx(0.8)


def test_void_counts_only_in_the_2019_truth(tree: Path) -> None:
    for path in (tree / "run" / "anno_1").glob("*/*.png"):
        labels = read_label_png(path)
        labels[:2, :20] = 1
        write_label_png(path, labels)
    assert run(tree, "unsupervised").j.mean == pytest.approx(0.8)
    assert run(tree, "semi-supervised").j.mean < 0.7
    shutil.rmtree(tree / "data" / "Annotations" / "480p")
    shutil.copytree(
        tree / "data" / "Annotations_unsupervised" / "480p", tree / "data" / "Annotations" / "480p"
    )
    assert run(tree, "semi-supervised").j.mean < 0.7  # void is background there


def test_swapped_labels_cost_nothing_where_they_are_matched(tree: Path) -> None:
    before = {p: run(tree, p) for p in ("unsupervised", "semi-supervised")}
    for path in (tree / "run" / "anno_1" / "cat").iterdir():
        labels = read_label_png(path)
        write_label_png(path, np.array([0, 7, 2], np.uint8)[labels])
    after = run(tree, "unsupervised")
    assert after.j_and_f == before["unsupervised"].j_and_f
    # Numbered as the official code does, in order of the labels that were matched.
    assert [(o.number, o.object_id, o.label) for o in after.objects[1:]] == [(1, 2, 2), (2, 1, 7)]
    difference = compare(before["unsupervised"], after).to_json()
    assert [o["object"] for o in difference["objects"]] == [1, 1, 2]
    assert all(o["difference"] == 0 for o in difference["objects"])
    with pytest.raises(DatasetError, match="label 7"):
        run(tree, "semi-supervised")


def test_the_best_of_all_assignments_is_found(tree: Path) -> None:
    rng = np.random.default_rng(3)
    folder, truth = tree / "run" / "anno_1" / "cat", tree / "data" / "Annotations_unsupervised"
    stacks = []
    for path in sorted(folder.iterdir()):
        predicted = rng.integers(0, 5, SIZE, dtype=np.uint8)
        predicted[rng.random(SIZE) < 0.5] = 0
        write_label_png(path, predicted)
        true = read_label_png(truth / "480p" / "cat" / path.name)
        stacks.append((predicted, true))
    tables = np.array(
        [
            [
                np.mean(
                    [
                        (jaccard(p == a, t == b, t == 255) + boundary_f(p == a, t == b, t == 255))
                        / 2
                        for p, t in stacks
                    ]
                )
                for b in (1, 2)
            ]
            for a in (1, 2, 3, 4)
        ]
    )
    best = max(tables[a, 0] + tables[b, 1] for a, b in itertools.permutations(range(4), 2))
    found = [o.j_and_f for o in run(tree, "unsupervised").objects if o.video == "cat"]
    assert sum(found) == pytest.approx(best, abs=1e-12)


def test_refdavis17_is_the_mean_of_four_sets(tree: Path) -> None:
    report = run(tree, "refdavis17", "run")
    sets = [run(tree, "unsupervised", f"run/anno_{index}") for index in range(4)]
    assert report.j_and_f == pytest.approx(np.mean([each.j_and_f for each in sets]), abs=1e-12)
    for place, each in enumerate(report.objects):
        for over_time in ("j_frames", "f_frames"):
            frames = [getattr(one.objects[place], over_time) for one in sets]
            assert getattr(each, over_time) == pytest.approx(np.mean(frames, axis=0), abs=1e-12)
    values = report.to_json()
    assert values["protocol"] == "refdavis17"
    assert [each["set"] for each in values["sets"]] == [f"anno_{index}" for index in range(4)]
    for place, each in enumerate(values["objects"]):
        for key in ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay"):
            each_set = [one.to_json()["objects"][place][key] for one in sets]
            assert each[key] == pytest.approx(np.mean(each_set), abs=1e-12)


def test_per_expression_is_the_mean_over_expressions(tree: Path) -> None:
    report = run(tree, "per-expression", "run")
    assert len(report.objects) == 12
    assert report.j.mean == pytest.approx(np.mean([9 * (9 - s) / (81 + 9 * s) for s in range(4)]))
    entry = report.to_json()["objects"][4]
    assert (entry["video"], entry["object"], entry["expression"]) == ("cat", 1, "0")
    # Masks of other tools: 0 and 255, straight beneath the folder.
    for path in (tree / "run" / "expressions").glob("*/*/*.png"):
        mask = read_label_png(path) * np.uint8(255)
        path.unlink()
        other = tree / "other" / path.relative_to(tree / "run" / "expressions")
        other.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(other)
    assert run(tree, "per-expression", "other") == report


@pytest.mark.parametrize(("protocol", "predictions"), [
    ("per-expression", "run"), ("refdavis17", "run"), ("unsupervised", "run/anno_1"),
])  # fmt: skip
def test_no_other_truth_stands_in(tree: Path, protocol: str, predictions: str) -> None:
    shutil.rmtree(tree / "data" / "Annotations_unsupervised")
    with pytest.raises(DatasetError, match=(
        r"looked for valid/Annotations, Annotations_unsupervised/480p, .*; Annotations is there, "
        "and is another truth; unpack"
    )):  # fmt: skip
        run(tree, protocol, predictions)
    # In ReferFormer's layout that is the name of the truth of 2019.
    (tree / "data" / "valid").mkdir()
    shutil.move(tree / "data" / "Annotations" / "480p", tree / "data" / "valid" / "Annotations")
    (tree / "data" / "Annotations").rmdir()
    report = run(tree, protocol, predictions)
    assert report.truth == report.to_json()["truth"] == "valid/Annotations"
    assert report.to_text().endswith("\ntruth: valid/Annotations")
    with pytest.raises(DatasetError, match="no truth in"):
        run(tree, "semi-supervised")


def test_objects_are_those_of_the_first_frame(tree: Path) -> None:
    truth = tree / "data" / "Annotations_unsupervised" / "480p"
    write_label_png(truth / "cat" / "00000.png", np.minimum(scene("cat", 0), 1))
    assert len(run(tree, "unsupervised").objects) == 2
    write_label_png(truth / "cat" / "00000.png", np.zeros(SIZE, np.uint8))
    report = run(tree, "unsupervised")
    assert [o.video for o in report.objects] == ["ape"]
    assert "no object in its first frame" in report.notes[0]
    assert f"Note: {report.notes[0]}." in report.to_markdown()
    assert run(tree, "refdavis17", "run").notes == report.notes
    write_label_png(truth / "ape" / "00000.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(DatasetError, match="no object in the first frame of any"):
        run(tree, "unsupervised")


FRAME = "run/anno_1/cat/00002.png"
TRUTH = "data/Annotations_unsupervised/480p"


@pytest.mark.parametrize(
    ("change", "protocol", "predictions", "message"),
    [
        (drop(FRAME), "unsupervised", "run/anno_1", r"cat' lacks 00002\.png; write a mask"),
        (
            drop("run/anno_1/ape", FRAME),
            "semi-supervised",
            "run/anno_1",
            r"ape' lacks all frames \(3\); '.*cat' lacks 00002\.png; write a mask for every frame",
        ),
        (
            put(FRAME, np.zeros((30, 43), np.uint8)),
            "unsupervised",
            "run/anno_1",
            r"cat/00002\.png' is 43×30, its truth '.*cat/00002\.png' 44×30; write masks in the",
        ),
        (
            paint(FRAME, (200, 9, 9)),
            "unsupervised",
            "run/anno_1",
            r"cat/00002\.png' has the colour \(200, 9, 9\) in 1320 pixels, .*; paint",
        ),
        (
            put(FRAME, BLANK + np.uint8(255), "L"),
            "semi-supervised",
            "run/anno_1",
            r"cat/00002\.png' has label 255, and cat has objects up to 2",
        ),
        (
            put(FRAME, BLANK + np.uint8(3)),
            "semi-supervised",
            "run/anno_1",
            r"cat/00002\.png' has label 3, and cat has objects up to 2 .*; write label k for obj",
        ),
        (
            put(FRAME, BLANK + np.uint8(21)),
            "unsupervised",
            "run/anno_1",
            r"cat/00002\.png' has label 21, and at most 20 may be matched; number",
        ),
        (
            drop(f"{TRUTH}/ape"),
            "unsupervised",
            "run/anno_1",
            r"no truth for ape in '.*Annotations_unsupervised/480p' .*; unpack it",
        ),
        (
            put("run/anno_1/dog/00000.png", BLANK),
            "unsupervised",
            "run/anno_1",
            r"no truth in '.*' for .*anno_1/dog; unpack it there, or choose the videos",
        ),
        (
            drop("data/Annotations_unsupervised"),
            "refdavis17",
            "run",
            r"no truth in '.*': looked for valid/Annotations, .*; unpack the masks there or",
        ),
        (
            drop("run/anno_2", "run/anno_3"),
            "refdavis17",
            "run",
            r"run' lacks anno_2, anno_3, and refdavis17 is the mean of 4 sets; write all of them",
        ),
        (drop(), "unsupervised", "run", r"--protocol refdavis17, or give '.*run/anno_0'"),
        (drop(), "unsupervised", "nowhere", r"no folder '.*nowhere'; give the folder"),
        (
            drop("run/expressions/cat/5"),
            "per-expression",
            "run",
            r"expressions/cat/5' lacks all frames \(5\); write a mask for every frame",
        ),
        (
            put("run/expressions/cat/5/00003.png", scene("cat", 0)),
            "per-expression",
            "run",
            r"expressions/cat/5/00003\.png' has more than two values; write",
        ),
        (
            put("run/expressions/cat/5/00003.png", scene("cat", 0), "RGB"),
            "per-expression",
            "run",
            r"cat/5/00003\.png' has more than two values; write the object's mask alone",
        ),
        (
            put(f"{TRUTH}/ape/00000.png", BLANK, "L"),
            "unsupervised",
            "run/anno_1",
            r"480p/ape/00000\.png' is a L image, not an indexed",
        ),
        (
            drop(*(f"data/Annotations/480p/ape/0000{k}.png" for k in range(3))),
            "semi-supervised",
            "run/anno_1",
            r"ape' has 2 frames, and semi-supervised leaves out the first and the last; take",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(
    tree: Path, change: Callable[[Path], None], protocol: str, predictions: str, message: str
) -> None:
    change(tree)
    with pytest.raises(DatasetError, match=message) as error:
        run(tree, protocol, predictions)
    assert "\n" not in str(error.value)


def test_predicted_frames_without_truth_are_told(tree: Path) -> None:
    before = run(tree, "semi-supervised")
    assert before.notes == ()
    for name in ("00005.png", ".hidden.png", "note.txt"):
        shutil.copy(tree / FRAME, tree / "run" / "anno_1" / "cat" / name)
    after = run(tree, "semi-supervised")
    assert after.objects == before.objects
    (note,) = after.notes
    assert re.search(r"480p/cat' lacks 00005\.png, which '.*/run/anno_1/cat' has; they count", note)


def test_expressions_must_belong_to_the_truth(tree: Path) -> None:
    meta = tree / "data" / "meta_expressions.json"
    content = meta.read_text()
    meta.write_text(content.replace('"obj_id": "2"', '"obj_id": "9"'))
    with pytest.raises(DatasetError, match=r"shows no object 9, which expression 4 names"):
        run(tree, "per-expression", "run")
    meta.write_text(content.replace('"obj_id": "2"', '"x": 0'))
    with pytest.raises(DatasetError, match=r"expression 4 of cat names no object; .*of cat names"):
        run(tree, "per-expression", "run")
    meta.write_text(content.replace('"ape": {', '"gnu": {'))
    with pytest.raises(DatasetError, match=r"ape has no expressions; give Ref-DAVIS"):
        run(tree, "per-expression", "run")


def test_faults_in_several_videos_are_counted(tree: Path) -> None:
    for video in OBJECTS:
        paint(f"run/anno_1/{video}/00001.png", (200, 9, 9))(tree)
    with pytest.raises(
        DatasetError, match=r"ape/00001\.png' has the colour .*\(and 1 more such fault"
    ):
        run(tree, "unsupervised")


def test_protocols_are_suggested(tree: Path) -> None:
    with pytest.raises(ConfigError, match="unknown protocol 'refdavis'; did you mean 'refdavis17'"):
        run(tree, "refdavis")
    with pytest.raises(ConfigError, match="workers is 0"):
        evaluate(tree / "run", tree / "data", "refdavis17", workers=0)
    assert list(PROTOCOLS) == [
        "refdavis17", "per-expression", "semi-supervised", "unsupervised",
        "mevis", "ref-youtube-vos", "long-rvos", "revos",
    ]  # fmt: skip


def test_only_some_videos(tree: Path) -> None:
    put("run/anno_1/dog/00000.png", BLANK)(tree)
    report = evaluate(tree / "run/anno_1", tree / "data", "unsupervised", videos=["ape"])
    assert [o.video for o in report.objects] == ["ape"]


def test_nothing_is_cached(tree: Path) -> None:
    before = run(tree, "unsupervised")
    files = sorted(tree.rglob("*"))
    put(FRAME, BLANK)(tree)
    assert run(tree, "unsupervised").j.mean < before.j.mean
    assert sorted(tree.rglob("*")) == files


def test_a_process_that_dies_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    died = Event("failed", 0, "its process died; try fewer --workers")
    monkeypatch.setattr(module.Processes, "run", lambda *_, **__: iter([died]))
    with pytest.raises(CarvidError, match="its process died; try fewer --workers"):
        evaluate(tree / "run", tree / "data", "refdavis17", workers=2)


def test_csv_holds_every_number(tree: Path) -> None:
    report = run(tree, "refdavis17", "run")
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert len(rows) == 5 * 4
    assert {row["protocol"] for row in rows} == {"refdavis17"}
    assert {row["truth"] for row in rows} == {"Annotations_unsupervised/480p"}
    assert float(rows[0]["J&F"]) == report.j_and_f
    assert (rows[2]["video"], rows[2]["object"]) == ("cat", "1")
    assert float(rows[2]["F_decay"]) == report.objects[1].f.decay


def test_markdown_is_in_percent(tree: Path) -> None:
    lines = run(tree, "semi-supervised").to_markdown().splitlines()
    assert lines[0].startswith("| semi-supervised, percent | J&F | J mean |")
    assert lines[2] == "| all | 90.00 | 80.00 | 100.00 | 0.00 | 100.00 | 100.00 | 0.00 |"
    assert [line.split(" | ")[0] for line in lines[3:6]] == ["| ape 1", "| cat 1", "| cat 2"]
    assert lines[6:] == ["", "Truth: Annotations/480p."]


def test_two_runs_side_by_side(tree: Path) -> None:
    first, second = (run(tree, "unsupervised", f"run/anno_{k}") for k in (1, 0))
    both = compare(first, second, ("one", "two"))
    assert "| all | 90.00 | 100.00 | +10.00 |" in both.to_markdown()
    values = both.to_json()
    assert [each["name"] for each in values["runs"]] == ["one", "two"]
    assert values["difference"]["J&F"] == pytest.approx(0.1)
    with pytest.raises(DatasetError, match="'one' was evaluated by unsupervised, 'two' by semi"):
        compare(first, run(tree, "semi-supervised"), ("one", "two"))
    fewer = evaluate(tree / "run/anno_0", tree / "data", "unsupervised", videos=["ape"])
    with pytest.raises(DatasetError, match="only one of 'a' and 'b' has cat object 1"):
        compare(first, fewer)


def constant(video: str, j: float, f: float, frames: int = 7) -> ObjectScore:
    over_time = [np.full(frames, value) for value in (j, f)]
    return ObjectScore(
        video, 1, 1, 1, *(Statistics(value, 1, 0) for value in (j, f)),
        j_frames=over_time[0], f_frames=over_time[1],
    )  # fmt: skip


def test_worst_objects_are_drawn(tmp_path: Path) -> None:
    objects = (constant("good", 0.9, 0.8), constant("odd", 1, 0), constant("bad", 0.1, 0.2))

    def drawn(count: int, *shown: ObjectScore) -> NDArray[np.uint8]:
        plot_worst(Report("unsupervised", shown), tmp_path / "worst.png", count=count)
        with Image.open(tmp_path / "worst.png") as picture:
            return np.array(picture)

    odd = drawn(1, objects[1])
    height, width = PANEL_HW
    assert odd.shape == (height, width, 3)
    # J runs along the top of the panel and F along its bottom, smoothed at the points.
    for row, color in ((24, J_COLOR), (height - 10, F_COLOR)):
        line = odd[row, 28 : width - 12].astype(int)
        assert np.abs(line - color).max() < 60
    both = drawn(2, *objects)
    assert (both == np.concatenate([drawn(1, objects[2]), odd])).all()
