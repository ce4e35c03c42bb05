#!/usr/bin/env python
"""What carrying by a network that follows things is worth, and when it is to be told anew.

    tools/carriers_bench.py ../shared/data/davis-train
    tools/carriers_bench.py ../shared/data/davis-train --level strong --video dance --seed 1 2

CLIP is simulated as in `tools/bench.py real`. The follower is simulated, too: what it is told is
taken for the object that it overlaps most, and it then has the truth with an uneven border. By
chance it changes over to something beside the object, which moves with it, or loses it, and stays
with that error until it is told anew. What is no object stands still. With `--takes-on 0.5` it has
also about half of what was wrong with the mask that it was told, which moves with the object.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
import real_bench
from numpy.typing import NDArray

import carvid.temporal.seen
from carvid.base.masks import box_of, iou
from carvid.config import load_config
from carvid.evaluation.regions import mask_scores
from carvid.sam.video import Carried

RULES = ("flow", "never", "always", "better")
"""What carries: flow, or the follower with this `sam2.correct`."""
LAGS = {"offline": (), "causal": ("temporal.lag=0",)}
FOUND_IOU = 0.2
"""What is told is an object that it overlaps by this."""
CHANGES, LOSES = 0.01, 0.005
"""Chance of each frame that the follower changes over to what is beside the object, and that it
loses it: of 60 frames, in three of five clips one of them happens."""
BORDER = 2.5
"""Standard deviation of the border's place, pixels of a frame 864 wide."""


@dataclass(frozen=True)
class Noise:
    """How far the simulated networks are from the truth."""

    level: str
    """Of CLIP, of `real_bench.LEVELS`."""
    takes_on: float
    """Share that the follower takes on of what is wrong with a mask that it is told."""


@dataclass
class Thing:
    """What the follower believes to follow."""

    label: int | None
    """An object of the clip; None: no object, but a place."""
    mask: NDArray[np.bool_]
    """bool (h, w): the place."""
    lost: bool = False
    wrong: NDArray[np.bool_] | None = None
    """bool (h, w): of what was told, what it takes on though it is wrong; in the frame where it was
    told."""
    center: tuple[int, int] = (0, 0)
    """The object's middle there, x and y."""
    beside: int = 0
    """-1 or 1 where it is what is on the left or right of the object."""


