"""What a benchmark comes to: its table, JSON, CSV, and the worst images."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from carvid.base.files import write_text
from carvid.base.spreadsheet import as_text
from carvid.base.words import plural
from carvid.benchmark.bench_plan import MASK_FOLDER, BenchPlan
from carvid.benchmark.bench_scores import Score, Scored, number, read_mask
from carvid.benchmark.sets import BenchSet
from carvid.datasets.label_files import read_picture
from carvid.datasets.semantic_dataset import SemanticDataset
from carvid.evaluation.label_maps import LABEL_FOLDER, read_prediction
from carvid.evaluation.report import columns
from carvid.show.label_sheet import LabelRow, MaskRow, draw_label_sheet, draw_mask_sheet

TOLD = ("mIoU", "oIoU", "gIoU", "cIoU", "N-acc", "T-acc")
"""Measures that the table of a semantic or referring set shows, besides precision; JSON and CSV
have all."""


@dataclass(frozen=True)
class BenchResult:
    """The numbers of a benchmark beside the paper's, percent."""

    set: str
    """One of the benchmarks, such as `voc21`."""
    title: str
    split: str
    by: str | None
    """Whose refs; None are the usual ones."""
    samples: int
    """How many images (of referring sets refs or sentences) were scored."""
    total: int
    """How many the split has."""
    out: Path | None
    """The folder of the run; None where predictions of another method were scored."""
    scored: Scored = field(repr=False)
    notes: tuple[str, ...] = ()
    """Why the comparison with the paper is not like for like."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Name of an image → why it is not whole; empty if all are."""
    done_now: int = 0
    """Samples predicted by this call; others were done before."""
    seconds: float = 0.0
    """How long that took, loading included."""
    plan: BenchPlan | None = field(default=None, repr=False, compare=False)
    predictions: Path | None = field(default=None, repr=False, compare=False)
    """Folder of what was scored."""

    @property
    def scores(self) -> tuple[Score, ...]:
        """All numbers; the first is the paper's measure."""
        return self.scored.scores

    @property
    def miou(self) -> float:
        """The measure of the paper's table, percent."""
        return self.scores[0].percent

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping; what is not a number is null."""
        return {
            "set": self.set, "split": self.split, "by": self.by, "samples": self.samples,
            "of": self.total, "out": None if self.out is None else str(self.out),
            "done_now": self.done_now, "seconds": round(self.seconds, 3),
            "scores": [score.to_json() for score in self.scores],
            "classes": {protocol: dict(each) for protocol, each in self.scored.classes.items()},
            "images": {name: number(value) for name, value in self.scored.images.items()},
            "notes": list(self.notes),
            "failed": [{"image": name, "reason": why} for name, why in self.failed.items()],
        }  # fmt: skip

    def to_text(self) -> str:
        """Return set, split and number of images, the table, and the notes."""
        rows = [("percent", "here", "paper", "difference")]
        rows += [
            (f"{score.protocol}, {score.measure}", shown(score.percent), shown(score.paper),
             shown(score.difference, sign=True))
            for score in self.scores
            if score.measure in TOLD or score.measure.startswith("P@")
        ]  # fmt: skip
        head = f"{self.title}, {self.split}{self._by}, {plural(self.samples, self._noun)}"
        return "\n".join([head, columns(rows), *(f"note: {note}" for note in self.notes)])

    def to_csv(self) -> str:
        """Return a row for each number of all, of each class, and of each image. Names are written
        by `as_text`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        head = ("set", "split", "by", "samples", "protocol")
        writer.writerow((*head, "of", "name", "measure", "percent", "paper", "difference"))
        facts = (self.set, as_text(self.split), self.by or "", self.samples)
        for score in self.scores:
            values = (cell(score.percent), cell(score.paper), cell(score.difference))
            writer.writerow((*facts, score.protocol, "all", "", score.measure, *values))
        for protocol, each in self.scored.classes.items():
            for name, value in each.items():
                row = (protocol, "class", as_text(name), "IoU", cell(value), "", "")
                writer.writerow((*facts, *row))
        for name, value in self.scored.images.items():
            row = (self.scores[0].protocol, self._noun, as_text(name), "IoU", cell(value), "", "")
            writer.writerow((*facts, *row))
        return text.getvalue()

    def worst(self, count: int = 8) -> tuple[str, ...]:
        """Return the names of the samples of the lowest IoU, the worst first."""
        counted = {name: v for name, v in self.scored.images.items() if not isnan(v)}
        return tuple(sorted(counted, key=lambda name: counted[name])[:count])

    def plot_worst(self, path: Path, count: int = 8) -> None:
        """Draw the worst samples, truth and prediction side by side, as a PNG.

        Raises:
            OutputError: the place cannot be written.
            ValueError: the result was not made by `bench`, or no sample counts.
        """
        if self.plan is None or self.predictions is None:
            raise ValueError("only a result of bench knows its images")
        if isinstance(self.plan.dataset, SemanticDataset):
            classes = self.plan.dataset.classes.names
            draw_label_sheet(self._label_rows(self.plan.dataset, count), path, classes=classes)
        else:
            draw_mask_sheet(self._mask_rows(count), path)

    def save(self, path: Path) -> None:
        """Write `to_json` to a whole file.

        Raises:
            OutputError: the place cannot be written.
        """
        write_text(path, json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n")

    def _label_rows(self, dataset: SemanticDataset, count: int) -> Iterator[LabelRow]:
        folder = folder_of(self.predictions, LABEL_FOLDER)
        images = {image.name: image for image in dataset.images}
        for name in self.worst(count):
            image = images[name]
            prediction = read_prediction(folder / f"{name}.png", len(dataset.classes.names))
            yield LabelRow(
                name, self.scored.images[name] / 100, dataset.picture(image), dataset.truth(image),
                prediction,
            )  # fmt: skip

    def _mask_rows(self, count: int) -> Iterator[MaskRow]:
        folder = folder_of(self.predictions, MASK_FOLDER)
        assert self.plan is not None and not isinstance(self.plan.dataset, SemanticDataset)
        samples = {sample.name: sample for sample in self.plan.dataset.samples}
        for name in self.worst(count):
            sample = samples[name]
            yield MaskRow(
                name, self.scored.images[name] / 100, read_picture(sample.image),
                self.plan.dataset.truth(sample), read_mask(folder, name), sample.sentences,
            )  # fmt: skip

    @property
    def _noun(self) -> str:
        return noun_of(self.plan)

    @property
    def _by(self) -> str:
        return "" if self.by is None else f" ({self.by})"


def noun_of(plan: BenchPlan | None) -> str:
    """Return what the samples of a plan are called."""
    bench: BenchSet | None = None if plan is None else plan.bench
    return "sample" if bench is None else bench.noun


def folder_of(predictions: Path | None, name: str) -> Path:
    """Return the folder of `<name>.png`, whether predictions are a run's folder or that itself."""
    assert predictions is not None
    return predictions / name if (predictions / name).is_dir() else predictions


def shown(value: float | None, *, sign: bool = False) -> str:
    """Return a number of percent as a table has it; "-" where there is none."""
    if value is None or isnan(value):
        return "-"
    return f"{value:+.2f}" if sign else f"{value:.2f}"


def cell(value: float | None) -> float | str:
    """Return a number as a CSV has it; nothing where there is none."""
    return "" if value is None or isnan(value) else value
