"""What an evaluation comes to: JSON, CSV, Markdown, two runs side by side, a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import DatasetError
from carvid.base.files import replacing
from carvid.base.spreadsheet import as_text
from carvid.evaluation.regions import Statistics

COLUMNS = ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay")
PANEL_HW = (120, 640)
"""Size of an object's panel in a plot, pixels."""
J_COLOR, F_COLOR, INK, RULE = (30, 100, 200), (220, 110, 20), (40, 40, 40), (215, 215, 215)


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object, or of one expression, over a video."""

    video: str
    number: int
    """As official reports number it: in `unsupervised` by the order of the matched labels (so
    that swapped labels swap the numbers), elsewhere the object's id."""
    object_id: int
    """Its label in the truth, from 1; 0, as `number`, where an expression may name several."""
    label: int | None
    """The predicted label that was matched to it; None in a mean of sets."""
    j: Statistics
    f: Statistics
    expression: str | None = None
    """Key of the expression, where each has a mask of its own."""
    kind: str = ""
    """What sort of expression it is, where a protocol has means of each."""
    more: Mapping[str, float] = field(default_factory=dict)
    """What else is measured of it (tIoU, vIoU, N-acc., T-acc.), in [0, 1]."""
    j_frames: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), compare=False)
    """float64 (T,): J in each frame that counts."""
    f_frames: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), compare=False)
    """float64 (T,): F in each frame that counts."""

    @property
    def j_and_f(self) -> float:
        """(J + F) / 2."""
        return (self.j.mean + self.f.mean) / 2

    @property
    def title(self) -> str:
        expression = "" if self.expression is None else f" expression {self.expression}"
        return f"{self.video}{f' {self.number}' if self.number else ''}{expression}"

    def to_json(self) -> dict[str, Any]:
        """Return the fixed form: video, object, J_mean … F_decay; and what else there is."""
        names: dict[str, Any] = {"video": self.video}
        if self.number:
            names["object"] = self.number
        if self.expression is not None:
            names["expression"] = self.expression
        if self.kind:
            names["kind"] = self.kind
        return names | dict(zip(COLUMNS, (*self.j, *self.f), strict=True)) | dict(self.more)


