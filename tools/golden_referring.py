#!/usr/bin/env python
"""Compare carvid with what the released evaluation of referring segmentation made.

    tools/golden_referring.py FILE.json [FILE.json ...] --data DIR

A file with a list called `refer` holds made-up masks: merging and IoU are compared exactly. One
with `runs` holds, for each sample of a split, the queries that every step kept, their scores and
the merged mask, made with the networks of `check_golden.py` over DIR/refer; carvid's `reference`
runs on the same images. Each has a `.npz` beside it.

A row with a `quirk` is a fault of the release, as are letters for prompts. They are listed as not
reproduced, and a run is summed up without them. A prompt may hang on a pixel whose proposal is at
η, on one processor inside, on another outside: where that is enough to explain a score, the sample
is counted, and at most one in ten may be so; where what is kept or the mask differs for that, the
run is summed up without it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from check_golden import CLIPS, TOLERANCES, Line, golden_clip
from numpy.typing import NDArray

from carvid.car.prompts import draw_prompts
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.trace import Trace, TraceStep
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config, load_config
from carvid.datasets.open_referring import open_referring
from carvid.datasets.referring_dataset import ReferringDataset, ReferringSample
from carvid.evaluation.referring import Overlap, merge_masks, overlap, referring_scores
from carvid.media.frames import Selection
from carvid.media.open import open_video

EXACT = 1e-12
"""Largest difference of what is computed from the same masks."""
MASK_SHARE = 0.005
"""Share of an image's pixels in which merged masks may differ."""
TOTALS = 2e-3
"""Largest difference of a run's mIoU and oIoU."""
MOST_AT_ETA = 0.1
"""Share of the samples that may hang on pixels at η."""
SETS = {"gres": "grefcoco"}
"""Configurations of the release that are not called as their data set."""


@dataclass(frozen=True)
class _Made:
    """What carvid makes of a row."""

    overlap: Overlap
    line: Line
    at_eta: bool
    """Whether it differs, and pixels at η explain it."""
    counts: bool
    """Whether the run's totals have it: what is kept and the mask agree."""


