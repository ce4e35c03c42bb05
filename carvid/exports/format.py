"""What an export format is: a name, a file and a writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from carvid.media.frames import Frame
from carvid.run.track import Track

Writer = Callable[[Track, Path, Iterable[Frame]], None]
"""Writes a track to a path; the frames are those that it was made from, T of them."""


def nothing_needed() -> None:
    """Say that a format needs no further package."""


@dataclass(frozen=True)
class Format:
    """A form in which other tools want a run."""

    name: str
    """What it is called on the command line."""
    file: str
    """The file, or the folder, that it is written to, in a run's folder."""
    write: Writer
    shows_frames: bool = True
    """Whether the writer needs the frames' images, which live input has no more."""
    check: Callable[[], object] = nothing_needed
    """Raises a ConfigError where a package that it needs is missing."""
