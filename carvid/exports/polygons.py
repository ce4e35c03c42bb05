"""Masks as polygons for readers that know one ring and no more: holes are cut into the ring of
their part by bridges, and so are parts joined that lie near each other.

A ring goes through pixels of the mask, and a reader that fills it and draws its line, as
`cv2.fillPoly` and Pillow do, gets the mask back. `corners` puts each corner just before the middle
of its pixel, so that one who cuts decimals off gets what one who rounds does, and seldom another
pixel where he sets further corners between two of them, as YOLO's training does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_of

INSIDE = 0.49
"""Where in its pixel a corner lies, from its left and upper edge, pixels: under a half."""
LINE, HALF_LINE = 0.25, 0.15
"""Where a line without width lies, and by how much it is widened to each side, so that it has an
area."""

Ring = NDArray[np.int32]
"""int32 (K, 2): columns and rows of pixels, each the next one's neighbour or in one line with it,
the last one the first one's. A pixel may come several times."""


def rings(mask: NDArray[np.bool_], *, bridged: float = 0.0) -> list[Ring]:
    """Return the outlines of a mask's parts, by the top pixel; of an empty mask none.

    Args:
        mask: bool (H, W); its parts are joined by sides and corners of pixels.
        bridged: parts are joined, the nearest first, while the bridges cover no more pixels outside
            the mask than this share of its own; 0 leaves each part a ring of its own.
    """
    if not mask.any():
        return []
    left, top, right, bottom = box_of(mask)
    contours, parts = _contours(mask[top:bottom, left:right])
    bridges = _Bridges(contours)
    for part in parts:
        bridges.join(part)
    if bridged and len(parts) > 1:
        bridges.join(range(len(contours)), int(bridged * int(mask.sum())))
    corner = np.array([left, top], np.int32)
    cut = mask[top:bottom, left:right]
    return [corner + _simplified(_stepped(ring, cut)) for ring in bridges.rings()]


def corners(ring: Ring) -> NDArray[np.float64]:
    """Return a ring's corners, float64 (K, 2), x and y in pixels from the picture's upper left
    edge; three at least, which have an area also where the ring is a pixel or a line."""
    if _area(ring):
        return ring.astype(np.float64) + INSIDE
    points = ring.astype(np.float64) + LINE
    if len(ring) == 1:
        steps = np.array([[1, 0], [0, -1], [-1, 0], [0, 1]])  # around the pixel
        points = np.repeat(points, 4, axis=0)
    else:
        steps = np.sign(np.roll(ring, -1, axis=0) - ring)
    sides = HALF_LINE * np.stack([-steps[:, 1], steps[:, 0]], axis=1)
    before, after = points + np.roll(sides, 1, axis=0), points + sides
    return np.clip(
        np.stack([before, after], axis=1).reshape(-1, 2),
        np.repeat(points, 2, axis=0) - HALF_LINE, np.repeat(points, 2, axis=0) + HALF_LINE,
    )  # fmt: skip


def _area(ring: Ring) -> float:
    """Twice the area within the line, with its sign."""
    x, y = ring.astype(np.float64).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _contours(mask: NDArray[np.bool_]) -> tuple[list[Ring], list[list[int]]]:
    """The contours of a mask, all of their pixels, and of each part the places of its own in that
    list, its outer one first."""
    found, tree = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )  # fmt: skip
    contours = [np.asarray(each, np.int32).reshape(-1, 2) for each in found]
    within: dict[int, list[int]] = {}
    parents: list[int] = np.asarray(tree, np.int32).reshape(-1, 4)[:, 3].tolist()
    for place, parent in enumerate(parents):
        within.setdefault(place if parent < 0 else parent, []).append(place)
    parts = [[outer, *(each for each in places if each != outer)]
             for outer, places in within.items()]  # fmt: skip
    parts.sort(key=lambda part: tuple(contours[part[0]][0][::-1].tolist()))
    return contours, parts


