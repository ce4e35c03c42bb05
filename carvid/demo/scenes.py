"""Moving scenes: things of a known name that jump, run and hide, with the truth of every pixel.

A scene is a number: `make_scene(SceneSpec(seed), sprites)` is the same on every machine, up to the
rounding of the image library. Axis letters as in the package docstring.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.demo.pictures import (
    HELD_OUT_SURFACES,
    HUES,
    MOTIONS,
    NOUNS,
    SURFACES,
    Image,
    Sprites,
    paint_background,
    paste,
    recolor,
    transform,
)

EVENTS = (
    "look-alike", "occlusion", "leave", "cut", "pan", "shake", "brightness", "motion-blur",
    "noise", "absent",
)  # fmt: skip
"""What can happen in a scene."""

PERIOD = 96
"""Frames until a motion comes round."""
SLIDE_FRAMES = 6
"""Frames in which a thing leaves the picture, or comes back."""
PAN, SHAKE = 0.15, 0.012
"""How far the camera wanders and trembles, as shares of the width."""
COLORFUL = 0.4
"""Share of a drawing that must have a colour for colour words to tell copies apart."""


@dataclass(frozen=True)
class SceneSpec:
    """What a scene is made from."""

    seed: int
    frames: int = 48
    size_hw: tuple[int, int] = (480, 854)
    objects: tuple[int, int] = (3, 4)
    """Least and largest number of things."""
    heights: tuple[float, float] = (0.22, 0.5)
    """Least and largest height of a thing, over the picture's."""
    events: tuple[str, ...] = ()
    """Of `EVENTS`; each of them happens."""
    held_out: bool = True
    """Use the backgrounds that the embedded model was not trained on."""

    def __post_init__(self) -> None:
        if unknown := set(self.events) - set(EVENTS):
            raise ValueError(f"unknown events {sorted(unknown)}; known are {EVENTS}")

    def with_some_events(self, share: float = 0.4) -> SceneSpec:
        """Return this with each event drawn at random, by the seed, `share` of the time."""
        drawn = np.random.default_rng([self.seed, 9]).random(len(EVENTS)) < share
        return replace(
            self, events=tuple(e for e, is_in in zip(EVENTS, drawn, strict=True) if is_in)
        )


@dataclass(frozen=True)
class Thing:
    """One named thing of a scene."""

    noun: str
    color: str | None
    """Its colour word, where it was recoloured."""
    text: str
    """An expression that names it."""
    motion: str
    """Of `MOTIONS`."""
    sprite: Image
    """uint8 (h, w, 4) RGBA."""
    flip: bool


@dataclass(frozen=True)
class Course:
    """How a thing moves in one shot; x and y are shares of the picture's width and height."""

    x: float
    y: float
    height: float
    """Share of the picture's height."""
    travel: float
    """Share of the width that a running or rolling thing covers in half a period."""
    away: tuple[int, int] | None = None
    """It is outside the picture from the first of these frames until before the second."""
    present: bool = True


@dataclass(frozen=True)
class Shot:
    """What the camera sees between two cuts."""

    start: int
    seed: int
    courses: tuple[Course, ...]
    pan: float
    """How far the camera wanders, as a share of the width."""
    post: tuple[float, float] | None
    """Centre and width of a post in front of everything, as shares of the width."""


@dataclass(frozen=True)
class Pose:
    """Where a thing is in one frame, pixels."""

    center_xy: tuple[float, float]
    height: float
    angle_deg: float
    """Clockwise."""
    inside: bool
    """False while it is away."""


