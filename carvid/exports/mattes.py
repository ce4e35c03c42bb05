"""matte/<label>/%05d.png: white where a thing is, black elsewhere; png/<label>/clip.00012.png: the
same, with the frames' numbers in the input."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.base.files import make_folder, replacing
from carvid.exports.format import Format, remove_old
from carvid.exports.numbered import sequence_names
from carvid.exports.written import writing_into
from carvid.media.frames import Frame
from carvid.run.layout import MATTE_FOLDER, NUMBERED_FOLDER
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
            _write(matte, labels == label)
            written.add(matte)
    remove_old(path, "*/*.png", written)


def write_numbered(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write the same mattes with names as `sequence_names` gives them; in semantic mode of the
    classes that are somewhere. What an earlier export wrote and this one does not is removed.

    Raises:
        OutputError: the place cannot be written, or `sequence_names` says why.
        VideoError: `sequence_names` says why.
    """
    names, shown = sequence_names(track), labels_shown(track)
    with writing_into(path) as written:
        for frame, labels in zip(frames, track.label_maps, strict=True):
            for label in shown:
                _write(written.place(f"{label}/{names[frame.index]}.png"), labels == label)


def labels_shown(track: Track) -> list[int]:
    """Return the labels, from 1, that have a sequence: all; in semantic mode those that are in any
    frame."""
    every = np.arange(1, len(track.texts) + 1)
    if not track.facts.semantic:
        return [int(label) for label in every]
    found: set[int] = set()
    for labels in track.label_maps:
        found.update(np.unique(labels).tolist())
    return sorted(found - {0})


def _write(path: Path, mask: NDArray[np.bool_]) -> None:
    white = np.where(mask, WHITE, 0).astype(np.uint8)
    with replacing(path) as partial:
        Image.fromarray(white).save(partial, format="PNG")


FORMAT = Format("matte", MATTE_FOLDER, write_mattes, shows_frames=False)
FORMAT_NUMBERED = Format("png", NUMBERED_FOLDER, write_numbered, shows_frames=False)
