"""What is taken out of a file's expressions: a table to read.

    tools/phrases_table.py FILE [--all]

FILE is a Ref-DAVIS or Ref-YouTube-VOS `meta_expressions.json`, or a text of one expression a line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from carvid.car.phrases import parse


def read_expressions(file: Path) -> dict[str, str]:
    """Return the expressions by `video/id`, or by their line's number."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".json":
        return {str(n): line for n, line in enumerate(text.splitlines(), 1) if line.strip()}
    return {
        f"{video}/{key}": entry["exp"]
        for video, about in sorted(json.loads(text)["videos"].items())
        for key, entry in about["expressions"].items()
    }


def main(
    file: Annotated[Path, typer.Argument(help="Expressions.", exists=True, dir_okay=False)],
    everything: Annotated[bool, typer.Option("--all", help="Those that stay whole, too.")] = False,
) -> None:
    """Print a line for each expression that is not left to CLIP as it stands."""
    phrases = {key: parse(text) for key, text in read_expressions(file).items()}
    typer.echo("| | expression | CLIP looks for | chosen by |\n|-|-|-|-|")
    for key, phrase in phrases.items():
        if phrase.wishes or everything:
            wishes = ", ".join(map(str, phrase.wishes))
            typer.echo(f"| {key} | {phrase.expression} | {phrase.text} | {wishes} |")
    read = sum(bool(phrase.wishes) for phrase in phrases.values())
    typer.echo(f"\n{read} of {len(phrases)} expressions are read; the others stay whole.")


if __name__ == "__main__":
    typer.run(main)
