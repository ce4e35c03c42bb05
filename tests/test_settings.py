"""Every number among the settings, at both ends of what it may be: a clip still gets its masks."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator

import numpy as np
import pytest

import carvid
from carvid.config import Config, load_config
from carvid.errors import ConfigError
from carvid.pipeline import Carvid
from tests.conftest import make_frames
from tests.test_pipeline import FAST, TEXTS

LARGE = {int: 100, float: 1e6}
"""Tried where a setting has no upper end."""
NOT_HERE = ("sam.", "weights.", "overlay.")
"""Sections that have no say in a clip's masks, or need further weights."""


def ends() -> Iterator[tuple[str, float, str]]:
    """Settings, the ends of their ranges, and the modes of the CRF that they have a say in."""
    for section in dataclasses.fields(Config):
        owner = type(getattr(Config(), section.name))
        hints = typing.get_type_hints(owner)
        for field in dataclasses.fields(owner):
            name, kind = f"{section.name}.{field.name}", hints[field.name]
            if kind in (int, float) and not name.startswith(NOT_HERE):
                for end in ("low", "high"):
                    value = field.metadata[end]
                    modes = ["fast", "exact"] if section.name == "crf" else ["fast"]
                    for mode in modes:
                        yield name, kind(LARGE[kind] if value is None else value), mode


@pytest.fixture(scope="module")
def loaded(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", FAST, **weights)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "value", "mode"), list(ends()), ids=str)
def test_masks_are_whole_at_the_ends_of_every_setting(
    loaded: Carvid, name: str, value: float, mode: str
) -> None:
    changes = ["temporal.key_every=2", "temporal.lag=1", f"crf.mode={mode}", f"{name}={value}"]
    model = Carvid(load_config(loaded.config, changes), *loaded.backbones)
    frames = make_frames(4)
    frames[:, :12, 30:] = 0  # flat, and as dark as can be
    results = list(model.offline(frames, [*TEXTS, "a ball on the left"]))
    assert len(results) == 4
    for result in results:
        assert np.isfinite(result.proposals).all() and np.isfinite(result.scores).all()
        assert result.proposals.min() >= 0 and result.proposals.max() <= 1
        assert result.state.maps is not None or not model.config.temporal.carry_masks
        for kept in (result.state.values, result.state.absent, result.state.colors):
            assert np.isfinite(kept).all()


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("name", ["crf.smooth_compat", "sam.min_iou", "temporal.area_jump"])
def test_no_setting_is_without_end(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must be .*, got {value}"):
        load_config("default", [f"{name}={value}"])
