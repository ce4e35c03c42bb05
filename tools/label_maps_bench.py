"""What scoring label maps costs, in time and memory: a drawn set in VOC's layout, and predictions.

Used by `tools/bench.py label-maps`. A truth has a few ellipses of VOC's classes, void along their
edges; a prediction has them moved, with ragged holes. All are written as carvid writes label maps.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.datasets.open_semantic import open_semantic
from carvid.evaluation.label_maps import score_label_maps
from carvid.media.label_png import VOID_LABEL, write_label_png

SIZE_HW = (375, 500)
"""The usual size of VOC's images."""
CLASSES = 20
VOID_PX = 5
"""Width of the void along edges."""


def draw_set(root: Path, count: int) -> None:
    """Write a data set to `root / "data"` and predictions to `root / "predictions"`."""
    voc = root / "data" / "VOCdevkit" / "VOC2012"
    truths, images = voc / "SegmentationClass", voc / "JPEGImages"
    lists, predictions = voc / "ImageSets" / "Segmentation", root / "predictions"
    for folder in (truths, images, lists, predictions):
        folder.mkdir(parents=True)
    names = [f"2007_{index:06d}" for index in range(count)]
    (lists / "val.txt").write_text("\n".join(names) + "\n")
    rng = np.random.default_rng(0)
    grey = Image.new("RGB", SIZE_HW[::-1], (128, 128, 128))
    for name in names:
        truth, prediction = _draw_pair(rng)
        write_label_png(truths / f"{name}.png", truth)
        write_label_png(predictions / f"{name}.png", prediction)
        grey.save(images / f"{name}.jpg")


def _draw_pair(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A true and a predicted label map, uint8 (*SIZE_HW)."""
    truth, prediction = np.zeros(SIZE_HW, np.uint8), np.zeros(SIZE_HW, np.uint8)
    for _ in range(rng.integers(1, 5)):
        label = int(rng.integers(1, CLASSES + 1))
        centre = (rng.uniform(0.2, 0.8, 2) * SIZE_HW[::-1]).round().astype(int)
        moved = centre + rng.integers(-12, 13, 2)
        axes = (rng.uniform(0.06, 0.3, 2) * SIZE_HW[0]).round().astype(int)
        angle = float(rng.uniform(0, 180))
        for labels, place in ((truth, centre), (prediction, moved)):
            at, size = (int(place[0]), int(place[1])), (int(axes[0]), int(axes[1]))
            cv2.ellipse(labels, at, size, angle, 0, 360, label, -1)
            if labels is truth:
                cv2.ellipse(labels, at, size, angle, 0, 360, VOID_LABEL, VOID_PX)
    grid_hw = SIZE_HW[0] // 12, SIZE_HW[1] // 12
    holes = cv2.resize(rng.random(grid_hw), SIZE_HW[::-1]) > 0.9
    prediction[holes] = 0
    return truth, prediction


def measure(root: Path, maps: int, workers: int) -> dict[str, Any]:
    """Score the first so many maps of a drawn set; call it in a process of its own."""
    listing = root / "data" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    names = (listing / "val.txt").read_text().split()[:maps]
    (listing / "part.txt").write_text("\n".join(names) + "\n")
    began = time.perf_counter()
    data = open_semantic("voc21", root / "data", split="part")
    opened, began_cpu = time.perf_counter(), time.process_time()
    report = score_label_maps(
        data, root / "predictions", protocol="released", background=True, workers=workers
    )
    ended = time.perf_counter()
    own, helpers = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu_s = time.process_time() - began_cpu + helpers.ru_utime + helpers.ru_stime
    return {
        "maps": len(report.images),
        "workers": workers,
        "open_s": round(opened - began, 2),
        "score_s": round(ended - opened, 2),
        "cpu_s": round(cpu_s, 2),
        "peak_mb": round(own.ru_maxrss / 1024, 1),
        "helpers_peak_mb": round(helpers.ru_maxrss / 1024, 1),
        "mIoU": round(report.own.miou, 4),
    }
