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
from carvid.car.choice import NO_TRACK
from carvid.car.queries import Queries
from carvid.config import TemporalConfig
from carvid.media.encode import VideoWriter
from carvid.media.open import Frame, VideoReader
from carvid.pipeline import Carvid
from carvid.sam.video import Carried, VideoCarrier
from carvid.sam.video_weights import load_video
from carvid.temporal.carrier import FlowCarrier
from carvid.temporal.carry import MASK_LEVEL, from_levels
from carvid.temporal.causal import causal_pass
from carvid.temporal.followed import NOT_FOLLOWED, Followed
from carvid.temporal.lookahead import smooth
from carvid.temporal.observe import FrameContext
from carvid.temporal.pending import CausalFrame, PendingFrame
from carvid.temporal.sam2_carrier import Sam2Carrier
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


def tracks(lefts: Sequence[int], chosen: int, sources: Sequence[int]) -> TemporalState:
    """One query with a track at each place, of which it has chosen one."""
    count = len(lefts)
    return replace(
        known_state(), chosen=np.array([chosen]), owners=np.zeros(count, np.int64),
        values=np.ones(count, np.float32), sources=np.array(sources),
        colors=np.repeat(known_state().colors, count, axis=0), areas=np.full(count, 48 * 48),
        maps=np.stack([square(left) * np.uint8(255) for left in lefts]),
    )  # fmt: skip


class Run:
    """Key frames told to a `Sam2Carrier`, one after another."""

    def __init__(self, correct_after: int = 1) -> None:
        self.config = TemporalConfig(same_iou=0.5)
        self.follower = FakeFollower()
        self.carrier = Sam2Carrier(self.config, self.follower, correct_after)
        self.state: TemporalState | None = None
        self.images = [image for image, _ in moving(40)]
        self.index = 0

    def key(
        self, lefts: Sequence[int], chosen: int = 0, sources: Sequence[int] | None = None
    ) -> list[int]:
        """A frame that is a key frame; the things of its tracks."""
        self.follower.told.clear()
        image = self.images[self.index]
        before = self.state or TemporalState.initial(1)
        seen = see(before, image, self.config)
        carried = None
        if self.state is not None:
            carried = self.carrier.forward(self.state, seen, image)
        self.index += 1
        context = FrameContext(before, seen, carried, np.ones(1, bool))
        state = tracks(lefts, chosen, sources or [NO_TRACK] * len(lefts))
        self.state = self.carrier.at_key(context, state, image)
        assert self.state.followed is not None and self.state.followed.memory is not None
        return self.state.followed.objects.tolist()


def test_the_chosen_track_is_followed_and_its_rival_is_not() -> None:
    run = Run()
    assert run.key([20, 120]) == [0, NOT_FOLLOWED]
    assert run.follower.told == ["new 0"]
    assert (run.follower.things[0] == square(20)).all()


def test_what_key_frames_find_where_it_is_is_not_told_again() -> None:
    run = Run()
    run.key([20])
    assert run.key([23], sources=[0]) == [0] and run.follower.told == []
    assert (run.follower.things[0] == square(22)).all()


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
    always, never = Run(0), Run(100)
    for run, told in ((always, ["again 0"]), (never, [])):
        run.key([20])
        for left in (22, 120, 60, 24):
            assert run.key([left], sources=[0]) == [0]
            assert run.follower.told == told
    assert (never.follower.things[0] == square(28)).all()
    assert (always.follower.things[0] == square(24)).all()


def test_two_key_frames_in_a_row_elsewhere() -> None:
    run, again = Run(2), []
    run.key([20])
    for left in (120, 24, 120, 122, 124):
        run.key([left], sources=[0])
        again.append("again 0" in run.follower.told)
    assert again == [False, False, False, True, False]
    run, again = Run(1), []
    run.key([20])
    for left in (120, 122, 20):
        run.key([left], sources=[0])
        again.append("again 0" in run.follower.told)
    assert again == [True, False, True]


def test_a_path_that_changes_to_a_rival_is_another_thing() -> None:
    run = Run()
    run.key([20, 120])
    assert run.key([22, 122], chosen=1, sources=[0, 1]) == [0, 1]
    assert run.follower.told == ["new 1"]
    assert run.key([124], sources=[1]) == [1] and run.follower.told == ["drop 0"]
    assert run.key([20]) == [2] and run.follower.told == ["new 2", "drop 1"]


def test_two_tracks_of_one_path_are_two_things() -> None:
    """The chosen one is the thing that it was."""
    run = Run()
    run.key([20])
    assert run.key([22, 122], chosen=1, sources=[0, 0]) == [NOT_FOLLOWED, 0]


def test_what_is_lost_is_followed_no_more() -> None:
    run = Run()
    run.key([20])
    assert run.key([22], chosen=NO_TRACK, sources=[0]) == [0]  # there is a path, if none is chosen
    assert run.key([22], chosen=NO_TRACK) == [NOT_FOLLOWED]
    assert run.follower.told == ["drop 0"] and not run.follower.things


def test_a_cut_forgets_all() -> None:
    run = Run()
    run.key([20])
    run.state = None
    assert run.key([60]) == [0] and (run.follower.things[0] == square(60)).all()
    assert len(run.follower.things) == 1


def test_followed_things_are_saved_whole() -> None:
    memory = {"a": np.arange(6, dtype=np.uint16).reshape(2, 3), "b": np.array(3),
              "c": np.zeros((2, 0), np.float32)}  # fmt: skip
    followed = Followed(np.array([1, NOT_FOLLOWED]), np.array([2, 0]), 5, memory)
    state = replace(tracks([20, 120], 0, [NO_TRACK] * 2), followed=followed)
    loaded = TemporalState.from_dict(json.loads(json.dumps(state.to_dict()))).followed
    assert loaded is not None and loaded.memory is not None and loaded.next_number == 5
    assert loaded.objects.tolist() == [1, -1] and loaded.disagreed.tolist() == [2, 0]
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


