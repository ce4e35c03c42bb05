"""The fast CRF on odd pictures, and what carvid does without pydensecrf."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import carvid
from carvid.base.errors import ConfigError
from carvid.car import fast_crf
from carvid.car.crf import crf_masks
from carvid.car.lattice import Lattice
from carvid.cli.information import gather
from carvid.config import CrfConfig
from tests.test_car import drawn_case

FAST, EXACT = CrfConfig(), CrfConfig(mode="exact")
BLUR_ERROR = 1e-5
LATTICE_ERROR = 0.06
"""Mean distance of a lattice's weighted means of values in [-1, 1] from a Gaussian's."""


@pytest.fixture
def without_pydensecrf(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pydensecrf", "pydensecrf.densecrf"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_pydensecrf")
@pytest.mark.parametrize("joint", [False, True])
def test_the_fast_crf_needs_no_pydensecrf(joint: bool) -> None:
    image, proposals = drawn_case(2)
    assert crf_masks(image, proposals, FAST, joint=joint).any(axis=(1, 2)).all()


@pytest.mark.usefixtures("without_pydensecrf")
def test_the_exact_crf_says_what_it_needs_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match=r'pip install "carvid\[exact\]".*crf.mode=fast'):
        carvid.load("reference", generator="/no/such/weights", classifier="/no/such/weights")
    image, proposals = drawn_case(1)
    with pytest.raises(ConfigError, match="needs pydensecrf"):
        crf_masks(image, proposals, EXACT, joint=False)
    assert "pip install" in gather("tiny")["notes"]["crf.mode=exact"]


def test_nothing_is_said_of_pydensecrf_where_it_is_installed() -> None:
    assert "crf.mode=exact" not in gather("tiny")["notes"]


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (3, 500), (300, 2)])
@pytest.mark.parametrize("sxy", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("joint", [False, True])
def test_the_fast_crf_of_small_pictures(size_hw: tuple[int, int], sxy: float, joint: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    proposals = np.full((2, *size_hw), 0.0, np.float32)
    proposals[1] = 0.98
    masks = crf_masks(image, proposals, CrfConfig(smooth_sxy=sxy), joint=joint)
    assert not masks[0].any() and masks[1].all()


def test_no_masks() -> None:
    image, proposals = drawn_case(1)
    assert crf_masks(image, proposals[:0], FAST, joint=False).shape == (0, *image.shape[:2])


def test_the_fast_crf_is_the_same_from_many_threads_and_in_any_order() -> None:
    image, proposals = drawn_case(3)
    orders = [np.roll(np.arange(3), k) for k in range(5)]
    expected = crf_masks(image, proposals, FAST, joint=False)
    with ThreadPoolExecutor(len(orders)) as pool:
        found = pool.map(lambda o: crf_masks(image, proposals[o], FAST, joint=False), orders)
        for order, masks in zip(orders, found, strict=True):
            assert (masks == expected[order]).all()


def test_a_joint_crf_of_more_labels_than_are_filtered_at_once() -> None:
    image, proposals = drawn_case(3)
    many = np.concatenate([proposals, np.zeros((20, *proposals.shape[1:]), np.float32)])
    few = crf_masks(image, proposals, FAST, joint=True)
    found = crf_masks(image, many, FAST, joint=True)
    assert not found[3:].any() and (found[:3] != few).mean() < 1e-3


def test_points_are_pooled_where_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    image, proposals = drawn_case(1)
    sizes: list[int] = []

    class Counted(Lattice):
        def __init__(self, features: torch.Tensor) -> None:
            sizes.append(features.shape[1])
            super().__init__(features)

    monkeypatch.setattr(fast_crf, "Lattice", Counted)
    alone = crf_masks(image, proposals, FAST, joint=False)
    limit = sizes[0] * 3 // 4
    monkeypatch.setattr(fast_crf, "CELLS", tuple((limit, *cell[1:]) for cell in fast_crf.CELLS))
    pooled = crf_masks(image, proposals, FAST, joint=False)
    assert sizes[1] <= limit
    assert (pooled & alone).sum() / (pooled | alone).sum() > 0.97


def test_noise_is_pooled_until_it_is_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_crf, "CELLS", tuple((50, *cell[1:]) for cell in fast_crf.CELLS))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    proposals = rng.random((2, 40, 50), np.float32)
    masks = crf_masks(image, proposals, FAST, joint=True)
    assert masks.any(axis=(1, 2)).all() and masks.sum(axis=0).max() == 1


@pytest.mark.parametrize("sigma", [0.01, 1.0, 40.0])
@pytest.mark.parametrize("size_hw", [(1, 1), (3, 50), (40, 31)])
def test_planes_are_blurred_alike_on_all_devices(size_hw: tuple[int, int], sigma: float) -> None:
    planes = torch.from_numpy(np.random.default_rng(0).random((2, *size_hw), np.float32))
    one, other = fast_crf.blurred(planes, sigma), fast_crf.blurred_by_shifting(planes, sigma)
    assert (one - other).abs().max() < BLUR_ERROR


def filtered(points: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the kernel itself makes of values (P,) at points (D, P)."""
    distances = ((points[:, :, None] - points[:, None]) ** 2).sum(axis=0)
    kernel: NDArray[np.float64] = np.exp(-0.5 * distances)
    return kernel @ values / (kernel @ np.ones_like(values))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_the_lattice_is_a_gaussian(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    points = rng.uniform(-2, 2, (dimensions, 3000))
    values = np.sin(points[0])
    lattice = Lattice(torch.from_numpy(points.astype(np.float32)))
    both = torch.from_numpy(np.stack([values, np.ones_like(values)]).astype(np.float32))
    found, ones = lattice.filter(both).numpy()
    assert np.abs(found / ones - filtered(points, values)).mean() < LATTICE_ERROR
    # Symmetric, as a kernel is.
    other = torch.from_numpy(rng.random((1, 3000)).astype(np.float32))
    there = (lattice.filter(both[:1]) * other).sum()
    assert torch.isclose(there, (lattice.filter(other) * both[:1]).sum(), rtol=0.05)


def test_far_apart_points_do_not_meet() -> None:
    """Codes of corners wrap around in 64 bits here."""
    points = torch.from_numpy(np.random.default_rng(0).uniform(0, 1e5, (5, 200)).astype(np.float32))
    lattice = Lattice(points)
    one = torch.zeros(1, 200)
    one[0, 7] = 1
    assert (lattice.filter(one)[0] > 0).nonzero().tolist() == [[7]]
