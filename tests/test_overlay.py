from __future__ import annotations

import numpy as np
import pytest

from carvid.config import OverlayConfig
from carvid.overlay import color_of, draw_overlay
from tests.conftest import make_frames

PLAIN = OverlayConfig(outline=False, labels=False, opacity=0.5)


def test_fill_is_the_expressions_color_and_the_rest_is_untouched() -> None:
    image = make_frames(1)[0]
    labels = np.zeros(image.shape[:2], np.uint8)
    labels[8:20, 4:16] = 2
    made = draw_overlay(image, labels, ["a", "b"], PLAIN)
    expected = (image[8:20, 4:16].astype(int) + color_of(1)) // 2
    assert (made[8:20, 4:16] == expected).all()
    assert (made[labels == 0] == image[labels == 0]).all()


def test_colors_are_distinct() -> None:
    assert len({color_of(k) for k in range(60)}) == 60


@pytest.mark.parametrize("size_hw", [(40, 60), (240, 432), (480, 854)])
def test_labels_stay_inside_and_say_what_is_absent(size_hw: tuple[int, int]) -> None:
    image = np.full((*size_hw, 3), 90, np.uint8)
    labels = np.zeros(size_hw, np.uint8)
    labels[:8, -12:] = 1
    texts = ["a dog in the corner " * 5, "un café", "狗"]
    config = OverlayConfig(outline=True, labels=True)
    made = draw_overlay(image, labels, texts, config, scores=[0.9, 0.1, 0.2])
    assert made.shape == image.shape
    assert (made[-size_hw[0] // 3 :, : size_hw[1] // 2] != 90).any()  # the list of what is absent


def test_labels_have_the_frames_size() -> None:
    with pytest.raises(ValueError, match="labels must be"):
        draw_overlay(make_frames(1)[0], np.zeros((3, 3), np.uint8), ["a"], PLAIN)
