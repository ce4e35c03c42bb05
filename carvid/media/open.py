"""Frames in: one interface over video files, folders of images, images, cameras and pipes."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from natsort import natsort_keygen, ns
from numpy.typing import NDArray
from PIL import ImageOps

from carvid.base.errors import VideoError
from carvid.media.container import DEFAULT_FRAME_RATE, SHORTEST_FRAME_S
from carvid.media.decode import first_line, open_file
from carvid.media.frames import (
    ALL,
    Frame,
    Picture,
    Selection,
    VideoInfo,
    VideoReader,
    check_size,
    prefetch,
)
from carvid.media.images import open_image
from carvid.media.live import CAMERA, URL, LiveReader

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

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_NATURAL = natsort_keygen(alg=ns.INT | ns.IGNORECASE)
"""Digits in a row are a whole number. With `ns.FLOAT`, which names that are times in seconds need
(1.175 before 1.2), shot.999 would follow shot.1001."""


def open_video(
    source: str | Path,
    *,
    backend: Backend = "auto",
    frame_rate: Fraction = DEFAULT_FRAME_RATE,
    selection: Selection = ALL,
    raw: tuple[int, int, Fraction] | None = None,
) -> VideoReader:
    """Open a video file, a folder of images (in natural order), one image, or something live.

    Args:
        source: a path; `-` (a pipe into this process), `camera:0`, or the URL of a stream.
        backend: how files are decoded; `auto` is decord where it is exact, PyAV elsewhere.
        frame_rate: of images, which have none of their own.
        selection: which of the frames are read, and how large.
        raw: the frames that come through a pipe have no header; height, width and frame rate.

    Raises:
        VideoError: there is no such input, or it cannot be decoded.
    """
    if is_live(source):
        return LiveReader(str(source), selection, raw)
    path = Path(source)
    if path.is_dir():
        paths = _images_in(path)
        if not paths:
            raise VideoError(
                f"'{path}' holds no images; give a folder of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        return ImagesReader(path, paths, frame_rate, selection)
    if not path.exists():
        raise VideoError(
            f"no file or folder '{path}'; give a video, an image or a folder of images"
        )
    if path.stat().st_size == 0:
        raise VideoError(f"'{path}' is empty (0 bytes); give a video or an image")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImagesReader(path, [path], frame_rate, selection)
    return open_file(path, backend, selection)


def input_files(source: str | Path) -> list[Path]:
    """Return the files that an input is read from; of a folder of images it and them."""
    path = Path(source)
    try:
        return [path, *_images_in(path)] if path.is_dir() else [path]
    except (OSError, ValueError):  # nothing that can be opened
        return [path]


def _images_in(folder: Path) -> list[Path]:
    """The images in a folder, in natural order."""
    return sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
         and not p.name.startswith(".")),
        key=lambda p: natural_key(p.name),
    )  # fmt: skip


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


def natural_key(name: str) -> tuple[Any, str]:
    """Sort key under which frame10 follows frame9, in small and capital letters alike; names that
    are the same to it, such as 1.png and 01.png, have one order on every file system."""
    return _NATURAL(name), name


class ImagesReader(VideoReader):
    """Images, one a frame, all of one size."""

    def __init__(
        self, path: Path, paths: list[Path], frame_rate: Fraction, selection: Selection = ALL
    ) -> None:
        self._paths = paths
        self._times = [float(index / frame_rate) for index in range(len(paths))]
        first = _read_image(paths[0])
        self._size_hw = (first.shape[0], first.shape[1])
        count = sum(1 for _ in selection.chosen(self._times))
        super().__init__(
            VideoInfo(
                str(path),
                "images",
                selection.size_hw(self._size_hw),
                frame_rate,
                count,
                selection=selection,
            )
        )

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        for time_s, path in zip(self._times, self._paths, strict=True):
            yield time_s, partial(self._picture, path)

    def _picture(self, path: Path) -> NDArray[np.uint8]:
        image = _read_image(path)
        if image.shape[:2] != self._size_hw:
            raise VideoError(
                f"'{path}' is {image.shape[1]}×{image.shape[0]}, the first image "
                f"{self._size_hw[1]}×{self._size_hw[0]}; give images of one size"
            )
        return image


def _read_image(path: Path) -> NDArray[np.uint8]:
    """The image as shown (a camera's orientation applied), uint8 (H, W, 3) RGB."""
    try:
        with open_image(path) as picture:
            check_size(path, (picture.height, picture.width))
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):  # Pillow would clip these to 255
                grey = (np.asarray(upright) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise VideoError(
            f"cannot read '{path}' as an image: {first_line(error)}; remove or replace it"
        ) from None
