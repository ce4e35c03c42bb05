"""One picture, written like a video of one frame."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.base.files import replacing

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}), ".jpg": ("JPEG", {"quality": 95}), ".jpeg": ("JPEG", {"quality": 95}),
}  # fmt: skip
"""Suffix → Pillow's name of the format, and its options. Above 95 JPEGs only grow (Pillow)."""


class PictureWriter:
    """Writes a PNG or a JPEG beside its place, renamed when it is whole; a `VideoWriter` otherwise.

    Args:
        path: the picture to make; its name ends in one of `FORMS`.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._image: NDArray[np.uint8] | None = None

    def write(
        self,
        image: NDArray[np.uint8],
        time_s: float | Fraction | None = None,
        duration_s: float = math.nan,
    ) -> None:
        """Take uint8 (H, W, 3) RGB; a picture has no times.

        Raises:
            ValueError: it is the second.
        """
        if self._image is not None:
            raise ValueError(f"'{self.path}' is one picture, and was given two")
        self._image = image

    def close(self) -> None:
        """Write the file; closing twice is fine.

        Raises:
            OutputError: the place cannot be written.
        """
        image, self._image = self._image, None
        if image is not None:
            form, options = FORMS[self.path.suffix.lower()]
            with replacing(self.path) as partial:
                Image.fromarray(image).save(partial, format=form, **options)

    def discard(self) -> None:
        """Leave nothing."""
        self._image = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if kind is None:
            self.close()
        else:
            self.discard()


def write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write uint8 (H, W, 3) RGB as a whole file, a PNG or a JPEG by its name.

    Raises:
        OutputError: the place cannot be written.
    """
    with PictureWriter(path) as writer:
        writer.write(image)
