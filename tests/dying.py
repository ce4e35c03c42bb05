#!/usr/bin/env python
"""Workers of a batch that die, or wait to be ended, in the middle of a clip.

`python -m tests.dying FILE WORD …` is a command line whose workers wait; FILE is made when the
first one does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

from carvid.batch import run as batches
from carvid.batch.manifest import Clip
from carvid.run.folder import RunFolder
from tests import HANGS_S

CLIP, FRAME = "clip-02", 1
"""Where it happens: in this clip, when this frame's masks, from 0, are to be written."""
whole_work = batches._work


def die(place: Path) -> None:
    """Die the first time; whoever tries the clip again does it."""
    if not place.exists():
        place.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def wait(place: Path) -> None:
    """Tell who waits, and wait to be ended."""
    part = place.with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(place)
    time.sleep(HANGS_S)
    raise AssertionError("nobody ended this worker")


def wait_once(place: Path) -> None:
    """Wait the first time; whoever tries the clip again does it."""
    if not place.exists():
        wait(place)


def work_until(
    then: Callable[[Path], None], place: Path, model: Any, clip: Clip, **options: Any
) -> Generator[dict[str, Any], None, None]:
    """Do a clip as a batch does, and something else in its middle."""
    write_masks = RunFolder.write_masks

    def write(folder: RunFolder, result: Any, labels: Any) -> None:
        if clip.name == CLIP and result.index == FRAME:
            then(place)
        write_masks(folder, result, labels)

    RunFolder.write_masks = write  # type: ignore[method-assign]
    try:
        yield from whole_work(model, clip, **options)
    finally:
        RunFolder.write_masks = write_masks  # type: ignore[method-assign]


def main(place: Path, words: list[str]) -> None:
    from carvid.cli import main as command_line
    from tests import dying  # by its name, as workers import it

    batches._work = partial(dying.work_until, dying.wait, place)  # type: ignore[assignment]
    sys.argv = ["carvid", *words]
    command_line()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
