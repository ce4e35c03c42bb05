"""Folders that data sets of labelled images share: images, truths and lists of a split."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from carvid.base.errors import DatasetError
from carvid.base.files import read_text
from carvid.base.names import is_there
from carvid.datasets.folders import existing_root, few
from carvid.datasets.semantic_dataset import LabelledImage

IMAGE_ENDING = ".jpg"
SPLIT_FOLDERS = {"val": "validation", "train": "training"}
"""How ADE20K and detectron2 call the folders of these splits."""


@dataclass(frozen=True)
class Files:
    """The files in a folder whose names have an ending."""

    folder: Path
    ending: str
    deep: bool = False
    """They lie in folders of it, at any depth."""

    @cached_property
    def found(self) -> dict[str, Path]:
        """The files that are there by their names without the ending, sorted."""
        if not self.folder.is_dir():
            return {}
        paths = self.folder.rglob(f"*{self.ending}") if self.deep else self.folder.iterdir()
        return {
            path.name.removesuffix(self.ending): path
            for path in sorted(paths)
            if path.name.endswith(self.ending) and not path.name.startswith(".")
        }

    def lacking(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that have no file."""
        return [name for name in names if name not in self.found]


def find_base(root: Path, places: Sequence[str], holds: Sequence[str], download: str) -> Path:
    """Return the folder, at or in a root, that holds a data set.

    Args:
        root: what the user gave.
        places: where it may be, from the root; the first that holds something is taken.
        holds: what it holds, of which one is enough.
        download: as in `SemanticDataset`.

    Raises:
        DatasetError: there is no root, or nothing in these places.
    """
    root = existing_root(root)
    for place in places:
        if any(is_there(root / place / name) for name in holds):
            return root / place
    looked = ", ".join(place for place in places if place)
    raise DatasetError(
        f"nothing of the data set in '{root}': looked for {', '.join(holds)}, also in {looked}; "
        f"give the folder where you have unpacked {download}"
    )


def read_split(paths: Sequence[Path]) -> tuple[Path, tuple[str, ...]] | None:
    """Read the list of a split: the first word of each line, without folder and ending.

    Args:
        paths: where it may be; the first that is there is taken.

    Returns:
        The list's path, and the names in it, each once; None if there is no list.

    Raises:
        DatasetError: it cannot be read, or is empty.
    """
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    try:
        lines = read_text(path, encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read '{path}': {error}; write one name a line") from None
    names = tuple(dict.fromkeys(Path(line.split()[0]).stem for line in lines if line.strip()))
    if not names:
        raise DatasetError(f"'{path}' is empty; write one name a line, or unpack it again")
    return path, names


def no_split(path: Path) -> str:
    """Say that the list of a split is missing, and which are there."""
    there = few([p.name for p in sorted(path.parent.glob("*.txt"))])
    return f"no list {path.parent.name}/{path.name}" + (f" (there: {there})" if there else "")


def paired(
    root: Path,
    names: Collection[str],
    images: Files,
    truths: Files | Path,
    download: str,
    faults: Iterable[str] = (),
) -> tuple[LabelledImage, ...]:
    """Put the images and truths of a split together.

    Args:
        root: of the data set.
        names: of the split's images; none where it has no list, and the folders say them.
        images: where images are.
        truths: where truths are; or the file that holds all of them.
        download: as in `SemanticDataset`.
        faults: what is already known to be missing, a clause each.

    Raises:
        DatasetError: something is missing; the message lists all of it.
    """
    faults = list(faults)
    kinds = {"image": images} | ({"truth": truths} if isinstance(truths, Files) else {})
    names = names or sorted({name for files in kinds.values() for name in files.found})
    for what, files in kinds.items():
        lacking, place = files.lacking(names), _from(root, files.folder)
        if not files.found:
            faults.append(f"no {what}s in {place} (*{files.ending})")
        elif lacking:
            shown = few([name + files.ending for name in lacking])
            faults.append(f"{len(lacking)} of {len(names)} {what}s missing in {place}: {shown}")
    if faults:
        raise DatasetError(f"'{root}' is not whole: {'; '.join(faults)}; unpack {download} again")
    return tuple(
        LabelledImage(
            name, images.found[name], truths if isinstance(truths, Path) else truths.found[name]
        )
        for name in names
    )


def _from(root: Path, folder: Path) -> str:
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder)
