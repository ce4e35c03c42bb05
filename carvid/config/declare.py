"""How a setting is declared: its default, what it may be, and the check of both."""

from __future__ import annotations

import dataclasses
import math
import typing
from string import Formatter
from typing import Any

from carvid.base.errors import ConfigError, suggest

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""How true and false are written on the command line."""


def setting(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    template: bool = False,
) -> Any:
    """Declare one setting: its default and what it may be (inclusive range, or choices).

    A template is a text, or a list of some, that an expression is put into.
    """
    return dataclasses.field(
        default=default,
        metadata={"low": low, "high": high, "choices": choices, "template": template},
    )


class Section:
    """Base of the sections: every field is checked against its declaration on construction."""

    def __post_init__(self) -> None:
        name = type(self).__name__.removesuffix("Config").lower()
        for field in dataclasses.fields(typing.cast(Any, self)):
            _check(f"{name}.{field.name}", getattr(self, field.name), field, type(self))


def _check(name: str, value: Any, field: dataclasses.Field[Any], owner: type) -> None:
    hint = typing.get_type_hints(owner)[field.name]
    if not _is_a(value, hint):
        note = ""
        if hint is float and isinstance(value, str):
            note = " (YAML reads 1e-1 as text; write 0.1 or 1.0e-1)"
        raise ConfigError(f"{name} must be {_type_name(hint)}, got {value!r}{note}")
    low, high, choices = (field.metadata[k] for k in ("low", "high", "choices"))
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        span = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise ConfigError(f"{name} must be {span}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, got {value!r}")
    if choices is not None:
        for item in value if isinstance(value, tuple) else (value,):
            if item not in choices:
                raise ConfigError(f"{name} cannot be '{item}'{suggest(str(item), choices)}")
    if field.metadata["template"]:
        _check_templates(name, value if isinstance(value, tuple) else (value,))


def _check_templates(name: str, templates: tuple[str, ...]) -> None:
    if not templates:
        raise ConfigError(f"{name} is an empty list; give a text with {{}} for the expression")
    for template in templates:
        if not _takes_expression(template):
            raise ConfigError(
                f"{name} must hold the expression as {{}}, and no other braces (two make a "
                f"brace), got {template!r}"
            )


def _takes_expression(template: str) -> bool:
    """Whether `template.format(expression)` works, and holds any expression as it is."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        return False
    fields = [(field, spec, way) for _, field, spec, way in parts if field is not None]
    return fields == [("", "", None)] or set(fields) == {("0", "", None)}


def _is_a(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return "a list of texts"
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(hint, "a text")


def names_of(owner: Any) -> list[str]:
    """Names of the settings of a section, or of the sections of all."""
    return [field.name for field in dataclasses.fields(owner)]
