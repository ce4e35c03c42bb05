"""A corrected run on disk: in the run's folder, with the run as it was in `uncorrected/`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from carvid.base.errors import OutputError
from carvid.base.files import cannot_write
from carvid.base.interrupt import until_stopped
from carvid.corrections.masks import CorrectedMasks
from carvid.run.corrections import Correction
from carvid.run.folder import RunFolder
from carvid.run.layout import MASK_FOLDER
from carvid.run.result import FrameResult
from carvid.run.track import Track
from carvid.show.run_overlay import run_overlay

KEPT = ("scores.csv", MASK_FOLDER, "run.json")
"""What is kept of a run as it was; last what makes it look whole."""
MAKING = f"{UNCORRECTED}.making"
"""The same while it is copied."""


def keep_uncorrected(folder: Path) -> None:
    """Copy the run of a folder, which has no corrections, to where it stays while it has some.

    Raises:
        OutputError: it cannot be written.
    """
    if (folder / UNCORRECTED).exists():
        return
    making = folder / MAKING
    try:
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        for name in KEPT:
            if (folder / name).is_dir():
                shutil.copytree(folder / name, making / name)
            else:
                shutil.copyfile(folder / name, making / name)
        making.rename(folder / UNCORRECTED)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise cannot_write(folder / UNCORRECTED, str(error.strerror or error)) from None


def uncorrected(folder: Path) -> Track:
    """Open the run of a folder as it was before any correction.

    Raises:
        OutputError: there is no finished run.
    """
    kept = folder / UNCORRECTED
    return Track.open(kept if (kept / "run.json").is_file() else folder)


def write_corrected(
    folder: Path,
    track: Track,
    masks: CorrectedMasks,
    corrections: Sequence[Correction],
    *,
    progress: bool,
) -> None:
    """Write a corrected run into its folder, which is locked, in place of the one that is there.

    Args:
        folder: the run's.
        track: the run that `masks` has changed.
        masks: the masks.
        corrections: all that are in them.
        progress: show a bar for the overlay.

    Raises:
        Stopped: somebody wanted to stop.
        OutputError: the folder cannot be written.
    """
    facts = replace(track.facts, corrections=tuple(corrections))
    target = CorrectedFolder(folder, facts, run_overlay(folder, facts))
    target.begin(overwrite=True)
    if target.overlay is not None:
        target.overlay.start()
    try:
        for result in until_stopped(_results(track, masks)):
            target.add(result, masks.labels(result.index))
    except BaseException:
        target.abandon()
        raise
    target.finish({}, lost=track.lost, progress=progress)


def _results(track: Track, masks: CorrectedMasks) -> Iterator[FrameResult]:
    changed = set(masks.changed)
    for index in range(len(track)):
        result = track.result(index)
        yield replace(result, masks=masks.masks(index)) if index in changed else result


class CorrectedFolder(RunFolder):
    """The folder of a run whose masks are corrected: what it was stays beside it."""
