"""A command's help, with its options in groups; and commands of two words.

Typer draws groups only by rich: boxes, colours, and half a second. Here they are plain text, which
is the same in a pipe and fits a narrow terminal.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

NO_PANEL = "Options"
"""Heading of the options that are in no group, below the groups."""

Row = tuple[str, str]
"""An option's names, and what is said of it."""


class PanelCommand(TyperCommand):
    """A command whose help has a heading for each `rich_help_panel`, in the order of the options
    of each."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        arguments: list[Row] = []
        panels: dict[str, list[Row]] = {}
        rest: list[Row] = []
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is None:  # hidden
                continue
            if parameter.param_type_name == "argument":
                arguments.append(row)
            elif panel := getattr(parameter, "rich_help_panel", None):
                panels.setdefault(panel, []).append(row)
            else:
                rest.append(row)
        for heading, rows in {"Arguments": arguments, **panels, NO_PANEL: rest}.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class CommandGroup(TyperGroup):
    """Commands, some of whose names are two words, though the first is a command, too."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        if (name := " ".join(args[:2])) in self.commands:
            return name, self.commands[name], args[2:]
        found: tuple[Any, Any, list[str]] = super().resolve_command(ctx, args)
        return found
