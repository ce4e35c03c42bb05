"""The command line: what it makes, and one readable line for everything that is wrong."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import termios
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from tqdm import tqdm

from carvid.base.words import plural
from carvid.benchmark.submit import SERVERS
from carvid.cli import main
from carvid.cli import options as options_module
from carvid.cli.information import gather
from carvid.cli.messages import messages_on_stderr
from carvid.evaluation.protocols import PROTOCOLS
from carvid.exports.export import FORMATS
from carvid.media.open import open_video
from tests import HANGS_S
from tests.conftest import carvid, in_this_process, make_frames

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


IN_ONE_PROCESS = """
import contextlib, io, json, os, sys
from carvid.cli import main
environment = dict(os.environ)
for call in json.load(sys.stdin):
    words, added = (call, {}) if isinstance(call, list) else ([], call)
    os.environ.clear()
    os.environ.update(environment | added)
    sys.argv, code = ["carvid", *words], 0
    with contextlib.redirect_stdout(io.StringIO()) as out, \\
            contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([call, code, out.getvalue(), err.getvalue(), list(sys.modules)]))
"""


@dataclass(frozen=True)
class Called:
    """What came of a call of the command line in a process that had several."""

    args: object
    returncode: int
    stdout: str
    stderr: str
    loaded: set[str]
    """Modules of this call and those before it."""


def in_one_process(*calls: list[str] | dict[str, str]) -> list[Called]:
    """Call the command line with arguments, or with variables of the environment, one after the
    other in a process that has loaded nothing before."""
    result = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS], input=json.dumps(calls), capture_output=True,
        text=True, check=True, env=ENVIRONMENT, timeout=HANGS_S,
    )  # fmt: skip
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == len(calls)
    return [Called(*row[:4], set(row[4])) for row in rows]


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
    result = carvid("run", folder, "-e", "a dog", "-o", tmp_path / "out", *options(weights))
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
        (["run", clip, *dog, "-o", out, "--device", "warp"], "torch has no device 'warp'"),
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


def test_what_is_wrong_is_told_without_waiting_for_torch(tmp_path: Path) -> None:
    out = ["-o", str(tmp_path)]
    wrong = [
        ["run", "none.mp4", "-e", "a dog", *out], ["run", ".", "-e", " ", *out],
        ["run", ".", "-e", "a dog", "-f", "coca", *out], ["run", __file__, "-e", "a dog", *out],
        ["run", "--manifest", "none.csv", *out], ["overlay", "none.mp4", ".", *out], ["view", "."],
    ]  # fmt: skip
    *refused, explained = in_one_process(*wrong, ["run", "--explain", "-e", "a dog", *out])
    for result in (*refused, explained):
        assert result.returncode == int(result is not explained), result
        assert not {"torch", "transformers"} & result.loaded, result.args
    assert "carvid.config" in refused[0].loaded


def test_causal_is_a_setting_of_the_run(
    clip: Path, tmp_path: Path, weights: dict[str, str]
) -> None:
    arguments = ("run", clip, "-e", "a dog", "-o", tmp_path / "out", *options(weights))
    assert carvid(*arguments, "--causal").returncode == 0
    values = json.loads((tmp_path / "out" / "run.json").read_text())
    assert values["config"]["temporal"]["lag"] == 0
    assert "other inputs or settings" in carvid(*arguments, "--resume").stderr


def test_missing_weights_are_one_line(clip: Path, tmp_path: Path) -> None:
    result = carvid("run", clip, "-e", "a dog", "-o", tmp_path / "out")
    assert_one_line(result, "openai/clip-vit-base-patch16", "not cached", "--preset tiny")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["run"], "say what to find with --expr", "carvid run"),
        (["run", "-e", "a dog"], "give one of VIDEO, --manifest and --camera", "carvid run"),
        (["run", "--exprr", "x"], "No such option: --exprr (Possible options: ", "carvid run"),
        (["run", "--engine", "slurm"], "'slurm' is not one of 'serial', 'ray'", "carvid run"),
        (["runn"], "No such command 'runn'. Did you mean 'run'?", "carvid"),
        (["overlay", "a.mp4", "masks"], "Missing option '--out' / '-o'.", "carvid overlay"),
    ],
)
def test_a_wrong_command_line_takes_two_lines_and_exits_2(
    arguments: list[str], message: str, command: str
) -> None:
    result = carvid(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first.startswith("carvid: ") and message in first and "Invalid value:" not in first
    assert second == f"Try '{command} --help' for help."


def test_no_command_shows_all_of_them() -> None:
    result, helped = in_one_process([], ["--help"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == helped.stdout
    assert result.stderr.startswith("Usage: carvid [OPTIONS] COMMAND")


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
    assert facts["devices"]["auto dtype"] in ("float32", "bfloat16", "float16")
    assert "facebook/sam2.1-hiera-tiny" not in facts["weights"]
    assert gather("sam2")["weights"]["facebook/sam2.1-hiera-tiny"].startswith("missing")


COMMANDS = (
    "run",
    "correct",
    "index",
    "overlay",
    "view",
    "export",
    "app",
    "davis",
    "eval",
    "submit",
    "bench",
    "demo",
    "calibrate",
    "config",
    "info",
)


def test_help_has_an_example_and_is_quick() -> None:
    for result in in_one_process(["--help"], *([name, "--help"] for name in COMMANDS)):
        assert result.returncode == 0 and "Example: carvid" in result.stdout
        assert "typer" in result.loaded
        assert not result.loaded & {"torch", "numpy", "cv2", "rich", "tqdm"}, result.args


def panels_of(help_text: str) -> dict[str, list[str]]:
    """Heading → the lines below it."""
    panels: dict[str, list[str]] = {}
    for line in help_text.split("  Example:")[0].splitlines():
        if re.fullmatch(r"\S.*:", line):
            panels[line[:-1]] = []
        elif panels and line.startswith("  "):
            panels[list(panels)[-1]].append(line)
    return panels


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_options_of_run_are_in_groups(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = carvid("run", "--help").stdout
    assert "\x1b" not in said and all(len(line) <= columns for line in said.splitlines())
    panels = panels_of(said)
    assert list(panels) == [
        "Arguments", "What to find", "Input", "Output", "Models", "Quality and speed",
        "Several clips", "Options",
    ]  # fmt: skip
    names = {panel: re.findall(r"--[\w-]+", "\n".join(panels[panel])) for panel in panels}
    wanted = [
        "--expr", "--distractor", "--negative", "--instances", "--classes", "--explain",
        "--click", "--correct", "--ask",
    ]  # fmt: skip
    assert names["What to find"] == wanted
    assert {"--manifest", "--engine", "--workers", "--ray-address"} <= set(names["Several clips"])
    assert names["Options"] == ["--help"]


def test_names_that_a_shell_completes_are_those_there_are() -> None:
    assert tuple(FORMATS) == options_module.FORMATS
    assert tuple(PROTOCOLS) == options_module.PROTOCOLS
    assert tuple(SERVERS) == options_module.SERVERS


def test_a_shell_completes() -> None:
    wanted = {
        "cal": ["calibrate"],
        "run --preset ref": ["refcoco", "refcoco+", "refcocog", "reference"],
        "config f": ["fast"],
        "run -f c": ["coco", "cutouts"],
        "eval a DATA --protocol s": ["semi-supervised"],
        "submit a --for r": ["ref-youtube-vos"],
        "davis DATA --split v": ["valid", "valid_u"],
    }
    asked = [
        {"_CARVID_COMPLETE": "complete_bash", "COMP_WORDS": f"carvid {words}",
         "COMP_CWORD": str(len(words.split()))}
        for words in wanted
    ]  # fmt: skip
    for result, completed in zip(in_one_process(*asked), wanted.values(), strict=True):
        assert result.stdout.splitlines() == completed
        assert not {"torch", "numpy", "cv2"} & result.loaded


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_completion_is_shown_for_bash() -> None:
    command = shlex.join([sys.executable, "-m", "carvid", "--show-completion"])
    result = subprocess.run(
        ["bash", "-c", f"{command}; true"],  # true: else bash would give way to the command
        capture_output=True, text=True, check=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert "_CARVID_COMPLETE=complete_bash" in result.stdout
    assert result.stdout.endswith("complete -o default -F _carvid_completion carvid\n")


# A setting of an earlier version is told in the log, and the time that a run took.
USERS_PROGRAM = """
import logging, sys
import carvid
clip, out = sys.argv[1:]
overrides = ["car.keep_best=true", "crf.iterations=1"]
for name in ("silent", "shown"):
    model = carvid.load("tiny", overrides, generator="tiny", classifier="tiny")
    model.segment(clip, ["a dog"]).save(f"{out}/{name}-saved")
    track = model.segment(clip, ["a dog"], out=f"{out}/{name}")
    carvid.export(track, f"{out}/{name}", ["html", "alpha"])
    print(name, file=sys.stderr)
    logging.basicConfig(level="INFO", format="%(name)s: %(message)s")
