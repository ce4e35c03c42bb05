"""scores.csv: a row for each frame and expression."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SCORE_COLUMNS = ("frame", "time_s", "label", "expression", "score", "cosine", "found", "area")
"""`score` is P[i, i] when the query was last asked, among all who compete; `cosine` is that of the
same view with the query's own text, empty where there was none; `area` counts the mask's pixels."""
HEADER = ",".join(SCORE_COLUMNS) + "\n"


@dataclass(frozen=True)
class FrameScores:
    """What scores.csv says of a frame and its N expressions."""

    time_s: float
    scores: list[float]
    cosines: list[float]
    """NaN where there was none."""


def read_scores(path: Path, count: int) -> Iterator[FrameScores]:
    """Yield what a scores.csv says of each frame, with `count` expressions."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from scores_in(file, count)


def scores_in(lines: Iterable[str], count: int) -> Iterator[FrameScores]:
    rows = csv.DictReader(lines)
    while frame := list(itertools.islice(rows, count)):
        if len(frame) == count:
            yield FrameScores(
                float(frame[-1]["time_s"]),
                [float(row["score"]) for row in frame],
                [float(row.get("cosine") or "nan") for row in frame],
            )


def to_csv(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as lines of a scores.csv, without its header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
