#!/usr/bin/env python
"""Measure how well a preset segments drawn stills that the embedded model has never seen.

    tools/quality.py SPRITES --scenes 120
    tools/quality.py SPRITES --scenes 40 --ablate
    tools/quality.py SPRITES --scenes 40 --regions
    tools/quality.py SPRITES --scenes 20 --absent 1 2 3 5

SPRITES is the folder that tools/get_sprites.py makes. Every scene is a number, far from those of
training: 480x854, 3 to 4 things, backgrounds that were not trained on, an expression for each thing
and one for something absent, all asked together; CaR on the still, no temporal module. J and F are
those of the DAVIS evaluation, per thing; a thing that was not found scores 0. With --regions also
with the SAM ensemble on perfect automatic masks: the truth's things, each cut into so many pieces,
and the background cut into pieces of about their size; and with whole things among them, as SAM
gives wholes and parts. With --absent so many expressions for absent things are asked together, with
those of the things and without them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from tqdm import tqdm

import carvid
from carvid.demo.pictures import NOUNS, Sprites, load_sprites
from carvid.demo.scenes import SceneSpec, make_scene
from carvid.evaluation.regions import mask_scores
from carvid.sam.refiner import Ensemble

FIRST_SEED = 1_000_000
SOME_EVENTS = ("look-alike", "brightness", "noise")
EVENT_SHARE = 0.3
SIZES = ((0.015, "under 1.5 %"), (0.04, "1.5 to 4 %"), (1.0, "over 4 %"))
"""Upper ends of a thing's share of the picture."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "the preset": (),
    "no recurrence": ("car.max_steps=1",),
    "no background queries": ("proposals.background=", "classifier.background=never"),
    "no background words in the classifier": ("classifier.background=never",),
    "nor recurrence": ("classifier.background=never", "car.max_steps=1"),
    "one proposal for each CAM": ("proposals.parts=1",),
    "with the attention's affinity": ("proposals.affinity=true",),
    "no CRF": ("crf.enabled=false",),
    **{
        f"prompt: {kinds or 'none'}": (f"prompts.kinds={kinds}",)
        for kinds in (
            "gray", "blur", "black", "circle", "rectangle", "contour", "circle,blur", "blur,gray",
            "",
        )
    },
}  # fmt: skip
"""What is switched off, or changed, in an ablation."""
REGIONS: dict[str, tuple[str, ...]] = {
    "no SAM": (),
    "3 pieces": ("sam.model=truth 3",),
    "3 pieces, the released rule": ("sam.model=truth 3", "sam.match=released"),
    "6 pieces": ("sam.model=truth 6",),
    "6 pieces and wholes": ("sam.model=truth 6 whole",),
}
"""Perfect automatic masks that are tried."""
BACKGROUND_PIECES = 8
"""Pieces of the background for each of a thing."""


@dataclass(frozen=True)
class Seen:
    """One thing of one scene."""

    seed: int
    noun: str
    count: int
    """Things in its scene."""
    area: float
    """Its share of the picture."""
    kept: bool
    j: float
    f: float


@dataclass(frozen=True)
class Outcome:
    """One scene."""

    things: tuple[Seen, ...]
    absent_kept: bool


_worker: dict[str, Any] = {}


@dataclass(frozen=True)
class Absence:
    """Expressions for absent things, asked together of one scene."""

    present: tuple[bool, ...]
    """Which things were kept, in their company."""
    with_things: tuple[bool, ...]
    """Which of the absent ones were kept, asked together with the things."""
    alone: tuple[bool, ...]
    """The same, asked without the things."""


def start_worker(sprites: Path, preset: str, overrides: Sequence[str]) -> None:
    torch.set_num_threads(1)
    _worker["sprites"] = load_sprites(sprites)
    # "truth …" names no SAM on disk: `measure` puts the truth's regions in its place.
    config = carvid.load_config(preset, overrides)
    _worker["config"] = config
    _worker["model"] = carvid.load(config, ["sam.model="])