@dataclass(frozen=True)
class Report:
    """Numbers of one evaluation, fractions in [0, 1]."""

    protocol: str
    objects: tuple[ObjectScore, ...]
    """In order of video and number; of `refdavis17` the means over the sets."""
    name: str = ""
    """Of a set: its folder."""
    sets: tuple[Report, ...] = ()
    """Of `refdavis17`: a report for each set."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the numbers."""
    truth: str = ""
    """Folder or file of the masks that predictions were held against, below the data set's root."""
    over_kinds: bool = False
    """Whether the mean is that of the means over each kind of expressions."""
    is_kind: bool = False
    """Whether it is of one kind of expressions, named after it."""

    @property
    def j(self) -> Statistics:
        """J over all objects."""
        return _mean(each.j for each in self._averaged)

    @property
    def f(self) -> Statistics:
        """F over all objects."""
        return _mean(each.f for each in self._averaged)

    @property
    def _averaged(self) -> Sequence[Report | ObjectScore]:
        return self.sets or (self.kinds if self.over_kinds else ()) or self.objects

    @property
    def kinds(self) -> tuple[Report, ...]:
        """A report for each kind of expressions, named after it; none where there are no kinds."""
        by_name: dict[str, list[ObjectScore]] = {}
        for each in self.objects:
            by_name.setdefault(each.kind, []).append(each)
        return tuple(
            Report(self.protocol, tuple(objects), name, is_kind=True)
            for name, objects in by_name.items()
            if name and not self.is_kind
        )

    @property
    def more(self) -> dict[str, float]:
        """What else is measured: the mean over the expressions of which it is."""
        names = dict.fromkeys(name for each in self.objects for name in each.more)
        return {
            name: float(np.mean([e.more[name] for e in self.objects if name in e.more]))
            for name in names
        }

    @property
    def j_and_f(self) -> float:
        """(J + F) / 2."""
        return (self.j.mean + self.f.mean) / 2

    def to_json(self) -> dict[str, Any]:
        """Return protocol, truth, J, F, J&F, what else is measured, and objects; of `refdavis17`
        also the sets, each with its name and all but the first two; of kinds their means."""
        values: dict[str, Any] = {"set": self.name}
        if not self.name:
            values = {"protocol": self.protocol, "truth": self.truth}
        values |= self._means()
        if kinds := self.kinds:
            values["kinds"] = [
                {"kind": each.name, "expressions": len(each.objects)} | each._means()
                for each in kinds
            ]
        values["objects"] = [each.to_json() for each in self.objects]
        if self.sets:
            values["sets"] = [each.to_json() for each in self.sets]
        return values

    def _means(self) -> dict[str, float]:
        return {"J": self.j.mean, "F": self.f.mean, "J&F": self.j_and_f} | self.more

    def to_csv(self) -> str:
        """Return a row for each object, and one for all; of `refdavis17` for each set as well, of
        kinds one each, whose name stands where a set's does. Names are written by `as_text`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        place = ("video", "object", "true_object", "label", "expression")
        others, kinds = [*self.more], self.kinds
        kind = ["kind"] if kinds else []
        writer.writerow(("protocol", "set", *place, "J&F", *COLUMNS, "truth", *kind, *others))
        for report in (self, *self.sets, *kinds):
            head, more = (self.protocol, report.name), report.more
            numbers = (report.j_and_f, *report.j, *report.f, self.truth)
            tail = (*[report.name for _ in kind], *(more.get(name, "") for name in others))
            writer.writerow((*head, "", "", "", "", "", *numbers, *tail))
            for o in () if report.is_kind else report.objects:
                video, expression = as_text(o.video), as_text(o.expression or "")
                values = (video, o.number or "", o.object_id or "", o.label, expression)
                tail = (*[o.kind for _ in kind], *(o.more.get(name, "") for name in others))
                writer.writerow((*head, *values, o.j_and_f, *o.j, *o.f, self.truth, *tail))
        return text.getvalue()

    def to_text(self) -> str:
        """Return the protocol, a short table in percent (J&F, J, F, what else is measured) and the
        truth."""
        others = [*self.more]
        rows = [
            (title, *_percent((each.j_and_f, each.j.mean, each.f.mean), each.more, others))
            for title, each in self._titled()
        ]
        table = columns([(f"{self.protocol}, percent", "J&F", "J", "F", *others), *rows])
        return f"{table}\ntruth: {self.truth}"

    def to_markdown(self) -> str:
        """Return a table in percent, the truth and the notes."""
        others = [*self.more]
        rows = [
            (title, *_percent((each.j_and_f, *each.j, *each.f), each.more, others))
            for title, each in self._titled()
        ]
        names = [*(name.replace("_", " ") for name in COLUMNS), *others]
        table = _table((f"{self.protocol}, percent", "J&F", *names), rows)
        notes = (f"Note: {note}." for note in self.notes)
        return "\n\n".join([table, f"Truth: {self.truth}.", *notes])

    def _titled(self) -> list[tuple[str, Report | ObjectScore]]:
        """The rows of a table: all, the sets or kinds, the objects."""
        sets = [(each.name, each) for each in (*self.sets, *self.kinds)]
        return [("all", self), *sets, *((each.title, each) for each in self.objects)]


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side, object by object; differences are second − first."""

    names: tuple[str, str]
    first: Report
    second: Report

    def pairs(self) -> list[tuple[ObjectScore, ObjectScore]]:
        """Return the scores of each object, in the first report's order."""
        other = {_key(each): each for each in self.second.objects}
        return [(each, other[_key(each)]) for each in self.first.objects]

    def to_json(self) -> dict[str, Any]:
        """Return protocol, truth, both runs' J, F, J&F, the difference, and that of each object."""
        reports = (self.first, self.second)
        values = [{"J": r.j.mean, "F": r.f.mean, "J&F": r.j_and_f} for r in reports]
        return {
            "protocol": self.first.protocol,
            "truth": self.first.truth,
            "runs": [{"name": n} | v for n, v in zip(self.names, values, strict=True)],
            "difference": {key: values[1][key] - values[0][key] for key in values[0]},
            "objects": [
                {"video": a.video, "object": a.object_id}
                | ({} if a.expression is None else {"expression": a.expression})
                | {"J&F": [a.j_and_f, b.j_and_f], "difference": b.j_and_f - a.j_and_f}
                for a, b in self.pairs()
            ],
        }

    def to_text(self) -> str:
        """Return the same table as `to_markdown`, in columns."""
        return columns([self._head(), *self._rows()])

    def to_markdown(self) -> str:
        """Return a table of J&F in percent."""
        return _table(self._head(), self._rows())

    def _head(self) -> tuple[str, ...]:
        return f"{self.first.protocol}, J&F in percent", *self.names, "difference"

    def _rows(self) -> list[tuple[str, ...]]:
        rows = [("all", self.first.j_and_f, self.second.j_and_f)]
        rows += [(_renumbered(a).title, a.j_and_f, b.j_and_f) for a, b in self.pairs()]
        return [
            (t, f"{100 * a:.2f}", f"{100 * b:.2f}", f"{100 * (b - a):+.2f}") for t, a, b in rows
        ]


