"""How many frames a second carvid's own part of a run makes, without its networks.

Used by `tools/bench.py real --frames-per-second`. A clip is segmented twice, looking ahead, the two
CLIPs simulated (`real_bench`): the second time, which counts, all that the simulation says is known
from the first. Frames come from memory and masks stay there: decoding, drawing and writing, which
threads of their own do, do not count, nor do the classifier's views.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import speed_bench
from numpy.typing import NDArray
from real_bench import LEVELS, Clip, SimulatedClassifier, Truth, simulate, text_of
from torch import Tensor

import carvid.car.segmenter
import carvid.car.sharpen
import carvid.pipeline
import carvid.streaming
import carvid.temporal.seen
from carvid.base.threads import cores
from carvid.config import Config
from carvid.temporal import carrier, carry, causal, lookahead, observe, pending

STAGES: speed_bench.Stages = {
    "flow": ((carvid.temporal.seen, "flow_between"),),
    "cuts": ((carvid.temporal.seen, "detect_cut"),),
    "grey and colours": (
        (carvid.temporal.seen, "to_gray"),
        (carvid.temporal.seen, "to_colors"),
    ),
    "carrying": ((carry, "carry"),),
    "correcting": ((carry, "correct_carried"),),
    "doubt": ((observe, "_is_doubtful"),),
    "CRF": ((carvid.car.sharpen, "crf_masks"),),
    "memory": ((carvid.streaming, "apply_memory"),),
    "step": ((carvid.car.segmenter.RecurrentSegmenter, "segment"),),
    "prior": ((observe.FrameContext, "prior"),),
    "after a key frame": ((carrier, "after_key"),),
    "keeping": ((pending.PendingFrame, "of"),),
    "carrying back": ((carrier, "carry_back"),),
    "mixing": ((lookahead, "_mixed"), (lookahead, "select_maps")),
    "cutting": ((pending, "cut_masks"), (causal, "cut_masks")),
}
"""The parts of a frame; what calls another one counts without it."""


@dataclass(frozen=True)
class Speed:
    """How fast a clip is segmented."""

    frames_per_s: float
    parts_ms: dict[str, float]
    """Milliseconds a frame of each part, in the thread that makes masks."""
    behind_ms: dict[str, float]
    """Likewise in other threads, at the same time."""
    key_frames: int
    frames: int


def with_copies(clip: Clip, count: int) -> Clip:
    """Paste the first thing of a clip into its frames until there are `count` things, to its right
    and left in turn; it covers them where they meet."""
    images, labels = [], []
    for image, truth in zip(clip.images, clip.labels, strict=True):
        thing, pixels, image = truth == 1, image, image.copy()
        truth, width = np.where(thing, truth, 0), truth.shape[1]
        for copy in range(1, count):
            shift = (copy + 1) // 2 * (width // count) * (1 if copy % 2 else -1)
            place = np.roll(thing, shift, axis=1) & (truth == 0)
            place[:, slice(0, shift) if shift > 0 else slice(shift, None)] = False
            image[place] = np.roll(pixels, shift, axis=1)[place]
            truth[place] = copy + 1
        images.append(image)
        labels.append(truth)
    return Clip(clip.name, tuple(images), tuple(labels))


def measure(clip: Clip, config: Config, level: str, seed: int, repeats: int) -> Speed:
    """Segment a clip and return how fast that was the fastest of so many times."""
    model = simulate(clip, LEVELS[level], seed, config)
    truth = model.segmenter.generator._truth  # type: ignore[attr-defined]
    truth.cam = _by_frame(truth, truth.cam)
    classifier = model.segmenter.classifier
    assert isinstance(classifier, SimulatedClassifier)
    classifier._feature = _features(truth, classifier._feature)  # type: ignore[method-assign]
    texts = [text_of(label) for label in range(1, clip.objects + 1)]
    for _ in model.offline(clip.images, texts):
        pass
    runs = [_timed(model, clip.images, texts) for _ in range(repeats)]
    return max(runs, key=lambda run: run.frames_per_s)


def _timed(
    model: carvid.pipeline.Carvid, images: Sequence[NDArray[np.uint8]], texts: list[str]
) -> Speed:
    clock, keys = speed_bench.Clock(), 0
    with clock.running(STAGES):
        start = time.perf_counter()
        for result in model.offline(images, texts):
            keys += result.state.since_key == 0
        seconds = time.perf_counter() - start
    parts = dict(clock.seconds) | {"rest": seconds - sum(clock.seconds.values())}
    count = len(images)
    return Speed(
        frames_per_s=count / seconds,
        parts_ms={name: 1000 * spent / count for name, spent in parts.items()},
        behind_ms={name: 1000 * spent / count for name, spent in clock.behind.items()},
        key_frames=keys,
        frames=count,
    )


def _by_frame(truth: Truth, cam: Any) -> Any:
    """A function of a label and the truth's current frame that computes each result once."""
    known = cache(lambda label, index: cam(label))
    return lambda label: known(label, truth.index)


def _features(truth: Truth, feature: Any) -> Any:
    """A function of a mask and the truth's current frame that computes each result once."""
    known: dict[tuple[int, int], Tensor] = {}

    def recalled(mask: NDArray[np.bool_]) -> Tensor:
        key = (truth.index, hash(mask.tobytes()))
        if key not in known:
            known[key] = feature(mask)
        return known[key]

    return recalled


def row(name: str, objects: int, speed: Speed) -> str:
    """A line of JSON."""
    values: dict[str, Any] = {
        "video": name, "objects": objects, "cores": cores(),
        "frames_per_s": round(speed.frames_per_s, 1),
        "ms": round(1000 / speed.frames_per_s, 1),
        "frames_a_key_frame": round(speed.frames / speed.key_frames, 1),
        "parts_ms": _rounded(speed.parts_ms),
    }  # fmt: skip
    return json.dumps(values | {"behind_ms": _rounded(speed.behind_ms)})


def _rounded(parts: dict[str, float]) -> dict[str, float]:
    return {name: round(spent, 1) for name, spent in sorted(parts.items(), key=lambda p: -p[1])}
