"""What frames show, made ahead by a thread: the same as one by one, and no more than asked for."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from carvid.base.background import ROOM, made_ahead
from carvid.config import TemporalConfig
from carvid.temporal.carry import carry
from carvid.temporal.flow import flow_between, to_gray
from carvid.temporal.seen import SeenFrame, seen_frames
from tests.squares import SIZE_HW, WHOLE, moving, texture

CONFIG = TemporalConfig()


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame with its time."""

    image: NDArray[np.uint8]
    time_s: float


def with_flash_and_cut() -> list[Shot]:
    images = [image for image, _ in moving(8)]
    images[3] = np.full_like(images[3], 255)
    images[6:] = [texture(9), texture(9)]
    return [Shot(image, index / 24) for index, image in enumerate(images)]


def content(seen: SeenFrame) -> list[object]:
    """All of it, as what can be compared."""
    arrays = [seen.gray, seen.colors]
    if seen.flow is not None:
        maps = (seen.flow.backward_map, seen.flow.forward_map)
        arrays += [seen.flow.motion, seen.flow.trust, *(each.places for each in maps)]
    history = None if seen.cut_history is None else seen.cut_history.to_dict()
    bits = [None if array is None else array.tobytes() for array in arrays]
    return [seen.time_s, seen.step_s, seen.verdict, history, *bits]


def test_frames_seen_ahead_are_as_seen_one_by_one() -> None:
    shots = with_flash_and_cut()
    plain = [seen for _, seen in seen_frames(shots, None, CONFIG)]
    assert [seen.verdict for seen in plain] == [
        "first", "same", "same", "flash", "same", "same", "cut", "same"
    ]  # fmt: skip
    ahead = list(seen_frames(shots, None, CONFIG, ahead=3))
    assert [shot for shot, _ in ahead] == shots
    assert [content(seen) for _, seen in ahead] == [content(seen) for seen in plain]
    for start in (1, 4, 7):  # a run that goes on, after a flash and a cut, too
        rest = seen_frames(shots[start:], plain[start - 1], CONFIG, ahead=2)
        assert [content(seen) for _, seen in rest] == [content(seen) for seen in plain[start:]]


def numbers(count: int, read: list[int], fails_at: int = -1) -> Iterator[int]:
    for number in range(count):
        if number == fails_at:
            raise ValueError(str(number))
        assert threading.current_thread() is threading.main_thread()
        read.append(number)
        yield number


@pytest.mark.parametrize(("most", "size", "expected"), [(0, 1, 1), (3, 1, 4), (3, ROOM, 2)])
def test_so_many_items_are_read_ahead(most: int, size: int, expected: int) -> None:
    read: list[int] = []
    made = made_ahead(numbers(9, read), lambda number: -number, most, lambda _: size)
    assert next(made) == (0, 0)
    assert len(read) == expected
    assert list(made) == [(number, -number) for number in range(1, 9)]


@pytest.mark.parametrize("most", [0, 3])
def test_failures_come_at_their_place(most: int) -> None:
    made = made_ahead(numbers(9, [], fails_at=2), lambda number: number, most, lambda _: 1)
    assert [next(made), next(made)] == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="2"):
        next(made)

    def make(number: int) -> float:
        return 1 / (number - 2)

    made = made_ahead(numbers(9, []), make, most, lambda _: 1)
    assert [next(made), next(made)] == [(0, -0.5), (1, -1.0)]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_an_interruption_comes_at_once_and_closing_ends_the_thread() -> None:
    def interrupted() -> Iterator[int]:
        yield from (0, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(made_ahead(interrupted(), lambda number: number, 3, lambda _: 1))
    made = made_ahead(numbers(9, []), lambda number: number, 3, lambda _: 1)
    next(made)
    made.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("carvid-ahead")]


def test_masks_are_carried_in_boxes_as_in_whole_frames() -> None:
    (first, _), (second, mask) = moving(2, step=11)
    flow = flow_between(to_gray(first, 854), to_gray(second, 854))
    soft = np.asarray(cv2.GaussianBlur(mask.astype(np.uint8) * 255, (0, 0), 3), np.uint8)
    edges = np.zeros(SIZE_HW, np.uint8)
    edges[:3], edges[:, -5:] = 255, 90
    dots = np.zeros(SIZE_HW, np.uint8)
    dots[70, 33] = dots[5, 200] = 255
    planes = np.stack([soft, edges, dots, np.zeros(SIZE_HW, np.uint8)])
    for pixel_map, plane in itertools.product((flow.backward_map, flow.forward_map), planes):
        whole, box = carry([plane], pixel_map, WHOLE)[0], pixel_map.leading_into(plane)
        assert np.array_equal(carry([plane], pixel_map, box)[0], whole[box])
        whole[box] = 0
        assert not whole.any()
    rows, columns = flow.backward_map.leading_into(dots * np.uint8(0))
    assert not dots[rows, columns].size
    rows, columns = flow.backward_map.leading_into(soft)
    assert dots[rows, columns].size < dots.size / 2
