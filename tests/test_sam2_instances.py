"""Things with labels of their own, carried by a network that follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import carvid
from carvid.base.errors import ConfigError
from carvid.base.interrupt import Stopped
from carvid.batch.manifest import Clip
from carvid.batch.run import run_batch
from carvid.config import Sam2Config, load_config
from carvid.media.open import ALL
from carvid.sam.video import Carried
from carvid.temporal.instance_carrier import FlowInstances, Sam2Instances, new_instance_carrier
from carvid.temporal.instance_carry import meet_frame
from carvid.temporal.instance_state import InstanceFrame, InstanceState
from carvid.temporal.instances import after_key_frame, between_key_frames, seen_tracks
from carvid.temporal.sam2_carrier import new_carrier
from carvid.temporal.seen import see
from tests.conftest import carvid as run_carvid
from tests.squares import SIZE_HW, texture
from tests.test_instances import behind, contents, detections, dogs, scene, under
from tests.test_sam_video import make_sam2

__all__ = ["dogs"]  # the fixture
Mask = NDArray[np.bool_]
Frame = tuple[NDArray[np.uint8], Sequence[Mask]]
CONFIG = load_config("default", ["temporal.key_every=3", "temporal.carrier=sam2"])


class TruthFollower:
    """Follows squares of a scene; what it is told is the one that it overlaps most."""

    def __init__(self, frames: Sequence[Sequence[Mask]]) -> None:
        self._frames = frames
        self.index = -1
        self.things: dict[int, int] = {}
        self.told: list[str] = []

    def step(self, image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Carried:
        self.index += 1
        planes = [self._frames[self.index][thing] for thing in self.things.values()]
        maps = np.array(planes, np.float32).reshape(-1, *size_hw)
        return Carried(tuple(self.things), maps, np.ones(len(maps), np.float32))

    def add_mask(self, number: int, mask: Mask) -> None:
        self.told.append(f"{self.index}: {'again' if number in self.things else 'new'} {number}")
        overlaps = [(mask & each).sum() for each in self._frames[self.index]]
        self.things[number] = int(np.argmax(overlaps))

    def drop(self, number: int) -> None:
        self.told.append(f"{self.index}: drop {number}")
        del self.things[number]

    def forget(self) -> None:
        if self.things:
            self.told.append(f"{self.index}: forget")
        self.things.clear()

    def state(self) -> dict[str, NDArray[Any]]:
        return {"things": np.array([*self.things])}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        raise NotImplementedError


def follow(
    frames: Sequence[Frame],
    follower: TruthFollower,
    parts: Sequence[Sequence[Mask]] | None = None,
    sam2: Sam2Config = Sam2Config(fade=0.0),  # noqa: B008
    scores: Sequence[float] = (0.9,) * 99,
) -> list[tuple[InstanceFrame, InstanceState]]:
    """Follow one expression through frames, each with the parts that its CAM would have; those that
    are seen, if none are given."""
    carrier, state, before, found = Sam2Instances(CONFIG.temporal, sam2, follower), None, None, []
    state = InstanceState()
    for index, (image, masks) in enumerate(frames):
        before = see(before or state, image, CONFIG.temporal, time_s=index / 24)
        context = meet_frame(
            state, before, CONFIG.temporal, CONFIG.instances,
            carry_things=partial(carrier.forward, image=image),
        )  # fmt: skip
        if context.is_key:
            standing = carrier.standing(context, image)
            there = [each for each in (parts[index] if parts else masks) if each.any()]
            seen = detections(there, len(seen_tracks(context.state, 0)), scores[index])
            state, shown = after_key_frame(
                context, [seen], lambda maps: maps > 0.5, SIZE_HW, 0.3, CONFIG.temporal,
                CONFIG.instances, standing,
            )  # fmt: skip
            state = carrier.at_key(context, state, standing, image)
            assert state.can_go_on
        else:
            state, shown = between_key_frames(context, image)
            assert not state.can_go_on
        found.append((shown, state))
    return found


def follower_of(frames: Sequence[Frame]) -> TruthFollower:
    return TruthFollower([masks for _, masks in frames])


def test_each_thing_is_told_once_and_has_its_followers_mask() -> None:
    frames = [scene((20 + 2 * t, 150 - t), (30, 80)) for t in range(10)]
    follower = follower_of(frames)
    parts = [[np.roll(each, 6, axis=1) for each in masks] for _, masks in frames]
    parts[0] = list(frames[0][1])
    found = follow(frames, follower, parts)
    assert follower.told == ["0: new 0", "0: new 1"]
    for (shown, _), (_, masks) in zip(found[1:], frames[1:], strict=True):
        assert (shown.masks == np.array(masks)).mean() > 0.99


def test_what_appears_is_added_and_what_has_ended_is_dropped() -> None:
    frames = [scene((20, 188 + 4 * t), (30, 80)) for t in range(70)]
    frames[:3] = [(image, [masks[0], np.zeros(SIZE_HW, bool)])
                  for image, masks in [scene([20], [30])] * 3]  # fmt: skip
    follower = follower_of(frames)
    found = follow(frames, follower)
    assert found[0][0].numbers == (0,) and found[6][0].numbers == (0, 1)
    assert follower.told[:2] == ["0: new 0", "3: new 1"]
    assert len(follower.told) == 3 and follower.told[2].endswith("drop 1")
    assert follower.things == {0: 0} and found[-1][0].numbers == (0,)


def test_a_hidden_thing_comes_back_by_the_network() -> None:
    """The key frame asks for where the network has it; it is not told again."""
    frames = behind()
    follower = follower_of(frames)
    found = follow(frames, follower)
    hidden = [not shown.numbers for shown, _ in found]
    assert any(hidden) and not hidden[0] and found[-1][0].numbers == (0,)
    assert [each for each in follower.told if "new" in each] == ["0: new 0"]
    assert found[-1][1].begun == 1


def test_things_that_cross_are_what_the_network_says() -> None:
    frames = [scene((20 + 5 * t, 160 - 5 * t), (50, 58)) for t in range(28)]
    parts = [
        [masks[0] | masks[1]] if abs(140 - 10 * t) < 34 else masks
        for t, (_, masks) in enumerate(frames)
    ]
    follower = follower_of(frames)
    found = follow(frames, follower, parts)
    assert follower.told == ["0: new 0", "0: new 1"] and found[-1][1].begun == 2
    for (shown, _), (_, masks) in zip(found, frames, strict=True):
        assert all(thing == number for number, thing in under(shown, masks).items())


def test_a_better_mask_is_told() -> None:
    """At the same place by its score, elsewhere against that of where the network has it."""
    frames = [scene((60,), (30,))] * 10
    follower = follower_of(frames)
    found = follow(frames, follower, scores=[0.8, 0, 0, 0.7, 0, 0, 0.85, 0, 0, 0.85])
    assert follower.told == ["0: new 0", "6: again 0"]
    assert all(shown.numbers == (0,) for shown, _ in found)
    for correct, told in (("never", []), ("always", ["3: again 0", "6: again 0", "9: again 0"])):
        follower = follower_of(frames)
        follow(frames, follower, sam2=Sam2Config(correct=correct))
        assert follower.told == ["0: new 0", *told]


def test_what_was_told_fades() -> None:
    frames = [scene((60,), (30,))] * 10
    follower = follower_of(frames)
    follow(frames, follower, sam2=Sam2Config(fade=0.25), scores=[0.8, *[0.75] * 9])
    assert follower.told == ["0: new 0", "9: again 0"]  # log odds 1.39, 1.14, 0.89, against 1.10


def test_a_cut_forgets_all() -> None:
    image, masks = scene((40, 150), (20, 80))
    other = np.rot90(texture(77, (SIZE_HW[1], SIZE_HW[0]))).copy()[::-1] // 3
    other = np.ascontiguousarray(255 - other)
    frames = [(image, masks)] * 4 + [(other, masks)] * 4
    follower = follower_of(frames)
    found = follow(frames, follower)
    assert found[3][0].numbers == (0, 1) and found[-1][0].numbers == (2, 3)
    cut = follower.told.index("3: forget")
    assert follower.told[cut + 1 :] == ["4: new 2", "4: new 3"]


def test_the_settings_say_what_carries() -> None:
    flow = load_config("default", [])
    assert isinstance(new_instance_carrier(flow, lambda: follower_of([])), FlowInstances)
    with pytest.raises(ConfigError, match="needs a SAM 2"):
        new_instance_carrier(CONFIG, None)


def test_classes_are_no_things(tmp_path: Path) -> None:
    settings = ["temporal.carrier=sam2", "temporal.carry_masks=true", "sam2.model=missing"]
    with pytest.raises(ConfigError, match="classes are none"):
        carvid.load("voc", settings)
    with pytest.raises(ConfigError, match="classes are none"):
        new_carrier(load_config("voc", settings), None)
    model = carvid.load("tiny")
    temporal = replace(model.config.temporal, carrier="sam2")
    model = carvid.Carvid(replace(model.config, temporal=temporal), *model.backbones)
    with pytest.raises(ConfigError, match="classes are none"):
        model.segment([texture(1)], carvid.Classes(("dog",)), out=tmp_path / "out")
    names = tmp_path / "classes.txt"
    names.write_text("dog\ncat\n")
    clip = Clip("clip", "CLIP", ("dog",), ALL, classes=carvid.Classes(("dog",)))
    asked = ("CLIP", "--classes", names, "--preset", "sam2", "-o", tmp_path / "out")
    result = run_carvid("run", *asked)
    assert result.returncode and "classes are none" in result.stderr
    with pytest.raises(ConfigError, match="classes are none"):
        run_batch([clip], tmp_path / "out", "sam2")
    assert not (tmp_path / "out").exists()


# with a SAM 2 --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> carvid.Carvid:
    place = tmp_path_factory.mktemp("sam2")
    make_sam2().save_pretrained(place)
    settings = ["crf.iterations=2", "temporal.cut_trust=0", "temporal.key_every=4",
                "temporal.carrier=sam2", f"sam2.model={place}"]  # fmt: skip
    return carvid.load("tiny", settings)


@pytest.mark.parametrize("after", [1, 6, 11, 14])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    model: carvid.Carvid,
    dogs: Path,
    tmp_path: Path,
    after: int,
) -> None:
    """In the first pass, between two key frames of it, and in the second one."""
    asked: dict[str, Any] = {"texts": ["the dog", "the ball"], "instances": "the dog"}
    model.segment(dogs, **asked, out=tmp_path / "whole")
    calls = iter(range(99))
    with pytest.raises(Stopped):
        model.segment(dogs, **asked, out=tmp_path / "out", stop=lambda: next(calls) >= after)
    memories = list((tmp_path / "out/.carvid/instances").glob("sam2-*.npz"))
    assert len(memories) == (after < 12)
    track = model.segment(dogs, **asked, out=tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert len(track.texts) >= 2
