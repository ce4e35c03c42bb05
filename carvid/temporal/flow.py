"""Dense optical flow: where each pixel was one frame earlier, and how far that can be trusted.

OpenCV's DIS flow (Kroeger et al., ECCV 2016) in both directions. A pixel is trusted when going back
and forth leads home: the forward-backward check of Sundaram et al., ECCV 2010, made smooth.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_around

RELATIVE_ERROR, ABSOLUTE_ERROR = 0.01, 0.5
"""A squared round trip error of `0.01 (|u|² + |v|²) + 0.5` pixels² halves the trust (Sundaram)."""

CHANNELS = 4
"""So many planes are carried at once, in a third of the time."""
MIN_PIXELS, MIN_SPEED = 30, 0.7
"""Fewer trusted pixels, or fewer pixels a frame against the camera, tell nothing of motion."""
ALIKE = 0.5
"""Share of a mask's speed against the camera by which motion may differ from its own."""
ENOUGH = 2000
"""A motion is found from about so many pixels, however many a mask has ..."""
SPARSE = 4
"""... and the camera's from every n-th in each direction."""
FIT_SCALE = 0.5
"""Error, pixels, at which a vector's weight in the fit is halved."""
ROUNDING = 1e-6
"""Variance of grey in [0, 1] that float32 cannot tell from none; a step of 1/255 has 1.5e-5."""
LARGEST_CHANGE = 3.0
"""A mask does not grow or shrink by more than this factor."""

DIS_MIN_SIDE = 16
"""Pixels. DIS chooses its coarsest scale by the width alone. On pictures of 40 and more pixels'
width and less than 16 pixels' height it reads outside of them, which ends the process, or fails;
measured with OpenCV 5.0 on widths from 8 to 480."""

_COUNTING = threading.Lock()
_inside, _threads = 0, 1
"""How many threads are in `one_cv2_thread`, and what OpenCV was set to before."""

Places = tuple[NDArray[Any], NDArray[Any]]
"""A place for each pixel, as `cv2.remap` reads it: float32 (h, w), x and y; or, in less memory,
int16 (h, w, 2), whole pixels, and uint16 (h, w), 32nds."""


