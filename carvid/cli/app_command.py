"""`carvid app`: the local web app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carvid.cli.messages import log, show_progress
from carvid.cli.options import (
    OUTPUT,
    Classifier,
    Device,
    Generator,
    Preset,
    Quiet,
    Settings,
    overrides,
)

if TYPE_CHECKING:
    from carvid.app.server import Server

SERVER = "Server"
LIMITS = "What may be uploaded"


def app(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", rich_help_panel=OUTPUT,
            help="Keep clips and runs there, a folder for each clip; else all is removed at the "
            "end.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", rich_help_panel=SERVER,
            help="Listen there; another one than loopback lets others in.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            metavar="N", rich_help_panel=SERVER, min=0, max=65535, help="0: any that is free."
        ),
    ] = 7860,
    show: Annotated[
        bool,
        typer.Option(
            "--show/--no-show", rich_help_panel=SERVER, help="Open the page in the browser."
        ),
    ] = True,
    max_upload: Annotated[
        float, typer.Option(metavar="MB", rich_help_panel=LIMITS, help="Size of a clip.")
    ] = 500.0,
    max_frames: Annotated[
        int, typer.Option(metavar="N", rich_help_panel=LIMITS, help="Frames of a clip.")
    ] = 3000,
    max_seconds: Annotated[
        float, typer.Option(metavar="S", rich_help_panel=LIMITS, help="Length of a clip.")
    ] = 300.0,
    max_windows: Annotated[
        int,
        typer.Option(
            metavar="N", rich_help_panel=LIMITS,
            help="Windows at work at a time; the one that was idle for longest makes room.",
        ),
    ] = 32,
    quiet: Quiet = False,
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    device: Device = None,
    preset: Preset = "default",
    settings: Settings = [],  # noqa: B006  Typer's own way
) -> None:  # fmt: skip
    """Serve a web page on this machine: open a clip, say what to find, look, correct, export."""
    show_progress(quiet)

    from carvid.app.doorkeeper import is_loopback
    from carvid.app.limits import Limits

    limits = Limits(
        upload_mb=max_upload, frames=max_frames, seconds=max_seconds, sessions=max_windows,
        idle_s=float("inf") if is_loopback(host) else 3600.0, from_disk=is_loopback(host),
    )  # fmt: skip
    if not is_loopback(host):
        log.warning(
            "listening on %s: whoever can reach this machine can use the app, without a password "
            "and without encryption; leave --host away to serve this machine alone", host,
        )  # fmt: skip

    from carvid.app.desk import Desk
    from carvid.app.models import Models
    from carvid.app.server import Server, workspace

    models = Models(
        preset, overrides(settings),
        {"generator": weights_generator, "classifier": weights_classifier}, device,
    )  # fmt: skip
    models.config  # noqa: B018  a wrong setting is told before the page is there
    with workspace(out) as root:
        keep = out is not None or is_loopback(host)  # what is temporary goes at the end
        server = Server(Desk(root, keep, limits, models), host, port)
        _serve(server, show=show, quiet=quiet, temporary=out is None)


def _serve(server: Server, *, show: bool, quiet: bool, temporary: bool) -> None:
    """Serve until Ctrl-C; then what is at work is let go after the frame at hand, or a moment."""
    from carvid.base.interrupt import exit_status
    from carvid.base.names import shown

    try:
        with server:
            typer.echo(server.url)
            if not quiet:
                stays = ", which is removed at the end (-o keeps it)" if temporary else ""
                log.info("clips and runs are in %s%s; Ctrl-C ends", shown(server.desk.root), stays)
            if show:
                import webbrowser

                webbrowser.open(server.url)
            server.wait()
    except KeyboardInterrupt:
        raise typer.Exit(exit_status()) from None
