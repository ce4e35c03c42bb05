"""Single frames of a data set of videos with expressions and masks: `carvid calibrate`'s samples.

Every set of expressions of a frame is a sample. A data set names only what is there. What is absent
is taken from other videos: expressions that share no word with those of the frame's own video, but
for `SMALL_WORDS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.datasets.expressions import Expression, Video
from carvid.datasets.open import open_dataset, open_expressions
from carvid.datasets.truth import SEMI_SUPERVISED, UNSUPERVISED, Truth, open_truth
from carvid.datasets.video_dataset import VideoDataset
from carvid.media.frames import Selection
from carvid.media.label_png import VOID_LABEL, read_label_png
from carvid.media.open import open_video

SMALL_WORDS = {
    "a", "an", "and", "are", "at", "be", "being", "by", "for", "from", "has", "have", "her",
    "his", "in", "into", "is", "it", "its", "near", "next", "of", "off", "on", "one", "onto",
    "or", "other", "out", "over", "that", "the", "their", "them", "there", "they", "this", "to",
    "towards", "under", "up", "very", "wearing", "which", "while", "who", "with",
}  # fmt: skip
"""Words that two expressions may share and yet name different things."""


@dataclass(frozen=True)
class FrameSample:
    """A frame and one set of expressions."""

    name: str
    """`<video>/<frame>/<set>`."""
    image_name: str
    """`<video>/<frame>`."""
    image_path: Path
    truth_path: Path
    objects: tuple[int, ...]
    """The label of each of `texts` in the truth."""
    texts: tuple[str, ...]
    """The N expressions of the set."""
    absent: tuple[str, ...]
    """Expressions of other videos: what they name is not in the frame."""

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
) -> tuple[FrameSample, ...]:
    """Read evenly spaced frames with the expressions of their videos.

    Args:
        data: root of the data set, as in `open_dataset`.
        limit: frames in all; 0 takes every one.
        with_absent: add as many expressions of other videos, as far as there are any.
        split: as in `open_dataset`, as are `resolution` and `videos`.

    Raises:
        DatasetError: the data set is not whole, or its expressions name no objects.
    """
    chosen = None if videos is None else tuple(videos)
    dataset = open_dataset(data, split=split, resolution=resolution, videos=chosen)
    names = [video.name for video in dataset.videos]
    kinds = (UNSUPERVISED, SEMI_SUPERVISED)
    truth = open_truth(data, kinds, split=split, resolution=resolution, videos=names)
    others = open_expressions(data, split=split) if with_absent else ()
    places = [(video, index) for video in dataset.videos for index in range(len(video.frames))]
    if 0 < limit < len(places):
        places = [places[k] for k in np.linspace(0, len(places) - 1, limit).round().astype(int)]
    return tuple(
        sample
        for number, (video, index) in enumerate(places)
        for sample in _samples_of(dataset, truth, video, index, others, number)
    )


def _samples_of(
    dataset: VideoDataset,
    truth: Truth,
    video: Video,
    index: int,
    others: Sequence[Video],
    number: int,
) -> Iterator[FrameSample]:
    """A sample for each set of expressions of a frame; `number` counts the frames that are used."""
    frame, image_path = video.frames[index], dataset.image_paths(video)[index]
    masks = {path.stem: path for path in truth.paths(video.name)}
    if frame not in masks:
        raise DatasetError(f"no truth for {video.name}/{frame}.png; unpack the masks again")
    for name, expressions in zip(dataset.set_names, dataset.sets(video), strict=True):
        texts = tuple(e.text for e in expressions)
        yield FrameSample(
            f"{video.name}/{frame}/{name}", f"{video.name}/{frame}", image_path, masks[frame],
            _objects(video, expressions), texts, _absent(others, video, len(texts), number),
        )  # fmt: skip


def _objects(video: Video, expressions: Sequence[Expression]) -> tuple[int, ...]:
    objects = tuple(e.object_id for e in expressions if e.object_id is not None)
    if len(objects) != len(expressions):
        raise DatasetError(
            f"expressions of {video.name} name no object of the truth; give Ref-DAVIS"
        )
    return objects


def _absent(videos: Sequence[Video], video: Video, count: int, turn: int) -> tuple[str, ...]:
    """Return up to `count` expressions of other videos, others at every `turn`."""
    own = _words(e.text for e in video.expressions)
    texts = [e.text for v in videos if v.name != video.name for e in v.expressions]
    foreign = [text for text in dict.fromkeys(texts) if not own & _words([text])]
    count = min(count, len(foreign))
    steps = (np.arange(count) * len(foreign)) // max(count, 1) + turn
    return tuple(foreign[k % len(foreign)] for k in steps.tolist())


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+", text.lower())} - SMALL_WORDS
