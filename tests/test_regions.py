from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from carvid.evaluation.regions import (
    boundary,
    boundary_f,
    boundary_radius,
    dilate,
    frame_scores,
    jaccard,
    statistics,
)

Mask = NDArray[np.bool_]


def drawn(*rows: str) -> Mask:
    return np.array([[c == "#" for c in row] for row in rows])


def square(top: int, left: int, side: int, size: tuple[int, int] = (40, 60)) -> Mask:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def second_f(a: Mask, b: Mask, void: Mask) -> float:
    """F by its definition: boundary pixels whose distance to the other boundary is at most r."""
    outlines = []
    for mask in (a & ~void, b & ~void):
        height, width = mask.shape
        outline = np.zeros_like(mask)
        for dy, dx in ((0, 1), (1, 0), (1, 1)):
            ys = np.minimum(np.arange(height) + dy, height - 1)
            xs = np.minimum(np.arange(width) + dx, width - 1)
            outline |= mask != mask[np.ix_(ys, xs)]
        outlines.append(outline)
    first, second = outlines
    if not first.any() and not second.any():
        return 1.0
    if not first.any() or not second.any():
        return 0.0
    radius = np.ceil(0.008 * np.hypot(*a.shape))
    precision = np.mean(distance_transform_edt(~second)[first] <= radius)
    recall = np.mean(distance_transform_edt(~first)[second] <= radius)
    total = precision + recall
    return 0.0 if total == 0 else float(2 * precision * recall / total)


def blob(rng: np.random.Generator, size: tuple[int, int]) -> Mask:
    """Ellipses, bars and dots, often at the frame's edge; sometimes nothing or everything."""
    kind = rng.integers(8)
    if kind == 0:
        return np.full(size, bool(rng.integers(2)))
    if kind == 1:
        return rng.random(size) < rng.choice([0.003, 0.05, 0.5])
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(rng.integers(1, 4)):
        cy, cx = rng.integers(0, size[0]), rng.integers(0, size[1])
        ry, rx = rng.integers(1, size[0] // 2 + 2), rng.integers(1, size[1] // 2 + 2)
        mask |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
    return mask


def test_j_of_squares() -> None:
    a, b = square(10, 10, 10), square(10, 15, 10)
    assert jaccard(a, b) == 50 / 150
    assert jaccard(a, a) == 1
    assert jaccard(a, square(30, 40, 5)) == 0
    empty = np.zeros_like(a)
    assert jaccard(empty, empty) == 1
    assert jaccard(a, empty) == jaccard(empty, a) == 0


def test_boundary_is_where_the_right_lower_or_diagonal_neighbour_differs() -> None:
    mask = drawn(
        "......",
        "..###.",
        "..###.",
        "..###.",
        "......",
    )
    assert (
        boundary(mask.astype(np.uint8)).astype(bool)
        == drawn(
            ".####.",
            ".#..#.",
            ".#..#.",
            ".####.",
            "......",
        )
    ).all()


def test_boundary_at_the_edge_of_the_frame() -> None:
    mask = drawn(
        "...#",
        "...#",
        "##..",
    )
    assert (
        boundary(mask.astype(np.uint8)).astype(bool)
        == drawn(
            "..#.",
            "####",
            ".#..",
        )
    ).all()


def test_dilation_is_by_a_round_disk() -> None:
    point = drawn(".....", ".....", "..#..", ".....", ".....").astype(np.uint8)
    assert (dilate(point, 1) == drawn(".....", "..#..", ".###.", "..#..", ".....")).all()
    assert (dilate(point, 2) == drawn("..#..", ".###.", "#####", ".###.", "..#..")).all()
    middle = np.zeros((19, 19), np.uint8)
    middle[9, 9] = 1
    assert dilate(middle, 8).sum() == 197


@pytest.mark.parametrize("radius", [1, 2, 5, 8, 18])
def test_dilation_marks_what_is_near_enough(radius: int) -> None:
    mask = (np.random.default_rng(radius).random((70, 90)) > 0.998).astype(np.uint8)
    assert mask.any()
    assert (dilate(mask, radius) == (distance_transform_edt(mask == 0) <= radius)).all()


def test_radius_grows_with_the_diagonal() -> None:
    sizes = [(480, 854), (1080, 1920), (96, 160), (75, 100)]
    assert [boundary_radius(size) for size in sizes] == [8, 18, 2, 1]


def test_f_forgives_what_lies_within_the_radius() -> None:
    size = (96, 160)  # radius 2
    a = square(20, 30, 40, size)
    assert boundary_f(a, a) == 1
    assert boundary_f(a, square(22, 30, 40, size)) == 1
    assert 0 < boundary_f(a, square(23, 30, 40, size)) < 1
    assert boundary_f(a, square(25, 35, 20, size)) < 1
    assert boundary_f(a, square(70, 100, 20, size)) == 0


def test_f_without_a_boundary() -> None:
    a = square(10, 10, 10)
    empty, full = np.zeros_like(a), np.ones_like(a)
    assert boundary_f(empty, empty) == boundary_f(empty, full) == boundary_f(full, full) == 1
    assert boundary_f(a, empty) == boundary_f(empty, a) == boundary_f(full, a) == 0
    assert jaccard(full, empty) == 0


def test_void_is_out_of_both_masks() -> None:
    truth, void = square(10, 10, 10), square(10, 20, 20)
    predicted = truth | void
    assert jaccard(predicted, truth) < 1
    assert jaccard(predicted, truth, void) == 1
    assert boundary_f(predicted, truth, void) == 1
    assert jaccard(void, truth, void) == 0


def test_f_equals_a_second_implementation() -> None:
    rng = np.random.default_rng(0)
    values = set()
    for _ in range(400):
        size = (int(rng.integers(1, 100)), int(rng.integers(1, 180)))
        a, b = blob(rng, size), blob(rng, size)
        if rng.integers(2):  # a boundary that is mostly right
            b = a ^ (blob(rng, size) & (rng.random(size) < 0.2))
        void = blob(rng, size) if rng.integers(3) == 0 else np.zeros(size, bool)
        value = boundary_f(a, b, void)
        assert value == second_f(a, b, void)
        values.add(value)
    assert len(values) > 150  # not all of them 0 or 1


def test_f_equals_a_second_implementation_at_480p() -> None:
    rng = np.random.default_rng(1)
    for _ in range(6):
        a, b = blob(rng, (480, 854)), blob(rng, (480, 854))
        assert boundary_f(a, b) == second_f(a, b, np.zeros_like(a))


def test_all_pairs_of_a_frame_at_once() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        size = (int(rng.integers(20, 70)), int(rng.integers(20, 90)))
        predicted, truth = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        for labels in (predicted, truth):
            for label in rng.permutation([1, 2, 4, 5]):
                labels[blob(rng, size) & (rng.random(size) < 0.99)] = label
        truth[blob(rng, size) & blob(rng, size)] = 255
        j, f = frame_scores(predicted, truth, labels=4, objects=5)
        assert j.shape == f.shape == (4, 5)
        for label in range(1, 5):
            for object_id in range(1, 6):
                pair = predicted == label, truth == object_id, truth == 255
                inside = ~pair[2]
                union = ((pair[0] | pair[1]) & inside).sum()
                both = (pair[0] & pair[1] & inside).sum()
                assert j[label - 1, object_id - 1] == (both / union if union else 1)
                assert f[label - 1, object_id - 1] == second_f(*pair)


def test_more_masks_than_are_computed_with_at_once() -> None:
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 90, (12, 14), dtype=np.uint8)
    predicted, truth = ids.repeat(3, axis=0), np.roll(ids, 1, axis=0).repeat(3, axis=0)
    j, f = frame_scores(predicted, truth, labels=80, objects=70)
    for label, object_id in [(80, 70), (33, 32), (64, 65), *rng.integers(1, 70, (200, 2)).tolist()]:
        pair = predicted == label, truth == object_id
        assert j[label - 1, object_id - 1] == jaccard(*pair)
        assert f[label - 1, object_id - 1] == second_f(*pair, np.zeros_like(pair[0]))


