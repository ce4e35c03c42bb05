"""Frames in: one interface over video files, folders of images, images, cameras and pipes."""

from __future__ import annotations

import stat
from fractions import Fraction
from pathlib import Path
from typing import Literal

from PIL import Image

from carvid.base.errors import VideoError
from carvid.base.names import existing
from carvid.media.container import DEFAULT_FRAME_RATE, SHORTEST_FRAME_S
from carvid.media.decode import open_file
from carvid.media.frames import (
    ALL,
    Frame,
    Selection,
    VideoInfo,
    VideoReader,
    prefetch,
)
from carvid.media.image_readers import ImagesReader, open_image_file
from carvid.media.images import DAMAGED, IMAGE_SUFFIXES, is_film, open_image
from carvid.media.live import CAMERA, URL, LiveReader
from carvid.media.sequences import (
    VIDEO_SUFFIXES,
    images_of,
    is_pattern,
    natural_key,
    no_images,
)

__all__ = [
    "ALL",
    "DEFAULT_FRAME_RATE",
    "SHORTEST_FRAME_S",
    "Backend",
    "Frame",
    "ImagesReader",
    "Selection",
    "VideoInfo",
    "VideoReader",
    "input_files",
    "is_live",
    "natural_key",
    "open_video",
    "prefetch",
]

Backend = Literal["auto", "decord", "pyav"]


def open_video(
    source: str | Path,
    *,
    backend: Backend = "auto",
    frame_rate: Fraction | None = None,
    selection: Selection = ALL,
    raw: tuple[int, int, Fraction] | None = None,
) -> VideoReader:
    """Open a video file, images, or something live.

    Args:
        source: a path, as `existing` finds it, of a video, a folder of images (in natural order),
            or an image; a pattern of images' names: `frames/%05d.jpg`, `frames/*.jpg`,
            `shot.####.png`; `-` (a pipe into this process), `camera:0`, or the URL of a stream.
        backend: how files are decoded; `auto` is decord where it is exact, PyAV elsewhere.
        frame_rate: of images; None is their own times (of an animation, or where their names are
            times), or else `DEFAULT_FRAME_RATE`.
        selection: which of the frames are read, and how large.
        raw: the frames that come through a pipe have no header; height, width and frame rate.

    Raises:
        VideoError: there is no such input, or it cannot be decoded.
    """
    if is_live(source):
        return LiveReader(str(source), selection, raw)
    path = existing(source)
    if path.is_dir() or is_pattern(path):
        images = images_of(path)
        if not images.paths:
            raise no_images(path)
        return ImagesReader(path, images, frame_rate, selection)
    if not path.exists():
        raise VideoError(
            f"no file or folder '{path}'; give a video, an image or a folder of images"
        )
    if path.stat().st_size == 0:
        raise VideoError(f"'{path}' is empty (0 bytes); give a video or an image")
    if _is_image(path):
        return open_image_file(path, frame_rate, selection)
    return open_file(path, backend, selection)


def input_files(source: str | Path) -> list[Path]:
    """Return the files that an input is read from; of a folder of images it and them."""
    path = existing(source)
    try:
        if path.is_dir():
            return [path, *images_of(path).paths]
        return images_of(source).paths if is_pattern(source) else [path]
    except (OSError, ValueError):  # nothing that can be opened
        return [path]


def files_of(video: VideoInfo) -> list[Path]:
    """Return the files that an input's frames are read from; none of frames given in Python."""
    return [] if video.backend == "frames" else input_files(video.path)


def is_live(source: str | Path) -> bool:
    """Whether an input can be read only once: a pipe, a camera, or a stream from the network."""
    name = str(source)
    if name == "-" or URL.match(name):
        return True
    if name.startswith(CAMERA):
        return not Path(source).exists()  # a file may be called so
    try:
        return stat.S_ISFIFO(Path(source).stat().st_mode)
    except OSError:
        return False


def _is_image(path: Path) -> bool:
    """Whether a file is an image or an animation, by its name or, where that tells nothing, by
    what is in it."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return False
    if suffix in IMAGE_SUFFIXES:
        return not is_film(path)
    try:
        with open_image(path) as image:
            return _no_stream(image, suffix) and not is_film(path)
    except DAMAGED:
        return False


def _no_stream(image: Image.Image, suffix: str) -> bool:
    """Whether an image that is not named as one is no frame of many, one after the other, as in
    .mjpeg."""
    return not suffix or image.format not in ("JPEG", "MPO", "PNG", "PPM", "BMP")
