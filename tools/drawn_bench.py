#!/usr/bin/env python
"""Measure on drawn images in VOC's layout what recurrence and background words are worth.

    tools/drawn_bench.py WORK --images 100
    tools/drawn_bench.py WORK --images 100 --set proposals.parts=1
    tools/drawn_bench.py WORK --images 40 --first-seed 5000000 --set car.theta=0.35
    tools/drawn_bench.py WORK --images 40 --cams

WORK gets the data. All 20 classes are asked of each image, and two or three are there. A row is
mIoU with background over the whole set, as `carvid bench voc21` has it, and how many classes an
image shows that are not there, and does not show that are. A recurrence of one step is that run's
first step: what `car.max_steps=1` gives, and with `car.theta=0`, too, where nothing is dropped. In
the last row only what is there is asked for: what perfect dropping would be worth. With --cams the
first step's proposals alone, of the classes that are there: their IoU with the truth, above η, and
their mean where the ground is, in percent, as all 20 are asked for, and as only those that are
there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import carvid
from carvid.base.errors import CarvidError
from carvid.car.label_map import label_map
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.config import load_config
from carvid.datasets.open_semantic import open_semantic
from carvid.datasets.semantic_dataset import SemanticDataset
from carvid.demo.benchmark_trees import write_benchmark
from carvid.evaluation.confusion import confusion, semantic_scores

FIRST_SEED = 6_000_000
"""Nothing was chosen on stills from here on."""
SETTINGS = ("car.mode=semantic", "car.theta=0.5")
"""What is put over the preset."""
WORDS = {
    "everywhere": (),
    "in the CAMs": ("classifier.background=never",),
    "nowhere": ("classifier.background=never", "proposals.background="),
}
"""Where background words compete → settings."""
GIVEN = ("car.max_steps=1", "car.theta=0")
"""Nothing is dropped of what is asked for."""

Labels = NDArray[np.uint16]


@dataclass
class Row:
    """What has been counted of the label maps of one way."""

    classes: int
    """Without the background."""
    matrix: NDArray[np.int64] = field(init=False)
    too_many: int = 0
    missing: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        self.matrix = np.zeros((self.classes + 1, self.classes + 1), np.int64)

    def add(self, truth: Labels, labels: Labels) -> None:
        self.matrix += confusion(truth, labels, self.classes + 1)
        there, shown = (set(np.unique(each).tolist()) - {0} for each in (truth, labels))
        self.too_many += len(shown - there)
        self.missing += len(there - shown)
        self.images += 1

    def to_text(self) -> str:
        miou = 100 * semantic_scores(self.matrix, background=True).miou
        return f"{miou:.1f} | {self.too_many / self.images:.2f} | {self.missing / self.images:.2f}"


def first_step(
    segmenter: RecurrentSegmenter, image: NDArray[np.uint8], trace: carvid.Trace, *, drop: bool
) -> Labels:
    """The label map that one step leaves, uint16 (H, W)."""
    step = trace.steps[0]
    rows = [k for k, query in enumerate(step.queries) if query in step.kept or not drop]
    labels = np.zeros(image.shape[:2], np.uint16)
    if rows:
        masks = segmenter.sharpen(image, step.proposals.masks[rows])
        for k in np.argsort(step.own[rows], kind="stable"):
            labels[masks[k]] = step.queries[rows[k]] + 1
    return labels


def print_words(
    words: str, data: SemanticDataset, config: carvid.Config, changes: Sequence[str]
) -> None:
    """Print the rows of one use of background words."""
    model, given = (carvid.load(config, [*changes, *more]).segmenter for more in ((), GIVEN))
    queries = Queries(data.classes.queries)
    things = np.zeros(len(queries.texts), bool)
    names = ("until nothing changes", "one step", "one step, nothing dropped", "what is there")
    rows = {name: Row(len(queries.texts)) for name in names}
    for sample in tqdm(data.images, desc=words, unit="image"):
        image, truth = data.picture(sample), data.truth(sample)
        trace, alive = carvid.Trace(), np.isin(np.arange(len(things)) + 1, truth)
        found = label_map(model.segment(image, queries, trace=trace), things)
        each = (
            found,
            first_step(model, image, trace, drop=True),
            first_step(model, image, trace, drop=False),
            label_map(given.segment(image, queries, alive=alive), things),
        )
        for row, labels in zip(rows.values(), each, strict=True):
            row.add(truth, labels)
    for name, row in rows.items():
        print(f"| {words} | {name} | {row.to_text()} |", flush=True)


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def print_cams(
    words: str, data: SemanticDataset, config: carvid.Config, changes: Sequence[str]
) -> None:
    """Print how good the proposals of the classes that are there are."""
    generator = carvid.load(config, changes).segmenter.generator
    template, queries = config.proposals.template, data.classes.queries
    found: list[list[float]] = []
    for sample in tqdm(data.images, desc=words, unit="image"):
        encoded, truth = generator.encode(data.picture(sample)), data.truth(sample)
        there = [int(label) for label in np.unique(truth) if label]
        each: list[list[float]] = []
        for asked in (list(range(1, len(queries) + 1)), there):
            bare = [queries[label - 1] for label in asked]
            texts = [template.format(text) for text in bare]
            masks = generator.propose(encoded, texts, truth.shape, bare=bare).masks
            own = [masks[asked.index(label)] for label in there]
            pairs = zip(there, own, strict=True)
            each.append([iou(mask > config.prompts.eta, truth == label) for label, mask in pairs])
            each.append([float(mask[truth == 0].mean()) for mask in own])
        found += zip(*each, strict=True)
    values = 100 * np.mean(found, axis=0)
    print(f"| {words} | " + " | ".join(f"{value:.1f}" for value in values) + " |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--words", nargs="+", choices=WORDS, default=list(WORDS))
    parser.add_argument("--cams", action="store_true", help="only look at the first proposals")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = options.work / f"voc-{options.first_seed}-{options.images}"
    head = (
        "| background words | all 20 asked: IoU | on the ground | what is there asked: IoU | "
        "on the ground |\n|-|-|-|-|-|"
    )
    if not options.cams:
        head = "| background words | steps | mIoU | absent shown | present missing |\n|-|-|-|-|-|"
    try:
        write_benchmark("voc21", root, images=options.images, seed=options.first_seed)
        data = open_semantic("voc21", root)
        config = load_config(options.preset, [*SETTINGS, *options.overrides])
        print(head, flush=True)
        for words in options.words:
            tell = print_cams if options.cams else print_words
            tell(words, data, config, WORDS[words])
    except CarvidError as error:
        print(f"drawn_bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
