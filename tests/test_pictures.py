"""What callers hand over as a frame: converted where it means one thing, else refused by name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from carvid.media.pictures import GROUND, MIN_SIDE, to_rgb

H, W = 14, 20
RGB = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
GREY = RGB[..., 0].copy()
ALPHA = np.linspace(0, 255, H * W).astype(np.uint8).reshape(H, W)
RGBA = np.dstack([RGB, ALPHA])
GREY_RGB = np.dstack([GREY] * 3)


def on_ground(picture: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same by floats."""
    share = alpha[..., None] / 255
    return np.rint(picture * share + GROUND * (1 - share)).astype(np.uint8)


def floats(picture: NDArray[np.uint8], dtype: Any = np.float32) -> NDArray[Any]:
    return (picture / 255).astype(dtype)


def tensor(picture: NDArray[Any], *axes: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    made = torch.from_numpy(picture.copy())
    made = made.permute(*axes) if axes else made
    return made if dtype is None else made.to(dtype)


def palette_with_a_clear_color() -> Image.Image:
    """Colour 0 is transparent, under a pixel value that must not be seen."""
    made = Image.new("P", (W, H), 1)
    made.putpalette([10, 20, 30, 200, 100, 50])
    made.putpixel((0, 0), 0)
    made.info["transparency"] = 0
    return made


def clear_corner() -> NDArray[np.uint8]:
    wanted = np.full((H, W, 3), (200, 100, 50), np.uint8)
    wanted[0, 0] = GROUND
    return wanted


CASES: dict[str, tuple[Any, NDArray[np.uint8]]] = {
    "rgb": (RGB, RGB),
    "rgb, every second column": (np.repeat(RGB, 2, axis=1)[:, ::2], RGB),
    "rgb, read only": (np.frombuffer(RGB.tobytes(), np.uint8).reshape(RGB.shape), RGB),
    "bgr turned round": (RGB[..., ::-1].copy()[..., ::-1], RGB),
    "grey": (GREY, GREY_RGB),
    "grey, one channel": (GREY[..., None], GREY_RGB),
    "rgba": (RGBA, on_ground(RGB, ALPHA)),
    "float16": (floats(RGB, np.float16), RGB),
    "float32": (floats(RGB), RGB),
    "float64": (floats(RGB, np.float64), RGB),
    "float, other byte order": (floats(RGB).astype(">f4"), RGB),
    "float grey": (floats(GREY), GREY_RGB),
    "float grey, one channel": (floats(GREY)[..., None], GREY_RGB),
    "float rgba": (floats(RGBA), on_ground(RGB, ALPHA)),
    "float, all 0": (np.zeros((H, W), np.float32), np.zeros((H, W, 3), np.uint8)),
    "float, all 1": (np.ones((H, W), np.float32), np.full((H, W, 3), 255, np.uint8)),
    "pillow RGB": (Image.fromarray(RGB), RGB),
    "pillow L": (Image.fromarray(GREY), GREY_RGB),
    "pillow 1": (
        Image.fromarray(GREY).point(lambda value: value > 127, mode="1"),
        np.where(GREY_RGB > 127, 255, 0).astype(np.uint8),
    ),
    "pillow RGBA": (Image.fromarray(RGBA), on_ground(RGB, ALPHA)),
    "pillow LA": (Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), on_ground(GREY_RGB, ALPHA)),
    "pillow P": (palette_with_a_clear_color(), clear_corner()),
    "pillow CMYK": (
        Image.fromarray(RGB).convert("CMYK"),
        np.asarray(Image.fromarray(RGB).convert("CMYK").convert("RGB")),
    ),
    "pillow F in [0, 1]": (Image.fromarray(floats(GREY)), GREY_RGB),
    "torch": (tensor(RGB), RGB),
    "torch, channels first": (tensor(RGB, 2, 0, 1), RGB),
    "torch grey": (tensor(GREY), GREY_RGB),
    "torch grey, channel first": (tensor(GREY[None]), GREY_RGB),
    "torch rgba, channels first": (tensor(RGBA, 2, 0, 1), on_ground(RGB, ALPHA)),
    "torch float, channels first": (tensor(floats(RGB), 2, 0, 1), RGB),
    "torch float64": (tensor(floats(RGB, np.float64)), RGB),
    "torch float16": (tensor(floats(RGB), dtype=torch.float16), RGB),
    "torch with a gradient": (tensor(floats(RGB)).requires_grad_(), RGB),
    "smallest": (RGB[:MIN_SIDE, :MIN_SIDE], RGB[:MIN_SIDE, :MIN_SIDE]),
}
RANGE = "give floats in [0, 1] without NaN, or uint8"
REFUSED: dict[str, tuple[Any, str]] = {
    "mask": (GREY > 9, f"bool ({H}, {W}), which is a mask; give the picture that it belongs to"),
    "16 bits": (RGB.astype(np.uint16), f"uint16 ({H}, {W}, 3), of which nobody knows how many"),
    "integers": (RGB.astype(np.int64), f"int64 ({H}, {W}, 3), which is no picture; give uint8"),
    "complex": (RGB.astype(np.complex64), f"complex64 ({H}, {W}, 3), which is no picture"),
    "objects": (np.full((H, W), "a", object), f"object ({H}, {W}), which is no picture"),
    "float to 255": (RGB.astype(np.float32), f"float32 ({H}, {W}, 3), with values from 0 to 255"),
    "float from -1": (floats(RGB) * 2 - 1, f"with values from -1 to 1; {RANGE}"),
    "infinite": (np.full((H, W), np.inf), f"float64 ({H}, {W}), with values from inf to inf"),
    "NaN": (np.where(GREY > 200, np.nan, 0.5), f"with values from nan to nan; {RANGE}"),
    "two channels": (RGB[..., :2], f"uint8 ({H}, {W}, 2), which is no picture; give (H, W, 3) RGB"),
    "channels first": (RGB.transpose(2, 0, 1), f"uint8 (3, {H}, {W}), which is no picture"),
    "a video": (RGB[None], f"uint8 (1, {H}, {W}, 3), which is no picture"),
    "a row": (GREY[0], f"uint8 ({W},), which is no picture"),
    "nothing": (np.zeros((0, 0, 3), np.uint8), "uint8 (0, 0, 3), with a side under 12 pixels"),
    "low": (RGB[:11], f"uint8 (11, {W}, 3), with a side under 12 pixels; enlarge it first"),
    "narrow": (RGB[:, :11], f"uint8 ({H}, 11, 3), with a side under 12 pixels; enlarge it first"),
    "narrow float": (floats(GREY)[:, :11], f"float32 ({H}, 11), with a side under 12 pixels"),
    "pillow I;16": (Image.fromarray(GREY.astype(np.uint16)), f"uint16 ({H}, {W}), of which nobody"),
    "pillow I": (Image.fromarray(GREY.astype(np.int32)), f"int32 ({H}, {W}), which is no picture"),
    "pillow F to 255": (Image.fromarray(GREY.astype(np.float32)), "with values from 0 to 25"),
    "pillow, small": (Image.new("RGB", (30, 8)), "uint8 (8, 30, 3), with a side under 12 pixels"),
    "torch mask": (tensor(GREY) > 9, f"bool ({H}, {W}), which is a mask"),
    "torch int64": (tensor(RGB).long(), f"int64 ({H}, {W}, 3), which is no picture"),
    "torch batch": (tensor(RGB)[None], f"uint8 (1, {H}, {W}, 3), which is no picture"),
    "list": (RGB.tolist(), "a list; give a NumPy array, a Pillow image or a torch tensor"),
    "path": ("dog.png", "a str; give a NumPy array, a Pillow image or a torch tensor"),
    "none": (None, "a NoneType; give"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_pictures_become_rgb(case: str) -> None:
    given, wanted = CASES[case]
    made = to_rgb(given)
    assert made.dtype == np.uint8 and made.flags.c_contiguous
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_one_picture_is_refused(case: str) -> None:
    given, message = REFUSED[case]
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        to_rgb(given)
    assert type(error.value) is ValueError and str(error.value).startswith("a frame is ")


def test_rgb_is_not_copied() -> None:
    assert to_rgb(RGB) is RGB


@pytest.mark.parametrize("make", [lambda: RGBA, lambda: floats(RGB), lambda: GREY])
def test_what_is_given_stays_as_it_is(make: Callable[[], NDArray[Any]]) -> None:
    given = make()
    before = given.copy()
    to_rgb(given)[:] = 7
    np.testing.assert_array_equal(given, before)


def test_hidden_colors_are_not_seen() -> None:
    hidden = np.dstack([RGB, np.zeros((H, W), np.uint8)])
    assert (to_rgb(hidden) == GROUND).all()
    assert (to_rgb(np.dstack([RGB, np.full((H, W), 255, np.uint8)])) == RGB).all()


def test_a_cameras_turn_is_left_to_the_caller() -> None:
    """Masks lie on the pixels that the caller has."""
    turned = Image.fromarray(RGB)
    turned.getexif()[0x0112] = 6
    assert to_rgb(turned).shape == (H, W, 3)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "RGBX", "HSV"]
)
def test_every_mode_of_8_bits_is_read(mode: str) -> None:
    assert to_rgb(Image.new(mode, (W, H))).shape == (H, W, 3)


def test_torch_is_not_imported_for_it() -> None:
    script = """
import sys, numpy as np
from carvid.media.pictures import to_rgb
assert to_rgb(np.zeros((20, 20), np.uint8)).shape == (20, 20, 3)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
