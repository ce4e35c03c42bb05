"""The clips of tests/test_floors.py: staged, seeded, each with the truth of every pixel.

Used by `tools/make_demo.py SPRITES tests/clips --floors`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from carvid.base.files import make_folder
from carvid.demo.pictures import Sprites, recolor
from carvid.demo.scenes import Course, Scene, SceneSpec, Shot, Thing
from carvid.demo.write import FRAME_RATE
from carvid.media.encode import VideoWriter
from carvid.media.label_png import write_label_png

SMALL, HD = (288, 512), (1080, 1920)


def look_alikes(sprites: Sprites) -> Scene:
    """Two equal tractors drive apart below a drum; left and right tell them."""
    tractor = sprites["tractor"][0]
    things = (
        Thing("tractor", None, "the tractor on the left", "run", tractor, flip=False),
        Thing("tractor", None, "the tractor on the right", "run", tractor, flip=True),
        Thing("drum", None, "the drum", "stand", sprites["drum"][0], flip=False),
    )
    courses = (
        Course(x=0.24, y=0.52, height=0.34, travel=-0.08),
        Course(x=0.76, y=0.74, height=0.34, travel=0.08),
        Course(x=0.5, y=0.36, height=0.28, travel=0.0),
    )
    return Scene(SceneSpec(seed=1, frames=16, size_hw=SMALL), things, (_shot(0, 6, courses),))


def colors(sprites: Sprites) -> Scene:
    """Three equal cars, but for their colours."""
    things = tuple(
        Thing("car", color, f"the {color} car", "run", recolor(sprites["car"][0], color), flip)
        for color, flip in (("red", False), ("blue", True), ("green", False))
    )
    courses = (
        Course(x=0.24, y=0.52, height=0.34, travel=-0.08),
        Course(x=0.76, y=0.74, height=0.34, travel=0.08),
        Course(x=0.5, y=0.36, height=0.28, travel=0.0),
    )
    return Scene(SceneSpec(seed=7, frames=10, size_hw=SMALL), things, (_shot(0, 33, courses),))


def motions(sprites: Sprites) -> Scene:
    """Two equal cars drive in opposite directions, which one frame does not tell."""
    car = recolor(sprites["car"][0], "red")
    things = (
        Thing("car", "red", "the car moving to the right", "run", car, flip=True),
        Thing("car", "red", "the car moving to the left", "run", car, flip=False),
    )
    courses = (
        Course(x=0.3, y=0.3, height=0.26, travel=0.4),
        Course(x=0.7, y=0.74, height=0.26, travel=-0.4),
    )
    return Scene(SceneSpec(seed=2, frames=20, size_hw=SMALL), things, (_shot(0, 33, courses),))


def returning(sprites: Sprites) -> Scene:
    """A crab leaves and comes back; a cow stays."""
    things = (
        Thing("crab", None, "the crab", "run", sprites["crab"][0], flip=False),
        Thing("cow", None, "the cow", "run", sprites["cow"][0], flip=False),
    )
    courses = (
        Course(x=0.25, y=0.62, height=0.4, travel=0.1, away=(12, 20)),
        Course(x=0.72, y=0.5, height=0.34, travel=-0.1),
    )
    return Scene(SceneSpec(seed=3, frames=34, size_hw=SMALL), things, (_shot(0, 33, courses),))


def cut(sprites: Sprites) -> Scene:
    """After the cut the tractor is elsewhere and the strawberry is gone."""
    things = (
        Thing("tractor", None, "the tractor", "jump", sprites["tractor"][0], flip=False),
        Thing("strawberry", None, "the strawberry", "run", sprites["strawberry"][0], flip=False),
    )
    before = (
        Course(x=0.25, y=0.6, height=0.4, travel=0.2),
        Course(x=0.72, y=0.66, height=0.4, travel=-0.15),
    )
    after = (
        Course(x=0.7, y=0.6, height=0.5, travel=0.2),
        Course(x=0.3, y=0.66, height=0.4, travel=0.15, present=False),
    )
    shots = (_shot(0, 6, before), _shot(13, 31, after))
    return Scene(SceneSpec(seed=4, frames=24, size_hw=SMALL), things, shots)


def absent(sprites: Sprites) -> Scene:
    """A rabbit and a pig; none of the things that are asked for beside them."""
    things = (
        Thing("rabbit", None, "the rabbit", "turn", sprites["rabbit"][0], flip=False),
        Thing("pig", None, "the pig", "grow", sprites["pig"][0], flip=False),
    )
    courses = (
        Course(x=0.3, y=0.55, height=0.5, travel=0.0),
        Course(x=0.72, y=0.6, height=0.36, travel=0.0),
    )
    return Scene(SceneSpec(seed=5, frames=12, size_hw=SMALL), things, (_shot(0, 4, courses),))


def hd(sprites: Sprites) -> Scene:
    """1920x1080: a rabbit and a pig, neither of them in the middle."""
    things = (
        Thing("rabbit", None, "the rabbit", "run", sprites["rabbit"][0], flip=False),
        Thing("pig", None, "the pig", "run", sprites["pig"][0], flip=False),
    )
    courses = (
        Course(x=0.27, y=0.34, height=0.34, travel=0.4),
        Course(x=0.74, y=0.7, height=0.3, travel=-0.4),
    )
    return Scene(SceneSpec(seed=6, frames=4, size_hw=HD), things, (_shot(0, 4, courses),))


CLIPS: dict[str, Callable[[Sprites], Scene]] = {
    "look-alikes": look_alikes, "colors": colors, "motions": motions, "returning": returning,
    "cut": cut, "absent": absent, "hd": hd,
}  # fmt: skip


def write_floor_clips(sprites: Sprites, folder: Path) -> None:
    """Write each clip as `<name>.mp4`, and its label maps below one another as `<name>.png`."""
    make_folder(folder)
    for name, stage in CLIPS.items():
        scene = stage(sprites)
        strip = []
        with VideoWriter(folder / f"{name}.mp4", scene.spec.size_hw, FRAME_RATE) as writer:
            for image, labels in scene.frames():
                writer.write(image)
                strip.append(labels)
        write_label_png(folder / f"{name}.png", np.concatenate(strip))


def _shot(start: int, background: int, courses: tuple[Course, ...]) -> Shot:
    """A shot of a camera that stands still; `background` is the seed of what is behind."""
    return Shot(start, background, courses, 0.0, None)
