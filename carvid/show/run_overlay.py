"""The overlay video of a run: drawn while the run goes on, or from its masks at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import OutputError
from carvid.base.memory import release_unused
from carvid.media.frames import Frame
from carvid.run.facts import RunFacts
from carvid.run.layout import MASK_FOLDER, overlay_name
from carvid.run.scores import FrameScores
from carvid.show.masks_over_video import draw_masks
from carvid.show.overlay import with_legend
from carvid.show.overlay_thread import OverlayThread

LARGE_PIXELS = 4_000_000
"""The overlay of frames that have more, 4K's, is drawn at the end: a second decoder and x264 take
half a gigabyte, beside the networks."""


def run_overlay(folder: Path, facts: RunFacts) -> RunOverlay | None:
    """Return what draws the overlay of the run in a folder; None where the settings want none."""
    return RunOverlay(folder, facts) if facts.config.overlay.enabled else None


class RunOverlay:
    """Draws the overlay of one run; a `carvid.run.folder.Overlay`.

    Args:
        folder: the run's.
        facts: what the run is made of.
    """

    def __init__(self, folder: Path, facts: RunFacts) -> None:
        self._masks, self._facts = folder / MASK_FOLDER, facts
        self._path = folder / overlay_name(facts.video)
        self._style = with_legend(facts.config.overlay, semantic=facts.semantic)
        self._thread: OverlayThread | None = None

    def start(self) -> None:
        """Draw while the frames are added, from the first one on; large files have to wait."""
        facts, (height, width) = self._facts, self._facts.video.size_hw
        if facts.video.live or height * width < LARGE_PIXELS:
            self._thread = OverlayThread(self._path, facts.video, facts.texts, self._style)

    def see(self, frame: Frame) -> Frame:
        """Take note of a frame of a live input before it is segmented."""
        return frame if self._thread is None else self._thread.keep(frame)

    def draw(self, index: int, labels: NDArray[np.uint8], scores: Sequence[float]) -> None:
        """Draw frame `index` with a label map, uint8 (H, W), and N scores in [0, 1]."""
        if self._thread is not None:
            self._thread.draw(index, labels, scores)

    def finish(self, rows: Iterable[FrameScores], *, progress: bool) -> None:
        """Leave the video of a whole run, whose scores are `rows`; none where frames that came
        only once are gone.

        Raises:
            Stopped: somebody wanted to stop.
            OutputError: the place cannot be written, or the masks are not those of the video.
            VideoError: the video cannot be read.
        """
        if self._thread is not None:
            self._thread.close()
        elif not self._facts.video.live:
            release_unused()
            self._draw_masks(rows, progress=progress)

    def pause(self, rows: Iterable[FrameScores], *, progress: bool) -> None:
        """Leave a video of the frames that are done, whose scores are `rows`."""
        if self._thread is not None:
            self._thread.close()
        else:
            self._draw_masks(rows, unfinished=True, progress=progress)

    def abandon(self) -> None:
        """Leave a video only of a live input, whose frames will not come again; for failures."""
        if self._thread is None:
            return
        if self._facts.video.live:
            with suppress(OutputError):  # a full disk is the failure itself
                self._thread.close()
        else:
            self._thread.discard()

    def _draw_masks(
        self, rows: Iterable[FrameScores], *, unfinished: bool = False, progress: bool
    ) -> None:
        video = self._facts.video
        draw_masks(
            self._masks, video.path, self._path, self._facts.texts, self._style,
            scores=[row.scores for row in rows], frame_rate=video.asked_rate,
            selection=video.selection, unfinished=unfinished, progress=progress,
        )  # fmt: skip
