"""alpha.mov: ProRes 4444, opaque where anything is; alpha/<label>.mov: where one thing is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from carvid.base.files import make_folder
from carvid.exports.format import Format, remove_old
from carvid.media.encode import sound_of
from carvid.media.frames import Frame
from carvid.media.prores import alpha_writer
from carvid.run.layout import ALPHA_FOLDER
from carvid.run.track import Track


def write_alpha(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write the frames with what was found opaque, and all else transparent, with their sound.

    Raises:
        OutputError: the place cannot be written.
    """
    video = track.facts.video
    with alpha_writer(path, video, sound_of(video)) as writer:
        for frame, labels in zip(frames, track.label_maps, strict=True):
            writer.write(frame.image, labels > 0, frame.time_s, frame.duration_s)


def write_alpha_each(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write a video for each expression, in which it alone is opaque. Laid over each other they
    would play a sound several times, so they have none. Those of an earlier run with more
    expressions go.

    Raises:
        OutputError: the place cannot be written.
    """
    make_folder(path)
    places = {label: path / f"{label}.mov" for label in range(1, len(track.texts) + 1)}
    with ExitStack() as stack:
        writers = {
            label: stack.enter_context(alpha_writer(place, track.facts.video))
            for label, place in places.items()
        }
        for frame, labels in zip(frames, track.label_maps, strict=True):
            for label, writer in writers.items():
                writer.write(frame.image, labels == label, frame.time_s, frame.duration_s)
    remove_old(path, "*.mov", places.values())


FORMAT = Format("alpha", "alpha.mov", write_alpha)
FORMAT_EACH = Format("alpha-each", ALPHA_FOLDER, write_alpha_each)
