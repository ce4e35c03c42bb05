"""What large frames cost, and what CLIP sees of the prompts on them.

Used by `tools/bench.py hd` and `edges`. One drawn picture is scaled to every size. The networks
have the real architectures and random weights; each size has a process of its own, whose largest
resident memory is told.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cv2
import memory_bench
import numpy as np
import speed_bench
import torch
from numpy.typing import NDArray

import carvid
from carvid.base.scale import Scales, shrink, working_size
from carvid.car.classifier import MaskClassifier
from carvid.car.prompts import draw_prompts
from carvid.car.segmenter import RecurrentSegmenter
from carvid.clip.preprocessing import OPENAI
from carvid.config import load_config
from carvid.demo.pictures import load_sprites
from carvid.demo.scenes import SceneSpec, make_scene
from carvid.media.encode import VideoWriter

SIZES_HW = {"480p": (480, 854), "1080p": (1080, 1920), "4K": (2160, 3840)}
STAY = ("car.theta=0", "car.present=best", "temporal.key_every=2", "temporal.cut_trust=0")
"""All expressions stay, and every second frame is a key frame."""
EDGE_PX = 1
"""Tolerance of an edge, pixels of the frame: half a pixel of 480p at 1080p."""
VIEW_SIDE = 224
"""Side of CLIP's view, pixels."""


def draw_frames(count: int, size_hw: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 (H, W, 3) RGB: a picture of blobs with fine grain, which moves to the right."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 220, (30, 54, 3)).astype(np.uint8)
    fine = rng.integers(0, 36, (240, 427, 3)).astype(np.uint8)
    layers = (cv2.resize(p, size_hw[::-1], interpolation=cv2.INTER_CUBIC) for p in (coarse, fine))
    picture = cv2.add(*layers)
    for index in range(count):
        yield np.roll(picture, round(index * size_hw[1] / 400), axis=1)


def write_clip(path: Path, count: int, size_hw: tuple[int, int]) -> None:
    with VideoWriter(path, size_hw, Fraction(25)) as writer:
        for frame in draw_frames(count, size_hw):
            writer.write(frame)


def prompt_changes(preset: str, settings: list[str]) -> dict[str, dict[str, float]]:
    """By how much the prompts change what the classifier sees, mean over a normalised view, by view
    and size; the thing is an ellipse of a tenth of the width."""
    config = load_config(preset, settings)
    changes: dict[str, dict[str, float]] = defaultdict(dict)
    for view in ("letterbox", "center-crop", "mask-crop"):
        how = load_config(preset, [*settings, f"classifier.view={view}"]).classifier
        # No network is needed for views.
        unit = MaskClassifier(SimpleNamespace(preprocessing=OPENAI), how)  # type: ignore[arg-type]
        for name, size_hw in SIZES_HW.items():
            (image,) = draw_frames(1, size_hw)
            small = shrink(image, working_size(image, config.prompts.scale))
            height, width = small.shape[:2]
            plane = np.zeros((height, width), np.uint8)
            axes = (width // 20, height // 12)
            cv2.ellipse(plane, (width // 2, height // 2), axes, 0, 0, 360, 1, -1)
            mask, scales = plane > 0, Scales(small, image)
            prompted = draw_prompts(small, mask, config.prompts.kinds)
            views = [unit._view(each, mask, VIEW_SIDE, scales) for each in (prompted, small)]
            changes[view][name] = round(float((views[0] - views[1]).abs().mean()), 4)
    return dict(changes)


def run_clip(
    clip: Path, size: str, preset: str, settings: list[str], count: int, threads: int
) -> dict[str, Any]:
    """Segment a clip into a folder; seconds of a key frame's step, of a frame, and the memory."""
    torch.set_num_threads(threads)
    model = speed_bench.random_model(load_config(preset, [*STAY, *settings]))
    loaded_mb, seconds = memory_bench.resident_mb(), []
    peaks: dict[str, float] = defaultdict(float)
    plain = RecurrentSegmenter.segment

    def timed(self: RecurrentSegmenter, *args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        result = plain(self, *args, **options)
        seconds.append(time.perf_counter() - began)
        return result

    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(RecurrentSegmenter, "segment", timed),
        speed_bench.peak_of(peaks, "run"),
    ):
        track = model.segment(clip, speed_bench.EXPRESSIONS[:count], out=Path(folder) / "out")
    return {
        "size": size,
        "frames": len(track),
        "key_frame_s": round(float(np.median(seconds[1:] or seconds)), 2),
        "s": round((time.perf_counter() - began) / len(track), 2),
        "loaded_mb": round(loaded_mb),
        "peak_mb": round(peaks["run"]),
    }


def edges(sprites: Path, seed: int, frames: int, size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """Segment a drawn scene with preset `tiny`; of each mask that is on its thing (J > 0.5): is it
    of a key frame, and the F of its edge at a tolerance of `EDGE_PX`, as it is and as it would be
    if its map were enlarged linearly."""
    scene = make_scene(SceneSpec(seed, frames, size_hw), load_sprites(sprites))
    drawn = list(scene.frames())
    model = carvid.load("tiny", ["temporal.cut_trust=0"])
    found = []
    for result, (_, labels) in zip(
        model.offline((image for image, _ in drawn), scene.texts), drawn, strict=True
    ):
        linear = result.proposals > 0.5
        for k, mask in enumerate(result.masks):
            truth = labels == k + 1
            if speed_bench.agreement(mask, truth) > 0.5:
                found.append(
                    {"key": result.state.since_key == 0, "f": edge_f(mask, truth),
                     "linear_f": edge_f(linear[k], truth)}
                )  # fmt: skip
    return found


def edge_f(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Boundary F of two masks, bool (H, W), at `EDGE_PX`."""
    reach = np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)
    lines = [
        cv2.morphologyEx(each.view(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        for each in (mask, truth)
    ]
    near = [cv2.dilate(line, reach) for line in lines]
    precision, recall = (
        float((line & other).sum() / max(1, line.sum()))
        for line, other in zip(lines, near[::-1], strict=True)
    )
    return 2 * precision * recall / max(1e-9, precision + recall)