def measure_in_worker(seed: int) -> Outcome:
    return measure(_worker["model"], _worker["sprites"], seed, _worker["config"])


def still(seed: int) -> SceneSpec:
    """Return the still of a number: always with something absent, sometimes with look-alikes."""
    some = SceneSpec(seed).with_some_events(EVENT_SHARE).events
    return SceneSpec(
        seed, frames=1, events=("absent", *(event for event in some if event in SOME_EVENTS))
    )


def cut(labels: NDArray[np.uint8], seed: int, count: int, whole: bool) -> NDArray[np.bool_]:
    """Cut each thing of a label map into `count` pieces, the pixels nearest to each of some points,
    and the background likewise: bool (A, H, W)."""
    rng = np.random.default_rng(seed)
    pieces = []
    for label in np.unique(labels):
        pixels = np.argwhere(labels == label)
        wanted = min(count if label else count * BACKGROUND_PIECES, len(pixels))
        points = pixels[rng.choice(len(pixels), wanted, replace=False)]
        nearest = cKDTree(points).query(pixels)[1]
        for k in range(len(points)):
            piece = np.zeros(labels.shape, bool)
            piece[tuple(pixels[nearest == k].T)] = True
            pieces.append(piece)
        if whole:
            pieces.append(labels == label)
    return np.stack(pieces)


def measure(
    model: carvid.Carvid, sprites: Sprites, seed: int, config: carvid.Config | None = None
) -> Outcome:
    scene = make_scene(still(seed), sprites)
    image, labels = scene.frame(0)
    if config is not None and config.sam.model.startswith("truth "):
        _, count, *whole = config.sam.model.split()
        pieces = cut(labels, seed, int(count), bool(whole))
        model.segmenter.sam = Ensemble(lambda _: pieces, config.sam)
    assert scene.absent is not None
    result = model.segment_image(image, [*scene.texts, scene.absent])
    seen = []
    for k, thing in enumerate(scene.things):
        truth = labels == k + 1
        j, f = mask_scores(result.masks[k], truth)
        seen.append(
            Seen(
                seed, thing.noun, len(scene.things), float(truth.mean()), bool(result.kept[k]),
                j, f,
            )
        )  # fmt: skip
    return Outcome(tuple(seen), bool(result.kept[len(scene.things)]))


def measure_absence(task: tuple[int, int]) -> Absence:
    """Ask a scene, by its seed, for so many absent things."""
    seed, count = task
    model: carvid.Carvid = _worker["model"]
    scene = make_scene(still(seed), _worker["sprites"])
    image, _ = scene.frame(0)
    nouns = {thing.noun for thing in scene.things}
    others = [f"the {noun}" for noun in NOUNS if noun not in nouns]
    absent = np.random.default_rng(seed).choice(others, count, replace=False).tolist()
    with_things = model.segment_image(image, [*scene.texts, *absent]).kept.tolist()
    things = len(scene.things)
    return Absence(
        tuple(with_things[:things]), tuple(with_things[things:]),
        tuple(model.segment_image(image, absent).kept.tolist()),
    )  # fmt: skip


def print_absence(
    sprites: Path, preset: str, overrides: Sequence[str], seeds: Sequence[int],
    counts: Sequence[int], workers: int,
) -> None:  # fmt: skip
    print("| absent together | dropped | dropped, beside the things | things kept |\n|-|-|-|-|")
    with ProcessPoolExecutor(
        workers, get_context("spawn"), start_worker, (sprites, preset, tuple(overrides))
    ) as pool:
        for count in counts:
            found = list(pool.map(measure_absence, [(seed, count) for seed in seeds]))
            alone, beside, kept = (
                np.mean([flag for each in found for flag in getattr(each, key)])
                for key in ("alone", "with_things", "present")
            )
            print(f"| {count} | {1 - alone:.0%} | {1 - beside:.0%} | {kept:.0%} |", flush=True)


