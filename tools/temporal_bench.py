"""What the temporal module adds: drawn clips, segmented frame by frame and along time.

Used by `tools/bench.py temporal`. J and F are those of the DAVIS evaluation over all frames of a
thing, those where it is not to be seen included (an empty mask is then right).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

import carvid
from carvid.base.scale import resize
from carvid.config import TemporalConfig
from carvid.demo.pictures import Sprites, load_sprites
from carvid.demo.scenes import Scene, SceneSpec, make_scene
from carvid.evaluation.regions import jaccard, mask_scores
from carvid.media.label_png import label_map, read_label_png
from carvid.temporal.carry import MASK_LEVEL, select_maps, to_levels
from carvid.temporal.colors import count_colors, to_colors
from carvid.temporal.flow import to_gray
from carvid.temporal.observe import observe
from carvid.temporal.seen import see
from carvid.temporal.state import TemporalState
from carvid.temporal.update import after_carrying

EVENTS = ("occlusion", "leave", "cut", "pan", "shake", "brightness", "noise")
EVENT_SHARE = 0.4
VARIANTS: dict[str, tuple[str, ...]] = {
    "per-frame CaR": ("temporal.carry_queries=false", "temporal.carry_masks=false"),
    "offline": (),
    "causal": ("temporal.lag=0",),
    "no flow": ("temporal.carry_masks=false",),
    "no colours": ("temporal.color=0",),
    "nothing moves along": ("temporal.motion=0",),
    "no memory in the choice": ("temporal.smoothing=0", "temporal.hysteresis=0"),
    "no hysteresis": ("temporal.hysteresis=0",),
    "dropped queries offered every third time": ("temporal.reoffer_every=3",),
    "K alone, no doubt": ("temporal.min_trust=0", "temporal.area_jump=1000000"),
    "K = 12": ("temporal.key_every=12",),
    "no parser": ("phrases.enabled=false",),
}
"""`offline` is the preset; the rows after it switch off or change one thing."""


@dataclass(frozen=True)
class ClipScore:
    """One thing of one clip under one variant."""

    j: float
    f: float
    steady: tuple[float, ...]
    """J of consecutive masks, the first warped by the true motion."""
    flips: int
    """How often the thing under the mask changes though the truth does not."""
    frames: int
    returned: bool | None
    """Whether it was found within two key frames of its return; None if it never left."""
    left: bool | None
    """Whether its mask was empty within two key frames of its leaving."""


@dataclass(frozen=True)
class ClipOutcome:
    things: tuple[ClipScore, ...]
    seconds: float
    """For one frame."""


_worker: dict[str, Any] = {}


def start_worker(sprites: Path, preset: str, overrides: Sequence[str]) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _worker["sprites"] = load_sprites(sprites)
    _worker["model"] = carvid.load(preset, overrides)


def worker_model() -> carvid.Carvid:
    model: carvid.Carvid = _worker["model"]
    return model


def worker_sprites() -> Sprites:
    sprites: Sprites = _worker["sprites"]
    return sprites


def clip_spec(seed: int, frames: int, size_hw: tuple[int, int]) -> SceneSpec:
    some = SceneSpec(seed).with_some_events(EVENT_SHARE).events
    events = tuple(event for event in some if event in EVENTS)
    return SceneSpec(seed, frames, size_hw, events=events)


def measure_clip(task: tuple[int, int, tuple[int, int]]) -> ClipOutcome:
    model = worker_model()
    scene = make_scene(clip_spec(*task), worker_sprites())
    drawn = list(scene.frames())
    began = time.perf_counter()
    results = list(model.offline((image for image, _ in drawn), scene.texts))
    seconds = (time.perf_counter() - began) / len(drawn)
    found = [result.labels() for result in results]
    keys = [index for index, result in enumerate(results) if not result.state.since_key]
    labels = [truth for _, truth in drawn]
    things = tuple(
        score_thing(scene, k + 1, [each == k + 1 for each in found], labels, keys)
        for k in range(len(scene.things))
    )
    return ClipOutcome(things, seconds)


def score_thing(
    scene: Scene,
    label: int,
    masks: Sequence[NDArray[np.bool_]],
    labels: Sequence[NDArray[np.uint8]],
    keys: Sequence[int],
) -> ClipScore:
    truths = [each == label for each in labels]
    pairs = np.array([mask_scores(m, t) for m, t in zip(masks, truths, strict=True)])
    steady, flips = [], 0
    for index in range(1, len(masks)):
        motion = scene.motion(label, index)
        if motion is not None and (masks[index].any() or masks[index - 1].any()):
            before = masks[index - 1].astype(np.uint8)
            warped = cv2.warpAffine(before, motion, before.shape[::-1], flags=cv2.INTER_NEAREST)
            steady.append(jaccard(np.asarray(warped, bool), masks[index]))
        if truths[index].any() == truths[index - 1].any() and scene.shot(index) is scene.shot(
            index - 1
        ):
            flips += under(masks[index], labels[index]) != under(
                masks[index - 1], labels[index - 1]
            )
    returned, left = absence(scene, label, masks, truths, keys)
    return ClipScore(*pairs.mean(axis=0).tolist(), tuple(steady), flips, len(masks), returned, left)


def under(mask: NDArray[np.bool_], labels: NDArray[np.uint8]) -> int:
    """The label that most of a mask lies on; -1 if it is empty."""
    return int(np.bincount(labels[mask]).argmax()) if mask.any() else -1


def absence(
    scene: Scene,
    label: int,
    masks: Sequence[NDArray[np.bool_]],
    truths: Sequence[NDArray[np.bool_]],
    keys: Sequence[int],
) -> tuple[bool | None, bool | None]:
    """Whether a thing was found again by the second key frame after it was there again, and its
    mask was empty from the second one on after it was gone; `keys` are the key frames' indices."""
    away = scene.shots[0].courses[label - 1].away
    end = scene.shots[1].start if len(scene.shots) > 1 else len(masks)
    if away is None or not truths[0].any():
        return None, None
    gone = next((i for i in range(1, end) if not truths[i].any()), end)
    back = next((i for i in range(gone, end) if truths[i].any()), end)
    left = returned = None
    absent = [key for key in keys if gone <= key < back]
    if len(absent) > 1:
        left = not any(mask.any() for mask in masks[absent[1] : back])
    again = [key for key in keys if back <= key < end]
    if len(again) > 1:
        looked = range(back, again[1] + 1)
        returned = any(jaccard(masks[i], truths[i]) > 0.5 for i in looked)
    return returned, left


