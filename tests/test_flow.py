"""Optical flow: both ways, where it is trusted, and OpenCV's threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from carvid.base.masks import iou
from carvid.temporal.carry import MASK_LEVEL, carry
from carvid.temporal.flow import flow_between, one_cv2_thread, to_gray
from tests.squares import SIZE_HW, WHOLE, moving, texture


def test_flow_carries_both_ways_and_knows_where_to_trust() -> None:
    (first, before), (second, now) = moving(2, step=8)
    flow = flow_between(to_gray(first, 854), to_gray(second, 854))
    assert flow.trust.shape == SIZE_HW and flow.trust.dtype == np.float32
    carried = carry([before * np.uint8(255)], flow.backward_map, WHOLE)[0] > MASK_LEVEL
    back = carry([now * np.uint8(255)], flow.forward_map, WHOLE)[0] > MASK_LEVEL
    assert iou(carried, now) > 0.8 and iou(back, before) > 0.8
    assert iou(before, now) < 0.75
    uncovered = before & ~now  # the ground behind the square was not to be seen before
    assert flow.trust[uncovered].mean() < 0.6 < 0.8 < flow.trust[now].mean()
    assert np.median(flow.motion[now], axis=0) == pytest.approx([8, 0], abs=0.5)


@pytest.mark.parametrize(
    "size_hw", [(1, 1), (3, 854), (8, 40), (12, 12), (12, 64), (15, 400), (64, 3)]
)
def test_flow_of_low_and_narrow_pictures(size_hw: tuple[int, int]) -> None:
    """OpenCV alone ends the process, or fails."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 110, 3), np.uint8)
    wide = cv2.resize(noise, (880, 64), interpolation=cv2.INTER_CUBIC)
    height, width = size_hw
    first, second = (to_gray(wide[:height, x : x + width].copy(), 854) for x in (0, 2))
    flow = flow_between(first, second)
    assert flow.motion.shape == (height, width, 2) and np.isfinite(flow.motion).all()
    assert flow.trust.shape == size_hw
    if height > 8 and width > 40:
        assert np.median(flow.motion[..., 0]) == pytest.approx(-2, abs=0.5)


def test_what_comes_from_outside_is_not_trusted() -> None:
    wide = texture(3, (144, 280))
    flow = flow_between(to_gray(wide[:, 12:252], 854), to_gray(wide[:, :240], 854))
    assert flow.trust[:, :8].mean() < 0.2 < 0.8 < flow.trust[:, 30:].mean()


def test_gray_is_at_most_so_large() -> None:
    assert to_gray(texture(1), 60).shape == (36, 60)
    assert to_gray(texture(1), 854).shape == SIZE_HW


def test_flow_in_several_threads_is_the_same_and_leaves_opencv_as_it_was() -> None:
    rng = np.random.default_rng(4)
    pairs = [
        (gray, np.roll(gray, (2, 3), (0, 1)))
        for gray in (cv2.GaussianBlur(rng.integers(0, 256, (120, 160), np.uint8), (0, 0), 2)
                     for _ in range(4))
    ]  # fmt: skip
    wanted = [flow_between(*pair) for pair in pairs]
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda k: flow_between(*pairs[k % 4]), range(60)))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
    for k, flow in enumerate(found):
        assert (flow.motion == wanted[k % 4].motion).all()
        assert (flow.trust == wanted[k % 4].trust).all()


def test_threads_that_overlap_keep_opencv_at_one() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        first, second = one_cv2_thread(), one_cv2_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert cv2.getNumThreads() == 1  # the second is still at work
        second.__exit__(None, None, None)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
