"""Protocols by name, and their evaluation. Nothing is cached or skipped: a fault is an error.

    refdavis17       four sets, matched to the objects, mean over objects, then over sets
    unsupervised     one set of the same: the official unsupervised task of DAVIS 2017
    per-expression   one mask for each expression, mean over expressions
    semi-supervised  the official DAVIS 2017 task: labels name the objects

Numbers of different protocols are not comparable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from carvid.base.errors import ConfigError, DatasetError, suggest
from carvid.base.guard import check_apart
from carvid.datasets.expressions import Video
from carvid.datasets.folders import describe_missing, few
from carvid.datasets.open import dataset_folders, description_files, open_expressions
from carvid.datasets.refdavis import SET_NAMES
from carvid.datasets.truth import SEMI_SUPERVISED, UNSUPERVISED, Truth, open_truth
from carvid.evaluation.regions import statistics
from carvid.evaluation.report import ObjectScore, Report, mean_of_sets
from carvid.evaluation.sequences import MaskSequence, Matching, Scores
from carvid.evaluation.workers import score_sequences
from carvid.media.label_png import VOID_LABEL, read_label_png

MAX_PREDICTIONS = 20
"""As many predicted labels may be matched in a video (DAVIS 2019, unsupervised)."""
EXPRESSION_FOLDER = "expressions"
"""Masks of single expressions, `<video>/<key>/<frame>.png`, beneath a run's folder."""


@dataclass(frozen=True)
class Protocol:
    """How predictions are held against the truth."""

    name: str
    description: str
    truth: tuple[str, ...]
    """Kinds of annotations, the first that a data set has."""
    matching: Matching
    ends: bool = True
    """Whether the first and the last frame count."""
    folders: tuple[str, ...] = ("",)
    """Beneath the folder of predictions: one, or those of the sets."""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "refdavis17", "four sets, matched, mean over objects, then over sets",
            (UNSUPERVISED,), "hungarian", folders=SET_NAMES,
        ),
        Protocol(
            "per-expression", "a mask for each expression, mean over expressions",
            (UNSUPERVISED,), "expression",
        ),
        Protocol(
            "semi-supervised", "the official DAVIS 2017 task: labels name the objects",
            (SEMI_SUPERVISED,), "label", ends=False,
        ),
        Protocol(
            "unsupervised", "the official unsupervised DAVIS 2017 task: labels are matched",
            (UNSUPERVISED,), "hungarian",
        ),
    )
}  # fmt: skip


