"""A corrected run on disk: in the run's folder, with the run as it was in `uncorrected/`."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from carvid.base.errors import OVERWRITE, ConfigError, OutputError
from carvid.base.files import cannot_write, partial_of, read_json
from carvid.base.interrupt import until_stopped
from carvid.config import Config
from carvid.corrections.masks import CorrectedMasks
from carvid.media.open import is_live
from carvid.run.corrections import Correction, in_json
from carvid.run.earlier import inputs_in
from carvid.run.facts import RunFacts
from carvid.run.folder import RunFolder
from carvid.run.layout import (
    MASK_FOLDER,
    MOVING,
    PROGRESS_FOLDER,
    REPLACED,
    RUN_NAMES,
    UNCORRECTED,
    tidy,
)
from carvid.run.progress import NOT_OURS
from carvid.run.record import record
from carvid.run.result import FrameResult
from carvid.run.track import MemoryStore, Track
from carvid.show.run_overlay import RunOverlay, run_overlay
from carvid.temporal.state import TemporalState

KEPT = ("scores.csv", MASK_FOLDER, "run.json")
"""What is kept of a run as it was."""
PROGRESS_JSON = Path(PROGRESS_FOLDER, "progress.json")
"""In the folder of a run that is not whole."""


class CorrectedFolder(RunFolder):
    """The folder of a run with corrections: as it was, it stays beside it."""

    names: ClassVar[tuple[str, ...]] = tuple(name for name in RUN_NAMES if name != UNCORRECTED)

    def __init__(self, folder: Path, facts: RunFacts, overlay: RunOverlay | None = None) -> None:
        super().__init__(folder, facts, overlay)
        # Also where there are none: while they are undone, it is no run that another one goes on.
        self._progress.inputs["corrections"] = in_json(facts.corrections)


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
        OutputError: there is no finished run, or a corrected one without that.
    """
    kept = folder / UNCORRECTED
    track = Track.open(kept if kept.is_dir() else folder)
    if track.facts.corrections:
        raise OutputError(
            f"'{folder}' lacks '{UNCORRECTED}', the run before its corrections; make it anew with "
            f"{OVERWRITE}"
        )
    return track


def is_corrected(folder: Path) -> bool:
    """Whether a folder holds a run whose corrections are there, or are being made or undone."""
    return "corrections" in (inputs_in(folder) or {})


def tidy_corrected(folder: Path) -> None:
    """Remove what a kill has left in the folder of a finished run, when it was copied, or at the
    very end of its corrections, or of undoing them."""
    kept = folder / UNCORRECTED
    if (folder / "run.json").exists() and not (folder / PROGRESS_JSON).exists():
        tidy(folder)
        shutil.rmtree(partial_of(kept), ignore_errors=True)
        inputs = inputs_in(folder)
        if kept.exists() and inputs is not None and "corrections" not in inputs:
            with suppress(OSError):  # it stays, and is the same run
                kept.rename(partial_of(kept))  # a part of it would not be
            shutil.rmtree(partial_of(kept), ignore_errors=True)


def corrections_in(target: CorrectedFolder) -> list[Correction]:
    """Return the corrections that the run in a folder has, in order; of one that was interrupted
    while it was corrected, those of the run that is being replaced.

    Raises:
        OutputError: nobody can say.
    """
    folder, progress = target.folder, target.folder / PROGRESS_FOLDER
    places = [folder] if target.finished else [progress / REPLACED, progress / MOVING, folder]
    path = next((each / "run.json" for each in places if (each / "run.json").exists()), None)
    try:
        return [] if path is None else list(RunFacts.from_dict(read_json(path)).corrections)
    except (OSError, ConfigError, *NOT_OURS):
        raise OutputError(
            f"'{path}' is damaged, and has the corrections; make the run anew with {OVERWRITE}"
        ) from None


def keep_uncorrected(folder: Path) -> None:
    """Copy the run of a folder, which is whole and has no corrections yet, to where it stays.

    Raises:
        OutputError: it cannot be written.
    """
    making = partial_of(folder / UNCORRECTED)
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
        DatasetError: a mask of the run as it was is damaged; nothing is touched.
    """
    track = uncorrected(target.folder)
    for _ in track.label_maps:  # a damaged one is told before anything is replaced
        pass
    if target.finished and not is_corrected(target.folder):
        keep_uncorrected(target.folder)
        track = uncorrected(target.folder)
    masks.read_from(track)
    results = partial(_results, track, masks)
    record(target, results, track.lost, resume=True, overwrite=True, progress=progress)
    tidy_corrected(target.folder)


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