@dataclass(frozen=True)
class Flow:
    """From a frame back to the one before it."""

    motion: NDArray[np.float32]
    """float32 (h, w, 2): by how many pixels each one has moved since, x and y."""
    trust: NDArray[np.float32]
    """float32 (h, w) in [0, 1]; 0 where it came from outside the picture."""
    source: Places
    """Where each pixel was."""
    onward: Places
    """Where the pixels of the frame before have gone."""


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
    dis.setPatchStride(4)  # 6 takes half the time, and loses what is thin or fast sooner
    dis.setGradientDescentIterations(32)
    dis.setFinestScale(1)  # without refinement: it blurs the edges of what moves
    height, width = now.shape
    one, other = _padded(now), _padded(before)
    with one_cv2_thread():  # what DIS finds depends on their number
        back = np.asarray(dis.calc(one, other, None), np.float32)  # type: ignore[call-overload]
        forth = np.asarray(dis.calc(other, one, None), np.float32)  # type: ignore[call-overload]
    back, forth = back[:height, :width], forth[:height, :width]
    back_x, back_y = cv2.split(back)
    grid_x, grid_y = _grid(now.shape[0], now.shape[1])
    x, y = grid_x + back_x, grid_y + back_y
    forth_x, forth_y = cv2.split(
        cv2.remap(forth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )
    error = np.square(back_x + forth_x) + np.square(back_y + forth_y)
    motion = np.square(back_x) + np.square(back_y) + np.square(forth_x) + np.square(forth_y)
    trust = 1 / (1 + np.square(error / (RELATIVE_ERROR * motion + ABSOLUTE_ERROR)))
    trust[(x < -0.5) | (x > now.shape[1] - 0.5) | (y < -0.5) | (y > now.shape[0] - 0.5)] = 0
    # In fixed point, since those of many frames of a file wait in memory.
    onward = cv2.convertMaps(grid_x + forth[..., 0], grid_y + forth[..., 1], cv2.CV_16SC2)
    return Flow(-back, np.asarray(trust, np.float32), (x, y), onward)


def _padded(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with its last row and column repeated up to `DIS_MIN_SIDE`; most are as they
    were."""
    height, width = gray.shape
    below, right = max(0, DIS_MIN_SIDE - height), max(0, DIS_MIN_SIDE - width)
    return np.pad(gray, ((0, below), (0, right)), mode="edge") if below or right else gray


def standing_still(size_hw: tuple[int, int]) -> Flow:
    """Return the flow of a picture that does not move, float32 of `size_hw`, wholly trusted."""
    x, y = _grid(*size_hw)
    onward = cv2.convertMaps(x, y, cv2.CV_16SC2)
    return Flow(np.zeros((*size_hw, 2), np.float32), np.ones(size_hw, np.float32), (x, y), onward)


@contextmanager
def one_cv2_thread() -> Iterator[None]:
    """Let OpenCV, whose setting is the whole process's, use one thread while anybody is in here;
    the last one to leave restores what the first one found."""
    global _inside, _threads
    with _COUNTING:
        if not _inside:
            _threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _inside += 1
    try:
        yield
    finally:
        with _COUNTING:
            _inside -= 1
            if not _inside:
                cv2.setNumThreads(_threads)


def carry(maps: NDArray[np.uint8], places: Places) -> NDArray[np.uint8]:
    """Return maps of one frame, uint8 (M, h, w), as they lie in another: of the frame before in
    this one (`Flow.source`), or of this one in the frame before (`Flow.onward`)."""
    carried = np.empty_like(maps)
    for first in range(0, len(maps), CHANNELS):
        planes = list(maps[first : first + CHANNELS])
        unused = [np.zeros_like(planes[0])] * (CHANNELS - len(planes))  # their number has a say
        picture = cv2.merge(planes + unused)
        pulled = cv2.remap(picture, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        carried[first : first + CHANNELS] = cv2.split(pulled)[: len(planes)]
    return carried


def snap_to_edges(
    chance: NDArray[np.float32], gray: NDArray[np.uint8], radius: int, epsilon: float
) -> NDArray[np.float32]:
    """Filter a map, float32 (h, w) in [0, 1], guided by a grey frame (He et al., ECCV 2010).

    Args:
        chance: what is filtered.
        gray: uint8 (h, w): the guide.
        radius: of the square window, pixels.
        epsilon: variance of the guide, in [0, 1]², under which a window counts as flat.
    """
    guide = gray.astype(np.float32) / np.float32(255)
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(plane: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(plane, size, borderType=cv2.BORDER_REFLECT), np.float32)

    mean_guide, mean_map = mean(guide), mean(chance)
    variance = mean(guide * guide) - mean_guide * mean_guide + epsilon
    slope = (mean(guide * chance) - mean_guide * mean_map) / np.maximum(variance, ROUNDING)
    filtered = mean(slope) * guide + mean(mean_map - slope * mean_guide)
    return np.asarray(np.clip(filtered, 0, 1), np.float32)


def moving_along(mask: NDArray[np.bool_], flow: Flow) -> NDArray[np.bool_]:
    """Return what moves as a mask does, bool (h, w), as far as motion can tell.

    An affine motion is fitted to the mask, and the camera's taken from what lies outside. Connected
    pixels that fit the first better join the mask, those that fit the second leave it. A mask that
    hardly moves, and one that would change beyond recognition, stay as they are.

    Args:
        mask: bool (h, w), of `flow`'s size.
        flow: from the frame before into this one.
    """
    box = box_around(mask, share=0.5)
    near, seen = mask[box], flow.trust[box] > 0.5
    motion = (flow.motion[box][..., 0], flow.motion[box][..., 1])
    inside = near & seen
    outside = (~mask & (flow.trust > 0.5))[::SPARSE, ::SPARSE]
    if np.count_nonzero(inside) < MIN_PIXELS or not outside.any():
        return mask
    camera = np.median(flow.motion[::SPARSE, ::SPARSE][outside], axis=0)
    own = _affine_motion(motion, inside)
    relative = _distance(own, camera)
    speed = float(np.median(relative[inside]))
    if speed < MIN_SPEED:
        return mask
    error, rest = _distance(motion, own), _distance(motion, camera)
    tolerance = ALIKE * np.maximum(relative, speed / 2)
    alike = (seen & (error < np.minimum(tolerance, rest))).astype(np.uint8)
    joins = cv2.morphologyEx(alike, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    stays = near & ~(seen & (rest < np.minimum(tolerance, error)))
    _, parts = cv2.connectedComponents((joins | stays).astype(np.uint8))
    moved = np.isin(parts, np.unique(parts[stays & joins])) & (joins | stays)
    area, changed = np.count_nonzero(near), np.count_nonzero(moved)
    if not area / LARGEST_CHANGE < changed < area * LARGEST_CHANGE:
        return mask
    result = np.zeros_like(mask)
    result[box] = moved
    return result


Planes = Sequence[NDArray[np.float32]] | NDArray[np.float32]
"""Motion along x and along y, each for every pixel or one for all."""


def _affine_motion(motion: Planes, inside: NDArray[np.bool_]) -> Planes:
    """The affine motion, float32 (h, w) along x and y, that fits best inside a mask (robust least
    squares)."""
    height, width = inside.shape
    columns, rows = np.arange(width) / width, np.arange(height) / width
    y, x = (axis[:: max(1, len(axis) // ENOUGH)] for axis in np.nonzero(inside))
    points = np.stack([columns[x], rows[y], np.ones(len(x))], axis=1)
    target = np.stack([plane[y, x] for plane in motion], axis=1)
    weights = np.ones((len(points), 1))
    for _ in range(3):
        solution = np.linalg.lstsq(points * weights, target * weights, rcond=None)[0]
        error = np.hypot(*(target - points @ solution).T)
        weights = (1 / (1 + np.square(error / FIT_SCALE)))[:, None]
    return [
        np.add.outer(along_y * rows + constant, along_x * columns).astype(np.float32)
        for along_x, along_y, constant in solution.T
    ]


def _distance(a: Planes, b: Planes) -> NDArray[np.float32]:
    """How far two motions are apart, float32 (h, w)."""
    return np.asarray(np.sqrt(np.square(a[0] - b[0]) + np.square(a[1] - b[1])), np.float32)


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Every pixel's own x and y, float32 (h, w) each."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x, y
