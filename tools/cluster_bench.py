"""A cluster of Ray on one machine: what the scheduling of many clips costs, whether a killed node
costs anything, and what a worker needs.

Used by `tools/bench.py cluster`. The clips of the first measurement are nothing but a wait, which
takes no core, so that what is left of the time is the driver's, Ray's and the checks'.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import speed_bench

from carvid.base.memory import telling_out_of_memory
from carvid.batch import run as batches
from carvid.batch.manifest import Clip, clips_of
from carvid.batch.run import run_batch
from carvid.config import Config, load_config
from carvid.media.encode import VideoWriter
from carvid.media.open import Selection, open_video
from carvid.pipeline import Carvid
from carvid.workers.ray_cluster import find_ray

EXAMPLE = Path(__file__).parent.parent / "examples" / "dog-jumping.mp4"
SETTINGS = ["crf.iterations=1", "car.theta=0", "weights.device=cpu"]
RATE = Fraction(25)
MEMORY_PARTS = 5
"""How often the driver's memory is told."""


@contextmanager
def cluster_of(nodes: int, cpus: int) -> Iterator[Any]:
    """A head that does no work, and nodes, each with a working folder of its own."""
    find_ray()
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_worker_niceness": "0"}
    with tempfile.TemporaryDirectory() as folder:
        made = Cluster()
        for number in range(nodes + 1):
            place = Path(folder) / f"node-{number}"
            place.mkdir()
            with contextlib.chdir(place):
                made.add_node(num_cpus=cpus if number else 0, include_dashboard=False)
        yield made
        made.shutdown()


def memory_mb() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def wait(model: Carvid, clip: Clip, *, seconds: float, **_: Any) -> Generator[dict[str, Any]]:
    """A clip that takes a known time; its summary is as long as that of two expressions."""
    time.sleep(seconds)
    found = {"label": 1, "text": "the dog", "frames_found": 40, "mean_score": 0.5312,
             "best_score": 0.7311, "best_frame": 17}  # fmt: skip
    yield {"out": "", "video": clip.video, "lost": [], "frames": 40, "theta": 0.5,
           "expressions": [found, {**found, "label": 2}]}  # fmt: skip


