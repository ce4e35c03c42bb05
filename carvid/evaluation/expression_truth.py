"""The truth of expressions, each held against a mask of its own: what is scored, and where it lies.

    MeViS, ReVOS      mask_dict.json: the union of all that an expression names
    Ref-YouTube-VOS   <split>/Annotations/<video>/<frame>.png, the label that it names
    Long-RVOS         <split>/Annotations/<video>/<object>/<frame>.png; none where it is not seen

All frames that `meta_expressions.json` names count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from carvid.base.errors import DatasetError
from carvid.base.words import plural
from carvid.datasets import revos
from carvid.datasets.expressions import Expression, Video
from carvid.datasets.folders import check_asked, describe_missing, existing_root, few
from carvid.datasets.long_rvos import LongRvos
from carvid.datasets.mask_dict import MASK_DICT, Track, read_mask_dict
from carvid.datasets.mevis import Mevis
from carvid.datasets.ref_youtube_vos import RefYoutubeVos
from carvid.datasets.revos import Revos
from carvid.datasets.video_dataset import VideoDataset
from carvid.evaluation.predicted_files import EXPRESSION_FOLDER, check_files, refuse_strays
from carvid.evaluation.sequences import MaskSequence
from carvid.evaluation.true_masks import TrueFile, TrueMask, TrueRuns

TARGET, NO_TARGET = "target", "no target"
"""Kinds of expressions of MeViS, where some name nothing."""
ANNOTATIONS = "Annotations"


@dataclass(frozen=True)
class TrueExpression:
    """An expression with its truth."""

    video: Video
    expression: Expression
    kind: str
    truth: tuple[TrueMask, ...]
    """Of each of the video's frames."""
    label: int = 1
    """The object's value in label maps."""


@dataclass(frozen=True)
class ExpressionTruth:
    """What predictions of a split are held against."""

    place: Path
    """The file or folder of the truth."""
    expressions: tuple[TrueExpression, ...]
    """Those of a video one behind the other."""
    known: frozenset[str]
    """Names of all videos of the split."""
    notes: tuple[str, ...]
    """What of it does not count."""


def open_expression_truth(
    kind: type[VideoDataset], root: Path, split: str, videos: Sequence[str] | None
) -> ExpressionTruth:
    """Find the truth of a split's expressions.

    Args:
        kind: the data set: MeViS, ReVOS, Ref-YouTube-VOS or Long-RVOS.
        root: its folder.
        split: the part of it.
        videos: only these; otherwise all.

    Raises:
        DatasetError: it is not there, not published, or not whole; the message names what is.
    """
    known = kind.read_expressions(existing_root(root), split)
    if known is None:
        raise DatasetError(
            f"no expressions of {kind.name} for split '{split}' in '{root}'; give its root, and "
            "a --split that it has"
        )
    names = frozenset(video.name for video in known)
    if videos:
        check_asked(videos, names, lambda lacking: f"'{root}' has no expressions for {lacking}")
    chosen = [video for video in known if not videos or video.name in videos]
    notes = []
    if empty := [video.name for video in chosen if not video.expressions]:
        notes.append(f"{few(empty)} has no expressions; it counts for nothing")
    unframed = [video.name for video in chosen if not video.frames]
    if unframed or len(empty) == len(chosen):
        raise DatasetError(
            f"'{root}' names no {f'frames of {few(unframed)}' if unframed else 'expressions'}; "
            "unpack it again"
        )
    place, expressions = _FINDERS[kind](root, split, chosen, notes)
    if not expressions:
        raise DatasetError(f"none of the expressions in '{root}' counts; unpack it again")
    return ExpressionTruth(place, tuple(expressions), names, tuple(notes))


