"""`carvid submit`: predictions packed for an evaluation server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carvid.base.words import plural
from carvid.cli.messages import show_progress
from carvid.cli.options import DATA, OUTPUT, AsJson, Quiet, complete_servers
from carvid.cli.results import print_json, print_place


def submit(
    predictions: Annotated[
        Path,
        typer.Argument(metavar="PREDICTIONS", help="A folder of predictions by carvid davis."),
    ],
    server: Annotated[
        str,
        typer.Option(
            "--for", metavar="NAME", rich_help_panel=DATA, autocompletion=complete_servers,
            help="mevis or ref-youtube-vos.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", rich_help_panel=OUTPUT, help="The zip to hand in."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", rich_help_panel=DATA,
            help="The data set's root, if it has been moved since.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", rich_help_panel=OUTPUT, help="Replace an earlier zip."),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Pack predictions as the server of MeViS or Ref-YouTube-VOS wants them."""
    bars = show_progress(quiet)

    from carvid.benchmark.submit import submit as pack

    result = pack(predictions, server, out, data=data, overwrite=overwrite, progress=bars)
    if as_json:
        print_json(result.to_json())
    else:
        packed = f"{plural(result.masks, 'mask')} of {plural(result.expressions, 'expression')}"
        print_place(f"{packed} in {plural(result.videos, 'video')} in {out}", quiet=quiet)
