"""`carvid run --classes`: the classes of a file in the place of expressions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from carvid.cli.options import QUESTION
from carvid.cli.results import print_json

if TYPE_CHECKING:
    from carvid.car.classes import Classes
    from carvid.config import Config

Asked: TypeAlias = "list[str] | Classes"
"""Expressions, or classes."""

ClassesFile = Annotated[
    Path | None,
    typer.Option(
        "--classes", metavar="FILE", rich_help_panel=QUESTION,
        help="Give each pixel one of the classes that a text file lists: 'name' or 'name: synonym, "
        "synonym' a line, 'stuff: name' for stuff.",
    ),
]  # fmt: skip


def settings_of(classes: Path | None) -> tuple[str, ...]:
    """What a file of classes, if there is one, sets; as `key=value`, before what the user sets."""
    from carvid.car.classes import CLASS_SETTINGS

    return () if classes is None else CLASS_SETTINGS


def asked_of(path: Path | None, texts: list[str], manifest: Path | None, config: Config) -> Asked:
    """What is to be found: the classes of a file, or else the expressions.

    Raises:
        typer.BadParameter: there are both, or the settings are not for classes.
        ConfigError: the file cannot be used.
    """
    from carvid.car.classes import read_classes

    if path is None:
        return texts
    if texts or manifest is not None:
        other = "--expr" if texts else "--manifest"
        raise typer.BadParameter(f"--classes says what to find, and so does {other}; give one")
    if config.car.mode != "semantic":
        raise typer.BadParameter(
            f"--classes compete with each other; leave car.mode={config.car.mode} away, or name "
            "them with --expr"
        )
    return read_classes(path)


def explain_classes(classes: Classes, distractors: Sequence[str], *, as_json: bool) -> None:
    """Print how a list of classes is understood, a class a line."""
    entries = []
    for label, (name, words) in enumerate(zip(classes.names, classes.synonyms, strict=True), 1):
        kind = "stuff" if name in classes.stuff else "thing"
        entries.append({"label": label, "name": name, "synonyms": list(words), "kind": kind})
        if not as_json:
            also = f"; also {', '.join(words)}" if words else ""
            typer.echo(f"{label}: {name} ({kind}){also}")
    if as_json:
        print_json({"classes": entries, "distractors": list(distractors)})
