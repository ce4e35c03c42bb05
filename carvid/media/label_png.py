"""DAVIS's way of writing masks: indexed PNG, label k = object k, 0 = background."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from carvid.base.errors import DatasetError
from carvid.base.files import replacing
from carvid.media.frames import check_size
from carvid.media.images import open_image

PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
"""First and last bytes of a PNG (its signature and its last chunk; PNG specification, 5.2 and
11.2.5)."""
MIN_PROBABILITY = 0.5
"""A probability under it counts as 0 in a label map (Ref-DAVIS practice)."""
BACKGROUND_PROBABILITY = 0.1
"""The plane that is put in front of the objects' (Ref-DAVIS practice)."""
MAX_LABEL = 255
"""Labels are uint8."""
VOID_LABEL = 255
"""In true masks of DAVIS 2019: pixels that belong to nobody and count for nothing."""


def palette() -> list[int]:
    """Return the DAVIS palette, 768 values: the bits of a label, spread over red, green, blue."""
    colors = []
    for label in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            rgb[bit % 3] |= (label >> bit & 1) << (7 - bit // 3)
        colors.extend(rgb)
    return colors


_PALETTE = palette()


def write_label_png(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write uint8 (H, W) labels as an indexed PNG with the DAVIS palette; the file is whole or
    absent.

    Raises:
        ValueError: `labels` has another dtype or shape.
        OutputError: the place cannot be written.
    """
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"labels must be uint8 (H, W), got {labels.dtype} {labels.shape}")
    picture = Image.fromarray(labels, mode="L")
    picture.putpalette(_PALETTE)
    with replacing(path) as partial:
        picture.save(partial, format="PNG")


def write_deep_labels(path: Path, labels: NDArray[np.uint16]) -> None:
    """Write uint16 (H, W) labels as grey levels of 16 bits, where there are more than indices; the
    file is whole or absent.

    Raises:
        ValueError: `labels` has another dtype or shape.
        OutputError: the place cannot be written.
    """
    if labels.dtype != np.uint16 or labels.ndim != 2:
        raise ValueError(f"labels must be uint16 (H, W), got {labels.dtype} {labels.shape}")
    with replacing(path) as partial:
        Image.fromarray(labels).save(partial, format="PNG")


def read_label_png(path: Path) -> NDArray[np.uint8]:
    """Read an indexed PNG (mode P): uint8 (H, W) labels.

    Raises:
        DatasetError: no such file, unreadable, too large, or not an indexed PNG.
    """
    with opened_png(path) as picture:
        if picture.mode != "P":
            raise DatasetError(
                f"'{path}' is a {picture.mode} image, not an indexed (mode P) PNG; write labels "
                "with a palette"
            )
        return np.array(picture, np.uint8)


def is_whole_png(path: Path) -> bool:
    """Whether a file begins and ends as a PNG; a full disk or a lost connection leaves others."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(PNG_BEGIN))
            file.seek(-len(PNG_END), os.SEEK_END)
            return begin == PNG_BEGIN and file.read() == PNG_END
    except OSError:  # none, or one that is shorter
        return False


@contextmanager
def opened_png(path: Path) -> Iterator[Image.Image]:
    """Open a PNG; what goes wrong with it meanwhile is told as a fault of the file.

    Raises:
        DatasetError: no such file, unreadable, or too large.
    """
    try:
        with open_image(path, ["PNG"]) as picture:
            check_size(path, (picture.height, picture.width), DatasetError)
            yield picture
    except FileNotFoundError:
        raise DatasetError(f"no mask '{path}'; give a folder of DAVIS PNGs") from None
    except UnidentifiedImageError:
        raise DatasetError(f"'{path}' is no PNG; write it again") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DatasetError(f"cannot read '{path}' as a PNG: {error}; write it again") from None


def label_map(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Make one label map of several objects' probabilities, by the rule of Ref-DAVIS.

    Probabilities under 0.5 become 0, a background plane of 0.1 is put in front, argmax; ties go
    to the lower index.

    Args:
        probabilities: float32 (N, H, W) in [0, 1], N ≤ 255.

    Returns:
        uint8 (H, W), label k for plane k − 1.
    """
    if probabilities.ndim != 3 or len(probabilities) > MAX_LABEL:
        raise ValueError(f"probabilities must be (N ≤ 255, H, W), got {probabilities.shape}")
    # Plane by plane: NumPy's argmax over the first axis takes five times as long.
    labels = np.zeros(probabilities.shape[1:], np.uint8)
    highest = np.full(labels.shape, BACKGROUND_PROBABILITY, probabilities.dtype)
    for label, plane in enumerate(probabilities, 1):
        wins = (plane >= MIN_PROBABILITY) & (plane > highest)
        labels[wins] = label
        np.copyto(highest, plane, where=wins)
    return labels
