"""Protocols by name → Report. Nothing is cached, nothing is skipped: a fault is an error.

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
from itertools import groupby
from pathlib import Path

import numpy as np
from tqdm import tqdm

from carvid.base.errors import CarvidError, ConfigError, DatasetError, suggest
from carvid.base.guard import check_apart
from carvid.base.processes import run_tasks
from carvid.datasets.refdavis import (
    READ_FOLDERS,
    SEMI_SUPERVISED,
    UNSUPERVISED,
    Truth,
    Video,
    describe_missing,
    described_in,
    open_expressions,
    open_truth,
)
from carvid.evaluation.regions import VOID_LABEL, statistics
from carvid.evaluation.report import ObjectScore, Report, mean_of_sets
from carvid.evaluation.sequences import Matching, Parts, Scores, Stream, Task, keep_memory, score
from carvid.media.label_png import read_label_png

MAX_PREDICTIONS = 20
"""As many predicted labels may be matched in a video (DAVIS 2019, unsupervised)."""
SET_FOLDERS = tuple(f"anno_{index}" for index in range(4))
"""Predictions of a set of expressions, beneath a run's folder."""
EXPRESSION_FOLDER = "expressions"
"""Masks of single expressions, `<video>/<key>/<frame>.png`, beneath a run's folder."""
FRAMES_PER_TASK = 16
"""Predicted masks a process is given at a time; few, so that all of them end together."""


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
            (UNSUPERVISED,), "hungarian", folders=SET_FOLDERS,
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
        data: root of the data set, in any layout of `carvid.datasets.refdavis`.
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
        streams = _expression_streams(predictions, truth, open_expressions(data, split=split))
    else:
        streams = _label_streams(predictions, truth, plan)
    notes = _check_files(streams, predictions, truth, plan)
    if videos is None:
        _check_strays(streams, truth)
    check_apart(
        _all_files(predictions, data, split, streams), written, remedy="choose another file"
    )
    scores = _score_all(streams, workers, progress)
    report = _report(streams, scores, plan, notes)
    return replace(report, truth=truth.folder.relative_to(data).as_posix())


def _label_streams(predictions: Path, truth: Truth, plan: Protocol) -> list[Stream]:
    lacking = [name for name in plan.folders if not (predictions / name).is_dir()]
    if lacking:
        raise DatasetError(
            f"'{predictions}' lacks {', '.join(lacking)}, and {plan.name} is the mean of "
            f"{len(plan.folders)} sets; write all of them, or evaluate one set with "
            "--protocol unsupervised"
        )
    streams = []
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
        streams += [
            Stream(
                video, predictions / name / video, counted, plan.matching, objects, labels, index
            )
            for index, name in enumerate(plan.folders)
        ]
    return streams


def _expression_streams(predictions: Path, truth: Truth, videos: Iterable[Video]) -> list[Stream]:
    folder = predictions / EXPRESSION_FOLDER
    folder = folder if folder.is_dir() else predictions
    by_name = {video.name: video for video in videos}
    streams, problems = [], []
    for name in truth.videos:
        expressions = by_name[name].expressions if name in by_name else ()
        if not expressions:
            problems.append(f"{name} has no expressions")
        for e in expressions:
            if e.object_id is None:
                problems.append(f"expression {e.key} of {name} names no object")
                continue
            streams.append(
                Stream(
                    name, folder / name / e.key, truth.paths(name), "expression", 1, 1,
                    expression=e.key, object_id=e.object_id,
                )
            )  # fmt: skip
    if problems:
        raise DatasetError(
            f"the expressions cannot be evaluated: {'; '.join(problems)}; give Ref-DAVIS with its "
            "object ids"
        )
    return streams


def _check_files(
    streams: Sequence[Stream], predictions: Path, truth: Truth, plan: Protocol
) -> list[str]:
    """Look for every predicted file before any is read; return notes on those without truth."""
    known = {video: {path.name for path in truth.paths(video)} for video in truth.videos}
    problems, notes = [], []
    for stream in streams:
        have = {p.name for p in stream.folder.iterdir()} if stream.folder.is_dir() else set()
        lacking = [path.stem for path in stream.truth if path.name not in have]
        if lacking:
            problems.append(describe_missing(stream.folder, lacking, len(stream.truth), ".png"))
        spare = sorted(n for n in have - known[stream.video] if re.fullmatch(r"[^.].*\.png", n))
        if spare:
            notes.append(
                f"'{truth.folder / stream.video}' lacks {', '.join(spare)}, which "
                f"'{stream.folder}' has; they count for nothing"
            )
    if not problems:
        return notes
    remedy = "write a mask for every frame, an empty one where nothing is found"
    folder = predictions / SET_FOLDERS[0]
    if plan.folders == ("",) and plan.matching != "expression" and folder.is_dir():
        remedy = f"evaluate all sets with --protocol refdavis17, or give '{folder}'"
    raise DatasetError(f"predictions are missing: {'; '.join(problems)}; {remedy}")