def scheduling(clips: int, seconds: float, nodes: int, cpus: int) -> Iterator[dict[str, Any]]:
    """What many trivial clips cost beyond their own time: `run_batch` from its call to its end, and
    from the first worker that is ready."""
    memory: list[float] = []
    ready: list[tuple[float, int]] = []
    """When each worker was, and how many clips were done by then."""
    ended = 0
    telling_end, telling_workers = batches.Telling.end, batches.Telling.workers

    def end(self: Any, task: int) -> None:
        nonlocal ended
        telling_end(self, task)
        ended += 1
        if ended % (clips // MEMORY_PARTS) == 0:
            memory.append(round(memory_mb(), 1))

    def workers(self: Any, count: int) -> None:
        telling_workers(self, count)
        ready.append((time.monotonic(), ended))

    with cluster_of(nodes, cpus) as cluster, tempfile.TemporaryDirectory() as folder:
        videos = []
        for number in range(clips):
            videos.append(f"{folder}/clip-{number:05d}.mp4")
            os.symlink(EXAMPLE, videos[-1])
        asked = clips_of(videos, ["the dog", "a ball"])
        before, cpu_s = time.monotonic(), time.process_time()
        with (
            mock.patch.object(batches, "_work", partial(wait, seconds=seconds)),
            mock.patch.object(batches.Telling, "end", end),
            mock.patch.object(batches.Telling, "workers", workers),
        ):
            result = run_batch(
                asked, Path(folder, "out"), "tiny", SETTINGS, engine="ray",
                ray_address=cluster.address,
            )  # fmt: skip
        after, cpu_s = time.monotonic(), time.process_time() - cpu_s
    assert len(result.done) == clips
    all_ready, done_before = ready[nodes * cpus - 1]
    ideal = (clips - done_before) * seconds / (nodes * cpus)
    busy = after - all_ready
    yield {
        "clips": clips, "clip_s": seconds, "workers": nodes * cpus, "ideal_s": round(ideal, 1),
        "since_all_ready_s": round(busy, 1), "share": round(1 - ideal / busy, 3),
        "before_s": round(ready[0][0] - before, 1), "whole_s": round(after - before, 1),
        "driver_cpu_s": round(cpu_s, 1), "driver_mb": memory,
    }  # fmt: skip


def write_clips(folder: Path, count: int, frames: int) -> list[str]:
    """Small parts of the example clip."""
    paths = []
    for number in range(count):
        path = folder / f"clip-{number:02d}.mp4"
        with open_video(EXAMPLE, selection=Selection(0.05 * number % 2, max_side=96)) as reader:
            images = [frame.image for frame in itertools.islice(reader, frames)]
        with VideoWriter(path, images[0].shape[:2], RATE) as writer:
            for image in images:
                writer.write(image[:, ::-1] if number % 2 else image)
        paths.append(str(path))
    return paths


def files_in(folder: Path) -> dict[str, bytes]:
    """All files, of run.json without its timing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if path.name == "run.json":
                values = json.loads(data)
                del values["timing"]
                data = json.dumps(values).encode()
            found[str(path.relative_to(folder))] = data
    return found


def killing(clips: int, nodes: int) -> Iterator[dict[str, Any]]:
    """Kill a node when a third of the clips is done, and compare with a serial run."""
    with cluster_of(nodes, 1) as cluster, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = clips_of(write_clips(folder, clips, 4), ["the dog", "a ball"])
        serial, out = folder / "serial", folder / "out"
        run_batch(asked, serial, "tiny", SETTINGS)

        def kill() -> None:
            while len(list(out.glob("*/run.json"))) < clips // 3:
                time.sleep(0.02)
            (raylet,) = next(iter(cluster.worker_nodes)).all_processes["raylet"]
            os.kill(raylet.process.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        began = time.monotonic()
        result = run_batch(
            asked, out, "tiny", SETTINGS, engine="ray", ray_address=cluster.address
        )
        killer.join()
        yield {
            "clips": clips, "nodes": nodes, "done": len(result.done),
            "failed": len(result.failed), "s": round(time.monotonic() - began, 1),
            "same_bytes": files_in(out) == files_in(serial),
        }  # fmt: skip


def random_load(config: Config) -> Carvid:
    """A model as `load` makes it, with full-size networks of random weights."""
    with telling_out_of_memory():
        return speed_bench.random_model(config)


def measured(model: Carvid, clip: Clip, **options: Any) -> Generator[dict[str, Any]]:
    """Do a clip, and tell what this worker has needed at most so far."""
    loaded = memory_mb()
    began = time.monotonic()
    for facts in whole_work(model, clip, **options):
        took = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        yield {**facts, "s": took, "loaded_mb": loaded, "peak_mb": peak}


whole_work = batches._work


def sizes(
    frames: Path | None, clips: int, length: int, preset: str, settings: list[str], texts: list[str]
) -> Iterator[dict[str, Any]]:
    """How long a worker takes for a clip, and how much memory; one worker, with as many threads as
    torch has here. Frames of a folder, 854×480, with random weights, or the example clip, `tiny`.
    """
    config = load_config(preset, settings)
    with tempfile.TemporaryDirectory() as name, cluster_of(1, os.cpu_count() or 1) as cluster:
        folder, made = Path(name), []
        for number in range(clips):
            path = folder / f"clip-{number}.mp4"
            if frames is None:
                path.symlink_to(EXAMPLE)
            else:
                images = list(speed_bench.read_images(frames, length, (480, 854)))
                with VideoWriter(path, (480, 854), RATE) as writer:
                    for image in images:
                        writer.write(np.roll(image, number, axis=1))
            made.append(str(path))
        batches._work = measured  # type: ignore[assignment]
        if frames is not None:
            batches.load = random_load  # type: ignore[assignment]
        result = run_batch(
            clips_of(made, texts), folder / "out", config, engine="ray", workers=1,
            ray_address=cluster.address,
        )  # fmt: skip
    done = [facts for facts in result.done.values() if "s" in facts]
    seconds = float(np.median([facts["s"] for facts in done]))
    yield {
        "preset": preset, "settings": settings, "frames": done[0]["frames"], "texts": len(texts),
        "clip_s": round(seconds, 1), "clips_an_hour": round(3600 / seconds, 1),
        "loaded_mb": round(done[0]["loaded_mb"]),
        "peak_mb": round(max(facts["peak_mb"] for facts in done)), "failed": len(result.failed),
    }  # fmt: skip

