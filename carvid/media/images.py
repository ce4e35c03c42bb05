"""Image files, decoded and nothing else, whatever they claim to be."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
"""What is decoded, by Pillow's names and whatever a file's own says. Pillow knows others, of which
it gives EPS to an interpreter of programs, Ghostscript."""

_OPENING = threading.Lock()


def open_image(path: Path, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Open an image without decoding it; its size is for the caller to look at.

    Pillow's own limit, above which it first warns and then refuses, is set aside meanwhile.

    Raises:
        OSError: no such file, or none of these formats.
        SyntaxError: a damaged header; so are ValueError and EOFError.
    """
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=tuple(formats))
        finally:
            Image.MAX_IMAGE_PIXELS = limit
