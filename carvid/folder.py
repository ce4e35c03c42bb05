"""A run's folder: what lies where in it, and whether a run may go there. Without torch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from carvid.errors import OutputError
from carvid.files import is_partial

MASK_NAME = "{:05d}.png"
PROGRESS_FOLDER = ".carvid"
RUN_FILES = ("run.json", "scores.csv", "overlay.mp4", "coco.json", "alpha.mov", "green.mp4",
             "view.html")  # fmt: skip
CUTOUT_FOLDER = "cutouts"
"""What carvid writes into a run's folder, and may replace there."""


def tidy(folder: Path) -> None:
    """Remove what a kill at the very end left of a finished run's progress."""
    shutil.rmtree(folder / PROGRESS_FOLDER, ignore_errors=True)


def check_place(folder: Path, *, resume: bool = False, overwrite: bool = False) -> bool:
    """Check that a run may be written to `folder`, without making anything.

    Returns:
        Whether it holds an earlier run.

    Raises:
        OutputError: it is a file, holds something else, holds a run that is neither resumed nor
            overwritten, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"'{folder}' is a file; choose a folder with -o")
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK | os.X_OK) or not nearest.is_dir():
        raise OutputError(f"cannot write to '{nearest}'; choose another folder with -o")
    if not folder.exists() or all(is_partial(path) for path in folder.iterdir()):
        return False
    if not ((folder / "run.json").exists() or (folder / PROGRESS_FOLDER).exists()):
        raise OutputError(
            f"'{folder}' exists and holds something else; choose a new folder with -o"
        )
    if not (resume or overwrite):
        raise OutputError(
            f"'{folder}' holds a run already; add --resume to continue it, --overwrite to replace "
            "it, or choose another folder with -o"
        )
    return True
