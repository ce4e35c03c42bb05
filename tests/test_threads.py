"""OpenMP's threads sleep while they wait, whoever loads torch, unless the user has decided."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from carvid.base import threads
from carvid.base.threads import (
    COUNTING,
    WAITING,
    cores,
    environment,
    granted_cores,
    sleeping_threads,
)
from carvid.workers.processes import Processes
from tests import HANGS_S

UNDECIDED = {key: value for key, value in os.environ.items() if key not in (*WAITING, *COUNTING)}


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if the user had said nothing about threads."""
    for name in (*WAITING, *COUNTING):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process in which OpenMP, when it is loaded, tells what it found in its environment."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=HANGS_S,
        env={**UNDECIDED, "OMP_DISPLAY_ENV": "VERBOSE"},
    )  # fmt: skip


def assert_no_spinning(said: str) -> None:
    if "GOMP_SPINCOUNT" in said:  # torch computes with GNU's OpenMP
        assert "GOMP_SPINCOUNT = '0'" in said
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said


def test_the_command_line_tells_openmp_before_torch_loads_it() -> None:
    assert_no_spinning(run_python("-m", "carvid", "info").stderr)


def test_what_the_user_has_decided_stays(undecided: pytest.MonkeyPatch) -> None:
    with sleeping_threads():
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
        with sleeping_threads():
            pass
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "OMP_WAIT_POLICY" not in os.environ
    for name, value in zip(WAITING, ("ACTIVE", "5", "200", "turnaround"), strict=True):
        with undecided.context() as patch:
            patch.setenv(name, value)
            before = dict(os.environ)
            with sleeping_threads():
                assert dict(os.environ) == before
            assert dict(os.environ) == before


def look(tool: None, task: str) -> Generator[str | None, None, None]:
    yield os.environ.get(task)


def nothing() -> None:
    pass


def test_worker_processes_inherit_it(undecided: pytest.MonkeyPatch) -> None:
    events = Processes(2).run(nothing, look, ["OMP_WAIT_POLICY", "OMP_WAIT_POLICY"])
    assert [event.value for event in events if event.kind == "step"] == ["PASSIVE", "PASSIVE"]
    assert "OMP_WAIT_POLICY" not in os.environ
    undecided.setenv("OMP_WAIT_POLICY", "ACTIVE")
    events = Processes(2).run(nothing, look, ["OMP_WAIT_POLICY", "OMP_WAIT_POLICY"])
    assert [event.value for event in events if event.kind == "step"] == ["ACTIVE", "ACTIVE"]


@pytest.mark.parametrize(
    ("own", "files", "time"),
    [
        ("0::/", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1.0),
        ("0::/a/b", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/a", {}, None),
        (
            "4:cpu,cpuacct:/x\n3:memory:/", {
                "cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000",
            }, 2.0,
        ),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("4:cpuset:/", {"cpuset/cpu.max": "1 1"}, None),
    ],
)  # fmt: skip
def test_no_more_threads_than_a_container_grants(
    own: str, files: dict[str, str], time: float | None, tmp_path: Path,
    undecided: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "own").write_text(own + "\n")
    undecided.setattr(threads, "CGROUPS", tmp_path / "groups")
    undecided.setattr(threads, "OWN_GROUPS", tmp_path / "own")
    undecided.setattr(threads, "granted_cores", lambda: 8)
    assert threads.granted_time() == (float("inf") if time is None else time)
    assert cores() == {None: 8, 0.5: 1, 1.0: 1, 1.5: 2, 2.0: 2}[time]
    expected = {} if time is None else {"OMP_NUM_THREADS": str(cores())}
    assert environment() == {"OMP_WAIT_POLICY": "PASSIVE", **expected}
    for name in COUNTING:
        with undecided.context() as patch:
            patch.setenv(name, "5")
            assert environment() == {"OMP_WAIT_POLICY": "PASSIVE"}


ON_ONE_CORE = """
import json, os, time
import carvid
model = carvid.load("tiny", ["weights.device=cpu"])
import torch
from carvid.demo.example import example_folder
with carvid.open_video(example_folder() / "dog-jumping.mp4") as reader:
    frames = [frame for frame, _ in zip(reader, range(2))]
took = []
for threads in (1, 2):
    torch.set_num_threads(threads)
    model.segment_image(frames[0].image, ["the dog"])  # threads begin
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {min(os.sched_getaffinity(0))})
    began = time.process_time()
    for frame in frames:
        model.segment_image(frame.image, ["the dog"])
    took.append(time.process_time() - began)
print(json.dumps(took))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux alone pins threads")
def test_two_threads_on_one_core_cost_what_one_does() -> None:
    result = run_python("-c", ON_ONE_CORE)
    assert_no_spinning(result.stderr)
    one, two = json.loads(result.stdout)
    assert two < 3 * one  # 20 times as much processor time where threads spin


def test_cores_are_at_least_one() -> None:
    assert 1 <= cores() <= granted_cores()
