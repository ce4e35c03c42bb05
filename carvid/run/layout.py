"""A run's folder: what lies where in it, and whether a run may go there. Without torch."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from carvid.base.errors import OUT, OutputError
from carvid.base.files import is_partial, read_json
from carvid.media.frames import VideoInfo
from carvid.run.names import is_inside, png_name
from carvid.run.scores import HEADER

MASK_NAME = "{:05d}.png"
MASK_FOLDER = "masks"
PROGRESS_FOLDER = ".carvid"
OVERLAY_NAME = "overlay.mp4"
PICTURE_NAME = "overlay.png"
"""The overlay of an input that is one picture."""
CLASSES_NAME = "classes.json"
"""What the labels of a semantic run stand for."""
RUN_FILES = ("run.json", "scores.csv", OVERLAY_NAME, "coco.json", "alpha.mov", "green.mp4",
             "view.html", PICTURE_NAME, CLASSES_NAME)  # fmt: skip
CUTOUT_FOLDER = "cutouts"
MATTE_FOLDER = "matte"
ALPHA_FOLDER = "alpha"
YOUTUBE_VIS_FOLDER = "youtube_vis"
"""What carvid writes into a run's folder, and may replace there."""
YOLO_FOLDER = "yolo"
LABELME_FOLDER = "labelme"
EXR_FOLDER = "exr"
NUMBERED_FOLDER = "png"
LISTED_FOLDERS = (YOLO_FOLDER, LABELME_FOLDER, EXR_FOLDER, NUMBERED_FOLDER)
"""What carvid has written into these, whose files have names of their own, is in a list there."""
LIST_NAME = ".carvid-files"
"""That list: a JSON text a line, the path of a file from the folder, with `/`."""
UNCORRECTED = "uncorrected"
"""In the folder of a run that was corrected: the run as it was."""
RUN_NAMES = ("run.json", f"{PROGRESS_FOLDER}/progress.json", f"{PROGRESS_FOLDER}/scores.csv",
             *RUN_FILES[1:], MASK_FOLDER, CUTOUT_FOLDER, MATTE_FOLDER, ALPHA_FOLDER,
             YOUTUBE_VIS_FOLDER, *LISTED_FOLDERS, UNCORRECTED)  # fmt: skip
"""All of it; first what makes a run look whole."""
RUN_CONTENTS = re.compile(
    r"(?:uncorrected/)?masks/\d{5,}\.png|(?:cutouts|matte)/\d+/\d{5,}\.png|alpha/\d+\.mov|"
    r"youtube_vis/(?:instances|results)\.json|yolo/labels/(?:train|val)\.cache|"
    rf"(?:{'|'.join(LISTED_FOLDERS)})/{re.escape(LIST_NAME)}|"
    r"uncorrected/(?:run\.json|scores\.csv|overlay\.(?:mp4|png)|\.carvid/.*)",
    re.S,
)
"""What may be in the folders among `RUN_NAMES`, besides what is named as a frame, or listed. YOLO
keeps what it has read of labels in a .cache beside them, and makes it again."""
NAMED_FOLDERS = re.compile(r"(?:(?:uncorrected/)?masks|(?:cutouts|matte)/\d+)/(?P<name>.*)", re.S)
"""Where a file may be named as a frame."""
REPLACED = "replaced"
"""In `PROGRESS_FOLDER`: the run that is replaced, until the new one is whole."""
MOVING = "moving"
"""The same while it is moved there."""
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What systems leave in folders, and nobody misses."""
CHOOSE = f"choose another folder with {OUT}"
"""Ends messages."""


def tidy(folder: Path) -> None:
    """Remove what a kill at the very end left of a finished run's progress."""
    shutil.rmtree(folder / PROGRESS_FOLDER, ignore_errors=True)


def run_paths(folder: Path) -> list[Path]:
    """Return all that a run in a folder writes, or replaces."""
    return [folder / name for name in (*RUN_NAMES, PROGRESS_FOLDER)]


def overlay_name(video: VideoInfo) -> str:
    """Return what the overlay of an input is called: that of a picture is one, too."""
    return PICTURE_NAME if video.is_picture else OVERLAY_NAME


def check_place(folder: Path, *, holds: str | None = "texts") -> bool:
    """Check that a run may be written to `folder`, without making anything.

    Args:
        folder: the run's.
        holds: a key that its run.json has; None: the caller looks at it.

    Returns:
        Whether it holds an earlier run.

    Raises:
        OutputError: it is a file, holds something else, or cannot be written.
    """
    check_makeable(folder)
    if not folder.exists() or all(is_partial(path) for path in folder.iterdir()):
        return False
    if not _holds_run(folder, holds):
        raise OutputError(
            f"'{folder}' exists and holds something else; choose a new folder with {OUT}"
        )
    return True


