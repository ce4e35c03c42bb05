"""Every thing of an expression its own track: drawn clips, and DAVIS frames with CLIP simulated.

Used by `tools/bench.py instances`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import real_bench
import temporal_bench
import torch
from group_simulation import simulate_group, text_of
from instance_scenes import KINDS, InstancesTask, make_instances
from instance_scores import HEAD, Found, InstanceScore, row, score_clip
from numpy.typing import NDArray
from temporal_bench import start_worker
from tqdm import tqdm

import carvid
from carvid.car.instance_segmenter import InstanceSegmenter
from carvid.car.queries import Queries
from carvid.config import load_config
from carvid.instances.follow import instance_pass
from carvid.media.given import to_frames
from carvid.temporal.census import Census, Thing, numbers_of
from carvid.temporal.instance_carrier import new_instance_carrier
from carvid.temporal.instance_state import InstanceFrame, InstanceState
from carvid.temporal.seen import seen_frames


def find(
    model: carvid.Carvid, images: Iterable[NDArray[np.uint8]], text: str, *distractors: str
) -> list[Found]:
    """Return what is found of an expression in each frame, by labels."""
    config, census, frames = model.config, Census(), []
    seen = seen_frames(to_frames(images), None, config.temporal)
    segmenter, queries = InstanceSegmenter(model.segmenter), Queries((text,), distractors)
    carrier = new_instance_carrier(config, model.new_follower)
    found = instance_pass(seen, InstanceState(), segmenter, queries, config, carrier=carrier)
    for frame, _ in found:
        census.add(frame)
        frames.append(frame)
    [things] = census.things(config.instances)
    return [_by_label(frame, things) for frame in frames]


def _by_label(frame: InstanceFrame, things: Sequence[Thing]) -> Found:
    """What a frame shows of things, by labels."""
    labels, found = numbers_of(things), {}
    for number, mask in zip(frame.numbers, frame.masks, strict=True):
        if number in labels:
            label = labels[number] + 1
            found[label] = found[label] | mask if label in found else mask
    return found


def measure_drawn(task: InstancesTask) -> InstanceScore:
    """Score a drawn clip, in a worker."""
    scene, text, other = make_instances(task, temporal_bench.worker_sprites())
    drawn = list(scene.frames())
    found = find(temporal_bench.worker_model(), [image for image, _ in drawn], text, other)
    labels = np.arange(1, task.count + 1)[:, None, None]
    return score_clip(found, [truth == labels for _, truth in drawn])


def measure_all_drawn(
    sprites: Path, preset: str, overrides: Sequence[str], clips: int, first_seed: int, workers: int
) -> list[tuple[InstancesTask, InstanceScore]]:
    """Score so many drawn clips, the kinds in turn."""
    tasks = [InstancesTask(first_seed + k, KINDS[k % len(KINDS)]) for k in range(clips)]
    with ProcessPoolExecutor(
        workers, get_context("spawn"), start_worker, (sprites, preset, tuple(overrides))
    ) as pool:
        bar = tqdm(pool.map(measure_drawn, tasks), total=clips, unit="clip", leave=False)
        return list(zip(tasks, bar, strict=True))


@dataclass(frozen=True)
class RealTask:
    """One video of a DAVIS tree, CLIP simulated."""

    data: Path
    video: str
    labels: tuple[int, ...]
    """The objects that the expression names."""
    copies: int
    """So many copies of the first object are pasted first; 0: none."""
    preset: str
    overrides: tuple[str, ...]
    level: str
    seed: int


def measure_real(task: RealTask) -> InstanceScore:
    """Score a video."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    clip = real_bench.read_clip(task.data, task.video)
    if task.copies:
        import frame_bench

        clip = frame_bench.with_copies(clip, task.copies)
    config = load_config(task.preset, task.overrides)
    noise = real_bench.LEVELS[task.level]
    model = simulate_group(clip, noise, task.seed, config, task.labels)
    found = find(model, clip.images, text_of(task.labels))
    labels = np.array(task.labels)[:, None, None]
    return score_clip(found, [truth == labels for truth in clip.labels])


def measure_all_real(tasks: Sequence[RealTask], workers: int) -> list[InstanceScore]:
    """Score videos."""
    bar = partial(tqdm, total=len(tasks), unit="video", leave=False)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return list(bar(pool.map(measure_real, tasks)))


@dataclass(frozen=True)
class Asked:
    """What `tools/bench.py instances` was asked for; its own options say what each is."""

    sprites: Path | None
    clips: int
    first_seed: int
    preset: str
    data: Path | None
    video: str
    objects: tuple[int, ...]
    copies: int
    levels: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...]


def table(asked: Asked, workers: int) -> Iterator[str]:
    """Yield the lines of a table: a line for each kind of drawn clips, one for all of them, and one
    for each level of noise."""
    yield HEAD
    if asked.sprites is not None:
        drawn = measure_all_drawn(
            asked.sprites, asked.preset, asked.settings, asked.clips, asked.first_seed, workers
        )
        for kind in KINDS:
            if mine := [score for task, score in drawn if task.kind == kind]:
                yield row(f"drawn, {kind}", mine)
        yield row("drawn, all", [score for _, score in drawn])
    if asked.data is not None:
        tasks = [
            RealTask(
                asked.data, asked.video, asked.objects, asked.copies, "default", asked.settings,
                level, seed,
            )
            for level in asked.levels
            for seed in asked.seeds
        ]  # fmt: skip
        scores = measure_all_real(tasks, workers)
        for level in asked.levels:
            mine = [each for task, each in zip(tasks, scores, strict=True) if task.level == level]
            yield row(f"{asked.video}, {level} noise", mine)
