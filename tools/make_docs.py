#!/usr/bin/env python
"""Write the pages of docs/ that follow from the code: every setting, preset, command and option.

    tools/make_docs.py            write docs/settings.md and docs/commands.md
    tools/make_docs.py --check    write nothing; exit 1 if a page is not what it would be

Settings come from the dataclasses of `carvid.config.Config` and the texts under their fields,
presets from configs/*.yaml, commands from the command line itself. torch is not needed.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import typer.main

from carvid.base.files import shipped_folder
from carvid.cli import app
from carvid.config import Config, ExpectConfig, load_config, load_expectations, preset_names
from carvid.config.old_settings import OLD_SETTINGS
from carvid.config.presets import read_preset

DOCS = Path(__file__).parent.parent / "docs"
MADE_BY = "<!-- Written by tools/make_docs.py; change the code, not this page. -->"
LETTERS: dict[Any, str] = {int: "N", float: "X", Path: "PATH"}
"""How a value is written in an option's column, by its type; any other is TEXT."""


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": lambda: settings_page(),
    "commands.md": lambda: commands_page(),
}
"""Every generated page: its file name in docs/, and what gives its text."""


# Settings


def settings_page() -> str:
    """Return docs/settings.md: sections, presets, what a preset may say, and old names."""
    sections = typing.get_type_hints(Config)
    return _page(
        "# Settings and presets",
        "Every setting, with its default, what it may be and what it means, and every preset, with "
        "what it changes.",
        MADE_BY,
        "A setting is given as `--set section.key=value` on the command line, as "
        '`carvid.load("default", ["section.key=value"])` in Python, or in a YAML file that '
        "`--preset` names:",
        "```yaml\n# mine.yaml\nextends: default\ncar:\n  theta: 0.4\nprompts:\n"
        "  kinds: [blur]\n```",
        "In `--set` a list is written with commas (`prompts.kinds=circle,blur`), and true and "
        "false as `on`/`off`, `yes`/`no` or `true`/`false`. `carvid config PRESET` prints a preset "
        "with everything resolved; every run keeps its resolved settings in `run.json`, which "
        "`--preset` reads too.",
        "Sections: " + ", ".join(f"[`{name}`](#{name})" for name in sections) + ". "
        "[Presets](#presets). [Old names](#old-names).",
        *(_section(name, kind) for name, kind in sections.items()),
        "## Presets",
        "A preset holds only what differs from the defaults above, or from the preset that it "
        "`extends`, and so do these tables. `carvid run` and `carvid.load` take `default` if "
        "nothing else is said.",
        *map(_preset, sorted(preset_names(), key=lambda name: (name != "default", name))),
        "### expect",
        "A preset may list, under `expect`, what it is expected to reach. These are no settings of "
        "a run; [Protocols](protocols.md#what-a-preset-is-expected-to-reach) says how they are "
        "checked.",
        _table(_setting_rows(ExpectConfig, "")),
        "## Old names",
        "Settings of earlier versions still load, with a one-line note.",
        _table([("Old name", "Now"), *((f"`{old}`", _now(old)) for old in OLD_SETTINGS)]),
    )


def _section(name: str, kind: type) -> str:
    return _page(f"## {name}", _one_line(kind.__doc__), _table(_setting_rows(kind, f"{name}.")))


def _setting_rows(kind: Any, prefix: str) -> Iterator[tuple[str, ...]]:
    """Yield the header and a row for each field of a section."""
    yield ("Setting", "Default", "Allowed", "Meaning")
    meanings, hints = field_docs(kind), typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        yield (
            f"`{prefix}{field.name}`",
            _value(field.default),
            _allowed(hints[field.name], field.metadata),
            meanings[field.name],
        )


def field_docs(kind: type) -> dict[str, str]:
    """Return the text under each field of a class, on one line."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[name] = _one_line(text)
    return docs


def _allowed(hint: Any, declared: Mapping[str, Any]) -> str:
    low, high, choices = (declared[key] for key in ("low", "high", "choices"))
    listed = typing.get_origin(hint) is tuple
    if choices:
        return ("any of " if listed else "") + ", ".join(f"`{choice}`" for choice in choices)
    if hint is bool:
        return "`true`, `false`"
    if declared["template"]:
        return "texts with `{}`" if listed else "a text with `{}`"
    kind = "texts" if listed else {int: "whole number", float: "number"}.get(hint, "text")
    if low is None and high is None:
        return kind
    return f"{kind}, {f'{low:g} or more' if high is None else f'{low:g} to {high:g}'}"


def _preset(name: str) -> str:
    """A preset's own words, and what it changes."""
    text = (shipped_folder("configs") / f"{name}.yaml").read_text(encoding="utf-8")
    head = [line.strip("# ") for line in takewhile(lambda line: line[:1] == "#", text.splitlines())]
    parent = read_preset(name).get("extends", "default")
    rows = list(_changes(load_config(parent).to_dict(), load_config(name).to_dict()))
    table = _table([("Setting", f"`{parent}`", f"`{name}`"), *rows]) if rows else "Changes nothing."
    base = f"All that [`{parent}`](#{parent}) changes, and:" if parent != "default" else ""
    return _page(
        f"### {name}", " ".join(head), base, table, *map(_expected, load_expectations(name))
    )


