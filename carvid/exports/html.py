"""view.html: frames, masks and scores in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from carvid.exports.format import Format
from carvid.media.frames import Frame
from carvid.run.track import Track
from carvid.show.page import write_page


def write_html(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write the page of a run.

    Raises:
        OutputError: the place cannot be written.
    """
    write_page(track, path, frames)


FORMAT = Format("html", "view.html", write_html)
