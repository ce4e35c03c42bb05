"""`carvid davis`: what it writes, what it survives; `carvid eval` reads it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from carvid.base.errors import ConfigError, DatasetError, OutputError, WeightsError
from carvid.benchmark import workers as sharing
from carvid.benchmark.predict import Prediction, predict
from carvid.media.label_png import read_label_png
from tests import HANGS_S
from tests.conftest import HEIGHT, WIDTH, carvid
from tests.trees import unseen_tree

FRAMES = {"bear": 6, "cow": 4}
SETTINGS = [
    "crf.iterations=1", "car.theta=0.2", "weights.device=cpu", "temporal.key_every=1",
    "temporal.lag=1",
]  # fmt: skip
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

Predict = Callable[..., Prediction]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return unseen_tree(tmp_path / "data", FRAMES)


@pytest.fixture
def predicted(tree: Path, weights: dict[str, str]) -> Predict:
    def call(out: Path, data: Path = tree, **options: object) -> Prediction:
        return predict(data, out, "davis", SETTINGS, **weights, **options)  # type: ignore[arg-type]

    return call


def options(weights: dict[str, str]) -> list[str]:
    named = [f"--weights-{name}={folder}" for name, folder in weights.items()]
    return [*named, *(f"--set={each}" for each in SETTINGS)]


def files(out: Path) -> dict[str, bytes]:
    """Every file of a run but the runs' run.json, which have their timing."""
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and not (p.name == "run.json" and p.parent != out)
    }


def test_predictions_are_what_the_evaluation_reads(
    tree: Path, tmp_path: Path, weights: dict[str, str]
) -> None:
    out = tmp_path / "runs" / "a"
    result = carvid("davis", tree, "-o", out, "--json", *options(weights))
    errors = result.stderr
    assert result.returncode == 0, errors
    assert errors.splitlines() == [
        "carvid: bear is done; 24 of 40 frames", "carvid: cow is done; 40 of 40 frames",
    ]  # fmt: skip
    values = json.loads(result.stdout)
    assert (values["videos"], values["sets"], values["frames"]) == (["bear", "cow"], 4, 40)
    assert values["failed"] == []
    assert sorted(p.name for p in out.iterdir()) == [
        "anno_0", "anno_1", "anno_2", "anno_3", "expressions", "run.json", "runs",
    ]  # fmt: skip
    assert sorted(p.name for p in (out / "expressions" / "bear").iterdir()) == list("01234567")
    found = 0
    for index in range(4):
        for video, length in FRAMES.items():
            names = sorted(p.name for p in (out / f"anno_{index}" / video).iterdir())
            assert names == [f"{t:05d}.png" for t in range(length)]
            keys = [str(4 * k + index) for k in range(2 if video == "bear" else 1)]
            for name in names:
                labels = read_label_png(out / f"anno_{index}" / video / name)
                assert labels.shape == (HEIGHT, WIDTH) and labels.max() <= len(keys)
                masks = [read_label_png(out / "expressions" / video / k / name) for k in keys]
                assert ((labels > 0) == np.any(masks, axis=0)).all()
                for label, mask in enumerate(masks, start=1):
                    assert set(np.unique(mask)) <= {0, 1}
                    assert (mask[labels == label] == 1).all()
                    found += int(mask.any())
            rows = (out / "runs" / video / f"anno_{index}" / "scores.csv").read_text().splitlines()
            assert len(rows) == 1 + length * len(keys)
    assert found > 20  # not a tree of empty masks
    for protocol, objects in (("refdavis17", 3), ("per-expression", 12)):
        result = carvid("eval", out, tree, "--protocol", protocol, "--json")
        assert result.returncode == 0, result.stderr
        assert len(json.loads(result.stdout)["objects"]) == objects
    result = carvid("davis", tree, "-o", out, *options(weights))
    assert result.returncode == 1
    errors = result.stderr
    assert errors.startswith("carvid: ") and errors.count("\n") == 1 and "add --resume" in errors


