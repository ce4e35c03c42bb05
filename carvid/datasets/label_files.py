"""Images and label maps of data sets, as they were published: read by value, never turned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from carvid.base.errors import DatasetError
from carvid.media.frames import check_size
from carvid.media.images import DAMAGED, open_image
from carvid.media.label_images import read_labels

MAP_FORMATS = ("PNG", "TIFF")
"""Formats of label maps; those that lose something change labels."""


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


def read_color_map(path: Path) -> NDArray[np.uint8]:
    """Read a label map whose colours hold numbers.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        DatasetError: no such file, damaged, too large, or without colours.
    """
    with _opened(path, MAP_FORMATS, "a label map") as picture:
        if picture.mode not in ("RGB", "RGBA"):
            raise DatasetError(
                f"'{path}' has no colours (mode {picture.mode}), which hold its labels; unpack it "
                "again"
            )
        return np.array(picture.convert("RGB"))


def read_mat(path: Path, name: str) -> NDArray[np.uint16]:
    """Read a label map from a MATLAB file, level 5.

    Args:
        path: a `.mat`.
        name: of the variable.

    Returns:
        uint16 (H, W).

    Raises:
        DatasetError: no such file, damaged, too large, without the variable, or it is no label map.
    """
    from scipy.io import loadmat, whosmat  # a quarter of a second

    try:
        shapes = {key: shape for key, shape, _ in whosmat(path)}
        shape = shapes.get(name)
        if shape is None or len(shape) != 2:
            there = ", ".join(shapes) or "nothing"
            raise DatasetError(
                f"'{path}' has no map '{name}' ({there} is in it); unpack the published file again"
            )
        check_size(path, shape, DatasetError)
        values = np.asarray(loadmat(path, variable_names=[name])[name])
    except FileNotFoundError:
        raise DatasetError(f"no label map '{path}'; unpack it again") from None
    except DatasetError:
        raise
    except Exception as error:  # whatever it meets in a damaged file; its own has no base
        raise _cannot_read(path, error) from None
    if values.dtype.kind not in "uif" or (values != values.astype(np.uint16)).any():
        raise DatasetError(f"'{path}' has no whole numbers as '{name}'; unpack it again")
    return values.astype(np.uint16)


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
        raise _cannot_read(path, error) from None


def _cannot_read(path: Path, error: Exception) -> DatasetError:
    told = str(error).strip().splitlines()
    why = told[0] if told else type(error).__name__
    return DatasetError(f"cannot read '{path}': {why}; unpack it again")
