"""A run as a file to take along, with the names and colours that people gave."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from carvid.app.things import Thing
from carvid.base.errors import ConfigError, suggest
from carvid.base.files import make_folder, replacing
from carvid.base.interrupt import until_stopped
from carvid.base.palette import color_of
from carvid.base.spreadsheet import as_text
from carvid.exports.export import FORMATS, check_formats, export
from carvid.media.open import open_video
from carvid.run.layout import MASK_FOLDER, PROGRESS_FOLDER, overlay_name
from carvid.run.track import Track
from carvid.show.overlay import with_legend, write_overlay

OVERLAY, MASKS, RUN = "overlay", "masks", "run"
CHOICES: dict[str, str] = {
    OVERLAY: "Video with the masks drawn over it",
    "alpha": "Cut out on transparent ground (ProRes 4444)",
    "green": "Cut out on green ground (video)",
    "matte": "Black-and-white mattes (PNG, zip)",
    "cutouts": "Cut-outs with transparency (PNG, zip)",
    "alpha-each": "One transparent video a thing (ProRes 4444, zip)",
    "png": "Black-and-white mattes with the frames' own numbers (PNG, zip)",
    "exr": "A layer a thing for compositors (OpenEXR, zip)",
    "coco": "COCO annotations (JSON)",
    "youtube-vis": "YouTube-VIS annotations (JSON, zip)",
    "yolo": "YOLO data set of frames and polygons (zip)",
    "labelme": "Frames with LabelMe polygons (zip)",
    "html": "Web page in one file",
    MASKS: "Label masks and scores (DAVIS PNG, CSV, zip)",
    RUN: "The whole run's folder (zip)",
}
"""What can be taken along, and what people are told that it is."""


def named(track: Track, things: Sequence[Thing]) -> Track:
    """Return a track whose expressions are called as the things are."""
    names = {thing.label: thing.name for thing in things}
    texts = tuple(names.get(label, text) for label, text in enumerate(track.texts, 1))
    return replace(track, facts=replace(track.facts, texts=texts))


def check_choice(name: str, track: Track) -> None:
    """Say early that something cannot be taken along.

    Raises:
        ConfigError: there is no such form, or a package for it is missing.
    """
    if name not in CHOICES:
        raise ConfigError(f"unknown export '{name}'{suggest(name, CHOICES)}")
    if name in FORMATS:
        check_formats([name], track.facts.video)


def write_export(run: Path, things: Sequence[Thing], folder: Path, name: str) -> Path:
    """Write a run in one of `CHOICES` into a folder; return the file.

    Args:
        run: its folder.
        things: names and colours.
        folder: where to.
        name: of `CHOICES`.

    Raises:
        Stopped: somebody wanted to stop.
        CarvidError: as `check_choice` and `carvid.export`.
    """
    track = Track.open(run)
    check_choice(name, track)
    make_folder(folder)
    shown = named(track, things)
    if name == OVERLAY:
        return _write_overlay(shown, things, folder / overlay_name(track.facts.video))
    if name == RUN:
        return _zip(run, folder / "run.zip", lambda path: path.parts[0] != PROGRESS_FOLDER)
    if name == MASKS:
        return _zip_masks(shown, run, folder / "masks.zip")
    export(shown, folder, [name])
    path = folder / FORMATS[name].file
    return _zip(path, path.with_suffix(".zip")) if path.is_dir() else path


def _write_overlay(track: Track, things: Sequence[Thing], path: Path) -> Path:
    """Draw the overlay anew, with the things' colours."""
    facts, video = track.facts, track.facts.video
    style = with_legend(facts.config.overlay, semantic=facts.semantic)
    own = {thing.label: thing.color for thing in things}
    colors = [
        own.get(label, color_of(label - 1, style.palette))
        for label in range(1, len(track.texts) + 1)
    ]
    with open_video(video.path, frame_rate=video.asked_rate, selection=video.selection) as reader:
        write_overlay(
            path, video, until_stopped(reader), track.label_maps, track.texts, style,
            scores=track.scores.tolist(), colors=colors,
        )  # fmt: skip
    return path


def _zip_masks(track: Track, run: Path, target: Path) -> Path:
    """Put masks and scores.csv, in which things are called as people see them, into one file."""
    with replacing(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        archive.writestr("scores.csv", _renamed(run / "scores.csv", track))
        for path in until_stopped(sorted((run / MASK_FOLDER).rglob("*.png"))):
            archive.write(path, path.relative_to(run).as_posix())
    return target


def _renamed(scores: Path, track: Track) -> str:
    """A scores.csv with other names of its expressions."""
    text = io.StringIO(newline="")
    with scores.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        writer = csv.DictWriter(text, rows.fieldnames or (), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "expression": as_text(track.texts[int(row["label"]) - 1])})
    return text.getvalue()


def _zip(source: Path, target: Path, wanted: Callable[[Path], bool] = lambda path: True) -> Path:
    """Put the files of a folder into a zip beside it; what is in it is packed already."""
    with replacing(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        for path in until_stopped(sorted(source.rglob("*"))):
            inside = path.relative_to(source)
            if path.is_file() and not path.is_symlink() and wanted(inside):
                with suppress(FileNotFoundError):  # written by halves
                    archive.write(path, (Path(source.name) / inside).as_posix())
    return target
