#!/usr/bin/env python
"""Measure on drawn images in VOC's layout what recurrence and background words are worth.

    tools/drawn_bench.py WORK --images 100
    tools/drawn_bench.py WORK --images 40 --first-seed 5000000 --rows car.theta=0.5 car.theta=0.7
    tools/drawn_bench.py WORK --images 40 --cams

WORK gets the data and a folder of predictions for each row; with --resume, those that are there are
not made again. All 20 classes are asked of each image, and two or three are there. A row is mIoU
with background over the whole set, as `carvid bench voc21` counts it, and how many classes an image
shows that are not there, and does not show that are. With --cams the first step's proposals alone:
IoU of those of the classes that are there with the truth, as all 20 are asked for, and as only
those that are there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import carvid
from carvid.base.errors import CarvidError
from carvid.benchmark.bench import predict_runs, result_of
from carvid.benchmark.bench_models import BenchRun
from carvid.benchmark.bench_plan import BenchPlan, plan_bench
from carvid.benchmark.sets import bench_set
from carvid.config import load_config
from carvid.datasets.semantic_dataset import SemanticDataset
from carvid.demo.benchmark_trees import write_benchmark
from carvid.evaluation.label_maps import LABEL_FOLDER
from carvid.media.label_png import read_label_png

FIRST_SEED = 6_000_000
"""Nothing was chosen on stills from here on; what was chosen was so on those from 5,000,000."""
STEPS = {
    "until nothing changes": (),
    "one step, what scores above θ": ("car.max_steps=1",),
    "one step, nothing dropped": ("car.max_steps=1", "car.theta=0"),
}
WORDS = {
    "everywhere": (),
    "in the CAMs only": ("classifier.background=never",),
    "nowhere": ("classifier.background=never", "proposals.background="),
}
VARIANTS = {
    f"{step} | {words}": (*more, *changes)
    for words, changes in WORDS.items()
    for step, more in STEPS.items()
}
"""Steps and background words → settings."""


def counts(plan: BenchPlan, out: Path) -> tuple[float, float]:
    """Return how many classes an image shows that are not there, and does not show that are."""
    assert isinstance(plan.dataset, SemanticDataset)
    too_many, missing = 0, 0
    for image in plan.dataset.images:
        there = set(np.unique(plan.dataset.truth(image))) - {0}
        shown = set(np.unique(read_label_png(out / LABEL_FOLDER / f"{image.name}.png"))) - {0}
        too_many, missing = too_many + len(shown - there), missing + len(there - shown)
    return too_many / len(plan.samples), missing / len(plan.samples)


def print_rows(
    plan: BenchPlan, work: Path, config: carvid.Config, rows: Mapping[str, Sequence[str]],
    options: argparse.Namespace,
) -> None:  # fmt: skip
    runs = [
        BenchRun(work / f"row-{k}", load_config(config, changes))
        for k, changes in enumerate(rows.values())
    ]
    began = time.monotonic()
    _, failed = predict_runs(
        plan, runs, resume=options.resume, overwrite=True, workers=options.workers,
        engine="local", progress=True,
    )  # fmt: skip
    assert not failed, failed
    print("| steps | background words | mIoU | absent shown | present missing |\n|-|-|-|-|-|")
    for name, run in zip(rows, runs, strict=True):
        miou = result_of(plan, run.out, run.config).miou
        absent, missing = counts(plan, run.out)
        print(f"| {name} | {miou:.1f} | {absent:.2f} | {missing:.2f} |", flush=True)
    print(f"{len(plan.samples)} images, {time.monotonic() - began:.0f} s", file=sys.stderr)


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def print_cams(plan: BenchPlan, config: carvid.Config) -> None:
    """Print IoU of the proposals above η of the classes that are there."""
    assert isinstance(plan.dataset, SemanticDataset)
    torch.set_num_threads(1)
    queries = plan.dataset.classes.queries
    print("| background words | all 20 asked | those that are there asked |\n|-|-|-|")
    for words, changes in (("23", ()), ("none", ("proposals.background=",))):
        generator = carvid.load(config, changes).segmenter.generator
        template, eta = config.proposals.template, config.prompts.eta
        found: list[tuple[float, float]] = []
        for image in plan.dataset.images:
            picture, truth = plan.dataset.picture(image), plan.dataset.truth(image)
            labels = [int(label) for label in np.unique(truth) if label]
            encoded = generator.encode(picture)
            asked: tuple[list[int], list[int]] = (list(range(1, len(queries) + 1)), labels)
            both = []
            for each in asked:
                texts = [queries[label - 1] for label in each]
                proposals = generator.propose(
                    encoded, [template.format(text) for text in texts], truth.shape, bare=texts
                )
                masks = proposals.masks > eta
                both.append([iou(masks[each.index(k)], truth == k) for k in labels])
            found += zip(*both, strict=True)
        every, there = np.mean(found, axis=0) * 100
        print(f"| {words} | {every:.1f} | {there:.1f} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--preset", default="tiny-semantic")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--rows", nargs="+", metavar="SETTINGS", help="these rows instead")
    parser.add_argument("--cams", action="store_true", help="only look at the first proposals")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    data = options.work / f"data-{options.first_seed}-{options.images}"
    try:
        write_benchmark("voc21", data, images=options.images, seed=options.first_seed)
        plan = plan_bench(bench_set("voc21"), data.resolve())
        config = load_config(options.preset, options.overrides)
        if options.cams:
            print_cams(plan, config)
        else:
            rows = {f"{row} |": row.split() for row in options.rows or ()} or VARIANTS
            print_rows(plan, options.work, config, rows, options)
    except CarvidError as error:
        print(f"drawn_bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
