"""Label maps of a data set of images, of carvid or of any other method, against their truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from carvid.base.errors import CarvidError, ConfigError, DatasetError, suggest
from carvid.base.spreadsheet import as_text
from carvid.datasets.folders import few
from carvid.datasets.semantic_dataset import LabelledImage, SemanticDataset
from carvid.evaluation.confusion import (
    Matrix,
    SemanticProtocol,
    SemanticScores,
    confusion,
    never_labelled,
    one_class_short,
    scores_by,
)
from carvid.evaluation.report import columns
from carvid.evaluation.sequences import keep_memory
from carvid.media.label_png import opened_png
from carvid.workers.processes import Processes

SEMANTIC_PROTOCOLS: tuple[SemanticProtocol, ...] = get_args(SemanticProtocol)
LABEL_FOLDER, FOREGROUND_FOLDER = "labels", "foreground"
"""Beneath a run's folder: `<name>.png` as the method gives them, and with the background given to
the class that is next."""
ONE_SHORT = {"ade847": "released, 847 classes"}
"""Data sets, by their list of classes, that the released code counts with one class too few, and
the name under which that is told."""
IMAGES_PER_STRETCH = 16
"""Images a process is given at a time; few, so that all of them end together."""


class ImageScore(NamedTuple):
    """How well one image was labelled."""

    name: str
    miou: float
    """mIoU by the report's protocol, of this image alone; NaN where none of its pixels count."""


