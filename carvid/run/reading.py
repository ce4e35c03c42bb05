"""The frames of a run's clip, with what they show, while a bar counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from carvid.base.names import shown
from carvid.config import TemporalConfig
from carvid.media.frames import Frame, VideoReader
from carvid.media.given import ahead
from carvid.temporal.seen import AHEAD, Earlier, SeenFrame, seen_frames


@contextmanager
def reading(
    reader: VideoReader,
    start: int,
    before: Earlier | None,
    config: TemporalConfig,
    *,
    see: Callable[[Frame], Frame] | None = None,
    progress: bool,
) -> Iterator[tqdm[tuple[Frame, SeenFrame]]]:
    """Give a reader's frames from index `start` on, and end what reads them ahead.

    Args:
        reader: of the clip.
        start: the first frame's index.
        before: the state that the frame before it has left; None where nothing is before it.
        config: settings.
        see: takes note of frames that come only once.
        progress: show the bar on stderr.
    """
    reader.known = None if before is None else (start - 1, before.time_s)
    frames, info = ahead(reader, start), reader.info
    seen = seen_frames(frames, before, config, ahead=AHEAD if info.at_hand else 0)
    noted = seen if see is None or not info.live else ((see(f), s) for f, s in seen)
    bar = tqdm(
        noted, initial=start, total=reader.expected, unit="frame",
        desc=shown(Path(info.path).name), disable=not progress,
    )  # fmt: skip
    try:
        yield bar
    finally:
        bar.close()  # what is said next has a line of its own
        seen.close()
        frames.close()
