"""carvid's `reference` behaviour against numbers of the released CaR code."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Finished, in_this_process

ROOT = Path(__file__).parent.parent
TOOL = ROOT / "tools" / "check_golden.py"
OURS = sorted((Path(__file__).parent / "golden").glob("*.npz"))


@pytest.fixture(scope="module")
def check() -> Callable[..., Finished]:
    """The tool, in this process."""
    names = runpy.run_path(str(TOOL))

    def call(*arguments: object) -> Finished:
        threads = torch.get_num_threads()
        try:
            return in_this_process(lambda: sys.exit(names["main"]()), *arguments)
        finally:
            torch.set_num_threads(threads)

    return call


def test_committed_goldens(check: Callable[..., Finished]) -> None:
    assert len(OURS) == 2
    result = check(*OURS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "semantic_voc loop: masks" in result.stdout


def test_other_sums_than_the_golden_processors(check: Callable[..., Finished]) -> None:
    """Two threads add in another order; what falls the other way at η must not fail a score."""
    assert check(*OURS, "--threads", 2).returncode == 0


def test_a_wrong_score_of_the_loop_is_found(tmp_path: Path, check: Callable[..., Finished]) -> None:
    values = dict(np.load(OURS[-1]))
    values["scores"] = values["scores"] - 0.01
    np.savez(tmp_path / "wrong.npz", **values)
    result = check(tmp_path / "wrong.npz")
    assert result.returncode == 1
    assert "OUT  wrong loop: scores" in result.stdout


def test_all_goldens(shared: Path, check: Callable[..., Finished]) -> None:
    paths = sorted((shared / "golden").glob("*.npz"))
    assert paths
    result = check(*paths)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("it1_cam_low", lambda a: a + 0.01),
        ("it1_aff_low", lambda a: a * 1.1),
        ("it1_scores", lambda a: a - 0.01),
        ("it1_prompt_sha", lambda a: np.array(["0" * 40] * len(a))),
        ("crf_masks", lambda a: 1 - a),
        ("it1_boxes", lambda _: np.array("[[[0, 0, 1, 1]]]")),
    ],
)
def test_a_wrong_array_is_found(
    tmp_path: Path, check: Callable[..., Finished], key: str, change: object
) -> None:
    values = dict(np.load(OURS[0]))
    values[key] = change(values[key])  # type: ignore[operator]
    np.savez(tmp_path / "wrong.npz", **values)
    result = check(tmp_path / "wrong.npz")
    assert result.returncode == 1
    assert f"OUT  wrong {key}" in result.stdout
