"""Colours inside a mask and around it, and what they say of a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from carvid.temporal.colors import COLOR_BINS, by_color, count_colors, log_odds, to_colors
from tests.squares import SIZE_HW, two_colors


def test_colors_are_counted_inside_and_close_around() -> None:
    image, mask = two_colors()
    colors = to_colors(image, SIZE_HW)
    assert colors.dtype == np.uint16 and colors.max() < COLOR_BINS
    assert to_colors(np.full((2, 2, 3), (255, 16, 32), np.uint8), (1, 1)) == 15 * 256 + 16 + 2
    inside, around = count_colors(colors, mask)
    assert inside.sum() == mask.sum() == 48 * 60
    assert around.sum() == 96 * 120 - 48 * 60  # the box, and half of it on each side
    assert (np.bincount(colors[mask], minlength=COLOR_BINS) == inside).all()
    assert not count_colors(colors, np.zeros_like(mask)).any()


def test_colors_tell_what_flow_cannot() -> None:
    image, mask = two_colors()
    colors = to_colors(image, SIZE_HW)
    odds = log_odds(count_colors(colors, mask))[colors]
    assert odds[mask].min() > 0 > odds[40:88, 130:140].max()
    assert log_odds(np.zeros((2, COLOR_BINS), np.float32)).any() == 0  # nothing seen tells nothing
    even = by_color(np.full(SIZE_HW, 0.5, np.float32), odds)
    assert ((even > 0.5)[30:98, 50:130] == mask[30:98, 50:130]).all()
    assert by_color(even, 0 * odds) == pytest.approx(even)
