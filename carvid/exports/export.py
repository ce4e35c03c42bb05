"""A run in the forms that other tools want: COCO, alpha, green ground, mattes, cut-outs, a page."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from carvid.base.errors import ConfigError, OutputError, suggest
from carvid.base.guard import check_apart
from carvid.base.interrupt import until_stopped
from carvid.base.words import plural
from carvid.exports import alpha, coco, cutouts, green, html, mattes
from carvid.exports.format import Format
from carvid.media.open import Frame, VideoInfo, open_video
from carvid.run.layout import MASK_FOLDER
from carvid.run.lock import locked
from carvid.run.track import Track

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (coco.FORMAT, alpha.FORMAT, alpha.FORMAT_EACH, green.FORMAT, mattes.FORMAT,
                 cutouts.FORMAT, html.FORMAT)
}  # fmt: skip
"""All formats by name. A new one is a module with a `FORMAT`, and its name here."""
DAVIS = "davis"
"""The name of masks/, which every run has."""
NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


def export(
    track: Track, folder: str | Path, formats: Sequence[str], *, progress: bool = False
) -> None:
    """Write a run's masks in further formats into a folder.

    Args:
        track: what `Carvid.segment` or `Track.open` gave.
        folder: where to; beside masks/ it is the run's own folder.
        formats: names of `FORMATS`; `davis` is masks/, which every run has.
        progress: show a bar for each format on stderr.

    Raises:
        ConfigError: an unknown format.
        OutputError: a place cannot be written, or is one of what is read, a run is writing to it,
            or the input came only once.
        VideoError: the video is no longer there.
    """
    check_formats(formats, track.facts.video)
    with locked(Path(folder)):
        write_formats(track, Path(folder), formats, progress=progress)


def write_formats(
    track: Track,
    folder: Path,
    formats: Sequence[str],
    *,
    progress: bool = False,
) -> None:
    """Do as `export`, in a folder that the caller has locked.

    Raises:
        Stopped: somebody wanted to stop.
        CarvidError: as `export`.
    """
    wanted = [FORMATS[name] for name in dict.fromkeys(formats) if name != DAVIS]
    check_apart(
        track.files(), [folder / each.file for each in wanted], remedy="export to another folder"
    )
    for each in wanted:
        with closing(_frames(track, each)) as frames, tqdm(
            until_stopped(frames), total=len(track), desc=each.name, unit="frame",
            disable=not progress,
        ) as bar:  # fmt: skip
            each.write(track, folder / each.file, bar)


def files_of(formats: Iterable[str]) -> list[str]:
    """Return what known formats write, by its names in the folder."""
    return [FORMATS[name].file if name != DAVIS else MASK_FOLDER for name in dict.fromkeys(formats)]


def check_formats(names: Iterable[str], video: VideoInfo | None = None) -> None:
    """Say early that a format is unknown, needs a package that is not there, or cannot be had of
    a video.

    Raises:
        ConfigError: the name is none of `FORMATS`, or a package is missing.
        OutputError: the video is live, and the format shows its frames.
    """
    for name in (name for name in names if name != DAVIS):
        if name not in FORMATS:
            raise ConfigError(f"unknown format '{name}'{suggest(name, [DAVIS, *FORMATS])}")
        FORMATS[name].check()
        if FORMATS[name].shows_frames and video is not None and video.live:
            without = [each.name for each in FORMATS.values() if not each.shows_frames]
            raise OutputError(
                f"'{video.path}' comes only once, and format {name} needs its frames again; "
                f"{' and '.join([*without, DAVIS])} do without"
            )


def _frames(track: Track, wanted: Format) -> Generator[Frame, None, None]:
    """The frames that a track was made from; without images where a format shows none."""
    video = track.facts.video
    if not wanted.shows_frames:
        for index, time_s in enumerate(track.times_s):
            yield Frame(index, float(time_s), NO_IMAGE)
        return
    with open_video(video.path, frame_rate=video.asked_rate, selection=video.selection) as reader:
        count = 0
        for frame in reader:
            count += 1
            if count > len(track):
                break
            yield frame
    if count != len(track):
        raise OutputError(
            f"'{video.path}' has another number of frames than the {plural(len(track), 'mask')}; "
            "give the video of this run"
        )
