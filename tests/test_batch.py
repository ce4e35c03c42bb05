"""Many clips in one go: the bytes of runs one by one, and nothing lost when one of them fails."""

from __future__ import annotations

import itertools
import json
import shlex
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

import carvid as package
from carvid.base.errors import ConfigError, OutputError
from carvid.batch import run as batches
from carvid.batch.manifest import Clip, clips_of, read_manifest
from carvid.batch.run import BatchResult, run_batch
from carvid.cli import app
from carvid.config import Config
from carvid.media.encode import VideoWriter
from carvid.media.open import Selection, open_video
from carvid.pipeline import Carvid, load
from carvid.temporal import causal
from tests import HANGS_S
from tests.conftest import carvid
from tests.signalled import with_signal
from tests.test_cli import ENVIRONMENT, assert_one_line
from tests.test_pipeline import files

EXAMPLE = Path(__file__).parent.parent / "examples" / "dog-jumping.mp4"
SETTINGS = ["crf.iterations=1", "car.theta=0", "weights.device=cpu"]
TINY = ["--preset", "tiny", *(word for setting in SETTINGS for word in ("--set", setting))]


def write_clips(folder: Path, count: int, frames: int = 3) -> list[Path]:
    """Small parts of the example clip, of sizes and looks that differ."""
    paths = []
    for number in range(count):
        path = folder / f"clip-{number:02d}.mp4"
        with open_video(
            EXAMPLE, selection=Selection(0.1 * number, max_side=64 + 8 * (number % 3))
        ) as reader:
            images = [frame.image for frame in itertools.islice(reader, frames)]
        assert len(images) == frames
        with VideoWriter(path, images[0].shape[:2], Fraction(25)) as writer:
            for image in images:
                writer.write(image[:, ::-1] if number % 2 else image)
        paths.append(path)
    return paths


def write_manifest(path: Path, clips: list[Path]) -> Path:
    """Two expressions for every other clip."""
    rows = [
        {"clip": clip.name, "expr": ["the dog", "a ball"] if number % 2 else "the cat"}
        for number, clip in enumerate(clips)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said_of_runs(folder: Path) -> dict[str, object]:
    """Every run.json but for its timing."""
    found = {}
    for path in sorted(folder.rglob("run.json")):
        values = json.loads(path.read_text())
        assert values.pop("timing").keys() == {"seconds", "frames_per_s"}
        found[str(path.relative_to(folder))] = values
    return found


def assert_same_runs(one: Path, other: Path) -> None:
    assert files(one).keys() == files(other).keys()
    for name, data in files(one).items():
        assert data == files(other)[name], name
    assert said_of_runs(one) == said_of_runs(other)


def run(clips: list[Clip], out: Path, **more: object) -> BatchResult:
    return run_batch(clips, out, "tiny", SETTINGS, **more)  # type: ignore[arg-type]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Notes each loading of models."""
    noted: list[Config] = []

    def noting(config: Config) -> Carvid:
        noted.append(config)
        return load(config)

    monkeypatch.setattr(batches, "load", noting)
    return noted


def test_a_batch_has_the_bytes_of_runs_one_by_one(tmp_path: Path, loads: list[Config]) -> None:
    path = write_manifest(tmp_path / "clips.jsonl", write_clips(tmp_path, 3))
    clips = read_manifest(path, Selection(stride=2))
    result = run(clips, tmp_path / "out", distractors=["a tree"], formats=["coco"])
    assert len(loads) == 1 and not result.failed
    assert list(result.done) == ["clip-00", "clip-01", "clip-02"]
    for clip in clips:
        alone = load("tiny", SETTINGS)
        alone.segment(
            clip.video, clip.texts, distractors=["a tree"], out=tmp_path / "alone" / clip.name,
            selection=clip.selection,
        )  # fmt: skip
        (tmp_path / "out" / clip.name / "coco.json").unlink()
    assert_same_runs(tmp_path / "out", tmp_path / "alone")
    assert [facts["frames"] for facts in result.done.values()] == [2, 2, 2]
    found = [facts["expressions"][0]["frames_found"] for facts in result.done.values()]
    assert sum(found) > 0  # else equal masks mean little


def test_finished_clips_are_left_alone_on_resuming(tmp_path: Path, loads: list[Config]) -> None:
    clips = clips_of(map(str, write_clips(tmp_path, 3)), ["the dog"])
    out = tmp_path / "out"
    run(clips[:2], out)
    begun = files(out) | {"when": (out / "clip-00" / "run.json").read_bytes()}
    with pytest.raises(OutputError) as caught:
        run(clips, out)
    assert str(caught.value).count("holds a run already; add --resume") == 2
    assert len(loads) == 1
    result = run(clips, out, resume=True)
    assert list(result.done) == ["clip-00", "clip-01", "clip-02"] and len(loads) == 2
    now = files(out) | {"when": (out / "clip-00" / "run.json").read_bytes()}
    assert begun.items() <= now.items() and "clip-02/scores.csv" in now
    other = clips_of([clip.video for clip in clips], ["a cat"])
    refused = run(other, out, resume=True)
    assert list(refused.failed) == ["clip-00", "clip-01", "clip-02"] and not refused.done
    assert all("other inputs or settings" in why for why in refused.failed.values())
    again = run(other[:1], out, overwrite=True)
    assert again.done["clip-00"]["expressions"][0]["text"] == "a cat"


def test_a_clip_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    paths = write_clips(tmp_path, 3)
    paths[1].write_bytes(b"no video\n" * 99)
    out = tmp_path / "out"
    result = carvid("run", *paths, "-e", "the dog", "-o", out, *TINY)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-2:]
    assert last[0].startswith("carvid: clip-01 failed: cannot read")
    command = shlex.join(map(str, ["run", *paths, "-e", "the dog", "-o", out, *TINY, "--resume"]))
    assert last[1] == (
        f"carvid: 1 of 3 clips failed; mend them and continue with: carvid {command}"
    )
    said = result.stdout.splitlines()
    assert [line.split(":")[0] for line in said[:2]] == ["clip-00", "clip-02"]
    assert said[2] == f"2 clips, each in its folder, are in {out}"
    assert sorted(path.name for path in out.iterdir()) == ["clip-00", "clip-02"]
    write_clips(tmp_path, 2)
    result = carvid("run", *paths, "-e", "the dog", "-o", out, "--resume", "--json", *TINY)
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    assert [clip["clip"] for clip in printed["clips"]] == ["clip-00", "clip-01", "clip-02"]
    assert [clip["frames"] for clip in printed["clips"]] == [3, 3, 3] and not printed["failed"]


