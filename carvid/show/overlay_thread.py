"""The overlay of a run, drawn while the run goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carvid.base.background import run_in_background
from carvid.base.errors import OVERWRITE, CarvidError, VideoError
from carvid.config import OverlayConfig
from carvid.media.open import Frame, VideoInfo, open_video, prefetch
from carvid.show.overlay import draw_overlay, overlay_writer, picture_size


@dataclass(frozen=True)
class _Drawing:
    """What is drawn over a frame."""

    index: int
    labels: NDArray[np.uint8]
    scores: Sequence[float]


class OverlayThread:
    """Draws frame by frame, as their masks are done, the video that `write_overlay` would draw; in
    a thread of its own.

    A file is read a second time for it, since keeping its frames until their masks are decided
    would fill the memory. Those of live input, which comes once, have to be kept; it is decided at
    once.

    Args:
        path: the video to make.
        video: what is drawn over.
        texts: the N expressions.
        config: what to draw, and how.

    Raises:
        OutputError: the place cannot be written.
        VideoError: the file cannot be read a second time.
    """

    def __init__(
        self, path: Path, video: VideoInfo, texts: Sequence[str], config: OverlayConfig
    ) -> None:
        self._video, self._texts, self._config = video, texts, config
        self._kept: dict[int, Frame] = {}
        with ExitStack() as stack:
            self._frames: Iterator[Frame] = iter(())
            if not video.live:
                reader = open_video(
                    video.path, frame_rate=video.asked_rate, selection=video.selection
                )
                frames = prefetch(stack.enter_context(reader).frames(), depth=1)
                stack.enter_context(closing(frames))
                self._frames = chain([next(frames)], frames)  # open from now on, if it is deleted
            self._writer = overlay_writer(path, video, picture_size(video.size_hw, texts, config))
            drawing = run_in_background(self._draw, lambda each: each.labels.nbytes)
            self._hand_over = stack.enter_context(drawing)
            self._open = stack.pop_all()
        self._given, self._unwanted = 0, False

    def keep(self, frame: Frame) -> Frame:
        """Take note of a frame of a live input before it is segmented."""
        self._kept[frame.index] = frame
        return frame

    def draw(self, index: int, labels: NDArray[np.uint8], scores: Sequence[float]) -> None:
        """Draw the next frame.

        Args:
            index: the frame's, from 0, without gaps.
            labels: uint8 (H, W); k is expression k from 1.
            scores: N scores in [0, 1].

        Raises:
            OutputError: the place cannot be written; of an earlier frame, too.
            VideoError: the file cannot be read, or is no longer the same; likewise.
        """
        self._hand_over(_Drawing(index, labels, scores))
        self._given += 1

    def _draw(self, drawing: _Drawing) -> None:
        if self._unwanted:
            return
        index = drawing.index
        frame = self._kept.pop(index) if self._video.live else next(self._frames, None)
        if frame is None or frame.index != index:
            raise VideoError(
                f"'{self._video.path}' has changed while it was read; leave it alone and start "
                f"again with {OVERWRITE}"
            )
        picture = draw_overlay(
            frame.image, drawing.labels, self._texts, self._config, scores=drawing.scores
        )
        self._writer.write(picture, frame.time_s, frame.duration_s)

    def close(self) -> None:
        """Finish the video of the frames that were drawn, if there are any.

        Raises:
            OutputError: what was still to be written could not be.
            VideoError: what was still to be read could not be.
        """
        if not self._given:
            self.discard()
            return
        try:
            self._open.close()
        except BaseException:
            self._writer.discard()
            raise
        self._writer.close()

    def discard(self) -> None:
        """Leave nothing."""
        self._unwanted = True
        with suppress(CarvidError):
            self._open.close()
        self._writer.discard()
