"""One picture of an image file, as it is shown: uint8 (H, W, 3) RGB.

A camera's orientation is applied, what is transparent is laid on `GROUND`, and what has more than 8
bits a channel is brought to 8 by `Tones`, which are one for all pictures of an input.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from carvid.media.images import say_once
from carvid.media.pictures import DEEP_MODES, TRANSPARENT_MODES, on_ground

BITS = (8, 10, 12, 14, 16)
"""How many bits cameras, scanners and microscopes use of 16."""
NARROW = 0.25
"""Values that span less of their bits than this are stretched: those of a thermal camera, say."""
EIGHT_BITS = 255
LIKE_8_BITS = 128
"""Floats whose largest is between this and `EIGHT_BITS` are taken to go from 0 to that."""
ORIENTATION = 0x0112
"""EXIF's and TIFF's number of the tag."""
BITS_PER_SAMPLE = 258
"""TIFF's number of the tag."""
TIFF_STARTS = (b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Tones:
    """How values of more than 8 bits become 0 to 255; the same for every picture of an input."""

    low: float
    """Becomes 0."""
    high: float
    """Becomes 255."""
    bits: int = 0
    """Values are whole numbers of so many bits, of which the upper 8 are kept; 0: they are scaled
    from `low` to `high`."""

    @classmethod
    def of(cls, arrays: Iterable[NDArray[Any]]) -> Tones:
        """Return those of an input whose pictures, or enough of them, are `arrays`.

        Whole numbers are taken for 8, 10, 12, 14 or 16 bits, whichever hold the largest, floats
        in [0, 1] for shares of white, floats up to 255 for 8 bits. All else, negative values too,
        is stretched from the least to the largest value, as are whole numbers that span less than
        `NARROW` of their bits.
        """
        low, high, whole = np.inf, -np.inf, True
        for array in arrays:
            colors = array[..., :3] if array.ndim == 3 and array.shape[2] == 4 else array
            known = colors[np.isfinite(colors)] if colors.dtype.kind == "f" else colors
            whole &= colors.dtype.kind != "f"
            if known.size:
                low, high = min(low, float(known.min())), max(high, float(known.max()))
        if not low <= high:  # nothing but NaN
            return cls(0.0, 1.0)
        return cls._of_whole(low, high) if whole else cls._of_floats(low, high)

    @classmethod
    def _of_whole(cls, low: float, high: float) -> Tones:
        for bits in BITS:
            top = float(2**bits - 1)
            if low >= 0 and high <= top:
                narrow = bits > BITS[0] and high - low < NARROW * top
                return cls(low, high) if narrow and high > low else cls(0.0, top, bits)
        return cls(low, max(high, low + 1))

    @classmethod
    def _of_floats(cls, low: float, high: float) -> Tones:
        if low >= 0 and high <= 1:
            return cls(0.0, 1.0)
        if low >= 0 and LIKE_8_BITS <= high <= EIGHT_BITS:
            return cls(0.0, float(EIGHT_BITS))
        return cls(low, high if high > low else low + 1)

    def apply(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """Return an array's values as uint8; those outside are the nearest, NaN is 0."""
        if self.bits:
            upper = np.asarray(array >> (self.bits - 8))
            return np.asarray(np.clip(upper, 0, EIGHT_BITS).astype(np.uint8))
        share = (np.asarray(array, np.float64) - self.low) / (self.high - self.low)
        whole = np.rint(np.clip(np.nan_to_num(share, posinf=1), 0, 1) * EIGHT_BITS)
        return np.asarray(whole, np.uint8)

    def __str__(self) -> str:
        return f"values from {self.low:g} to {self.high:g} are shown as 0 to 255"


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image has more than 8 bits a channel; nothing is decoded."""
    return image.mode.startswith(DEEP_MODES) or _has_deep_colors(image)


def values_of(image: Image.Image, path: Path) -> NDArray[Any]:
    """Decode the picture that an opened image is at, as it is shown.

    Args:
        image: what `open_image` returned.
        path: its file.

    Returns:
        uint8 (H, W, 3) RGB or (H, W, 4) RGBA; of a deep one its own values, (H, W) or likewise.

    Raises:
        OSError: it is damaged; or another of `DAMAGED`.
    """
    if _has_deep_colors(image):  # Pillow would keep the upper 8 bits of 16
        return _turned(_by_opencv(path, image.tell()), image.getexif().get(ORIENTATION, 1))
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(DEEP_MODES):
        return np.asarray(upright)
    if upright.mode in TRANSPARENT_MODES or "transparency" in upright.info:
        return np.array(upright.convert("RGBA"))
    return np.array(upright.convert("RGB"))


def shown(values: NDArray[Any], tones: Tones) -> NDArray[np.uint8]:
    """Return what `values_of` gave as uint8 (H, W, 3) RGB."""
    if values.dtype == np.uint8:
        image: NDArray[np.uint8] = values
    elif values.ndim == 3 and values.shape[2] == 4:
        opacity = _opacity(values[..., 3])
        image = np.dstack([tones.apply(values[..., :3]), opacity])
    else:
        image = tones.apply(values)
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return on_ground(image) if image.shape[2] == 4 else image


def is_transparent(values: NDArray[Any]) -> bool:
    """Whether a pixel of what `values_of` gave is not wholly opaque."""
    if values.ndim != 3 or values.shape[2] != 4:
        return False
    return bool(_opacity(values[..., 3]).min() < EIGHT_BITS)


def say_if_transparent(path: str | Path, values: NDArray[Any]) -> None:
    """Log once that an input has transparent pixels, if this picture of it has."""
    if is_transparent(values):
        say_once(f"'{path}': what is transparent is laid on white")


def tiff_values(path: Path) -> NDArray[Any]:
    """Decode a TIFF that Pillow does not know, one of floats in RGB, say.

    Raises:
        OSError: it is none (Pillow's `UnidentifiedImageError`), or damaged.
    """
    with path.open("rb") as file:
        if file.read(4) not in TIFF_STARTS:
            raise UnidentifiedImageError
    return _by_opencv(path, 0)


def _opacity(alpha: NDArray[Any]) -> NDArray[np.uint8]:
    """Alpha of 8 bits, of 16 of which some may be unused, or of floats in [0, 1], as uint8."""
    if alpha.dtype.kind == "f":
        return Tones(0.0, 1.0).apply(alpha)
    bits = next((bits for bits in BITS if alpha.max() < 2**bits), BITS[-1])
    return Tones(0.0, float(2**bits - 1), bits).apply(alpha)


def _has_deep_colors(image: Image.Image) -> bool:
    """Whether it has several channels of 16 bits."""
    if image.mode not in ("RGB", "RGBA", "LA", "RGBX"):
        return False
    if image.format == "PNG":
        return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.format == "TIFF":
        bits: tuple[int, ...] = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))
        return max(bits) > BITS[0]
    return False


def _by_opencv(path: Path, page: int) -> NDArray[Any]:
    """A page as OpenCV decodes it: all bits, RGB or RGBA or grey."""
    try:
        if page:
            _, pages = cv2.imreadmulti(str(path), page, 1, flags=cv2.IMREAD_UNCHANGED)
            values: Any = pages[0] if pages else None
        else:
            data = np.frombuffer(path.read_bytes(), np.uint8)
            values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise OSError(str(error.err or error)) from None
    if values is None:
        raise OSError("it is damaged, or of a kind that is not known")
    if values.ndim == 3 and values.shape[2] >= 3:
        order = [2, 1, 0, 3][: values.shape[2]]
        return np.ascontiguousarray(values[..., order])
    return np.asarray(values)


def _turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An array turned and mirrored as EXIF's orientation, 1 to 8, says."""
    if orientation in (2, 5, 7, 4):
        values = values[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(values, turns))
