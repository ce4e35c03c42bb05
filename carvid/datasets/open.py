"""Opening a data set of videos by its root, whichever it is.

A new data set is a file in this folder, with a subclass of `VideoDataset`, and a line in
`DATASETS`. What each holds, and where, is drawn in the head of its file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from carvid.base.errors import DatasetError
from carvid.datasets.expressions import Video, meta_places
from carvid.datasets.folders import (
    LIST_FOLDER,
    check_asked,
    describe_missing,
    existing_root,
    image_folder,
    images_in,
    listed_videos,
)
from carvid.datasets.long_rvos import LongRvos
from carvid.datasets.mevis import Mevis
from carvid.datasets.ref_youtube_vos import RefYoutubeVos
from carvid.datasets.refdavis import TEXT_FOLDER, RefDavis
from carvid.datasets.revos import Revos
from carvid.datasets.video_dataset import VideoDataset

DATASETS: tuple[type[VideoDataset], ...] = (LongRvos, RefDavis, RefYoutubeVos, Mevis, Revos)
"""The data sets, in the order in which they are asked whether a folder is theirs."""


def open_dataset(
    root: Path,
    *,
    split: str = "valid",
    resolution: str | None = None,
    videos: Iterable[str] | None = None,
) -> VideoDataset:
    """Open a data set for prediction, after a look at everything that it must hold.

    Args:
        root: folder of any of `DATASETS`.
        split: as ReferFormer's folders are called (`valid`, `train`; MeViS also `valid_u`).
        resolution: `480p` or `Full-Resolution`, for DAVIS trees; 480p if it is there.
        videos: only these; otherwise those in `ImageSets/2017/val.txt`, or all.

    Raises:
        DatasetError: something is missing or malformed; the message lists all of it.
    """
    root = existing_root(root)
    found = _recognized(root, split)
    if found is None:
        image_folder(root, split, resolution)  # without images, too, it is no data set at all
    kind, known = found or recognize(root, split)
    images = kind.image_folder(root, split, resolution)
    listed, names = listed_videos(root, split), [video.name for video in known]
    asked = None if videos is None else list(videos)
    if asked:
        check_asked(
            asked, {*listed, *names}, lambda names: f"'{root}' has no expressions for {names}"
        )
    wanted = set(asked or listed or names)
    problems = [f"no expressions for {name}" for name in sorted(wanted.difference(names))]
    chosen = []
    for video in known:
        if video.name in wanted:
            whole, faults = _with_frames(kind, video, images / video.name)
            chosen.append(whole)
            problems.extend(faults)
    if problems or not chosen:
        raise DatasetError(
            f"'{root}' is not whole: {'; '.join(problems) or 'no video'}; unpack the data set again"
        )
    return kind(root, images, tuple(chosen))


def open_expressions(root: Path, *, split: str = "valid") -> tuple[Video, ...]:
    """Read the expressions of a data set.

    Raises:
        DatasetError: there are none, or they are malformed.
    """
    return recognize(existing_root(root), split)[1]


def description_files(root: Path) -> list[Path]:
    """Return the files in a root that hold expressions or lists of videos, of any data set."""
    patterns = [pattern for kind in DATASETS for pattern in kind.expression_files]
    unique = dict.fromkeys([*patterns, f"{LIST_FOLDER}/*/*.txt"])
    return [path for pattern in unique for path in root.glob(pattern)]


def dataset_folders() -> tuple[str, ...]:
    """Return the folders in a root that nothing is written to, of any data set."""
    return tuple(dict.fromkeys(name for kind in DATASETS for name in kind.folders))


def files_of(dataset: VideoDataset) -> list[Path]:
    """Return the files that a data set is read from."""
    images = [path for video in dataset.videos for path in dataset.image_paths(video)]
    return [*description_files(dataset.root), *images]


def is_inside(dataset: VideoDataset, place: Path) -> bool:
    """Whether a place is among the images, the truth or the expressions of a data set."""
    inside = Path(os.path.realpath(place))
    root = Path(os.path.realpath(dataset.root))
    first = dataset.images.relative_to(dataset.root).parts[0]  # JPEGImages, or the split's folder
    return any(
        inside.is_relative_to(os.path.realpath(root / name))
        for name in (first, *dataset_folders())
    )  # fmt: skip


def recognize(root: Path, split: str) -> tuple[type[VideoDataset], tuple[Video, ...]]:
    """Return which data set lies in a root, and its videos with their expressions.

    Raises:
        DatasetError: none does, or its expressions are malformed.
    """
    found = _recognized(root, split)
    if found is None:
        raise DatasetError(
            f"no expressions in '{root}'; put '{meta_places(root, split)[0].relative_to(root)}' or "
            f"the folder '{TEXT_FOLDER}' there"
        )
    return found


def _recognized(root: Path, split: str) -> tuple[type[VideoDataset], tuple[Video, ...]] | None:
    for kind in DATASETS:
        known = kind.read_expressions(root, split)
        if known is not None:
            return kind, known
    return None


def _with_frames(kind: type[VideoDataset], video: Video, folder: Path) -> tuple[Video, list[str]]:
    """A video with the names of its frames, from its images where they are not known; and what
    it lacks."""
    files = images_in(folder)
    frames = video.frames or tuple(sorted(files))
    lacking = [frame for frame in frames if frame not in files]
    faults = kind.faults(video)
    if lacking or not frames:
        faults.insert(0, describe_missing(folder, lacking, len(frames), ".jpg"))
    return replace(video, frames=frames), faults
