"""What carries masks: one interface, and behind it a network that follows what CaR names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import Sam2VideoModel

import carvid
from carvid.base.errors import ConfigError
from carvid.car.choice import NO_TRACK, Candidates
from carvid.car.queries import Queries
from carvid.car.step import StepResult
from carvid.config import Sam2Config, TemporalConfig
from carvid.media.encode import VideoWriter
from carvid.media.open import Frame, VideoReader
from carvid.pipeline import Carvid
from carvid.sam.video import Carried, VideoCarrier
from carvid.sam.video_weights import load_video
from carvid.temporal.carrier import FlowCarrier
from carvid.temporal.carry import MASK_LEVEL, from_levels
from carvid.temporal.causal import causal_pass
from carvid.temporal.followed import NOT_FOLLOWED, Followed, log_odds
from carvid.temporal.lookahead import smooth
from carvid.temporal.observe import FrameContext, _is_doubtful
from carvid.temporal.pending import CausalFrame, PendingFrame
from carvid.temporal.sam2_carrier import Sam2Carrier, _new_followed, new_carrier
from carvid.temporal.seen import see, seen_frames
from carvid.temporal.state import TemporalState
from tests.squares import SIZE_HW, known_state, moving
from tests.test_lookahead import hand_made_frames
from tests.test_sam_video import make_sam2

Mask = NDArray[np.bool_]
TEXTS = ("a dog", "a white cat")
CUT = 12
KEYS = range(0, 20, 4)
"""Key frames of the clip, by time; the cut is one of them."""
STEP = 2
"""Pixels that the fake follower moves each thing by, as `moving` does."""


class FakeFollower:
    """Follows things that go to the right; notes what it is told."""

    def __init__(self) -> None:
        self.things: dict[int, Mask] = {}
        self.told: list[str] = []

    def step(self, image: NDArray[np.uint8], size_hw: tuple[int, int]) -> Carried:
        self.things = {n: np.roll(mask, STEP, axis=1) for n, mask in self.things.items()}
        maps = np.array(list(self.things.values()), np.float32).reshape(-1, *size_hw)
        return Carried(tuple(self.things), maps, np.ones(len(maps), np.float32))

    def add_mask(self, number: int, mask: Mask) -> None:
        self.told.append(f"{'again' if number in self.things else 'new'} {number}")
        self.things[number] = mask.copy()

    def drop(self, number: int) -> None:
        self.told.append(f"drop {number}")
        self.things.pop(number)

    def forget(self) -> None:
        self.things.clear()

    def state(self) -> dict[str, NDArray[Any]]:
        return {str(n): np.packbits(mask).view(np.uint8) for n, mask in self.things.items()}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        raise NotImplementedError


def square(left: int) -> Mask:
    mask = np.zeros(SIZE_HW, bool)
    mask[40:88, left : left + 48] = True
    return mask


def found_at(
    lefts: Sequence[int],
    sources: Sequence[int],
    values: Sequence[float],
    kept: bool,
    score: float = 0.9,
) -> StepResult:
    """What CaR finds of one query: candidates at places, the first one the best."""
    planes = np.stack([square(left) for left in lefts])
    candidates = Candidates(
        planes.astype(np.float32), np.full(len(lefts), score, np.float32),
        np.array(values, np.float32), np.array(sources), 0.4, NO_TRACK, 0,
    )  # fmt: skip
    masks = planes[:1] & kept
    return StepResult(
        masks.astype(np.float32), masks, np.full(1, 0.9, np.float32), np.full(1, 0.3, np.float32),
        np.array([kept]), {0: candidates},
    )  # fmt: skip


class Run:
    """Key frames told to a `Sam2Carrier`, one after another."""

    def __init__(self, correct: str = "better", fade: float = 0.0) -> None:
        self.config = TemporalConfig(same_iou=0.5)
        self.follower = FakeFollower()
        sam2 = Sam2Config(correct=correct, fade=fade)
        self.carrier = Sam2Carrier(self.config, sam2, self.follower, FakeFollower())
        self.state: TemporalState | None = None
        self.images = [image for image, _ in moving(40)]
        self.index = 0

    def key(
        self,
        lefts: Sequence[int],
        sources: Sequence[int] | None = None,
        values: Sequence[float] | None = None,
        kept: bool = True,
        score: float = 0.9,
    ) -> list[int]:
        """A frame that is a key frame; the things of its tracks. It shows the first place, if it is
        `kept`; others are tracks too where the query is new."""
        self.follower.told.clear()
        image = self.images[self.index]
        before = self.state or TemporalState.initial(1)
        seen = see(before, image, self.config)
        carried = None
        if self.state is not None:
            carried = self.carrier.forward(self.state, seen, image)
        self.index += 1
        context = FrameContext(before, seen, carried, np.ones(1, bool))
        count = len(lefts)
        result = found_at(
            lefts, sources or [NO_TRACK] * count, values or [0.8] * count, kept, score
        )
        masks, maps, self.state = self.carrier.at_key(context, result, 0.4, image)
        assert ((maps > 0.5) == masks).all()
        self.shown: Mask = masks[0]
        assert self.state.followed is not None and self.state.followed.memory is not None
        return self.state.followed.objects.tolist()

    def key_or_here(self, left: int, margin: float) -> bool:
        """A key frame that finds the thing at a place, worth so much more than where the follower
        has it; whether it is told so."""
        assert self.state is not None and self.state.maps is not None
        here = int(np.flatnonzero(self.follower.things[0].any(axis=0))[0]) + STEP
        self.key([left, here], [0, 0], [0.5 + margin, 0.5])
        return "again 0" in self.follower.told


def test_the_chosen_track_is_followed_and_its_rival_is_not() -> None:
    run = Run()
    assert run.key([20, 120]) == [0, NOT_FOLLOWED]
    assert run.follower.told == ["new 0"]
    assert (run.follower.things[0] == square(20)).all()


def test_distractors_are_not_followed() -> None:
    run = Run()
    run.key([20])
    assert run.state is not None
    everything = replace(run.state, chosen=np.array([0]))
    assert _new_followed(everything, None, 1).objects.tolist() == [0]
    assert _new_followed(everything, None, 0).objects.tolist() == [NOT_FOLLOWED]


def test_what_key_frames_find_where_it_is_stands_as_the_follower_has_it() -> None:
    run = Run()
    run.key([20])
    assert run.key([26], [0]) == [0] and run.follower.told == []
    assert (run.follower.things[0] == square(22)).all()
    np.testing.assert_array_equal(run.shown, square(22))
    assert run.state is not None and run.state.areas.tolist() == [square(22).sum()]


def test_a_follower_decides_where_chosen_tracks_go_and_flow_where_rivals_go() -> None:
    run = Run()
    run.key([20, 120])
    run.follower.things[0] = square(100)
    assert run.state is not None
    seen = see(run.state, run.images[1], run.config)
    flow = FlowCarrier(run.config).forward(run.state, seen, run.images[1])
    maps = run.carrier.forward(run.state, seen, run.images[1])
    assert ((maps[0] > MASK_LEVEL) == square(102)).all() and (maps[1] == flow[1]).all()


def test_always_and_never_told_anew() -> None:
    always, never = Run("always"), Run("never")
    for run, told in ((always, ["again 0"]), (never, [])):
        run.key([20])
        for left in (22, 120, 60, 24):
            assert run.key([left], [0]) == [0]
            assert run.follower.told == told
    assert (never.follower.things[0] == square(28)).all()
    assert (never.shown == square(28)).all()
    assert (always.follower.things[0] == square(24)).all()
    assert (always.shown == square(24)).all()


def test_a_higher_path_value_elsewhere_is_told() -> None:
    run = Run()
    run.key([20])
    assert not run.key_or_here(120, 0.0) and not (run.shown & square(120)).any()
    assert run.key_or_here(120, 0.01) and (run.shown == square(120)).all()
    assert not run.key_or_here(120, 0.01)  # it is there now
    assert Sam2Config().correct == "better"


def test_a_mask_that_scores_higher_than_what_was_told_is_told() -> None:
    """What was told counts less and less."""
    run = Run()
    run.key([20], score=0.8)
    told = []
    for left, score in ((24, 0.7), (26, 0.79), (30, 0.81), (36, 0.805), (40, 0.82)):
        run.key([left], [0], score=score)
        told.append("again 0" in run.follower.told)
        assert (run.shown == square(left)).all() == told[-1]
    assert told == [False, False, True, False, True]
    run = Run(fade=0.25)
    run.key([20], score=0.8)  # log odds 1.39
    told = []
    for left in (24, 26, 28, 30, 32):
        run.key([left], [0], score=0.7)  # log odds 0.85
        told.append("again 0" in run.follower.told)
    assert told == [False, False, False, True, False]


def test_what_scores_no_more_than_theta_does_not_stand() -> None:
    run = Run()
    run.key([20])
    assert run.key([26], [0], score=0.39) == [0] and run.follower.told == ["again 0"]
    assert (run.shown == square(26)).all()
    assert run.key([30], [0], score=0.3) == [0] and run.follower.told == ["again 0"]


def test_what_is_lost_is_told() -> None:
    run = Run()
    run.key([20])
    run.follower.things[0][:] = False
    assert run.key([60], [0], score=0.5) == [0] and run.follower.told == ["again 0"]
    assert (run.shown == square(60)).all()


@pytest.mark.parametrize("score", [0.0, 0.25, 1.0])
def test_log_odds_are_finite(score: float) -> None:
    found = log_odds(score)
    assert np.isfinite(found) and 1 / (1 + np.exp(-found)) == pytest.approx(score, abs=2e-6)


def test_the_best_candidate_may_be_the_carried_one() -> None:
    """However much else it overlaps: its own score counts, and not its path value."""
    carrier = Sam2Carrier(
        TemporalConfig(same_iou=0.99), Sam2Config(), FakeFollower(), FakeFollower()
    )
    found = found_at([22, 120], [0, 0], [0.5, 0.4], kept=True).candidates[0]
    levels = np.asarray(square(30) * np.uint8(255))
    assert not carrier._is_better(found, levels, log_odds(0.91), 0.4)
    assert carrier._is_better(found, levels, log_odds(0.89), 0.4)


def test_a_path_that_changes_to_a_rival_is_another_thing() -> None:
    run = Run()
    run.key([20, 120])
    assert run.key([122], [1]) == [1]
    assert run.follower.told == ["new 1", "drop 0"]
    assert run.key([20]) == [2] and run.follower.told == ["new 2", "drop 1"]


def test_two_tracks_of_one_path_are_two_things() -> None:
    """The chosen one is the thing that it was."""
    before = Followed(np.array([7]), np.zeros(1), 8)
    maps = np.stack([square(20), square(120)]) * np.uint8(255)
    state = replace(
        known_state(), chosen=np.array([1]), owners=np.zeros(2, np.int64),
        sources=np.array([0, 0]), maps=maps,
    )  # fmt: skip
    assert _new_followed(state, before, 1).objects.tolist() == [NOT_FOLLOWED, 7]


def test_what_is_lost_is_followed_no_more() -> None:
    run = Run()
    run.key([20])
    assert run.key([22], [0], kept=False) == [0]  # there is a path, if none is chosen
    assert run.follower.told == [] and not run.shown.any()
    assert run.key([22], kept=False) == [NOT_FOLLOWED]
    assert run.follower.told == ["drop 0"] and not run.follower.things


def test_a_cut_forgets_all() -> None:
    run = Run()
    run.key([20])
    run.state = None
    assert run.key([60]) == [0] and (run.follower.things[0] == square(60)).all()
    assert len(run.follower.things) == 1


@pytest.mark.parametrize(("number", "doubtful"), [(0, False), (NOT_FOLLOWED, True), (None, True)])
def test_flow_that_is_not_trusted_makes_no_key_frame_of_what_a_network_follows(
    number: int | None, doubtful: bool
) -> None:
    image, config = next(moving(1))[0], TemporalConfig()
    state = known_state()
    assert state.maps is not None
    state = replace(state, areas=(state.maps > MASK_LEVEL).sum(axis=(1, 2)))
    if number is not None:
        followed = Followed(np.array([number]), np.zeros(1))
        state = replace(state, followed=followed)
    seen = see(state, image, config)
    assert seen.flow is not None
    flow = replace(seen.flow, trust=np.zeros_like(seen.flow.trust))
    context = FrameContext(state, replace(seen, flow=flow), state.maps)
    assert _is_doubtful(context, config, (), ()) == doubtful


def test_followed_things_are_saved_whole() -> None:
    memory = {"a": np.arange(6, dtype=np.uint16).reshape(2, 3), "b": np.array(3),
              "c": np.zeros((2, 0), np.float32)}  # fmt: skip
    told = np.array([0.1, 0])
    followed = Followed(np.array([1, NOT_FOLLOWED]), told, 5, memory)
    state = replace(known_state(), followed=followed)
    loaded = TemporalState.from_dict(json.loads(json.dumps(state.to_dict()))).followed
    assert loaded is not None and loaded.memory is not None and loaded.next_number == 5
    assert loaded.objects.tolist() == [1, -1] and (loaded.told == told).all()
    for name, value in memory.items():
        assert loaded.memory[name].dtype == value.dtype
        np.testing.assert_array_equal(loaded.memory[name], value)
    values = followed.to_dict()
    values["memory"]["b"][0] = "object"
    with pytest.raises(ValueError, match="no 'object'"):
        Followed.from_dict(values)
    assert "followed" not in known_state().to_dict()


# with a SAM 2 -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sam2")
    model: Sam2VideoModel = make_sam2()
    model.save_pretrained(place)
    return place


SETTINGS = ("temporal.key_every=4", "crf.iterations=1", "car.present=each", "weights.device=cpu")


@pytest.fixture
def model(weights: dict[str, str], sam2: Path) -> Carvid:
    settings = (*SETTINGS, "temporal.carrier=sam2", f"sam2.model={sam2}")
    return carvid.load("default", settings, **weights)


def clip() -> list[Frame]:
    images = [image for image, _ in moving(20)]
    images[CUT:] = [np.ascontiguousarray(255 - image[::-1]) for image in images[CUT:]]
    return [Frame(index, index / 10, image) for index, image in enumerate(images)]


def follow(
    model: Carvid, state: TemporalState | None = None, start: int = 0
) -> Iterator[CausalFrame]:
    """The causal pass of the clip from a frame on, carried by a SAM 2."""
    queries = Queries(TEXTS, ())
    config = model.config.temporal
    state = state or TemporalState.initial(len(queries.all))
    yield from causal_pass(
        seen_frames(clip()[start:], state if start else None, config), state,
        partial(model._key_frame, queries), len(TEXTS), config, theta=0.4,
        carrier=new_carrier(model.config, model.new_follower),
    )  # fmt: skip


def same(one: TemporalState, other: TemporalState) -> bool:
    return json.dumps(one.to_dict()) == json.dumps(other.to_dict())


def test_a_run_carried_by_sam2_goes_on_from_its_key_frames(model: Carvid) -> None:
    """To the same bits; from other frames it cannot."""
    whole = list(follow(model))
    keys = [frame.index for frame in whole if frame.context.is_key]
    assert len(whole) == 20 and CUT in keys and len(keys) < 20
    followed = [frame.state.followed for frame in whole]
    assert any(each is not None and (each.objects != NOT_FOLLOWED).any() for each in followed)
    for index in keys[1:]:
        state = TemporalState.from_dict(json.loads(json.dumps(whole[index].state.to_dict())))
        for frame in follow(model, state, index + 1):
            assert (frame.masks == whole[frame.index].masks).all()
            assert same(frame.state, whole[frame.index].state)
    between = next(frame for frame in whole if not frame.context.is_key)
    with pytest.raises(ValueError, match="between two key frames"):
        next(follow(model, between.state, between.index + 1))
    with pytest.raises(ValueError, match="flow carried"):
        next(follow(model, replace(whole[keys[1]].state, followed=None), keys[1] + 1))


def test_masks_between_key_frames_are_what_sam2_says(model: Carvid, sam2: Path) -> None:
    """Those of the frames from the clip's first key frame on."""
    whole = list(follow(model))
    first, objects = whole[0].state, whole[0].state.followed
    assert first.maps is not None and objects is not None
    carrier, images = VideoCarrier(load_video(str(sam2), "cpu")), [each.image for each in clip()]
    carrier.step(images[0])
    followed = np.flatnonzero(objects.objects != NOT_FOLLOWED)
    for track in followed:
        carrier.add_mask(int(objects.objects[track]), first.maps[track] > MASK_LEVEL)
    assert len(followed)
    for frame in whole[1:]:
        if frame.context.is_key:
            break
        expected = carrier.step(frame.image, first.maps.shape[1:]).maps
        assert frame.state.maps is not None
        found = from_levels(frame.state.maps[followed])
        np.testing.assert_allclose(found, expected, atol=0.6 / 255)


