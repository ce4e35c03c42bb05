"""How a model wants its pixels: mean, standard deviation and size, read from its own folder; and
how an image is turned into them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from carvid.base.files import read_json
from carvid.clip.model_files import PREPROCESSORS

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""CLIP's mean, RGB in [0, 1] (openai/CLIP, `_transform`)."""
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's standard deviation, likewise."""


@dataclass(frozen=True)
class Preprocessing:
    """How a network's pixels are made: (value in [0, 1] − mean) / std, in each channel."""

    mean: tuple[float, ...] = IMAGE_MEAN
    """RGB, in [0, 1]."""
    std: tuple[float, ...] = IMAGE_STD
    """RGB, likewise."""
    side: int | None = None
    """Side of the square images that the network is made for, pixels; None: that of the position
    embeddings' grid."""

    @property
    def padding_rgb(self) -> tuple[int, ...]:
        """The colour, levels of 255, that is zero once normalised, as nearly as can be."""
        return tuple(min(max(round(255 * mean), 0), 255) for mean in self.mean)


OPENAI = Preprocessing()
"""That of CLIP's authors."""


def read_preprocessing(folder: Path) -> Preprocessing:
    """Read preprocessor_config.json, or the image part of processor_config.json.

    What is not said there is CLIP's. A side that differs from the position embeddings' is the
    preprocessor's: its makers say so how the network is to be used, and embeddings are interpolated
    to any grid.

    Raises:
        ValueError: it says what cannot be.
    """
    values = {key: value for key, value in _values(folder).items() if value is not None}
    normalize = values.get("do_normalize", True)
    mean = _three(values.get("image_mean", IMAGE_MEAN) if normalize else 0.0, "image_mean")
    std = _three(values.get("image_std", IMAGE_STD) if normalize else 1.0, "image_std")
    if min(std) <= 0:
        raise ValueError(f"its image_std is {list(std)}, which cannot be")
    # Levels times the factor are normalised: 1 where the factor is 1/255, as it is nearly always.
    rescale = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1
    unit = _number(rescale, "rescale_factor") * 255
    if unit <= 0:
        raise ValueError(f"its rescale_factor is {rescale}, which cannot be")
    return Preprocessing(tuple(x / unit for x in mean), tuple(x / unit for x in std), _side(values))


def to_pixels(
    image: NDArray[np.uint8] | Image.Image,
    size_hw: tuple[int, int],
    preprocessing: Preprocessing = OPENAI,
) -> Tensor:
    """Resize uint8 (H, W, 3) RGB (PIL bicubic, antialiased), normalise: float32 (3, *size_hw)."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if picture.size != size_hw[::-1]:
        picture = picture.resize(size_hw[::-1], Image.Resampling.BICUBIC)
    levels = torch.from_numpy(np.asarray(picture).copy())  # (H, W, 3)
    values = levels.permute(2, 0, 1).float() / 255  # (3, H, W)
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    return (values - mean[:, None, None]) / std[:, None, None]


def _values(folder: Path) -> Mapping[str, Any]:
    for file in PREPROCESSORS:
        if not (folder / file).exists():
            continue
        try:
            values = read_json(folder / file)
        except (OSError, ValueError) as error:
            raise ValueError(f"its {file} cannot be read ({error})") from None
        if not isinstance(values, Mapping):
            raise ValueError(f"its {file} holds no settings")
        if file == PREPROCESSORS[0]:
            return values
        part = values.get("image_processor", {})
        return part if isinstance(part, Mapping) else {}
    return {}


def _side(values: Mapping[str, Any]) -> int | None:
    """The side of the square that a network is given: of the crop, else of what is scaled to."""
    size = values.get("size")
    if values.get("do_center_crop", True):
        size = values.get("crop_size", size)
    if isinstance(size, Mapping):
        edges = [("shortest_edge",), ("height", "width"), ("longest_edge",)]
        size = next(([size[key] for key in keys] for keys in edges if {*keys} <= {*size}), None)
    if size is None:
        return None
    sides = [_number(side, "size") for side in (size if isinstance(size, list) else [size])]
    if not sides or min(sides) < 1 or len(set(sides)) > 1:
        raise ValueError(f"its size is {sides}, not that of a square")
    return int(sides[0])


def _three(value: Any, name: str) -> tuple[float, ...]:
    """One number of each of the three channels."""
    numbers = value if isinstance(value, list | tuple) else [value] * 3
    if len(numbers) != 3:
        raise ValueError(f"its {name} has {len(numbers)} channels, not RGB")
    return tuple(_number(number, name) for number in numbers)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"its {name} is {value!r}, not a number")
    return float(value)
