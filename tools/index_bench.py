"""An index of a clip, with full-size networks of random weights: its size, and what answers cost.

Used by `tools/bench.py index`. The clip is made of a folder's frames, forwards and backwards until
it is long enough. Random networks find nothing, which costs what finding costs: θ is 0.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import speed_bench
from numpy.typing import NDArray

import carvid.index.clip_index
from carvid.clip.backbone import ClipBackbone
from carvid.config import load_config
from carvid.index.answer import Answer
from carvid.index.clip_index import ClipIndex
from carvid.media.encode import VideoWriter
from carvid.pipeline import Carvid

RATE = Fraction(25)
PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "texts": ((ClipBackbone, "_encode_texts"),),
    "classifier": ((ClipBackbone, "encode_images"),),
    "reading": tuple(
        (carvid.index.clip_index, name) for name in ("read_piece", "read_picture")
    ),
    "dense maps": ((ClipIndex, "_anchors"),),
}  # fmt: skip
"""Which functions a part is made of; what calls the others counts without them."""
NEW_TEXTS = ("a red kite", "the man on a bicycle", "a wooden boat")
"""What is asked once the networks are warm, one after the other."""


def measure(frames: Path, seconds: float, preset: str, settings: list[str]) -> Iterator[str]:
    """Yield what was measured, line by line."""
    model = speed_bench.random_model(load_config(preset, [*settings, "car.theta=0"]))
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        size_hw = write_clip(clip, frames, seconds)
        began_s = time.perf_counter()
        index = model.index(clip)
        took_s = time.perf_counter() - began_s
        mb = sum(path.stat().st_size for path in index.folder.rglob("*")) / 1e6
        shape = f"{size_hw[1]}×{size_hw[0]}, {seconds:g} s, {index.frame_count} frames"
        yield f"{shape}, {len(index.key_frames)} key frames, indexed in {took_s:.1f} s"
        yield f"size: {mb:.1f} MB, {mb / seconds:.2f} MB a second; {_sizes(index.folder)}"
        index.ask("a warm-up")
        opened = model.open_index(index.folder)
        for number, text in enumerate(NEW_TEXTS):
            asked = opened if not number else index
            where = "the index not yet in memory" if not number else "the index in memory"
            yield f"'{text}', {where}: {_timed_answer(asked, text)}"
        yield from _timed_runs(model, index, NEW_TEXTS[0])


def _timed_answer(index: ClipIndex, text: str) -> str:
    clock = speed_bench.Clock()
    with mock.patch.object(speed_bench, "STAGES", PARTS), clock.running():
        began_s = time.perf_counter()
        answer = index.ask(text)
        first_s = time.perf_counter() - began_s
    parts = dict(clock.seconds)
    parts["masks of key frames"] = first_s - sum(parts.values())
    split = ", ".join(f"{name} {spent_s:.2f}" for name, spent_s in parts.items())
    began_s = time.perf_counter()
    _all_masks(answer)
    masks_s = time.perf_counter() - began_s
    return f"first answer {first_s:.2f} s ({split}); masks of all frames {masks_s:.2f} s"


def _all_masks(answer: Answer) -> None:
    for frame in range(len(answer.times_s)):
        answer.masks(frame)


def _timed_runs(model: Carvid, index: ClipIndex, text: str) -> Iterator[str]:
    """What a whole run of the clip costs from the index."""
    for thorough in (False, True):
        began_s = time.perf_counter()
        model.segment(index, text, thorough=thorough)
        name = "thorough" if thorough else "quick"
        yield f"a {name} run of all frames: {time.perf_counter() - began_s:.1f} s"


def write_clip(path: Path, folder: Path, seconds: float) -> tuple[int, int]:
    """Write a clip of a folder's frames; return their height and width."""
    images = list(speed_bench.read_images(folder, len(list(folder.glob("*.jpg"))), (480, 854)))
    there_and_back: list[NDArray[np.uint8]] = [*images, *images[-2:0:-1]]
    with VideoWriter(path, (480, 854), RATE) as writer:
        for image in islice(cycle(there_and_back), round(seconds * RATE)):
            writer.write(image)
    return 480, 854


def _sizes(folder: Path) -> str:
    """What takes how much: the arrays, compressed as they are, and the pictures."""
    import zipfile

    sizes = {"pictures": sum(path.stat().st_size for path in folder.rglob("*.jpg"))}
    for path in folder.rglob("*.npz"):
        with zipfile.ZipFile(path) as file:
            for entry in file.infolist():
                name = entry.filename.removesuffix(".npy")
                sizes[name] = sizes.get(name, 0) + entry.compress_size
    return ", ".join(f"{name} {size / 1e6:.2f}" for name, size in sizes.items() if size > 1e5)
