"""The command line: what it makes, and one readable line for everything that is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from carvid.media.open import open_video
from tests.conftest import carvid, make_frames

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def carvid_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line as its users start it: slower than `carvid`, so for a case of each kind."""
    return subprocess.run(
        [sys.executable, "-m", "carvid", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=ENVIRONMENT,
        timeout=100,
    )  # fmt: skip


def options(weights: dict[str, str]) -> list[str]:
    return [
        "--weights-generator", weights["generator"], "--weights-classifier", weights["classifier"],
        "--set", "crf.iterations=1",
    ]  # fmt: skip


def test_run_and_overlay(clip: Path, tmp_path: Path, weights: dict[str, str]) -> None:
    out = tmp_path / "out"
    result = carvid(
        "run", clip, "--expr", "a dog", "-e", "a cat", "-o", out, "--json", *options(weights)
    )
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["frames"] == 6
    assert [e["text"] for e in printed["expressions"]] == ["a dog", "a cat"]
    assert "frame/s" in result.stderr
    assert json.loads((out / "run.json").read_text())["texts"] == ["a dog", "a cat"]
    (out / ".view.part.html").mkdir()
    result = carvid("view", out, "--no-show")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("carvid: cannot write")  # below the bar
    result = carvid("overlay", clip, out / "masks", "-o", tmp_path / "again.mp4")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again.mp4").stat().st_size > 0
    style = ["--style", "side_by_side=on", "--style", "dim=0.7"]
    result = carvid("overlay", clip, out / "masks", "-o", tmp_path / "wide.mp4", *style)
    assert result.returncode == 0, result.stderr
    with open_video(tmp_path / "wide.mp4") as reader, open_video(clip) as before:
        assert reader.info.size_hw[1] == 2 * before.info.size_hw[1]
    result = carvid("overlay", clip, out / "masks", "-o", tmp_path / "no.mp4", "--style", "dmi=1")
    assert_one_line(result, "unknown key 'overlay.dmi'; did you mean 'dim'?")
    result = carvid("overlay", clip, out / "mask", "-o", tmp_path / "no.mp4")
    assert_one_line(result, f"no folder '{out / 'mask'}'")
    (out / "masks" / "00005.png").unlink()
    result = carvid("overlay", clip, out / "masks", "-o", tmp_path / "no.mp4")
    assert result.returncode == 1
    assert "holds 5 masks" in result.stderr.splitlines()[-1]  # below the progress bar
    assert not (tmp_path / "no.mp4").exists()


def test_run_on_a_folder_of_images(tmp_path: Path, weights: dict[str, str]) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, frame in enumerate(make_frames(3)):
        Image.fromarray(frame).save(folder / f"{t:05d}.jpg")
    result = carvid_process("run", folder, "-e", "a dog", "-o", tmp_path / "out", *options(weights))
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 3
    assert "a dog: in" in result.stdout


def assert_one_line(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("carvid: ") and result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


def test_what_is_wrong_takes_one_line_and_leaves_nothing(
    clip: Path, tmp_path: Path, weights: dict[str, str]
) -> None:
    out = tmp_path / "out"
    text, empty, folder = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "no-images"
    text.write_text("no video\n" * 99)
    empty.touch()
    folder.mkdir()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    wrong = tmp_path / "bert"
    wrong.mkdir()
    (wrong / "config.json").write_text('{"model_type": "bert"}')
    good = ["run", clip, "-o", out, *options(weights)]
    dog = ["-e", "a dog"]
    cases: list[tuple[list[object], str]] = [
        (["run", tmp_path / "none.mp4", *dog, "-o", out], "no file or folder"),
        (["run", folder, *dog, "-o", out], "holds no images"),
        (["run", text, *dog, "-o", out], "cannot read"),
        (["run", empty, *dog, "-o", out], "is empty (0 bytes)"),
        ([*good, *dog, "-p", "fsat"], "unknown preset 'fsat'; did you mean 'fast'?"),
        ([*good, *dog, "--set", "car.max_step=1"], "did you mean 'max_steps'?"),
        ([*good, "-e", " "], "an expression is empty"),
        ([*good, "-e", "zebra " * 40], "CLIP reads 77; shorten it"),
        (["run", clip, *dog, "-o", taken, *options(weights)], "holds something else"),
        (["run", clip, *dog, "-o", text / "x", *options(weights)], "cannot write to"),
        (["run", clip, *dog, "-o", text, *options(weights)], "is a file"),
        (["run", clip, *dog, "-o", out, "--weights-generator", wrong], "holds a 'bert' model"),
        (["run", clip, *dog, "-o", out, "--device", "warp"], "cannot use device 'warp'"),
        (["config", "nothing"], "unknown preset"),
    ]
    for arguments, message in cases:
        result = carvid(*arguments)
        assert_one_line(result, message)
        assert not result.stdout
    assert not out.exists()
    assert [p.name for p in taken.iterdir()] == ["thesis.txt"]


def test_explain_says_how_an_expression_is_understood() -> None:
    result = carvid("run", "--explain", "-e", "the red car on the left", "-e", "a dog")
    assert result.stdout.splitlines() == [
        '"the red car on the left": CLIP looks for "the red car"; chosen by: on the left',
        '"a dog": CLIP looks for it as it stands',
    ]
    as_it_stands = carvid("run", "--explain", "-e", "a car on the left", "--preset", "reference")
    assert "as it stands" in as_it_stands.stdout


@pytest.mark.parametrize("arguments", [
    ("run", "none.mp4", "-e", "a dog"), ("run", ".", "-e", " "),
    ("run", ".", "-e", "a dog", "-f", "coca"), ("run", __file__, "-e", "a dog"),
    ("run", "--manifest", "none.csv"), ("run", "--explain", "-e", "a dog"),
    ("overlay", "none.mp4", "."), ("view", "."),
])  # fmt: skip
def test_what_is_wrong_is_told_without_waiting_for_torch(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    place = () if arguments[0] == "view" else ("-o", tmp_path)
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "carvid", *arguments, *place],
        capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert result.returncode == int("--explain" not in arguments)
    assert re.search(r"\| +carvid\.config$", result.stderr, re.MULTILINE)
    assert not re.search(r"\| +(torch|transformers)$", result.stderr, re.MULTILINE)


def test_causal_is_a_setting_of_the_run(
    clip: Path, tmp_path: Path, weights: dict[str, str]
) -> None:
    arguments = ("run", clip, "-e", "a dog", "-o", tmp_path / "out", *options(weights))
    assert carvid(*arguments, "--causal").returncode == 0
    values = json.loads((tmp_path / "out" / "run.json").read_text())
    assert values["config"]["temporal"]["lag"] == 0
    assert "other inputs or settings" in carvid(*arguments, "--resume").stderr


def test_missing_weights_are_said_within_seconds(clip: Path, tmp_path: Path) -> None:
    result = carvid_process("run", clip, "-e", "a dog", "-o", tmp_path / "out")
    assert_one_line(result, "openai/clip-vit-base-patch16", "not cached", "--preset tiny")
    assert not (tmp_path / "out").exists()


def test_a_wrong_command_line_exits_2(clip: Path) -> None:
    assert carvid("run", clip).returncode == 2
    assert carvid_process("runn").returncode == 2


def test_config_prints_what_loads_back(tmp_path: Path) -> None:
    result = carvid("config", "voc", "--set", "car.theta=0.25")
    (tmp_path / "mine.yaml").write_text(result.stdout)
    again = carvid("config", tmp_path / "mine.yaml")
    assert again.stdout == result.stdout and "theta: 0.25" in again.stdout
    assert "refcoco+" in carvid("config", "--list").stdout.split()
    assert json.loads(carvid("config", "--json").stdout)["car"]["theta"] == 0.3


def test_info_names_versions_devices_and_weights() -> None:
    facts = json.loads(carvid("info", "--json").stdout)
    assert facts["packages"]["torch"].startswith("2.")
    assert facts["weights"]["openai/clip-vit-base-patch16"].startswith("missing")
    assert "cpu" in facts["devices"]["auto"] or facts["devices"]["cuda"] or facts["devices"]["mps"]


COMMANDS = ("run", "overlay", "view", "davis", "eval", "demo", "calibrate", "config", "info")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_has_an_example_and_is_quick(command: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "carvid", *command, "--help"],
        capture_output=True, text=True, check=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert "Example: carvid" in result.stdout
    loaded = result.stderr
    assert "typer" in loaded
    assert "torch" not in loaded and "numpy" not in loaded and "cv2" not in loaded
