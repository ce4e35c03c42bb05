"""What the command line says on stderr: the library's log, bars, and how to go on after Ctrl-C."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from carvid.cli.results import plural

log = logging.getLogger("carvid")
EMBEDDED = "tiny"
"""The name of the model that comes with carvid; its module would load torch."""
NO_HUB_BARS = "HF_HUB_DISABLE_PROGRESS_BARS"
"""The hub library's variable; it is read when that library is imported."""


class _StderrHandler(logging.Handler):
    """Prints `carvid: message`, above a bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # here, as most commands that print nothing need it not

        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Print what is logged within the block, each message once."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("carvid: %(message)s"))
    level, propagate, hub_bars = log.level, log.propagate, os.environ.get(NO_HUB_BARS)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # another handler would print the same once more
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
        if hub_bars is None:
            os.environ.pop(NO_HUB_BARS, None)


def show_progress(quiet: bool) -> bool:
    """Set what is told on stderr; return whether bars are: on a terminal, if not `quiet`.

    In a file a bar would be one endless line. There, lines that are logged say what was done. To be
    called before anything imports the hub library, which draws bars of its own.
    """
    if quiet:
        log.setLevel(logging.WARNING)
        os.environ.setdefault(NO_HUB_BARS, "1")
    return not quiet and sys.stderr.isatty()


@contextmanager
def resumable(out: Path, *, live: bool = False) -> Iterator[None]:
    """Say how an interrupted run continues; Typer would leave without a word."""
    try:
        yield
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            typer.echo(err=True)  # below the ^C
        if live:
            log.warning("interrupted; what came until then is in %s", out)
        else:
            log.warning("interrupted; continue with --resume -o %s", out)
        raise typer.Exit(130) from None


def warn_lost(source: str, lost: Iterable[str]) -> None:
    """Say what of an input could not be read."""
    for line in lost:
        log.warning("'%s': %s", source, line)


def warn_of_drawings(models: Iterable[str], found: Iterable[Mapping[str, Any]]) -> None:
    """Say what the embedded model does not know, if it has found nothing at all in a clip.

    Args:
        models: names of generator and classifier.
        found: of each clip what `Track.summary` says.
    """
    if EMBEDDED in models and any(
        not any(entry["frames_found"] for entry in facts["expressions"]) for facts in found
    ):
        log.warning(
            "the embedded model (%s) knows drawn things alone, and no photograph; for real videos "
            "use --preset default",
            EMBEDDED,
        )  # fmt: skip


def exit_if_failed(failed: Mapping[str, str], whole: int, thing: str, out: Path) -> None:
    """List what failed, and exit 1 if anything did.

    Args:
        failed: name → reason.
        whole: how many did not fail.
        thing: what they are, in the singular.
        out: the folder to resume in.
    """
    if not failed:
        return
    for name, reason in failed.items():
        log.error("%s failed: %s", name, reason)
    log.error(
        "%d of %s failed; mend them and continue with --resume -o %s",
        len(failed), plural(len(failed) + whole, thing), out,
    )  # fmt: skip
    raise typer.Exit(1)
