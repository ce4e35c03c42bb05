"""What is read is never written: under no name, by no link, in no folder that is to be replaced."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from carvid.base.errors import OUT, OutputError
from carvid.base.files import partial_of

STDIN = 0
Identity = tuple[int, int]
"""Device and inode of a file or folder: equal for all its names and links."""


def check_apart(
    read: Iterable[str | Path],
    written: Iterable[Path],
    *,
    remedy: str = f"choose another place with {OUT}",
) -> None:
    """Refuse to write onto what is read.

    Args:
        read: files and folders, these without what is in them; `-` is what comes through a pipe.
            What is not there, a camera or a stream, is nothing.
        written: files that are to be made, replaced or removed; of a folder all that is in it.
        remedy: how the message ends.

    Raises:
        OutputError: one of `written` is one of `read`.
    """
    targets = {identity: path for path in written for identity, path in _all_in(path)}
    if not targets:
        return
    for source in read:
        identity = _identity_of_input(source)
        if identity in targets:
            target = targets[identity]
            same = "" if str(target) == str(source) else f" the same as '{source}', which is"
            raise OutputError(f"'{target}' is{same} read, and would be overwritten; {remedy}")


def check_distinct(written: Iterable[Path], *, remedy: str) -> None:
    """Refuse to write two things to one place.

    Raises:
        OutputError: two of `written` are the same file, or would be.
    """
    seen: dict[object, Path] = {}
    for path in written:
        for place in (os.path.normcase(os.path.realpath(path)), _identity(path) or path):
            other = seen.setdefault(place, path)
            if other is not path:
                raise OutputError(f"'{other}' and '{path}' are one file; {remedy}")


def check_writable(path: Path) -> None:
    """Say early that a file cannot be written, before the work that it is to hold.

    Raises:
        OutputError: it has no folder, one that cannot be written to, or is one itself.
    """
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"cannot write '{path}': it is a folder; give a file")
    if not folder.is_dir():
        raise OutputError(
            f"cannot write '{path}': no folder '{folder}'; make it, or choose another"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to the folder '{folder}'; choose another")


def files_in(place: str | Path) -> list[Path]:
    """Return a folder and the files right in it, or the file; nothing, if there is no such."""
    path = Path(place)
    try:
        return [path, *path.iterdir()] if path.is_dir() else [path] * path.exists()
    except (OSError, ValueError):  # unreadable, or no name of a file
        return []


def _all_in(place: Path) -> Iterator[tuple[Identity, Path]]:
    """A file, and the one that it is written to first; or a folder with all that is in it."""
    paths = [place] if place.is_dir() else [place, partial_of(place)]
    for folder, folders, files in os.walk(place):
        paths += [Path(folder, name) for name in (*folders, *files)]
    for path in paths:
        identity = _identity(path)
        if identity is not None:
            yield identity, path


def _identity(path: str | Path | int) -> Identity | None:
    try:
        facts = os.stat(path)
    except (OSError, ValueError):  # not there, or no name of a file
        return None
    return facts.st_dev, facts.st_ino


def _identity_of_input(source: str | Path) -> Identity | None:
    if str(source) != "-":
        return _identity(source)
    try:
        return _identity(STDIN) if stat.S_ISREG(os.fstat(STDIN).st_mode) else None
    except OSError:  # closed
        return None