def test_a_run_knows_its_sam2_by_its_content(model: Carvid, sam2: Path, tmp_path: Path) -> None:
    """And one that was loaded without is told in one line."""
    assert model.contents["sam2"].startswith("sha256:")
    assert any(path.parent == sam2 for path in model.sources)
    track = model.segment(clip()[:2], TEXTS)
    assert track.facts.contents["sam2"] == model.contents["sam2"]
    without = Carvid(model.config, *model.backbones)
    with pytest.raises(ConfigError, match="was loaded without"):
        without.segment(clip()[:2], TEXTS)


class Noting(FlowCarrier):
    """Carries by flow, and notes what it is asked."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__(config)
        self.asked: list[str] = []

    def backward(self, *args: Any, **kwargs: Any) -> list[NDArray[np.uint8]]:
        self.asked.append("backward")
        return [np.full_like(each, 255) for each in super().backward(*args, **kwargs)]


def test_looking_ahead_asks_the_carrier() -> None:
    config = TemporalConfig(lag=1)
    carrier = Noting(config)
    sharpen = lambda image, proposals, rows: proposals > 0.5  # noqa: E731
    frames = list(smooth(hand_made_frames([True] * 3), 1, config, sharpen, carrier=carrier))
    assert carrier.asked and frames[1].maps.mean() > frames[0].maps.mean()


def offline(model: Carvid, state: TemporalState | None, start: int) -> list[Any]:
    """Decided frames of the clip from a frame on."""
    if state is not None:
        state = TemporalState.from_dict(json.loads(json.dumps(state.to_dict())))
    return list(model.offline(clip()[start:], TEXTS, state=state))


def test_both_directions_go_on_to_the_same_bits(
    model: Carvid, weights: dict[str, str]
) -> None:
    """Where looking ahead has decided a key frame."""
    whole = offline(model, None, 0)
    keys = [each.index for each in whole if each.state.since_key == 0]
    assert [each.index for each in whole] == list(range(20)) and len(keys) > 3
    for key in keys[1:]:
        for each in offline(model, whole[key].state, key + 1):
            assert (each.masks == whole[each.index].masks).all(), (key, each.index)
    by_flow = offline(carvid.load("default", SETTINGS, **weights), None, 0)
    assert any((a.masks != b.masks).any() for a, b in zip(whole, by_flow, strict=True))


@pytest.mark.parametrize("stop", [2, 9, 15])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    model: Carvid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Frames after the last key frame that was decided are done again."""
    video, follower = tmp_path / "clip.mp4", model.new_follower
    with VideoWriter(video, SIZE_HW, Fraction(10)) as writer:
        for frame in clip():
            writer.write(frame.image, frame.time_s)
    config = replace(model.config.temporal, lag=1)
    model = Carvid(replace(model.config, temporal=config), *model.backbones)
    model.new_follower = follower
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model.segment(video, TEXTS, out=whole)
    reader = type(carvid.open_video(video))
    frames, asked, stopping = reader.frames, [], [True]

    def until_stop(self: VideoReader, start: int = 0) -> Iterator[Frame]:
        asked.append(start)
        for frame in frames(self, start):  # type: ignore[arg-type]
            if frame.index == stop and stopping:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(reader, "frames", until_stop)
    with pytest.raises(KeyboardInterrupt):
        model.segment(video, TEXTS, out=broken)
    stopping.clear()
    asked.clear()
    model.segment(video, TEXTS, out=broken, resume=True)
    assert max(asked) in {0, *(key + 1 for key in KEYS)} and max(asked) <= stop
    assert (max(asked) > 0) == (stop > 5)
    for path in [*sorted((whole / "masks").iterdir()), whole / "scores.csv"]:
        assert (broken / path.relative_to(whole)).read_bytes() == path.read_bytes(), path.name


def test_backward_is_what_the_follower_has() -> None:
    """From the key frame on, in reverse; a flash is passed over."""
    config = TemporalConfig(lag=1)
    causal = list(hand_made_frames([True] * 3))
    pending = [PendingFrame.of(each, in_color=True) for each in causal]
    back = FakeFollower()
    carrier = Sam2Carrier(config, Sam2Config(), FakeFollower(), back)
    assert carrier.looks_back
    key, frames = pending[4], [*pending[:2], replace(pending[2], colors=None), pending[3]]
    maps = np.stack([square(20), np.zeros(SIZE_HW, bool), square(100)]).astype(np.float32)
    colors, known = np.zeros((3, 2, 1), np.float32), np.ones(3, bool)
    found = carrier.backward(frames, key, maps, colors, known)
    assert back.told == ["new 0", "new 2"]
    steps = [6, 4, 2, 2]  # of the fake, always to the right; none at the flash
    for levels, step in zip(found, steps, strict=True):
        assert ((levels[0] > MASK_LEVEL) == square(20 + step)).all()
        assert ((levels[2] > MASK_LEVEL) == square(100 + step)).all() and not levels[1].any()
