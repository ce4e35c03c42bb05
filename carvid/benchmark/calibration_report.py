"""What a calibration found: its table, and the preset that it writes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import yaml

from carvid.base.errors import ConfigError, OutputError
from carvid.base.guard import check_apart
from carvid.config import Config, load_config, settings_files
from carvid.version import __version__

SUFFIXES = (".yaml", ".yml")
OF_THIS_MACHINE = ("weights.device", "sam.cache", "overlay.enabled")
"""Settings that are not a preset's business."""
WRITTEN = "Written by carvid calibrate"
BEGINS = (f"# {WRITTEN}", '{"calibration": ')
"""How its two files begin; others are never replaced."""
TOLERANCE = 1.0
"""Points that another processor, or half precision, may cost."""
ENDS = BEGINNING, CHOSEN = "the preset", "as chosen"
"""Names of the first row and of the last."""
FRAMES = "frames"
"""`expect.protocol`: mean J&F over the queries of single frames."""


@dataclass(frozen=True)
class Row:
    """What came of one variant, in percent."""

    name: str
    """The setting that was changed, `BEGINNING` or `CHOSEN`."""
    j_and_f: float
    """Mean J&F over all queries at the best θ; one that is not there counts 100 without a mask."""
    kept_all: float
    """Mean J&F over the queries that are there, if none is dropped."""
    present_kept: float
    """Share of the queries that are there which get a mask."""
    absent_dropped: float
    """Share of those that are not which get none; nan if there are none."""
    theta: float
    """The best θ."""
    gain: float = 0.0
    """J&F over the best row before."""
    error: float = 0.0
    """Standard error of `gain`, over images; nan of a single one, on which nothing is taken."""
    taken: bool = False
    """Whether the rows below begin with it."""


@dataclass(frozen=True)
class Calibration:
    """Settings that were chosen, and by what."""

    out: Path
    preset: str | Config
    """Where it began."""
    config: Config
    """What was chosen."""
    weights: tuple[str, ...]
    """The two CLIPs, a hub's with the revision."""
    rows: tuple[Row, ...]
    """As they were tried; the last is what was chosen, measured as it stands."""
    frames: int
    """How many."""
    queries: int
    """Expressions asked, each frame's counted."""
    absent_queries: int
    """Expressions of other videos among what was asked."""
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
                if value != before[section][key] and f"{section}.{key}" not in OF_THIS_MACHINE
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
            gain = f"{row.gain:+6.2f} ± {row.error:.2f}" if row.name not in ENDS else ""
            lines.append(
                f"{row.name:{width}} {row.j_and_f:5.1f}  {row.kept_all:8.1f}  "
                f"{row.present_kept:12.1f}  {dropped:>14}  {row.theta:4.2f}  {gain:>14}"
                f"{'  taken' if row.taken and row.name not in ENDS else ''}".rstrip()
            )
        return "\n".join(lines)

    def to_yaml(self) -> str:
        """Return the preset, with what it is expected to reach."""
        last = self.rows[-1]
        base = {} if isinstance(self.preset, Config) else {"extends": self.preset}
        expect = {
            "data": self.facts["data"], "split": self.facts["split"], "weights": list(self.weights),
            "protocol": FRAMES, "measure": "J&F", "value": round(last.j_and_f, 2),
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
            f"{WRITTEN}: settings chosen by, and measured on, the same frames. "
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
        raise ConfigError(f"a preset is a .yaml, got '{out}'; give such a name with -o")
    if not out.parent.is_dir():
        raise OutputError(f"no folder '{out.parent}'; make it, or choose another with -o")
    there = [path for path in (out, out.with_suffix(".json")) if path.exists()]
    for path in there:
        if not path.is_file() or not path.read_text(errors="replace").startswith(BEGINS):
            raise OutputError(f"'{path}' is of no calibration; choose another name with -o")
    check_apart(settings_files(preset), (out, out.with_suffix(".json")))
    if there and not (resume or overwrite):
        raise OutputError(
            f"'{there[0]}' is there already; add --resume to go on with it, --overwrite to replace "
            "it, or choose another name with -o"
        )
