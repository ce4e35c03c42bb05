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


def fault_in_scores(path: Path, count: int, frames: int, *, header: bool) -> str | None:
    """Return what is wrong with the rows of the first frames, with `count` expressions each, of a
    file that may be cut or changed; None if nothing is.

    Args:
        path: the file.
        count: of expressions.
        frames: that must be there; more may be.
        header: whether it begins with one.
    """
    number = 0
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if header and file.readline() != HEADER:
                return f"'{path}' does not begin as carvid writes it"
            for number, row in enumerate(itertools.islice(csv.reader(file), frames * count)):
                frame, label = divmod(number, count)
                if (row[0], row[2], len(row)) != (str(frame), str(label + 1), len(SCORE_COLUMNS)):
                    return f"'{path}' is damaged at frame {frame}"
                _ = float(row[1]), float(row[4]), float(row[5] or "nan"), int(row[6]), int(row[7])
            more = next(csv.reader(file), None) if header else None
    except (OSError, ValueError, LookupError, csv.Error):
        return f"'{path}' is damaged or missing"
    if number + 1 < frames * count:
        return f"'{path}' ends before frame {(number + 1) // count} of {frames}"
    return None if more is None else f"'{path}' has more than the {frames} frames of the run"


def to_csv(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as lines of a scores.csv, without its header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
