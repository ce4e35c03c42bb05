"""Rules of semantic scores on a case worked out by hand, and what becomes of it by wrong rules."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.evaluation import confusion as module
from carvid.evaluation.confusion import (
    SemanticScores,
    confusion,
    never_labelled,
    one_class_short,
    scores_by,
    semantic_scores,
    usual_scores,
)
from tests.conftest import in_this_process

VOID = 65535
TRUTH = np.array([[0, 0, 0, 0, 1, 1], [1, 2, 2, VOID, VOID, 9]], np.uint16)
PREDICTION = np.array([[0, 0, 1, 3, 1, 1], [0, 1, 0, 3, 2, 2]], np.uint16)
MATRIX = np.array([[2, 1, 0, 1], [1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
"""Four classes with the background; the last is predicted and never true, the last but one is never
found."""
WORKED_OUT = {
    "with": SemanticScores(
        (1 / 3 + 2 / 5 + 0) / 3, 4 / 9, (2 / 4 + 2 / 3 + 0) / 3, 4 / 9 * 1 / 3 + 3 / 9 * 2 / 5,
        {0: 2 / 6, 1: 2 / 5, 2: 0, 3: 0},
    ),
    "without": SemanticScores(
        (2 / 3 + 0) / 2, 2 / 3, (2 / 2 + 0) / 2, 2 / 3 * 2 / 3, {1: 2 / 3, 2: 0}
    ),
    "usual": SemanticScores(
        (2 / 4 + 0) / 2, 2 / 5, (2 / 3 + 0) / 2, 3 / 5 * 2 / 4, {1: 2 / 4, 2: 0}
    ),
}  # fmt: skip

SPOILT = {
    "rows and columns swapped": ("n_class)[:n_class]", "n_class)[:n_class].T"),
    "void is background": ("np.minimum(cells, n_class, out=cells)", "cells[cells >= n_class] = 0"),
    "void is the last class": ("np.minimum(cells, n_class,", "np.minimum(cells, n_class - 1,"),
    "mean over classes without truth": ("iou[labelled].mean()", "iou.mean()"),
    "mean over classes that are predicted": ("iou[labelled].mean()", "iou[union > 0].mean()"),
    "union without what is missed": ("truth + predicted - right", "predicted"),
    "union without what is too much": ("truth + predicted - right", "truth"),
    "union that counts twice": ("truth + predicted - right", "truth + predicted"),
    "released: union with predicted background": (
        "counted.sum(axis=1), counted.sum(axis=0), np.diagonal(counted), first",
        "matrix.sum(axis=1)[first:], counted.sum(axis=0), np.diagonal(counted), first",
    ),
    "released: union with true background": (
        "counted.sum(axis=1), counted.sum(axis=0), np.diagonal(counted), first",
        "counted.sum(axis=1), matrix.sum(axis=0)[first:], np.diagonal(counted), first",
    ),
    "usual: union without predicted background": (
        "counted = matrix[1:]\n", "counted = matrix[1:].copy(); counted[:, 0] = 0\n"
    ),
    "usual: union with true background": (
        "counted[:, 1:].sum(axis=0)", "matrix[:, 1:].sum(axis=0)"
    ),
    "accuracy by the prediction": ("_ratio(right, truth)", "_ratio(right, predicted)"),
    "frequency of the prediction": ("(truth / total * iou)", "(predicted / total * iou)"),
    "labels from 0": ("int(k) + first", "int(k)"),
    "IoU of classes with truth alone": ("np.flatnonzero(union)", "np.flatnonzero(iou)"),
}  # fmt: skip
"""What is wrong → a piece of the module, and what stands in its place."""


def check_by_hand(scoring: ModuleType) -> None:
    matrix = scoring.confusion(TRUTH, PREDICTION, 4)
    assert matrix.dtype == np.int64 and np.array_equal(matrix, MATRIX)
    check_scores("with", scoring.semantic_scores(MATRIX, background=True))
    check_scores("without", scoring.semantic_scores(MATRIX, background=False))
    check_scores("usual", scoring.usual_scores(MATRIX))


def check_scores(name: str, made: SemanticScores) -> None:
    wanted = WORKED_OUT[name]
    assert made.class_iou == pytest.approx(wanted.class_iou, abs=1e-15), name
    for field in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        assert getattr(made, field) == pytest.approx(getattr(wanted, field), abs=1e-15), name


def test_by_hand() -> None:
    check_by_hand(module)


@pytest.mark.parametrize("name", SPOILT)
def test_wrong_rules_are_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(module.__file__).read_text("utf-8")
    old, new = SPOILT[name]
    assert source.count(old) == 1
    spoilt = ModuleType("spoilt")
    monkeypatch.setitem(sys.modules, "spoilt", spoilt)  # dataclasses look there
    exec(compile(source.replace(old, new), "spoilt", "exec"), spoilt.__dict__)
    with pytest.raises(AssertionError):
        check_by_hand(spoilt)


def test_against_plain_counting() -> None:
    rng = np.random.default_rng(1)
    for n_class, dtype in ((3, np.uint8), (21, np.uint8), (300, np.uint16)):
        truth = rng.integers(0, n_class + 3, (13, 17)).astype(dtype)
        prediction = rng.integers(0, n_class, (13, 17)).astype(np.uint16)
        expected = np.zeros((n_class, n_class), int)
        for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
            if t < n_class:
                expected[t, p] += 1
        assert np.array_equal(confusion(truth, prediction, n_class), expected)


def test_protocols_are_one_with_background() -> None:
    for protocol in ("released", "usual"):
        check_scores("with", scores_by(protocol, MATRIX, background=True))
    check_scores("without", scores_by("released", MATRIX, background=False))
    check_scores("usual", scores_by("usual", MATRIX, background=False))


def test_never_labelled() -> None:
    assert never_labelled(MATRIX) == (3,)


def test_nothing_counts() -> None:
    background_everywhere = np.array([[4, 0], [7, 0]])
    scores = semantic_scores(background_everywhere, background=False)
    assert np.isnan(scores.miou) and scores.class_iou == {}
    assert scores.to_json() == {
        "mIoU": None, "pixel_accuracy": None, "mean_accuracy": None,
        "frequency_weighted_iou": None, "class_iou": {},
    }  # fmt: skip
    assert usual_scores(background_everywhere).miou == 0  # where it is simply wrong


def test_json_has_labels_as_text() -> None:
    values = json.loads(json.dumps(semantic_scores(MATRIX, background=False).to_json()))
    assert list(values) == [
        "mIoU", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "class_iou",
    ]  # fmt: skip
    assert values["class_iou"] == {"1": 2 / 3, "2": 0}


def test_a_label_that_there_is_not() -> None:
    with pytest.raises(DatasetError) as error:
        confusion(TRUTH, PREDICTION, 3)
    assert str(error.value) == (
        "the prediction has label 3, and labels go from 0 (background) to 2; write label k for "
        "class k"
    )


@pytest.mark.parametrize(
    ("truth", "prediction"),
    [
        (TRUTH.astype(np.int64), PREDICTION),
        (TRUTH, PREDICTION[0]),
        (TRUTH, PREDICTION.astype(float)),
        (TRUTH, PREDICTION[:1]),
    ],
)
def test_wrong_arrays(truth: NDArray[np.uint16], prediction: NDArray[np.uint16]) -> None:
    with pytest.raises(ValueError, match=r"must be unsigned|truth is"):
        confusion(truth, prediction, 4)


def released_counting(truth: list[int], prediction: list[int], n_class: int) -> NDArray[np.int64]:
    """The released code's cells, one number a pixel, as they fall."""
    cells = [n_class * t + p for t, p in zip(truth, prediction, strict=True) if t < n_class]
    return np.bincount(cells, minlength=n_class**2).reshape(n_class, n_class)


