"""What there is to be done for a benchmark, where it goes, and what of it is done.

out/run.json                  version, set, split, resolved settings
out/labels/<name>.png         label maps, 8 bits with a palette; above 255 classes 16 bits, grey
out/foreground/<name>.png     the same without background, of sets that are scored without it
out/masks/<name>.png          masks of referring sets, labels 0 and 1
out/results.json              the numbers
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import ConfigError, ExpressionError
from carvid.benchmark.sets import BenchSet, open_set
from carvid.car.label_map import foreground_map, label_map
from carvid.car.queries import Queries, in_one_line
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.step import StepResult
from carvid.datasets.label_files import read_picture
from carvid.datasets.referring_dataset import ReferringDataset, ReferringSample
from carvid.datasets.semantic_dataset import LabelledImage, SemanticDataset
from carvid.evaluation.label_maps import FOREGROUND_FOLDER, LABEL_FOLDER
from carvid.evaluation.referring import merge_masks
from carvid.media.label_png import MAX_LABEL, is_whole_png, write_deep_labels, write_label_png

MASK_FOLDER = "masks"
FOLDERS = (LABEL_FOLDER, FOREGROUND_FOLDER, MASK_FOLDER)
TEXTS_AT_ONCE = 64
"""Sentences that are encoded in one batch."""

Sample = TypeVar("Sample", LabelledImage, ReferringSample)


@dataclass(frozen=True)
class ImageJob:
    """An image with all that is asked of it: what a worker is given at a time."""

    name: str
    """Of the image, in messages."""
    samples: tuple[LabelledImage, ...] | tuple[ReferringSample, ...]
    """One, or all refs of the image."""


class BenchWork(ABC):
    """How the samples of a set are asked for, and what is written of them."""

    folders: tuple[str, ...]
    """Where the results of a sample are."""

    def files(self, out: Path, name: str) -> list[Path]:
        """Return what is written of a sample."""
        return [out / folder / f"{name}.png" for folder in self.folders]

    def is_done(self, out: Path, name: str) -> bool:
        """Whether a sample need not be done again."""
        return all(is_whole_png(path) for path in self.files(out, name))

    @abstractmethod
    def texts(self) -> list[Queries]:
        """Return all that is ever asked, in an order that does not depend on what is done."""

    @abstractmethod
    def picture(self, job: ImageJob) -> NDArray[np.uint8]:
        """Read an image, uint8 (H, W, 3) RGB.

        Raises:
            DatasetError: it is damaged.
        """

    @abstractmethod
    def queries(self, sample: LabelledImage | ReferringSample) -> Queries:
        """Return what is asked for in a sample."""

    @abstractmethod
    def maps(
        self, result: StepResult, segmenter: RecurrentSegmenter, queries: Queries
    ) -> list[NDArray[np.uint16]]:
        """Return what is written of a sample: uint16 (H, W), for each of `folders`."""

    @property
    @abstractmethod
    def most(self) -> int:
        """The highest label."""

    def write(self, out: Path, name: str, maps: Sequence[NDArray[np.uint16]]) -> None:
        """Write the results of a sample, each file whole or not at all.

        Raises:
            OutputError: the place cannot be written.
        """
        for path, labels in zip(self.files(out, name), maps, strict=True):
            path.parent.mkdir(exist_ok=True)
            if self.most > MAX_LABEL:
                write_deep_labels(path, labels)
            else:
                write_label_png(path, labels.astype(np.uint8))


class SemanticWork(BenchWork):
    """All classes of the set are asked for in every image."""

    def __init__(self, dataset: SemanticDataset, *, background: bool) -> None:
        self._dataset = dataset
        self.folders = (LABEL_FOLDER,) if background else (LABEL_FOLDER, FOREGROUND_FOLDER)
        texts = dataset.classes.queries
        stuff = frozenset(texts[k] for k in dataset.classes.stuff)
        self._queries = Queries(texts, stuff=stuff, limit=len(texts))

    def texts(self) -> list[Queries]:
        return [self._queries]

    def picture(self, job: ImageJob) -> NDArray[np.uint8]:
        image = job.samples[0]
        assert isinstance(image, LabelledImage)
        return self._dataset.picture(image)

    def queries(self, sample: LabelledImage | ReferringSample) -> Queries:
        return self._queries

    def maps(
        self, result: StepResult, segmenter: RecurrentSegmenter, queries: Queries
    ) -> list[NDArray[np.uint16]]:
        labels = label_map(result, segmenter.stuff_of(queries))
        foreground = [foreground_map(result, labels)] if len(self.folders) > 1 else []
        return [labels, *foreground]

    @property
    def most(self) -> int:
        return len(self._dataset.classes.names)


class ReferringWork(BenchWork):
    """All sentences of a ref are asked for together, and their masks merged."""

    folders = (MASK_FOLDER,)
    most = 1

    def __init__(self, dataset: ReferringDataset) -> None:
        sentences = dict.fromkeys(text for each in dataset.samples for text in each.sentences)
        self._sentences = [text for text in sentences if _can_be_asked(text)]

    def texts(self) -> list[Queries]:
        starts = range(0, len(self._sentences), TEXTS_AT_ONCE)
        return [Queries(tuple(self._sentences[k : k + TEXTS_AT_ONCE])) for k in starts]

    def picture(self, job: ImageJob) -> NDArray[np.uint8]:
        return read_picture(job.samples[0].image)

    def queries(self, sample: LabelledImage | ReferringSample) -> Queries:
        assert isinstance(sample, ReferringSample)
        return Queries(sample.sentences)

    def maps(
        self, result: StepResult, segmenter: RecurrentSegmenter, queries: Queries
    ) -> list[NDArray[np.uint16]]:
        scores = np.where(result.kept, result.scores, np.float32(0))
        size_hw = (result.masks.shape[1], result.masks.shape[2])
        return [merge_masks(result.masks, scores, size_hw).astype(np.uint16)]


@dataclass(frozen=True)
class BenchPlan:
    """The data of a benchmark, opened, and what is to be done with it."""

    bench: BenchSet
    dataset: SemanticDataset | ReferringDataset
    """With the samples that are used."""
    total: int
    """How many samples the split has."""
    split: str
    by: str | None
    limit: int

    @property
    def samples(self) -> tuple[LabelledImage, ...] | tuple[ReferringSample, ...]:
        """Those that are used, in the data set's order."""
        return _samples_of(self.dataset)

    def jobs(self) -> list[ImageJob]:
        """Return what there is to do, image by image."""
        if isinstance(self.dataset, SemanticDataset):
            return [ImageJob(image.name, (image,)) for image in self.dataset.images]
        ordered = sorted(self.dataset.samples, key=lambda each: str(each.image))
        groups = (tuple(group) for _, group in groupby(ordered, key=lambda each: each.image))
        return [ImageJob(group[0].image.name, group) for group in groups]

    def work(self) -> BenchWork:
        """Return how it is done."""
        if isinstance(self.dataset, SemanticDataset):
            return SemanticWork(self.dataset, background=self.bench.background)
        return ReferringWork(self.dataset)

    def without(self, names: set[str]) -> BenchPlan:
        """Return the plan without some samples."""
        return replace(self, dataset=_with_samples(self.dataset, [
            each for each in self.samples if each.name not in names
        ]))  # fmt: skip

    def facts(self) -> dict[str, object]:
        """Return what tells what is predicted for from others; JSON-able. An image that could not
        be read may be mended later, so of all but the first the name is all that counts."""
        digest = hashlib.sha256()
        for sample in self.samples:
            asked = sample.sentences if isinstance(sample, ReferringSample) else ()
            told = "\0".join((sample.name, sample.image.name, *asked, ""))
            digest.update(told.encode(errors="replace"))
        digest.update(b"%d" % self.samples[0].image.stat().st_size)
        return {
            "set": self.bench.name, "split": self.split, "by": self.by, "limit": self.limit,
            "data": f"sha256:{digest.hexdigest()}",
        }  # fmt: skip

    def places(self) -> set[Path]:
        """Return the folders of images and truths."""
        truths = [each.truth for each in self.samples if isinstance(each, LabelledImage)]
        return {path.parent for path in (*truths, *(each.image for each in self.samples))}


