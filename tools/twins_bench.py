"""Two things that look the same, told apart by place or motion: is the right one found?

Used by `tools/bench.py twins`. In each clip a drawing stands twice; an expression names one of the
two by its place in the first frame or by where it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import temporal_bench
from temporal_bench import start_worker
from tqdm import tqdm

from carvid.davis.metrics import jaccard
from carvid.demo.pictures import Sprites
from carvid.demo.scenes import Scene, SceneSpec, Shot, make_scene

SIZE_HW = (240, 432)
FRAMES = 24
"""A quarter of a motion's period: a thing that runs does not turn back."""
KINDS = ("place", "crossing", "motion", "still")
VARIANTS: dict[str, tuple[str, ...]] = {
    "with the parser": (),
    "without": ("phrases.enabled=false",),
}
HEAD = "| variant | " + " | ".join(KINDS) + " | all |\n" + "|-" * (len(KINDS) + 2) + "|"


@dataclass(frozen=True)
class TwinsTask:
    seed: int
    kind: str
    """Of `KINDS`: they stay apart, they walk past each other, they go different ways, or one of
    them stands still."""


def make_twins(task: TwinsTask, sprites: Sprites) -> tuple[Scene, tuple[str, str]]:
    """Return a scene whose things 1 and 2 are twins, and an expression for each."""
    spec = SceneSpec(task.seed, FRAMES, SIZE_HW, objects=(3, 3), heights=(0.25, 0.35))
    scene = make_scene(spec, sprites)
    twin, third = scene.things[0], scene.things[2]
    name = f"the {twin.noun}"
    motions = {
        "place": ("stand", "turn"), "crossing": ("run", "run"), "motion": ("run", "run"),
        "still": ("run", "stand"),
    }[task.kind]  # fmt: skip
    travel = {"crossing": 0.5, "motion": 0.16, "still": 0.2, "place": 0.0}[task.kind]
    shot = scene.shots[0]
    left, right, other = shot.courses
    courses = (
        replace(left, x=0.28, y=0.62, travel=travel),
        replace(right, x=0.72, y=0.58, height=left.height, travel=-travel),
        replace(other, x=0.5, y=0.2, travel=0.1),
    )
    places = (f"{name} on the left", f"{name} on the right")
    texts = {
        "place": places, "crossing": places,
        "motion": (f"{name} moving to the right", f"{name} moving to the left"),
        "still": (f"{name} moving to the right", f"{name} standing still"),
    }[task.kind]  # fmt: skip
    things = (replace(twin, motion=motions[0]), replace(twin, motion=motions[1]), third)
    return Scene(spec, things, (Shot(0, shot.seed, courses, 0.0, None),)), texts


def measure_task(task: TwinsTask) -> list[bool]:
    """For each of the twins: was it found, and not the other one?"""
    model = temporal_bench.worker_model()
    scene, texts = make_twins(task, temporal_bench.worker_sprites())
    drawn = list(scene.frames())
    right = []
    for label, text in enumerate(texts, 1):
        masks = [result.masks[0] for result in model.offline((i for i, _ in drawn), (text,))]
        j = [
            np.mean([jaccard(m, truth == k) for m, (_, truth) in zip(masks, drawn, strict=True)])
            for k in (1, 2)
        ]
        right.append(bool(j[label - 1] > 0.5 and j[label - 1] > j[2 - label]))
    return right


def measure_variant(
    sprites: Path, preset: str, overrides: Sequence[str], clips: int, first_seed: int, workers: int
) -> dict[str, float]:
    """Return the share of expressions that found the right one, for each kind."""
    tasks = [TwinsTask(first_seed + k, kind) for kind in KINDS for k in range(clips)]
    with ProcessPoolExecutor(
        workers, get_context("spawn"), start_worker, (sprites, preset, tuple(overrides))
    ) as pool:
        bar = tqdm(pool.map(measure_task, tasks), total=len(tasks), unit="clip", leave=False)
        found = list(zip(tasks, bar, strict=True))
    return {
        kind: float(np.mean([right for task, both in found if task.kind == kind for right in both]))
        for kind in KINDS
    }


def row(name: str, shares: dict[str, float]) -> str:
    everything = float(np.mean(list(shares.values())))
    cells = " | ".join(f"{value:.0%}" for value in (*shares.values(), everything))
    return f"| {name} | {cells} |"
