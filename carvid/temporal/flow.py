"""Dense optical flow between two frames, both ways, and how far it can be trusted.

OpenCV's DIS flow (Kroeger et al., ECCV 2016) in both directions. A pixel is trusted when going back
and forth leads home: the forward-backward check of Sundaram et al., ECCV 2010, made smooth.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

RELATIVE_ERROR, ABSOLUTE_ERROR = 0.01, 0.5
"""A squared round trip error of `0.01 (|u|² + |v|²) + 0.5` pixels² halves the trust (Sundaram)."""

PATCH_STRIDE = 4
"""Of DIS, pixels; 6 takes half the time, and loses what is thin or fast sooner."""
DESCENT_ITERATIONS = 32
"""Of DIS, for each patch."""
FINEST_SCALE = 1
"""Of DIS, a power of 1/2; at this one, without refinement, which blurs the edges of what moves."""

DIS_MIN_SIDE = 16
"""Pixels. DIS chooses its coarsest scale by the width alone. On pictures of 40 and more pixels'
width and less than 16 pixels' height it reads outside of them, which ends the process, or fails;
measured with OpenCV 5.0 on widths from 8 to 480."""

ROWS = 32
"""The trust is computed so many rows at a time, whose planes stay in the processor's cache."""
TILE = 16
"""Side, pixels, of the squares of which it is known where they lead to."""

_lock = threading.Lock()
_inside, _threads_before = 0, 1
"""How many threads are in `one_cv2_thread`; the number of threads that OpenCV had before."""


@dataclass(frozen=True, eq=False)
class PixelMap:
    """For each pixel of one frame its place in another."""

    places: NDArray[Any]
    """As `cv2.remap` reads it, x and y: float32 (h, w, 2); or, in less memory, int16 (h, w, 2),
    whole pixels."""
    parts: NDArray[np.uint16] | None
    """uint16 (h, w): with whole pixels, 32nds of pixels that are added."""
    lowest: NDArray[np.float32]
    """float32 (r, c, 2): the least x and y in each square of `TILE` pixels, or a little less."""
    highest: NDArray[np.float32]
    """float32 (r, c, 2): the greatest, or a little more."""

    @classmethod
    def of(cls, places: NDArray[np.float32], *, keep: bool = False) -> PixelMap:
        """Return the map of places, float32 (h, w, 2); `keep`: in less memory, since those of many
        frames wait for later ones."""
        lowest = _over_tiles(np.minimum, places) - np.float32(1)
        highest = _over_tiles(np.maximum, places) + np.float32(1)
        if not keep:
            return cls(places, None, lowest, highest)
        whole, parts = cv2.convertMaps(places, None, cv2.CV_16SC2)  # type: ignore[call-overload]
        return cls(whole, parts, lowest, highest)

    def of_box(self, box: tuple[slice, slice]) -> tuple[NDArray[Any], NDArray[np.uint16] | None]:
        """Return the two maps of `cv2.remap` for a box."""
        return self.places[box], None if self.parts is None else self.parts[box]

    def leading_into(self, plane: NDArray[np.uint8]) -> tuple[slice, slice]:
        """Return rows and columns that hold all pixels that lead to where `plane`, uint8 (h, w), is
        not 0; they may be empty."""
        left, top, width, height = cv2.boundingRect(plane)
        first, end = (left - 1, top - 1), (left + width, top + height)
        tiles = np.logical_and.reduce((self.highest >= first) & (self.lowest <= end), axis=2)
        columns, rows, across, down = cv2.boundingRect(tiles.view(np.uint8))
        if not width:
            across = down = 0
        return (slice(rows * TILE, (rows + down) * TILE),
                slice(columns * TILE, (columns + across) * TILE))  # fmt: skip


@dataclass(frozen=True)
class Flow:
    """Optical flow between a frame and the one before it, for carrying both ways."""

    motion: NDArray[np.float32]
    """float32 (h, w, 2): how far each pixel has moved since the frame before, (x, y) in pixels."""
    trust: NDArray[np.float32]
    """float32 (h, w) in [0, 1]: how well the forward-backward check is passed; 0 where a pixel came
    from outside the picture."""
    backward_map: PixelMap
    """For each pixel of this frame its place in the frame before."""
    forward_map: PixelMap
    """For each pixel of the frame before its place in this frame."""


