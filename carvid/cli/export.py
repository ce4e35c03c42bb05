"""`carvid export`: a finished run in further formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carvid.cli.messages import log, show_progress
from carvid.cli.options import OUTPUT, Quiet, complete_formats
from carvid.cli.results import print_place


def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a finished run.")],
    formats: Annotated[
        list[str],
        typer.Option(
            "--format", "-f", metavar="NAME", rich_help_panel=OUTPUT,
            autocompletion=complete_formats,
            help="coco, alpha, alpha-each, green, matte, cutouts or html; repeatable.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", rich_help_panel=OUTPUT,
            help="Where to; the run's own folder if not given.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write a run's masks, also corrected ones, in further formats."""
    bars = show_progress(quiet)

    from carvid.exports.export import export as write
    from carvid.exports.export import files_of
    from carvid.run.track import Track

    track, place = Track.open(folder), folder if out is None else out
    if track.newer_masks():
        log.info(
            "masks in %s are newer than its run.json; if they were corrected, scores.csv still has "
            "the scores and areas of the run", folder,
        )  # fmt: skip
    write(track, place, formats, progress=bars)
    print_place(f"{', '.join(files_of(formats))} in {place}", quiet=quiet)
