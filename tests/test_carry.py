"""Masks carried by flow, led back by their colours, snapped to edges."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from carvid.base.masks import iou
from carvid.config import TemporalConfig
from carvid.temporal.carry import CHANNELS, MASK_LEVEL, carry, correct_carried, snap_to_edges
from carvid.temporal.colors import count_colors, to_colors
from carvid.temporal.flow import flow_between, to_gray
from tests.squares import SIZE_HW, WHOLE, moving, two_colors


def test_planes_are_carried_together_as_they_are_alone() -> None:
    (first, mask), (second, _) = moving(2, step=8)
    flow = flow_between(to_gray(first, 854), to_gray(second, 854))
    planes = np.stack([np.roll(mask, 3 * k, axis=0) * np.uint8(200 + k) for k in range(CHANNELS)])
    alone = [carry([plane], flow.backward_map, WHOLE)[0] for plane in planes]
    assert np.array_equal(carry(planes, flow.backward_map, WHOLE), alone)


def test_masks_snap_to_the_edges_of_the_picture() -> None:
    gray = np.full(SIZE_HW, 40, np.uint8)
    gray[40:88, 60:120] = 200
    truth = gray > 100
    off = np.roll(truth, 2, axis=1).astype(np.float32)
    snapped = snap_to_edges(off, gray, 4, 1e-4)
    assert iou(snapped > 0.5, truth) > iou(off > 0.5, truth)
    assert snapped.min() >= 0 and snapped.max() <= 1


def test_a_flat_frame_is_filtered_without_a_variance_to_divide_by() -> None:
    """Without epsilon the guided filter is a regression of the map on the guide."""
    chance = np.zeros((40, 60), np.float32)
    chance[10:30, 20:40] = 1
    flat = snap_to_edges(chance, np.full(chance.shape, 90, np.uint8), 3, 0.0)
    mean = cv2.blur(cv2.blur(chance, (7, 7), borderType=cv2.BORDER_REFLECT), (7, 7),
                    borderType=cv2.BORDER_REFLECT)  # fmt: skip
    np.testing.assert_allclose(flat, mean, atol=1e-4)
    gray = np.where(chance > 0, 200, 40).astype(np.uint8)
    np.testing.assert_allclose(snap_to_edges(chance, gray, 3, 0.0), chance, atol=1e-2)


def test_a_mask_that_went_astray_is_led_back_by_its_colors() -> None:
    image, mask = two_colors()
    gray, colors = to_gray(image, 854), to_colors(image, SIZE_HW)
    counts = count_colors(colors, mask)
    astray = np.roll(mask, 8, axis=1) * np.uint8(255)

    def corrected(color: float, trust: float) -> float:
        levels, config = astray, TemporalConfig(color=color)
        for _ in range(10):
            sure = np.full(SIZE_HW, trust, np.float32)
            levels = correct_carried(levels, sure, gray, colors, counts, config)
        return iou(levels > MASK_LEVEL, mask)

    assert corrected(0.7, 0.0) > 0.95 > 0.85 > corrected(0.0, 0.0)
    assert corrected(0.7, 1.0) < corrected(0.7, 0.0)  # what is sure of its way is left alone more
    nothing = np.zeros_like(astray)
    sure = np.ones(SIZE_HW, np.float32)
    assert not correct_carried(nothing, sure, gray, colors, counts, TemporalConfig()).any()


def test_a_mask_that_was_left_behind_is_known_by_its_colors() -> None:
    image, mask = two_colors()
    gray, colors = to_gray(image, 854), to_colors(image, SIZE_HW)
    counts, sure = count_colors(colors, mask), np.ones(SIZE_HW, np.float32)
    half, behind = np.roll(mask, 30, axis=1) * np.uint8(255), np.roll(mask, 60, axis=1)
    config = TemporalConfig()
    assert correct_carried(half, sure, gray, colors, counts, config).any()
    assert not correct_carried(behind * np.uint8(255), sure, gray, colors, counts, config).any()
    off = replace(config, color=0)
    assert correct_carried(behind * np.uint8(255), sure, gray, colors, counts, off).any()