def named_sequences(
    predictions: Path, true: ExpressionTruth, *, whole: bool
) -> tuple[list[MaskSequence], list[str]]:
    """Return what is scored, and what a reader must know of it.

    Args:
        predictions: `<video>/<key>/<frame>.png`, beneath `expressions` or `Annotations` where
            there is such a folder.
        true: what they are held against.
        whole: whether the split is, so that no other videos may be predicted.

    Raises:
        DatasetError: predictions are missing, or there are more of them than videos.
    """
    names = (EXPRESSION_FOLDER, ANNOTATIONS)
    base = next((predictions / n for n in names if (predictions / n).is_dir()), predictions)
    sequences = [
        MaskSequence(
            each.video.name, base / each.video.name / each.expression.key, each.truth,
            "expression", 1, 1, expression=each.expression.key, object_id=each.label,
            number=each.expression.object_id or 0, kind=each.kind,
        )
        for each in true.expressions
    ]  # fmt: skip
    known = {
        each.video.name: {f"{frame}.png" for frame in each.video.frames}
        for each in true.expressions
    }
    notes = check_files(sequences, known, true.place)
    if whole:
        tops = {name.split("/")[0] for name in true.known}
        refuse_strays(
            (p for p in base.iterdir() if p.name not in tops and any(p.rglob("*.png"))), true.place
        )
    return sequences, [*true.notes, *notes]


def _pairs(videos: Sequence[Video]) -> Iterator[tuple[Video, Expression]]:
    return ((video, e) for video in videos for e in video.expressions)


def _mevis(
    root: Path, split: str, videos: Sequence[Video], notes: list[str]
) -> tuple[Path, list[TrueExpression]]:
    place = next(
        (path for path in (root / split / MASK_DICT, root / MASK_DICT) if path.is_file()), None
    )
    if place is None or all(e.annotations is None for _, e in _pairs(videos)):
        lacking = f"no {MASK_DICT}" if place is None else "no anno_id in its expressions"
        raise _unpublished(Mevis.name, split, lacking, "valid_u")
    without = sum(e.annotations == () for _, e in _pairs(videos))
    kinds = {True: NO_TARGET, False: TARGET} if without else {True: "", False: ""}
    if without:
        notes.append(
            f"{plural(without, 'expression')} without a target; J, F and J&F are over all, as the "
            "published script takes them, N-acc. and T-acc. over those without and with a target"
        )
    return place, _of_mask_dict(place, videos, lambda e: kinds[e.annotations == ()])


def _revos(
    root: Path, split: str, videos: Sequence[Video], notes: list[str]
) -> tuple[Path, list[TrueExpression]]:
    place = root / MASK_DICT
    if not place.is_file():
        raise DatasetError(f"no {MASK_DICT} in '{root}'; unpack it there")
    lacking = [f"{e.key} of {video.name}" for video, e in _pairs(videos) if not e.kind]
    if lacking:
        raise DatasetError(f"expression {few(lacking)} has no type_id; unpack '{root}' again")
    others = [e for _, e in _pairs(videos) if e.kind not in revos.KINDS]
    if others:
        notes.append(
            f"{plural(len(others), 'expression')} of type {few(sorted({e.kind for e in others}))}, "
            "which the official evaluation leaves out, as is done here"
        )
    found = _of_mask_dict(place, videos, lambda e: revos.KINDS.get(e.kind, ""))
    return place, [each for each in found if each.kind]


def _of_mask_dict(
    place: Path, videos: Sequence[Video], kind_of: Callable[[Expression], str]
) -> list[TrueExpression]:
    pairs = [*_pairs(videos)]
    if lacking := [f"{e.key} of {video.name}" for video, e in pairs if e.annotations is None]:
        raise DatasetError(
            f"expression {few(lacking)} has no anno_id; unpack the expressions that belong to "
            f"'{place}'"
        )
    tracks = read_mask_dict(place, {key for _, e in pairs for key in e.annotations or ()})
    return [
        TrueExpression(video, e, kind_of(e), _runs(place, video, e, tracks)) for video, e in pairs
    ]