def test_a_killed_run_resumes_to_the_same_bytes(
    tree: Path, tmp_path: Path, predicted: Predict, weights: dict[str, str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    predicted(whole)
    process = subprocess.run(  # in the third frame of the second run
        [sys.executable, "-m", "tests.signalled", "SIGKILL", str(FRAMES["bear"] + 3),
         "davis", tree, "-o", killed, *options(weights)],
        env=ENVIRONMENT, stderr=subprocess.DEVNULL, check=False, timeout=HANGS_S,
    )  # fmt: skip
    assert process.returncode == -signal.SIGKILL
    result = predicted(killed, resume=True)
    done = 40 - FRAMES["bear"]
    assert not result.failed and done - 2 <= result.frames <= done
    assert files(killed) == files(whole)
    stamps = {p: p.stat().st_mtime_ns for p in killed.rglob("*")}
    assert predicted(killed, resume=True).frames == 0
    assert {p: p.stat().st_mtime_ns for p in killed.rglob("*")} == stamps


def test_a_kill_at_the_very_end_is_mended(
    tmp_path: Path, predicted: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    predicted(whole)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place in ("carvid.benchmark.predict.SetFolder.finish", "carvid.run.progress.shutil.rmtree"):
        with monkeypatch.context() as patch:
            patch.setattr(place, stop)
            with pytest.raises(KeyboardInterrupt):
                predicted(killed, resume=True)
    (killed / ".run.part.json").write_text("{")
    assert predicted(killed, resume=True).frames == 40 - FRAMES["bear"]
    assert files(killed) == files(whole)
    left = killed / "runs" / "cow" / "anno_3" / ".carvid"
    left.mkdir()
    (left / "scores.csv").write_text("0,0.0,1")
    assert predicted(killed, resume=True).frames == 0
    assert files(killed) == files(whole)


def test_a_folder_of_which_a_kill_left_nothing_is_empty(tmp_path: Path, predicted: Predict) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".run.part.json").write_text("{")
    assert predicted(out, videos=["cow"]).frames == 4 * FRAMES["cow"]
    assert not (out / ".run.part.json").exists()


def test_two_workers_do_what_one_does_and_a_video_that_fails_is_listed(
    tree: Path, tmp_path: Path, predicted: Predict, ready_processes: None
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    predicted(whole)
    image = tree / "valid" / "JPEGImages" / "bear" / "00002.jpg"
    good = image.read_bytes()
    image.write_bytes(good[: len(good) // 2])  # what its header does not tell
    result = predicted(out, workers=2)
    assert result.videos == ("cow",)
    assert list(result.failed) == ["bear"]
    assert "bear/00002.jpg' as an image" in result.failed["bear"]
    assert len(list(out.glob("anno_?/cow/*.png"))) == 4 * FRAMES["cow"]
    image.write_bytes(good)
    result = predicted(out, resume=True)
    assert result.videos == ("bear", "cow") and result.frames == 24 - 1
    assert files(out) == files(whole)


def test_failures_are_said_at_the_end_with_exit_status_1(
    tree: Path, tmp_path: Path, weights: dict[str, str]
) -> None:
    (tree / "valid" / "JPEGImages" / "bear" / "00000.jpg").write_text("no image")
    out = tmp_path / "out"
    result = carvid("davis", tree, "-o", out, *options(weights))
    assert result.returncode == 1
    assert result.stdout.startswith("1 video in")
    lines = result.stderr.splitlines()
    assert lines[-2].startswith("carvid: bear failed: cannot read '")
    command = shlex.join(map(str, ["davis", tree, "-o", out, *options(weights), "--resume"]))
    assert lines[-1] == (
        f"carvid: 1 of 2 videos failed; mend them and continue with: carvid {command}"
    )


def test_only_some_videos_and_others_later(tree: Path, tmp_path: Path, predicted: Predict) -> None:
    out = tmp_path / "out"
    assert predicted(out, videos=["cow"]).videos == ("cow",)
    assert not list(out.glob("*/bear"))
    assert predicted(out, resume=True, videos=["bear"]).frames == 24
    with pytest.raises(DatasetError, match="no expressions for baer; did you mean 'bear'"):
        predicted(out, resume=True, videos=["baer"])
    (out / "anno_3" / "cow" / "00002.png").unlink()
    assert predicted(out, resume=True).frames == FRAMES["cow"]
    assert (out / "anno_3" / "cow" / "00002.png").exists()


def test_other_inputs_are_refused(tree: Path, tmp_path: Path, predicted: Predict) -> None:
    out = tmp_path / "out"
    predicted(out, videos=["cow"])
    before = files(out)
    meta = tree / "meta_expressions" / "valid" / "meta_expressions.json"
    meta.write_text(meta.read_text().replace("a white cat", "a black cat"))
    result = predicted(out, resume=True, videos=["cow"])
    assert "cow/anno_2' holds a run with other inputs" in result.failed["cow"]
    assert files(out) == before
    with pytest.raises(
        OutputError, match=r"or with other settings: dataset.root was .*; choose another"
    ):
        predicted(out, resume=True, split="valid", resolution="480p", data=davis_form(tree))
    (out / "notes.txt").write_text("mine")
    for _ in range(2):  # what failed, and what is whole
        assert predicted(out, overwrite=True, videos=["cow"]).frames == 4 * FRAMES["cow"]
    assert (out / "notes.txt").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("{}")
    for option in ("resume", "overwrite"):
        with pytest.raises(OutputError, match="holds something else than predictions"):
            predicted(tmp_path / "other", **{option: True})


def davis_form(tree: Path) -> Path:
    root = tree.parent / "davis"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "JPEGImages" / "480p").symlink_to(tree / "valid" / "JPEGImages")
    (root / "meta_expressions").symlink_to(tree / "meta_expressions")
    return root


def test_data_sets_without_sets_get_masks_of_expressions(
    tree: Path, tmp_path: Path, predicted: Predict
) -> None:
    meta = tree / "meta_expressions" / "valid" / "meta_expressions.json"
    texts = {key: {"exp": text} for key, text in enumerate(("a dog", "a red ball", "the sky"))}
    entry = {"expressions": texts, "frames": ["00001", "00003"]}
    meta.write_text(json.dumps({"videos": {"bear": entry}}))
    result = predicted(tmp_path / "out")
    assert (result.videos, result.sets, result.frames) == (("bear",), 1, 2)
    masks = {str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/**/*.png")}
    assert masks == {
        f"expressions/bear/{key}/{frame}.png" for key in "012" for frame in ("00001", "00003")
    }
    assert (tmp_path / "out" / "runs" / "bear" / "all" / "scores.csv").exists()


def test_everything_wrong_is_said_before_anything_is_written(
    tree: Path, tmp_path: Path, predicted: Predict
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="workers is 0"):
        predicted(out, workers=0)
    with pytest.raises(WeightsError, match="openai/clip-vit-base-patch16"):
        predict(tree, out, "davis", SETTINGS)
    images = tree / "valid" / "JPEGImages"
    (images / "bear" / "00002.jpg").unlink()
    (images / "cow" / "00000.jpg").unlink()
    with pytest.raises(DatasetError, match=r"bear' lacks 00002\.jpg; .*cow' lacks 00000\.jpg; unp"):
        predicted(out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("device", "workers", "count", "chosen"),
    [
        ("auto", 3, 2, [0, 1, 0]), ("cuda", 2, 4, [0, 1]), ("cuda:1", 2, 2, []),
        ("cpu", 2, 2, []), ("auto", 2, 0, []), ("auto", 1, 2, []),
    ],
)  # fmt: skip
def test_workers_take_the_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, device: str, workers: int, count: int, chosen: list[int]
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for number in range(workers):
        monkeypatch.setattr(sharing, "worker_number", lambda each=number: each)
        assert sharing._sharing(lambda: "a tool", device, workers) == "a tool"
    assert taken == chosen
