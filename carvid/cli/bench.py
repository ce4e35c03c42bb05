"""`carvid bench`, `carvid bench ablation`: the paper's image benchmarks, and its tables."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carvid.cli.messages import exit_if_failed, resumable, show_progress
from carvid.cli.options import (
    DATA,
    OUTPUT,
    AsJson,
    Classifier,
    Device,
    EngineName,
    Generator,
    Preset,
    Quiet,
    RayAddress,
    Settings,
    WorkerCount,
    complete_benchmarks,
    complete_tables,
    overrides,
)
from carvid.cli.results import print_json, print_place

if TYPE_CHECKING:
    from carvid.benchmark.ablation import AblationResult
    from carvid.benchmark.bench_result import BenchResult

Data = Annotated[Path, typer.Argument(metavar="DATA", help="The data set's root.")]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=DATA,
        help="Part of the data set, val if not given; of referring sets also testA, testB, test.",
    ),
]  # fmt: skip
Limit = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", rich_help_panel=DATA,
        help="Images (of referring sets refs) in all, evenly spaced; 0 takes every one.",
    ),
]  # fmt: skip
Resume = Annotated[
    bool,
    typer.Option("--resume", rich_help_panel=OUTPUT, help="Go on after the images that are done."),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", rich_help_panel=OUTPUT, help="Replace earlier predictions in the folder."
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        "--csv", metavar="FILE", rich_help_panel=OUTPUT, help="Write every number to this CSV file."
    ),
]


def bench(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SET", autocompletion=complete_benchmarks,
            help="voc20, voc21, context59, context60, context459, coco-object, ade150, ade847, "
            "refcoco, refcoco+, refcocog or grefcoco.",
        ),
    ],
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", rich_help_panel=OUTPUT,
            help="Folder of predictions and numbers.",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", rich_help_panel=DATA,
            help="Only score the PNGs of this folder, of any method: <name>.png of each image, "
            "label k for class k; of each ref its mask.",
        ),
    ] = None,
    preset: Preset = "default",
    settings: Settings = [],  # noqa: B006  Typer's own way
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    device: Device = None,
    split: Split = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", rich_help_panel=DATA,
            help="Whose refs: unc, google or umd; the usual ones, if not given.",
        ),
    ] = None,
    old_order: Annotated[
        bool,
        typer.Option(
            "--old-order", rich_help_panel=DATA,
            help="Pascal Context's truth has the 20 classes of VOC first, as older converters "
            "wrote it.",
        ),
    ] = False,
    limit: Limit = 0,
    workers: WorkerCount = None,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    csv: Csv = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=OUTPUT,
            help="Draw the worst images to this PNG, truth and prediction side by side.",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run one of the paper's image benchmarks and put its numbers beside the paper's; 'carvid bench
    ablation' runs its Tables 2 to 6."""
    bars = show_progress(quiet)
    if (out is None) == (predictions is None):
        raise typer.BadParameter(
            "give either a folder for predictions, -o, or one of predictions to score, "
            "--predictions"
        )
    written = _checked(csv, plot)

    from carvid.base.threads import cores
    from carvid.benchmark.bench import bench as run

    if predictions is not None and workers is None:
        workers = cores()
    with nullcontext() if out is None else resumable(out):
        result = run(
            name, data, out, preset, overrides(settings, device), generator=weights_generator,
            classifier=weights_classifier, split=split, by=by, old_order=old_order, limit=limit,
            predictions=predictions, resume=resume, overwrite=overwrite, workers=workers,
            engine=engine, ray_address=ray_address, progress=bars, written=written,
        )  # fmt: skip
    _tell(result, csv, as_json=as_json)
    if plot is not None:
        result.plot_worst(plot)
    if out is not None and not as_json:
        print_place(f"predictions and results.json are in {out}", quiet=quiet)
    exit_if_failed(result.failed, result.samples, "image")


def ablation(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", autocompletion=complete_tables,
            help="recurrence, backbones, prompts, thresholds or background, or the paper's number "
            "of it, 2 to 6; or proposals: gradient CAMs and dense maps.",
        ),
    ],
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", rich_help_panel=OUTPUT,
            help="Each row is a run in <table>/<row> below it.",
        ),
    ],
    on: Annotated[
        str,
        typer.Option(
            metavar="SET", rich_help_panel=DATA,
            help="The benchmark: voc21, or coco-object of backbones, thresholds and proposals.",
        ),
    ] = "voc21",
    rows: Annotated[
        list[str] | None,
        typer.Option(
            "--rows", metavar="NAME", rich_help_panel=DATA, help="Only this row; repeatable."
        ),
    ] = None,
    preset: Preset = "reference",
    settings: Settings = [],  # noqa: B006
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    device: Device = None,
    split: Split = None,
    limit: Limit = 0,
    workers: WorkerCount = None,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    csv: Csv = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run the rows of an ablation, each beside the paper's number, if it has one."""
    bars = show_progress(quiet)
    written = _checked(csv)

    from carvid.benchmark.ablation import ablate

    with resumable(out):
        result = ablate(
            table, data, out, preset, overrides(settings, device), on=on, rows=rows,
            generator=weights_generator, classifier=weights_classifier, split=split, limit=limit,
            resume=resume, overwrite=overwrite, workers=workers, engine=engine,
            ray_address=ray_address, progress=bars, written=written,
        )  # fmt: skip
    _tell(result, csv, as_json=as_json)
    if not as_json:
        print_place(f"each row's predictions are in {out / result.table.name}", quiet=quiet)
    exit_if_failed(result.failed, result.results[0].samples, "image")


def _checked(*paths: Path | None) -> list[Path]:
    """Return the files that are to be written; say early which cannot be."""
    from carvid.base.guard import check_distinct, check_writable

    written = [path for path in paths if path is not None]
    check_distinct(written, remedy="give --csv and --plot a file each")
    for path in written:
        check_writable(path)
    return written


def _tell(result: BenchResult | AblationResult, csv: Path | None, *, as_json: bool) -> None:
    """Print a result, and write its CSV."""
    from carvid.base.files import write_text

    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(result.to_text())
    if csv is not None:
        write_text(csv, result.to_csv())
