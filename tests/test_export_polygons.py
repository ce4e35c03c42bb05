"""Rings come back as the masks that they were made of, whoever fills them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from carvid.base.masks import iou
from carvid.exports.polygons import corners, rings
from tests.export_scenes import POLYGON_IOU, SIZE, Cut, odd_masks

MASKS = odd_masks()
CUTS = [np.trunc, np.round, np.floor]


def filled(mask: NDArray[np.bool_], cut: Cut, bridged: float = 0.0) -> NDArray[np.bool_]:
    """A mask made to rings, and back, by a reader that takes whole numbers."""
    canvas = np.zeros(mask.shape, np.uint8)
    for ring in rings(mask, bridged=bridged):
        cv2.fillPoly(canvas, [cut(corners(ring)).astype(np.int32)], (1,))
    return canvas.astype(bool)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", MASKS)
def test_rings_are_the_mask(name: str, cut: Cut) -> None:
    assert (filled(MASKS[name], cut) == MASKS[name]).all()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", MASKS)
def test_bridges_between_parts_cost_what_is_allowed(name: str, cut: Cut) -> None:
    found = filled(MASKS[name], cut, 0.01)
    assert not (MASKS[name] & ~found).any()
    assert found.sum() <= 1.01 * MASKS[name].sum() and iou(found, MASKS[name]) >= POLYGON_IOU


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))))
def test_rings_of_any_mask_are_the_mask(mask: NDArray[np.bool_]) -> None:
    for cut in CUTS[:2]:
        assert (filled(mask, cut) == mask).all()
        assert not (mask & ~filled(mask, cut, 0.05)).any()


@pytest.mark.parametrize("name", MASKS)
def test_corners_have_an_area_within_their_pixels(name: str) -> None:
    for ring in rings(MASKS[name], bridged=0.01):
        points = corners(ring)
        assert points.dtype == np.float64 and len(points) >= 3
        assert (points % 1 > 0.05).all() and (points % 1 < 0.5).all()
        x, y = points.T
        assert abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) > 0.01
        assert (points.max(axis=0) < SIZE[::-1]).all()


def test_parts_are_joined_if_they_are_near() -> None:
    count = {name: [len(rings(mask, bridged=share)) for share in (0, 0.01)]
             for name, mask in MASKS.items()}  # fmt: skip
    assert count["two far apart"] == [2, 2] and count["large ones near each other"] == [2, 1]
    assert count["at the border, with holes"] == [1, 1]
    assert count["touching by corners"] == [1, 1]
    assert count["a ring around a thing"][0] == 2
    assert rings(np.zeros(SIZE, bool)) == []


def test_points_set_between_corners_are_in_the_mask() -> None:
    """YOLO's training sets up to a thousand of them on each ring."""
    mask = np.zeros((60, 60), np.uint8)
    cv2.ellipse(mask, (30, 30), (21, 9), 30, 0, 360, (1,), -1)
    (ring,) = rings(mask > 0)
    around = np.concatenate([corners(ring), corners(ring)[:1]])
    places = np.linspace(0, len(around) - 1, 1000)
    points = np.stack([np.interp(places, np.arange(len(around)), each) for each in around.T], 1)
    x, y = points.astype(np.float32).astype(np.int32).T
    assert (mask[y, x] == 0).mean() < 0.01


def test_a_mask_of_many_parts_is_joined_as_well() -> None:
    mask = np.random.default_rng(0).random((90, 120)) > 0.5
    assert (filled(mask, np.trunc) == mask).all()
    assert iou(filled(mask, np.trunc, 0.01), mask) >= POLYGON_IOU
