"""What an export format is: a name, a file and a writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from carvid.exports.data_set import DataSet
from carvid.media.frames import Frame
from carvid.run.layout import RUN_CONTENTS
from carvid.run.track import Track

Writer = Callable[[Track, Path, Iterable[Frame]], None]
"""Writes a track to a path; the frames are those that it was made from, T of them."""
SetWriter = Callable[[DataSet, Path], None]
"""Writes runs, joined, to a path; one of them is a data set, too."""


def nothing_needed() -> None:
    """Say that a format needs no further package."""


@dataclass(frozen=True)
class Format:
    """A form in which other tools want a run."""

    name: str
    """What it is called on the command line."""
    file: str
    """The file, or the folder, that it is written to, in a run's folder."""
    write: Writer | None = None
    """Writes one run; None of a format that is a data set."""
    write_set: SetWriter | None = None
    """Writes several, of a data set."""
    shows_frames: bool = True
    """Whether the writer needs the frames' images, which live input has no more."""
    check: Callable[[], object] = nothing_needed
    """Raises a ConfigError where a package that it needs is missing."""


def remove_old(folder: Path, pattern: str, written: Iterable[Path]) -> None:
    """Remove what an earlier run wrote into a format's folder and this one did not, with the
    folders that are empty then; what carvid does not write stays.

    Args:
        folder: the format's, in the run's.
        pattern: what the format writes there, for `Path.glob`.
        written: what this run wrote.
    """
    for old in set(folder.glob(pattern)).difference(written):
        if RUN_CONTENTS.fullmatch(old.relative_to(folder.parent).as_posix()):
            old.unlink()
            with suppress(OSError):  # others are still there
                old.parent.rmdir()
