"""The frames of a run, from what finds them to the run's folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from operator import attrgetter
from pathlib import Path

from carvid.base.background import run_in_background
from carvid.base.errors import VideoError
from carvid.base.interrupt import Stopped
from carvid.base.words import plural
from carvid.run.folder import RunFolder
from carvid.run.result import FrameResult
from carvid.temporal.state import TemporalState

log = logging.getLogger("carvid")

Results = Callable[[int, TemporalState | None], Generator[FrameResult, None, None]]
"""Gives the frames from an index on, of which the state before it is known."""


def record(
    folder: RunFolder,
    results: Results,
    lost: Sequence[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> None:
    """Write a run's frames as they come, and finish its folder, which the caller has locked.

    Args:
        folder: where to.
        results: gives the frames.
        lost: fills, while they come, with what could not be read.
        resume: go on after the last whole frame there.
        overwrite: replace an earlier run, when the first frame is done.
        progress: show a bar for an overlay that is drawn at the end.

    Raises:
        Stopped: somebody wanted to stop; the run can be resumed, and has a video of what is done.
        CarvidError: what `results` or `folder` raise.
    """
    start, state = folder.begin(resume=resume, overwrite=overwrite)
    try:
        _fill(folder, results(start, state), lost, draw=not start, progress=progress)
    except VideoError:
        folder.abandon()
        folder.forget_if_empty()
        raise
    except BaseException:
        folder.abandon()
        raise


def _fill(
    folder: RunFolder,
    results: Generator[FrameResult, None, None],
    lost: Sequence[str],
    *,
    draw: bool,
    progress: bool,
) -> None:
    """Do as `record` from where it has begun; `draw` the overlay along with the frames."""
    began_s, frames, stopped = time.monotonic(), 0, False
    if draw and folder.overlay is not None:
        folder.overlay.start()
    with closing(results), run_in_background(folder.add, attrgetter("nbytes")) as write:
        try:
            for result in results:
                write(result)
                frames += 1
        except Stopped:
            stopped = True
    if stopped:  # and what was found before is written
        folder.pause(progress=progress)
        raise Stopped
    seconds = time.monotonic() - began_s
    timing = {"seconds": round(seconds, 3), "frames_per_s": round(frames / seconds, 3)}
    if not progress:  # a bar says as much
        name = Path(folder.facts.video.path).name
        counted = plural(frames, "frame")
        log.info("%s: %s in %.1f s, %.2f frame/s", name, counted, seconds, frames / seconds)
    folder.finish(timing, lost=lost, progress=progress)
