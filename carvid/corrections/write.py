"""A corrected run on disk: in the run's folder, with the run as it was in `uncorrected/`."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from carvid.base.errors import ConfigError
from carvid.base.files import cannot_write
from carvid.base.interrupt import until_stopped
from carvid.config import Config
from carvid.corrections.masks import CorrectedMasks
from carvid.media.open import is_live
from carvid.run.corrections import Correction
from carvid.run.earlier import inputs_in
from carvid.run.facts import RunFacts
from carvid.run.folder import RunFolder
from carvid.run.layout import MASK_FOLDER, RUN_NAMES, UNCORRECTED
from carvid.run.record import record
from carvid.run.result import FrameResult
from carvid.run.track import MemoryStore, Track
from carvid.show.run_overlay import run_overlay
from carvid.temporal.state import TemporalState

KEPT = ("scores.csv", MASK_FOLDER, "run.json")
"""What is kept of a run as it was."""
MAKING = f"{UNCORRECTED}.partial"
"""The same while it is copied."""


class CorrectedFolder(RunFolder):
    """The folder of a run with corrections: as it was, it stays beside it."""

    names: ClassVar[tuple[str, ...]] = tuple(name for name in RUN_NAMES if name != UNCORRECTED)


def corrected_folder(folder: Path, facts: RunFacts) -> CorrectedFolder:
    """Return what writes a run with corrections into its folder."""
    return CorrectedFolder(folder, facts, run_overlay(folder, facts))


def place_of_run(out: Path, corrections: Sequence[Correction], *, resume: bool) -> Path:
    """Return where the run goes that is corrected in `out`: there, or, where a corrected one goes
    on, where it was kept."""
    kept = out / UNCORRECTED
    goes_on = corrections and resume and kept.is_dir() and is_corrected(out)
    return kept if goes_on else out


def check_correctable(video: object, config: Config) -> None:
    """Say early that a run could not be corrected.

    Args:
        video: what is segmented.
        config: the run's settings.

    Raises:
        ConfigError: it comes only once, is a run of classes, or one whose masks are not carried.
    """
    if not isinstance(video, str | Path) or is_live(str(video)):
        raise ConfigError("what comes only once cannot be corrected, since it is read again")
    check_settings(config)


def check_settings(config: Config) -> None:
    """Say that a run with such settings cannot be corrected.

    Raises:
        ConfigError: it is one of classes, or one whose masks are not carried.
    """
    if config.car.mode == "semantic":
        raise ConfigError("a run of classes cannot be corrected; only one of expressions can")
    if not config.temporal.carry_masks:
        raise ConfigError("a run without temporal.carry_masks cannot be corrected")


def uncorrected(folder: Path) -> Track:
    """Open the run of a folder as it was before any correction.

    Raises:
        OutputError: there is no finished run.
    """
    kept = folder / UNCORRECTED
    return Track.open(kept if kept.is_dir() else folder)


def is_corrected(folder: Path) -> bool:
    """Whether a folder holds a run with corrections, begun or whole."""
    return bool((inputs_in(folder) or {}).get("corrections"))


def keep_uncorrected(folder: Path) -> None:
    """Copy the run of a folder, which is whole and has no corrections yet, to where it stays.

    Raises:
        OutputError: it cannot be written.
    """
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


def write_corrected(target: CorrectedFolder, masks: CorrectedMasks, *, progress: bool) -> None:
    """Write a corrected run into its folder, which is locked, in place of the one that is there.

    Args:
        target: the run's folder.
        masks: its masks.
        progress: show a bar for the overlay.

    Raises:
        Stopped: somebody wanted to stop.
        OutputError: the folder cannot be written.
    """
    if not is_corrected(target.folder):
        shutil.rmtree(target.folder / UNCORRECTED, ignore_errors=True)
        keep_uncorrected(target.folder)
    track = uncorrected(target.folder)
    masks.read_from(track)
    results = partial(_results, track, masks)
    record(target, results, track.lost, resume=True, overwrite=True, progress=progress)
    if not target.facts.corrections:
        shutil.rmtree(target.folder / UNCORRECTED, ignore_errors=True)


def corrected_track(
    track: Track, masks: CorrectedMasks, corrections: Sequence[Correction]
) -> Track:
    """Return a run in memory, with the masks that corrections have changed."""
    store = MemoryStore(replace(track.facts, corrections=tuple(corrections)))
    for result in _results(track, masks, 0, None):
        store.add(result, masks.labels(result.index))
    return replace(store.track(track.lost), make_overlay=track.make_overlay)


def _results(
    track: Track, masks: CorrectedMasks, start: int, state: TemporalState | None
) -> Generator[FrameResult, None, None]:
    """The frames from an index on; they have no state, and need none."""
    changed = set(masks.changed)
    for index in until_stopped(range(start, len(track))):
        result = track.result(index)
        if index in changed:
            found = masks.masks(index)
            result = replace(result, masks=found, maps=found.astype(result.maps.dtype))
        yield result
