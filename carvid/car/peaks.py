"""A map's peaks as parts of their own: what touches is told apart by the saddle between.

A map is flooded from its highest value down. Where two pools meet, the saddle, they are one if it
is nearly as high as the lower one's peak, and stay two if it is not (the watershed of Vincent and
Soille, 1991, with the peaks' persistence in place of markers).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def split_peaks(
    plane: NDArray[np.float32], *, level: float, saddle: float, most: int
) -> NDArray[np.float32]:
    """Cut a map into a part for each of its peaks, each with the slope around it.

    Args:
        plane: float32 (h, w) ≥ 0.
        level: share of the map's maximum above which there may be a part.
        saddle: two peaks are two parts where the saddle between them is below this share of the
            lower one.
        most: how many parts are kept, those with the highest peaks.

    Returns:
        float32 (P, h, w), the highest first; a map of zeros is one part.
    """
    pools = _flood(plane, level * float(plane.max()), saddle)
    peaks = {int(pool): float(plane[pools == pool].max()) for pool in np.unique(pools[pools > 0])}
    ranked = sorted(peaks, key=lambda pool: -peaks[pool])[:most]
    square = np.ones((3, 3), np.uint8)
    parts = []
    for pool in ranked:
        part = (pools == pool).astype(np.uint8)
        near = (cv2.dilate(part, square) > 0) & ((pools == pool) | (pools == 0))
        parts.append(np.where(near, plane, np.float32(0)))
    return np.stack(parts or [plane])


def _flood(plane: NDArray[np.float32], floor: float, saddle: float) -> NDArray[np.int64]:
    """The pool of each pixel above `floor`, int64 (h, w), from 1; 0 below it."""
    height, width = plane.shape
    pools = np.zeros((height + 2, width + 2), np.int64)
    peaks, leads_to = [0.0], [0]  # of each pool; a pool that has run into another leads to it

    def pool_of(number: int) -> int:
        while leads_to[number] != number:
            number = leads_to[number]
        return number

    flat = plane.ravel()
    for place in np.argsort(-flat, kind="stable").tolist():
        value = float(flat[place])
        if value <= floor:
            break
        y, x = place // width, place % width
        around = pools[y : y + 3, x : x + 3].ravel()
        near = sorted({pool_of(int(n)) for n in around[around > 0]}, key=lambda n: -peaks[n])
        if not near:
            peaks.append(value)
            leads_to.append(len(leads_to))
            near = [leads_to[-1]]
        pools[y + 1, x + 1] = near[0]
        for lower in near[1:]:
            if value >= saddle * peaks[lower]:
                leads_to[lower] = near[0]
    roots = np.array([pool_of(number) for number in range(len(leads_to))])
    return np.asarray(roots[pools[1:-1, 1:-1]], np.int64)