"""


def test_a_users_program_prints_nothing_and_may_show_the_log(clip: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", USERS_PROGRAM, str(clip), str(tmp_path)],
        capture_output=True, text=True, check=True, env=ENVIRONMENT,
    )  # fmt: skip
    silent, *lines, shown = result.stderr.splitlines()
    assert (result.stdout, silent, shown) == ("", "silent", "shown")
    first, second = (line for line in lines if line.startswith("carvid: "))
    assert first.startswith("carvid: the setting car.keep_best is now car.present=best")
    assert re.fullmatch(r"carvid: clip.mp4: 6 frames in \S+ s, \S+ frame/s", second)


def on_terminal(*arguments: object) -> tuple[str, str]:
    """What the command line shows where stderr is a terminal, and its stdout."""
    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (24, 100))
    shown = bytearray()

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while data := os.read(terminal, 1 << 16):
                shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(its_end, "w", encoding="utf-8") as stderr:
        result = in_this_process(main, *arguments, stderr=stderr)
    reader.join()
    os.close(terminal)
    assert result.returncode == 0
    return shown.decode(), result.stdout


def test_bars_are_for_terminals_and_quiet_leaves_what_matters(
    clip: Path, tmp_path: Path, weights: dict[str, str]
) -> None:
    """An old setting stands for a warning."""
    asked = ["run", clip, "-e", "a dog", *options(weights), "--set", "car.keep_best=yes"]
    warning = "carvid: the setting car.keep_best is now car.present=best; it was read so"
    shown, _ = on_terminal(*asked, "-o", tmp_path / "shown")
    lines = [line.split("\r")[-1] for line in shown.split("\r\n")]
    assert lines[0] == warning and "6 frames in" not in shown
    assert any("| 6/6 [" in line and "frame/s" in line for line in lines)
    hushed, found = on_terminal(*asked, "-o", tmp_path / "hushed", "-q")
    assert hushed.splitlines() == [warning] and found.startswith("1: a dog: in ")
    told = carvid(*asked, "-o", tmp_path / "told")
    first, second = told.stderr.splitlines()
    assert "\r" not in told.stderr and first == warning
    assert re.fullmatch(r"carvid: clip.mp4: 6 frames in \S+ s, \S+ frame/s", second)
    assert told.stdout.splitlines()[:-1] == found.splitlines()
    again = carvid(*asked, "-o", tmp_path / "hushed", "--quiet")
    assert again.returncode == 1 and "holds a run already" in again.stderr
    assert not carvid(
        "overlay", clip, tmp_path / "hushed/masks", "-o", tmp_path / "a.mp4", "-q"
    ).stdout
    assert (tmp_path / "a.mp4").stat().st_size > 0


UNTIL_TORCH = """
import sys
from carvid.cli import main
class Importing:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "transformers", "huggingface_hub"):
            sys.meta_path.remove(self)
            from huggingface_hub import constants
            print(name, constants.HF_HUB_DISABLE_PROGRESS_BARS)
            raise SystemExit(7)