class Scene:
    """A scene that can be drawn.

    Args:
        spec: its size, length and events; `objects` and `heights` are for `make_scene`.
        things: thing k, from 1, is label k.
        shots: in order, with a course for every thing.
        absent: an expression for something that is not there.
    """

    def __init__(
        self,
        spec: SceneSpec,
        things: tuple[Thing, ...],
        shots: tuple[Shot, ...],
        absent: str | None = None,
    ) -> None:
        self.spec, self.things, self.shots, self.absent = spec, things, shots, absent

    @property
    def texts(self) -> tuple[str, ...]:
        """Expressions of the things, in order of their labels; the absent one is not among them."""
        return tuple(thing.text for thing in self.things)

    def frames(self) -> Iterator[tuple[Image, Image]]:
        """Yield uint8 (H, W, 3) RGB and uint8 (H, W) labels of each frame."""
        for index in range(self.spec.frames):
            yield self.frame(index)

    def frame(self, index: int) -> tuple[Image, Image]:
        """Draw one frame: uint8 (H, W, 3) RGB and uint8 (H, W) labels."""
        if "motion-blur" in self.spec.events:
            layers = [self._draw(index + part)[0] for part in (-0.4, -0.2, 0.2, 0.4)]
            image, labels = self._draw(index)
            image = np.mean([*layers, image], axis=0).round().astype(np.uint8)
        else:
            image, labels = self._draw(index)
        return self._light(image, index), labels

    def shot(self, index: float) -> Shot:
        """Return the shot that a frame belongs to."""
        return [shot for shot in self.shots if shot.start <= max(index, 0)][-1]

    def pose(self, label: int, index: float) -> Pose:
        """Return where thing `label` (from 1) is at a frame, which may be between two."""
        height, width = self.spec.size_hw
        shot, thing = self.shot(index), self.things[label - 1]
        course = shot.courses[label - 1]
        angle = math.tau * index / PERIOD
        swing = math.sin(angle)  # there and back once a period
        x, y, size, tilt = course.x, course.y, course.height, 0.0
        if thing.motion == "jump":
            hop = abs(math.sin(4 * angle))
            x, y, tilt = x + 0.4 * course.travel * swing, y - 0.22 * hop, 10 * math.cos(4 * angle)
        elif thing.motion == "run":
            x, y = x + course.travel * swing, y - 0.02 * abs(math.sin(12 * angle))
        elif thing.motion == "roll":
            x += course.travel * swing
            tilt = math.degrees(course.travel * swing * width / (0.5 * size * height))
        elif thing.motion == "grow":
            size *= 1 + 0.3 * swing
        elif thing.motion == "turn":
            tilt = 30 * math.sin(2 * angle)
        out = _slide(course.away, index)
        x += out * (1.5 if x >= 0.5 else -1.5)
        camera_x, camera_y = self._camera(index)
        center = (x * width - camera_x, y * height - camera_y)
        return Pose(center, size * height, tilt, course.present and out < 1)

    def motion(self, label: int, index: int) -> NDArray[np.float64] | None:
        """Return how thing `label` moves from the frame before into this one.

        Returns:
            float64 (2, 3), an affine map of pixels (x, y); None across a cut or while it is away.
        """
        if index < 1 or self.shot(index) is not self.shot(index - 1):
            return None
        before, now = self.pose(label, index - 1), self.pose(label, index)
        if not (before.inside and now.inside):
            return None
        turn = cv2.getRotationMatrix2D(
            before.center_xy, before.angle_deg - now.angle_deg, now.height / before.height
        )
        turn[:, 2] += np.subtract(now.center_xy, before.center_xy)
        return np.asarray(turn, np.float64)

    def _draw(self, index: float) -> tuple[Image, Image]:
        shot, size_hw = self.shot(index), self.spec.size_hw
        camera_x, camera_y = self._camera(index)
        canvas = self._canvases[shot.start]
        margin_y, margin_x = self._margins
        top, left = round(margin_y + camera_y), round(margin_x + camera_x)
        image = canvas[top : top + size_hw[0], left : left + size_hw[1]].copy()
        labels = np.zeros(size_hw, np.uint8)
        for label in sorted(range(1, len(self.things) + 1), key=lambda k: shot.courses[k - 1].y):
            pose, thing = self.pose(label, index), self.things[label - 1]
            if pose.inside:
                drawn = transform(thing.sprite, pose.height, pose.angle_deg, flip=thing.flip)
                paste(image, labels, drawn, pose.center_xy, label)
        if shot.post is not None:
            center, wide = shot.post
            x0 = round((center - wide / 2) * size_hw[1] - camera_x)
            x1 = x0 + round(wide * size_hw[1])
            span = slice(max(0, x0), max(0, x1))
            tone = np.clip(np.linspace(0.55, 1.1, max(1, x1 - x0)), 0, 1)[span.start - x0 :]
            part = image[:, span]
            part[:] = (np.array([120, 105, 90]) * tone[: part.shape[1], None]).astype(np.uint8)
            labels[:, span] = 0
        return image, labels

    def _camera(self, index: float) -> tuple[float, float]:
        """How far the camera is from its place, pixels right and down."""
        width = self.spec.size_hw[1]
        x = self.shot(index).pan * width * math.sin(math.tau * index / PERIOD)
        if "shake" not in self.spec.events:
            return x, 0.0
        tremble = SHAKE * width / 2
        return (
            x + tremble * (math.sin(1.3 * index) + math.sin(2.9 * index + 1)),
            tremble * (math.sin(1.7 * index + 2) + math.sin(2.3 * index)),
        )

    @property
    def _margins(self) -> tuple[int, int]:
        width = self.spec.size_hw[1]
        return math.ceil(SHAKE * width) + 2, math.ceil((PAN + SHAKE) * width) + 2

    @cached_property
    def _canvases(self) -> dict[int, Image]:
        """The background of each shot, larger than the picture by the camera's reach."""
        surfaces = (HELD_OUT_SURFACES if self.spec.held_out else SURFACES).values()
        (height, width), (margin_y, margin_x) = self.spec.size_hw, self._margins
        size_hw = (height + 2 * margin_y, width + 2 * margin_x)
        return {
            shot.start: paint_background(np.random.default_rng(shot.seed), size_hw, surfaces)[0]
            for shot in self.shots
        }

    def _light(self, image: Image, index: int) -> Image:
        events = self.spec.events
        gain = 1 + 0.25 * math.sin(math.tau * index / 40) if "brightness" in events else 1.0
        noise: float | NDArray[np.float64] = 0.0
        if "noise" in events:
            noise = np.random.default_rng([self.spec.seed, 1, index]).normal(0, 6, image.shape)
        if gain == 1.0 and "noise" not in events:
            return image
        lit: Image = np.clip(image * gain + noise, 0, 255).round().astype(np.uint8)
        return lit