def compare(first: Report, second: Report, names: tuple[str, str] = ("a", "b")) -> Comparison:
    """Put two reports of one protocol and data set side by side.

    Raises:
        DatasetError: they were made by different protocols, against different truths, or of
            different objects.
    """
    if first.protocol != second.protocol:
        raise DatasetError(
            f"'{names[0]}' was evaluated by {first.protocol}, '{names[1]}' by {second.protocol}, "
            "and these numbers are not comparable; evaluate both by one protocol"
        )
    if first.truth != second.truth:
        raise DatasetError(
            f"'{names[0]}' was held against {first.truth}, '{names[1]}' against {second.truth}; "
            "evaluate both against one truth"
        )
    different = {_key(o) for o in first.objects} ^ {_key(o) for o in second.objects}
    if different:
        video, object_id, _ = min(different, key=str)
        raise DatasetError(
            f"only one of '{names[0]}' and '{names[1]}' has {video} object {object_id}; evaluate "
            "both against one data set"
        )
    return Comparison(names, first, second)


def mean_of_sets(protocol: str, names: Sequence[str], reports: Sequence[Report]) -> Report:
    """Average the reports of several sets, object by object and as a whole."""
    sets = tuple(
        Report(
            protocol,
            tuple(
                sorted(
                    (_renumbered(each) for each in report.objects),
                    key=lambda each: (each.video, each.object_id),
                )
            ),
            name=name,
        )
        for name, report in zip(names, reports, strict=True)
    )
    objects = tuple(
        ObjectScore(
            each[0].video,
            each[0].object_id,
            each[0].object_id,
            None,
            _mean(one.j for one in each),
            _mean(one.f for one in each),
            j_frames=np.mean([one.j_frames for one in each], axis=0),
            f_frames=np.mean([one.f_frames for one in each], axis=0),
        )
        for each in zip(*(report.objects for report in sets), strict=True)
    )
    return Report(protocol, objects, sets=sets, notes=reports[0].notes)


def plot_worst(report: Report, path: Path, count: int = 8) -> None:
    """Draw J and F over time, as a PNG, for the objects whose J&F is lowest.

    Raises:
        OutputError: the place cannot be written.
    """
    worst = sorted(report.objects, key=lambda each: each.j_and_f)[:count]
    picture = np.concatenate([_panel(each) for each in worst])
    with replacing(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG")


def _panel(score: ObjectScore) -> NDArray[np.uint8]:
    """One object's values over time, uint8 (*PANEL_HW, 3) RGB."""
    height, width = PANEL_HW
    panel = np.full((height, width, 3), 255, np.uint8)
    left, right, top, bottom = 26, width - 10, 24, height - 10

    def write(text: str, x: int, y: int, color: tuple[int, int, int], size: float = 0.45) -> int:
        """Return where the text ends."""
        cv2.putText(panel, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)
        return x + int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0])

    for percent in (0, 50, 100):
        y = round(bottom - percent / 100 * (bottom - top))
        cv2.line(panel, (left, y), (right, y), RULE)
        write(str(percent), 2, y + 4, INK, 0.35)
    for values, color in ((score.j_frames, J_COLOR), (score.f_frames, F_COLOR)):
        x = np.linspace(left, right, len(values))
        points = np.stack([x, bottom - values * (bottom - top)], axis=1)
        line = points.round().astype(np.int32)[:, None]
        cv2.polylines(panel, [line], False, color, 1, cv2.LINE_AA)
    x_text = left
    for text, color in (
        (score.title, INK),
        (f"J {100 * score.j.mean:.1f}", J_COLOR),
        (f"F {100 * score.f.mean:.1f}", F_COLOR),
        (f"{len(score.j_frames)} frames", INK),
    ):
        x_text = write(text, x_text, 16, color) + 14
    return panel


def _renumbered(score: ObjectScore) -> ObjectScore:
    return replace(score, number=score.object_id)


def _percent(values: Iterable[float], more: Mapping[str, float], names: Sequence[str]) -> list[str]:
    """Values in percent; of what else is measured nothing where it is not."""
    given = [f"{100 * more[name]:.2f}" if name in more else "" for name in names]
    return [*(f"{100 * value:.2f}" for value in values), *given]


def _key(score: ObjectScore) -> tuple[str, int, str | None]:
    return score.video, score.object_id, score.expression


def _mean(each: Iterable[Statistics]) -> Statistics:
    return Statistics(*np.mean([tuple(one) for one in each], axis=0).tolist())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["-", *["-:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Align text to the left in the first column and to the right in the others."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
