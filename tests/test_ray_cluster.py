"""A cluster of three nodes on one machine: the serial run's bytes, whatever happens to a node."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from carvid.base.ray_cluster import find_ray
from carvid.batch import run as batches
from carvid.batch.manifest import read_manifest
from tests import HANGS_S, dying
from tests.conftest import carvid
from tests.test_batch import TINY, assert_same_runs, run, write_clips, write_manifest

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.xdist_group("ray"),
]

CLIPS = 8
QUICK_LOSS = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 2,
}
"""A lost node is noticed within seconds, and not a quarter of a minute."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some clips, and what a serial run makes of them, in `serial` beside it."""
    folder = tmp_path_factory.mktemp("clips")
    path = write_manifest(folder / "clips.jsonl", write_clips(folder, CLIPS, frames=2))
    assert len(run(read_manifest(path), folder / "serial").done) == CLIPS
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
    out, place = tmp_path / "out", tmp_path / "waiting"
    killed: list[str] = []

    def kill() -> None:
        until = time.monotonic() + HANGS_S
        while not place.exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        node = node_of(cluster, int(place.read_text()))
        killed.append(node.node_id)
        cluster.remove_node(node, allow_graceful=False)

    monkeypatch.setattr(batches, "_work", partial(dying.work_until, dying.wait_once, place))
    killer = threading.Thread(target=kill)
    killer.start()
    result = carvid(
        "run", "--manifest", manifest, "-o", out, "--engine", "ray", "--json",
        "--ray-address", cluster.address, *TINY,
    )  # fmt: skip
    killer.join()
    print(result.stderr)
    assert result.returncode == 0, result.stderr
    assert_same_runs(out, manifest.parent / "serial")
