"""Single frames of Ref-DAVIS with what is asked of them, as `carvid calibrate` takes them.

Every set of expressions of a frame is a sample. Of what is absent a data set of things that are
there says nothing; expressions of other videos stand in, of which no word but small ones is among
those of the video's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.datasets.refdavis import (
    SEMI_SUPERVISED,
    UNSUPERVISED,
    Expression,
    Video,
    open_dataset,
    open_expressions,
    open_truth,
)
from carvid.evaluation.protocols import SET_FOLDERS
from carvid.evaluation.regions import VOID_LABEL
from carvid.media.frames import Selection
from carvid.media.label_png import read_label_png
from carvid.media.open import open_video

NAME = "Ref-DAVIS 2017"
SMALL_WORDS = {
    "a", "an", "and", "are", "at", "be", "being", "by", "for", "from", "has", "have", "her",
    "his", "in", "into", "is", "it", "its", "near", "next", "of", "off", "on", "one", "onto",
    "or", "other", "out", "over", "that", "the", "their", "them", "there", "they", "this", "to",
    "towards", "under", "up", "very", "wearing", "which", "while", "who", "with",
}  # fmt: skip
"""Words that two expressions may share and yet name different things."""


@dataclass(frozen=True)
class DavisSample:
    """A frame and one set of expressions."""

    name: str
    """`<video>/<frame>/anno_<set>`."""
    image_name: str
    """`<video>/<frame>`."""
    image_path: Path
    truth_path: Path
    objects: tuple[int, ...]
    """The label of each of `texts` in the truth."""
    texts: tuple[str, ...]
    """What is asked; N expressions."""
    absent: tuple[str, ...]
    """What is asked, too, together or alone, and is not there."""

    def image(self) -> NDArray[np.uint8]:
        """Read the frame, uint8 (H, W, 3) RGB."""
        with open_video(self.image_path, selection=Selection()) as reader:
            return next(iter(reader)).image

    def truth(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Read the truth: bool (N, H, W), a mask for each text, and bool (H, W), void."""
        labels = read_label_png(self.truth_path)
        return np.stack([labels == k for k in self.objects]), labels == VOID_LABEL


def read_samples(
    data: Path,
    *,
    limit: int = 0,
    with_absent: bool = True,
    split: str = "valid",
    resolution: str | None = None,
    videos: Iterable[str] | None = None,
) -> tuple[DavisSample, ...]:
    """Read what is asked of evenly spaced frames.

    Args:
        data: root of the data set, in any layout of `carvid.datasets.refdavis`.
        limit: frames in all; 0 takes every one.
        with_absent: ask for as many expressions of other videos, as far as there are any.
        split: as in `open_dataset`, as are `resolution` and `videos`.

    Raises:
        DatasetError: the data set is not whole, or its expressions name no objects.
    """
    chosen = None if videos is None else tuple(videos)
    dataset = open_dataset(data, split=split, resolution=resolution, videos=chosen)
    names = [video.name for video in dataset.videos]
    kinds = (UNSUPERVISED, SEMI_SUPERVISED)
    truth = open_truth(data, kinds, split=split, resolution=resolution, videos=names)
    known = open_expressions(data, split=split) if with_absent else ()
    places = [(video, index) for video in dataset.videos for index in range(len(video.frames))]
    if 0 < limit < len(places):
        places = [places[k] for k in np.linspace(0, len(places) - 1, limit).round().astype(int)]
    samples = []
    for number, (video, index) in enumerate(places):
        images = dataset.image_paths(video)
        masks = {path.stem: path for path in truth.paths(video.name)}
        frame = video.frames[index]
        if frame not in masks:
            raise DatasetError(f"no truth for {video.name}/{frame}.png; unpack the masks again")
        for name, expressions in zip(SET_FOLDERS, dataset.sets(video), strict=False):
            texts = tuple(e.text for e in expressions)
            samples.append(
                DavisSample(
                    f"{video.name}/{frame}/{name}", f"{video.name}/{frame}", images[index],
                    masks[frame],
                    _objects(video, expressions), texts,
                    _absent(known, video, len(texts), number),
                )
            )  # fmt: skip
    return tuple(samples)


def _objects(video: Video, expressions: Sequence[Expression]) -> tuple[int, ...]:
    objects = tuple(e.object_id for e in expressions if e.object_id is not None)
    if len(objects) != len(expressions):
        raise DatasetError(
            f"expressions of {video.name} name no object of the truth; give Ref-DAVIS"
        )
    return objects


def _absent(known: Sequence[Video], video: Video, count: int, turn: int) -> tuple[str, ...]:
    """Return up to `count` expressions of other videos, others at every `turn`."""
    own = _words(e.text for e in video.expressions)
    others = [e.text for v in known if v.name != video.name for e in v.expressions]
    foreign = [text for text in dict.fromkeys(others) if not own & _words([text])]
    count = min(count, len(foreign))
    steps = (np.arange(count) * len(foreign)) // max(count, 1) + turn
    return tuple(foreign[k % len(foreign)] for k in steps.tolist())


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+", text.lower())} - SMALL_WORDS
