"""Drawn clips of several things of a kind, which cross, hide, leave and come back.

Used by `tools/bench.py instances`. In each clip a noun is drawn two to four times, in half of the
clips by one drawing, in the others by drawings of different sets, and one thing of another noun
moves among them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from carvid.demo.pictures import Sprites
from carvid.demo.scenes import Course, Scene, SceneSpec, Shot, Thing, make_scene

SIZE_HW = (240, 432)
FRAMES = 48
"""Half a motion's period: what crosses has crossed, and comes back."""
KINDS = ("apart", "crossing", "post", "leaving")
"""They keep apart; two of them cross, there and back; all pass behind a post; one leaves the
picture and comes back."""


@dataclass(frozen=True)
class InstancesTask:
    """One drawn clip."""

    seed: int
    kind: str
    """Of `KINDS`."""

    @property
    def count(self) -> int:
        """Things of the kind, 2 to 4."""
        return 2 + self.seed % 3


def make_instances(task: InstancesTask, sprites: Sprites) -> tuple[Scene, str, str]:
    """Return a scene whose first `task.count` things are of a kind, an expression for them, and one
    for the other thing."""
    spec = SceneSpec(task.seed, FRAMES, SIZE_HW, objects=(2, 2), heights=(0.22, 0.32))
    scene, rng = make_scene(spec, sprites), np.random.default_rng([task.seed, 5])
    first, other = scene.things
    things = [_copy(first, k, task, sprites, rng) for k in range(task.count)]
    shot = scene.shots[0]
    courses = _courses(task, shot.courses[0].height, rng)
    beside = replace(shot.courses[1], x=0.5, y=0.15, travel=0.2, height=0.2)
    post = (0.5, float(rng.uniform(0.1, 0.16))) if task.kind == "post" else None
    drawn = Shot(0, shot.seed, (*courses, beside), 0.0, post)
    scene = Scene(spec, (*things, replace(other, motion="run")), (drawn,))
    return scene, f"the {first.noun}", f"the {other.noun}"


def _copy(
    thing: Thing, number: int, task: InstancesTask, sprites: Sprites, rng: np.random.Generator
) -> Thing:
    """The thing once more, by one of its noun's drawings."""
    drawings = sprites[thing.noun]
    same = task.seed // 3 % 2 == 0
    sprite = thing.sprite if same else drawings[(task.seed + number) % len(drawings)]
    return replace(thing, sprite=sprite, motion="run", flip=bool(rng.random() < 0.5))


def _courses(task: InstancesTask, height: float, rng: np.random.Generator) -> tuple[Course, ...]:
    """Where each thing of the kind goes."""
    count = task.count
    places = (np.arange(count) + 0.5) / count
    courses = []
    for k, x in enumerate(places):
        travel, y = 0.15 / count * (-1) ** k, 0.62 + 0.06 * (k % 2)
        if task.kind == "post":  # two lanes, from both sides
            x, y = 0.32 - 0.1 * (k // 2 * 2), 0.48
            travel = 0.42
            if k % 2:
                x, y, travel = 1 - x, 0.8, -travel
        y += float(rng.uniform(-0.03, 0.03))
        size = height * float(rng.uniform(0.9, 1.1))
        courses.append(Course(float(x), y, size, travel))
    if task.kind == "crossing":
        one, two = sorted(rng.permutation(count)[:2].tolist())
        way = places[two] - places[one]
        courses[one] = replace(courses[one], travel=float(way))
        courses[two] = replace(courses[two], travel=-float(way))
    if task.kind == "leaving":
        edge = 0 if rng.random() < 0.5 else count - 1
        courses[edge] = replace(courses[edge], away=(18, 30))
    return tuple(courses)