def measure_variant(
    sprites: Path,
    preset: str,
    overrides: Sequence[str],
    tasks: Sequence[tuple[int, int, tuple[int, int]]],
    workers: int,
) -> list[ClipOutcome]:
    with ProcessPoolExecutor(
        workers, get_context("spawn"), start_worker, (sprites, preset, tuple(overrides))
    ) as pool:
        return list(tqdm(pool.map(measure_clip, tasks), total=len(tasks), unit="clip", leave=False))


HEAD = (
    "| variant | J | F | J&F | steady J | flips / 100 frames | returned | left | s a frame |\n"
    "|-|-|-|-|-|-|-|-|-|"
)


def row(name: str, outcomes: Sequence[ClipOutcome]) -> str:
    things = [thing for outcome in outcomes for thing in outcome.things]
    j, f = (100 * float(np.mean([getattr(t, key) for t in things])) for key in ("j", "f"))
    steady = 100 * float(np.mean([value for t in things for value in t.steady]))
    flips = 100 * sum(t.flips for t in things) / sum(t.frames for t in things)
    seconds = float(np.mean([outcome.seconds for outcome in outcomes]))
    return (
        f"| {name} | {j:.1f} | {f:.1f} | {(j + f) / 2:.1f} | {steady:.1f} | {flips:.1f} | "
        f"{share(t.returned for t in things)} | {share(t.left for t in things)} | {seconds:.3f} |"
    )


def share(flags: Iterable[bool | None]) -> str:
    known = [flag for flag in flags if flag is not None]
    return f"{np.mean(known):.0%} of {len(known)}" if known else "none"


def carry_truth(folder: Path, video: str, config: TemporalConfig) -> tuple[float, float]:
    """Carry the truth of a video's first frame to its end, without CLIP; mean J and F of its
    objects, the first and the last frame left out as DAVIS does."""
    truths = [
        read_label_png(path) for path in sorted((folder / "Annotations/480p" / video).iterdir())
    ]
    images = sorted((folder / "JPEGImages/480p" / video).iterdir())
    count = int(max(truth.max() for truth in truths))
    first = np.asarray(Image.open(images[0]).convert("RGB"))
    gray = to_gray(first, config.flow_side)
    planes = np.stack([truths[0] == k for k in range(1, count + 1)]).astype(np.float32)
    tracks = np.arange(count)
    maps = to_levels(resize(planes, gray.shape))
    colors = to_colors(first, gray.shape)
    state = replace(
        TemporalState.initial(count), chosen=tracks, owners=tracks,
        values=np.ones(count, np.float32), sources=tracks, areas=np.ones(count, np.int64),
        maps=maps, gray=gray,
        colors=np.stack([count_colors(colors, plane > MASK_LEVEL) for plane in maps]),
    )  # fmt: skip
    config = replace(config, key_every=len(images), min_trust=0, area_jump=1e9, cut_trust=0)
    scores = []
    for path, truth in zip(images[1:-1], truths[1:-1], strict=True):
        image = np.asarray(Image.open(path).convert("RGB"))
        context = observe(state, see(state, image, config), config)
        state = after_carrying(context)
        assert state.maps is not None
        maps = select_maps(state.maps, tracks, count, truth.shape)
        labels = label_map(np.where(maps > 0.5, maps, 0))
        scores.append([mask_scores(labels == k, truth == k) for k in range(1, count + 1)])
    j, f = np.mean(scores, axis=(0, 1))
    return float(j), float(f)
