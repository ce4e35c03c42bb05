"""A cluster of three nodes on one machine: the serial run's bytes, whatever happens to a node."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from carvid.batch import run as batches
from carvid.batch.manifest import read_manifest
from carvid.workers.ray_cluster import MARK, _reason, cluster_address, find_ray
from tests import HANGS_S, dying
from tests.conftest import Finished, carvid
from tests.test_batch import TINY, assert_same_runs, run, wait_for, write_clips, write_manifest
from tests.test_cli import ENVIRONMENT
from tests.test_predict import SETTINGS
from tests.test_predict import files as files_of_set
from tests.test_predict import options as set_options
from tests.test_ray_engine import is_there
from tests.trees import unseen_tree

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.xdist_group("cluster"),
]

CLIPS = [f"clip-{number:02d}" for number in range(8)]
QUICK_LOSS = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 4,
}
"""A lost node is noticed within seconds, and not a quarter of a minute; one that is slow is not
taken for lost."""
NEW_MOUNTS = 0x20000
"""CLONE_NEWNS of Linux."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some clips, and what a serial run makes of them, in `serial` beside it."""
    folder = tmp_path_factory.mktemp("clips")
    path = write_manifest(folder / "clips.jsonl", write_clips(folder, len(CLIPS), frames=2))
    assert list(run(read_manifest(path), folder / "serial").done) == CLIPS
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that does no work, and two nodes that do, each with a working folder of its own."""
    find_ray()
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        made = Cluster()
        for name in ("head", "one", "two"):
            with contextlib.chdir(tmp_path_factory.mktemp(name)):
                more = {} if name != "head" else {"_system_config": QUICK_LOSS}
                made.add_node(num_cpus=int(name != "head"), include_dashboard=False, **more)
        yield made
        made.shutdown()


def on_cluster(cluster: Any, manifest: Path, out: Path, *more: object) -> Finished:
    return carvid(
        "run", "--manifest", manifest, "-o", out, "--engine", "ray", "--json",
        "--ray-address", cluster.address, *TINY, *more,
    )  # fmt: skip


@contextlib.contextmanager
def third_node(cluster: Any, *mounting: list[str]) -> Iterator[None]:
    """One more node, whose processes have other mounts; skipped where one may not.

    A thread can have its own mounts, and the processes that it starts have them, too.
    """

    def mount() -> str:
        if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS) != 0:
            return os.strerror(ctypes.get_errno())
        for command in (["mount", "--make-rprivate", "/"], *mounting):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                return done.stderr
        return ""

    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        if refused := pool.submit(mount).result():
            pytest.skip(f"mounts cannot be changed here: {refused}")

        def start(*arguments: Any, **options: Any) -> Any:
            return pool.submit(subprocess.Popen, *arguments, **options).result()

        patch.setattr("ray._private.services.ConsolePopen", start)
        node = cluster.add_node(num_cpus=1)
        try:
            yield
        finally:
            cluster.remove_node(node)


def message_of(result: Finished) -> str:
    """The one line that a run has said, without its program's and a node's names."""
    assert result.returncode == 1 and result.stdout == "", result
    (line,) = result.stderr.splitlines()
    assert line.startswith("carvid: "), line
    return re.sub(r"node \S+ \([\d.]+, [0-9a-f]{6}\)", "node X", line.removeprefix("carvid: "))


def test_a_node_that_sees_other_files_is_named_before_anything_starts(
    cluster: Any, manifest: Path, tmp_path: Path
) -> None:
    share = "put it on storage that all nodes share, under the same path"
    inputs, out = manifest.parent, tmp_path / "new" / "out"

    def told(*commands: list[str]) -> str:
        with third_node(cluster, *commands):
            result = on_cluster(cluster, manifest, out)
        assert list(tmp_path.iterdir()) == others  # nothing was begun, and no probe is left
        return message_of(result)

    others = list(tmp_path.iterdir())
    hidden = ["mount", "-t", "tmpfs", "none", str(inputs)]
    first = f"node X cannot see '{inputs / 'clip-00.mp4'}' (No such file or directory)"
    assert told(hidden) == f"{first}, nor {len(CLIPS) - 1} more; {share}"
    shorter = tmp_path.with_name("shorter.mp4")
    shorter.write_bytes((inputs / "clip-03.mp4").read_bytes()[:-1])
    other = ["mount", "--bind", str(shorter), str(inputs / "clip-03.mp4")]
    clip = inputs / "clip-03.mp4"
    assert told(other) == f"node X has another '{clip}' than this machine; {share}"
    apart = ["mount", "-t", "tmpfs", "none", str(tmp_path)]
    assert told(apart) == f"node X has another '{tmp_path}' than this machine; {share}"
    closed = ["mount", "-o", "bind,ro", str(tmp_path), str(tmp_path)]
    assert told(closed).startswith(f"node X cannot write to '{tmp_path}': Read-only file system; ")


def test_other_programs_and_working_folders_are_named(
    cluster: Any, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carvid.clip.on_ray.PACKAGES", ("torch", "typer"))
    monkeypatch.setattr("carvid.clip.on_ray.version", {"torch": "1.0", "typer": "2"}.__getitem__)
    said = message_of(on_cluster(cluster, manifest, tmp_path / "out"))
    assert re.fullmatch(
        r"node X has torch \S+, this machine 1\.0; install the same on every node "
        r"\(so 2 of 2 nodes\)", said,
    ), said  # fmt: skip
    monkeypatch.undo()
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(manifest.parent / "clip-00.mp4", here)
    monkeypatch.chdir(here)
    words = ["run", "clip-00.mp4", "--expr", "a dog", *TINY]
    other = tmp_path / "other.mp4"
    shutil.copy(here / "clip-00.mp4", other)
    with third_node(cluster, ["mount", "-t", "tmpfs", "none", str(here.parent)]):
        result = carvid(
            *words, other, "-o", "out", "--engine", "ray", "--ray-address", cluster.address
        )
    assert message_of(result) == (
        f"node X cannot see the working folder '{here}', where a path starts; give whole paths, or "
        "put it on storage that all nodes share, under the same path"
    )


def test_a_data_set_has_the_files_of_one_process(
    cluster: Any, tmp_path: Path, weights: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another working folder than the nodes', with a relative folder of predictions."""
    from carvid.benchmark.predict import predict

    data = unseen_tree(tmp_path / "data", {"bear": 3, "cow": 2})
    alone = predict(data, tmp_path / "alone", "davis", SETTINGS, **weights)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    result = carvid(
        "davis", data, "-o", "out", "--engine", "ray", "--workers", 1, "--json",
        *set_options(weights),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["frames"] == alone.frames > 0
    assert files_of_set(tmp_path / "out") == files_of_set(tmp_path / "alone")


def test_ctrl_c_leaves_the_cluster_without_workers(
    cluster: Any, manifest: Path, tmp_path: Path
) -> None:
    """And what can be resumed."""
    out, waiting = tmp_path / "out", tmp_path / "waiting"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dying", waiting, "run", "--manifest", manifest, "-o", out,
         "--engine", "ray", "--ray-address", cluster.address, "--workers", "1", "-q", *TINY],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    wait_for(waiting, process)
    worker = int(waiting.read_text())
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=HANGS_S)
    assert process.returncode == 143 and said.count("\n") == 1, said
    assert said.startswith("carvid: interrupted; continue with: ")
    until = time.monotonic() + HANGS_S
    while is_there(worker):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not (out / dying.CLIP / "run.json").exists()
    run(read_manifest(manifest), out, resume=True)
    assert_same_runs(out, manifest.parent / "serial")