def plan_bench(
    bench: BenchSet,
    data: Path,
    *,
    split: str | None = None,
    by: str | None = None,
    old_order: bool = False,
    limit: int = 0,
) -> BenchPlan:
    """Open the data of a benchmark.

    Args:
        bench: the benchmark.
        data: the data set's root.
        split: the usual one, if none is given.
        by: whose refs; the usual ones, if nobody is named.
        old_order: the truth of Pascal Context numbers its classes as older converters did.
        limit: samples in all, evenly spaced; 0 takes every one.

    Raises:
        ConfigError: an option that the set does not have, or a limit below 0.
        DatasetError: the data set is not whole; the message lists all that is missing.
    """
    if limit < 0:
        raise ConfigError(f"limit is {limit}; give 1 or more, or 0 for every one")
    split = split or bench.splits[0]
    dataset = open_set(bench, data, split=split, by=by, old_order=old_order)
    samples = _samples_of(dataset)
    total = len(samples)
    if 0 < limit < total:
        chosen = np.linspace(0, total - 1, limit).round().astype(int).tolist()
        dataset = _with_samples(dataset, [samples[k] for k in chosen])
    return BenchPlan(bench, dataset, total, split, by, limit)


def _can_be_asked(text: str) -> bool:
    """Whether a sentence is one; another is a fault of its sample alone, and told there."""
    try:
        in_one_line(text)
    except ExpressionError:
        return False
    return True


def _samples_of(
    dataset: SemanticDataset | ReferringDataset,
) -> tuple[LabelledImage, ...] | tuple[ReferringSample, ...]:
    return dataset.images if isinstance(dataset, SemanticDataset) else dataset.samples


def _with_samples(
    dataset: SemanticDataset | ReferringDataset, samples: Sequence[object]
) -> SemanticDataset | ReferringDataset:
    if isinstance(dataset, SemanticDataset):
        return replace(dataset, images=tuple(samples))  # type: ignore[arg-type]
    return replace(dataset, samples=tuple(samples))  # type: ignore[arg-type]
