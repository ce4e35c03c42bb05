"""Images and label maps of data sets, as they were published: read by value, never turned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from carvid.base.errors import DatasetError
from carvid.media.frames import check_size
from carvid.media.images import DAMAGED, open_image
from carvid.media.label_images import read_labels

VOID = 65535
"""In a truth: the pixel is left out."""
MAP_FORMATS = ("PNG", "TIFF")
"""Formats of label maps; those that lose something change labels."""
_NONE = VOID - 1


@dataclass(frozen=True)
class Coding:
    """Which values of a published map stand for which labels."""

    order: tuple[int, ...]
    """The labels of the values `first`, `first` + 1, …"""
    first: int
    """1 where 0 stands for background, which stays 0; else 0."""
    void: int | None = None
    """A further value, for what is void."""
    void_label: int = VOID
    """What becomes of it: `VOID`, or 0."""

    def labels(self, path: Path, values: NDArray[np.uint16], remedy: str) -> NDArray[np.uint16]:
        """Turn values into labels.

        Args:
            path: where they come from.
            values: uint16 (H, W).
            remedy: what to do where there are others.

        Returns:
            uint16 (H, W): 0, 1 to `len(order)`, or `VOID`.

        Raises:
            DatasetError: a value stands for nothing.
        """
        labels = _table(self)[values]
        wrong = values[labels == _NONE]
        if wrong.size:
            known = f"0 to {self.first + len(self.order) - 1}"
            known += "" if self.void is None else f" and {self.void}"
            raise DatasetError(
                f"'{path}' has the value {wrong.max()} in {(wrong == wrong.max()).sum()} pixels, "
                f"and labels here are {known}; {remedy}"
            )
        return labels


@lru_cache(maxsize=16)
def _table(coding: Coding) -> NDArray[np.uint16]:
    table = np.full(1 << 16, _NONE, np.uint16)
    table[: coding.first] = 0
    table[coding.first : coding.first + len(coding.order)] = coding.order
    if coding.void is not None:
        table[coding.void] = coding.void_label
    return table


def in_order(count: int, first: int, void: int | None = None, void_label: int = VOID) -> Coding:
    """Return the coding whose values are in the order of the labels."""
    return Coding(tuple(range(1, count + 1)), first, void, void_label)


def read_label_map(path: Path, *, colors: bool = False) -> NDArray[np.uint16]:
    """Read a label map by its values: indices of a palette, or grey levels of 8 or 16 bits.

    Args:
        path: a PNG or TIFF.
        colors: one in RGB is taken by VOC's colours, which are the palette's.

    Returns:
        uint16 (H, W).

    Raises:
        DatasetError: no such file, damaged, too large, in colours that stand for no label, or a
            value does not fit.
    """
    with _opened(path, MAP_FORMATS, "a label map") as picture:
        if picture.mode in ("P", "L") or picture.mode.startswith("I"):
            values = np.array(picture)
            if values.min(initial=0) < 0 or values.max(initial=0) > np.iinfo(np.uint16).max:
                raise DatasetError(
                    f"'{path}' has the value {values.max()}, which is no label; give the "
                    "published maps"
                )
            return values.astype(np.uint16)
        mode = picture.mode
    if colors and mode in ("RGB", "RGBA"):
        return read_labels(path)[0].astype(np.uint16)
    raise DatasetError(
        f"'{path}' is a picture of colours (mode {mode}), and no map of labels; give the published "
        "maps, not coloured copies of them"
    )


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an image as its pixels lie in the file, as the truth does: its EXIF turns nothing.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        DatasetError: no such file, damaged, or too large.
    """
    with _opened(path, None, "an image") as picture:
        return np.array(picture.convert("RGB"))


def picture_size(path: Path) -> tuple[int, int]:
    """Return the height and width of an image or label map, pixels, from its header.

    Raises:
        DatasetError: no such file, damaged, or too large.
    """
    with _opened(path, None, "an image") as picture:
        return picture.height, picture.width


@contextmanager
def _opened(path: Path, formats: tuple[str, ...] | None, what: str) -> Iterator[Image.Image]:
    try:
        with open_image(path, formats) if formats else open_image(path) as picture:
            check_size(path, (picture.height, picture.width), DatasetError)
            yield picture
    except FileNotFoundError:
        raise DatasetError(f"no {what.split()[-1]} '{path}'; unpack it again") from None
    except UnidentifiedImageError:
        kinds = f" ({' or '.join(formats)})" if formats else ""
        raise DatasetError(f"'{path}' is not {what}{kinds}; unpack it again") from None
    except DAMAGED as error:
        told = str(error).strip().splitlines()
        raise DatasetError(
            f"cannot read '{path}': {told[0] if told else type(error).__name__}; unpack it again"
        ) from None
