"""Masks to evaluate against, and where DAVIS and ReferFormer keep them.

Annotations/480p/<video>/*.png               DAVIS 2017, semi-supervised
Annotations_unsupervised/480p/<video>/*.png  DAVIS 2019, unsupervised; 255 is void
valid/Annotations/<video>/*.png              ReferFormer's; the masks of 2019
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from carvid.base.errors import DatasetError
from carvid.datasets.folders import (
    check_asked,
    existing_root,
    few,
    first_folder,
    listed_videos,
    resolutions,
)

SEMI_SUPERVISED, UNSUPERVISED = "Annotations", "Annotations_unsupervised"
"""Kinds of truth, by their folders."""


@dataclass(frozen=True)
class Truth:
    """Masks to evaluate against: every video has at least one."""

    folder: Path
    """Folder of `<video>/<frame>.png`."""
    videos: tuple[str, ...]
    """Names of the videos to evaluate, sorted."""

    def paths(self, video: str) -> tuple[Path, ...]:
        """Return the masks of a video, in order of the frames."""
        return tuple(sorted((self.folder / video).glob("[!.]*.png")))


def open_truth(
    root: Path,
    kinds: Sequence[str],
    *,
    split: str = "valid",
    resolution: str | None = None,
    videos: Iterable[str] | None = None,
) -> Truth:
    """Find the masks to evaluate against.

    Args:
        root: folder of a DAVIS tree or of ReferFormer's layout.
        kinds: `Annotations_unsupervised` or `Annotations`, the first that is there is taken, and
            no other. ReferFormer's `valid/Annotations` is of the first kind.
        split: as in `open_dataset`.
        resolution: as in `open_dataset`.
        videos: only these; otherwise those in `ImageSets/2017/val.txt`, or all.

    Raises:
        DatasetError: a folder or a video has no truth; the message lists all that have none.
    """
    root = existing_root(root)
    folders = [root / kind / each for kind in kinds for each in resolutions(resolution)]
    if UNSUPERVISED in kinds and resolution is None:
        folders.insert(0, root / split / "Annotations")
    folder = first_folder(root, folders, "truth", _remedy(root, kinds))
    listed, there = listed_videos(root, split), _folders(folder)
    asked = None if videos is None else list(videos)
    if asked:
        check_asked(asked, {*listed, *there}, lambda names: f"no truth for {names} in '{folder}'")
    names = sorted(asked or listed or there)
    truth = Truth(folder, tuple(names))
    lacking = [name for name in names if not truth.paths(name)]
    if lacking or not names:
        raise DatasetError(
            f"no truth for {few(lacking) or 'any video'} in '{folder}' (<video>/*.png); "
            "unpack it there, or take the video out of the list"
        )
    return truth


def _remedy(root: Path, kinds: Sequence[str]) -> str:
    """What to do where no truth of these kinds is there, and perhaps one of the other."""
    remedy = "unpack the masks there or choose another protocol"
    for other in {SEMI_SUPERVISED, UNSUPERVISED}.difference(kinds):
        if (root / other).is_dir():
            remedy = f"{other} is there, and is another truth; {remedy}"
    return remedy


def _folders(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
