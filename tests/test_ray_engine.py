"""Ray: the serial run's bytes, whatever happens to a worker. Skipped where Ray is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from carvid.base.errors import CarvidError
from carvid.base.processes import Processes, Workers, follow
from carvid.base.ray_actors import ATTEMPTS, RayActors, _begin, find_ray
from carvid.base.threads import WAITING
from carvid.batch.manifest import read_manifest
from carvid.benchmark.bench import bench
from tests.benchmark_trees import voc_tree
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
from tests.test_processes import die, prepare, prepare_nothing, work
from tests.test_threads import look
from tests.test_threads import nothing as prepare_no_tool

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


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """Ray with two CPUs, begun once for several tests, as a run begins it."""
    module = find_ray()
    _begin(module, 2)
    yield
    module.shutdown()


def test_two_workers_make_the_serial_bytes(ray: None, manifest: Path, tmp_path: Path) -> None:
    result = carvid(
        "run", "--manifest", manifest, "-o", tmp_path / "out", "--engine", "ray", "--workers", 2,
        "--json", *TINY,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["clips"]) == 12
    said = sorted(result.stderr.splitlines())  # by the workers; Ray is to add nothing
    assert [line.split(" in ")[0] for line in said] == [
        f"carvid: clip-{number:02d}.mp4: 4 frames" for number in range(12)
    ]
    assert_same_runs(tmp_path / "out", manifest.parent / "serial")


def test_a_benchmark_has_the_numbers_of_one_process(
    ray: None, tmp_path: Path, weights: dict[str, str]
) -> None:
    data = voc_tree(tmp_path / "voc", 3)
    settings = ["crf.iterations=1", "crf.mode=fast", "weights.device=cpu"]
    results = [
        bench("voc21", data, tmp_path / engine, "reference", settings, engine=engine, **more,
              **weights)
        for engine, more in (("local", {}), ("ray", {"workers": 2}))
    ]  # fmt: skip
    assert results[0].scores == results[1].scores
    one, other = ({p.name: p.read_bytes() for p in (tmp_path / engine / "labels").iterdir()}
                  for engine in ("local", "ray"))  # fmt: skip
    assert one == other and len(one) == 3


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


def test_a_killed_worker_costs_nothing(ray: None, manifest: Path, tmp_path: Path) -> None:
    """One worker is killed in the middle of a clip; another clip is broken for good."""
    rows, out = manifest.read_text(), tmp_path / "out"
    broken = manifest.with_name("broken.mp4")
    broken.write_bytes(b"no video\n" * 99)
    longer = manifest.with_name("longer.jsonl")
    longer.write_text(json.dumps({"clip": "broken.mp4", "expr": "a dog"}) + "\n" + rows)

    def kill() -> None:
        wait_for(out / "clip-02" / ".carvid" / "progress.json")
        os.kill(working(os.getpid())[0], signal.SIGKILL)

    with ThreadPoolExecutor(1) as beside:
        killed = beside.submit(kill)
        result = carvid(
            "run", "--manifest", longer, "-o", out, "--engine", "ray", "--workers", 2, "--json",
            "--quiet", *TINY,
        )  # fmt: skip
        killed.result()
    assert result.returncode == 1, result.stderr
    assert len(json.loads(result.stdout)["clips"]) == 12
    lines = result.stderr.splitlines()
    assert len(lines) == 5 and all(line.startswith("carvid: ") for line in lines), result.stderr
    deaths = [line for line in lines if "its worker died" in line]
    assert len(deaths) == 1 and deaths[0].endswith("; trying again")
    assert sum("carvid: broken: cannot read" in line for line in lines) == 2
    assert "carvid: broken failed: cannot read" in lines[-2] and "(tried 3 times)" in lines[-2]
    assert lines[-1].startswith("carvid: 1 of 13 clips failed")
    assert_same_runs(out, manifest.parent / "serial")


@pytest.mark.parametrize("workers", [Processes(1), Processes(2), RayActors(2)])
def test_all_kinds_of_workers_tell_the_same(ray: None, workers: Workers) -> None:
    begun: list[int] = []
    retried: list[int] = []
    steps: set[tuple[int, int]] = set()
    ended: list[int] = []
    failed = follow(
        workers.run(prepare, work, ["one", "bad", "seven"]),
        begin=lambda: begun.append(1),
        step=lambda task, value: steps.add((task, value)),
        retry=lambda task, reason: retried.append(task),
        end=ended.append,
    )
    assert begun == [1]
    assert steps == {(0, 13), (1, 13), (2, 15)}
    assert retried == ([1] * (ATTEMPTS - 1) if isinstance(workers, RayActors) else [])
    assert sorted(ended) == [0, 1, 2]
    assert failed.keys() == {1} and failed[1].startswith("bad task; give another")


def test_tasks_and_tools_that_fail(ray: None, caplog: pytest.LogCaptureFixture) -> None:
    tasks = ["one", "bad", "worse", "seven", "fatal"]
    events = list(RayActors(2).run(prepare, work, tasks))
    for index, task in enumerate(tasks):
        mine = [(event.kind, event.value) for event in events if event.task == index]
        kinds = [kind for kind, _ in mine if kind != "step"]
        if task in ("one", "seven"):
            assert mine == [("step", 10 + len(task)), ("done", None)]
        else:
            assert kinds == ["again", "again", "failed"]
            assert mine[-1][1].endswith(" (tried 3 times)")
    reasons = {event.task: event.value for event in events if event.kind == "failed"}
    assert reasons[1].startswith("bad task; give another")
    assert reasons[2].startswith("KeyError")
    assert reasons[4].startswith("its worker died")
    assert caplog.text.count("KeyError: 'worse\\nthan bad'") == 3


def test_threads_of_workers_sleep_while_they_wait(
    ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    events = list(RayActors().run(prepare_no_tool, look, ["OMP_WAIT_POLICY", "OMP_NUM_THREADS"]))
    assert [event.value for event in events if event.kind == "step"] == ["PASSIVE", "1"]


@pytest.mark.parametrize(
    ("tool", "more", "message"),
    [
        (prepare_nothing, {}, "no tool; buy one"),
        (die, {}, "a worker could not begin: its worker died"),
        (prepare, {"count": 3}, "3 workers need a CPU each, Ray has 2"),
        (prepare, {"device": "cuda:1"}, "use --device cuda instead of cuda:1"),
    ],
)
def test_what_cannot_begin_is_the_callers_error(
    ray: None, tool: Callable[[], int], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(CarvidError, match=message):
        list(RayActors(**more).run(tool, work, ["one"]))


def test_ctrl_c_ends_the_workers_and_leaves_what_can_be_resumed(
    manifest: Path, tmp_path: Path
) -> None:
    """In a process of its own, which also begins Ray and ends it."""
    out = tmp_path / "out"
    process = start(
        "run", "--manifest", manifest, "-o", out, "--engine", "ray", "--workers", 2, "-q", *TINY
    )
    wait_for(out / "clip-01" / ".carvid" / "progress.json", process)
    workers = working(process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.startswith("carvid: interrupted; continue with: ")
    assert said.endswith(" --resume\n") and said.count("\n") == 1
    time.sleep(1)
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not (out / "clip-11").exists()
    run(read_manifest(manifest), out, resume=True)
    assert_same_runs(out, manifest.parent / "serial")