def measure_all(
    sprites: Path, preset: str, overrides: Sequence[str], seeds: Sequence[int], workers: int
) -> list[Outcome]:
    with ProcessPoolExecutor(
        workers, get_context("spawn"), start_worker, (sprites, preset, tuple(overrides))
    ) as pool:
        results = pool.map(measure_in_worker, seeds)
        return list(tqdm(results, total=len(seeds), unit="scene", leave=False))


def row(name: str, things: Iterable[Seen]) -> str:
    pairs = np.array([(thing.j, thing.f) for thing in things]) * 100
    j, f = pairs.mean(axis=0)
    return f"| {name} | {len(pairs)} | {j:.1f} | {f:.1f} | {(j + f) / 2:.1f} |"


def table(head: str, things: Sequence[Seen], key: Callable[[Seen], Any]) -> str:
    """Return a table with a row for each value of `key`, in the order in which they come."""
    groups: dict[Any, list[Seen]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    rows = [row(str(name), group) for name, group in groups.items()]
    return "\n".join([f"| {head} | things | J | F | J&F |", "|-|-|-|-|-|", *rows])


def pruning(outcomes: Sequence[Outcome]) -> tuple[float, float, float]:
    """Shares: scenes with all things kept, things kept, absent expressions dropped."""
    return (
        float(np.mean([all(thing.kept for thing in o.things) for o in outcomes])),
        float(np.mean([thing.kept for o in outcomes for thing in o.things])),
        float(np.mean([not o.absent_kept for o in outcomes])),
    )


def size_of(thing: Seen) -> str:
    return next(name for end, name in SIZES if thing.area <= end)


def print_quality(outcomes: Sequence[Outcome]) -> None:
    things = [thing for outcome in outcomes for thing in outcome.things]
    print(table("all", things, lambda thing: f"{len(outcomes)} scenes"), end="\n\n")
    by_count = sorted(things, key=lambda thing: thing.count)
    print(table("things in the scene", by_count, lambda thing: thing.count), end="\n\n")
    by_area = sorted(things, key=lambda thing: thing.area)
    print(table("share of the picture", by_area, size_of), end="\n\n")
    by_noun = sorted(things, key=lambda thing: thing.noun)
    print(table("noun", by_noun, lambda thing: thing.noun), end="\n\n")
    scenes, kept, dropped = pruning(outcomes)
    print(f"all present things kept: {scenes:.1%} of scenes; present things kept: {kept:.1%}; "
          f"absent dropped: {dropped:.1%}")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sprites", type=Path)
    parser.add_argument("--scenes", type=int, default=120)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ablate", action="store_true", help="every variant, on the same scenes")
    parser.add_argument("--regions", action="store_true", help="the ensemble on perfect masks")
    parser.add_argument("--absent", type=int, nargs="+", help="so many absent things together")
    parser.add_argument("--json", type=Path, help="write every thing's scores there")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.scenes)

    def outcomes_of(overrides: Sequence[str]) -> list[Outcome]:
        return measure_all(
            options.sprites, options.preset, [*options.overrides, *overrides], seeds,
            options.workers,
        )  # fmt: skip

    if options.absent:
        print_absence(
            options.sprites, options.preset, options.overrides, seeds, options.absent,
            options.workers,
        )  # fmt: skip
        return 0
    if not (options.ablate or options.regions):
        outcomes = outcomes_of(())
        print_quality(outcomes)
        if options.json:
            options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
        return 0
    print("| variant | things | J | F | J&F | present kept | absent dropped | s a scene |")
    print("|-|-|-|-|-|-|-|-|")
    for name, overrides in (VARIANTS if options.ablate else REGIONS).items():
        began = time.monotonic()
        outcomes = outcomes_of(overrides)
        seconds = (time.monotonic() - began) / len(outcomes)
        _, kept, dropped = pruning(outcomes)
        line = row(name, (thing for outcome in outcomes for thing in outcome.things))
        print(f"{line} {kept:.0%} | {dropped:.0%} | {seconds:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
