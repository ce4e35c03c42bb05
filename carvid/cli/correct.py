"""`carvid correct`: say in a frame of a finished run what is wrong; the rest follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carvid.cli.messages import show_progress
from carvid.cli.options import (
    QUESTION,
    AsJson,
    Classifier,
    Device,
    Formats,
    Generator,
    Quiet,
)
from carvid.cli.results import print_found, print_json, print_place

if TYPE_CHECKING:
    from carvid.run.corrections import Correction

Clicks = Annotated[
    list[str] | None,
    typer.Option(
        "--click", metavar="FRAME:X,Y[:no]", rich_help_panel=QUESTION,
        help="Here is the thing in that frame (from 0), or with :no, this is not it; a box is "
        "LEFT,TOP,RIGHT,BOTTOM; of several expressions end with :LABEL. Repeatable.",
    ),
]  # fmt: skip
Corrections = Annotated[
    Path | None,
    typer.Option(
        "--correct", metavar="FILE", rich_help_panel=QUESTION,
        help="The same from a JSON file; see docs/corrections.md.",
    ),
]  # fmt: skip


def corrections_of(
    file: Path | None, clicks: Sequence[str] | None, texts: Sequence[str]
) -> list[Correction]:
    """Return what `--correct` and then `--click` say of a run with these expressions.

    Raises:
        ConfigError: something else than corrections.
    """
    if file is None and not clicks:
        return []
    from carvid.run.corrections import parse_click, read_corrections

    found = [] if file is None else read_corrections(file, texts)
    return [*found, *(parse_click(click, texts) for click in clicks or ())]


def correct(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a finished run.")],
    click: Clicks = None,
    file: Corrections = None,
    keep: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", rich_help_panel=QUESTION,
            help="Of the corrections that the run has, keep the first N only; 0 undoes all.",
        ),
    ] = None,
    formats: Formats = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    device: Device = None,
) -> None:  # fmt: skip
    """Correct a finished run by clicks; masks, scores and overlay are written anew."""
    bars = show_progress(quiet)

    from carvid.base.errors import ConfigError
    from carvid.base.interrupt import finishing_frames
    from carvid.cli.messages import resumable
    from carvid.config import load_config
    from carvid.corrections.write import uncorrected

    facts = uncorrected(folder).facts
    said = corrections_of(file, click, facts.texts)
    if not said and keep is None:
        raise ConfigError("say what is wrong with --click, --correct or --keep")
    names = [] if device is None else [f"weights.device={device}"]
    with resumable(folder, option=None):
        from carvid.pipeline import load

        model = load(
            load_config(facts.config, names), generator=weights_generator,
            classifier=weights_classifier,
        )  # fmt: skip
        with finishing_frames() as stop:
            track = model.correct(
                folder, said, keep=keep, formats=formats or (), progress=bars, stop=stop
            )
    result = {"out": str(folder), **track.summary(), "corrections": len(track.facts.corrections)}
    if as_json:
        print_json(result)
        return
    print_found(result)
    print_place(f"corrected masks, scores and overlay are in {folder}", quiet=quiet)
