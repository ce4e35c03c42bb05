"""Ablations, the paper's and one more: each row of a table is a benchmark's run in a folder of its
own.

out/<table>/<row>/      what `bench.py` writes
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from carvid.base.errors import ConfigError, suggest
from carvid.base.guard import check_apart
from carvid.base.spreadsheet import as_text
from carvid.base.words import plural
from carvid.benchmark.ablation_tables import AblationTable, ablation_table
from carvid.benchmark.bench import predict_runs, result_of
from carvid.benchmark.bench_models import BenchRun
from carvid.benchmark.bench_plan import plan_bench
from carvid.benchmark.bench_result import BenchResult, cell, shown
from carvid.benchmark.bench_settings import settings_of
from carvid.benchmark.sets import bench_set
from carvid.benchmark.workers import Asked, Engine
from carvid.config import Config, load_config, settings_files
from carvid.evaluation.report import columns


@dataclass(frozen=True)
class AblationResult:
    """A table of runs beside the paper's."""

    table: AblationTable
    on: str
    """The benchmark."""
    results: tuple[BenchResult, ...]
    """Of the table's rows, in their order."""

    @property
    def failed(self) -> dict[str, str]:
        """Name of an image → why it is not whole; empty if all are."""
        return {name: why for each in self.results for name, why in each.failed.items()}

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping; what is not a number is null."""
        return {
            "table": self.table.name, "paper_table": self.table.number, "set": self.on,
            "notes": list(self._notes()),
            "rows": [
                {
                    "row": name, "changes": list(changes), "paper": None if isnan(paper) else paper,
                    **result.to_json(),
                }
                for name, changes, paper, result in self._rows()
            ],
        }  # fmt: skip

    def to_text(self) -> str:
        """Return the table in percent, and the notes."""
        first = self.results[0]
        lines = [("mIoU, percent", "here", "paper", "difference")]
        lines += [
            (name, shown(result.miou), shown(paper), shown(result.miou - paper, sign=True))
            for name, _, paper, result in self._rows()
        ]
        samples = plural(first.samples, "image")
        head = f"{self.table.title}, {first.title}, {samples}"
        return "\n".join([head, columns(lines), *(f"note: {note}" for note in self._notes())])

    def to_csv(self) -> str:
        """Return a row for each row of the table."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            ("table", "set", "samples", "row", "changes", "mIoU_percent", "paper", "difference")
        )
        for name, changes, paper, result in self._rows():
            facts = (self.table.name, self.on, result.samples, name, as_text(" ".join(changes)))
            writer.writerow((*facts, cell(result.miou), cell(paper), cell(result.miou - paper)))
        return text.getvalue()

    def _rows(self) -> Iterator[tuple[str, tuple[str, ...], float, BenchResult]]:
        """Name, changes, the paper's number (nan if it has none) and the result of each row."""
        for row, result in zip(self.table.rows, self.results, strict=True):
            yield row.name, row.changes, row.paper[self.on], result

    def _notes(self) -> Iterable[str]:
        """What is to be known of all rows: settings that a row changes are no difference."""
        told = [set(each.notes) for each in self.results]
        common = [note for note in self.results[0].notes if all(note in each for each in told)]
        return [*([self.table.note] if self.table.note else []), *common]


def ablate(
    table: str,
    data: Path,
    out: Path,
    preset: str | Path | Config = "reference",
    overrides: Iterable[str] = (),
    *,
    on: str = "voc21",
    rows: Iterable[str] | None = None,
    generator: str | None = None,
    classifier: str | None = None,
    split: str | None = None,
    limit: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    engine: Engine = "local",
    ray_address: str | None = None,
    progress: bool = False,
    written: Iterable[Path] = (),
) -> AblationResult:
    """Run the rows of an ablation, and put their mIoU beside the paper's.

    All rows are done image by image: each CLIP is loaded once and each text encoded once, and an
    image goes once through the generator for all rows that encode it alike.

    Args:
        table: `recurrence`, `backbones`, `prompts`, `thresholds` or `background`, or the paper's
            number of it, 2 to 6; or `proposals`, which the paper does not have.
        data: the data set's root.
        out: each row's folder is `<table>/<row>` in it.
        preset: what the rows change; as in `bench`, as is all that is not told here.
        on: `voc21`, or `coco-object` of `backbones`, `thresholds` and `proposals`.
        rows: names; only these.
        generator: in `backbones` this stands for B, and `classifier` for L.

    Raises:
        CarvidError: as `bench`.
        ConfigError: no such table or row, or none for this benchmark.
    """
    asked = Asked(engine, workers, ray_address)
    asked.check()
    chosen = bench_set(on)
    config = settings_of(chosen, preset, overrides, generator=generator, classifier=classifier)
    known = _with_rows(ablation_table(table, on, config), rows)
    plan = plan_bench(chosen, Path(data).resolve(), split=split, limit=limit)
    read = [*plan.dataset.files(), *settings_files(preset)]
    check_apart(read, written, remedy="choose another file")
    runs = [
        BenchRun(Path(out) / known.name / row.name, load_config(config, row.changes))
        for row in known.rows
    ]
    _, failed = predict_runs(
        plan, runs, settings_files(preset), resume=resume, overwrite=overwrite, asked=asked,
        progress=progress,
    )  # fmt: skip
    results = tuple(
        result_of(plan, run.out, run.config, failed=failed, workers=workers or 1, progress=progress)
        for run in runs
    )
    return AblationResult(known, on, results)


def _with_rows(table: AblationTable, rows: Iterable[str] | None) -> AblationTable:
    """The table with the rows that are asked for."""
    names = [row.name for row in table.rows]
    wanted = names if rows is None else list(rows)
    for name in wanted:
        if name not in names:
            raise ConfigError(f"{table.name} has no row '{name}'{suggest(name, names)}")
    chosen = tuple(row for row in table.rows if row.name in wanted)
    return AblationTable(table.name, table.number, chosen, table.note)