def test_what_cannot_begin_is_told_before_models_are_loaded(
    tmp_path: Path, loads: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = clips_of(map(str, write_clips(tmp_path, 3)), ["the dog"])
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "clip-01").mkdir(parents=True)
    (out / "clip-01" / "thesis.txt").write_text("mine")
    elsewhere.mkdir()
    (out / "clip-02").symlink_to(elsewhere)
    with pytest.raises(OutputError) as caught:
        run(clips, out)
    assert f"'{out / 'clip-01'}' exists and holds something else" in str(caught.value)
    assert f"'{out / 'clip-02'}' leads out of '{out}'" in str(caught.value)
    single = tmp_path / "single"
    (single / ".carvid").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "ray", None)
    for arguments, error, message in (
        ({"out": single}, OutputError, "holds a run of its own"),
        ({"distractors": [""]}, ConfigError, "an expression is empty"),
        ({"formats": ["gif"]}, ConfigError, "unknown format 'gif'"),
        ({"workers": 2}, ConfigError, "add --engine ray"),
        ({"workers": 0, "engine": "ray"}, ConfigError, "workers is 0; give 1 or more"),
        ({"engine": "ray"}, ConfigError, r"needs Ray; pip install 'carvid\[ray\]'"),
        ({"engine": "slurm"}, ValueError, "engine must be serial or ray, got 'slurm'"),
    ):
        with pytest.raises(error, match=message):
            run(clips[:1], **{"out": tmp_path / "new", **arguments})  # type: ignore[arg-type]
    assert not loads and not (tmp_path / "new").exists() and not list(elsewhere.iterdir())
    assert [path.name for path in (out / "clip-01").iterdir()] == ["thesis.txt"]


def test_wrong_manifests_and_command_lines(tmp_path: Path) -> None:
    clip, out = write_clips(tmp_path, 1)[0], tmp_path / "out"
    manifest = tmp_path / "clips.csv"
    manifest.write_text(f"clip,expr,name\n{clip.name},a dog,../x\nnone.mp4,a dog,\n")
    result = carvid("run", "--manifest", manifest, "-o", out, *TINY)
    assert_one_line(result, "line 2: the name '../x'", "line 3: no file or folder")
    assert_one_line(carvid("run", clip, clip, "-e", "a dog", "-o", out, *TINY), "rename one")
    manifest.write_text(f"clip,expr\n{clip.name},the dog on the left\n{clip.name},the cat\n")
    explained = carvid("run", "--manifest", manifest, "--explain")
    assert explained.stdout.splitlines() == [
        '"the dog on the left": CLIP looks for "the dog"; chosen by: on the left',
        '"the cat": CLIP looks for it as it stands',
    ]
    for arguments in (
        ["--manifest", manifest, clip],
        ["--manifest", manifest, "-e", "a dog"],
        ["--manifest", manifest, "--camera", 0],
        ["--manifest", manifest, "--raw", "4x4@25"],
        [clip, clip],
        [clip, "-e", "a dog", "--engine", "ray"],
        [clip, "-e", "a dog", "--workers", 2],
        [clip, "-e", "a dog", "--engine", "slurm"],
    ):
        words = ["run", *map(str, arguments), "-o", str(out), *TINY]
        assert CliRunner().invoke(app, words).exit_code == 2, arguments
    assert not out.exists()


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "carvid", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str] | None = None) -> None:
    """Wait for a file that a process makes, or a thread of this one."""
    until = time.monotonic() + HANGS_S
    while not path.exists():
        assert process is None or process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)


def test_ctrl_c_leaves_what_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_clips(tmp_path, 3, frames=4)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = ["run", *paths, "-e", "the dog", "--causal", *TINY]
    assert carvid(*arguments, "-o", whole).returncode == 0
    with monkeypatch.context() as patch:  # in the second frame of the second clip
        patch.setattr(causal, "observe", with_signal(causal.observe, signal.SIGINT, 6))
        interrupted = carvid(*arguments, "-o", broken)
    assert interrupted.returncode == 130
    command = shlex.join(map(str, [*arguments, "-o", broken, "--resume"]))
    assert interrupted.stderr.endswith(f"carvid: interrupted; continue with: carvid {command}\n")
    assert (broken / "clip-00" / "run.json").exists()
    assert not (broken / "clip-01" / "run.json").exists()
    assert (broken / "clip-01" / "overlay.mp4").exists() and not (broken / "clip-02").exists()
    assert carvid(*arguments, "-o", broken, "--resume").returncode == 0
    assert_same_runs(broken, whole)
    assert package.Track.open(broken / "clip-01").texts == ("the dog",)