def test_one_class_short() -> None:
    truth, prediction = [0, 1, 1, 2, 3, 3, 0], [0, 1, 3, 1, 3, 0, 3]
    whole = confusion(np.array([truth], np.uint8), np.array([prediction], np.uint8), 4)
    short = one_class_short(whole)
    assert np.array_equal(short, released_counting(truth, prediction, 3))
    assert short.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 0]]  # two pixels in the wrong row
    assert whole.sum() == 7  # which stays as it is


def test_one_class_short_ends_as_the_release_does() -> None:
    truth, prediction = [2], [3]
    with pytest.raises(ValueError, match="reshape"):
        released_counting(truth, prediction, 3)
    with pytest.raises(DatasetError, match="label 3 is predicted where 2 is true"):
        one_class_short(confusion(np.array([truth], np.uint8), np.array([prediction], np.uint8), 4))


def test_goldens(shared: Path) -> None:
    tools = Path(__file__).parent.parent / "tools"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tools))
        names = runpy.run_path(str(tools / "golden_metrics.py"))
    folder, data = shared / "golden" / "bench", shared / "data" / "bench"
    files = [folder / f"bench_{name}.json" for name in ("metrics", "context", "ade_847")]
    result = in_this_process(lambda: sys.exit(names["main"]()), *files, "--data", data)
    assert result.returncode == 0, result.stdout
    lines = result.stdout.splitlines()
    assert len(lines) == 4 * 5 + 4 + 5
    assert any("ade_847 one class short" in line for line in lines)


def test_a_golden_that_differs_is_told(shared: Path, tmp_path: Path) -> None:
    tools = Path(__file__).parent.parent / "tools"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tools))
        names = runpy.run_path(str(tools / "golden_metrics.py"))
    golden = shared / "golden" / "bench" / "bench_context.json"
    values = json.loads(golden.read_text())
    values["ignore_background"]["class_iou"]["29"] += 1e-9
    (tmp_path / "other.json").write_text(json.dumps(values))
    (tmp_path / "other.npz").symlink_to(golden.with_suffix(".npz"))
    lines = names["check_predicted_metrics"](tmp_path / "other.json", shared / "data" / "bench")
    out = [line for line in lines if not line.passed]
    assert [line.name for line in out] == ["pascal_context without background"]
    assert out[0].detail.startswith("1 of 18 numbers differ, IoU of 29")
