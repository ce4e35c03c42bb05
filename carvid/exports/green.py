"""green.mp4: what was found, on green."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from carvid.exports.format import Format
from carvid.media.frames import Frame
from carvid.run.track import Track
from carvid.show.overlay import overlay_writer

GREEN = (0, 177, 64)
"""The green of chroma keying, RGB."""


def write_green(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write what was found on green, with the video's times and sound.

    Raises:
        OutputError: the place cannot be written.
    """
    with overlay_writer(path, track.facts.video) as writer:
        for frame, labels in zip(frames, track.label_maps, strict=True):
            shown = np.where(labels[..., None] > 0, frame.image, np.array(GREEN, np.uint8))
            writer.write(shown, frame.time_s, frame.duration_s)


FORMAT = Format("green", "green.mp4", write_green)
