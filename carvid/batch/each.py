"""The clips in a folder: its videos, and the folders of images right in it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from carvid.base.errors import ConfigError
from carvid.media.images import IMAGE_SUFFIXES
from carvid.media.open import input_files
from carvid.media.sequences import VIDEO_SUFFIXES, natural_key

log = logging.getLogger("carvid")

FILM_SUFFIXES = VIDEO_SUFFIXES | {".gif"}
"""How names of videos end; other files in a folder are no clips."""


def clips_in(folders: Iterable[str]) -> list[str]:
    """Return the paths of the clips in folders, in natural order; what is left out is logged.

    Folders are looked at one level deep: a folder below one is a clip if it holds images.

    Raises:
        ConfigError: one is no folder, or there is no clip in it.
    """
    return [str(path) for folder in folders for path in _clips_of(Path(folder))]


def _clips_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(f"'{folder}' is no folder; give --each a folder of clips")
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    paths.sort(key=lambda path: natural_key(path.name))
    videos = [path for path in paths if path.is_file() and path.suffix.lower() in FILM_SUFFIXES]
    below = [path for path in paths if path.is_dir()]
    of_images = [path for path in below if len(input_files(path)) > 1]
    images = [path for path in paths if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES]
    if not videos and not of_images:
        only = "; it is itself one clip, of images: leave --each away" if images else (
            "; give one that holds videos or folders of images"
        )  # fmt: skip
        raise ConfigError(f"'{folder}' holds no videos and no folders of images{only}")
    clips = [path for path in paths if path in videos or path in of_images]
    left = [path for path in paths if path not in clips]
    if left:
        pictures = f", pictures among them, as '{images[0].name}'" if images else ""
        log.warning(
            "'%s': %d of %d entries are no clips and are left out%s", folder, len(left),
            len(paths), pictures,
        )  # fmt: skip
    return clips
