"""Things that look the same, told apart by place or motion: is the right one found?

Used by `tools/bench.py twins`. In each clip of `KINDS` a drawing stands twice; an expression names
one of the two by its place in the first frame or by where it goes. `WORDINGS` says the place in
other words. `OTHERS` are clips in which place must not choose: between what is named and what is
not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import temporal_bench
from temporal_bench import start_worker
from tqdm import tqdm

from carvid.demo.pictures import NOUNS, Sprites
from carvid.demo.scenes import Scene, SceneSpec, Shot, make_scene
from carvid.evaluation.regions import jaccard

SIZE_HW = (240, 432)
FRAMES = 24
"""A quarter of a motion's period: a thing that runs does not turn back."""
KINDS = ("place", "crossing", "motion", "still")
WORDINGS: dict[str, tuple[str, str]] = {
    "the dog on the left": ("the {} on the left", "the {} on the right"),
    "left dog": ("left {}", "right {}"),
    "the left dog": ("the left {}", "the right {}"),
    "dog on left": ("{} on left", "{} on right"),
    "the dog at the left": ("the {} at the left", "the {} at the right"),
    "the leftmost dog": ("the leftmost {}", "the rightmost {}"),
    "dog far left": ("{} far left", "{} far right"),
    "second dog from the right": ("second {} from the right", "second {} from the left"),
}
"""How the left one of two may be called, and the right one; `{}` is the noun."""
OTHERS = ("kin", "alone", "alone, no place", "absent", "absent, no place")
"""`kin`: two drawings of one noun; `alone`: the thing named stands on one side, and another on the
side that is asked for; `absent`: what is named is nowhere; and without saying a place."""
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
    them stands still; or of `OTHERS`."""
    words: str = "the dog on the left"
    """Of `WORDINGS`."""


def make_twins(task: TwinsTask, sprites: Sprites) -> tuple[Scene, tuple[str, str]]:
    """Return a scene whose things 1 and 2 stand left and right, and an expression for each."""
    spec = SceneSpec(task.seed, FRAMES, SIZE_HW, objects=(3, 3), heights=(0.25, 0.35))
    scene = make_scene(spec, sprites)
    first, second, third = scene.things
    if task.kind == "kin":
        other = sprites[first.noun][task.seed % len(sprites[first.noun])]
        second = replace(first, sprite=other, flip=not first.flip)
    elif task.kind in KINDS:
        second = first
    motions = {
        "crossing": ("run", "run"), "motion": ("run", "run"), "still": ("run", "stand"),
    }.get(task.kind, ("stand", "turn"))  # fmt: skip
    travel = {"crossing": 0.5, "motion": 0.16, "still": 0.2}.get(task.kind, 0.0)
    shot = scene.shots[0]
    left, right, other_course = shot.courses
    courses = (
        replace(left, x=0.28, y=0.62, travel=travel),
        replace(right, x=0.72, y=0.58, height=left.height, travel=-travel),
        replace(other_course, x=0.5, y=0.2, travel=0.1),
    )
    things = (replace(first, motion=motions[0]), replace(second, motion=motions[1]), third)
    drawn = Scene(spec, things, (Shot(0, shot.seed, courses, 0.0, None),))
    return drawn, _texts(task, first.noun, second.noun, {thing.noun for thing in things})


def _texts(task: TwinsTask, first: str, second: str, drawn: set[str]) -> tuple[str, str]:
    name = f"the {first}"
    if task.kind == "motion":
        return f"{name} moving to the right", f"{name} moving to the left"
    if task.kind == "still":
        return f"{name} moving to the right", f"{name} standing still"
    if task.kind.startswith("absent"):
        noun = [noun for noun in NOUNS if noun not in drawn][task.seed % (len(NOUNS) - len(drawn))]
        place = task.kind == "absent"
        return (f"the {noun} on the left", f"the {noun} on the right") if place else (
            f"the {noun}", f"the {noun}",
        )  # fmt: skip
    left, right = WORDINGS[task.words]
    if task.kind == "alone, no place":
        return name, f"the {second}"
    if task.kind == "alone":  # each is asked for where the other one is
        return right.format(first), left.format(second)
    return left.format(first), right.format(second)


def measure_task(task: TwinsTask) -> list[bool]:
    """For each of the two: was it found, and not the other one? If absent: was nothing found?"""
    model = temporal_bench.worker_model()
    scene, texts = make_twins(task, temporal_bench.worker_sprites())
    drawn = list(scene.frames())
    right = []
    for label, text in enumerate(texts, 1):
        masks = [result.masks[0] for result in model.offline((i for i, _ in drawn), (text,))]
        if task.kind.startswith("absent"):
            right.append(bool(np.mean([mask.any() for mask in masks]) < 0.5))
            continue
        j = [
            np.mean([jaccard(m, truth == k) for m, (_, truth) in zip(masks, drawn, strict=True)])
            for k in (1, 2)
        ]
        right.append(bool(j[label - 1] > 0.5 and j[label - 1] > j[2 - label]))
    return right


def measure_tasks(
    sprites: Path, preset: str, overrides: Sequence[str], tasks: Sequence[TwinsTask], workers: int
) -> list[float]:
    """Return the share of each task's expressions that found the right one."""
    with ProcessPoolExecutor(
        workers, get_context("spawn"), start_worker, (sprites, preset, tuple(overrides))
    ) as pool:
        bar = tqdm(pool.map(measure_task, tasks), total=len(tasks), unit="clip", leave=False)
        return [float(np.mean(both)) for both in bar]


def measure_variant(
    sprites: Path, preset: str, overrides: Sequence[str], clips: int, first_seed: int, workers: int
) -> dict[str, float]:
    """Return the share of expressions that found the right one, for each kind."""
    tasks = [TwinsTask(first_seed + k, kind) for kind in KINDS for k in range(clips)]
    shares = measure_tasks(sprites, preset, overrides, tasks, workers)
    return _means((task.kind for task in tasks), shares)


def measure_wordings(
    sprites: Path, preset: str, overrides: Sequence[str], clips: int, first_seed: int, workers: int
) -> dict[str, float]:
    """Likewise, for each of `WORDINGS` in clips of the kind `place`, and for each of `OTHERS`."""
    seeds = [first_seed + k for k in range(clips)]
    tasks = [TwinsTask(seed, "place", words) for words in WORDINGS for seed in seeds]
    tasks += [TwinsTask(seed, kind) for kind in OTHERS for seed in seeds]
    shares = measure_tasks(sprites, preset, overrides, tasks, workers)
    names = (task.words if task.kind == "place" else task.kind for task in tasks)
    return _means(names, shares)


def _means(names: Iterable[str], values: Sequence[float]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(name, []).append(value)
    return {name: float(np.mean(group)) for name, group in groups.items()}


def row(name: str, shares: dict[str, float]) -> str:
    everything = float(np.mean(list(shares.values())))
    cells = " | ".join(f"{value:.0%}" for value in (*shares.values(), everything))
    return f"| {name} | {cells} |"
