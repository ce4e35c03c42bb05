"""Drawn frames for the tests along time: textures, a square that moves, boxes, two colours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.car.choice import NO_TRACK
from carvid.config import TemporalConfig
from carvid.temporal.colors import count_colors, to_colors
from carvid.temporal.flow import to_gray
from carvid.temporal.observe import FrameContext, observe
from carvid.temporal.seen import see
from carvid.temporal.state import TemporalState

SIZE_HW = (144, 240)
WHOLE = (slice(0, SIZE_HW[0]), slice(0, SIZE_HW[1]))
"""Rows and columns of a whole frame."""


def texture(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2) * 3, np.uint8)


def moving(frames: int, step: int = 2) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """A textured square that goes to the right over another texture, and its mask."""
    ground, thing = texture(1), texture(2)[:48, :48]
    for t in range(frames):
        image, mask = ground.copy(), np.zeros(SIZE_HW, bool)
        left = 20 + step * t
        image[40:88, left : left + 48] = thing
        mask[40:88, left : left + 48] = True
        yield image, mask


def two_colors(size_hw: tuple[int, int] = SIZE_HW) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A red square on noise of blue and grey, and its mask."""
    rng = np.random.default_rng(3)
    image = rng.integers(80, 120, (*size_hw, 3)).astype(np.uint8)
    image[..., 2] += 80
    mask = np.zeros(size_hw, bool)
    mask[40:88, 60:120] = True
    image[mask] = rng.integers(0, 40, (np.count_nonzero(mask), 3))
    image[mask, 0] += 180
    return image, mask


def box(left: int) -> NDArray[np.float32]:
    mask = np.zeros(SIZE_HW, np.float32)
    mask[20:40, left : left + 20] = 1
    return mask


def known_state() -> TemporalState:
    image, mask = next(moving(1))
    return replace(
        TemporalState.initial(1), chosen=np.array([0]), owners=np.array([0]),
        values=np.array([0.7], np.float32), sources=np.array([NO_TRACK]),
        colors=count_colors(to_colors(image, SIZE_HW), mask)[None], areas=np.array([mask.sum()]),
        maps=mask[None] * np.uint8(255), gray=to_gray(image, 854),
    )  # fmt: skip


def meet(
    state: TemporalState, image: NDArray[np.uint8], config: TemporalConfig, time_s: float = math.nan
) -> FrameContext:
    """The state meets a frame."""
    return observe(state, see(state, image, config, time_s=time_s), config)
