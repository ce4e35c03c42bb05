"""The numbers of a benchmark, from a folder of predictions of any method, beside the paper's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from carvid.base.errors import DatasetError
from carvid.base.words import plural
from carvid.benchmark.bench_plan import MASK_FOLDER, BenchPlan
from carvid.datasets.folders import few
from carvid.datasets.referring_dataset import ReferringDataset
from carvid.datasets.semantic_dataset import SemanticDataset
from carvid.evaluation.label_maps import FOREGROUND_FOLDER, LABEL_FOLDER, score_label_maps
from carvid.evaluation.referring import Overlap, generalized_scores, overlap, referring_scores
from carvid.media.label_images import read_labels

BOTH = "released, usual"
"""With background the two protocols are one."""
RELEASED, GENERALIZED = "released", "gRefCOCO"


@dataclass(frozen=True)
class Score:
    """A number of a protocol, percent."""

    protocol: str
    measure: str
    percent: float
    """NaN where nothing counts."""
    paper: float | None = None
    """What the paper has; None where it has no such number."""

    @property
    def difference(self) -> float | None:
        """How much higher it is than the paper's."""
        return None if self.paper is None else self.percent - self.paper

    def to_json(self) -> dict[str, Any]:
        """Return protocol, measure, percent (None where nothing counts), paper and difference."""
        return {
            "protocol": self.protocol, "measure": self.measure, "percent": number(self.percent),
            "paper": self.paper,
            "difference": None if self.difference is None else number(self.difference),
        }  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """All numbers of a folder of predictions."""

    scores: tuple[Score, ...]
    """The first is the paper's measure."""
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Protocol → name of a class → IoU, percent; of semantic sets."""
    images: Mapping[str, float] = field(default_factory=dict)
    """Sample → its IoU, of label maps mIoU, percent; NaN where nothing counts."""
    notes: tuple[str, ...] = ()


def number(value: float) -> float | None:
    """Return what JSON has for a number: nothing for NaN."""
    return None if isnan(value) else value


def score_plan(
    plan: BenchPlan, folder: Path, paper: float | None, *, workers: int, progress: bool
) -> Scored:
    """Score a folder of predictions.

    Args:
        plan: the data.
        folder: `<name>.png` for each sample, or a run's folder.
        paper: the paper's mIoU, percent.
        workers: processes.
        progress: show a bar on stderr.

    Raises:
        DatasetError: predictions or truth are not whole, or not of the expected form.
    """
    if not folder.is_dir():
        raise DatasetError(f"no folder '{folder}'; give the folder of predictions")
    if isinstance(plan.dataset, SemanticDataset):
        background = plan.bench.background
        return _score_maps(plan.dataset, folder, paper, background, workers, progress)
    return _score_masks(plan, plan.dataset, folder, paper, progress)


def _score_maps(
    dataset: SemanticDataset,
    folder: Path,
    paper: float | None,
    background: bool,
    workers: int,
    progress: bool,
) -> Scored:
    protocols, notes = ["released"], []
    if not background:
        if (folder / LABEL_FOLDER).is_dir() and not (folder / FOREGROUND_FOLDER).is_dir():
            notes.append(
                f"'{folder}' has no '{FOREGROUND_FOLDER}', without which the usual protocol is "
                "left away"
            )
        else:
            protocols.append("usual")
    scores: list[Score] = []
    classes: dict[str, dict[str, float]] = {}
    images: dict[str, float] = {}
    for protocol in protocols:
        report = score_label_maps(
            dataset, folder, protocol=protocol, background=background, workers=workers,
            progress=progress,
        )  # fmt: skip
        notes += [note for note in report.notes if note not in notes]
        # Where the release counts otherwise than it means to, the paper's number is of that.
        papers = dict.fromkeys(report.scores) | {[*report.scores][-1]: paper}
        for name, found in report.scores.items():
            title = BOTH if background else name
            values = {
                "mIoU": found.miou, "pixel accuracy": found.pixel_accuracy,
                "mean accuracy": found.mean_accuracy,
                "frequency weighted IoU": found.frequency_weighted_iou,
            }  # fmt: skip
            for measure, value in values.items():
                theirs = papers[name] if measure == "mIoU" and protocol == "released" else None
                scores.append(Score(title, measure, 100 * value, theirs))
            of_class = {report.name_of(k): 100 * iou for k, iou in found.class_iou.items()}
            classes[title] = of_class
        images = images or {each.name: 100 * each.miou for each in report.images}
    return Scored(tuple(scores), classes, images, tuple(notes))


def _score_masks(
    plan: BenchPlan, dataset: ReferringDataset, folder: Path, paper: float | None, progress: bool
) -> Scored:
    folder = folder / MASK_FOLDER if (folder / MASK_FOLDER).is_dir() else folder
    _check_masks(dataset, folder)
    released, generalized = [], []
    bar = tqdm(dataset.samples, desc="eval", unit=plan.bench.noun, disable=not progress)
    for sample in bar:
        mask = read_mask(folder, sample.name)
        truth = dataset.truth(sample)
        if mask.shape != truth.shape:
            (height, width), (true_height, true_width) = mask.shape, truth.shape
            raise DatasetError(
                f"'{folder / sample.name}.png' is {width}×{height}, its image "
                f"{true_width}×{true_height}; write masks in the size of the image"
            )
        released.append(overlap(truth, mask))
        if not plan.bench.target:
            generalized.append(overlap(dataset.whole_truth(sample), mask))
    scores = [*_released(released, paper), *(_generalized(generalized) if generalized else ())]
    pairs = zip(dataset.samples, released, strict=True)
    return Scored(tuple(scores), images={sample.name: 100 * each.iou for sample, each in pairs})


def read_mask(folder: Path, name: str) -> NDArray[np.bool_]:
    """Read a predicted mask, bool (H, W): 0, and any other value; or black and white.

    Raises:
        DatasetError: no such file, unreadable, or no mask.
    """
    labels, _ = read_labels(folder / f"{name}.png", single=True)
    return labels > 0


def _check_masks(dataset: ReferringDataset, folder: Path) -> None:
    have = {path.name for path in folder.iterdir()}
    lacking = [name for each in dataset.samples if (name := f"{each.name}.png") not in have]
    if lacking:
        raise DatasetError(
            f"'{folder}' lacks {plural(len(lacking), 'mask')} ({few(lacking)}); write one for "
            "every sample"
        )


def _released(overlaps: Iterable[Overlap], paper: float | None) -> Iterable[Score]:
    found = referring_scores(overlaps)
    yield Score(RELEASED, "mIoU", 100 * found.miou, paper)
    yield Score(RELEASED, "oIoU", 100 * found.oiou)
    for level, share in found.precision.items():
        yield Score(RELEASED, f"P@{level}", 100 * share)


def _generalized(overlaps: Iterable[Overlap]) -> Iterable[Score]:
    found = generalized_scores(overlaps)
    for measure, value in (
        ("gIoU", found.giou), ("cIoU", found.ciou), ("N-acc", found.n_acc), ("T-acc", found.t_acc)
    ):  # fmt: skip
        yield Score(GENERALIZED, measure, 100 * value)