@pytest.fixture
def model(weights: dict[str, str]) -> Carvid:
    settings = (
        "temporal.key_every=4",
        "crf.iterations=1",
        "car.present=each",
        "weights.device=cpu",
    )
    return carvid.load("default", settings, **weights)


def clip() -> list[Frame]:
    images = [image for image, _ in moving(20)]
    images[CUT:] = [np.ascontiguousarray(255 - image[::-1]) for image in images[CUT:]]
    return [Frame(index, index / 10, image) for index, image in enumerate(images)]


def follow(
    model: Carvid, sam2: Path, state: TemporalState | None = None, start: int = 0
) -> Iterator[CausalFrame]:
    """The causal pass of the clip from a frame on, carried by a SAM 2."""
    queries = Queries(TEXTS, ())
    config = model.config.temporal
    state = state or TemporalState.initial(len(queries.all))
    yield from causal_pass(
        seen_frames(clip()[start:], state if start else None, config), state,
        partial(model._key_frame, queries), len(TEXTS), config, theta=0.4,
        carrier=Sam2Carrier(config, VideoCarrier(load_video(str(sam2), "cpu"))),
    )  # fmt: skip


def same(one: TemporalState, other: TemporalState) -> bool:
    return json.dumps(one.to_dict()) == json.dumps(other.to_dict())


def test_a_run_carried_by_sam2_goes_on_from_its_key_frames(model: Carvid, sam2: Path) -> None:
    """To the same bits; from other frames it cannot."""
    whole = list(follow(model, sam2))
    keys = [frame.index for frame in whole if frame.context.is_key]
    assert len(whole) == 20 and CUT in keys and len(keys) < 20
    followed = [frame.state.followed for frame in whole]
    assert any(each is not None and (each.objects != NOT_FOLLOWED).any() for each in followed)
    for index in keys[1:]:
        state = TemporalState.from_dict(json.loads(json.dumps(whole[index].state.to_dict())))
        for frame in follow(model, sam2, state, index + 1):
            assert (frame.masks == whole[frame.index].masks).all()
            assert same(frame.state, whole[frame.index].state)
    between = next(frame for frame in whole if not frame.context.is_key)
    with pytest.raises(ValueError, match="between two key frames"):
        next(follow(model, sam2, between.state, between.index + 1))
    with pytest.raises(ValueError, match="flow carried"):
        next(follow(model, sam2, replace(whole[keys[1]].state, followed=None), keys[1] + 1))


def test_masks_between_key_frames_are_what_sam2_says(model: Carvid, sam2: Path) -> None:
    """Those of the frames from the clip's first key frame on."""
    whole = list(follow(model, sam2))
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


def offline(model: Carvid, sam2: Path, state: TemporalState | None, start: int) -> list[Any]:
    """Decided frames of the clip from a frame on, carried by a SAM 2 in both directions."""
    network, config = load_video(str(sam2), "cpu"), model.config.temporal
    followers = VideoCarrier(network), VideoCarrier(network)
    model.carrier = Sam2Carrier(config, followers[0], back=followers[1])
    if state is not None:
        state = TemporalState.from_dict(json.loads(json.dumps(state.to_dict())))
    return list(model.offline(clip()[start:], TEXTS, state=state))


def test_both_directions_go_on_to_the_same_bits(model: Carvid, sam2: Path) -> None:
    """Where looking ahead has decided a key frame."""
    whole = offline(model, sam2, None, 0)
    keys = [each.index for each in whole if each.state.since_key == 0]
    assert [each.index for each in whole] == list(range(20)) and len(keys) > 3
    for key in keys[1:]:
        for each in offline(model, sam2, whole[key].state, key + 1):
            assert (each.masks == whole[each.index].masks).all(), (key, each.index)
    model.carrier = None
    by_flow = list(model.offline(clip(), TEXTS))
    assert any((a.masks != b.masks).any() for a, b in zip(whole, by_flow, strict=True))


@pytest.mark.parametrize("stop", [2, 9, 15])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    model: Carvid, sam2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Frames after the last key frame that was decided are done again."""
    video, network = tmp_path / "clip.mp4", load_video(str(sam2), "cpu")
    with VideoWriter(video, SIZE_HW, Fraction(10)) as writer:
        for frame in clip():
            writer.write(frame.image, frame.time_s)
    config = replace(model.config.temporal, lag=1)
    model = Carvid(replace(model.config, temporal=config), *model.backbones)
    model.carrier = Sam2Carrier(config, VideoCarrier(network), back=VideoCarrier(network))
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
    carrier = Sam2Carrier(config, FakeFollower(), back=back)
    assert carrier.looks_back and not Sam2Carrier(config, back).looks_back
    key, frames = pending[4], [*pending[:2], replace(pending[2], colors=None), pending[3]]
    maps = np.stack([square(20), np.zeros(SIZE_HW, bool), square(100)]).astype(np.float32)
    colors, known = np.zeros((3, 2, 1), np.float32), np.ones(3, bool)
    found = carrier.backward(frames, key, maps, colors, known)
    assert back.told == ["new 0", "new 2"]
    steps = [6, 4, 2, 2]  # of the fake, always to the right; none at the flash
    for levels, step in zip(found, steps, strict=True):
        assert ((levels[0] > MASK_LEVEL) == square(20 + step)).all()
        assert ((levels[2] > MASK_LEVEL) == square(100 + step)).all() and not levels[1].any()
