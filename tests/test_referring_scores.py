from __future__ import annotations

import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from carvid.clip.backbone import ClipBackbone
from carvid.evaluation.referring import (
    Overlap,
    generalized_scores,
    merge_masks,
    overlap,
    referring_scores,
)

TOOLS = Path(__file__).parent.parent / "tools"


def masks(*rows: str) -> NDArray[np.bool_]:
    """One row of ten pixels for each mask, as bool (N, 1, 10)."""
    return np.array([[[letter == "#" for letter in row]] for row in rows])


def merged(scores: list[float], *rows: str) -> str:
    made = merge_masks(masks(*rows), np.array(scores, np.float32), (1, 10))
    assert made.dtype == bool and made.shape == (1, 10)
    return "".join("#" if each else "." for each in made[0])


@pytest.mark.parametrize(
    ("scores", "rows", "wanted"),
    [
        ([0.6, 0.4], ["##........", ".##......."], "##........"),  # the higher score alone
        ([0.3, 0.3], ["##........", ".....##..."], "##...##..."),  # one half is enough
        ([0.5, 0.3, 0.2], ["##........", ".##.......", "..##......"], "###......."),
        ([0.4, 0.3, 0.3], ["##........", ".###......", ".##......."], ".##......."),
        ([0.9, 0.0], ["##........", "...######."], "##........"),  # a pruned sentence
        ([0.2], ["#.#......."], "#.#......."),
        ([0.4, 0.3, 0.3], ["#.........", ".#........", "..#......."], "###......."),  # union
        ([0.0, 0.0], ["#.........", ".#........"], "##........"),  # no score: union
        ([0.7, 0.3], ["..........", ".........."], ".........."),
        ([0.7, 0.3], ["..........", "####......"], "####......"),
    ],
)
def test_merging(scores: list[float], rows: list[str], wanted: str) -> None:
    assert merged(scores, *rows) == wanted


@pytest.mark.parametrize(("area", "wanted"), [(5, 25), (6, 6)])
def test_up_to_a_twentieth_of_the_image_gives_way_to_the_union(area: int, wanted: int) -> None:
    planes = np.zeros((2, 10, 10), bool)
    planes[0].ravel()[:area] = True
    planes[1].ravel()[:25] = True
    made = merge_masks(planes, np.array([0.9, 0.1], np.float32), (10, 10))
    assert made.sum() == wanted


def test_masks_of_another_size_are_scaled() -> None:
    planes = np.zeros((1, 4, 4), bool)
    planes[0, :, :2] = True
    made = merge_masks(planes, np.array([1.0], np.float32), (8, 12))
    assert made.shape == (8, 12)
    assert made[:, :6].all() and not made[:, 6:].any()


def test_what_cannot_be_merged() -> None:
    one = np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"masks must be bool \(N, H, W\).*got uint8"):
        merge_masks(np.zeros((1, 2, 2), np.uint8), one, (2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 scores"):
        merge_masks(np.zeros((1, 2, 2), bool), np.ones(2, np.float32), (2, 2))
    with pytest.raises(ValueError, match="N ≥ 1"):
        merge_masks(np.zeros((0, 2, 2), bool), one[:0], (2, 2))


def test_overlap() -> None:
    made = overlap(masks("####......")[0], masks("..######..")[0])
    assert made == Overlap(intersection=2, union=8, predicted=6, true=4)
    assert made.iou == 0.25
    assert Overlap(0, 0, 0, 0).iou == 0  # as released
    with pytest.raises(ValueError, match="of one size"):
        overlap(np.zeros((2, 2), bool), np.zeros((2, 3), bool))


def of(intersection: int, predicted: int, true: int) -> Overlap:
    return Overlap(intersection, predicted + true - intersection, predicted, true)


def test_the_released_scores() -> None:
    scores = referring_scores([of(8, 8, 8), of(3, 4, 5), of(0, 4, 0), of(0, 0, 0)])
    assert scores.miou == (1 + 0.5 + 0 + 0) / 4
    assert scores.oiou == (8 + 3) / (8 + 6 + 4)
    assert scores.precision == {0.5: 0.5, 0.6: 0.25, 0.7: 0.25, 0.8: 0.25, 0.9: 0.25}


def test_generalized_scores() -> None:
    scores = generalized_scores([
        of(3, 4, 5),  # IoU ½
        of(0, 0, 6),  # a target, and nothing predicted
        of(0, 0, 0),  # no target, and nothing predicted: 1
        of(0, 4, 0),  # no target, and something predicted: 0
        of(0, 2, 0),
    ])  # fmt: skip
    assert scores.giou == (0.5 + 0 + 1 + 0 + 0) / 5
    assert scores.ciou == 3 / (6 + 6 + 0 + 4 + 2)
    assert (scores.n_acc, scores.t_acc) == (1 / 3, 1 / 2)


def test_scores_of_nothing_are_no_numbers() -> None:
    nothing = referring_scores([])
    assert math.isnan(nothing.miou) and math.isnan(nothing.oiou)
    assert all(math.isnan(value) for value in nothing.precision.values())
    whole = generalized_scores([of(1, 1, 1)])
    assert math.isnan(whole.n_acc) and whole.t_acc == 1
    assert referring_scores([of(0, 0, 0)]).oiou == 0


def test_made_up_predictions_of_the_released_evaluation(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared / "golden" / "bench" / "bench_metrics.json"
    if not path.is_file():
        pytest.skip("the research data is not here")
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    check = runpy.run_path(str(TOOLS / "golden_referring.py"))["check_refer_metrics"]
    values = json.loads(path.read_text("utf-8"))
    arrays = dict(np.load(path.with_suffix(".npz")))
    lines = list(check(values, arrays))
    assert lines and all(line.passed for line in lines), lines
    values["refer"][0]["scores"].reverse()
    assert not next(check(values, arrays)).passed


def test_a_sample_of_the_released_evaluation(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared / "golden" / "bench" / "bench_refer_own_prompts.json"
    if not path.is_file():
        pytest.skip("the research data is not here")
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    tool = runpy.run_path(str(TOOLS / "golden_referring.py"))
    clips = {
        name: ClipBackbone(tool["golden_clip"](name), None, half_positions=True, name=name)
        for name in tool["CLIPS"]
    }
    values = json.loads(path.read_text("utf-8"))
    name, run = next((name, run) for name, run in values["runs"].items() if "_testA" in name)
    run["rows"] = [run["rows"][0], {**run["rows"][1], "quirk": "shifted"}]
    arrays = dict(np.load(path.with_suffix(".npz")))
    arrays[f"mask_{name}_0"] = ~arrays[f"mask_{name}_0"]
    values["runs"] = {name: run}
    (tmp_path / "x.json").write_text(json.dumps(values))
    np.savez(tmp_path / "x.npz", **arrays)
    lines = {
        line.name.removeprefix(name).strip(): line
        for line in tool["check_referring"](tmp_path / "x.json", shared / "data" / "bench", clips)
    }
    assert not lines["samples"].passed and "1 on one side" in lines["samples"].detail
    assert not lines["0"].passed and lines["0"].detail.startswith("100.00 % of the pixels differ")
    assert lines["1"].passed and lines["1"].detail.startswith("not reproduced: shifted")
    assert "0 of 1 samples" in lines["prompts at η"].detail