sys.meta_path.insert(0, Importing())
main()
"""


@pytest.mark.parametrize(("quiet", "hushed"), [(["-q"], "True"), ([], "None")])
def test_quiet_reaches_the_bars_of_downloads(quiet: list[str], hushed: str, tmp_path: Path) -> None:
    """Whatever imports the hub library first finds that its bars are as asked for."""
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "HF_HUB_DISABLE_PROGRESS_BARS"}
    result = subprocess.run(
        [sys.executable, "-c", UNTIL_TORCH, "davis", tmp_path, "-o", tmp_path / "out", *quiet],
        capture_output=True, text=True, check=False, env=environment, timeout=HANGS_S,
    )  # fmt: skip
    assert result.returncode == 7, result.stderr
    assert result.stdout.split()[1] == hushed


def test_a_message_leaves_a_bar_whole(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("carvid")
    before = (log.level, log.propagate, list(log.handlers))
    with messages_on_stderr(), tqdm(total=2, desc="bar", ncols=30) as bar:
        bar.update()
        log.warning("%d of %s", 1, "two")
        bar.update()
    assert (log.level, log.propagate, list(log.handlers)) == before
    said = capsys.readouterr().err
    assert said.count("carvid: 1 of two") == 1
    line = next(line for line in said.splitlines() if "carvid:" in line)
    assert line == "carvid: 1 of two"  # none of the bar before it or behind
    assert said.splitlines()[-1].startswith("bar: 100%")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 videos"), (1, "1 video"), (2, "2 videos")]
)  # fmt: skip
def test_numbers_with_their_nouns(count: int, text: str) -> None:
    assert plural(count, "video") == text


def test_help_lists_every_command() -> None:
    listed = carvid("--help").stdout.split("Commands:")[1].split("\n\n")[0]
    assert set(re.findall(r"^  (\w+)", listed, re.M)) == set(COMMANDS)