def _runs(
    place: Path, video: Video, e: Expression, tracks: dict[str, Track]
) -> tuple[TrueMask, ...]:
    keys = e.annotations or ()
    for key in keys:
        if len(tracks[key]) != len(video.frames):
            raise DatasetError(
                f"annotation {key} in '{place}' has masks of {plural(len(tracks[key]), 'frame')}, "
                f"and {video.name} of expression {e.key} has {len(video.frames)}; unpack "
                "the truth that belongs to the expressions"
            )
    named = f"annotation {', '.join(keys)} in '{place}'"
    return tuple(
        TrueRuns(
            f"{frame}.png", f"{named}, frame {frame} of {video.name}",
            tuple(mask for key in keys if (mask := tracks[key][index]) is not None),
        )
        for index, frame in enumerate(video.frames)
    )  # fmt: skip


def _ref_youtube_vos(
    root: Path, split: str, videos: Sequence[Video], notes: list[str]
) -> tuple[Path, list[TrueExpression]]:
    place, name = root / split / ANNOTATIONS, RefYoutubeVos.name
    if all(e.object_id is None for _, e in _pairs(videos)):
        raise _unpublished(name, split, "no obj_id in its expressions", "train")
    _check_objects(videos)
    problems = []
    for video in videos:
        lacking = [f for f in video.frames if not (place / video.name / f"{f}.png").is_file()]
        if lacking:
            problems.append(
                describe_missing(place / video.name, lacking, len(video.frames), ".png")
            )
    if problems and split != "train":
        raise _unpublished(name, split, few(problems, "; "), "train")
    if problems:
        raise DatasetError(f"the truth is not whole: {few(problems, '; ')}; unpack it again")
    return place, [
        TrueExpression(
            video, e, "", tuple(place / video.name / f"{f}.png" for f in video.frames),
            e.object_id or 0,
        )
        for video, e in _pairs(videos)
    ]  # fmt: skip


def _long_rvos(
    root: Path, split: str, videos: Sequence[Video], notes: list[str]
) -> tuple[Path, list[TrueExpression]]:
    place = root / split / ANNOTATIONS
    if not place.is_dir() or all(e.object_id is None for _, e in _pairs(videos)):
        raise _unpublished(LongRvos.name, split, f"no '{place}'", "valid", submit=False)
    _check_objects(videos)
    for folder, video in {
        place / video.name / str(e.object_id): video for video, e in _pairs(videos)
    }.items():
        there = {path.stem for path in folder.glob("[!.]*.png")}
        if there.isdisjoint(video.frames):
            raise DatasetError(
                f"no truth in '{folder}': none of the {plural(len(video.frames), 'frame')} of "
                f"{video.name}; unpack it there"
            )
        if strange := sorted(there.difference(video.frames)):
            notes.append(f"'{folder}' has {few(strange)}, which are no frames of {video.name}")
    return place, [
        TrueExpression(
            video, e, e.kind,
            tuple(
                TrueFile(place / video.name / str(e.object_id) / f"{f}.png") for f in video.frames
            ),
        )
        for video, e in _pairs(videos)
    ]  # fmt: skip


def _check_objects(videos: Sequence[Video]) -> None:
    lacking = [f"{e.key} of {video.name}" for video, e in _pairs(videos) if e.object_id is None]
    if lacking:
        raise DatasetError(
            f"expression {few(lacking)} names no object; unpack the expressions again"
        )


def _unpublished(
    name: str, split: str, lacking: str, other: str, *, submit: bool = True
) -> DatasetError:
    server = ", or pack the predictions for its server with carvid submit" if submit else ""
    return DatasetError(
        f"the truth of {name}'s {split} is not published, or not here ({lacking}); score "
        f"--split {other}{server}"
    )


Finder = Callable[[Path, str, Sequence[Video], list[str]], tuple[Path, list[TrueExpression]]]
"""Finds the place of the truth and the expressions that count; adds what a reader must know."""
_FINDERS: dict[type[VideoDataset], Finder] = {
    Mevis: _mevis, Revos: _revos, RefYoutubeVos: _ref_youtube_vos, LongRvos: _long_rvos,
}  # fmt: skip
