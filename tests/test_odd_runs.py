"""Runs that are stopped, damaged, moved, resumed with something else, or asked for oddly."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import carvid as package
from carvid import pipeline
from carvid.base import interrupt
from carvid.base.errors import CarvidError, ExpressionError, OutputError
from carvid.base.interrupt import SAME_WISH_S, finishing_frames
from carvid.base.spreadsheet import as_text, from_text
from carvid.base.words import plural
from carvid.car.queries import MOST_TEXTS, Queries
from carvid.clip.content import content_of
from carvid.media.fingerprint import BLOCK_BYTES, BLOCKS, fingerprint
from carvid.pipeline import Carvid
from carvid.run.earlier import differences
from tests import HANGS_S
from tests.conftest import Finished, carvid
from tests.signalled import with_signal
from tests.test_batch import write_clips
from tests.test_cli import ENVIRONMENT, options
from tests.test_pipeline import FAST, TEXTS, files
from tests.test_predict import options as predict_options
from tests.test_reliability import frames_in
from tests.trees import unseen_tree

TINY = ("--preset", "tiny")


@pytest.fixture
def model(weights: dict[str, str]) -> Carvid:
    """Decides each frame at once."""
    return package.load("default", [*FAST, "temporal.lag=0"], **weights)


def stopped_after(model: Carvid, clip: Path, out: Path, frames: int) -> None:
    asked = iter([False] * (frames - 1) + [True])
    with pytest.raises(KeyboardInterrupt):
        model.segment(clip, TEXTS, out=out, stop=lambda: next(asked))


# signals ------------------------------------------------------------------------------------


def test_sigterm_ends_a_run_as_ctrl_c_does(tmp_path: Path) -> None:
    (path,) = write_clips(tmp_path, 1, frames=8)
    whole, broken = tmp_path / "whole", tmp_path / "my run"
    arguments = ["run", path, "-e", "the dog", "--causal", *TINY]
    assert carvid(*arguments, "-o", whole).returncode == 0
    process = subprocess.run(
        [sys.executable, "-m", "tests.signalled", "SIGTERM", "4", *map(str, arguments),
         "-o", broken],
        capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=HANGS_S,
    )  # fmt: skip
    said = process.stderr
    assert process.returncode == 143, said
    asked, last = said.splitlines()[-2:]
    assert asked == "carvid: finishing the frame; a second signal ends all at once"
    command = last.removeprefix("carvid: interrupted; continue with: ")
    assert command.endswith(f"-o '{broken}' --resume")
    assert frames_in(broken / "overlay.mp4") == 4 and not (broken / "run.json").exists()
    name, *words = shlex.split(command)
    assert name == "carvid"
    assert carvid(*words).returncode == 0
    assert files(broken) == files(whole)


def test_a_second_signal_ends_all_at_once_but_a_closed_terminal_sends_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 9.0
    monkeypatch.setattr(interrupt, "time", SimpleNamespace(monotonic=lambda: now_s))
    with finishing_frames() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)  # systemd sends both
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    with finishing_frames() as stop:
        signal.raise_signal(signal.SIGHUP)
        now_s += SAME_WISH_S
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with finishing_frames() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """A command in which the n-th frame, or image, comes with a signal."""

    def run(number: int, frame: int, *words: object) -> Finished:
        with monkeypatch.context() as patch:
            for owner, name in ((pipeline, "observe"), (Carvid, "segment_image")):
                call = with_signal(getattr(owner, name), number, frame)
                patch.setattr(owner, name, call)
            return carvid(*words)

    return run


Signalled = Callable[..., Finished]


def test_a_closed_terminal_ends_a_run(tmp_path: Path, signalled: Signalled) -> None:
    (path,) = write_clips(tmp_path, 1, frames=5)
    command = ["run", path, "-e", "the dog", "--causal", *TINY, "-o", tmp_path / "out"]
    said = signalled(signal.SIGHUP, 3, *command)
    assert said.returncode == 129 and said.stderr.endswith(" --resume\n"), said.stderr
    assert frames_in(tmp_path / "out" / "overlay.mp4") == 3
    assert carvid(*command, "--resume").returncode == 0


def test_a_signal_ends_a_batch(tmp_path: Path, signalled: Signalled) -> None:
    command = ["run", *write_clips(tmp_path, 2, frames=5), "-e", "the dog", "--causal", *TINY]
    out = tmp_path / "out"
    said = signalled(signal.SIGTERM, 2, *command, "-o", out)
    assert said.returncode == 143 and said.stderr.endswith(f"-o {out} --resume\n")
    assert (out / "clip-00" / "overlay.mp4").exists() and not (out / "clip-01").exists()
    assert carvid(*command, "-o", out, "--resume").returncode == 0
    assert carvid(*command, "-o", tmp_path / "whole").returncode == 0
    for name in ("clip-00", "clip-01"):
        assert files(out / name) == files(tmp_path / "whole" / name)


def test_a_signal_ends_predictions_for_a_data_set(
    tmp_path: Path, signalled: Signalled, weights: dict[str, str]
) -> None:
    tree = unseen_tree(tmp_path / "data", {"bear": 4, "cow": 2})
    command = ["davis", tree, *predict_options(weights)]
    out, whole = tmp_path / "out", tmp_path / "whole"
    said = signalled(signal.SIGTERM, 6, *command, "-o", out)
    assert said.returncode == 143 and said.stderr.endswith(f"-o {out} --resume\n")
    assert carvid(*command, "-o", out, "--resume").returncode == 0
    assert carvid(*command, "-o", whole).returncode == 0
    masks = sorted(path.relative_to(whole) for path in whole.rglob("*.png"))
    assert masks and all((out / each).read_bytes() == (whole / each).read_bytes() for each in masks)
    (out / "runs" / "bear" / "anno_1" / "scores.csv").write_text("")
    assert carvid(*command, "-o", out, "--resume").stdout.count("; 4 frames done now") == 1
    said = carvid(*command, "-o", out, "--resume", "--set=car.theta=0.25")
    assert said.returncode == 1 and "settings: car.theta was 0.2, is 0.25; choose" in said.stderr
    (out / "run.json").write_text("{")
    said = carvid(*command, "-o", out, "--resume")
    assert said.returncode == 1 and "run.json' is damaged; choose another" in said.stderr
    assert carvid(*command, "-o", out, "--overwrite").returncode == 0


def test_a_signal_ends_a_calibration(
    tmp_path: Path, signalled: Signalled, weights: dict[str, str]
) -> None:
    tree = unseen_tree(tmp_path / "data", {"bear": 2, "cow": 2})
    command = ["calibrate", tree, "-o", tmp_path / "a.yaml", *options(weights), "--limit", 2]
    said = signalled(signal.SIGTERM, 2, *command)
    assert said.returncode == 143 and said.stderr.endswith(" 2 --resume\n"), said.stderr
    said = carvid(*command, "--resume", "--set", "car.theta=0.5")
    assert said.returncode == 1 and "settings: car.theta was 0.3, is 0.5" in said.stderr


# resuming -----------------------------------------------------------------------------------


def cut(name: str, keep: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        (out / name).write_bytes(keep((out / name).read_bytes()))

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda out: (out / name).unlink()


DAMAGES: dict[str, tuple[bool, Callable[[Path], None], str]] = {
    "scores shortened": (False, cut(".carvid/scores.csv", lambda b: b[:90]), "scores.csv'"),
    "scores gone": (False, remove(".carvid/scores.csv"), "scores.csv' is damaged or missing"),
    "scores changed": (False, cut(".carvid/scores.csv", lambda b: b.replace(b"1,", b"x,")), "scor"),
    "scores no text": (False, cut(".carvid/scores.csv", lambda b: b"\xff" + b), "scores.csv'"),
    "progress empty": (False, cut(".carvid/progress.json", lambda b: b""), "progress.json'"),
    "progress cut": (False, cut(".carvid/progress.json", lambda b: b[:200]), "progress.json'"),
    "progress a list": (False, cut(".carvid/progress.json", lambda b: b"[]"), "progress.json'"),
    "mask gone": (False, remove("masks/00001.png"), "00001.png' is damaged or missing"),
    "mask cut": (False, cut("masks/00001.png", lambda b: b[:-9]), "00001.png' is damaged"),
    "run.json cut": (True, cut("run.json", lambda b: b[:300]), "run.json' is damaged"),
    "run.json empty": (True, cut("run.json", lambda b: b""), "run.json' is damaged"),
    "end scores shortened": (True, cut("scores.csv", lambda b: b[:200]), "scores.csv'"),
    "end scores empty": (True, cut("scores.csv", lambda b: b""), "scores.csv'"),
    "end scores lengthened": (True, cut("scores.csv", lambda b: b + b[-60:]), "scores.csv'"),
    "end mask gone": (True, remove("masks/00003.png"), "00003.png' is damaged or missing"),
    "end mask empty": (True, cut("masks/00005.png", lambda b: b""), "00005.png' is damaged"),
}


@pytest.fixture(scope="module")
def runs(weights: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, a whole run of it, and one of its first half."""
    folder = tmp_path_factory.mktemp("runs")
    (clip,) = write_clips(folder, 1, frames=6)
    model = package.load("default", [*FAST, "temporal.lag=0"], **weights)
    model.segment(clip, TEXTS, out=folder / "whole")
    stopped_after(model, clip, folder / "half", 3)
    return folder


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_run_is_made_again(
    runs: Path, model: Carvid, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    at_end, damage, told = DAMAGES[name]
    out = tmp_path / "out"
    shutil.copytree(runs / ("whole" if at_end else "half"), out)
    damage(out)
    track = model.segment(runs / "clip-00.mp4", TEXTS, out=out, resume=True)
    assert len(track) == 6 and files(out) == files(runs / "whole")
    (record,) = [each for each in caplog.records if "done again" in each.message]
    assert told in record.message
    caplog.clear()
    model.segment(runs / "clip-00.mp4", TEXTS, out=out, resume=True)
    assert "done again" not in caplog.text


def test_a_damaged_run_that_is_opened_is_one_line(runs: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("end scores shortened", "run.json cut", "end scores empty")):
        out = tmp_path / str(number)
        shutil.copytree(runs / "whole", out)
        DAMAGES[name][1](out)
        with pytest.raises(OutputError, match=r"; (make|give)"):
            package.Track.open(out)


def test_the_same_input_by_another_path_is_the_same(
    runs: Path, model: Carvid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    link = tmp_path / "link.mp4"
    link.symlink_to(runs / "clip-00.mp4")
    moved = tmp_path / "elsewhere" / "renamed.mp4"
    moved.parent.mkdir()
    shutil.copy(runs / "clip-00.mp4", moved)
    for number, path in enumerate(("clip-00.mp4", "./clip-00.mp4", link, moved)):
        out = tmp_path / f"out{number}"
        shutil.copytree(runs / "half", out)
        model.segment(path, TEXTS, out=out, resume=True)
        assert files(out) == files(runs / "whole"), path


def test_a_folder_of_frames_by_another_path_is_the_same(model: Carvid, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(3):
        Image.new("RGB", (40, 32), (index * 80, 9, 9)).save(frames / f"{index}.png")
    out = tmp_path / "out"
    model.segment(frames, TEXTS, out=out)
    for path in (f"{frames}/", f"{frames}/../frames", shutil.copytree(frames, tmp_path / "b")):
        assert len(model.segment(path, TEXTS, out=out, resume=True)) == 3
    Image.new("RGB", (40, 32), (1, 2, 3)).save(frames / "0.png")
    with pytest.raises(OutputError, match=r"frames' has another content than then; choose"):
        model.segment(frames, TEXTS, out=out, resume=True)


def test_an_input_replaced_in_its_place_is_another(
    runs: Path, model: Carvid, tmp_path: Path
) -> None:
    path, out = tmp_path / "clip-00.mp4", tmp_path / "out"
    shutil.copy(runs / "clip-00.mp4", path)
    stopped_after(model, path, out, 2)
    (other,) = write_clips(tmp_path, 1, frames=5)
    with pytest.raises(OutputError, match=r"clip-00.mp4' has another content than then"):
        model.segment(other, TEXTS, out=out, resume=True)
    long = tmp_path / "other.mp4"
    shutil.copy(other, long)
    with pytest.raises(OutputError, match=r"the input was '.*clip-00.mp4', is '.*other.mp4'"):
        model.segment(long, TEXTS, out=out, resume=True)


def test_large_files_are_told_apart_by_blocks_of_them(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    size = 3 * BLOCKS * BLOCK_BYTES
    path.write_bytes(bytes(size))
    before = fingerprint(path)
    for place in (0, size - 1):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        assert fingerprint(path) not in (before, None)
        path.write_bytes(bytes(size))
    assert fingerprint(path) == before
    path.write_bytes(bytes(size + 1))
    assert fingerprint(path) != before and fingerprint(tmp_path / "none") is None


def test_checkpoints_and_folders_are_told_by_content(
    weights: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "sam.pth"
    path.write_bytes(b"one")
    before = content_of(str(path))
    assert before is not None and before.startswith("sha256:")
    path.write_bytes(b"two")
    assert content_of(str(path)) not in (before, None)
    copied = shutil.copytree(weights["generator"], tmp_path / "copied")
    assert content_of(str(copied)) == content_of(weights["generator"])
    (copied / "README.md").write_text("no weights")
    assert content_of(str(copied)) == content_of(weights["generator"])
    assert content_of(weights["generator"]) != content_of(weights["classifier"])
    assert content_of(str(tmp_path / "none")) is None and content_of("tiny") is not None


@pytest.mark.parametrize("changed", ["model.safetensors", "config.json", "tokenizer.json"])
def test_weights_replaced_in_their_folder_are_others(
    runs: Path, weights: dict[str, str], tmp_path: Path, changed: str
) -> None:
    mine = {}
    for use, folder in weights.items():
        mine[use] = str(shutil.copytree(folder, tmp_path / use))
    out, settings = tmp_path / "out", [*FAST, "temporal.lag=0"]
    clip = runs / "clip-00.mp4"
    stopped_after(package.load("default", settings, **mine), clip, out, 2)
    path = Path(mine["generator"]) / changed
    if changed == "model.safetensors":
        values = load_file(path)
        name = min(values)
        values[name] = np.asarray(values[name] + np.float32(0.01))
        save_file(values, path, {"format": "pt"})
    else:
        path.write_text(path.read_text() + "\n")
    with pytest.raises(
        OutputError, match="settings: the weights of generator have another content than then; ch"
    ):
        package.load("default", settings, **mine).segment(clip, TEXTS, out=out, resume=True)


def test_what_differs_is_said(runs: Path, weights: dict[str, str], tmp_path: Path) -> None:
    clip, out = runs / "clip-00.mp4", tmp_path / "out"
    command = ["run", clip, "-e", "a dog", "-o", out, *options(weights)]
    assert carvid(*command).returncode == 0
    again = carvid(*command)
    assert again.returncode == 1 and "holds a run already; add --resume" in again.stderr
    for more, told in (
        (["-e", "a cat"], "expression 2 'a cat' is new"),
        (["--negative", "a cat"], "distractor 1 'a cat' is new"),
        (["--threshold", "0.6"], "car.theta was 0.3, is 0.6"),
        (["--end", "0.1"], "end was null, is 0.1"),
        (["--style", "fill=off"], "overlay.fill was"),
    ):
        for resume in ([], ["--resume"]):
            said = carvid(*command, *more, *resume)
            assert said.returncode == 1 and said.stderr.count("\n") == 1
            assert f"settings: {told}" in said.stderr, said.stderr
            assert "add --resume" not in said.stderr
    replaced = carvid(*command, "-e", "a cat", "--resume", "--overwrite")
    assert replaced.returncode == 0, replaced.stderr
    assert package.Track.open(out).texts == ("a dog", "a cat")
    when = (out / "run.json").read_bytes()
    assert carvid(*command, "-e", "a cat", "--resume", "--overwrite").returncode == 0
    assert (out / "run.json").read_bytes() == when


def test_differences_are_few_words() -> None:
    saved = {
        "carvid": "1.0", "texts": ["a", "b"], "distractors": [],
        "config": {"car": {"theta": 0.3}, "sam": {"model": None}},
        "video": {"path": "a.mp4", "size_hw": [4, 6]}, "contents": {"generator": "x"},
    }  # fmt: skip
    assert differences(saved, saved) == []
    now = {**saved, "carvid": "2.0", "texts": ["a"], "contents": {"generator": "y"}}
    assert differences(saved, now) == [
        "expression 2 'b' is no longer asked for",
        "the weights of generator have another content than then", "carvid was '1.0', is '2.0'",
    ]  # fmt: skip
    assert differences(saved, {"video": {"path": "b.mp4"}}) == ["the input was 'a.mp4', is 'b.mp4'"]


def test_one_more_expression_in_a_manifest_is_one_line(tmp_path: Path) -> None:
    write_clips(tmp_path, 2, frames=2)
    manifest, out = tmp_path / "m.csv", tmp_path / "out"
    manifest.write_text("clip,expr\nclip-00.mp4,a dog\nclip-01.mp4,a dog\n")
    command = ["run", "--manifest", manifest, "-o", out, *TINY]
    assert carvid(*command).returncode == 0
    manifest.write_text("clip,expr\nclip-00.mp4,a dog\nclip-00.mp4,a cat\nclip-01.mp4,a dog\n")
    said = carvid(*command)
    assert said.returncode == 1 and "clip-00' holds a run with other" in said.stderr
    assert "expression 2 'a cat' is new" in said.stderr
    said = carvid(*command, "--resume")
    assert said.returncode == 1 and "1 of 2 clips failed" in said.stderr
    assert "clip-00 failed: " in said.stderr and "expression 2 'a cat' is new" in said.stderr


# asking -------------------------------------------------------------------------------------


def test_every_clip_of_a_folder(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    write_clips(clips, 2, frames=2)
    (clips / "frames").mkdir()
    for index in range(2):
        Image.new("RGB", (48, 34)).save(clips / "frames" / f"{index}.png")
    (clips / "notes.txt").write_text("x")
    Image.new("RGB", (48, 34)).save(clips / "cover.jpg")
    out = tmp_path / "out"
    done = carvid("run", clips, "--each", "-e", "a dog", "-o", out, *TINY)
    assert done.returncode == 0, done.stderr
    assert "2 of 5 entries are no clips and are left out, pictures among them, as 'cover.jpg'" in (
        done.stderr
    )
    assert sorted(path.name for path in out.iterdir()) == ["clip-00", "clip-01", "frames"]
    assert all((path / "run.json").exists() for path in out.iterdir())
    alone = carvid("run", clips / "frames", "--each", "-e", "a dog", "-o", tmp_path / "o", *TINY)
    assert alone.returncode == 1 and "leave --each away" in alone.stderr
    none = carvid("run", out / "none", "--each", "-e", "a dog", *TINY)
    assert none.returncode == 1 and "is no folder" in none.stderr
    assert plural(1, "clip") == "1 clip" and plural(2, "clip") == "2 clips"
    assert carvid("run", "--each", "-e", "a dog", *TINY).returncode == 2


def test_explain_prints_json() -> None:
    said = carvid("run", "--explain", "--json", "-e", "the red car on the left", "-e", "a dog")
    assert json.loads(said.stdout) == {
        "texts": [
            {"expression": "the red car on the left", "text": "the red car",
             "chosen_by": ["on the left"]},
            {"expression": "a dog", "text": "a dog", "chosen_by": []},
        ]
    }  # fmt: skip


@pytest.mark.parametrize(("texts", "told"), [
    (["dog\udcff"], "UTF-8"), (["dog\x1b[31m"], "control characters"), (["a\0b"], "control"),
    ([""], "is empty"), ([" \n\t"], "is empty"), (["\u3000"], "is empty"),
    ([f"dog {k}" for k in range(MOST_TEXTS + 1)], "255 expressions are given, and labels are for"),
])  # fmt: skip
def test_odd_expressions_are_one_line(texts: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ExpressionError, match=told) as caught:
        Queries(tuple(texts))
    assert str(caught.value).isprintable()
    asked = [word for text in texts for word in ("-e", text)]
    out = tmp_path / "out"
    said = carvid("run", Path(__file__).parent / "clips", *asked, "-o", out, *TINY)
    assert said.returncode == 1 and told in said.stderr and said.stderr.count("\n") == 1
    assert not out.exists()


def test_texts_that_look_odd_are_asked_for(model: Carvid, clip: Path, tmp_path: Path) -> None:
    texts = ["a dog", "a dog", "כלב לבן", "a\n white\tdog", "=1+1", "@dog", "'=x", "-dog"]
    track = model.segment(clip, texts, out=tmp_path / "out")
    assert track.texts == ("a dog", "a dog", "כלב לבן", "a white dog", *texts[4:])
    assert package.Track.open(tmp_path / "out").texts == track.texts
    assert len(model.segment(clip, texts, out=tmp_path / "out", resume=True)) == len(track)
    (tmp_path / "out" / "run.json").read_text(encoding="utf-8")
    with (tmp_path / "out" / "scores.csv").open(encoding="utf-8", newline="") as file:
        cells = [row["expression"] for row in csv.DictReader(file)][: len(texts)]
    assert cells[4:] == ["'=1+1", "'@dog", "''=x", "'-dog"]
    assert [from_text(cell) for cell in cells] == list(track.texts)


@pytest.mark.parametrize("text", ["=A1", "+1", "-1", "@x", "\t=1", "\r=1", "＝1", "'", "''=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert from_text(as_text(text)) == text
    assert as_text(text)[0] == "'" and as_text("a = b") == "a = b"


def test_small_frames_are_one_line(clip: Path, tmp_path: Path, model: Carvid) -> None:
    for size in (1, 11, 16):  # 48×34: a height of 1, 8 and 11 pixels
        said = carvid("run", clip, "-e", "a dog", "-o", tmp_path / "o", "--max-side", size, *TINY)
        assert said.returncode == 1 and said.stderr.count("\n") == 1, said.stderr
        assert "choose a larger --max-side" in said.stderr
    for shape in ((8, 8, 3), (2000, 1, 3)):
        with pytest.raises(ValueError, match="side under 12 pixels"):
            next(model.stream([np.zeros(shape, np.uint8)], "a dog"))


def test_the_python_names_are_in_messages(runs: Path, model: Carvid) -> None:
    with pytest.raises(CarvidError, match=r"--resume \(resume=True\).*-o \(out=\)$"):
        model.segment(runs / "clip-00.mp4", TEXTS, out=runs / "whole")
