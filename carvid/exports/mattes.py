"""matte/<label>/%05d.png: white where a thing is, black elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from carvid.base.files import make_folder, replacing
from carvid.exports.format import Format, remove_old
from carvid.media.frames import Frame
from carvid.run.layout import MATTE_FOLDER
from carvid.run.track import Track

WHITE = 255
"""Grey level where the thing is."""


def write_mattes(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write a grey PNG of the frame's size, 0 and 255, for each frame and expression; frames need
    no image. Those of an earlier, longer run go.

    Raises:
        OutputError: the place cannot be written.
    """
    written = set()
    for frame, labels in zip(frames, track.label_maps, strict=True):
        for label in range(1, len(track.texts) + 1):
            matte = path / str(label) / track.facts.mask_name(frame.index)
            make_folder(matte.parent)
            white = np.where(labels == label, WHITE, 0).astype(np.uint8)
            with replacing(matte) as partial:
                Image.fromarray(white).save(partial, format="PNG")
            written.add(matte)
    remove_old(path, "*/*.png", written)


FORMAT = Format("matte", MATTE_FOLDER, write_mattes, shows_frames=False)
