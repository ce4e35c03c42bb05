"""What presets are expected to reach, checked where weights and data are at hand; hours on a CPU.

CARVID_REFDAVIS=DAVIS pytest -m weights -n 0                        presets that carvid brings
CARVID_REFDAVIS=DAVIS CARVID_PRESETS=a.yaml pytest -m weights -n 0   these
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carvid.benchmark.calibrate import mean_j_and_f
from carvid.benchmark.predict import predict
from carvid.clip.weights import find_local
from carvid.config import Config, ExpectConfig, load_config, load_expectations, preset_names
from carvid.evaluation.protocols import evaluate

GIVEN = [name for name in os.environ.get("CARVID_PRESETS", "").split(os.pathsep) if name]
DATA = os.environ.get("CARVID_REFDAVIS", "")
EXPECTED = [
    (preset, each) for preset in GIVEN or preset_names() for each in load_expectations(preset)
]


def measured(config: Config, data: Path, expected: ExpectConfig, out: Path) -> float:
    """What a preset reaches by an expectation's protocol, in percent."""
    if expected.protocol == "frames":
        return mean_j_and_f(data, config, expected)
    result = predict(data, out, config, split=expected.split, progress=True)
    assert not result.failed
    report = evaluate(out, data, expected.protocol, split=expected.split)
    return 100 * float(report.to_json()[expected.measure])


@pytest.mark.weights
@pytest.mark.parametrize(
    ("preset", "expected"), EXPECTED, ids=[f"{preset}-{each.data}" for preset, each in EXPECTED]
)
def test_presets_reach_what_they_say(preset: str, expected: ExpectConfig, tmp_path: Path) -> None:
    if not DATA:
        pytest.skip("CARVID_REFDAVIS names no data set")
    config = load_config(preset)
    for name in (config.weights.generator, config.weights.classifier):
        if find_local(name) is None:
            pytest.skip(f"the weights {name} are not at hand")
    reached = measured(config, Path(DATA), expected, tmp_path / "out")
    assert reached >= expected.value - expected.tolerance, f"{expected.measure} is {reached:.2f}"


def test_a_preset_names_the_weights_that_it_loads() -> None:
    for name in preset_names():
        weights = load_config(name).weights
        for each in load_expectations(name):
            names = [full.partition("@")[0] for full in each.weights]
            assert names == [weights.generator, weights.classifier]
            assert each.value > 0 and each.source
