"""Protocols by name, and their evaluation. Nothing is cached or skipped: a fault is an error.

    refdavis17       four sets, matched to the objects, mean over objects, then over sets
    unsupervised     one set of the same: the official unsupervised task of DAVIS 2017
    per-expression   one mask for each expression, mean over expressions
    semi-supervised  the official DAVIS 2017 task: labels name the objects
    mevis, ref-youtube-vos, long-rvos, revos
                     one mask for each expression of that data set, of all that it names

Numbers of different protocols are not comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from carvid.base.errors import ConfigError, DatasetError, suggest
from carvid.base.guard import check_apart
from carvid.datasets.expressions import Video
from carvid.datasets.folders import few
from carvid.datasets.long_rvos import LongRvos
from carvid.datasets.mevis import Mevis
from carvid.datasets.open import open_expressions
from carvid.datasets.ref_youtube_vos import RefYoutubeVos
from carvid.datasets.refdavis import SET_NAMES
from carvid.datasets.revos import Revos
from carvid.datasets.truth import SEMI_SUPERVISED, UNSUPERVISED, Truth, open_truth
from carvid.datasets.video_dataset import VideoDataset
from carvid.evaluation.expression_truth import (
    NO_TARGET,
    named_sequences,
    open_expression_truth,
)
from carvid.evaluation.measures import target_measures, time_measures
from carvid.evaluation.predicted_files import (
    EXPRESSION_FOLDER,
    WRITE_ALL,
    all_files,
    check_files,
    check_strays,
)
from carvid.evaluation.regions import statistics
from carvid.evaluation.report import ObjectScore, Report, mean_of_sets
from carvid.evaluation.sequences import MaskSequence, Matching, Scores
from carvid.evaluation.workers import score_sequences
from carvid.media.label_png import VOID_LABEL, read_label_png

MAX_PREDICTIONS = 20
"""As many predicted labels may be matched in a video (DAVIS 2019, unsupervised)."""


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
    dataset: type[VideoDataset] | None = None
    """Whose expressions are scored, each against a truth of its own; None for DAVIS."""
    measures: Callable[[MaskSequence, Scores], dict[str, float]] | None = None
    """What is measured of an expression beside J and F."""
    over_kinds: bool = False
    """Whether the mean is that of the means over each kind of expressions."""


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
        Protocol(
            "mevis", "MeViS: the union of all that an expression names, mean over expressions",
            (), "expression", dataset=Mevis, measures=target_measures,
        ),
        Protocol(
            "ref-youtube-vos", "Ref-YouTube-VOS: the object that an expression names",
            (), "expression", dataset=RefYoutubeVos,
        ),
        Protocol(
            "long-rvos", "Long-RVOS: the object that an expression names, with tIoU and vIoU",
            (), "expression", dataset=LongRvos, measures=time_measures,
        ),
        Protocol(
            "revos", "ReVOS: as mevis, mean of referring and reasoning expressions",
            (), "expression", dataset=Revos, over_kinds=True,
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
            `anno_0` … `anno_3`; for `per-expression` and other data sets
            `<video>/<key>/<frame>.png`, beneath `expressions` if there is such a folder (of other
            data sets also beneath `Annotations`, as servers want them).
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
    if plan.dataset is None:
        sequences, notes, place = _davis_sequences(
            predictions, data, plan, split=split, resolution=resolution, videos=videos
        )
    else:
        true = open_expression_truth(plan.dataset, data, split, videos)
        sequences, notes = named_sequences(predictions, true, whole=not videos)
        place = true.place
    check_apart(
        all_files(predictions, data, split, sequences), written, remedy="choose another file"
    )
    scores = score_sequences(sequences, workers, progress)
    report = _report(sequences, scores, plan, notes)
    return replace(report, truth=place.relative_to(data).as_posix())


def _davis_sequences(
    predictions: Path,
    data: Path,
    plan: Protocol,
    *,
    split: str,
    resolution: str | None,
    videos: Sequence[str] | None,
) -> tuple[list[MaskSequence], list[str], Path]:
    """What is scored of DAVIS, notes, and the folder of its truth."""
    truth = open_truth(data, plan.truth, split=split, resolution=resolution, videos=videos)
    if plan.matching == "expression":
        sequences = _expression_sequences(predictions, truth, open_expressions(data, split=split))
    else:
        sequences = _label_sequences(predictions, truth, plan)
    known = {video: {path.name for path in truth.paths(video)} for video in truth.videos}
    remedy, folder = WRITE_ALL, predictions / SET_NAMES[0]
    if plan.folders == ("",) and plan.matching != "expression" and folder.is_dir():
        remedy = f"evaluate all sets with --protocol refdavis17, or give '{folder}'"
    notes = check_files(sequences, known, truth.folder, remedy)
    if videos is None:
        check_strays(sequences, truth)
    return sequences, notes, truth.folder


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


def _report(
    sequences: Sequence[MaskSequence],
    scores: Sequence[Scores],
    plan: Protocol,
    notes: Sequence[str],
) -> Report:
    sets: list[list[ObjectScore]] = [[] for _ in plan.folders]
    notes, nowhere = list(notes), list[str]()
    for form in sorted(set[str]().union(*(each.forms for each in scores))):
        notes.append(f"predictions, or some of them, are no indexed PNGs; {form}")
    for sequence, each in zip(sequences, scores, strict=True):
        unseen = sequence.expression is not None and not each.seen
        if unseen and isinstance(first := sequence.truth[0], Path):
            raise DatasetError(
                f"the truth of {sequence.video} ('{first.parent}') shows no object "
                f"{sequence.object_id}, which expression {sequence.expression} names; unpack the "
                "truth that belongs to the expressions"
            )
        if unseen and sequence.kind != NO_TARGET:
            nowhere.append(f"{sequence.expression} of {sequence.video}")
        if not sequence.objects and sequence.set_index == 0:
            folder = Path(str(sequence.truth[0])).parent
            notes.append(
                f"'{folder}' shows no object in its first frame, where the "
                "official code counts them; the video counts for nothing"
            )
        sets[sequence.set_index] += _objects(sequence, each, plan)
    if not sets[0]:
        raise DatasetError("no object in the first frame of any true video; check the truth")
    if nowhere:
        notes.append(f"the truth is empty in all frames for expression {few(nowhere)}")
    reports = [
        Report(plan.name, tuple(objects), notes=tuple(notes), over_kinds=plan.over_kinds)
        for objects in sets
    ]
    return reports[0] if len(reports) == 1 else mean_of_sets(plan.name, plan.folders, reports)


def _objects(sequence: MaskSequence, scores: Scores, plan: Protocol) -> list[ObjectScore]:
    """Give each object the values of its label."""
    first = sequence.object_id if sequence.number is None else sequence.number
    more = {} if plan.measures is None else plan.measures(sequence, scores)
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
            number=number if sequence.matching == "hungarian" else first + int(column),
            object_id=first + int(column),
            label=int(row) + 1,
            j=statistics(j[row, column]),
            f=statistics(f[row, column]),
            expression=sequence.expression,
            kind=sequence.kind,
            more=more,
            j_frames=j[row, column],
            f_frames=f[row, column],
        )
        for number, (row, column) in enumerate(zip(rows, columns, strict=True), start=1)
    ]
