"""Where cuts are detected: real clips without one, joins of two clips, dissolves.

Used by `tools/bench.py cuts`. No network runs: a state has one track, a box, which is forgotten at
a cut and begun again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.car.choice import NO_TRACK
from carvid.config import TemporalConfig
from carvid.temporal.colors import count_colors
from carvid.temporal.observe import FrameContext, observe
from carvid.temporal.seen import see
from carvid.temporal.state import TemporalState
from carvid.temporal.update import after_carrying

Picture = NDArray[np.uint8]

STRIDES = (1, 2, 4)
JOINS, DISSOLVES = 60, 20
AROUND = 8
"""Frames on each side of a join; so many before a dissolve, and after its end."""
DISSOLVE_FRAMES, SOON = 12, 6
OLD = 0.1
"""A track is of the old scene if this share of the picture was still of it when the track began."""


@dataclass(frozen=True)
class Tally:
    """How often something came out right."""

    name: str
    cases: int
    right: int
    worst: str
    """What to say of the others."""

    def __str__(self) -> str:
        return f"| {self.name} | {self.cases} | {self.right} | {self.worst} |"


HEAD = "| what | cases | right | otherwise |\n|-|-|-|-|"


def measure(data: Path, config: TemporalConfig, seed: int) -> Iterator[Tally]:
    """Yield the tallies of a DAVIS tree: pairs at each stride, joins, dissolves."""
    clips = {folder.name: Clip(folder) for folder in sorted((data / "JPEGImages/480p").iterdir())}
    for stride in STRIDES:
        yield without_cuts(clips, stride, config)
    rng = np.random.default_rng(seed)
    pairs = list(itertools.permutations(clips, 2))
    yield joins(clips, _some(pairs, JOINS, rng), config, rng)
    yield dissolves(clips, _some(pairs, DISSOLVES, rng), config, rng)


class Clip:
    """Frames of a folder of images, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        return len(self._paths)

    def some(self, start: int, count: int) -> list[Picture]:
        """Return up to `count` frames, uint8 (H, W, 3) RGB, from `start`."""
        return [_read(path) for path in self._paths[start : start + count]]

    def every(self, stride: int, first: int) -> Iterator[Picture]:
        """Yield every `stride`-th frame, from `first` on."""
        return map(_read, self._paths[first::stride])


def without_cuts(clips: dict[str, Clip], stride: int, config: TemporalConfig) -> Tally:
    """Pairs of frames of clips that have no cut."""
    found, pairs = [], 0
    for name, clip in clips.items():
        for first in range(stride):
            fresh = fresh_frames(clip.every(stride, first), config)
            found += [f"{name} {first + stride * index}" for index in fresh]
            pairs += len(range(first, len(clip), stride)) - 1
    worst = f"detected as cuts: {', '.join(found)}" if found else ""
    return Tally(f"pairs at stride {stride}", pairs, pairs - len(found), worst)


def joins(
    clips: dict[str, Clip],
    pairs: Sequence[tuple[str, str]],
    config: TemporalConfig,
    rng: np.random.Generator,
) -> Tally:
    """Two clips, one after the other: one cut, where the second begins."""
    wrong = []
    for one, other in pairs:
        before = clips[one].some(_start(clips[one], AROUND, rng), AROUND)
        after = clips[other].some(_start(clips[other], AROUND, rng), AROUND)
        fresh = fresh_frames([*before, *_sized(after, before[0])], config)
        if fresh != [AROUND]:
            wrong.append(f"{one} to {other} {[index - AROUND for index in fresh]}")
    return Tally("joins", len(pairs), len(pairs) - len(wrong), "; ".join(wrong))


def dissolves(
    clips: dict[str, Clip],
    pairs: Sequence[tuple[str, str]],
    config: TemporalConfig,
    rng: np.random.Generator,
) -> Tally:
    """One clip passes into another: soon after its end nothing of the old one is followed."""
    late, wrong = [], []
    count = AROUND + DISSOLVE_FRAMES
    for one, other in pairs:
        before = clips[one].some(_start(clips[one], count, rng), count)
        after = clips[other].some(_start(clips[other], count, rng), count)
        images, shares = dissolve(before, _sized(after, before[0]), DISSOLVE_FRAMES)
        fresh = [index for index in fresh_frames(images, config) if shares[index] <= OLD]
        late.append(fresh[0] - count if fresh else len(images))
        if late[-1] > SOON:
            wrong.append(f"{one} to {other}")
    told = f"{'; '.join(wrong)} (frames after the end: {sorted(late)})".strip()
    return Tally(
        f"dissolves of {DISSOLVE_FRAMES} frames", len(pairs), len(pairs) - len(wrong), told
    )


def dissolve(
    before: Sequence[Picture], after: Sequence[Picture], frames: int
) -> tuple[list[Picture], list[float]]:
    """Return `before` passing into `after`, blended over their last and first `frames`, and the
    share of the first in each picture."""
    shares = [1 - (index + 1) / (frames + 1) for index in range(frames)]
    blended = [
        np.asarray(cv2.addWeighted(old, share, new, 1 - share, 0), np.uint8)
        for old, new, share in zip(before[-frames:], after, shares, strict=False)
    ]
    rest = after[frames:]
    plain = [1.0] * (len(before) - frames)
    return [*before[:-frames], *blended, *rest], [*plain, *shares, *[0.0] * len(rest)]


def fresh_frames(images: Iterable[Picture], config: TemporalConfig) -> list[int]:
    """Return the indices of the frames, but the first, at which everything is forgotten."""
    state, fresh = TemporalState.initial(1), []
    for index, image in enumerate(images):
        context = observe(state, see(state, image, config), config)
        if context.begins_shot:
            fresh.append(index)
            state = begun(context)
        else:
            assert state.chosen[0] != NO_TRACK
            state = after_carrying(context)
    return fresh[1:]


def begun(context: FrameContext) -> TemporalState:
    """Return the state that a fresh frame leaves, with a box in its middle as the one track."""
    assert context.gray is not None and context.colors is not None
    height, width = context.gray.shape
    mask = np.zeros((height, width), bool)
    mask[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = True
    return replace(
        context.state, chosen=np.array([0]), owners=np.array([0]),
        values=np.ones(1, np.float32), sources=np.array([NO_TRACK]), areas=np.array([mask.sum()]),
        colors=count_colors(context.colors, mask)[None], maps=mask[None] * np.uint8(255),
        gray=context.gray, cut_history=context.cut_history, time_s=context.time_s,
    )  # fmt: skip


def _some(
    pairs: Sequence[tuple[str, str]], count: int, rng: np.random.Generator
) -> list[tuple[str, str]]:
    return [pairs[index] for index in rng.permutation(len(pairs))[:count]]


def _start(clip: Clip, count: int, rng: np.random.Generator) -> int:
    return int(rng.integers(max(1, len(clip) - count + 1)))


def _sized(images: Sequence[Picture], like: Picture) -> list[Picture]:
    size_wh = like.shape[1::-1]
    return [
        image if image.shape == like.shape else np.asarray(cv2.resize(image, size_wh), np.uint8)
        for image in images
    ]


def _read(path: Path) -> Picture:
    return np.asarray(Image.open(path).convert("RGB"), np.uint8)