class _Bridges:
    """Joins contours, by pairs of their pixels, to trees; walked around, each tree is a ring."""

    def __init__(self, contours: Sequence[Ring]) -> None:
        self._contours = contours
        self._tree = list(range(len(contours)))
        """Of each contour another one in its tree, or itself."""
        self._bridges: list[dict[int, list[tuple[int, int]]]] = [{} for _ in contours]
        """Of each contour: place of its pixel → contour and place at the other end."""

    def join(self, places: Sequence[int], allowed: int | None = None) -> None:
        """Join some contours by bridges that are as short as can be.

        Args:
            places: of the contours.
            allowed: pixels between their ends that all bridges may have together; None is any.
        """
        if len(places) < 2:
            return
        sizes = [len(self._contours[place]) for place in places]
        owner = np.repeat(np.asarray(places), sizes)
        own = np.concatenate([np.arange(size) for size in sizes])
        ends = list(zip(owner.tolist(), own.tolist(), strict=True))
        pixels = np.concatenate([self._contours[place] for place in places])
        unique, first, which = np.unique(pixels, axis=0, return_index=True, return_inverse=True)
        same = first[which.ravel()]  # several contours may go through a pixel
        for k in np.flatnonzero(owner[same] != owner).tolist():
            self._bridge(ends[same[k]], ends[k])
        pairs = first[_near(unique)]
        pairs = pairs[owner[pairs[:, 0]] != owner[pairs[:, 1]]]
        spans = np.abs(pixels[pairs[:, 0]] - pixels[pairs[:, 1]])
        between = spans.max(axis=1, initial=0) - 1
        order = np.lexsort((np.square(spans).sum(axis=1), between))
        if allowed is not None:
            order = order[between[order] <= allowed]
        for k in order.tolist():
            if allowed is not None and between[k] > allowed:
                break
            a, b = pairs[k].tolist()
            if self._bridge(ends[a], ends[b]) and allowed is not None:
                allowed -= int(between[k])

    def rings(self) -> Iterator[Ring]:
        """Yield the ring of each tree, in the order of the contours."""
        for place in range(len(self._contours)):
            if self._root(place) == place:
                yield self._walk(place)

    def _bridge(self, one: tuple[int, int], other: tuple[int, int]) -> bool:
        """Join two contours, if they are in two trees; return whether they were."""
        roots = sorted((self._root(one[0]), self._root(other[0])))
        if roots[0] == roots[1]:
            return False
        self._tree[roots[1]] = roots[0]
        self._bridges[one[0]].setdefault(one[1], []).append(other)
        self._bridges[other[0]].setdefault(other[1], []).append(one)
        return True

    def _root(self, place: int) -> int:
        while self._tree[place] != place:
            self._tree[place] = self._tree[self._tree[place]]
            place = self._tree[place]
        return place

    def _walk(self, place: int) -> Ring:
        """Go around a contour, and at each bridge around what is behind it, and back."""
        ring: list[tuple[int, int]] = []
        seen = {place}
        ways = [self._around(place, 0)]
        while ways:
            at = next(ways[-1], None)
            if at is None:
                ways.pop()
                continue
            (contour, k), others = at
            ring.append(tuple(self._contours[contour][k].tolist()))
            if others:
                ways.append(self._behind(at, seen))
        return np.array(ring, np.int32)

    def _behind(
        self, at: tuple[tuple[int, int], list[tuple[int, int]]], seen: set[int]
    ) -> Iterator[tuple[tuple[int, int], list[tuple[int, int]]]]:
        end, others = at
        for contour, k in others:
            if contour not in seen:
                seen.add(contour)
                yield from self._around(contour, k)
                yield end, []

    def _around(
        self, contour: int, first: int
    ) -> Iterator[tuple[tuple[int, int], list[tuple[int, int]]]]:
        """Each pixel of a contour from one on, that again at the end, with what is bridged to."""
        count = len(self._contours[contour])
        for k in range(first, first + count):
            yield (contour, k % count), self._bridges[contour].get(k % count, [])
        yield (contour, first), []


def _near(pixels: NDArray[np.int32]) -> NDArray[np.intp]:
    """Pairs of pixels, (P, 2), of which the shortest bridges are some: the edges of their Delaunay
    triangulation, or neighbours, where all are in a line."""
    from scipy.spatial import Delaunay, QhullError

    row = np.arange(len(pixels))
    line = np.stack([row[:-1], row[1:]], axis=1)  # np.unique has sorted them
    if len(pixels) < 3 or not np.any(_turns(pixels)):
        return line
    try:
        corner = Delaunay(pixels).simplices
    except QhullError:
        return line
    sides = np.concatenate([corner[:, [0, 1]], corner[:, [1, 2]], corner[:, [0, 2]]])
    return np.unique(np.sort(sides, axis=1), axis=0).astype(np.intp)


def _turns(pixels: NDArray[np.int32]) -> NDArray[np.int64]:
    """How far each pixel is from the line through the first and the last one, in some unit."""
    from_first = pixels.astype(np.int64) - pixels[0]
    turns = from_first[:, 0] * from_first[-1, 1] - from_first[:, 1] * from_first[-1, 0]
    return np.asarray(turns, np.int64)


def _stepped(ring: Ring, mask: NDArray[np.bool_]) -> Ring:
    """A ring with a pixel of the mask between two that touch by a corner, where the mask is to the
    lower right. A point between the two would have its decimals cut off to the pixel to the upper
    left, which is none of the mask."""
    after = np.roll(ring, -1, axis=0)
    lower, upper = np.maximum(ring, after), np.minimum(ring, after)
    slanted = (np.prod(after - ring, axis=1) == -1) & ~mask[upper[:, 1], upper[:, 0]]
    places = np.flatnonzero(slanted & mask[lower[:, 1], lower[:, 0]])
    return np.insert(ring, places + 1, lower[places], axis=0)


def _simplified(ring: Ring) -> Ring:
    """A ring without what is twice in a row, and without what is in the middle of a line."""
    moves = np.any(ring != np.roll(ring, 1, axis=0), axis=1)
    moves[0] |= not moves.any()  # one pixel
    ring = ring[moves]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    back = (np.sign(before) != np.sign(after)).any(axis=1)
    return ring[turns | back] if len(ring) > 1 else ring
