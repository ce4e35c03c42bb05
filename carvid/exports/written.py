"""The files of a format that have names of their own, and a list of them, so that a later export
removes what it does not write again, and nothing else."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from carvid.base.files import cannot_write, make_folder, write_text
from carvid.run.layout import LIST_NAME, listed_files

ODD = re.compile(r"[^\w.-]")
"""What some system, compositor or trainer takes amiss in a file's name; letters of all alphabets
are none of it."""
LONGEST_BYTES = 150
"""Of a name without its ending, in UTF-8; file systems take 255."""


class Written:
    """Notes what is written into a folder, before it is.

    Args:
        folder: the format's.
        notes: the list, open at its end.
    """

    def __init__(self, folder: Path, notes: TextIO) -> None:
        self.folder, self._notes = folder, notes
        self.names: set[str] = set()
        """All that was given to `place`."""

    def place(self, name: str) -> Path:
        """Return where a file goes, whose folder is there then.

        Args:
            name: its path from the folder, with `/`.

        Raises:
            OutputError: its folder cannot be made, or the list not be written.
        """
        path = self.folder / name
        make_folder(path.parent)
        try:
            self._notes.write(json.dumps(name) + "\n")
            self._notes.flush()
        except OSError as error:
            raise cannot_write(self.folder / LIST_NAME, str(error.strerror or error)) from None
        self.names.add(name)
        return path


@contextmanager
def writing_into(folder: Path) -> Iterator[Written]:
    """Make a folder, and give what notes the files that go there; at the end remove those of an
    earlier export that were not written again. An exception leaves both, and all in the list.

    Raises:
        OutputError: the folder cannot be made, or its list not be written.
    """
    make_folder(folder)
    old = listed_files(folder)
    _write_list(folder, old)
    try:
        notes = (folder / LIST_NAME).open("a", encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder / LIST_NAME, str(error.strerror or error)) from None
    with notes:
        written = Written(folder, notes)
        yield written
    for name in old - written.names:
        with suppress(OSError):  # it is gone, or somebody has made a folder of it
            (folder / name).unlink()
            (folder / name).parent.rmdir()  # if no others are there
    _write_list(folder, written.names)


def _write_list(folder: Path, names: set[str] | frozenset[str]) -> None:
    write_text(folder / LIST_NAME, "".join(json.dumps(name) + "\n" for name in sorted(names)))


class Stems:
    """Gives each file a name, without its ending, that no other one has on any system.

    Args:
        keep: leave names as they are, also those that some system takes amiss.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self._taken: set[str] = set()

    def of(self, text: str) -> str:
        """Return a text as a name; a number is added where it was given before."""
        name, number = text if self._keep else safe_stem(text), 1
        stem = name
        while (folded := unicodedata.normalize("NFC", stem).casefold()) in self._taken:
            number += 1
            stem = f"{name}_{number}"
        self._taken.add(folded)
        return stem


def safe_stem(text: str) -> str:
    """Return a text with `_` for what some system takes amiss in a file's name."""
    name = ODD.sub("_", unicodedata.normalize("NFC", text)).lstrip(".-")
    return name.encode()[:LONGEST_BYTES].decode(errors="ignore") or "_"
