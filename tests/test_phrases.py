"""Words about place, size and motion: what is taken out, and what fulfils it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from carvid.phrases import Wish, grant, parse

SIZE_HW = (60, 100)


def square(x: int, y: int, side: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE_HW, bool)
    mask[y : y + side, x : x + side] = True
    return mask


@pytest.mark.parametrize(
    ("expression", "text", "wishes"),
    [
        ("the red car on the left", "the red car", "on the left"),
        ("a dog moving to the right", "a dog", "moving right"),
        ("a dog running to the right", "a dog running", "moving right"),
        ("the biggest horse", "the horse", "the biggest"),
        ("the second man from the left", "the man", "second from the left"),
        ("the man standing still", "the man", "standing still"),
        ("a kid in the middle of the picture", "a kid", "in the middle"),
        ("the leftmost pig", "the pig", "first from the left"),
        ("a bike in the bottom right corner", "a bike", "on the bottom, on the right"),
        ("a goat in front", "a goat", "in front"),
    ],
)
def test_wishes_are_taken_out(expression: str, text: str, wishes: str) -> None:
    phrase = parse(expression)
    assert (phrase.text, ", ".join(map(str, phrase.wishes))) == (text, wishes)
    assert wishes in str(phrase)


@pytest.mark.parametrize(
    "expression",
    [
        "a dog", "a man to the left of a car", "a box in his left hand",
        "a dog looking to the left", "a car in front of the house",
        "the man holding the biggest box", "the one on the left", "a woman wearing the top",
        "moving to the right",
    ],
)  # fmt: skip
def test_relations_and_what_names_nothing_stay_whole(expression: str) -> None:
    phrase = parse(expression)
    assert (phrase.text, phrase.wishes) == (expression, ())


@pytest.mark.parametrize(
    ("wish", "best"),
    [
        (Wish("side", "left"), 0), (Wish("side", "right"), 2), (Wish("side", "top"), 2),
        (Wish("side", "bottom"), 0), (Wish("middle"), 1), (Wish("nth", "left", 2), 1),
        (Wish("nth", "right", 1), 2), (Wish("biggest"), 1), (Wish("smallest"), 2),
        (Wish("front"), 0), (Wish("back"), 2),
    ],
)  # fmt: skip
def test_the_mask_that_was_meant_fulfils_most(wish: Wish, best: int) -> None:
    masks = np.stack([square(5, 46, 12), square(40, 20, 22), square(85, 2, 9)])
    granted = grant([wish], masks, None)
    assert granted.argmax() == best
    assert granted.dtype == np.float32 and (granted >= 0).all() and (granted <= 1).all()


def test_motion_is_told_from_the_camera() -> None:
    masks = np.stack([square(5, 20, 12), square(60, 20, 12)])
    flow = np.full((*SIZE_HW, 2), 3, np.float32)  # the camera pans, everything shifts
    flow[masks[0]] += (2, 0)
    flow[masks[1]] -= (2, 0)
    assert grant([Wish("motion", "right")], masks, flow).argmax() == 0
    assert grant([Wish("motion", "left")], masks, flow).argmax() == 1
    flow[masks[1]] = 3
    assert grant([Wish("still")], masks, flow).argmax() == 1
    assert grant([Wish("still")], masks, None).tolist() == [1, 1]  # nothing is known of motion


def test_equal_masks_count_once_in_a_row() -> None:
    masks = np.stack([square(5, 20, 20), square(6, 20, 20), square(60, 20, 20)])
    assert grant([Wish("nth", "left", 2)], masks, None).tolist() == [0, 0, 1]
    assert not grant([Wish("nth", "left", 3)], masks, None).any()
