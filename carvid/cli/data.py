"""`carvid davis`, `carvid eval`, `carvid calibrate`: data sets of videos with expressions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carvid.base.words import plural
from carvid.cli.messages import exit_if_failed, log, resumable, show_progress
from carvid.cli.options import (
    DATA,
    OUTPUT,
    AsJson,
    Classifier,
    Device,
    EngineName,
    Generator,
    Overwrite,
    Preset,
    Quiet,
    RayAddress,
    Resolution,
    Resume,
    Settings,
    Split,
    Videos,
    WorkerCount,
    complete_protocols,
    overrides,
)
from carvid.cli.results import print_json, print_place

if TYPE_CHECKING:
    from carvid.evaluation.report import Comparison, Report

Data = Annotated[Path, typer.Argument(metavar="DATA", help="The data set's root.")]


def davis(
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", rich_help_panel=OUTPUT,
            help="Folder of the predictions.",
        ),
    ],
    preset: Preset = "davis",
    settings: Settings = [],  # noqa: B006  Typer's own way
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    device: Device = None,
    videos: Videos = None,
    split: Split = "valid",
    resolution: Resolution = None,
    workers: WorkerCount = None,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Predict masks for Ref-DAVIS 2017, Ref-YouTube-VOS, MeViS, Long-RVOS or ReVOS."""
    bars = show_progress(quiet)

    from carvid.benchmark.predict import predict

    with resumable(out):
        result = predict(
            data, out, preset, overrides(settings, device), generator=weights_generator,
            classifier=weights_classifier, videos=videos, split=split, resolution=resolution,
            workers=workers, engine=engine, ray_address=ray_address, resume=resume,
            overwrite=overwrite, progress=bars,
        )  # fmt: skip
    if as_json:
        print_json(result.to_json())
    else:
        sets = "four sets" if result.sets > 1 else "no sets, masks of expressions only"
        done = f"{plural(len(result.videos), 'video')} in {out} ({sets})"
        print_place(f"{done}; {plural(result.frames, 'frame')} done now", quiet=quiet)
    exit_if_failed(result.failed, len(result.videos), "video")


def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(metavar="PREDICTIONS", help="A folder of predictions, of any method."),
    ],
    data: Data,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME", rich_help_panel=DATA, autocompletion=complete_protocols,
            help="refdavis17, per-expression, semi-supervised or unsupervised; of other data sets "
            "mevis, ref-youtube-vos, long-rvos or revos.",
        ),
    ],
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", rich_help_panel=DATA,
            help="Other predictions, to put side by side with these.",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=OUTPUT, help="Write every number to this CSV file."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=OUTPUT,
            help="Draw the worst objects over time to this PNG.",
        ),
    ] = None,
    videos: Videos = None,
    split: Split = "valid",
    resolution: Resolution = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", rich_help_panel=DATA,
            help="Processes; as many as there are cores if not given.",
        ),
    ] = None,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", rich_help_panel=OUTPUT, help="Print every number as a Markdown table."
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Score predictions on a data set: J, F and J&F. Nothing is cached."""
    bars = show_progress(quiet)

    from carvid.base.guard import check_distinct, check_writable
    from carvid.base.threads import cores
    from carvid.evaluation import protocols
    from carvid.evaluation import report as reports

    written = [path for path in (csv, plot) if path is not None]
    check_distinct(written, remedy="give --csv and --plot a file each")
    for path in written:
        check_writable(path)

    def score(folder: Path) -> Report:
        return protocols.evaluate(
            folder, data, protocol, videos=videos, split=split, resolution=resolution,
            workers=cores() if workers is None else workers, progress=bars, written=written,
        )  # fmt: skip

    report = score(predictions)
    result: Report | Comparison = report
    notes = report.notes
    if compare is not None:
        other = score(compare)
        notes += tuple(note for note in other.notes if note not in notes)
        result = reports.compare(report, other, (str(predictions), str(compare)))
    for note in notes:
        log.warning("%s", note)
    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(result.to_markdown() if markdown else result.to_text())
    _write_files(report, csv, plot)


def _write_files(report: Report, csv: Path | None, plot: Path | None) -> None:
    from carvid.base.files import write_text
    from carvid.evaluation.report import plot_worst

    if csv is not None:
        write_text(csv, report.to_csv())
    if plot is not None:
        plot_worst(report, plot)


def calibrate(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="The root of Ref-DAVIS, with its masks.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", rich_help_panel=OUTPUT, help="The preset, a .yaml."
        ),
    ],
    preset: Preset = "default",
    settings: Settings = [],  # noqa: B006
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    device: Device = None,
    limit: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", rich_help_panel=DATA,
            help="Frames in all, evenly spaced; 0 takes every one.",
        ),
    ] = 60,
    absent: Annotated[
        bool,
        typer.Option(
            "--absent/--no-absent", rich_help_panel=DATA,
            help="Also ask for things of other videos, and choose θ by what is found of them.",
        ),
    ] = True,
    videos: Videos = None,
    split: Split = "valid",
    resolution: Resolution = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=OUTPUT, help="Continue what was interrupted."),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", rich_help_panel=OUTPUT, help="Replace an earlier calibration."),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Choose settings for a model by measuring on single frames, and write them as a preset."""
    bars = show_progress(quiet)

    from carvid.benchmark.calibrate import calibrate as choose

    with resumable(out):
        result = choose(
            data, out, preset, overrides(settings, device), generator=weights_generator,
            classifier=weights_classifier, limit=limit, absent=absent, videos=videos, split=split,
            resolution=resolution, resume=resume, overwrite=overwrite, progress=bars,
        )  # fmt: skip
    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(result.to_text())
        print_place(f"the preset is {out}", quiet=quiet)
