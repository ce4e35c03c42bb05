"""Ray: the serial run's bytes, whatever happens to a worker. Skipped where Ray is not installed."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from carvid.base.errors import CarvidError
from carvid.base.threads import WAITING
from carvid.batch import run as batches
from carvid.batch.manifest import read_manifest
from carvid.benchmark.bench import bench
from carvid.workers.processes import Processes, Workers, follow
from carvid.workers.ray_actors import RayActors
from carvid.workers.ray_cluster import begin_ray, find_ray
from carvid.workers.ray_crew import ATTEMPTS
from tests import HANGS_S, dying
from tests.benchmark_trees import voc_tree
from tests.conftest import carvid
from tests.test_batch import (
    TINY,
    assert_same_runs,
    run,
    wait_for,
    write_clips,
    write_manifest,
)
from tests.test_cli import ENVIRONMENT
from tests.test_processes import die, prepare, prepare_nothing, work
from tests.test_threads import look
from tests.test_threads import nothing as prepare_no_tool

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.xdist_group("ray"),  # which begins once
]

CLIPS = ["clip-00", "clip-01", "clip-02", "clip-03"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some clips, and what a serial run makes of them, in `serial` beside it."""
    folder = tmp_path_factory.mktemp("clips")
    path = write_manifest(folder / "clips.jsonl", write_clips(folder, len(CLIPS)))
    result = run(read_manifest(path), folder / "serial")
    assert list(result.done) == CLIPS and dying.CLIP in CLIPS
    assert sum(facts["expressions"][0]["frames_found"] for facts in result.done.values()) > 3
    return path


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """Ray with two CPUs, begun once for several tests, as a run begins it."""
    module = find_ray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for all other tests
        begin_ray(module, 2)
    yield
    module.shutdown()


def done_in(said: list[str]) -> list[str]:
    """The clips that lines say are done, without how fast."""
    return sorted(line.split(" in ")[0] for line in said if " frames in " in line)


def test_a_benchmark_has_the_numbers_of_one_process(
    ray: None, tmp_path: Path, weights: dict[str, str]
) -> None:
    data, alone, out = voc_tree(tmp_path / "voc", 3), tmp_path / "alone", tmp_path / "out"
    settings = ["crf.iterations=1", "crf.mode=fast", "car.max_steps=1", "weights.device=cpu"]
    expected = bench("voc21", data, alone, "reference", settings, **weights)
    result = carvid(
        "bench", "voc21", data, "-o", out, "--engine", "ray", "--workers", 1, "--json",
        "--preset=reference", *(f"--set={setting}" for setting in settings),
        *(f"--weights-{name}={folder}" for name, folder in weights.items()),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(result.stderr.splitlines()) == 3, result.stderr  # Ray is to add nothing
    assert json.loads(result.stdout)["scores"] == expected.to_json()["scores"]
    one, other = ({p.name: p.read_bytes() for p in (folder / "labels").iterdir()}
                  for folder in (alone, out))  # fmt: skip
    assert one == other and len(one) == 3


def test_a_killed_worker_costs_nothing(
    ray: None, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers make the serial bytes, though one is killed in the middle of a clip; another clip
    is broken for good."""
    rows, out, dead = manifest.read_text(), tmp_path / "out", tmp_path / "dead"
    broken = manifest.with_name("broken.mp4")
    broken.write_bytes(b"no video\n" * 99)
    longer = manifest.with_name("longer.jsonl")
    longer.write_text(json.dumps({"clip": "broken.mp4", "expr": "a dog"}) + "\n" + rows)
    monkeypatch.setattr(batches, "_work", partial(dying.work_until, dying.die, dead))
    result = carvid(
        "run", "--manifest", longer, "-o", out, "--engine", "ray", "--workers", 2, "--json", *TINY
    )
    assert result.returncode == 1 and dead.exists(), result.stderr
    assert [clip["clip"] for clip in json.loads(result.stdout)["clips"]] == CLIPS
    lines = result.stderr.splitlines()
    assert all(line.startswith("carvid: ") for line in lines), result.stderr
    # By the workers; what is left of the clip is told by the one that ended it.
    frames = {name: len(list((out / name / "masks").iterdir())) for name in CLIPS}
    frames[dying.CLIP] -= dying.FRAME
    assert done_in(lines) == [
        f"carvid: {name}.mp4: {count} frames" for name, count in frames.items()
    ]
    lines = [line for line in lines if " frames in " not in line]
    # A clip that was at hand, or had just been told of, is done again, too.
    deaths = [line for line in lines if "its worker died" in line]
    (death,) = (line for line in deaths if line.startswith(f"carvid: {dying.CLIP}: "))
    lines = [line for line in lines if line not in deaths]
    assert len(lines) == 4 and len(deaths) <= 2, result.stderr  # Ray is to add nothing
    assert death.endswith("; trying again")
    assert sum("carvid: broken: cannot read" in line for line in lines) == 2
    assert "carvid: broken failed: cannot read" in lines[-2] and "(tried 3 times)" in lines[-2]
    assert lines[-1].startswith(f"carvid: 1 of {len(CLIPS) + 1} clips failed")
    assert_same_runs(out, manifest.parent / "serial")


@pytest.mark.parametrize("workers", [Processes(1), Processes(2), RayActors(1)])
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
        mine = [
            (event.kind, event.value)
            for event in events
            # What was at hand beside what kills its worker is done again, and counts as no attempt.
            if event.task == index
            and not (event.kind == "again" and task != "fatal" and "its worker died" in event.value)
        ]
        kinds = [kind for kind, _ in mine if kind != "step"]
        if task in ("one", "seven"):
            assert mine == [("step", 10 + len(task)), ("done", None)]
        else:
            again = kinds.count("again")
            assert kinds == ["again"] * again + ["failed"]
            assert again == 2 or (task == "fatal" and again == 3)
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


def is_there(pid: int) -> bool:
    """Whether a process runs; one that is dead but not asked after does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


def test_ctrl_c_ends_the_workers_and_leaves_what_can_be_resumed(
    manifest: Path, tmp_path: Path
) -> None:
    """In a process of its own, which also begins Ray and ends it."""
    out, waiting = tmp_path / "out", tmp_path / "waiting"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dying", waiting, "run", "--manifest", manifest, "-o", out,
         "--engine", "ray", "--workers", "1", "-q", *TINY],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**ENVIRONMENT, "RAY_worker_niceness": "0"},
    )  # fmt: skip
    wait_for(waiting, process)
    worker = int(waiting.read_text())
    assert is_there(worker)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=HANGS_S)
    assert process.returncode == 130, said
    assert said.startswith("carvid: interrupted; continue with: ")
    assert said.endswith(" --resume\n") and said.count("\n") == 1
    until = time.monotonic() + HANGS_S
    while is_there(worker):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert (out / dying.CLIP / ".carvid" / "progress.json").exists()
    assert not (out / dying.CLIP / "run.json").exists()
    run(read_manifest(manifest), out, resume=True)
    assert_same_runs(out, manifest.parent / "serial")
