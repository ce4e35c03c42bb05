"""The rows of the paper's ablations, Tables 2 to 6: what each changes, and the published mIoU; and
of one more, which the paper does not have: gradient CAMs and dense maps as proposals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

from carvid.base.errors import ConfigError, suggest
from carvid.config import Config
from carvid.datasets.class_lists import background_words

FULL = 67.6
"""mIoU of CaR itself on VOC with 21 classes, percent; on COCO Object it is `FULL_COCO`."""
FULL_COCO = 36.6
LISTS = {"T": "terrestrial", "A": "aquatic_atmospheric", "M": "man_made"}
"""Letters of Table 6 → lists of background words."""


@dataclass(frozen=True)
class AblationRow:
    """One row."""

    name: str
    """It is the name of its folder, too."""
    changes: tuple[str, ...]
    """`section.key=value`, over the settings of the benchmark."""
    paper: Mapping[str, float]
    """Benchmark → the published mIoU, percent; nan where the paper has none."""


@dataclass(frozen=True)
class AblationTable:
    """One table."""

    name: str
    number: int | None
    """The paper's; None of a table that it does not have."""
    rows: tuple[AblationRow, ...]
    note: str = ""
    """What the paper leaves open."""

    @property
    def title(self) -> str:
        """As messages and heads have it."""
        return f"Table {self.number} ({self.name})" if self.number else self.name


NAMES: dict[str, int | None] = {
    "recurrence": 2, "backbones": 3, "prompts": 4, "thresholds": 5, "background": 6,
    "proposals": None,
}  # fmt: skip
"""The tables, and the paper's numbers of them, if it has them."""


def ablation_table(name: str, on: str, config: Config) -> AblationTable:
    """Return a table with the rows that the paper has for a benchmark.

    Args:
        name: one of `NAMES`, or the paper's number.
        on: `voc21`, or `coco-object` where the paper has it.
        config: the settings that the rows change; its two CLIPs stand for B and L.

    Raises:
        ConfigError: no such table, or none for this benchmark.
    """
    by_number = {str(number): title for title, number in NAMES.items() if number}
    title = by_number.get(name, name)
    if title not in NAMES:
        raise ConfigError(f"no ablation '{name}'{suggest(name, (*NAMES, *by_number))}")
    rows = {
        "recurrence": _recurrence, "backbones": lambda: _backbones(config), "prompts": _prompts,
        "thresholds": _thresholds, "background": _background, "proposals": _proposals,
    }[title]()  # fmt: skip
    rows = tuple(row for row in rows if on in row.paper)
    if not rows:
        raise ConfigError(
            f"Table {NAMES[title] or title} has no rows for '{on}'; take voc21, or, of backbones, "
            "thresholds and proposals, coco-object"
        )
    return AblationTable(title, NAMES[title], rows, _NOTES.get(title, ""))


_NOTES = {
    "recurrence": "the paper does not state what is kept without recurrence: one step keeps what "
    "scores above θ, nothing-dropped all classes",
    "prompts": "of four further pairs in the paper it is not known which is which",
    "background": "the released settings have 23 words of these lists",
    "proposals": "the paper has gradient CAMs only",
}


def _row(name: str, changes: Mapping[str, object], **paper: float) -> AblationRow:
    values = (f"{key}={value}" for key, value in changes.items())
    return AblationRow(name, tuple(values), {on.replace("_", "-"): v for on, v in paper.items()})


def _recurrence() -> tuple[AblationRow, ...]:
    return (
        _row("nothing-dropped", {"car.max_steps": 1, "car.theta": 0}, voc21=15.2),
        _row("one-step", {"car.max_steps": 1}, voc21=15.2),
        _row("recurrence", {}, voc21=FULL),
        _row("gradient-cam", {"proposals.affinity": "false"}, voc21=41.1),
    )


def _backbones(config: Config) -> tuple[AblationRow, ...]:
    models = {"B": config.weights.generator, "L": config.weights.classifier}
    papers = {
        ("B", "B"): (54.1, 15.9), ("B", "L"): (FULL, FULL_COCO), ("L", "B"): (50.6, 14.1),
        ("L", "L"): (57.6, 32.5),
    }  # fmt: skip
    return tuple(
        _row(
            f"{first}-{second}",
            {"weights.generator": models[first], "weights.classifier": models[second]},
            voc21=voc, coco_object=coco,
        )
        for (first, second), (voc, coco) in papers.items()
    )  # fmt: skip


def _prompts() -> tuple[AblationRow, ...]:
    papers = {"circle": 66.9, "contour": 66.0, "blur": 66.4, "gray": 66.1, "black": 61.8,
              "circle,blur": FULL}  # fmt: skip
    return tuple(
        _row(kinds.replace(",", "+"), {"prompts.kinds": kinds}, voc21=value)
        for kinds, value in papers.items()
    )


def _thresholds() -> tuple[AblationRow, ...]:
    voc = {(0.3, 0.6, 0.4): 67.0, (0.4, 0.6, 0.4): FULL, (0.5, 0.6, 0.4): 67.0,
           (0.4, 0.5, 0.4): 67.4, (0.4, 0.7, 0.4): 67.5, (0.4, 0.6, 0.3): 67.3,
           (0.4, 0.6, 0.5): 67.0}  # fmt: skip
    coco = {(0.5, 0.3, 0.6): 35.4, (0.5, 0.3, 0.4): 36.1, (0.4, 0.3, 0.5): 35.8,
            (0.5, 0.3, 0.5): FULL_COCO, (0.6, 0.3, 0.5): 35.9, (0.5, 0.4, 0.5): 36.3,
            (0.5, 0.5, 0.5): 36.0}  # fmt: skip
    return tuple(
        AblationRow(
            f"eta{eta}-theta{theta}-lambda{lambda_}",
            (f"prompts.eta={eta}", f"car.theta={theta}", f"proposals.lambda_={lambda_}"),
            {on: value},
        )
        for on, papers in (("voc21", voc), ("coco-object", coco))
        for (eta, theta, lambda_), value in papers.items()
    )


def _background() -> tuple[AblationRow, ...]:
    papers = {"none": 64.3, "T": 65.6, "A": 64.9, "M": 66.4, "T+A": 65.8, "A+M": 66.4,
              "T+M": 65.8, "T+A+M": FULL}  # fmt: skip
    rows = []
    for name, value in papers.items():
        lists = [] if name == "none" else [background_words(LISTS[k]) for k in name.split("+")]
        words = dict.fromkeys(word for each in lists for word in each)
        rows.append(_row(name, {"proposals.background": ",".join(words)}, voc21=value))
    return tuple(rows)


def _proposals() -> tuple[AblationRow, ...]:
    """By both methods; of dense maps also what the loop and the affinity are worth."""
    dense = {"proposals.method": "dense"}
    others: dict[str, dict[str, object]] = {
        "dense": {},
        "dense-one-step": {"car.max_steps": 1},
        "dense-nothing-dropped": {"car.max_steps": 1, "car.theta": 0},
        "dense-no-affinity": {"proposals.affinity": "false"},
    }
    return (
        _row("gradcam", {"proposals.method": "gradcam"}, voc21=FULL, coco_object=FULL_COCO),
        *(
            _row(name, {**dense, **changes}, voc21=nan, coco_object=nan)
            for name, changes in others.items()
        ),
    )
