"""Every number among the settings, at both ends of what it may be: a clip still gets its masks."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator

import numpy as np
import pytest

import carvid
from carvid.base.errors import ConfigError
from carvid.config import Config, load_config
from carvid.pipeline import Carvid
from carvid.sam.automatic import automatic_masks
from carvid.sam.network import SamNetwork
from carvid.sam.refiner import match_masks, prompted
from carvid.show.overlay import draw_overlay
from tests.conftest import make_frames
from tests.test_pipeline import FAST, TEXTS
from tests.test_sam import make_sam

LARGE = {int: 100, float: 1e6}
"""Tried where a setting has no upper end."""


def ends(*sections: str) -> Iterator[tuple[str, float]]:
    """Settings of some sections, and the ends of their ranges."""
    for section in sections:
        owner = type(getattr(Config(), section))
        hints = typing.get_type_hints(owner)
        for field in dataclasses.fields(owner):
            kind = hints[field.name]
            for end in ("low", "high") if kind in (int, float) else ():
                value = field.metadata[end]
                yield f"{section}.{field.name}", kind(LARGE[kind] if value is None else value)


def ends_and_modes() -> Iterator[tuple[str, float, str]]:
    """What has a say in a clip's masks, and the modes of the CRF that it matters to."""
    for name, value in ends("proposals", "prompts", "classifier", "car", "phrases", "temporal"):
        yield name, value, "fast"
    for name, value in ends("crf"):
        yield name, value, "fast"
        yield name, value, "exact"


@pytest.fixture(scope="module")
def loaded(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", FAST, **weights)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "value", "mode"), list(ends_and_modes()), ids=str)
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
        for kept in (result.state.values, result.state.absent_values, result.state.colors):
            assert np.isfinite(kept).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "value"), list(ends("overlay")), ids=str)
def test_an_overlay_is_drawn_at_the_ends_of_every_setting(name: str, value: float) -> None:
    frame = make_frames(1)[0]
    labels = np.zeros(frame.shape[:2], np.uint8)
    labels[8:20, 4:16] = 2
    config = load_config("default", [f"{name}={value}", "overlay.halo=on"]).overlay
    drawn = draw_overlay(frame, labels, TEXTS, config, scores=[0.1, 0.9])
    assert drawn.shape == frame.shape and drawn.dtype == np.uint8


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "value"), list(ends("sam")), ids=str)
def test_sam_gives_masks_at_the_ends_of_every_setting(name: str, value: float) -> None:
    if name in ("sam.points_per_side", "sam.min_iou"):
        value = min(value, 6)  # the square of the first is what it takes; ratings end at about 1
    frame = make_frames(1)[0]
    easy = ["sam.points_per_side=2", "sam.min_iou=-9", "sam.min_stability=0.1"]
    config = load_config("default", [*easy, f"{name}={value}"]).sam
    network = SamNetwork(make_sam())
    masks = np.zeros((2, *frame.shape[:2]), bool)
    masks[0, 8:20, 4:16] = True
    automatic = automatic_masks(network, frame, config)
    for found in (match_masks(masks, automatic, config), prompted(network, config)(frame, masks)):
        assert found.shape == masks.shape and not found[1].any()


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("name", ["crf.smooth_compat", "sam.min_iou", "temporal.area_jump"])
def test_no_setting_is_without_end(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must be .*, got {value}"):
        load_config("default", [f"{name}={value}"])