def check_refer_metrics(
    values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> Iterator[Line]:
    """Compare merging and IoU on made-up masks.

    Args:
        values: a file's JSON; `refer` is a list of cases.
        arrays: its `.npz`: for case k packed bits, `refer<k>_masks`, `_target` and `_merged`.
    """
    for k, case in enumerate(values.get("refer", ())):
        size_hw = (int(case["target_shape"][0]), int(case["target_shape"][1]))
        masks = _unpack(arrays[f"refer{k}_masks"], tuple(case["masks_shape"]))
        target = _unpack(arrays[f"refer{k}_target"], size_hw)
        wanted = _unpack(arrays[f"refer{k}_merged"], size_hw)
        merged = merge_masks(masks, np.array(case["scores"], np.float32), size_hw)
        made = overlap(target, merged)
        differs = int((merged != wanted).sum())
        counts = (made.intersection, made.union, made.predicted)
        told = (case["intersection"], case["union"], case["area"])
        passed = not differs and counts == told and abs(made.iou - case["iou"]) <= EXACT
        detail = "equal"
        if not passed:
            detail = f"{differs} pixels differ, got {(*counts, made.iou)}, golden {told}"
            detail += f", {case['iou']}"
        yield Line(f"refer {k} ({case['note']})", passed, detail)


def check_referring(path: Path, data: Path, clips: dict[str, ClipBackbone]) -> Iterator[Line]:
    """Run carvid's `reference` on every row of a file's runs.

    Args:
        path: the JSON file.
        data: holds the folder `refer`, a root of the data sets.
        clips: the networks called `generator` and `classifier`.
    """
    values = json.loads(path.read_text("utf-8"))
    arrays = dict(np.load(path.with_suffix(".npz"), allow_pickle=False))
    strings = [str(text) for text in arrays["text_strings"]]
    if _has_letters(strings, values):
        for name, run in values["runs"].items():
            detail = f"not reproduced: {len(run['rows'])} samples, with letters as prompts"
            yield Line(name, True, detail)
        return
    for name, clip in clips.items():
        clip.remember_texts(strings, torch.from_numpy(arrays[f"text_{name}"]))
    compared = at_eta = 0
    for name, run in values["runs"].items():
        made: list[_Made | None] = []
        for each in _check_rows(name, run, arrays, data / "refer", clips, values["quirks"]):
            made.append(each if isinstance(each, _Made) else None)
            yield each.line if isinstance(each, _Made) else each
        yield from _check_totals(name, run, made)
        compared += sum(each is not None for each in made)
        at_eta += sum(each is not None and each.at_eta for each in made)
    detail = f"{at_eta} of {compared} samples hang on a pixel at η, allowed one in ten"
    yield Line("prompts at η", at_eta <= MOST_AT_ETA * compared, detail)


def referring_config(settings: Mapping[str, Any]) -> Config:
    """Return the `reference` preset with the settings that a run names."""
    config = load_config("reference")
    return replace(
        config,
        proposals=replace(config.proposals, lambda_=settings["clipes_threshold"]),
        prompts=replace(
            config.prompts,
            eta=settings["mask_threshold"],
            kinds=tuple(settings["visual_prompt_type"]),
        ),
        car=replace(config.car, theta=settings["confidence_threshold"]),
    )


def _check_rows(
    name: str,
    run: dict[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    root: Path,
    clips: dict[str, ClipBackbone],
    quirks: Mapping[str, str],
) -> Iterator[_Made | Line]:
    """What carvid makes of a run's rows, in their order; of those left out a line only."""
    dataset = _dataset_of(name, run["config"], root)
    samples = {(sample.image_id, _ref_id(sample), sample.sentences): sample
               for sample in dataset.samples}  # fmt: skip
    told = {(_image_id(row), row["ref_id"], tuple(row["sentences"])) for row in run["rows"]}
    yield Line(
        f"{name} samples", told == samples.keys(),
        f"{len(samples)} with their sentences, {len(told ^ samples.keys())} on one side only",
    )  # fmt: skip
    segmenter = RecurrentSegmenter(
        clips["generator"], clips["classifier"], referring_config(run["settings"])
    )
    for k, row in enumerate(run["rows"]):
        sample = samples.get((_image_id(row), row["ref_id"], tuple(row["sentences"])))
        label = f"{name} {k}"
        if sample is None:
            yield Line(label, False, f"no sample of ref {row['ref_id']} has these sentences")
        elif "quirk" in row:
            quirk = row["quirk"]
            yield Line(label, True, f"not reproduced: {quirk} ({quirks.get(quirk, 'a quirk')})")
        else:
            wanted = _unpack(arrays[f"mask_{name}_{k}"], tuple(row["size"]))
            yield _check_row(label, row, wanted, dataset, sample, segmenter)


def _check_row(
    label: str,
    row: dict[str, Any],
    wanted: NDArray[np.bool_],
    dataset: ReferringDataset,
    sample: ReferringSample,
    segmenter: RecurrentSegmenter,
) -> _Made:
    """Segment one sample, and compare each step, the scores, the merged mask and the truth."""
    with open_video(sample.image, selection=Selection()) as reader:
        image = next(iter(reader)).image
    trace = Trace()
    result = segmenter.segment(image, Queries(sample.sentences), trace=trace)
    truth = dataset.truth(sample)
    scores = np.where(result.kept, result.scores, 0)
    merged = merge_masks(result.masks, scores, truth.shape)

    kept, told = [list(s.kept) for s in trace.steps], [s["kept"] for s in row["steps"]]
    apart = _apart([*(s.own for s in trace.steps), scores],
                   [*(s["scores"] for s in row["steps"]), row["scores"]])  # fmt: skip
    share = float((merged != wanted).mean())
    faults = []
    if kept != told:
        faults.append(f"kept {kept}, golden {told}")
    if not apart <= TOLERANCES["score"]:
        faults.append(f"scores {apart:.2e} apart, allowed {TOLERANCES['score']}")
    if share > MASK_SHARE:
        faults.append(f"{100 * share:.2f} % of the pixels differ, allowed {100 * MASK_SHARE} %")
    counts = kept == told and share <= MASK_SHARE
    at_eta = bool(faults) and _hangs_at_eta(image, row, trace, segmenter)
    if int(truth.sum()) != row["target_area"]:
        faults.append(f"the truth has {truth.sum()} pixels, golden {row['target_area']}")
        at_eta = False
    detail = "; ".join(faults) or f"kept equal, scores {apart:.1e}, {100 * share:.3f} % of pixels"
    if at_eta:
        detail = f"hangs on a pixel at η: {detail}"
    line = Line(label, at_eta or not faults, detail)
    return _Made(overlap(truth, merged), line, at_eta, counts or not at_eta)


def _apart(made: list[Any], wanted: list[Any]) -> float:
    """Largest difference of scores, infinite where there are not as many."""
    if [len(each) for each in made] != [len(each) for each in wanted]:
        return float("inf")
    return max(float(np.abs(np.asarray(a) - b).max()) for a, b in zip(made, wanted, strict=True))


def _hangs_at_eta(
    image: NDArray[np.uint8], row: dict[str, Any], trace: Trace, segmenter: RecurrentSegmenter
) -> bool:
    """Whether pixels at η explain the first step whose scores or kept queries differ."""
    for made, wanted in zip(trace.steps, row["steps"], strict=False):
        if len(made.own) != len(wanted["scores"]):
            return False
        differences = np.abs(made.own - wanted["scores"])
        if list(made.kept) != wanted["kept"] or (differences > TOLERANCES["score"]).any():
            allowed = TOLERANCES["score"] + _changes_at_eta(image, made, segmenter)
            return bool((allowed > TOLERANCES["score"]).any() and (differences <= allowed).all())
    return False


def _changes_at_eta(
    image: NDArray[np.uint8], made: TraceStep, segmenter: RecurrentSegmenter
) -> NDArray[np.float64]:
    """How far each query's score moves when the pixels at η are all drawn, or none: float64 (n,).

    At η are proposals within the tolerance of the CAM.
    """
    prompts, changes = segmenter.config.prompts, np.zeros(len(made.queries))
    for k, proposal in enumerate(made.proposals.masks):
        masks = np.stack([proposal > prompts.eta + TOLERANCES["cam"] * sign for sign in (-1, 0, 1)])
        images = [
            draw_prompts(image, mask, prompts.kinds, swap_gray=prompts.swap_gray) for mask in masks
        ]
        features = segmenter.classifier.encode(images, masks)
        own = segmenter.classifier.score(features, made.competitors)
        column = int(np.abs(own[1] - made.own[k]).argmin())
        changes[k] = np.abs(own[:, column] - made.own[k]).max()
    return changes


def _check_totals(name: str, run: dict[str, Any], made: list[_Made | None]) -> Iterator[Line]:
    """A run's mIoU and oIoU over the rows that are compared."""
    made = made[len(made) - len(run["rows"]) :]  # the lines of rows come last
    rows = [_overlap_of(row) for row in run["rows"]]
    yield _check_sums(name, run, [row for row in rows if row])
    pairs = [(own, row) for own, row in zip(made, rows, strict=True) if own and row and own.counts]
    left_out = len(rows) - len(pairs)
    if not pairs:
        yield Line(f"{name} mIoU", True, f"not reproduced: all {left_out} rows are left out")
        return
    ours = referring_scores([own.overlap for own, _ in pairs])
    theirs = referring_scores([row for _, row in pairs])
    told = run.get("without_quirk_rows", run)
    if all(own is None or own.counts for own in made) and told["samples"] == len(pairs):
        theirs = replace(theirs, miou=told["mIoU"], oiou=told["oIoU"])
    for metric, a, b in (("mIoU", ours.miou, theirs.miou), ("oIoU", ours.oiou, theirs.oiou)):
        detail = f"{a:.5f}, golden {b:.5f}, over {len(pairs)} rows, {left_out} left out"
        yield Line(f"{name} {metric}", abs(a - b) <= TOTALS, detail)


def _check_sums(name: str, run: dict[str, Any], rows: list[Overlap]) -> Line:
    """A run's mIoU, oIoU and precision from the file's own areas."""
    if len(rows) < len(run["rows"]):
        lacking = len(run["rows"]) - len(rows)
        return Line(f"{name} sums", True, f"not reproduced: {lacking} rows have no areas")
    whole = referring_scores(rows)
    differences = [whole.miou - run["mIoU"], whole.oiou - run["oIoU"]]
    differences += [whole.precision[float(k)] - v for k, v in run["precision"].items()]
    worst = max(map(abs, differences))
    return Line(f"{name} sums", worst <= EXACT, f"of the file's areas, {worst:.1e} apart")


def _overlap_of(row: dict[str, Any]) -> Overlap | None:
    """A row's areas; none where the release stopped with an error."""
    areas = [row.get(key) for key in ("intersection", "union", "area", "target_area")]
    return None if None in areas else Overlap(*areas)


def _dataset_of(name: str, config: str, root: Path) -> ReferringDataset:
    """The split that a run is over: its name is `<config>_<by>_<split>`, and what else it is."""
    by, split, *_ = name.removeprefix(f"{config}_").split("_")
    return open_referring(SETS.get(config, config), root, split=split, by=by)


def _ref_id(sample: ReferringSample) -> int:
    return int(sample.name.partition("_")[0])


def _image_id(row: dict[str, Any]) -> int:
    return int(Path(row["image"]).stem.rpartition("_")[2])


def _has_letters(strings: list[str], values: dict[str, Any]) -> bool:
    """Whether single letters that are no sentence were prompts."""
    sentences = {
        text for run in values["runs"].values() for row in run["rows"] for text in row["sentences"]
    }
    return any(len(text) == 1 and text not in sentences for text in strings)


def _unpack(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Packed bits as bool of a shape."""
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="holds the folder refer")
    parser.add_argument("--threads", type=int, default=1, help="of torch: they sum in other orders")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clips = {
        name: ClipBackbone(golden_clip(name), None, half_positions=True, name=name)
        for name in CLIPS
    }
    good = True
    for path in options.files:
        values = json.loads(path.read_text("utf-8"))
        if "runs" in values:
            lines = check_referring(path, options.data, clips)
        else:
            lines = check_refer_metrics(values, dict(np.load(path.with_suffix(".npz"))))
        for line in lines:
            good &= line.passed
            said = f"{'ok  ' if line.passed else 'OUT '} {path.stem} {line.name}: {line.detail}"
            print(said, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
