"""What a long clip and a large one take of memory.

Used by `tools/bench.py memory` and `large`. Both clips are drawn: a textured square moves over a
textured ground.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import speed_bench
from numpy.typing import NDArray

import carvid
from carvid.config import OverlayConfig
from carvid.media.encode import VideoWriter
from carvid.media.open import Selection, open_video, prefetch
from carvid.show.overlay import draw_overlay, overlay_writer

RATE = Fraction(25)
TEXTS = ("a ball", "a dog")
SPARSE = (
    "temporal.key_every=500", "temporal.min_trust=0", "temporal.area_jump=1e9",
    "temporal.cut_trust=0",
)  # fmt: skip
"""Key frames come on time and never else."""


def draw_frames(count: int, size_hw: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield uint8 (H, W, 3) RGB, one at a time."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 120, (*size_hw, 3), dtype=np.uint8)
    side = min(size_hw) // 3
    thing = rng.integers(120, 256, (side, side, 3), dtype=np.uint8)
    for index in range(count):
        frame = ground.copy()
        y, x = (abs((index % (2 * room)) - room) for room in (s - side for s in size_hw))
        frame[y : y + side, x : x + side] = thing
        yield frame


def write_clip(path: Path, count: int, size_hw: tuple[int, int]) -> None:
    with VideoWriter(path, size_hw, RATE) as writer:
        for frame in draw_frames(count, size_hw):
            writer.write(frame)


def resident_mb() -> float:
    """This process's resident memory; Linux alone says it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)["VmRSS"].split()[0]) / 1024


def stream_clip(
    clip: Path, out: Path, preset: str, overrides: list[str], marks: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """Read, segment, draw and write a clip; yield the memory after so many frames."""
    model = carvid.load(preset, [*SPARSE, *overrides])
    began = time.perf_counter()
    with open_video(clip) as reader, overlay_writer(out, reader.info) as writer:
        shown: dict[int, NDArray[np.uint8]] = {}

        def kept() -> Iterator[carvid.Frame]:
            for frame in prefetch(reader.frames()):
                shown[frame.index] = frame.image
                yield frame

        for result in model.stream(kept(), TEXTS):
            image = shown.pop(result.index)
            writer.write(
                draw_overlay(image, result.labels(), TEXTS, OverlayConfig()), result.time_s
            )
            if result.index + 1 in marks:
                yield {
                    "frames": result.index + 1,
                    "resident_mb": round(resident_mb(), 1),
                    "seconds": round(time.perf_counter() - began, 1),
                }


def run_large(clip: Path, out: Path, preset: str, max_side: int) -> dict[str, Any]:
    """Run on a clip whose frames are scaled down as they are read."""
    model = carvid.load(preset)
    loaded_mb, peaks = resident_mb(), {"run": 0.0}
    began = time.perf_counter()
    with speed_bench.peak_of(peaks, "run"):
        track = model.segment(clip, TEXTS, out=out, selection=Selection(max_side=max_side))
    return {
        "frames": len(track),
        "masks_hw": list(track.label_maps[0].shape),
        "seconds": round(time.perf_counter() - began, 1),
        "loaded_mb": round(loaded_mb, 1),
        "peak_mb": round(peaks["run"], 1),
    }
