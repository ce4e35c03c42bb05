from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from carvid.base.errors import CarvidError
from carvid.workers.processes import Event, Processes, follow, worker_number
from tests import HANGS_S


def prepare() -> int:
    return 10


def prepare_nothing() -> int:
    raise CarvidError("no tool; buy one")


def die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def work(tool: int, task: str) -> Generator[int, None, None]:
    yield tool + len(task)
    if task == "bad":
        raise CarvidError("bad task; give another")
    if task == "worse":
        raise KeyError("worse\nthan bad")
    if task == "large":
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
    if task == "fatal":
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_that_fail_do_not_stop_the_others(
    workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    events = list(Processes(workers).run(prepare, work, ["one", "bad", "worse", "seven", "large"]))
    assert events.count(Event("ready")) == workers
    for index, length in enumerate((3, 3, 5, 5, 5)):
        mine = [event for event in events if event.task == index]
        assert mine[0] == Event("step", index, 10 + length)
        assert mine[1].kind == ("done" if index in (0, 3) else "failed")
        assert len(mine) == 2
    reasons = [event.value for event in events if event.kind == "failed"]
    assert sorted(reasons)[:2] == [
        "KeyError: 'worse\\nthan bad'; the log's traceback says where", "bad task; give another",
    ]  # fmt: skip
    assert sorted(reasons)[2].startswith("there is not enough memory (tried to")
    (record,) = caplog.records
    assert record.name == "carvid" and "Traceback" in caplog.text
    assert caplog.text.count("KeyError: 'worse\\nthan bad'") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_following_calls_back_and_returns_what_failed(workers: int) -> None:
    begun: list[int] = []
    steps: dict[int, int] = {}
    ended: list[int] = []

    def step(task: int, value: int) -> None:
        assert begun == [1]
        steps[task] = value

    failed = follow(
        Processes(workers).run(prepare, work, ["one", "bad", "seven"]),
        begin=lambda: begun.append(1), step=step, end=ended.append,
    )  # fmt: skip
    assert begun == [1]
    assert steps == {0: 13, 1: 13, 2: 15}
    assert sorted(ended) == [0, 1, 2]
    assert failed == {1: "bad task; give another"}


def test_without_tasks_nothing_is_prepared() -> None:
    assert follow(Processes(2).run(prepare_nothing, work, [])) == {}


def test_a_process_that_dies_is_replaced() -> None:
    events = list(Processes(2).run(prepare, work, ["fatal", "fatal", "one", "seven"]))
    failed = [event for event in events if event.kind == "failed"]
    assert sorted(event.task for event in failed) == [0, 1]
    assert all("died (exit code -9)" in event.value for event in failed)
    assert sorted(event.task for event in events if event.kind == "done") == [2, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tool_that_cannot_be_had_is_the_callers_error(workers: int) -> None:
    with pytest.raises(CarvidError, match="no tool; buy one"):
        list(Processes(workers).run(prepare_nothing, work, ["one", "two"]))


def test_death_while_preparing_is_the_callers_error() -> None:
    with pytest.raises(CarvidError, match=r"a worker could not begin: .*fewer --workers"):
        list(Processes(2).run(die, work, ["one", "two"]))


def meet(_: int, paths: tuple[Path, Path]) -> Generator[int, None, None]:
    """Touch the first path, and go on until somebody else has touched the second."""
    mine, other = paths
    mine.touch()
    until = time.monotonic() + HANGS_S
    while not other.exists():
        assert time.monotonic() < until
        yield os.getpid()
    if mine.name == "fatal":
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("name", ["well", "fatal"])
def test_a_caller_that_helps_works_beside_the_others(tmp_path: Path, name: str) -> None:
    paths = tmp_path / name, tmp_path / "last"
    events = list(Processes(2, caller_helps=True).run(prepare, meet, [paths, paths[::-1]]))
    assert {event.value for event in events if event.task == 1} == {os.getpid(), None}
    assert os.getpid() not in {event.value for event in events if event.task == 0}
    ends = {event.task: event.kind for event in events if event.kind != "ready"}
    assert ends == {0: "done" if name == "well" else "failed", 1: "done"}


def prepare_late() -> int:
    if multiprocessing.parent_process() is not None:
        time.sleep(HANGS_S)  # and is ended before
    return 10


def test_who_helps_does_not_wait_for_those_who_have_not_begun() -> None:
    events = list(Processes(2, caller_helps=True).run(prepare_late, work, ["one", "seven"]))
    assert events == [
        Event("ready"),
        *(Event("step", 1, 15), Event("done", 1)),
        *(Event("step", 0, 13), Event("done", 0)),
    ]


def slow(_: int, path: Path) -> Generator[int, None, None]:
    while True:
        yield os.getpid()
        path.touch()
        time.sleep(0.01)


def test_leaving_early_ends_the_processes(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    events = Processes(2).run(prepare, slow, paths)
    pids: set[int] = set()
    while len(pids) < 2:
        event = next(events)
        if event.kind == "step":
            pids.add(event.value)
    events.close()  # type: ignore[attr-defined]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_orphans_do_nothing_more(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from carvid.workers.processes import Processes
from tests.test_processes import prepare, slow
for _ in Processes(2).run(prepare, slow, [Path(word) for word in sys.argv[1:]]):
    pass
"""
    paths = [tmp_path / "a", tmp_path / "b"]
    parent = subprocess.Popen([sys.executable, "-c", script, *map(str, paths)])
    until = time.monotonic() + HANGS_S
    while not all(path.exists() for path in paths):
        assert parent.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    stamps: list[int] = []
    until = time.monotonic() + HANGS_S
    while (now := [path.stat().st_mtime_ns for path in paths]) != stamps:
        assert time.monotonic() < until
        stamps = now
        time.sleep(0.2)  # 20 steps of those who go on


def number_and_task(tool: int, task: str) -> Generator[tuple[int, int], None, None]:
    yield tool, worker_number()
    if task == "fatal":
        os.kill(os.getpid(), signal.SIGKILL)


def test_workers_are_numbered_and_a_number_is_given_again() -> None:
    assert worker_number() == 0
    tasks = ["fatal", "one", "fatal", "two"]
    events = list(Processes(2).run(worker_number, number_and_task, tasks))
    told = [event.value for event in events if event.kind == "step"]
    assert len(told) == 4 and {number for number, _ in told} <= {0, 1}
    assert all(one == other for one, other in told)
