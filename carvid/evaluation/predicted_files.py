"""The files of predictions, looked for before any is read: what is missing, what is too much."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from carvid.base.errors import DatasetError
from carvid.datasets.folders import describe_missing, few
from carvid.datasets.open import dataset_folders, description_files
from carvid.datasets.refdavis import SET_NAMES
from carvid.datasets.truth import Truth
from carvid.evaluation.sequences import MaskSequence

EXPRESSION_FOLDER = "expressions"
"""Masks of single expressions, `<video>/<key>/<frame>.png`, beneath a run's folder."""
WRITE_ALL = "write a mask for every frame, an empty one where nothing is found"


def check_files(
    sequences: Sequence[MaskSequence],
    known: Mapping[str, Collection[str]],
    truth: Path,
    remedy: str = WRITE_ALL,
) -> list[str]:
    """Look for every predicted file before any is read; return notes on those without truth.

    Args:
        sequences: what is scored.
        known: file names of each video's frames.
        truth: where the truth is.
        remedy: how the message ends.

    Raises:
        DatasetError: predictions are missing.
    """
    problems, notes = [], []
    for sequence in sequences:
        have = {p.name for p in sequence.folder.iterdir()} if sequence.folder.is_dir() else set()
        lacking = [Path(m.name).stem for m in sequence.truth if m.name not in have]
        if lacking:
            problems.append(describe_missing(sequence.folder, lacking, len(sequence.truth), ".png"))
        spare = sorted(
            n for n in have.difference(known[sequence.video]) if re.fullmatch(r"[^.].*\.png", n)
        )
        if spare:
            notes.append(
                f"'{truth / sequence.video if truth.is_dir() else truth}' lacks {few(spare)}, "
                f"which '{sequence.folder}' has; they count for nothing"
            )
    if problems:
        raise DatasetError(f"predictions are missing: {few(problems, '; ')}; {remedy}")
    return notes


def all_files(
    predictions: Path, data: Path, split: str, sequences: Iterable[MaskSequence]
) -> Iterator[Path]:
    """Return what belongs to the predictions and to the data set, read by a protocol or not."""
    yield from description_files(data)
    for name in (split, *dataset_folders()):
        yield from (data / name).rglob("*")
    yield predictions / "run.json"
    for name in (*SET_NAMES, EXPRESSION_FOLDER, "runs"):
        yield from (predictions / name).rglob("*")
    for sequence in sequences:
        yield from sequence.folder.glob("*")


def check_strays(sequences: Sequence[MaskSequence], truth: Truth) -> None:
    """Refuse predicted videos without truth, which are a mistake in one of the two trees.

    Raises:
        DatasetError: there are such.
    """
    depth = 2 if sequences[0].expression is not None else 1
    bases = {sequence.folder.parents[depth - 1] for sequence in sequences}
    strays = (
        folder
        for base in bases
        for folder in base.iterdir()
        if not (truth.folder / folder.name).is_dir()
        and any(folder.glob("*/" * (depth - 1) + "*.png"))
    )
    refuse_strays(strays, truth.folder)


def refuse_strays(folders: Iterable[Path], truth: Path) -> None:
    """Say which predicted videos have no truth.

    Raises:
        DatasetError: there are such.
    """
    strays = sorted(map(str, folders))
    if strays:
        raise DatasetError(
            f"no truth in '{truth}' for {few(strays)}; unpack it there, or choose the videos to "
            "evaluate"
        )
