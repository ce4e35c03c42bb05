"""Label maps as other programs write them: grey, black and white, in the palette's colours.

| PNG                             | is taken for                                               |
|---------------------------------|------------------------------------------------------------|
| indexed                         | its indices; where carvid's own was repainted, its colours |
| grey, 8 or 16 bits              | labels, level k for label k                                |
| grey or black and white, of one | a matte: what is lighter than half                         |
| RGB, RGBA                       | labels, by the DAVIS palette's colours; clear is 0         |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import DatasetError
from carvid.media.label_png import MAX_LABEL, opened_png, palette

INDEXED = ""
GREY = "grey levels are taken for labels"
MATTE = "what is lighter than half is taken for the mask"
COLORS = "colours of the DAVIS palette are taken for labels"
"""How a picture was understood."""

_PALETTE = palette()
_LABEL_OF = {tuple(_PALETTE[3 * k : 3 * k + 3]): k for k in range(MAX_LABEL + 1)}
"""RGB, 0 to 255 each → label."""


def read_labels(
    path: Path, most: int = MAX_LABEL, *, single: bool = False, repainted: bool = False
) -> tuple[NDArray[np.uint8], str]:
    """Read a label map that carvid or another program wrote.

    Args:
        path: a PNG.
        most: the highest label of grey levels and colours; indices may be higher.
        single: there is one object only, and its mask may be a matte.
        repainted: an indexed one was carvid's, so that its colours are the palette's; a program
            may have put them into another order.

    Returns:
        uint8 (H, W), and how it was understood: one of `INDEXED`, `GREY`, `MATTE`, `COLORS`.

    Raises:
        DatasetError: no such file, unreadable, too large, or no label map.
    """
    with opened_png(path) as picture:
        if picture.mode == "P":
            return _of_indexed(picture, most) if repainted else (_indices(picture), INDEXED)
        if picture.mode in ("RGB", "RGBA"):
            return _of_colors(path, np.array(picture.convert("RGBA")), most, single)
        if picture.mode == "LA":
            level, alpha = np.moveaxis(np.array(picture), 2, 0)
            return _of_grey(path, np.where(alpha > 0, level, 0), MAX_LABEL, most, single)
        deep = picture.mode.startswith("I")
        values = np.array(picture)
        if picture.mode == "1":
            values, most = values * np.uint8(MAX_LABEL), min(most, MAX_LABEL - 1)
        return _of_grey(path, values, 65535 if deep else MAX_LABEL, most, single)


def read_values(path: Path) -> NDArray[np.uint32]:
    """Read the pixels of a PNG of any mode as one number each, uint32 (H, W); 0 is black, index 0,
    or clear.

    Raises:
        DatasetError: no such file, unreadable, or too large.
    """
    with opened_png(path) as picture:
        if picture.mode in ("RGB", "RGBA", "LA"):
            return _codes(np.array(picture.convert("RGBA")))
        return np.array(picture).astype(np.uint32)


def _codes(rgba: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Colours, uint8 (H, W, 4), as one number each, uint32 (H, W), that of clear ones 0."""
    rgba[rgba[..., 3] == 0] = 0
    rgba[..., 3] = 0
    return np.ascontiguousarray(rgba).view(np.uint32)[..., 0]


def _indices(picture: Image.Image) -> NDArray[np.uint8]:
    return np.array(picture, np.uint8)


def _of_indexed(picture: Image.Image, most: int) -> tuple[NDArray[np.uint8], str]:
    """Labels of an indexed picture whose colours are the palette's, in whatever order."""
    indices, colors = _indices(picture), picture.getpalette("RGB") or []
    end = 3 * (int(indices.max(initial=0)) + 1)
    if colors[:end] == _PALETTE[:end]:
        return indices, INDEXED
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=MAX_LABEL + 1))
    known = [_LABEL_OF.get(tuple(colors[3 * k : 3 * k + 3])) for k in used]
    labels = [label for label in known if label is not None and label <= most]
    if len({*labels}) < len(used) or not any(colors):  # another palette: indices are all there is
        return indices, INDEXED
    table = np.zeros(MAX_LABEL + 1, np.uint8)
    table[used] = labels
    return table[indices], COLORS


def _of_grey(
    path: Path, values: NDArray[Any], full: int, most: int, single: bool
) -> tuple[NDArray[np.uint8], str]:
    """Labels, or a matte, of grey levels (H, W) up to `full`."""
    highest = int(values.max(initial=0))
    if single and highest > full // 2:
        return (values > full // 2).astype(np.uint8), MATTE
    if highest > most:
        _refuse(path, f"grey level {highest}, and labels go up to {most}; write label k as level k")
    return values.astype(np.uint8), GREY


def _of_colors(
    path: Path, rgba: NDArray[np.uint8], most: int, single: bool
) -> tuple[NDArray[np.uint8], str]:
    """Labels of colours, uint8 (H, W, 4) RGBA."""
    codes, places = np.unique(_codes(rgba), return_inverse=True)
    colors = codes.view(np.uint8).reshape(-1, 4)[:, :3].tolist()
    known = [_LABEL_OF.get(tuple(color)) for color in colors]
    strange = [k for k, label in enumerate(known) if label is None or label > most]
    if not strange:
        table = np.array(known, np.uint8)
        return table[places].reshape(rgba.shape[:2]), COLORS
    if all(red == green == blue for red, green, blue in colors):
        return _of_grey(path, rgba[..., 0], MAX_LABEL, most, single)
    count = int((places.ravel() == strange[0]).sum())
    _refuse(
        path, f"the colour {tuple(colors[strange[0]])} in {count} pixels, which is that of no "
        f"label up to {most}; paint with the DAVIS palette's colours, without soft edges"
    )  # fmt: skip


def _refuse(path: Path, why: str) -> NoReturn:
    raise DatasetError(f"'{path}' has {why}")
