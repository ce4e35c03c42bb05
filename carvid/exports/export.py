"""Runs in the forms that other tools want: data sets, videos, sequences of pictures, a page."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from carvid.base.errors import CarvidError, ConfigError, OutputError, suggest
from carvid.base.guard import check_apart
from carvid.base.interrupt import until_stopped
from carvid.exports import (
    alpha,
    coco,
    cutouts,
    exr,
    green,
    html,
    labelme,
    mattes,
    yolo,
    youtube_vis,
)
from carvid.exports.data_set import DataSet
from carvid.exports.format import Format
from carvid.exports.numbered import other_video
from carvid.media.open import Frame, VideoInfo, open_video
from carvid.run.layout import MASK_FOLDER
from carvid.run.lock import locked
from carvid.run.track import Track

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (coco.FORMAT, youtube_vis.FORMAT, yolo.FORMAT, labelme.FORMAT, alpha.FORMAT,
                 alpha.FORMAT_EACH, green.FORMAT, mattes.FORMAT, mattes.FORMAT_NUMBERED, exr.FORMAT,
                 cutouts.FORMAT, html.FORMAT)
}  # fmt: skip
"""All formats by name. A new one is a module with a `FORMAT`, and its name here."""
DAVIS = "davis"
"""The name of masks/, which every run has."""
NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


def export(
    track: Track | Mapping[str, Track],
    folder: str | Path,
    formats: Sequence[str],
    *,
    progress: bool = False,
) -> None:
    """Write a run's masks in further formats into a folder, or those of several as one data set.

    Args:
        track: what `Carvid.segment` or `Track.open` gave; or several by name, of which an
            expression is one category and a thing one track.
        folder: where to; beside masks/ it is the run's own folder.
        formats: names of `FORMATS`; `davis` is masks/, which every run has. Of several runs those
            that are data sets.
        progress: show a bar for each format on stderr.

    Raises:
        ConfigError: an unknown format, or one that is no data set, of several runs; or no run.
        OutputError: a place cannot be written, or is one of what is read, a run is writing to it,
            or the input came only once.
        VideoError: the video is no longer there.
    """
    if isinstance(track, Track):
        check_formats(formats, track.facts.video)
        with locked(Path(folder)):
            write_formats(track, Path(folder), formats, progress=progress)
        return
    check_sets(formats, track)
    wanted = _wanted(formats)
    with locked(Path(folder)):
        _check_apart(track.values(), Path(folder), wanted)
        for each in wanted:
            _write_set(track, Path(folder), each, progress=progress)


def write_formats(
    track: Track,
    folder: Path,
    formats: Sequence[str],
    *,
    progress: bool = False,
) -> None:
    """Write a run as `export`, in a folder that the caller has locked.

    Raises:
        Stopped: somebody wanted to stop.
        CarvidError: as `export`.
    """
    wanted = _wanted(formats)
    _check_apart([track], folder, wanted)
    for each in wanted:
        if each.write_set is not None:
            _write_set({"": track}, folder, each, progress=progress)
        elif each.write is not None:
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
                f"{', '.join(without)} and {DAVIS} do without"
            )


def check_sets(names: Iterable[str], tracks: Mapping[str, Track]) -> None:
    """Say early that a format joins no runs, or what `check_formats` says of any of them.

    Raises:
        ConfigError: as `check_formats`; or a format is no data set; or there is no run, or one
            without a name.
        CarvidError: a run cannot be opened, or its frames can no longer be had where a format shows
            them; the message begins with its name.
    """
    names = list(names)
    check_formats(names)
    for name in names:
        if name == DAVIS or FORMATS[name].write_set is None:
            joining = [each.name for each in FORMATS.values() if each.write_set is not None]
            raise ConfigError(
                f"format {name} is of one run; {', '.join(joining[:-1])} and {joining[-1]} join "
                "several"
            )
    if not all(tracks) or not tracks:
        raise ConfigError("give at least one run, and each a name")
    shows = any(FORMATS[name].shows_frames for name in names)
    for name in tracks:
        try:
            video = tracks[name].facts.video
            check_formats(names, video)
            if shows:
                open_video(video.path, frame_rate=video.asked_rate).close()
        except CarvidError as error:
            raise type(error)(f"{name}: {error}") from None


def _wanted(formats: Sequence[str]) -> list[Format]:
    return [FORMATS[name] for name in dict.fromkeys(formats) if name != DAVIS]


def _check_apart(tracks: Iterable[Track], folder: Path, wanted: Iterable[Format]) -> None:
    """Refuse to write formats onto what is read of runs."""
    read = (path for track in tracks for path in track.files())
    check_apart(read, [folder / each.file for each in wanted], remedy="export to another folder")


def _write_set(
    tracks: Mapping[str, Track], folder: Path, wanted: Format, *, progress: bool
) -> None:
    """Write runs, one or several, as a data set."""
    assert wanted.write_set is not None
    count = sum(map(len, tracks.values()))
    with tqdm(total=count, desc=wanted.name, unit="frame", disable=not progress) as bar:

        def frames_of(track: Track) -> Iterator[Frame]:
            with closing(_frames(track, wanted)) as frames:
                for frame in until_stopped(frames):
                    yield frame
                    bar.update()

        wanted.write_set(DataSet(tracks, frames_of), folder / wanted.file)


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
        raise other_video(video, len(track))
