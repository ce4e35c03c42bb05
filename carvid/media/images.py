"""Image files, opened and nothing else, whatever they claim to be."""

from __future__ import annotations

import logging
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from carvid.base.errors import VideoError
from carvid.media.frames import check_size

FORMATS = (
    "JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM",
)  # fmt: skip
"""What is decoded, by Pillow's names and whatever a file's own says. Pillow knows others, of which
it gives EPS to an interpreter of programs, Ghostscript. HEIF is what pillow-heif adds."""
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".apng", ".bmp", ".webp", ".tif", ".tiff", ".avif",
    ".avifs", ".heic", ".heif", ".heics", ".hif", ".jp2", ".gif", ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip
"""Endings of images' names, in small letters."""
TIMED = ("GIF", "PNG", "WEBP", "AVIF")
"""Formats, by Pillow's names, whose pictures follow each other in time."""
DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError,
    NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises at a file that is damaged or no image."""

log = logging.getLogger("carvid")
FILM_HEAD = 16
"""Bytes of a box's head, at most, in ISO's base media file format, ISO/IEC 14496-12."""
_OPENING = threading.Lock()


def open_image(path: Path, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Open an image without decoding it; its size is for the caller to look at.

    Pillow's own limit, above which it first warns and then refuses, is set aside meanwhile.

    Raises:
        OSError: no such file, or none of these formats.
        SyntaxError: a damaged header; or another of `DAMAGED`.
    """
    if "HEIF" in formats:
        _know_heif()
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=tuple(formats))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what Pillow raises at a file within the block into a `VideoError`."""
    try:
        yield
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        why = "it is empty (0 bytes)" if empty else "it is no image, or of a kind that is not known"
        raise _cannot_read(path, why) from None
    except DAMAGED as error:
        told = str(error).strip().splitlines()
        raise _cannot_read(path, told[0] if told else type(error).__name__) from None


def checked_size(path: Path, image: Image.Image) -> tuple[int, int]:
    """Return the height and width of an opened image, pixels, before it is turned.

    Raises:
        VideoError: it has no pixels, or too many.
    """
    check_size(path, (image.height, image.width))
    if not image.height or not image.width:
        raise _cannot_read(path, f"it has {image.width}×{image.height} pixels")
    return image.height, image.width


def is_film(path: Path) -> bool:
    """Return whether a file is a HEIF with a track, pictures in time, which FFmpeg reads."""
    with path.open("rb") as file:
        start = file.read(FILM_HEAD)
        if start[4:8] != b"ftyp" or start[8:11] == b"avi":  # AVIF's tracks are Pillow's
            return False
        place = 0
        while len(start) >= 8:
            length, name = struct.unpack(">I4s", start[:8])
            if name == b"moov":
                return True
            if length == 1 and len(start) >= 16:
                length = struct.unpack(">Q", start[8:16])[0]
            if length < 8:
                return False
            place += length
            file.seek(place)
            start = file.read(FILM_HEAD)
    return False


def stamp_of(path: Path) -> tuple[int, int]:
    """Return what changes with a file: when it was written, nanoseconds, and its size, bytes."""
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


@lru_cache(maxsize=256)
def say_once(line: str) -> None:
    """Log what is done without being asked for, once: an input is opened, and an earlier run
    compared, several times."""
    log.info(line)


def _cannot_read(path: Path, why: str) -> VideoError:
    return VideoError(f"cannot read '{path}' as an image: {why}; remove or replace it")


@lru_cache(maxsize=1)
def _know_heif() -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener()