@dataclass(frozen=True)
class SemanticReport:
    """Numbers of one evaluation of label maps, fractions in [0, 1]."""

    data: str
    """The data set, as papers write it, and its split."""
    protocol: SemanticProtocol
    background: bool
    """Whether the background is a class."""
    classes: tuple[str, ...]
    """Name of label k: `classes[k - 1]`."""
    matrix: Matrix
    """int64 (n, n): pixels of all images, rows truth, columns prediction, 0 the background."""
    images: tuple[ImageScore, ...]
    """In the data set's order."""
    scores: Mapping[str, SemanticScores]
    """Protocol → numbers. The report's own is the first; where the released code counts otherwise
    than it means to, what it counts follows."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the numbers."""

    @property
    def own(self) -> SemanticScores:
        """The numbers of the report's own protocol."""
        return self.scores[self.protocol]

    @property
    def never_labelled(self) -> tuple[int, ...]:
        """Labels that are predicted, though the truth shows none of them."""
        return never_labelled(self.matrix)

    def worst(self, count: int) -> tuple[ImageScore, ...]:
        """Return the images of the lowest mIoU, the worst first."""
        counted = [each for each in self.images if not np.isnan(each.miou)]
        return tuple(sorted(counted, key=lambda each: each.miou)[:count])

    def name_of(self, label: int) -> str:
        """Return the name of a class by its label."""
        return self.classes[label - 1] if label else "background"

    def to_json(self) -> dict[str, Any]:
        """Return data, protocol, background, the numbers of each protocol, the names of the
        classes, mIoU per image (None where no pixel counts), and the labels that are never true."""
        return {
            "data": self.data,
            "protocol": self.protocol,
            "background": self.background,
            "scores": {name: each.to_json() for name, each in self.scores.items()},
            "classes": list(self.classes),
            "classes_predicted_but_never_labelled": list(self.never_labelled),
            "per_image": [
                {"name": each.name, "mIoU": None if np.isnan(each.miou) else each.miou}
                for each in self.images
            ],
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """Return a row for all, one for each class and one for each image; a number that there is
        not is left empty. Names are written by `as_text`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        pixels = "true_pixels", "predicted_pixels"
        numbers = "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"
        writer.writerow(("protocol", "data", "of", "name", "label", "IoU", *pixels, *numbers))
        for protocol, scores in self.scores.items():
            head = (protocol, as_text(self.data))
            counts = (int(self.matrix.sum()),) * 2
            further = (scores.pixel_accuracy, scores.mean_accuracy, scores.frequency_weighted_iou)
            values = map(_cell, further)
            writer.writerow((*head, "all", "", "", _cell(scores.miou), *counts, *values))
            for k, iou in scores.class_iou.items():
                counts = int(self.matrix[k].sum()), int(self.matrix[:, k].sum())
                writer.writerow((*head, "class", as_text(self.name_of(k)), k, iou, *counts))
        head = (self.protocol, as_text(self.data))
        for image in self.images:
            writer.writerow((*head, "image", as_text(image.name), "", _cell(image.miou)))
        return text.getvalue()

    def to_text(self) -> str:
        """Return a short table in percent: the numbers of all, IoU of each class, and notes."""
        lines = []
        for protocol, scores in self.scores.items():
            rows = [
                ("mIoU", scores.miou),
                ("pixel accuracy", scores.pixel_accuracy),
                ("mean accuracy", scores.mean_accuracy),
                ("frequency weighted IoU", scores.frequency_weighted_iou),
            ]
            if protocol == self.protocol:
                rows += [(self.name_of(k), iou) for k, iou in scores.class_iou.items()]
            head = (f"{self.data}, {protocol}, percent", f"{len(self.images)} images")
            lines.append(columns([head, *((name, f"{100 * value:.2f}") for name, value in rows)]))
        if self.never_labelled:
            names = few([self.name_of(k) for k in self.never_labelled])
            lines.append(f"predicted, never true, no part of the mean: {names}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


class Stretch(NamedTuple):
    """Images that a process does at a time."""

    start: int
    """Index of the first."""
    images: tuple[LabelledImage, ...]


class StretchCounts(NamedTuple):
    """What a stretch comes to."""

    matrix: Matrix
    mious: tuple[float, ...]


@dataclass(frozen=True)
class _Counting:
    """How images are counted: what each process is given once."""

    dataset: SemanticDataset
    folder: Path
    protocol: SemanticProtocol
    background: bool


def score_label_maps(
    dataset: SemanticDataset,
    folder: Path,
    *,
    protocol: str,
    background: bool,
    workers: int = 1,
    progress: bool = False,
) -> SemanticReport:
    """Score a folder of label maps, of carvid or of any other method.

    Args:
        dataset: the images to score; one whose map is missing is an error.
        folder: `<name>.png` for each, indexed or grey of 8 or 16 bits, label k for class k and 0
            for background; or a run's folder, where `labels` is read by `released`, and by
            `usual`, too, if the background is a class, else `foreground`.
        protocol: a name in `SEMANTIC_PROTOCOLS`.
        background: whether the background is a class (VOC21), or is left out (VOC20).
        workers: processes. With more than one, scripts need `if __name__ == "__main__":`.
        progress: whether to show a bar on stderr.

    Raises:
        ConfigError: no such protocol, or no worker.
        DatasetError: maps or truth are not whole, or not of the form that is asked for; the
            message names the files.
    """
    if protocol not in SEMANTIC_PROTOCOLS:
        raise ConfigError(f"unknown protocol '{protocol}'{suggest(protocol, SEMANTIC_PROTOCOLS)}")
    if workers < 1:
        raise ConfigError(f"workers is {workers}; give 1 or more")
    folder = _folder_of_maps(Path(folder), protocol, background)
    notes = _check_files(dataset, folder)
    counting = _Counting(dataset, folder, protocol, background)
    matrix, mious = _count(counting, workers, progress)
    if not matrix[0 if background else 1 :].any():
        raise DatasetError(f"the truth in '{dataset.root}' shows no class; check it")
    scores: dict[str, SemanticScores] = {
        protocol: scores_by(protocol, matrix, background=background)
    }
    if np.isnan(scores[protocol].miou):
        notes.append("background is predicted wherever the truth shows a class: nothing is counted")
    short = ONE_SHORT.get(dataset.classes.name)
    if short and protocol == "released":
        try:
            scores[short] = scores_by(protocol, one_class_short(matrix), background=background)
        except DatasetError as error:
            notes.append(f"{short}: {error}")
    pairs = zip(dataset.images, mious, strict=True)
    return SemanticReport(
        f"{dataset.name} {dataset.split}",
        protocol,
        background,
        dataset.classes.names,
        matrix,
        tuple(ImageScore(image.name, miou) for image, miou in pairs),
        scores,
        tuple(notes),
    )


def read_prediction(path: Path, classes: int) -> NDArray[np.uint16]:
    """Read a predicted label map.

    Args:
        path: a PNG: its indices, or its grey levels of 8 or 16 bits, are labels.
        classes: labels go from 0, the background, to so many.

    Returns:
        uint16 (H, W).

    Raises:
        DatasetError: unreadable, too large, in colours, or a label that there is not.
    """
    with opened_png(path) as picture:
        if picture.mode not in ("P", "L") and not picture.mode.startswith("I"):
            raise DatasetError(
                f"'{path}' is a picture of colours (mode {picture.mode}), and no map of labels; "
                "write label k as index k of a palette, or as grey level k"
            )
        values = np.array(picture)
    highest = int(values.max(initial=0))
    if highest > classes:
        raise DatasetError(
            f"'{path}' has label {highest}, and there are {classes} classes; write 0 for "
            "background and k for class k"
        )
    return values.astype(np.uint16)


def _folder_of_maps(folder: Path, protocol: SemanticProtocol, background: bool) -> Path:
    """The folder of `<name>.png` that a protocol reads."""
    if not folder.is_dir():
        raise DatasetError(f"no folder '{folder}'; give the folder of label maps")
    is_run = any((folder / name).is_dir() for name in (LABEL_FOLDER, FOREGROUND_FOLDER))
    if not is_run:
        return folder
    name = FOREGROUND_FOLDER if protocol == "usual" and not background else LABEL_FOLDER
    if not (folder / name).is_dir():
        raise DatasetError(
            f"'{folder}' has no folder '{name}', which the protocol {protocol} reads; predict "
            "again, or choose the other protocol"
        )
    return folder / name


def _check_files(dataset: SemanticDataset, folder: Path) -> list[str]:
    """Look for every map before any is read; return notes on those without truth."""
    if not dataset.images:
        raise DatasetError(f"the data set in '{dataset.root}' has no images; check its lists")
    have = {path.name for path in folder.iterdir() if path.suffix == ".png"}
    wanted = [f"{image.name}.png" for image in dataset.images]
    lacking = [name for name in wanted if name not in have]
    if lacking:
        names = f"all label maps ({len(wanted)})" if len(lacking) == len(wanted) else few(lacking)
        raise DatasetError(f"'{folder}' lacks {names}; write a label map for every image")
    spare = sorted(name for name in have.difference(wanted) if not name.startswith("."))
    if not spare:
        return []
    return [
        f"'{folder}' has {few(spare)}, which the images to score do not; they count for nothing"
    ]


def _count(counting: _Counting, workers: int, progress: bool) -> tuple[Matrix, list[float]]:
    """The matrix of all images, and the mIoU of each."""
    images = counting.dataset.images
    starts = range(0, len(images), IMAGES_PER_STRETCH)
    stretches = [Stretch(k, images[k : k + IMAGES_PER_STRETCH]) for k in starts]
    n_class = len(counting.dataset.classes.names) + 1
    matrix, mious = np.zeros((n_class, n_class), np.int64), [np.nan] * len(images)
    faults: dict[int, DatasetError] = {}
    processes = Processes(workers, caller_helps=True)
    with tqdm(total=len(images), desc="eval", unit="image", disable=not progress) as bar:
        for event in processes.run(partial(_prepare, counting), count_stretch, stretches):
            if event.kind == "failed":
                raise CarvidError(event.value)
            if event.kind != "step":
                continue
            if isinstance(event.value, DatasetError):
                faults[event.task] = event.value
            elif event.value is None:
                bar.update()
            else:
                matrix += event.value.matrix
                start = stretches[event.task].start
                mious[start : start + len(event.value.mious)] = event.value.mious
    if faults:
        more = f" (and {len(faults) - 1} more such faults)" if len(faults) > 1 else ""
        raise DatasetError(f"{faults[min(faults)]}{more}")
    return matrix, mious


def _prepare(counting: _Counting) -> _Counting:
    keep_memory()
    return counting


def count_stretch(
    counting: _Counting, stretch: Stretch
) -> Generator[StretchCounts | DatasetError | None, None, None]:
    """Yield after each image, and at last the counts, or what is wrong with a file."""
    classes = len(counting.dataset.classes.names)
    total, mious = np.zeros((classes + 1, classes + 1), np.int64), []
    try:
        for image in stretch.images:
            matrix = _count_image(counting, image, classes)
            total += matrix
            scores = scores_by(counting.protocol, matrix, background=counting.background)
            mious.append(scores.miou)
            yield None
    except DatasetError as error:
        yield error
    else:
        yield StretchCounts(total, tuple(mious))


def _count_image(counting: _Counting, image: LabelledImage, classes: int) -> Matrix:
    path = counting.folder / f"{image.name}.png"
    prediction = read_prediction(path, classes)
    truth = counting.dataset.truth(image)
    if prediction.shape != truth.shape:
        (height, width), (true_height, true_width) = prediction.shape, truth.shape
        raise DatasetError(
            f"'{path}' is {width}×{height}, its truth '{image.truth}' {true_width}×"
            f"{true_height}; write maps in the size of the image"
        )
    return confusion(truth, prediction, classes + 1)


def _cell(value: float) -> float | str:
    return "" if np.isnan(value) else value
