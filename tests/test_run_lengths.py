"""Run lengths of COCO: equal to pycocotools' own, and no memory of others where they are broken."""

from __future__ import annotations

import numpy as np
import pytest

from carvid.media.run_lengths import RunLengths
from tests.expression_trees import compressed

coco = pytest.importorskip("pycocotools.mask")


@pytest.mark.parametrize("seed", range(8))
def test_masks_are_those_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        height, width = rng.integers(1, 40, 2)
        mask = rng.random((height, width)) < rng.choice([0, 0.02, 0.5, 0.98, 1])
        mask = np.kron(mask, np.ones(rng.integers(1, 30, 2), bool)).astype(bool)
        code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert np.array_equal(RunLengths.of_coco(code).decode(), mask)
        ours = compressed(mask)
        assert ours == {"size": [*code["size"]], "counts": code["counts"].decode()}
        assert np.array_equal(RunLengths.of_coco(ours).decode(), mask)


def test_runs_that_are_not_compressed() -> None:
    mask = RunLengths.of_coco({"size": [2, 3], "counts": [1, 2, 3]}).decode()
    assert mask.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ([6, 8], ""), ([6, 8], "P"), ([6, 8], "zzzz"), ([6, 7], "=33000a0"), ([60, 80], "=33000a0"),
        ([6, 8], [40]), ([6, 8], [50, -2]), ([6, 8], []), ([0, 8], ""), ([-6, -8], [48]),
        ([6, 8], "PPPPPPPPPPPPPPP0"), ([6, 8], " 0"), ([6, 8], "é"),
    ],
)  # fmt: skip
def test_what_does_not_fill_the_picture_is_refused(
    size: list[int], counts: str | list[int]
) -> None:
    with pytest.raises(ValueError):
        RunLengths.of_coco({"size": size, "counts": counts}).decode()
