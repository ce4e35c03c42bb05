"""Pictures that callers have in Python, turned into what carvid works with.

| given                                   | becomes                                              |
|-----------------------------------------|------------------------------------------------------|
| NumPy, uint8 (H, W, 3)                  | itself; a copy only if its rows are not contiguous   |
| NumPy, uint8 (H, W) or (H, W, 1)        | grey: three channels alike                           |
| NumPy, uint8 (H, W, 4)                  | RGBA: laid on a white ground                         |
| NumPy, float, these shapes, in [0, 1]   | rounded to 255ths                                    |
| Pillow, every mode of 8 bits or F       | RGB; its own pixels, the camera's turn not applied   |
| torch, uint8 or float, on any device    | as NumPy, channels last or first                     |

Whatever could mean two things is refused: 16 bits may hold 10 or 12, floats over 1 may go to 255.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Tensor(Protocol):
    """A `torch.Tensor`, to the type checker alone: this room does without torch."""

    def detach(self) -> Any: ...


Picture: TypeAlias = NDArray[Any] | Image.Image | Tensor
"""What `to_rgb` turns into RGB; the table above says which arrays."""
MIN_SIDE = 12
"""Pixels; CLIP looks at patches of 14 or 16, and finds nothing in less than one."""
GROUND = 255
"""Grey value, 0 to 255, of what transparent pixels are laid on: white, as pages show them."""
CHANNELS = (1, 3, 4)
"""Grey, RGB, RGBA."""
TRANSPARENT_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
"""Pillow's names of modes with alpha; the lower a is of colours that are multiplied by it."""
DEEP_MODES = ("I", "F")
"""How Pillow's modes of more than 8 bits begin, which it would clip to 255."""


def to_rgb(picture: Picture) -> NDArray[np.uint8]:
    """Return one picture as uint8 (H, W, 3) RGB.

    Args:
        picture: as in the table above. Masks lie on `np.asarray(picture)`: a photo of Pillow's
            whose camera was turned needs `PIL.ImageOps.exif_transpose` first.

    Raises:
        ValueError: it is nothing of that; the message names its dtype and shape. Or a side is
            under `MIN_SIDE` pixels.
    """
    array = _array_of(picture)
    _check(array)
    if array.dtype != np.uint8:
        array = _scaled(array)
    if array.ndim == 2 or array.shape[2] == 1:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    elif array.shape[2] == 4:
        array = on_ground(array)
    return np.ascontiguousarray(array)


def on_ground(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGBA, uint8 (H, W, 4), laid on `GROUND`: uint8 (H, W, 3)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    laid = rgba[..., :3] * alpha + GROUND * (255 - alpha)  # at most 255², which 16 bits hold
    return ((laid + np.uint16(127)) // 255).astype(np.uint8)


def _array_of(picture: Picture) -> NDArray[Any]:
    """The picture as NumPy has it, channels last."""
    if isinstance(picture, np.ndarray):
        return picture
    if isinstance(picture, Image.Image):
        return _array_of_pillow(picture)
    torch: Any = sys.modules.get("torch")  # who has a tensor has imported it
    if torch is not None and isinstance(picture, torch.Tensor):
        return _array_of_tensor(picture)
    raise ValueError(
        f"a frame is a {type(picture).__name__}; give a NumPy array, a Pillow image or a torch "
        "tensor"
    )


def _array_of_pillow(picture: Image.Image) -> NDArray[Any]:
    if picture.mode.startswith(DEEP_MODES):
        return np.array(picture)
    if picture.mode in TRANSPARENT_MODES or "transparency" in picture.info:
        return np.array(picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))


def _array_of_tensor(tensor: Any) -> NDArray[Any]:
    """A torch tensor's values; its first axis is moved to the end if that one alone can be the
    channels."""
    values = tensor.detach().cpu()
    if values.is_floating_point():
        values = values.float()  # NumPy has no bfloat16
    array: NDArray[Any] = values.numpy()
    if array.ndim == 3 and array.shape[0] in CHANNELS and array.shape[2] not in CHANNELS:
        return np.moveaxis(array, 0, 2)
    return array


def _check(array: NDArray[Any]) -> None:
    """Refuse what is no picture, or might be two."""
    if array.dtype == np.bool_:
        _refuse(array, "which is a mask; give the picture that it belongs to")
    if array.dtype == np.uint16:
        _refuse(
            array, "of which nobody knows how many bits are used; give uint8, or floats in [0, 1]: "
            "frame / 65535 if all 16 are, frame / 4095 if 12 are"
        )  # fmt: skip
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        _refuse(array, "which is no picture; give uint8, or floats in [0, 1]")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS)):
        _refuse(array, "which is no picture; give (H, W, 3) RGB, (H, W) grey or (H, W, 4) RGBA")
    if min(array.shape[:2]) < MIN_SIDE:
        _refuse(array, f"with a side under {MIN_SIDE} pixels; enlarge it first")


def _scaled(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Floats in [0, 1] as uint8."""
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # nor if one is NaN
        _refuse(
            array, f"with values from {low:g} to {high:g}; give floats in [0, 1] without NaN, or "
            "uint8"
        )  # fmt: skip
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)


def _refuse(array: NDArray[Any], why: str) -> NoReturn:
    raise ValueError(f"a frame is {array.dtype} {array.shape}, {why}")
