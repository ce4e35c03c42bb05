"""The commands, what each is called, and how the command line ends.

Results go to stdout, bars, messages and errors to stderr. Exit 0 done, 1 a failure in one line, 2 a
wrong command line, 128 and the signal's number if one ended it: 130 Ctrl-C, 143 SIGTERM, 129
SIGHUP. Heavy imports stay inside the commands.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from carvid.base.errors import CarvidError
from carvid.base.interrupt import ending_signals, exit_status
from carvid.base.memory import telling_out_of_memory
from carvid.base.names import printing_any_text, shown
from carvid.base.threads import sleeping_threads
from carvid.cli.about import config, demo, info
from carvid.cli.app_command import app as web_app
from carvid.cli.bench import ablation, bench
from carvid.cli.correct import correct
from carvid.cli.data import calibrate, davis, evaluate
from carvid.cli.export import export
from carvid.cli.index import index
from carvid.cli.messages import NAME, messages_on_stderr
from carvid.cli.panels import CommandGroup, PanelCommand
from carvid.cli.run import run
from carvid.cli.show import overlay, view
from carvid.cli.submit import submit
from carvid.version import __version__

WRONG_COMMAND_LINE = 2
"""Exit status."""
INTERRUPTED = 130
"""Likewise."""

app = typer.Typer(
    name=NAME,
    cls=CommandGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Masks in every frame of a video for the object that a sentence names, without training.",
    epilog='Example: carvid run clip.mp4 --expr "a white dog" -o out/',
)
for name, command, example in (
    ("run", run, 'carvid run clip.mp4 --expr "a woman" --expr "a white dog" -o out/'),
    ("correct", correct, "carvid correct out/ --click 120:350,210 --click 120:400,80:no"),
    ("index", index, "carvid index clip.mp4 -o clip.idx"),
    ("overlay", overlay, "carvid overlay clip.mp4 out/masks -o overlay.mp4"),
    ("view", view, "carvid view out/"),
    ("export", export, "carvid export out/ --format coco --format matte"),
    ("app", web_app, "carvid app -o projects/"),
    ("davis", davis, "carvid davis DAVIS -o runs/a --resume"),
    ("eval", evaluate, "carvid eval runs/a DAVIS --protocol refdavis17"),
    ("submit", submit, "carvid submit runs/m --for mevis -o mevis.zip"),
    ("calibrate", calibrate, "carvid calibrate DAVIS -o calibrated.yaml"),
    ("bench", bench, "carvid bench voc21 DATA -o runs/voc21 --preset reference --resume"),
    ("bench ablation", ablation, "carvid bench ablation prompts DATA -o runs --limit 100"),
    ("demo", demo, "carvid demo -o out/demo"),
    ("config", config, "carvid config default --set car.theta=0.4"),
    ("info", info, "carvid info --json"),
):
    app.command(name, cls=PanelCommand, epilog=f"Example: {example}")(command)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"carvid {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(WRONG_COMMAND_LINE)


def main() -> None:
    """Run the command line; what users can mend becomes one line on stderr, or two."""
    with printing_any_text(), messages_on_stderr():
        try:
            with ending_signals(), sleeping_threads(), telling_out_of_memory():
                status = app(prog_name=NAME, standalone_mode=False)
            if status == INTERRUPTED:  # Typer's own, whichever signal it was
                status = exit_status()
        except CarvidError as error:
            _print_error(str(error))
            status = 1
        except typer.TyperException as error:
            _print_error(_wording(error))
            _print_where_help_is(error)
            status = error.exit_code
    if status:
        sys.exit(status)


def _print_error(message: str) -> None:
    typer.echo(f"{NAME}: {shown(message)}", err=True)


def _wording(error: typer.TyperException) -> str:
    """Return what is wrong; of a combination of options in the command's own words, as Typer would
    put "Invalid value:" before them."""
    if isinstance(error, typer.BadParameter) and error.param is None and error.message:
        return error.message
    return error.format_message()


def _print_where_help_is(error: typer.TyperException) -> None:
    context = getattr(error, "ctx", None)  # what is wrong with a command line has it
    if context is not None:
        typer.echo(f"Try '{context.command_path} --help' for help.", err=True)
