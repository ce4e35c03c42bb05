"""Folders that data sets of videos share: images by resolution or by split, and lists of videos."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from carvid.base.errors import DatasetError
from carvid.base.files import read_text

RESOLUTIONS = ("480p", "Full-Resolution")
"""Folders of a DAVIS tree, the first that is there is taken."""
IMAGE_FOLDER = "JPEGImages"
LIST_FOLDER = "ImageSets"
FEW = 5
"""As many files or videos are named in a message."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def existing_root(root: Path) -> Path:
    """Return the folder.

    Raises:
        DatasetError: it is not there.
    """
    if not root.is_dir():
        raise DatasetError(f"no folder '{root}'; give the data set's root")
    return root


def resolutions(resolution: str | None) -> tuple[str, ...]:
    """Return the folders to look into, in this order: that of a resolution, or all of them."""
    return RESOLUTIONS if resolution is None else (resolution,)


def image_folder(root: Path, split: str, resolution: str | None) -> Path:
    """Return the folder of `<video>/<frame>.jpg`.

    Raises:
        DatasetError: there is none.
    """
    folders = [root / IMAGE_FOLDER / each for each in resolutions(resolution)]
    if resolution is None:
        folders.insert(0, root / split / IMAGE_FOLDER)
    return first_folder(root, folders, "images", "give the data set's root")


def first_folder(root: Path, folders: Sequence[Path], what: str, remedy: str) -> Path:
    """Return the first folder that is there.

    Raises:
        DatasetError: none is; the message names all that were looked for.
    """
    for folder in folders:
        if folder.is_dir():
            return folder
    looked_for = ", ".join(str(folder.relative_to(root)) for folder in folders)
    raise DatasetError(f"no {what} in '{root}': looked for {looked_for}; {remedy}")


def images_in(folder: Path) -> dict[str, Path]:
    """Return the images of a video by the names of the frames; none if there is no such folder."""
    if not folder.is_dir():
        return {}
    return {
        p.stem: p
        for p in sorted(folder.iterdir(), reverse=True)  # .jpg wins over .png
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    }


def listed_videos(root: Path, split: str) -> list[str]:
    """Return the names in the DAVIS list of a split, none if there is no list.

    Raises:
        DatasetError: the list cannot be read.
    """
    name = "val" if split == "valid" else split
    for year in ("2017", "2019"):
        path = root / LIST_FOLDER / year / f"{name}.txt"
        if path.is_file():
            try:
                return read_text(path).split()
            except ValueError as error:
                raise DatasetError(
                    f"cannot read '{path}': {error}; write one name a line"
                ) from None
    return []


def describe_missing(folder: Path, lacking: Sequence[str], total: int, suffix: str) -> str:
    """Return `'folder' lacks 00003.png, 00011.png`; all of its frames are not told one by one."""
    if len(lacking) == total:
        return f"'{folder}' lacks all frames ({total})" if total else f"'{folder}' has no frames"
    return f"'{folder}' lacks {few([name + suffix for name in lacking])}"


def few(names: Sequence[str], between: str = ", ") -> str:
    """Return names in a row, `FEW` at most, and how many more there are."""
    more = len(names) - FEW
    return between.join(names[:FEW]) + (f" and {more} more" if more > 0 else "")


def check_asked(asked: Iterable[str], known: Collection[str], say: Callable[[str], str]) -> None:
    """Say which videos that were asked for are not in a data set, and which may be meant.

    Args:
        asked: names.
        known: the names that are there.
        say: makes names that are not there into the beginning of the message.

    Raises:
        DatasetError: there are such.
    """
    unknown = [name for name in dict.fromkeys(asked) if name not in known]
    if not unknown:
        return
    close = [match for name in unknown for match in difflib.get_close_matches(name, known, n=1)]
    meant = f"did you mean {few([repr(name) for name in close])}?"
    raise DatasetError(
        f"{say(few(unknown))}; {meant if close else f'choose of {few(sorted(known))}'}"
    )
