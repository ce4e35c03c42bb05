"""What a preset is expected to reach: the numbers under its `expect`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carvid.base.errors import ConfigError, suggest
from carvid.config.declare import Section, names_of, setting


@dataclass(frozen=True)
class ExpectConfig(Section):
    """What a preset is expected to reach; no setting of a run. A preset may list several."""

    data: str = setting("")
    """Name of the data set."""
    split: str = setting("valid")
    """Part of it."""
    weights: tuple[str, ...] = setting(())
    """Generator and classifier, those of the hub as name or name@revision."""
    protocol: str = setting("refdavis17", choices=("refdavis17", "frames"))
    """`refdavis17`: `carvid davis` and `carvid eval` with this protocol; `frames`: mean over what
    `carvid calibrate` asks of single frames."""
    measure: str = setting("J&F", choices=("J&F", "J", "F"))
    """What `value` is."""
    value: float = setting(0.0, low=0.0, high=100.0)
    """Percent."""
    tolerance: float = setting(1.0, low=0.0)
    """Points by which it may be missed."""
    limit: int = setting(0, low=0)
    """`frames`: how many, evenly spaced; 0 is all."""
    absent: bool = setting(True)
    """`frames`: expressions of other videos are asked, too."""
    source: str = setting("")
    """Where the value is from."""

    def to_dict(self) -> dict[str, Any]:
        """Return a plain mapping, tuples as lists."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def expectations_in(values: Mapping[str, Any]) -> tuple[ExpectConfig, ...]:
    entries: Any = values.get("expect") or []
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ConfigError("'expect' must be a list of mappings, such as '- value: 30.3'")
    known = names_of(ExpectConfig)
    for key in (key for each in entries for key in each):
        if key not in known:
            raise ConfigError(f"unknown key 'expect.{key}'{suggest(str(key), known)}")
    clean: list[dict[str, Any]] = [
        {k: tuple(v) if isinstance(v, list) else v for k, v in each.items()} for each in entries
    ]
    return tuple(ExpectConfig(**each) for each in clean)