def make_scene(spec: SceneSpec, sprites: Sprites) -> Scene:
    """Make the scene of a number.

    Args:
        spec: what it is made from.
        sprites: drawings of every noun, as `load_sprites` gives them.
    """
    rng = np.random.default_rng([spec.seed, 0])
    things = _pick_things(rng, spec, sprites)
    taken = {thing.noun for thing in things}
    others = [noun for noun in NOUNS if noun not in taken]
    absent = f"the {rng.choice(others)}" if "absent" in spec.events else None
    return Scene(spec, things, _make_shots(rng, spec, len(things)), absent)


def _slide(away: tuple[int, int] | None, index: float) -> float:
    """How far out of the picture a thing is: 0 in its place, 1 and more outside."""
    if away is None:
        return 0.0
    leaving = (index - (away[0] - SLIDE_FRAMES)) / SLIDE_FRAMES
    coming = (away[1] + SLIDE_FRAMES - 1 - index) / SLIDE_FRAMES
    return float(np.clip(min(leaving, coming), 0, 1))


def _pick_things(rng: np.random.Generator, spec: SceneSpec, sprites: Sprites) -> tuple[Thing, ...]:
    count = int(rng.integers(spec.objects[0], spec.objects[1] + 1))
    motions = list(MOTIONS)
    if "look-alike" in spec.events:
        colorful = [
            n for n in NOUNS if all(colorfulness(sprite) > COLORFUL for sprite in sprites[n])
        ]
        noun = str(rng.choice(colorful))
        names = [noun, noun, *rng.permutation([n for n in NOUNS if n != noun])[: count - 2]]
        colors = [*(str(c) for c in rng.permutation(list(HUES))[:2]), *[None] * (count - 2)]
    else:
        names = [str(n) for n in rng.permutation(list(NOUNS))[:count]]
        colors = [None] * count
    things = []
    for noun, color in zip(names, colors, strict=True):
        drawing = sprites[noun][int(rng.integers(len(sprites[noun])))]
        motion = motions[rng.integers(len(motions))]
        word = str(rng.choice((noun, *NOUNS[noun][1:]))) if rng.random() < 0.3 else noun
        doing = str(rng.choice(MOTIONS[motion])) if color is None else ""
        text = " ".join(part for part in ("the", color, word, doing) if part)
        flip = bool(rng.random() < 0.5)
        sprite = recolor(drawing, color) if color else drawing
        things.append(Thing(str(noun), color, text, motion, sprite, flip))
    return tuple(things)


def colorfulness(sprite: Image) -> float:
    """The share of a drawing that `recolor` changes."""
    saturation = cv2.cvtColor(sprite[..., :3], cv2.COLOR_RGB2HSV)[..., 1]
    return float((saturation[sprite[..., 3] > 128] > 25).mean())


def _make_shots(rng: np.random.Generator, spec: SceneSpec, count: int) -> tuple[Shot, ...]:
    starts = [0]
    if "cut" in spec.events:
        starts.append(int(spec.frames * rng.uniform(0.4, 0.6)))
    shots = []
    for start in starts:
        slots = rng.permutation(count)
        courses = []
        for slot in slots:
            wide = 1 / count
            courses.append(
                Course(
                    x=float((slot + rng.uniform(0.4, 0.6)) * wide),
                    y=float(rng.uniform(0.42, 0.7)),
                    height=float(rng.uniform(*spec.heights)),
                    travel=float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.4)),
                )
            )
        leaver = int(rng.integers(count))
        if "leave" in spec.events and start == 0:
            end = spec.frames if len(starts) == 1 else starts[1]
            away = (round(end * 0.35), round(end * 0.65))
            courses[leaver] = replace(courses[leaver], away=away)
        if start > 0:  # someone stays behind at a cut
            courses[leaver] = replace(courses[leaver], present=False)
        pan = (
            float(rng.choice([-1, 1]) * rng.uniform(0.5, 1) * PAN) if "pan" in spec.events else 0.0
        )
        post = None
        if "occlusion" in spec.events:
            post = (float(rng.uniform(0.25, 0.75)), float(rng.uniform(0.05, 0.1)))
        shots.append(Shot(start, int(rng.integers(2**31)), tuple(courses), pan, post))
    return tuple(shots)
