"""cutouts/<label>/%05d.png: each thing by itself, on nothing."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from carvid.base.files import make_folder, replacing
from carvid.exports.format import Format
from carvid.media.frames import Frame
from carvid.media.label_png import MAX_LABEL
from carvid.run.layout import CUTOUT_FOLDER, MASK_NAME, RUN_CONTENTS
from carvid.run.track import Track


def write_cutouts(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write RGBA of the frame's size for each frame and expression, wholly transparent where it is
    not found. Those of an earlier, longer run go.

    Raises:
        OutputError: the place cannot be written.
    """
    labels = range(1, len(track.texts) + 1)
    places = {label: path / str(label) for label in labels}
    for place in places.values():
        make_folder(place)
    written = set()
    for frame, plane in zip(frames, track.label_maps, strict=True):
        for label, place in places.items():
            mask = plane == label
            rgba = np.dstack([frame.image * mask[..., None], np.where(mask, MAX_LABEL, 0)])
            cutout = place / MASK_NAME.format(frame.index)
            with replacing(cutout) as partial:
                Image.fromarray(rgba.astype(np.uint8)).save(partial, format="PNG")
            written.add(cutout)
    for old in set(path.glob("*/*.png")) - written:
        if RUN_CONTENTS.fullmatch(old.relative_to(path.parent).as_posix()):
            old.unlink()
            with suppress(OSError):  # others of that label are still there
                old.parent.rmdir()


FORMAT = Format("cutouts", CUTOUT_FOLDER, write_cutouts)
