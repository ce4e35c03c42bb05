"""What a calibration found: its table, and the preset that it writes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import yaml

from carvid.base.errors import OUT, OVERWRITE, RESUME, ConfigError, OutputError
from carvid.base.guard import check_apart
from carvid.config import Config, load_config, settings_files
from carvid.version import __version__

SUFFIXES = (".yaml", ".yml")
NOT_IN_PRESETS = ("weights.device", "sam.cache", "overlay.enabled")
"""Settings that depend on the machine or the occasion, and are left out of a preset."""
WRITTEN_BY = "Written by carvid calibrate"
FILE_STARTS = (f"# {WRITTEN_BY}", '{"calibration": ')
"""First bytes of the two files, the .yaml and the .json; files with others are never replaced."""
TOLERANCE = 1.0
"""Percent points of J&F that another processor, or half precision, may cost."""
END_ROWS = FIRST_ROW, LAST_ROW = "the preset", "as chosen"
"""Names of the first row and of the last."""
FRAME_PROTOCOL = "frames"
"""`expect.protocol`: mean J&F over the queries of single frames."""


@dataclass(frozen=True)
class Row:
    """Scores of one variant, in percent. A query is present if the image shows what it names."""

    name: str
    """The setting that was changed, `FIRST_ROW` or `LAST_ROW`."""
    j_and_f: float
    """Mean J&F over all queries at the best θ; an absent query without a mask counts 100."""
    kept_all: float
    """Mean J&F over the present queries, if θ drops none."""
    present_kept: float
    """Share of the present queries that get a mask."""
    absent_dropped: float
    """Share of the absent queries that get none; nan if there are none."""
    theta: float
    """The best θ."""
    gain: float = 0.0
    """J&F less that of the best row before."""
    error: float = 0.0
    """Standard error of `gain` over images; nan of a single image, and then nothing is taken."""
    taken: bool = False
    """Whether the rows below begin with it."""


@dataclass(frozen=True)
class Calibration:
    """Settings that were chosen, and the scores by which they were."""

    out: Path
    preset: str | Config
    """The settings before."""
    config: Config
    """The settings that were chosen."""
    weights: tuple[str, ...]
    """The two CLIPs, a hub's with the revision."""
    rows: tuple[Row, ...]
    """In the order of trial; the last is of the chosen settings, θ included."""
    frames: int
    """How many frames were measured."""
    queries: int
    """How many expressions of their videos, each frame's counted."""
    absent_queries: int
    """How many expressions of other videos."""
    facts: Mapping[str, Any]
    """`data`'s name; `limit`, `absent`, `split` and `resolution` as `calibrate` was given them."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping; what is not a number is null."""
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            row.update({k: None for k, v in row.items() if isinstance(v, float) and isnan(v)})
        return {
            "out": str(self.out), "settings": self.changes(), "weights": list(self.weights),
            "frames": self.frames, "queries": self.queries,
            "absent_queries": self.absent_queries, "rows": rows,
        }  # fmt: skip

    def changes(self) -> dict[str, dict[str, Any]]:
        """Return what differs from the preset where it began (from the defaults, of a Config)."""
        base = Config() if isinstance(self.preset, Config) else load_config(self.preset)
        before, now = base.to_dict(), self.config.to_dict()
        changed = {
            section: {
                key: value
                for key, value in values.items()
                if value != before[section][key] and f"{section}.{key}" not in NOT_IN_PRESETS
            }
            for section, values in now.items()
        }
        return {section: values for section, values in changed.items() if values}

    def to_text(self) -> str:
        """Return the table."""
        head = "J&F  kept all  present kept  absent dropped     θ            gain"
        width = max(len(row.name) for row in self.rows)
        lines = [f"{'percent':{width}}  {head}"]
        for row in self.rows:
            dropped = "-" if isnan(row.absent_dropped) else f"{row.absent_dropped:.1f}"
            gain = f"{row.gain:+6.2f} ± {row.error:.2f}" if row.name not in END_ROWS else ""
            lines.append(
                f"{row.name:{width}} {row.j_and_f:5.1f}  {row.kept_all:8.1f}  "
                f"{row.present_kept:12.1f}  {dropped:>14}  {row.theta:4.2f}  {gain:>14}"
                f"{'  taken' if row.taken and row.name not in END_ROWS else ''}".rstrip()
            )
        return "\n".join(lines)

    def to_yaml(self) -> str:
        """Return the preset, with what it is expected to reach."""
        last = self.rows[-1]
        base = {} if isinstance(self.preset, Config) else {"extends": self.preset}
        expect = {
            "data": self.facts["data"], "split": self.facts["split"], "weights": list(self.weights),
            "protocol": FRAME_PROTOCOL, "measure": "J&F", "value": round(last.j_and_f, 2),
            "tolerance": TOLERANCE, "limit": self.facts["limit"],
            "absent": self.facts["absent"], "source": f"measured by carvid {__version__}",
        }  # fmt: skip
        values = {**base, **self.changes(), "expect": [expect]}
        header = textwrap.fill(
            self._header(), 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
        )
        return f"{header}\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}"

    def _header(self) -> str:
        """Say in sentences what was measured."""
        last, first = self.rows[-1], self.rows[0]
        absent = ""
        if self.absent_queries:
            absent = (
                f", {self.absent_queries} of them expressions of other videos, of which nothing "
            )
            absent += f"should be found: {last.absent_dropped:.1f} % were dropped"
        return (
            f"{WRITTEN_BY}: settings chosen by, and measured on, the same frames. "
            f"Data: {self.facts['data']}, {self.facts['split']}; frames: {self.frames}; queries: "
            f"{self.queries + self.absent_queries}{absent}. Weights: {' and '.join(self.weights)}. "
            "Mean J&F over the queries of single frames, without the temporal module, whose "
            f"settings stay: {last.j_and_f:.2f}; before, at its best θ, {first.j_and_f:.2f}."
        )


def check_places(out: Path, preset: str | Path | Config, *, resume: bool, overwrite: bool) -> None:
    """Check that a calibration may be written, without making anything.

    Raises:
        ConfigError: `out` is no .yaml.
        OutputError: it, or the .json beside it, is there and may not be replaced, or its folder is
            not there.
    """
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"a preset is a .yaml, got '{out}'; give such a name with {OUT}")
    if not out.parent.is_dir():
        raise OutputError(f"no folder '{out.parent}'; make it, or choose another with {OUT}")
    there = [path for path in (out, out.with_suffix(".json")) if path.exists()]
    for path in there:
        if not path.is_file() or not path.read_text(errors="replace").startswith(FILE_STARTS):
            raise OutputError(f"'{path}' is of no calibration; choose another name with {OUT}")
    check_apart(settings_files(preset), (out, out.with_suffix(".json")))
    if there and not (resume or overwrite):
        raise OutputError(
            f"'{there[0]}' is there already; add {RESUME} to go on with it, {OVERWRITE} to replace "
            f"it, or choose another name with {OUT}"
        )
