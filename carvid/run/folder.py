"""RunFolder: a run on disk, written frame by frame.

    out/run.json      version, resolved config, weights, video, texts, timing
    out/masks/        %05d.png, or named as the frames, DAVIS label maps
    out/scores.csv    a row for each frame and expression
    out/overlay.mp4   of one picture overlay.png
    out/classes.json  in semantic mode: what the labels stand for

While a run goes on, `out/.carvid/` holds its progress (`carvid.run.progress`).
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import OVERWRITE, OutputError
from carvid.base.files import cannot_write, make_folder, read_json, write_text
from carvid.media.frames import Frame
from carvid.media.label_png import is_whole_png, read_label_png, write_label_png
from carvid.run.classes import has_classes, write_classes
from carvid.run.earlier import check_earlier
from carvid.run.facts import RunFacts
from carvid.run.layout import (
    CHOOSE,
    MASK_FOLDER,
    RUN_NAMES,
    check_contents,
    is_half_moved,
    put_back,
    set_aside,
    tidy,
)
from carvid.run.progress import NOT_OURS, Progress
from carvid.run.result import FrameResult
from carvid.run.scores import (
    HEADER,
    SCORE_COLUMNS,
    FrameScores,
    fault_in_scores,
    read_scores,
    scores_in,
)
from carvid.temporal.state import TemporalState

log = logging.getLogger("carvid")

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

    names: ClassVar[tuple[str, ...]] = RUN_NAMES
    """What of an earlier run it takes the place of."""

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
        check_earlier(self.folder, self._progress.inputs, resume=resume, overwrite=overwrite)

    def done(self, *, resume: bool = False, overwrite: bool = False) -> bool:
        """Whether the folder holds this very run, whole, and it is not to be made again.

        Raises:
            OutputError: as `check`.
        """
        replaced = check_earlier(
            self.folder, self._progress.inputs, resume=resume, overwrite=overwrite
        )
        return self.finished and not replaced and self._damage() is None

    @property
    def finished(self) -> bool:
        """Whether the folder holds a run that came to its end."""
        return (self.folder / "run.json").exists() and not self._progress.begun

    @property
    def replaces(self) -> bool:
        """Whether `begin` has found an earlier run, whose place the first frame will take."""
        return self._replaces

    @property
    def mask_folders(self) -> tuple[Path, ...]:
        """Where the masks go."""
        return (self.folder / MASK_FOLDER,)

    def begin(
        self, *, resume: bool = False, overwrite: bool = False
    ) -> tuple[int, TemporalState | None]:
        """Make the folder; return the first frame to do, and the state before it, if saved.

        A run that is replaced stays until the first frame of the new one is there, and is then kept
        in `.carvid/replaced` until that is whole; so with one that is damaged, which is done again.

        Raises:
            OutputError: as `check`; or a live input is to go on.
        """
        self._replaces = check_earlier(
            self.folder, self._progress.inputs, resume=resume, overwrite=overwrite
        )
        if self._replaces:
            return 0, None
        if is_half_moved(self.folder):
            self._set_aside()
        if self.facts.video.live and self._progress.begun:
            raise OutputError(
                f"'{self.folder}' holds a part of '{self.facts.video.path}', which comes only "
                f"once; {CHOOSE}, or replace it with {OVERWRITE}"
            )
        damage = self._damage()
        if damage is not None:
            log.warning("%s; the run is done again from its first frame", damage)
            check_contents(self.folder)
            self._replaces = True
            return 0, None
        self._make_folders()
        if not self._progress.begun:
            self._progress.begin()
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

    def mask_files(self, index: int) -> list[Path]:
        """Return the files that frame `index` has."""
        return [self.folder / MASK_FOLDER / self.facts.mask_name(index)]

    def write_masks(self, result: FrameResult, labels: NDArray[np.uint8]) -> None:
        """Write the masks of one frame; `labels`, uint8 (H, W), is its label map."""
        path = self.folder / MASK_FOLDER / self.facts.mask_name(result.index)
        if self.facts.keep_names:  # which may be in folders
            make_folder(path.parent)
        write_label_png(path, labels)

    def finish(
        self, timing: dict[str, float], *, lost: Sequence[str] = (), progress: bool = False
    ) -> None:
        """Write scores.csv, the overlay, classes.json and, last, run.json.

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
        self.write_classes(self._progress.done)
        values = self.facts.to_dict() | {
            "frame_count": self._progress.done, "lost": list(lost), "timing": timing
        }  # fmt: skip
        write_text(
            self.folder / "run.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        )
        self._progress.remove()

    def complete(self) -> None:
        """Write what a finished run may lack, and remove what a kill at its very end has left.

        Raises:
            CarvidError: as `write_classes`.
        """
        if self.facts.semantic and not has_classes(self.folder, self.facts):
            self.write_classes(int(read_json(self.folder / "run.json")["frame_count"]))
        tidy(self.folder)

    def write_classes(self, frames: int) -> None:
        """Write what the labels of a semantic run stand for, by the masks of so many frames.

        Raises:
            OutputError: the place cannot be written.
            DatasetError: a mask cannot be read.
        """
        if self.facts.semantic:
            masks = map(read_label_png, chain(*map(self.mask_files, range(frames))))
            write_classes(self.folder, self.facts, masks)

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
                self._replaces = put_back(self.folder, self.names)
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

    def _damage(self) -> str | None:
        """What is damaged of an earlier run, begun or at its end; nothing of one that is whole so
        far, whose progress is taken up, or where there is none."""
        if self._progress.begun:
            damage, frames = self._progress.load(), self._progress.done
        elif self.finished:
            damage, frames = self._damage_at_the_end()
        else:
            return None
        if damage is not None:
            return damage
        paths = (path for index in range(frames) for path in self.mask_files(index))
        return next((f"'{path}' is damaged or missing" for path in paths if not is_whole_png(path)),
                    None)  # fmt: skip

    def _damage_at_the_end(self) -> tuple[str | None, int]:
        """What is damaged of a run that came to its end, beside masks; and its frames."""
        try:
            frames = int(read_json(self.folder / "run.json")["frame_count"])
        except (OSError, *NOT_OURS):
            return f"'{self.folder / 'run.json'}' is damaged", 0
        scores = self.folder / "scores.csv"
        return fault_in_scores(scores, len(self.facts.texts), frames, header=True), frames

    def _take_place(self) -> None:
        """Take the place of an earlier run, if one is to be replaced and still there."""
        if self._replaces:
            self._set_aside()
            self._make_folders()
            self._replaces = False

    def _set_aside(self) -> None:
        try:
            set_aside(self.folder, self.names)
        except OSError as error:
            raise cannot_write(self.folder, str(error.strerror or error)) from None

    def _make_folders(self) -> None:
        self._progress.make_folder()  # first: it marks the folder as a run's
        for folder in self.mask_folders:
            make_folder(folder)