def check_makeable(folder: Path) -> None:
    """Check that a folder can be made, or written to.

    Raises:
        OutputError: it is a file, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"'{folder}' is a file; choose a folder with {OUT}")
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK | os.X_OK) or not nearest.is_dir():
        raise OutputError(f"cannot write to '{nearest}'; {CHOOSE}")


def check_contents(
    folder: Path, names: Iterable[str] = RUN_NAMES, contents: re.Pattern[str] = RUN_CONTENTS
) -> None:
    """Check that nothing but carvid's own would be replaced.

    Args:
        folder: of an earlier run.
        names: what would be replaced in it.
        contents: what carvid writes into those that are folders.

    Raises:
        OutputError: something else is there; nothing was touched.
    """
    foreign, kept = [], kept_names(folder)
    listed = {f"{name}/{file}" for name in LISTED_FOLDERS for file in listed_files(folder / name)}
    for place in map(folder.joinpath, names):
        if place.is_symlink():  # it alone is replaced, not what it leads to
            continue
        if place.is_file() and not place.suffix:  # where a folder should be
            foreign.append(place)
        for parent, folders, files in os.walk(place):
            paths = [Path(parent, name) for name in files]
            paths += [Path(parent, name) for name in folders if Path(parent, name).is_symlink()]
            foreign += [
                path for path in paths
                if not (is_partial(path) or path.name in LITTER
                        or (inside := path.relative_to(folder).as_posix()) in listed
                        or _is_ours(inside, contents, kept))
            ]  # fmt: skip
    if foreign:
        more = f" and {len(foreign) - 1} more are" if len(foreign) > 1 else " is"
        raise OutputError(
            f"'{min(foreign)}'{more} none of what carvid wrote, and would be replaced; move that "
            f"away, or {CHOOSE}"
        )


def kept_names(folder: Path) -> frozenset[str]:
    """Return what masks of the run in a folder, begun or whole, are called where they are named as
    its frames; nothing where they are numbered."""
    for path, key in ((folder / PROGRESS_FOLDER / "progress.json", "inputs"),
                      (folder / "run.json", None)):  # fmt: skip
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            values = read_json(path)
            values = values[key] if key else values
            if values.get("keep_names"):
                return frozenset(map(png_name, values["frames"]))
    return frozenset()


def listed_files(folder: Path) -> frozenset[str]:
    """Return what the list in one of `LISTED_FOLDERS` says that carvid has written there, paths
    from it; nothing where there is none. Lines that say something else are left out."""
    names = set()
    with suppress(OSError, ValueError):
        for line in (folder / LIST_NAME).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # a kill may have cut the last one
                name = json.loads(line)
                if isinstance(name, str) and is_inside(name):
                    names.add(name)
    return frozenset(names)


def _is_ours(path: str, contents: re.Pattern[str], kept: Collection[str]) -> bool:
    """Whether carvid writes a file of that path, from the run's folder."""
    named = NAMED_FOLDERS.fullmatch(path)
    return bool(contents.fullmatch(path)) or (named is not None and named["name"] in kept)


def set_aside(folder: Path, names: Iterable[str] = RUN_NAMES) -> None:
    """Move an earlier run out of the way of a new one; it is kept until the new one is whole.

    Of two that were replaced, neither of them by a whole one, the first is kept.

    Raises:
        OSError: something cannot be moved.
    """
    progress = folder / PROGRESS_FOLDER
    kept, moving = progress / REPLACED, progress / MOVING
    moving.mkdir(parents=True, exist_ok=True)
    for name in names:
        place = folder / name
        if not os.path.lexists(place):
            continue
        if kept.exists():
            _remove(place)
        else:
            (moving / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(place, moving / name)
    if kept.exists():
        shutil.rmtree(moving)
    else:
        os.replace(moving, kept)


def is_half_moved(folder: Path) -> bool:
    """Whether a kill came while an earlier run was set aside."""
    return (folder / PROGRESS_FOLDER / MOVING).exists()


def put_back(folder: Path, names: Iterable[str] = RUN_NAMES) -> bool:
    """Put back what was set aside, in the place of what has replaced it; return whether anything
    was."""
    kept = folder / PROGRESS_FOLDER / REPLACED
    if not kept.exists():
        return False
    for name in reversed(list(names)):
        _remove(folder / name)
        if os.path.lexists(kept / name):
            os.replace(kept / name, folder / name)
    shutil.rmtree(kept)
    with suppress(OSError):  # of a run that was not whole itself
        kept.parent.rmdir()
    return True


def forget_replaced(folder: Path) -> None:
    """Remove what was set aside: what replaces it is whole."""
    progress = folder / PROGRESS_FOLDER
    for name in (REPLACED, MOVING):
        shutil.rmtree(progress / name, ignore_errors=True)


def _holds_run(folder: Path, key: str | None) -> bool:
    """Whether carvid has begun or ended a run there; others write a run.json, too."""
    if (folder / PROGRESS_FOLDER).exists() or key is None:
        return (folder / PROGRESS_FOLDER).exists() or (folder / "run.json").exists()
    try:
        values = read_json(folder / "run.json")
    except OSError:
        return False
    except ValueError:  # it is cut, perhaps
        return _begins_as_ours(folder / "scores.csv")
    return isinstance(values, dict) and "carvid" in values and key in values


def _begins_as_ours(scores: Path) -> bool:
    """Whether a file begins as a scores.csv of carvid's."""
    try:
        with scores.open("rb") as file:
            return file.read(len(HEADER)) == HEADER.encode()
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
