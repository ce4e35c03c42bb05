"""`carvid export`: a finished run in further formats, or several as one data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carvid.cli.messages import log, show_progress
from carvid.cli.options import OUTPUT, Quiet, complete_formats
from carvid.cli.results import print_place

if TYPE_CHECKING:
    from carvid.run.track import Track


def export(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="The folder of a finished run; several of them, or of a batch, for a data set.",
        ),
    ],
    formats: Annotated[
        list[str],
        typer.Option(
            "--format", "-f", metavar="NAME", rich_help_panel=OUTPUT,
            autocompletion=complete_formats,
            help="coco, youtube-vis, yolo, labelme (these join several runs), alpha, alpha-each, "
            "green, matte, png, exr, cutouts or html; repeatable.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", rich_help_panel=OUTPUT,
            help="Where to; the run's own folder if not given, which several runs have not.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write a run's masks, also corrected ones, in further formats; several runs as a data set."""
    bars = show_progress(quiet)

    from carvid.base.words import plural
    from carvid.exports.export import export as write
    from carvid.exports.export import files_of
    from carvid.exports.runs import find_runs, is_run
    from carvid.run.track import Track

    if len(folders) == 1 and is_run(folders[0]):
        track, place, said = Track.open(folders[0]), folders[0] if out is None else out, ""
        _tell_newer(track, folders[0])
        write(track, place, formats, progress=bars)
    else:
        runs = find_runs(folders)
        if out is None:
            raise typer.BadParameter("say where the data set of several runs goes, with --out")
        place, said = out, f", of {plural(len(runs), 'clip')}"
        write(runs, place, formats, progress=bars)
    print_place(f"{', '.join(files_of(formats))} in {place}{said}", quiet=quiet)


def _tell_newer(track: Track, folder: Path) -> None:
    """Say that masks were changed after the run."""
    if track.newer_masks():
        log.info(
            "masks in %s are newer than its run.json; if they were corrected, scores.csv still has "
            "the scores and areas of the run", folder,
        )  # fmt: skip
