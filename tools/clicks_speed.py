"""What a correction costs of what a run costs, with full-size networks of random weights.

Used by `tools/bench.py clicks --speed`. The clip is made of a folder's frames; its middle frame is
corrected. It is measured as it comes, and at its worst: the run's own masks never agree with what
is carried, so that it is carried to both ends of the clip.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import speed_bench
from index_bench import RATE, write_clip

import carvid
from carvid.config import load_config
from carvid.run.corrections import Correction
from carvid.temporal.spread import AGREE_IOU, LOST_SHARE, MET_SHARE

FRAMES = 300
USUAL = {"AGREE_IOU": AGREE_IOU, "LOST_SHARE": LOST_SHARE, "MET_SHARE": MET_SHARE}
NEVER = {"AGREE_IOU": 2.0, "LOST_SHARE": 0.0, "MET_SHARE": 2.0}
"""Of `carvid.temporal.spread`: with these nothing ever agrees, is lost or meets."""


def measure(frames: Path, preset: str, settings: list[str]) -> Iterator[str]:
    """Yield what was measured, line by line."""
    model = speed_bench.random_model(load_config(preset, [*settings, "car.theta=0"]))
    with tempfile.TemporaryDirectory() as folder:
        clip, out = Path(folder) / "clip.mp4", Path(folder) / "out"
        write_clip(clip, frames, FRAMES / float(RATE))
        began_s = time.perf_counter()
        track = model.segment(clip, "a dog", out=out)
        run_s = time.perf_counter() - began_s
        yield f"a run of {len(track)} frames: {run_s:.1f} s"
        usual = _click(track, len(track) // 2)
        worst = replace(usual, frame=usual.frame + 1)  # what was said already is not done again
        for name, said, constants in (
            ("a correction", usual, USUAL), ("at its worst", worst, NEVER),
        ):  # fmt: skip
            with mock.patch.multiple("carvid.temporal.spread", **constants):
                began_s = time.perf_counter()
                model.correct(out, [said], keep=0)
                took_s = time.perf_counter() - began_s
            yield f"{name}: {took_s:.1f} s, {took_s / run_s:.0%} of the run"


def _click(track: carvid.Track, frame: int) -> Correction:
    """A yes where the run has nothing."""
    free = np.argwhere(~track.masks[frame][0])
    y, x = free[len(free) // 2] if len(free) else (0, 0)
    return Correction(frame, 1, True, (int(x), int(y)))