def node_of(cluster: Any, pid: int) -> Any:
    """The node whose worker a process is."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    for node in cluster.worker_nodes:
        if any(each.process.pid == parent for each in node.all_processes["raylet"]):
            return node
    raise AssertionError(f"no node has begun process {pid}")


def test_a_killed_node_costs_nothing(
    cluster: Any, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its node's own process is killed; its worker must notice, and end itself."""
    out, place = tmp_path / "out", tmp_path / "waiting"
    killed: list[tuple[str, int]] = []

    def kill() -> None:
        until = time.monotonic() + HANGS_S
        while not place.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        worker = int(place.read_text())
        node = node_of(cluster, worker)
        killed.append((node.node_id, worker))
        (raylet,) = node.all_processes["raylet"]
        os.kill(raylet.process.pid, signal.SIGKILL)

    monkeypatch.setattr(batches, "_work", partial(dying.work_until, dying.wait_once, place))
    killer = threading.Thread(target=kill)
    killer.start()
    result = on_cluster(cluster, manifest, out)
    killer.join()
    assert result.returncode == 0, result.stderr
    assert [clip["clip"] for clip in json.loads(result.stdout)["clips"]] == CLIPS
    ((number, worker),) = killed
    assert not is_there(worker)
    lines = [line for line in result.stderr.splitlines() if " in " not in line]
    (told,) = lines  # Ray is to add nothing
    assert re.match(rf"carvid: node \S+ \(\S+, {number[:6]}\) was lost; doing again: ", told)
    assert dying.CLIP in told.rpartition(": ")[2].split(", ")
    assert_same_runs(out, manifest.parent / "serial")


def test_what_cannot_be_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Path(__file__).parent.parent / "examples" / "dog-jumping.mp4"
    words = ["run", clip, "--expr", "a dog", "-o", tmp_path / "out", *TINY]
    shutil.copy(clip, tmp_path / "b.mp4")
    several = ["run", tmp_path / "b.mp4", *words[1:]]

    def told(*more: object) -> str:
        result = carvid(*several, *more)
        assert result.returncode == 1 and result.stdout == "" and result.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return result.stderr.removeprefix("carvid: ").rstrip("\n")

    assert told("--ray-address", "auto") == (
        "--ray-address is for --engine ray; add that, or leave it away"
    )
    assert told("--engine", "ray", "--ray-address", "ray://host:10001") == (
        "'ray://host:10001' is for Ray's client, which is not used; run carvid on a machine of "
        "the cluster, with --ray-address auto"
    )
    remedy = "see to it with 'ray status' there, or leave --ray-address away"
    assert told("--engine", "ray", "--ray-address", "127.0.0.1:9") == (
        f"the Ray cluster at '127.0.0.1:9' cannot be joined: connection refused; {remedy}"
    )
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert "'127.0.0.1:9' cannot be joined" in told("--engine", "ray")
    assert "'nowhere' cannot be joined: it is no address" in told(
        "--engine", "ray", "--ray-address", "nowhere"
    )
    assert cluster_address(None) == "127.0.0.1:9"
    assert cluster_address("local") is None and cluster_address("auto") == "auto"


def test_why_a_cluster_refuses_is_found_in_what_ray_logs() -> None:
    log = "[W 1 1] gcs_client.cc:210: Failed to get cluster ID: "
    assert _reason(f"{log}TimedOut\n{MARK}Version mismatch: other Ray\n") == (
        "Version mismatch: other Ray"
    )
    wanted = "it wants another token of Ray's than this machine has (RAY_AUTH_TOKEN_PATH)"
    assert _reason(f"{log}Unauthenticated: RPC error\n{MARK}Failed to connect\n") == wanted
    assert _reason(f"{log}TimedOut\n") == "what answers there is no Ray"
