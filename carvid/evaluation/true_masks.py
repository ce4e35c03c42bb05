"""Where the true mask of a frame is: a label map, run lengths, or a PNG of one object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.media.frames import check_size
from carvid.media.label_images import read_values
from carvid.media.label_png import read_label_png
from carvid.media.run_lengths import RunLengths


@dataclass(frozen=True)
class TrueRuns:
    """The union of run lengths; without any, nothing is to be seen."""

    name: str
    """File name of the prediction that is held against it."""
    source: str
    """Where they are from, as a message says it."""
    runs: tuple[RunLengths, ...]

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True)
class TrueFile:
    """A black and white PNG of one object; where there is none, the object is not to be seen."""

    path: Path

    @property
    def name(self) -> str:
        """File name of the prediction that is held against it."""
        return self.path.name

    def __str__(self) -> str:
        return str(self.path)


TrueMask = Path | TrueRuns | TrueFile
"""Of a frame; a path is that of a label map."""


def read_truth(true_mask: TrueMask) -> NDArray[np.uint8] | None:
    """Read a true mask: uint8 (H, W), labels, or 1 where there is no label map; None if nothing is
    to be seen, and its size is not known.

    Raises:
        DatasetError: it cannot be read, or is of another form.
    """
    if isinstance(true_mask, Path):
        return read_label_png(true_mask)
    if isinstance(true_mask, TrueFile):
        there = true_mask.path.is_file()
        return read_mask(true_mask.path).view(np.uint8) if there else None
    return _union(true_mask)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read the mask of one object, bool (H, W): pixels 0, black, or one other value.

    Submissions to Ref-YouTube-VOS are such (mode L, 0 and 255), carvid's own (mode P, 0 and 1), and
    what is written with three channels alike.

    Raises:
        DatasetError: no such file, unreadable, too large, or of more values.
    """
    values = read_values(path)
    mask: NDArray[np.bool_] = values > 0
    if (values != values.max(initial=0) * mask).any():
        raise DatasetError(
            f"'{path}' has more than two values; write the object's mask alone, thresholded"
        )
    return mask


def _union(true_mask: TrueRuns) -> NDArray[np.uint8] | None:
    sizes = {each.size_hw for each in true_mask.runs}
    if len(sizes) > 1:
        raise DatasetError(f"{true_mask} has masks of several sizes; unpack it again")
    if not sizes:
        return None
    check_size(true_mask.source, sizes.pop(), DatasetError)
    try:
        masks = [each.decode() for each in true_mask.runs]
    except ValueError as error:
        raise DatasetError(f"{true_mask} cannot be read: {error}; unpack it again") from None
    return np.ascontiguousarray(np.logical_or.reduce(masks)).view(np.uint8)
