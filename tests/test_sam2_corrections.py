"""Corrections of runs that SAM 2 has carried: what it is told, what it follows, which model may."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import carvid
from carvid.base.errors import ConfigError
from carvid.config import Config, TemporalConfig
from carvid.corrections.prompts import Prompts, prompts_of
from carvid.media.encode import VideoWriter
from carvid.media.frames import Frame
from carvid.pipeline import Carvid
from carvid.run.corrections import Correction
from carvid.run.track import MemoryStore, Track
from carvid.sam.video import Box, Carried
from carvid.temporal.pending import KeptImage
from carvid.temporal.seen import SeenFrame, seen_frames
from carvid.temporal.spread import REFUTED, THING, Spread
from carvid.temporal.spread_carrier import ByFollower
from tests.conftest import HEIGHT, WIDTH, make_frames
from tests.squares import SIZE_HW, moving
from tests.test_corrected_runs import assert_same
from tests.test_pipeline import FAST, TEXTS
from tests.test_sam2_carrier import STEP, FakeFollower, square
from tests.test_sam_video import make_sam2

Mask = NDArray[np.bool_]
EMPTY = np.zeros(SIZE_HW, bool)
FRAMES, MIDDLE = 9, 4
POINT = (50.0, 60.0)
"""In `square(30)`, and in no mask of the run."""


class Pointed(FakeFollower):
    """Finds a given mask where it is clicked at; notes the clicks, and the frames that it sees."""

    def __init__(self, finds: Mask) -> None:
        super().__init__()
        self.finds = finds
        self.clicked: list[Prompts] = []
        self.images: list[NDArray[np.uint8]] = []

    def step(self, image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Carried:
        self.images.append(image)
        return super().step(image, size_hw)

    def add_clicks(
        self,
        number: int,
        inside: NDArray[np.float64],
        outside: NDArray[np.float64],
        box: Box | None,
        size_hw: tuple[int, int] | None,
    ) -> Carried:
        self.clicked.append(Prompts(inside, outside, box))
        self.things[number] = self.finds.copy()
        return Carried((number,), self.finds[None].astype(np.float32), np.ones(1, np.float32))


def pictures() -> list[NDArray[np.uint8]]:
    return [image for image, _ in moving(FRAMES)]


@pytest.fixture(scope="module")
def flow_model(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", FAST, **weights)


def by_sam2(config: Config, model: str = "some/sam2") -> Config:
    temporal, sam2 = replace(config.temporal, carrier="sam2"), replace(config.sam2, model=model)
    return replace(config, temporal=temporal, sam2=sam2)


def pointed_model(flow_model: Carvid, finds: Mask) -> tuple[Carvid, list[Pointed]]:
    """A model with followers, and those that it makes."""
    model, made = Carvid(by_sam2(flow_model.config), *flow_model.backbones), []

    def new_follower() -> Pointed:
        made.append(Pointed(finds))
        return made[-1]

    model.new_follower = new_follower
    return model, made


def run_of(model: Carvid, masks: Sequence[Mask]) -> Track:
    """A run of a model of `pictures` that has these masks."""
    flow = Carvid(
        replace(model.config, temporal=replace(model.config.temporal, carrier="flow")),
        *model.backbones,
    )
    track = flow.segment(pictures(), ["a dog"])
    store = MemoryStore(replace(track.facts, config=model.config))
    for index, mask in enumerate(masks):
        found = mask[None]
        store.add(replace(track.result(index), masks=found, maps=found.astype(np.float32)))
    return store.track()


def away(mask: Mask, frames: int) -> Mask:
    """Where a fake follower has a mask after some frames."""
    return np.roll(mask, STEP * frames, axis=1)


# The corrected frame


def test_clicks_and_boxes_are_points_and_a_box() -> None:
    box = (1.0, 2.0, 30.0, 20.0)
    said = [
        Correction(3, 1, point=(5, 6)), Correction(3, 1, False, (7.5, 8)),
        Correction(3, 1, box=(0, 0, 9, 9)), Correction(3, 1, point=(9, 10)),
        Correction(3, 1, box=box),
    ]  # fmt: skip
    found = prompts_of(said, lambda: pytest.fail("something is wanted"))
    assert found is not None and found.box == box
    assert found.inside.tolist() == [[5, 6], [9, 10]] and found.outside.tolist() == [[7.5, 8]]
    found = prompts_of(said[-1:], lambda: pytest.fail("something is wanted"))
    assert found is not None and found.inside.shape == found.outside.shape == (0, 2)


def test_where_only_no_is_said_the_rest_is_pointed_at() -> None:
    rest = EMPTY.copy()
    rest[20:41, 60:91] = rest[100:103, 0:200] = True
    said = [Correction(3, 1, False, (150, 60)), Correction(3, 1, False, (5, 6))]
    found = prompts_of(said, lambda: rest)
    assert found is not None and found.box is None
    assert found.outside.tolist() == [[150, 60], [5, 6]]
    ((x, y),) = found.inside
    assert y == 30 and 70 <= x <= 80
    assert prompts_of(said, lambda: EMPTY) is None


def test_what_remains_of_the_run_s_mask_is_the_rest(flow_model: Carvid) -> None:
    """Without the part that is refused. A mask that scores no more than θ is none, where nobody
    says that there is one; where nothing remains, SAM 2 is not asked."""
    model, made = pointed_model(flow_model, square(30))
    no = Correction(MIDDLE, 1, False, (174.0, 64.0))
    track = run_of(model, [square(30) | square(150)] * FRAMES)
    corrected = model.correct(track, [no], frames=pictures())
    (clicked,) = made[0].clicked
    ((x, y),) = clicked.inside
    assert square(45)[int(y), int(x)] and square(15)[int(y), int(x)]
    assert clicked.outside.tolist() == [[174, 64]] and not made[1].clicked
    assert (corrected.masks[MIDDLE][0] == square(30)).all()
    strict = replace(track.facts.config, car=replace(track.facts.config.car, theta=1.0))
    track = replace(track, facts=replace(track.facts, config=strict))
    made.clear()
    corrected = model.correct(track, [no], frames=pictures())
    assert made[0].clicked and not corrected.masks[MIDDLE].any()
    made.clear()
    model.correct(run_of(model, [EMPTY] * FRAMES), [no], frames=pictures())
    assert len(made) == 2 and not any(each.clicked for each in made)


@pytest.mark.parametrize("case", ["a crumb is left", "it was right there"])
def test_only_a_leak_leaves_a_rest(flow_model: Carvid, case: str) -> None:
    """A "no" that refutes the thing, or that the mask agrees with, points at nothing."""
    model, made = pointed_model(flow_model, square(120))
    mask = square(30)
    if case == "a crumb is left":
        mask = mask.copy()
        mask[2:6, 200:204] = True
    run = run_of(model, [mask] * FRAMES)
    point = POINT if case == "a crumb is left" else (200.0, 120.0)
    corrected = model.correct(run, [Correction(MIDDLE, 1, False, point)], frames=pictures())
    assert not any(follower.clicked for follower in made)
    assert not (corrected.masks[MIDDLE][0] == square(120)).all()


@pytest.mark.parametrize("finds", [square(60), EMPTY], ids=["beside", "nothing"])
def test_a_mask_that_does_not_fit_is_not_taken(flow_model: Carvid, finds: Mask) -> None:
    """The other candidates decide, as where flow carries."""
    model, made = pointed_model(flow_model, finds)
    flow = run_of(flow_model, [square(150)] * FRAMES)
    for said in (Correction(MIDDLE, 1, point=POINT), Correction(MIDDLE, 1, box=(30, 40, 50, 60))):
        made.clear()
        track = run_of(model, [square(150)] * FRAMES)
        corrected = model.correct(track, [said], frames=pictures())
        expected = flow_model.correct(flow, [said], frames=pictures())
        assert len(made[0].clicked) == 1 and not (finds & square(150)).any()
        assert (corrected.masks[MIDDLE] == expected.masks[MIDDLE]).all()
        assert (made[0].told == made[1].told) and made[0].told[0] == "new 0"


# Outward


def test_thing_and_refuted_thing_are_followed_in_both_directions(flow_model: Carvid) -> None:
    """By a network of its own each, from the corrected frame on."""
    model, made = pointed_model(flow_model, square(30))
    track = run_of(model, [away(square(150), abs(k - MIDDLE)) for k in range(FRAMES)])
    corrected = model.correct(track, [Correction(MIDDLE, 1, point=POINT)], frames=pictures())
    images = pictures()
    for follower, seen in zip(made, (images[MIDDLE:], images[MIDDLE::-1]), strict=True):
        assert follower.told == ["new 0", "new 1"]
        assert all((a == b).all() for a, b in zip(follower.images, seen, strict=True))
    for index in range(FRAMES):
        expected = away(square(30), abs(index - MIDDLE))
        assert (corrected.masks[index][0] == expected).all(), index


def still(count: int) -> list[tuple[KeptImage, SeenFrame]]:
    """Frames in which nothing moves, for flow."""
    frames = [Frame(k, k / 10, pictures()[0]) for k in range(count)]
    return [(KeptImage(f.image), seen) for f, seen in seen_frames(frames, None, TemporalConfig())]


def test_a_refuted_thing_is_taken_away_where_the_follower_has_it() -> None:
    (_, first), *rest = still(6)
    spread = Spread(EMPTY, square(150), first, ByFollower(Pointed(EMPTY)), wanted=False)
    for steps, (image, seen) in enumerate(rest, 1):
        levels = spread.into(seen, away(square(150), steps), image)
        assert levels is not None and not levels.any()
    assert not spread.is_over


def test_the_follower_is_told_anew_what_it_had_lost_alone() -> None:
    (_, first), *rest = still(5)
    follower = Pointed(EMPTY)
    spread = Spread(square(30), EMPTY, first, ByFollower(follower), wanted=True)
    image, seen = rest[0]
    assert spread.into(seen, square(36), image) is None and follower.told == ["new 0"]
    image, seen = rest[1]
    assert spread.into(seen, EMPTY, image) is not None
    assert (follower.things[THING] == away(square(30), 2)).all()  # and not what the run had
    follower.things[THING][60:] = False
    image, seen = rest[2]
    assert spread.into(seen, square(120), image) is None
    assert follower.told == ["new 0", "drop 0", "new 0"] and REFUTED not in follower.things
    image, seen = rest[3]
    levels = spread.into(seen, EMPTY, image)
    assert levels is not None and ((levels > 127) == away(square(120), 1)).all()


def test_a_flash_is_passed_over() -> None:
    (_, first), (image, seen), *_ = still(2)
    follower = Pointed(EMPTY)
    spread = Spread(square(30), EMPTY, first, ByFollower(follower), wanted=True)
    levels = spread.into(replace(seen, verdict="flash", colors=None), EMPTY, image)
    assert levels is not None and ((levels > 127) == square(30)).all() and not follower.images


# Which model may


def test_a_run_by_flow_is_corrected_by_flow(flow_model: Carvid) -> None:
    model, made = pointed_model(flow_model, square(30))
    track = run_of(flow_model, [EMPTY] * FRAMES)
    said = [Correction(MIDDLE, 1, point=POINT)]
    one, other = (each.correct(track, said, frames=pictures()) for each in (model, flow_model))
    assert all((one.masks[k] == other.masks[k]).all() for k in range(FRAMES)) and not made
    assert one.masks[MIDDLE - 1].any() and one.masks[MIDDLE + 1].any()


def test_a_run_by_sam2_needs_the_same(flow_model: Carvid) -> None:
    model, _ = pointed_model(flow_model, square(30))
    track = run_of(model, [square(150)] * FRAMES)
    other = Carvid(by_sam2(flow_model.config, "another/sam2"), *flow_model.backbones)
    other.new_follower = model.new_follower
    for wrong, message in (
        (flow_model, r"made with the sam2 'some/sam2', this model has none$"),
        (other, r"made with the sam2 'some/sam2', this is 'another/sam2'$"),
        (Carvid(model.config, *model.backbones), "needs a SAM 2, and this model was loaded"),
    ):
        with pytest.raises(ConfigError, match=message):
            wrong.correct(track, [Correction(MIDDLE, 1, point=POINT)], frames=pictures())


# With a network


def test_one_by_one_at_once_and_undone(weights: dict[str, str], tmp_path: Path) -> None:
    """The same bytes, whichever way they were come by."""
    make_sam2().save_pretrained(tmp_path / "sam2")
    settings = [*FAST, "temporal.key_every=2", "temporal.carrier=sam2"]
    model = carvid.load("default", [*settings, f"sam2.model={tmp_path / 'sam2'}"], **weights)
    with VideoWriter(tmp_path / "clip.mp4", (HEIGHT, WIDTH), Fraction(25)) as writer:
        for frame in make_frames(6):
            writer.write(frame)
    said = (
        Correction(3, 2, point=(13, 13)), Correction(1, 1, point=(40, 30)),
        Correction(4, 1, False, (40, 30)), Correction(3, 2, box=(6, 8, 20, 21)),
    )  # fmt: skip
    plain, once, each = (tmp_path / name for name in ("plain", "once", "each"))
    model.segment(tmp_path / "clip.mp4", TEXTS, out=plain)
    for folder in (once, each):
        shutil.copytree(plain, folder)
    model.correct(once, said)
    for one in said:
        track = model.correct(each, [one])
    assert_same(each, once)
    for one in said[:3]:
        x, y = map(int, one.point or ())
        assert track.masks[one.frame][one.label - 1, y, x] == one.wanted
    model.correct(each, keep=0)
    assert_same(each, plain)