def test_a_frame_without_objects_has_no_scores() -> None:
    labels = np.ones((5, 6), np.uint8)
    j, f = frame_scores(labels, labels, labels=3, objects=0)
    assert j.shape == f.shape == (3, 0)


def test_statistics_of_a_short_sequence() -> None:
    values = np.array([1.0, 0.8, 0.6, 0.5, 0.4, 0.2, 0.0, 0.1])
    mean, recall, decay = statistics(values)
    assert mean == pytest.approx(0.45)
    assert recall == 3 / 8  # 0.5 is not above 0.5
    # Eight frames: bins end at 1, 2.75, 4.5, 6.25, 8, rounded 1, 3, 5, 6, 8.
    assert decay == pytest.approx((1.0 + 0.8 + 0.6) / 3 - (0.2 + 0.0 + 0.1) / 3)


def test_statistics_of_one_frame() -> None:
    assert statistics(np.array([0.7])) == (0.7, 1.0, 0.0)


@pytest.mark.parametrize("frames", [256, 257, 300, 1001])
def test_decay_is_right_in_long_sequences(frames: int) -> None:
    """The official code keeps ends of bins in 8 bits, so that frame 256 becomes frame 0."""
    values = np.linspace(1, 0, frames)
    # On a line the decay is the distance of the bins' centres, three quarters of the whole.
    assert statistics(values).decay == pytest.approx(0.75, abs=1 / frames)


def test_callers_mistakes_are_told_with_dtype_and_shape() -> None:
    labels = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match=r"predicted must be uint8 \(4, 5\).*got float64 \(4, 5\)"):
        frame_scores(np.zeros((4, 5)), labels, labels=1, objects=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"predicted must be .*got uint8 \(4, 6\)"):
        frame_scores(np.zeros((4, 6), np.uint8), labels, labels=1, objects=1)
    with pytest.raises(ValueError, match=r"void must be bool \(4, 5\).*got bool \(4, 6\)"):
        jaccard(labels > 0, labels > 0, np.zeros((4, 6), bool))
    with pytest.raises(ValueError, match=r"values must be \(T ≥ 1,\), got \(0,\)"):
        statistics(np.zeros(0))
