"""Corrections as pages and clients send them: JSON becomes `carvid.Correction`s."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import carvid
from carvid.base.errors import ConfigError

MOST = 200
"""So many are taken at a time."""


def corrections_from(values: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return corrections of `frame`, from 0, `label`, from 1, and `point` [x, y] with `wanted`, or
    `box` [left, top, right, bottom]; pixels of the run's frames.

    Raises:
        ConfigError: they are something else, or too many.
    """
    make = getattr(carvid, "Correction", None)
    if make is None:
        raise ConfigError("this version of carvid cannot correct a run")
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) > MOST:
        raise ConfigError(f"corrections must be a list of at most {MOST}")
    return [make(**_fields(each)) for each in values]


def _fields(value: Mapping[str, Any]) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = {"frame": int(value["frame"]), "label": int(value["label"])}
        if value.get("box") is not None:
            fields["box"] = _numbers(value["box"], 4)
        else:
            fields["point"] = _numbers(value["point"], 2)
            fields["wanted"] = bool(value["wanted"])
    except (LookupError, TypeError, ValueError, AttributeError):
        raise ConfigError(
            'a correction is {"frame": 12, "label": 1, "point": [350, 210], "wanted": true}, or '
            'has "box": [x0, y0, x1, y1]'
        ) from None
    return fields


def _numbers(values: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError
    return numbers