class SimulatedFollower:
    """Follows the truth, and errs."""

    def __init__(self, clip: real_bench.Clip, seed: int, takes_on: float) -> None:
        self._clip = clip
        self._level = NormalDist().inv_cdf(1 - takes_on) if takes_on else np.inf
        self._index_of = {real_bench._print(image): i for i, image in enumerate(clip.images)}
        self._seed = [seed, zlib.crc32(clip.name.encode())]
        self._things: dict[int, Thing] = {}
        self._index, self._size_hw = 0, (0, 0)
        self.told = 0
        """How often it was told where a thing is."""

    def step(self, image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Carried:
        """Go to the next frame."""
        self._index, self._size_hw = self._index_of[real_bench._print(image)], size_hw
        maps = np.zeros((len(self._things), *size_hw), np.float32)
        for plane, thing in zip(maps, self._things.values(), strict=True):
            self._err(thing)
            plane[:] = self._seen(thing)
        return Carried(tuple(self._things), maps, maps.max(axis=(1, 2), initial=0))

    def add_mask(self, number: int, mask: NDArray[np.bool_]) -> None:
        """Take a mask for the object that it overlaps most."""
        self.told += 1
        overlaps = [iou(mask, self._truth(k)) for k in range(1, self._clip.objects + 1)]
        best = int(np.argmax(overlaps))
        if overlaps[best] <= FOUND_IOU:
            self._things[number] = Thing(None, mask.copy())
            return
        truth = self._truth(best + 1)
        told = Thing(best + 1, mask, center=_middle(truth))
        told.wrong = (mask ^ truth) & (self._field(told) > self._level)
        self._things[number] = told

    def drop(self, number: int) -> None:
        """Follow a thing no more."""
        del self._things[number]

    def forget(self) -> None:
        """Follow nothing."""
        self._things.clear()

    def state(self) -> dict[str, NDArray[Any]]:
        """Nothing: no run goes on here."""
        return {}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """No run goes on here."""
        raise NotImplementedError

    def _truth(self, label: int) -> NDArray[np.bool_]:
        """An object in the frame, bool (h, w)."""
        truth = (self._clip.labels[self._index] == label).astype(np.uint8)
        return cv2.resize(truth, self._size_hw[::-1], interpolation=cv2.INTER_NEAREST) > 0

    def _err(self, thing: Thing) -> None:
        """Change over to what is beside the object, or lose it, by chance."""
        changes, loses, side = self._rng(thing).random(3)
        thing.lost |= bool(loses < LOSES)
        if thing.label is not None and not thing.beside and changes < CHANGES:
            thing.beside = -1 if side < 0.5 else 1

    def _seen(self, thing: Thing) -> NDArray[np.float32]:
        """What the follower has of a thing in the frame, float32 (h, w) in [0, 1]."""
        if thing.lost:
            return np.zeros(self._size_hw, np.float32)
        mask = thing.mask if thing.label is None else self._truth(thing.label)
        if thing.wrong is not None and mask.any():
            x, y = np.subtract(_middle(mask), thing.center)
            mask = mask ^ self._moved(thing.wrong, int(x), int(y))
        if thing.beside and mask.any():
            left, _, right, _ = box_of(mask)
            mask = self._moved(mask, thing.beside * (right - left), 0)
        inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
        outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
        place = inside - outside + BORDER * self._size_hw[1] / 864 * self._field(thing)
        return np.asarray(
            1 / (1 + np.exp(-np.clip(place, -20, 20))) if mask.any() else mask, np.float32
        )

    def _rng(self, thing: Thing) -> np.random.Generator:
        """Chance in this frame: the same whatever was told, so that rules can be compared."""
        return np.random.default_rng([*self._seed, self._index, thing.label or 0])

    def _field(self, thing: Thing) -> NDArray[np.float32]:
        """A smooth random field of about unit variance, float32 (h, w)."""
        small = self._rng(thing).standard_normal((12, 20)).astype(np.float32)
        return np.asarray(cv2.resize(small, self._size_hw[::-1], interpolation=cv2.INTER_CUBIC))

    def _moved(self, mask: NDArray[np.bool_], x: int, y: int) -> NDArray[np.bool_]:
        """A mask, bool (h, w), farther to the right and down by so many pixels."""
        by = np.float32([[1, 0, x], [0, 1, y]])
        return cv2.warpAffine(mask.astype(np.uint8), by, self._size_hw[::-1]) > 0


def _middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """The middle of a mask's box, x and y."""
    left, top, right, bottom = box_of(mask)
    return (left + right) // 2, (top + bottom) // 2


def measure_video(
    data: Path, noise: Noise, seeds: tuple[int, ...], more: tuple[str, ...], name: str
) -> list[tuple[str, str, float, int, int]]:
    """Return of one video, for each lag, rule and seed: J&F, how often a thing was told, frames."""
    cv2.setNumThreads(1)
    clip, found = real_bench.read_clip(data, name), []
    plain = carvid.temporal.seen.flow_between
    carvid.temporal.seen.flow_between = real_bench.remembering(plain)
    try:
        for lag, settings in LAGS.items():
            for rule in RULES:
                for seed in seeds:
                    every = [*settings, *more]
                    score, told = measure(clip, noise, seed, every, rule)
                    found.append((lag, rule, score, told, len(clip.images)))
    finally:
        carvid.temporal.seen.flow_between = plain
    return found


def measure(
    clip: real_bench.Clip, noise: Noise, seed: int, settings: Sequence[str], rule: str
) -> tuple[float, int]:
    """Return J&F in percent, the mean over objects, and how often a thing was told."""
    made: list[SimulatedFollower] = []
    carried = [] if rule == "flow" else ["temporal.carrier=sam2", f"sam2.correct={rule}"]
    config = load_config("default", [*settings, *carried])
    model = real_bench.simulate(clip, real_bench.LEVELS[noise.level], seed, config)

    def new_follower() -> SimulatedFollower:
        made.append(SimulatedFollower(clip, seed + 1000 * len(made), noise.takes_on))
        return made[-1]

    model.new_follower = new_follower
    texts = [real_bench.text_of(label) for label in range(1, clip.objects + 1)]
    labels = [result.labels() for result in model.offline(clip.images, texts)]
    pairs = list(zip(labels, clip.labels, strict=True))[1:-1]
    scores = [
        np.mean([mask_scores(a == k, b == k) for a, b in pairs], axis=0)
        for k in range(1, clip.objects + 1)
    ]
    return 100 * float(np.mean(scores)), made[0].told if made else 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--level", default="mild", choices=list(real_bench.LEVELS))
    parser.add_argument("--video", nargs="+")
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--takes-on", type=float, default=0.0, help="share of a told mask's errors")
    parser.add_argument("--set", nargs="+", default=[], help="settings, as section.key=value")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    names = options.video or sorted(p.name for p in (options.data / "Annotations/480p").iterdir())
    noise = Noise(options.level, options.takes_on)
    seeds, more = tuple(options.seed), tuple(options.set)
    work = partial(measure_video, options.data, noise, seeds, more)
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        videos = list(pool.map(work, names))
    print(f"{len(names)} videos, noise {noise.level}, takes on {noise.takes_on}, seeds {seeds}")
    print("| | carried by | J&F | against flow | told, of 100 frames |\n|-|-|-|-|-|")
    for lag in LAGS:
        base = _scores(videos, lag, "flow")
        for rule in RULES:
            scores = _scores(videos, lag, rule)
            gains = [a - b for a, b in zip(scores, base, strict=True)]
            error = np.std(gains, ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            rows = [row for video in videos for row in video if row[:2] == (lag, rule)]
            told = 100 * sum(row[3] for row in rows) / sum(row[4] for row in rows)
            print(f"| {lag} | {rule} | {np.mean(scores):.1f} | {np.mean(gains):+.1f} ± {error:.1f} "
                  f"| {told:.1f} |")  # fmt: skip


def _scores(videos: list[list[tuple[Any, ...]]], lag: str, rule: str) -> list[float]:
    """J&F of each video, the mean over seeds."""
    return [float(np.mean([row[2] for row in video if row[:2] == (lag, rule)])) for video in videos]


if __name__ == "__main__":
    main()