def _changes(base: dict[str, Any], preset: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for section, values in preset.items():
        for key, value in values.items():
            if value != base[section][key]:
                yield f"`{section}.{key}`", _value(base[section][key]), _value(value)


def _expected(each: ExpectConfig) -> str:
    return (
        f"Expected: {each.measure} {each.value:g} ± {each.tolerance:g} on {each.data}, "
        f"{each.split}, protocol `{each.protocol}`, with {' and '.join(each.weights)} "
        f"(source: {each.source})."
    )


def _now(old: str) -> str:
    """What a setting of an earlier version is called now."""
    named = OLD_SETTINGS[old](True)
    return "gone, and has no effect" if named is None else f"`{old.partition('.')[0]}.{named[0]}`"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, tuple | list):
        return ", ".join(f"`{item}`" for item in value) or "none"
    if isinstance(value, float):
        return f"`{value:.4g}`"
    return f"`{value}`" if value != "" else "empty"


# Commands


def commands_page() -> str:
    """Return docs/commands.md: every command, its arguments and its options."""
    found = dict(commands())
    root = typer.main.get_command(app)
    listed = [
        f"- [`carvid {name}`](#{_anchor(name)}): {_sentence(command.help)}"
        for name, command in found.items()
    ]
    return _page(
        "# Commands",
        "Every command with its arguments and options, as `carvid COMMAND --help` prints them.",
        MADE_BY,
        "\n".join(listed),
        "Results go to stdout (as JSON with `--json`), progress and warnings to stderr. Exit "
        "status: 0 done, 1 a failure that is told in one line with its remedy, 2 a wrong command "
        "line, 128 and its number if a signal ended it: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.",
        "Options of `carvid` itself:",
        _table(_option_rows(root.params, {})),
        *(_command(name, command) for name, command in found.items()),
    )


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that `carvid --help` shows: its name, a group's in front, and itself."""

    def under(group: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if getattr(command, "hidden", False):
                continue
            if hasattr(command, "commands"):
                yield from under(command, (*names, name))
            else:
                yield " ".join((*names, name)), command

    return under(typer.main.get_command(app), ())


def options(command: Any) -> list[Any]:
    """Return the options of a command that its help shows, in order."""
    return [each for each in command.params if _is_option(each) and not each.hidden]


def _command(name: str, command: Any) -> str:
    hints = typing.get_type_hints(inspect.unwrap(command.callback))
    arguments = [each for each in command.params if not _is_option(each)]
    usage = " ".join(["carvid", name, *map(_argument, arguments), "[OPTIONS]"])
    parts = [f"## {name}", _one_line(command.help), f"```\n{usage}\n```"]
    if command.epilog:
        parts.append(_example(command.epilog))
    if arguments:
        rows = ((f"`{_argument(each)}`", _help(each)) for each in arguments)
        parts.append(_table([("Argument", "Meaning"), *rows]))
    for panel, shown in _panels(options(command)).items():
        parts += [*([f"**{panel}**"] if panel else []), _table(_option_rows(shown, hints))]
    return _page(*parts)


def _panels(shown: Iterable[Any]) -> dict[str, list[Any]]:
    """Options by the heading that they stand under in the help; those without one come last."""
    panels: dict[str, list[Any]] = {}
    for each in shown:
        panels.setdefault(getattr(each, "rich_help_panel", None) or "", []).append(each)
    rest = panels.pop("", [])
    return {**panels, **({"Other options" if panels else "": rest} if rest else {})}


def _option_rows(shown: Iterable[Any], hints: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("Option", "Default", "Meaning")
    for each in shown:
        short, long = ([name for name in each.opts if name.startswith("--") == is_long]
                       for is_long in (False, True))  # fmt: skip
        names = ", ".join([*short, *long[:1]])
        if each.secondary_opts:
            names += " / " + ", ".join(each.secondary_opts)
        value = "" if each.is_flag else f" {_letters(each, hints.get(each.name))}"
        others = "".join(f", `{name}{value}`" for name in long[1:])
        yield f"`{names}{value}`{others}", _default(each), _help(each) + _range(each)


def _letters(option: Any, hint: Any) -> str:
    """What stands for an option's value: its own word, its choices, or its type."""
    kinds = [each for each in (typing.get_args(hint) or (hint,)) if each is not type(None)]
    if option.metavar:
        return str(option.metavar)
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, kinds))
    return LETTERS.get(kinds[0], "TEXT")


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.is_flag:
        both = option.secondary_opts
        return f"`{(option.opts if option.default else both)[0]}`" if both else ""
    return "" if option.default in (None, [], ()) else f"`{option.default}`"


def _range(option: Any) -> str:
    low, high = getattr(option, "min", None), getattr(option, "max", None)
    if low is None:
        return ""
    return f" {low} or more." if high is None else f" {low} to {high}."


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    if "[" in name:  # it says itself what may be left out
        return str(name)
    return (name if argument.required else f"[{name}]") + "..." * (argument.nargs == -1)


def _help(param: Any) -> str:
    many = _is_option(param) and param.multiple and "repeatable" not in (param.help or "").lower()
    return _one_line(param.help) + " Repeatable." * many


def _example(epilog: str) -> str:
    """The lines after "Example:" as a block to copy."""
    lines = _one_line(epilog).removeprefix("Example: ")
    return f"```bash\n{lines}\n```"


def _is_option(param: Any) -> bool:
    return param.opts[0].startswith("-")


# Markdown


def _page(*parts: str) -> str:
    """Parts with a blank line between them; empty ones are left out."""
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    head, *body = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    columns = "|-" * (head.count(" | ") + 1) + "|"
    return "\n".join([f"| {head} |", columns, *(f"| {row} |" for row in body)])


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _sentence(text: str | None) -> str:
    """The first sentence of a help text."""
    return _one_line(text).partition(". ")[0].rstrip(".") + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; tell what differs")
    check = parser.parse_args().check
    old = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        old.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    for name in old:
        print(f"docs/{name} {'is not up to date; run tools/make_docs.py' if check else 'written'}")
    sys.exit(bool(check and old))


if __name__ == "__main__":
    main()
