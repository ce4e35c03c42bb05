"""Ray: the serial run's bytes, whatever happens to a worker. Skipped where Ray is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carvid.manifest import read_manifest
from tests.conftest import carvid
from tests.test_batch import (
    TINY,
    assert_same_runs,
    run,
    start,
    wait_for,
    write_clips,
    write_manifest,
)
from tests.test_cli import ENVIRONMENT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed"
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, and what a serial run makes of them, in `serial` beside it."""
    folder = tmp_path_factory.mktemp("clips")
    path = write_manifest(folder / "clips.jsonl", write_clips(folder, 12, frames=4))
    result = run(read_manifest(path), folder / "serial")
    assert len(result.done) == 12
    assert sum(facts["expressions"][0]["frames_found"] for facts in result.done.values()) > 9
    return path


def test_two_workers_make_the_serial_bytes(manifest: Path, tmp_path: Path) -> None:
    result = carvid(
        "run", "--manifest", manifest, "-o", tmp_path / "out", "--engine", "ray", "--workers", 2,
        "--json", *TINY,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["clips"]) == 12
    lines = result.stderr.replace("\r", "\n").splitlines()
    assert all(line.startswith("clips: ") for line in lines if line.strip()), result.stderr
    assert_same_runs(tmp_path / "out", manifest.parent / "serial")


def working(parent: int) -> list[int]:
    """Processes of Ray's workers that do a clip, below a process."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        table = subprocess.run(
            ["ps", "-axo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split(None, 2) for line in table.splitlines()]
        below = {parent}
        for _ in range(3):  # the run, Ray's daemon, its workers
            below |= {int(pid) for pid, of, *_ in rows if int(of) in below}
        doing = [row for row in rows if row[2:] == ["ray::_Worker.do"]]
        if found := [int(pid) for pid, *_ in doing if int(pid) in below]:
            return found
    raise AssertionError("no worker does a clip")


def test_a_killed_worker_costs_nothing(manifest: Path, tmp_path: Path) -> None:
    """One worker is killed in the middle of a clip; another clip is broken for good."""
    rows, out = manifest.read_text(), tmp_path / "out"
    broken = manifest.with_name("broken.mp4")
    broken.write_bytes(b"no video\n" * 99)
    longer = manifest.with_name("longer.jsonl")
    longer.write_text(json.dumps({"clip": "broken.mp4", "expr": "a dog"}) + "\n" + rows)
    process = start(
        "run", "--manifest", longer, "-o", out, "--engine", "ray", "--workers", 2, "--json", *TINY
    )
    wait_for(out / "clip-02" / ".carvid" / "progress.json", process)
    os.kill(working(process.pid)[0], signal.SIGKILL)
    printed, said = process.communicate(timeout=100)
    assert process.returncode == 1, said
    assert len(json.loads(printed)["clips"]) == 12
    lines = said.replace("\r", "\n").splitlines()
    deaths = [line for line in lines if "its worker died" in line]
    assert len(deaths) == 1 and deaths[0].endswith("; trying again"), said
    assert sum("carvid: broken: cannot read" in line for line in lines) == 2
    assert "carvid: broken failed: cannot read" in lines[-2] and "(tried 3 times)" in lines[-2]
    assert lines[-1].startswith("carvid: 1 of 13 clips failed")
    assert_same_runs(out, manifest.parent / "serial")


def test_ctrl_c_ends_the_workers_and_leaves_what_can_be_resumed(
    manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(
        "run", "--manifest", manifest, "-o", out, "--engine", "ray", "--workers", 2, *TINY
    )
    wait_for(out / "clip-01" / ".carvid" / "progress.json", process)
    workers = working(process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.endswith(f"carvid: interrupted; continue with --resume -o {out}\n")
    time.sleep(1)
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not (out / "clip-11").exists()
    run(read_manifest(manifest), out, resume=True)
    assert_same_runs(out, manifest.parent / "serial")


SCRIPT = """
import json
from carvid.errors import CarvidError
from carvid.ray_engine import find_ray, ray_tasks
from tests.test_processes import die, prepare, prepare_nothing, work
find_ray().init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
for first, tasks, more in (
    (prepare, ["one", "bad", "worse", "seven", "fatal"], {"workers": 2}),
    (prepare_nothing, ["one"], {}), (die, ["one"], {}), (prepare, ["one"], {"workers": 3}),
    (prepare, ["one"], {"device": "cuda:1"}),
):
    events = []
    try:
        for event in ray_tasks(first, work, tasks, **more):
            events.append((event.kind, event.task, event.value))
    except CarvidError as error:
        events.append(("error", -1, str(error)))
    print(json.dumps(events))
"""


def test_tasks_and_tools_that_fail(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = [str(Path(__file__).parent.parent), ENVIRONMENT.get("PYTHONPATH", "")]
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=100,
        env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    tasks, *errors = [json.loads(line) for line in result.stdout.splitlines()]
    for index, count in enumerate((1, 3, 3, 1, 3)):
        mine = [(kind, value) for kind, task, value in tasks if task == index]
        kinds = [kind for kind, _ in mine if kind != "step"]
        if count == 1:
            assert mine == [("step", 10 + len(("one", "seven")[index // 3])), ("done", None)]
        else:
            assert kinds == ["again", "again", "failed"]
            assert mine[-1][1].endswith(" (tried 3 times)")
    reasons = {task: value for kind, task, value in tasks if kind == "failed"}
    assert reasons[1].startswith("bad task; give another")
    assert reasons[2].startswith("KeyError")
    assert reasons[4].startswith("its worker died")
    assert result.stderr.count("KeyError: 'worse\\nthan bad'") == 3
    messages = [events[-1] for events in errors]
    assert [kind for kind, _, _ in messages] == ["error"] * 4
    for (_, _, message), wanted in zip(
        messages,
        ("no tool; buy one", "a worker could not begin: its worker died",
         "3 workers need a CPU each, Ray has 2", "use --device cuda instead of cuda:1"),
        strict=True,
    ):  # fmt: skip
        assert wanted in message
