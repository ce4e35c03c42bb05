"""RunFolder: a run on disk, written frame by frame.

    out/run.json      version, resolved config, weights, video, texts, timing
    out/masks/        %05d.png, or named as the frames, DAVIS label maps
    out/scores.csv    a row for each frame and expression
    out/overlay.mp4   of one picture overlay.png

While a run goes on, `out/.carvid/` holds its progress (`carvid.run.progress`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import OutputError
from carvid.base.files import cannot_write, make_folder, write_text
from carvid.media.frames import Frame
from carvid.media.label_png import write_label_png
from carvid.run.facts import RunFacts
from carvid.run.layout import (
    MASK_FOLDER,
    check_contents,
    check_place,
    is_half_moved,
    put_back,
    set_aside,
)
from carvid.run.progress import Progress
from carvid.run.result import FrameResult
from carvid.run.scores import HEADER, SCORE_COLUMNS, FrameScores, read_scores, scores_in
from carvid.temporal.state import TemporalState

SCORE = SCORE_COLUMNS.index("score")


class Overlay(Protocol):
    """Who draws the overlay video of a run, from its frames as they come or from its masks."""

    def start(self) -> None:
        """Draw from now on, frame by frame, unless the end is the better time."""

    def see(self, frame: Frame) -> Frame:
        """Take note of a frame of a live input before it is segmented."""

    def draw(self, index: int, labels: NDArray[np.uint8], scores: Sequence[float]) -> None:
        """Draw frame `index` with a label map, uint8 (H, W), and N scores in [0, 1]."""

    def finish(self, rows: Iterable[FrameScores], *, progress: bool) -> None:
        """Leave the video of a whole run, whose scores are `rows`."""

    def pause(self, rows: Iterable[FrameScores], *, progress: bool) -> None:
        """Leave a video of the frames that are done, whose scores are `rows`."""

    def abandon(self) -> None:
        """Leave a video only of a live input, whose frames will not come again; for failures."""


MakeOverlay = Callable[[Path, RunFacts], Overlay | None]
"""Makes what draws the overlay of the run in a folder; None if there is to be none."""


class RunFolder:
    """Writes a run's folder, one whole frame after the other.

    Args:
        folder: the run's.
        facts: what the run is made of.
        overlay: who draws its overlay; None draws none.
    """

    def __init__(self, folder: Path, facts: RunFacts, overlay: Overlay | None = None) -> None:
        self.folder, self.facts, self.overlay = folder, facts, overlay
        self._progress = Progress(folder, facts)
        self._replaces = False
        """Whether an earlier run is still in its place, which the first frame will take."""

    def check(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Say early that the folder cannot be used.

        Raises:
            OutputError: it holds something else, or another run than the one to resume; or
                something else is among what would be replaced.
        """
        holds_run = check_place(self.folder, resume=resume, overwrite=overwrite)
        if holds_run and overwrite:
            check_contents(self.folder)
        saved = self._progress.saved_inputs() if holds_run and not overwrite else None
        if saved is not None and saved != self._progress.inputs:
            raise OutputError(
                f"'{self.folder}' holds a run with other inputs or settings; choose another "
                "folder with -o, or replace it with --overwrite"
            )

    @property
    def finished(self) -> bool:
        """Whether the folder holds a whole run."""
        return (self.folder / "run.json").exists() and not self._progress.begun

    @property
    def mask_folders(self) -> tuple[Path, ...]:
        """Where the masks go."""
        return (self.folder / MASK_FOLDER,)

    def begin(
        self, *, resume: bool = False, overwrite: bool = False
    ) -> tuple[int, TemporalState | None]:
        """Make the folder; return the first frame to do, and the state before it, if saved.

        A run that is replaced stays until the first frame of the new one is there, and is then kept
        in `.carvid/replaced` until that is whole.

        Raises:
            OutputError: as `check`; or a live input is to go on, or what was saved is damaged.
        """
        self.check(resume=resume, overwrite=overwrite)
        self._replaces = overwrite
        if overwrite:
            return 0, None
        if is_half_moved(self.folder):
            self._set_aside()
        self._make_folders()
        if not self._progress.begun:
            self._progress.begin()
            return 0, None
        if self.facts.video.live:
            raise OutputError(
                f"'{self.folder}' holds a part of '{self.facts.video.path}', which comes only "
                "once; choose another folder with -o, or replace it with --overwrite"
            )
        self._progress.load()
        return self._progress.done, self._progress.state

    def add(self, result: FrameResult, labels: NDArray[np.uint8] | None = None) -> None:
        """Write one frame; it counts once the progress is saved, which is soon.

        Args:
            result: what was found in it.
            labels: its label map, uint8 (H, W), if that is at hand.

        Raises:
            OutputError: the place cannot be written.
        """
        labels = result.labels() if labels is None else labels
        rows = result.rows(self.facts.texts)
        self._take_place()
        self.write_masks(result, labels)
        if self.overlay is not None:  # with scores as they are read back, rounded
            self.overlay.draw(result.index, labels, [float(row[SCORE]) for row in rows])
        self._progress.add(result.index, result.state, rows)

    def write_masks(self, result: FrameResult, labels: NDArray[np.uint8]) -> None:
        """Write the masks of one frame; `labels`, uint8 (H, W), is its label map."""
        path = self.folder / MASK_FOLDER / self.facts.mask_name(result.index)
        if self.facts.keep_names:  # which may be in folders
            make_folder(path.parent)
        write_label_png(path, labels)

    def finish(
        self, timing: dict[str, float], *, lost: Sequence[str] = (), progress: bool = False
    ) -> None:
        """Write scores.csv, the overlay and, last, run.json.

        Raises:
            Stopped: somebody wanted to stop while the overlay was drawn; the run can be resumed.
            OutputError: the place cannot be written.
            VideoError: the video is no longer there.
        """
        self._take_place()
        self._progress.save()
        scores = self.folder / "scores.csv"
        write_text(scores, HEADER + self._progress.scores())
        if self.overlay is not None:
            rows = read_scores(scores, len(self.facts.texts))
            self.overlay.finish(rows, progress=progress)
        values = self.facts.to_dict() | {"lost": list(lost), "timing": timing}
        write_text(
            self.folder / "run.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        )
        self._progress.remove()

    def pause(self, *, progress: bool = False) -> None:
        """Leave a video of what is done so far; the run can be resumed."""
        if self._replaces:  # nothing is
            self.abandon()
            return
        self._progress.save()
        if self.overlay is not None:
            lines = io.StringIO(HEADER + self._progress.scores(), newline="")
            rows = scores_in(lines, len(self.facts.texts))
            self.overlay.pause(rows, progress=progress)

    def abandon(self) -> None:
        """Leave a video of what came of a live input, which will not come again, or the run that
        was to be replaced, if nothing came; for failures."""
        if not self._progress.done and not self._replaces:
            with suppress(OSError):
                self._replaces = put_back(self.folder)
        if not self._replaces:
            with suppress(OutputError):  # a full disk is the failure itself
                self._progress.save()
        if self.overlay is not None:
            self.overlay.abandon()

    def forget_if_empty(self) -> None:
        """Leave nothing of a run without a frame, which would be in the way of a better one."""
        if not self._progress.done:
            if not self._replaces:
                self._progress.discard()
            for folder in (*self.mask_folders, self.folder):
                with suppress(OSError):  # somebody else's things are in it
                    folder.rmdir()

    def _take_place(self) -> None:
        """Take the place of an earlier run, if one is to be replaced and still there."""
        if self._replaces:
            self._set_aside()
            self._make_folders()
            self._replaces = False

    def _set_aside(self) -> None:
        try:
            set_aside(self.folder)
        except OSError as error:
            raise cannot_write(self.folder, str(error.strerror or error)) from None

    def _make_folders(self) -> None:
        self._progress.make_folder()  # first: it marks the folder as a run's
        for folder in self.mask_folders:
            make_folder(folder)
