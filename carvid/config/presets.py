"""A preset's name, a YAML file, a run.json, an index, `key=value` overrides -> a resolved `Config`.

A preset is a YAML file that holds only what differs from the defaults, or from the preset that its
`extends` names.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from carvid.base.errors import ConfigError, suggest
from carvid.base.files import read_json, read_text, shipped_folder
from carvid.base.names import is_there
from carvid.config.declare import BOOLEANS, names_of
from carvid.config.expectations import ExpectConfig, expectations_in
from carvid.config.sections import Config

MAX_SETTINGS_BYTES = 100_000
"""Longer files of settings are not read."""
INDEX_JSON = "index.json"
"""In the folder of an index: among other things the settings that it answers with."""


def load_config(source: str | Path | Config, overrides: Iterable[str] = ()) -> Config:
    """Resolve a preset's name, a YAML file, a run.json, an index's folder or a Config, then
    `key=value` overrides.

    Raises:
        ConfigError: no such preset or file, or a setting that cannot be used.
    """
    config = source if isinstance(source, Config) else _load_preset(str(source), seen=())
    for override in overrides:
        config = _override(config, override)
    return config


def load_over(base: Config, preset: str) -> Config:
    """Return `base` with what a preset sets of its own, and those that it extends but for the
    first: a benchmark's settings in another way of working than the one they were released for.

    Raises:
        ConfigError: no such preset, or a setting that cannot be used.
    """
    chain = [read_preset(preset)]
    while (parent := chain[-1].pop("extends", None)) is not None:
        chain.append(read_preset(str(parent)))
    for values in reversed(chain[:-1] or chain):
        values.pop("expect", None)
        base = Config.from_dict(values, base=base)
    return base


def load_expectations(source: str | Path) -> tuple[ExpectConfig, ...]:
    """Return what a preset, by name or as a YAML file, says that it reaches; none of a run.json or
    of an index.

    What it `extends` has expectations of its own, which are not these.

    Raises:
        ConfigError: no such preset or file, or an entry that cannot be used.
    """
    name = str(source)
    made = name.endswith(".json") or is_there(Path(name) / INDEX_JSON)
    return () if made else expectations_in(read_preset(name))


def settings_files(source: str | Path | Config) -> list[Path]:
    """Return the user's files that `load_config` has read the settings from, without a fault."""
    files: list[Path] = []
    while not isinstance(source, Config) and Path(source).suffix in (".json", ".yaml", ".yml"):
        files.append(Path(source))
        source = _parent_of(files[-1]) if files[-1].suffix != ".json" else Config()
    return files


def load_run_config(path: Path) -> Config:
    """Return the resolved Config that a `run.json` holds.

    Raises:
        ConfigError: no such file, or none that a run wrote.
    """
    try:
        values = read_json(path)["config"]
    except OSError:
        raise ConfigError(f"no file '{path}'; give the run.json of a run's folder") from None
    except (ValueError, KeyError, TypeError):
        values = None
    if not isinstance(values, Mapping):
        raise ConfigError(f"'{path}' is no run.json; give the one of a run's folder")
    return Config.from_dict(values)


def preset_names() -> list[str]:
    """Names of the presets that come with carvid, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in shipped_folder("configs").iterdir()
                  if entry.name.endswith(".yaml"))  # fmt: skip


def _load_preset(name: str, seen: tuple[str, ...]) -> Config:
    if name in seen:
        raise ConfigError(f"presets extend each other in a circle: {' -> '.join((*seen, name))}")
    if name.endswith(".json"):
        return load_run_config(Path(name))
    if is_there(Path(name) / INDEX_JSON):
        return load_run_config(Path(name) / INDEX_JSON)
    values = read_preset(name)
    expectations_in(values)
    values.pop("expect", None)
    parent = values.pop("extends", None)
    base = _load_preset(str(parent), (*seen, name)) if parent else Config()
    return Config.from_dict(values, base=base)


def read_preset(name: str) -> dict[str, Any]:
    """Read a preset's file as it stands."""
    if name.endswith((".yaml", ".yml")):
        path: Any = Path(name)
        if not (is_there(path) and path.is_file()):
            raise ConfigError(f"no settings file '{name}'; give a preset's name or a YAML file")
    else:
        path = shipped_folder("configs") / f"{name}.yaml"
        if not (is_there(path) and path.is_file()):
            raise ConfigError(f"unknown preset '{name}'{suggest(name, preset_names())}")
    return _settings_in(path, name)


def _parent_of(path: Path) -> str | Config:
    """What a file of settings extends."""
    return str(_settings_in(path, str(path)).get("extends") or "") or Config()


def _settings_in(path: Any, name: str) -> dict[str, Any]:
    """The sections that a YAML file holds, and what it extends."""
    try:
        text = read_text(path, limit=MAX_SETTINGS_BYTES)
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it repeats a value by *name, and may grow without end; write it out")
        values = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read '{name}' as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"'{name}' must hold sections of settings, such as 'car:'")
    return values


def _override(config: Config, text: str) -> Config:
    """Apply one `section.key=value`; a list is written `a,b,c`."""
    path, equals, value = text.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"cannot read the setting '{text}'; write section.key=value")
    if section in names_of(Config):
        hint = typing.get_type_hints(type(getattr(config, section))).get(key)
        return Config.from_dict({section: {key: _parse(value, hint)}}, base=config)
    raise ConfigError(f"unknown section '{section}'{suggest(section, names_of(Config))}")


def _parse(value: str, hint: Any) -> Any:
    """Read a command-line value as its setting's type; what does not parse is left as it is."""
    value = value.strip()
    if typing.get_origin(hint) is tuple:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if hint is bool:
        return BOOLEANS.get(value.lower(), value)
    if hint in (int, float):
        try:
            return hint(value)
        except ValueError:
            return value
    return value
