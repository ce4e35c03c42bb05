"""What the command line says on stderr: the library's log, bars, and how to go on after Ctrl-C."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import typer

from carvid.base.interrupt import exit_status
from carvid.base.words import plural

NAME = "carvid"
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
def resumable(out: Path, *, live: bool = False, option: str | None = "--resume") -> Iterator[None]:
    """Say how an interrupted run continues, by an option; Typer would leave without a word."""
    terminals = [stream for stream in (sys.stdout, sys.stderr) if stream.isatty()]
    try:
        yield
    except KeyboardInterrupt:
        _mute_closed(terminals)
        if sys.stderr.isatty():
            typer.echo(err=True)  # below the ^C
        if live:
            log.warning("interrupted; what came until then is in %s", out)
        else:
            log.warning("interrupted; continue with: %s", command_to_resume(option))
        raise typer.Exit(exit_status()) from None


def command_to_resume(option: str | None = "--resume") -> str:
    """Return the command line as it was given, with an option, to be pasted into a shell."""
    program, *words = sys.argv
    called = [NAME]
    if Path(program).name == "__main__.py":  # python -m carvid
        called = [sys.orig_argv[0], "-m", NAME]
    if option is not None and option not in words:
        end = words.index("--") if "--" in words else len(words)
        words = [*words[:end], option, *words[end:]]
    return shlex.join([*called, *words])


def _mute_closed(streams: Iterable[TextIO]) -> None:
    """Let what is written to terminals that have been closed since be lost; it would fail, and
    change the exit status."""
    for stream in streams:
        if not stream.isatty():
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


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


def exit_if_failed(failed: Mapping[str, str], whole: int, thing: str) -> None:
    """List what failed, and exit 1 if anything did.

    Args:
        failed: name → reason.
        whole: how many did not fail.
        thing: what they are, in the singular.
    """
    if not failed:
        return
    for name, reason in failed.items():
        log.error("%s failed: %s", name, reason)
    log.error(
        "%d of %s failed; mend them and continue with: %s",
        len(failed), plural(len(failed) + whole, thing), command_to_resume(),
    )  # fmt: skip
    raise typer.Exit(1)
