"""What the command line prints on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from carvid.base.names import shown
from carvid.base.words import plural

if TYPE_CHECKING:
    from carvid.config import PhrasesConfig


def print_json(values: Mapping[str, Any]) -> None:
    """Print a result in one line; letters that stdout cannot encode as JSON's escapes."""
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(values)
    typer.echo(text)


def print_place(line: str, *, quiet: bool) -> None:
    """Print where files are: what is asked for is in them, so `--quiet` leaves the line away."""
    if not quiet:
        typer.echo(shown(line))


def print_phrases(
    texts: Iterable[str],
    config: PhrasesConfig,
    *,
    as_json: bool,
    as_said: Collection[str] = (),
) -> None:
    """Print how texts are understood; those of `as_said` are left to CLIP as they are."""
    from carvid.car.phrases import understand
    from carvid.car.queries import in_one_line

    plain = replace(config, enabled=False)
    phrases = [understand(in_one_line(text), plain if text in as_said else config)
               for text in texts]  # fmt: skip
    if as_json:
        print_json({"texts": [phrase.to_json() for phrase in phrases]})
    else:
        for phrase in phrases:
            typer.echo(phrase)


def print_found(facts: Mapping[str, Any], name: str = "") -> None:
    """Print a line for each expression of a run.

    Args:
        facts: of `Track.summary`.
        name: how each line begins.
    """
    shown = facts["expressions"]
    if facts.get("mode") == "semantic":  # of hundreds of classes most are in no frame
        shown = [entry for entry in shown if entry["frames_found"]]
    for entry in shown:
        typer.echo(
            f"{name}{entry['label']}: {entry['text']}: in {entry['frames_found']} of "
            f"{plural(facts['frames'], 'frame')}, mean score {entry['mean_score']:.2f}"
        )
        if not entry["frames_found"] and facts["frames"]:
            typer.echo(f"{name}{entry['label']}: {_why_not(entry, facts['theta'])}")

    if absent := len(facts["expressions"]) - len(shown):
        typer.echo(f"{name}in no frame: {absent} of {len(facts['expressions'])} classes")


def _why_not(entry: Mapping[str, Any], theta: float) -> str:
    """Say why an expression was found in no frame."""
    why = (
        f"not found: best score {entry['best_score']:.2f} at frame {entry['best_frame']}, "
        f"θ {theta:.2f}"
    )
    if entry["best_score"] > theta:
        why += "; the frames around it speak against it"
    return why
