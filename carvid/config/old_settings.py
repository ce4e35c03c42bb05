"""Settings of earlier versions, under their present names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from carvid.config.declare import BOOLEANS

log = logging.getLogger("carvid")

OLD_SETTINGS: dict[str, Callable[[Any], tuple[str, Any] | None]] = {
    "car.keep_best": lambda value: (
        "present", "best" if BOOLEANS.get(str(value).lower(), value) else "ask"
    ),
    "temporal.alike": lambda value: ("same_iou", value),
    "temporal.fresh": lambda value: ("max_new", value),
    "temporal.prior": lambda value: None,
}  # fmt: skip
"""Settings of earlier versions, and what they are now; None: they are gone."""


def renamed(section: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their present names; old ones are told, in a line each."""
    named = {}
    for key, value in changes.items():
        if not (rename := OLD_SETTINGS.get(f"{section}.{key}")):
            named[key] = value
            continue
        now = rename(value)
        told = "gone, and has no effect"
        if now is not None:
            named[now[0]] = now[1]
            told = f"now {section}.{now[0]}={now[1]}; it was read so"
        log.warning("the setting %s.%s is %s", section, key, told)
    return named