def to_gray(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3) RGB as grey, uint8 (h, w), its longer side at most `max_side`."""
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = gray if scale == 1 else cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def flow_between(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> Flow:
    """Compute the flow from `now` back to `before`, uint8 (h, w) each, of one size."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setPatchStride(PATCH_STRIDE)
    dis.setGradientDescentIterations(DESCENT_ITERATIONS)
    dis.setFinestScale(FINEST_SCALE)
    height, width = now.shape
    one, other = _padded(now), _padded(before)
    with one_cv2_thread():  # the flow that DIS finds depends on their number
        back = np.asarray(dis.calc(one, other, None), np.float32)  # type: ignore[call-overload]
        forth = np.asarray(dis.calc(other, one, None), np.float32)  # type: ignore[call-overload]
    back, forth = back[:height, :width], forth[:height, :width]
    grid = _grid(height, width)
    from_before = grid + back
    return Flow(
        motion=-back,
        trust=_trust(back, forth, from_before),
        backward_map=PixelMap.of(from_before),
        forward_map=PixelMap.of(grid + forth, keep=True),
    )


def standing_still(size_hw: tuple[int, int]) -> Flow:
    """Return the flow of a picture that does not move, wholly trusted, at a height and width."""
    grid = _grid(*size_hw)
    return Flow(
        motion=np.zeros((*size_hw, 2), np.float32),
        trust=np.ones(size_hw, np.float32),
        backward_map=PixelMap.of(grid),
        forward_map=PixelMap.of(grid, keep=True),
    )


@contextmanager
def one_cv2_thread() -> Iterator[None]:
    """Let OpenCV use one thread while any thread is in here. The setting is the whole process's:
    the last one to leave restores what the first one found."""
    global _inside, _threads_before
    with _lock:
        if not _inside:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                cv2.setNumThreads(_threads_before)


def _trust(
    back: NDArray[np.float32], forth: NDArray[np.float32], from_before: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The forward-backward check of two flows, float32 (h, w, 2) in pixels, of which the first one
    leads to the places `from_before`: float32 (h, w) in [0, 1],

        u = back, v = forth where u leads to
        1 / (1 + (|u + v|² / (RELATIVE_ERROR (|u|² + |v|²) + ABSOLUTE_ERROR))²)

    and 0 where u leads out of the picture.
    """
    height, width = back.shape[:2]
    how = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    there = cv2.remap(forth, from_before, None, **how)  # type: ignore[call-overload]
    trust = np.empty((height, width), np.float32)
    for top in range(0, height, ROWS):
        rows = slice(top, top + ROWS)
        (back_x, back_y), (forth_x, forth_y) = cv2.split(back[rows]), cv2.split(there[rows])
        error = np.square(back_x + forth_x)
        error += np.square(back_y + forth_y)
        scale = np.square(back_x)
        for plane in (back_y, forth_x, forth_y):
            scale += np.square(plane)
        scale *= np.float32(RELATIVE_ERROR)
        scale += np.float32(ABSOLUTE_ERROR)
        error /= scale
        np.square(error, out=error)
        error += 1
        np.divide(1, error, out=trust[rows])
    inside = cv2.inRange(from_before, (-0.5, -0.5), (width - 0.5, height - 0.5))
    trust[inside == 0] = 0
    return trust


def _over_tiles(each: np.ufunc, planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The least or greatest values, float32 (r, c, 2), in each square of `TILE` pixels of planes,
    float32 (h, w, 2)."""
    for axis in (0, 1):
        around = [(0, 0)] * 3
        around[axis] = (0, -planes.shape[axis] % TILE)
        planes = np.pad(planes, around, mode="edge") if any(around[axis]) else planes
        along = np.moveaxis(planes, axis, 0)
        planes = np.moveaxis(reduce(each, (along[k::TILE] for k in range(TILE))), 0, axis)
    return planes


def _padded(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with its last row and column repeated up to `DIS_MIN_SIDE`; most are as they
    were."""
    height, width = gray.shape
    below, right = max(0, DIS_MIN_SIDE - height), max(0, DIS_MIN_SIDE - width)
    return np.pad(gray, ((0, below), (0, right)), mode="edge") if below or right else gray


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """Each pixel's x and y, float32 (h, w, 2)."""
    planes = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack(planes, axis=-1)