def evaluate(
    predictions: Path,
    data: Path,
    protocol: str,
    *,
    videos: Sequence[str] | None = None,
    split: str = "valid",
    resolution: str | None = None,
    workers: int = 1,
    progress: bool = False,
    written: Sequence[Path] = (),
) -> Report:
    """Score a folder of predictions, of carvid or of any other method.

    Args:
        predictions: `<video>/<frame>.png`, label maps as indexed PNGs; for `refdavis17` beneath
            `anno_0` … `anno_3`; for `per-expression` `<video>/<key>/<frame>.png`, beneath
            `expressions` if there is such a folder.
        data: root of the data set, as in `open_dataset`.
        protocol: a name in `PROTOCOLS`.
        videos: only these; otherwise all that the data set lists.
        split: which part of the data set.
        resolution: `480p` or `Full-Resolution`; 480p if it is there.
        workers: processes. With more than one, scripts need `if __name__ == "__main__":`.
        progress: whether to show a bar on stderr.
        written: where the report is to be written to.

    Raises:
        ConfigError: no such protocol.
        OutputError: one of `written` is read here.
        DatasetError: predictions or truth are not whole, or not of the form that the protocol
            asks for; the message names the files.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol '{protocol}'{suggest(protocol, PROTOCOLS)}")
    if workers < 1:
        raise ConfigError(f"workers is {workers}; give 1 or more")
    plan = PROTOCOLS[protocol]
    predictions, data = Path(predictions), Path(data)
    if not predictions.is_dir():
        raise DatasetError(f"no folder '{predictions}'; give the folder of predictions")
    truth = open_truth(data, plan.truth, split=split, resolution=resolution, videos=videos)
    if plan.matching == "expression":
        sequences = _expression_sequences(predictions, truth, open_expressions(data, split=split))
    else:
        sequences = _label_sequences(predictions, truth, plan)
    notes = _check_files(sequences, predictions, truth, plan)
    if videos is None:
        _check_strays(sequences, truth)
    check_apart(
        _all_files(predictions, data, split, sequences), written, remedy="choose another file"
    )
    scores = score_sequences(sequences, workers, progress)
    report = _report(sequences, scores, plan, notes)
    return replace(report, truth=truth.folder.relative_to(data).as_posix())


def _label_sequences(predictions: Path, truth: Truth, plan: Protocol) -> list[MaskSequence]:
    lacking = [name for name in plan.folders if not (predictions / name).is_dir()]
    if lacking:
        raise DatasetError(
            f"'{predictions}' lacks {', '.join(lacking)}, and {plan.name} is the mean of "
            f"{len(plan.folders)} sets; write all of them, or evaluate one set with "
            "--protocol unsupervised"
        )
    sequences = []
    for video in truth.videos:
        paths = truth.paths(video)
        counted = paths if plan.ends else paths[1:-1]
        if not counted:
            raise DatasetError(
                f"'{truth.folder / video}' has {len(paths)} frames, and {plan.name} leaves out the "
                "first and the last; take the video out of the list"
            )
        first = read_label_png(paths[0])
        # The official code counts objects in the first frame.
        objects = int(first.max(where=first != VOID_LABEL, initial=0))
        labels = objects if plan.matching == "label" else max(objects, MAX_PREDICTIONS)
        sequences += [
            MaskSequence(
                video, predictions / name / video, counted, plan.matching, objects, labels, index
            )
            for index, name in enumerate(plan.folders)
        ]
    return sequences


def _expression_sequences(
    predictions: Path, truth: Truth, videos: Iterable[Video]
) -> list[MaskSequence]:
    folder = predictions / EXPRESSION_FOLDER
    folder = folder if folder.is_dir() else predictions
    by_name = {video.name: video for video in videos}
    sequences, problems = [], []
    for name in truth.videos:
        expressions = by_name[name].expressions if name in by_name else ()
        if not expressions:
            problems.append(f"{name} has no expressions")
        for e in expressions:
            if e.object_id is None:
                problems.append(f"expression {e.key} of {name} names no object")
                continue
            sequences.append(
                MaskSequence(
                    name, folder / name / e.key, truth.paths(name), "expression", 1, 1,
                    expression=e.key, object_id=e.object_id,
                )
            )  # fmt: skip
    if problems:
        raise DatasetError(
            f"the expressions cannot be evaluated: {'; '.join(problems)}; give Ref-DAVIS with its "
            "object ids"
        )
    return sequences


def _check_files(
    sequences: Sequence[MaskSequence], predictions: Path, truth: Truth, plan: Protocol
) -> list[str]:
    """Look for every predicted file before any is read; return notes on those without truth."""
    known = {video: {path.name for path in truth.paths(video)} for video in truth.videos}
    problems, notes = [], []
    for sequence in sequences:
        have = {p.name for p in sequence.folder.iterdir()} if sequence.folder.is_dir() else set()
        lacking = [path.stem for path in sequence.truth if path.name not in have]
        if lacking:
            problems.append(describe_missing(sequence.folder, lacking, len(sequence.truth), ".png"))
        spare = sorted(n for n in have - known[sequence.video] if re.fullmatch(r"[^.].*\.png", n))
        if spare:
            notes.append(
                f"'{truth.folder / sequence.video}' lacks {few(spare)}, which "
                f"'{sequence.folder}' has; they count for nothing"
            )
    if not problems:
        return notes
    remedy = "write a mask for every frame, an empty one where nothing is found"
    folder = predictions / SET_NAMES[0]
    if plan.folders == ("",) and plan.matching != "expression" and folder.is_dir():
        remedy = f"evaluate all sets with --protocol refdavis17, or give '{folder}'"
    raise DatasetError(f"predictions are missing: {few(problems, '; ')}; {remedy}")


def _all_files(
    predictions: Path, data: Path, split: str, sequences: Iterable[MaskSequence]
) -> Iterator[Path]:
    """What belongs to the predictions and to the data set, read by this protocol or not."""
    yield from description_files(data)
    for name in (split, *dataset_folders()):
        yield from (data / name).rglob("*")
    yield predictions / "run.json"
    for name in (*SET_NAMES, EXPRESSION_FOLDER, "runs"):
        yield from (predictions / name).rglob("*")
    for sequence in sequences:
        yield from sequence.folder.glob("*")


def _check_strays(sequences: Sequence[MaskSequence], truth: Truth) -> None:
    """A predicted video without truth is a mistake in one of the two trees."""
    depth = 2 if sequences[0].expression is not None else 1
    bases = {sequence.folder.parents[depth - 1] for sequence in sequences}
    strays = sorted(
        str(folder)
        for base in bases
        for folder in base.iterdir()
        if not (truth.folder / folder.name).is_dir()
        and any(folder.glob("*/" * (depth - 1) + "*.png"))
    )
    if strays:
        raise DatasetError(
            f"no truth in '{truth.folder}' for {few(strays)}; unpack it there, or choose the "
            "videos to evaluate"
        )


def _report(
    sequences: Sequence[MaskSequence],
    scores: Sequence[Scores],
    plan: Protocol,
    notes: Sequence[str],
) -> Report:
    sets: list[list[ObjectScore]] = [[] for _ in plan.folders]
    notes = list(notes)
    for form in sorted(set[str]().union(*(each.forms for each in scores))):
        notes.append(f"predictions, or some of them, are no indexed PNGs; {form}")
    for sequence, each in zip(sequences, scores, strict=True):
        if sequence.expression is not None and not each.seen:
            raise DatasetError(
                f"the truth of {sequence.video} ('{sequence.truth[0].parent}') shows no object "
                f"{sequence.object_id}, which expression {sequence.expression} names; unpack the "
                "truth that belongs to the expressions"
            )
        if not sequence.objects and sequence.set_index == 0:
            notes.append(
                f"'{sequence.truth[0].parent}' shows no object in its first frame, where the "
                "official code counts them; the video counts for nothing"
            )
        sets[sequence.set_index] += _objects(sequence, each)
    if not sets[0]:
        raise DatasetError("no object in the first frame of any true video; check the truth")
    reports = [Report(plan.name, tuple(objects), notes=tuple(notes)) for objects in sets]
    return reports[0] if len(reports) == 1 else mean_of_sets(plan.name, plan.folders, reports)


def _objects(sequence: MaskSequence, scores: Scores) -> list[ObjectScore]:
    """Give each object the values of its label."""
    j, f = scores.j, scores.f
    if sequence.matching == "hungarian":
        from scipy.optimize import linear_sum_assignment

        used = max(scores.highest, sequence.objects)
        j, f = j[:used], f[:used]
        rows, columns = linear_sum_assignment(-(j.mean(axis=2) + f.mean(axis=2)) / 2)
    else:
        rows = columns = np.arange(sequence.objects)
    return [
        ObjectScore(
            sequence.video,
            number=number if sequence.matching == "hungarian" else sequence.object_id + int(column),
            object_id=sequence.object_id + int(column),
            label=int(row) + 1,
            j=statistics(j[row, column]),
            f=statistics(f[row, column]),
            expression=sequence.expression,
            j_frames=j[row, column],
            f_frames=f[row, column],
        )
        for number, (row, column) in enumerate(zip(rows, columns, strict=True), start=1)
    ]
