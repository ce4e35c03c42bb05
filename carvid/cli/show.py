"""`carvid overlay`, `carvid view`: looking at masks that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carvid.base.names import shown, to_unicode
from carvid.base.words import plural
from carvid.cli.messages import show_progress
from carvid.cli.options import OUTPUT, Fps, Preset, Quiet, Settings, Style, overrides
from carvid.cli.results import print_place


def overlay(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="The video that was segmented.")],
    masks: Annotated[
        Path, typer.Argument(metavar="MASKS", help="A folder of DAVIS PNGs, one a frame.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", rich_help_panel=OUTPUT, help="The video to write."
        ),
    ],
    expr: Annotated[
        list[str] | None,
        typer.Option(
            "--expr", "-e", metavar="TEXT", rich_help_panel=OUTPUT,
            help="Names of labels 1, 2, …; from run.json if not given.",
        ),
    ] = None,
    fps: Fps = None,
    preset: Preset = "default",
    settings: Settings = [],  # noqa: B006  Typer's own way
    style: Style = [],  # noqa: B006
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Draw masks over a video."""
    bars = show_progress(quiet)

    from carvid.base.guard import check_apart
    from carvid.config import load_config, settings_files
    from carvid.media.frames import rate_of
    from carvid.show.masks_over_video import (
        draw_masks,
        expressions_beside,
        is_semantic_beside,
        rate_beside,
        selection_beside,
    )
    from carvid.show.overlay import with_legend

    config = load_config(preset, overrides(settings, style=style)).overlay
    check_apart(settings_files(preset), [out])
    texts = [to_unicode(text) for text in expr or ()] or expressions_beside(masks)
    count = draw_masks(
        masks,
        video,
        out,
        texts,
        with_legend(config, semantic=is_semantic_beside(masks)),
        frame_rate=rate_beside(masks) if fps is None else rate_of(fps),
        selection=selection_beside(masks),
        progress=bars,
    )
    print_place(f"{plural(count, 'frame')} in {out}", quiet=quiet)


def view(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a finished run.")],
    show: Annotated[
        bool, typer.Option("--show/--no-show", help="Open the page in the browser.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Make a web page of a run, if it has none of its masks yet, print where it is, and open it."""
    bars = show_progress(quiet)

    from carvid.exports.export import export
    from carvid.run.track import Track
    from carvid.show.page import is_current

    track, page = Track.open(folder), folder / "view.html"
    if not is_current(page, track):
        export(track, folder, ["html"], progress=bars)
    typer.echo(shown(page))
    if show:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())
