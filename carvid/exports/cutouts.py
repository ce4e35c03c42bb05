"""cutouts/<label>/%05d.png: each thing by itself, on nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from carvid.base.files import make_folder, replacing
from carvid.exports.format import Format, remove_old
from carvid.media.frames import Frame
from carvid.media.label_png import MAX_LABEL
from carvid.run.layout import CUTOUT_FOLDER
from carvid.run.track import Track


def write_cutouts(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write RGBA of the frame's size for each frame and expression, wholly transparent where it is
    not found. Those of an earlier, longer run go.

    Raises:
        OutputError: the place cannot be written.
    """
    labels = range(1, len(track.texts) + 1)
    written = set()
    for frame, plane in zip(frames, track.label_maps, strict=True):
        for label in labels:
            mask = plane == label
            rgba = np.dstack([frame.image * mask[..., None], np.where(mask, MAX_LABEL, 0)])
            cutout = path / str(label) / track.facts.mask_name(frame.index)
            make_folder(cutout.parent)
            with replacing(cutout) as partial:
                Image.fromarray(rgba.astype(np.uint8)).save(partial, format="PNG")
            written.add(cutout)
    remove_old(path, "*/*.png", written)


FORMAT = Format("cutouts", CUTOUT_FOLDER, write_cutouts)