def _all_files(
    predictions: Path, data: Path, split: str, streams: Iterable[Stream]
) -> Iterator[Path]:
    """What belongs to the predictions and to the data set, read by this protocol or not."""
    yield from described_in(data)
    for name in (split, *READ_FOLDERS):
        yield from (data / name).rglob("*")
    yield predictions / "run.json"
    for name in (*SET_FOLDERS, EXPRESSION_FOLDER, "runs"):
        yield from (predictions / name).rglob("*")
    for stream in streams:
        yield from stream.folder.glob("*")


def _check_strays(streams: Sequence[Stream], truth: Truth) -> None:
    """A predicted video without truth is a mistake in one of the two trees."""
    depth = 2 if streams[0].expression is not None else 1
    bases = {stream.folder.parents[depth - 1] for stream in streams}
    strays = sorted(
        str(folder)
        for base in bases
        for folder in base.iterdir()
        if not (truth.folder / folder.name).is_dir()
        and any(folder.glob("*/" * (depth - 1) + "*.png"))
    )
    if strays:
        raise DatasetError(
            f"no truth in '{truth.folder}' for {', '.join(strays)}; unpack it there, or choose the "
            "videos to evaluate"
        )


def _score_all(streams: Sequence[Stream], workers: int, progress: bool) -> list[Scores]:
    """Score stretches of streams, in processes if there are several, and join them again."""
    groups = [tuple(group) for _, group in groupby(streams, key=lambda stream: stream.truth)]
    tasks = [task for group in groups for task in _stretches(group)]
    parts: dict[int, Parts] = {}
    faults: dict[int, DatasetError] = {}
    frames = sum(len(stream.truth) for stream in streams)
    with tqdm(total=frames, desc="eval", unit="frame", disable=not progress) as bar:
        for event in run_tasks(keep_memory, score, tasks, workers, helping=True):
            if event.kind == "failed":
                raise CarvidError(event.value)
            if event.kind != "step":
                continue
            if isinstance(event.value, DatasetError):
                faults[event.task] = event.value
            elif event.value is not None:
                parts[event.task] = event.value
            else:
                bar.update(len(tasks[event.task]))
    if faults:
        more = f" (and {len(faults) - 1} more such faults)" if len(faults) > 1 else ""
        raise DatasetError(f"{faults[min(faults)]}{more}")
    following = (parts[index] for index in range(len(tasks)))
    return [
        _join(each)
        for group in groups
        for each in zip(*(next(following) for _ in _stretches(group)), strict=True)
    ]


def _stretches(group: Sequence[Stream]) -> Iterator[Task]:
    """Cut streams of one truth into what a process does at a time."""
    frames = max(FRAMES_PER_TASK // len(group), 1)
    for start in range(0, len(group[0].truth), frames):
        yield tuple(replace(each, truth=each.truth[start : start + frames]) for each in group)


def _join(parts: Sequence[Scores]) -> Scores:
    return Scores(
        np.concatenate([part.j for part in parts], axis=2),
        np.concatenate([part.f for part in parts], axis=2),
        max(part.highest for part in parts),
        any(part.seen for part in parts),
    )


def _report(
    streams: Sequence[Stream], scores: Sequence[Scores], plan: Protocol, notes: Sequence[str]
) -> Report:
    sets: list[list[ObjectScore]] = [[] for _ in plan.folders]
    notes = list(notes)
    for stream, each in zip(streams, scores, strict=True):
        if stream.expression is not None and not each.seen:
            raise DatasetError(
                f"the truth of {stream.video} ('{stream.truth[0].parent}') shows no object "
                f"{stream.object_id}, which expression {stream.expression} names; unpack the truth "
                "that belongs to the expressions"
            )
        if not stream.objects and stream.set_index == 0:
            notes.append(
                f"'{stream.truth[0].parent}' shows no object in its first frame, where the "
                "official code counts them; the video counts for nothing"
            )
        sets[stream.set_index] += _objects(stream, each)
    if not sets[0]:
        raise DatasetError("no object in the first frame of any true video; check the truth")
    reports = [Report(plan.name, tuple(objects), notes=tuple(notes)) for objects in sets]
    return reports[0] if len(reports) == 1 else mean_of_sets(plan.name, plan.folders, reports)


def _objects(stream: Stream, scores: Scores) -> list[ObjectScore]:
    """Give each object the values of its label."""
    j, f = scores.j, scores.f
    if stream.matching == "hungarian":
        from scipy.optimize import linear_sum_assignment

        used = max(scores.highest, stream.objects)
        j, f = j[:used], f[:used]
        rows, columns = linear_sum_assignment(-(j.mean(axis=2) + f.mean(axis=2)) / 2)
    else:
        rows = columns = np.arange(stream.objects)
    return [
        ObjectScore(
            stream.video,
            number=number if stream.matching == "hungarian" else stream.object_id + int(column),
            object_id=stream.object_id + int(column),
            label=int(row) + 1,
            j=statistics(j[row, column]),
            f=statistics(f[row, column]),
            expression=stream.expression,
            j_frames=j[row, column],
            f_frames=f[row, column],
        )
        for number, (row, column) in enumerate(zip(rows, columns, strict=True), start=1)
    ]
