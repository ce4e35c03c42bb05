"""Cuts, dissolves and flashes; key frames by time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.car.choice import NO_TRACK
from carvid.car.phrases import Wish, rate_wishes
from carvid.config import TemporalConfig, load_config
from carvid.temporal.carry import MASK_LEVEL, select_maps
from carvid.temporal.colors import count_colors, to_colors
from carvid.temporal.cuts import MAX_HISTORY, CutHistory, change
from carvid.temporal.flow import to_gray
from carvid.temporal.lookahead import smooth
from carvid.temporal.observe import MAX_FRAMES_BETWEEN
from carvid.temporal.pending import CausalFrame
from carvid.temporal.state import TemporalState
from carvid.temporal.update import after_carrying
from tests.squares import meet

Picture = NDArray[np.uint8]

SIZE_HW = (96, 160)
CONFIG = TemporalConfig()
FRAMES = 8
"""Frames of a scene on each side of what happens."""


def scene(seed: int, frames: int, *, speed: float = 1.5) -> list[Picture]:
    """Blots of some colours, large and small, over which a camera goes to the right."""
    rng = np.random.default_rng(seed)
    wide = SIZE_HW[1] + math.ceil(speed * frames) + 1
    picture = np.full((SIZE_HW[0], wide, 3), rng.integers(40, 200, 3), np.uint8)
    for size in np.geomspace(40, 4, 60):
        x, y = int(rng.integers(wide)), int(rng.integers(SIZE_HW[0]))
        axes = (int(size), int(size * rng.uniform(0.3, 1)))
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        cv2.ellipse(picture, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, color, -1)
    lefts = [round(speed * index) for index in range(frames)]
    return [picture[:, left : left + SIZE_HW[1]].copy() for left in lefts]


def lit(images: Sequence[Picture], gain: float, level: float = 0) -> list[Picture]:
    return [np.clip(i * np.float32(gain) + level, 0, 255).astype(np.uint8) for i in images]


def grey(images: Sequence[Picture]) -> list[Picture]:
    return [np.repeat(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2) for i in images]


def mixed(before: Sequence[Picture], after: Sequence[Picture]) -> list[Picture]:
    shares = np.linspace(0, 1, len(before) + 2)[1:-1].tolist()
    return [
        np.asarray(cv2.addWeighted(old, 1 - share, new, share, 0), np.uint8)
        for old, new, share in zip(before, after, shares, strict=True)
    ]


def begun(image: Picture) -> TemporalState:
    """A state with one track, a box in the middle of an image."""
    mask = np.zeros(SIZE_HW, bool)
    mask[32:64, 60:100] = True
    context = meet(TemporalState.initial(1), image, CONFIG)
    return replace(
        TemporalState.initial(1), chosen=np.array([0]), owners=np.array([0]),
        values=np.ones(1, np.float32), sources=np.array([NO_TRACK]), areas=np.array([mask.sum()]),
        colors=count_colors(to_colors(image, SIZE_HW), mask)[None],
        maps=mask[None] * np.uint8(255), gray=to_gray(image, 854), cut_history=context.cut_history,
        time_s=context.time_s,
    )  # fmt: skip


def forgotten(images: Sequence[Picture], config: TemporalConfig = CONFIG) -> list[int]:
    """The frames, but the first, at which everything is forgotten."""
    state, found = begun(images[0]), []
    for index, image in enumerate(images[1:], start=1):
        context = meet(state, image, config)
        if context.begins_shot:
            assert context.alive is not None and context.alive.all()
            assert not len(context.state.owners) and context.prior(SIZE_HW, config) is None
            found.append(index)
            state = replace(begun(image), cut_history=context.cut_history, time_s=context.time_s)
        else:
            state = after_carrying(context)
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "seen", [list, grey, lambda i: lit(i, 0.15), lambda i: i[::4]], ids=["", "grey", "dark", "fast"]
)
def test_a_cut_is_found_where_it_is(
    seen: Callable[[Sequence[Picture]], list[Picture]], seed: int
) -> None:
    before, after = seen(scene(seed, FRAMES)), seen(scene(seed + 50, FRAMES))
    assert forgotten([*before, *after]) == [len(before)]


def shaken(images: Sequence[Picture]) -> list[Picture]:
    shifts = np.random.default_rng(0).integers(-6, 7, (len(images), 2)).astype(np.float32)
    return [
        np.asarray(
            cv2.warpAffine(
                i, np.array([[1, 0, x], [0, 1, y]], np.float32), SIZE_HW[::-1],
                borderMode=cv2.BORDER_REFLECT,
            ),
            np.uint8,
        )
        for i, (x, y) in zip(images, shifts, strict=True)
    ]  # fmt: skip


def noisy(images: Sequence[Picture]) -> list[Picture]:
    rng = np.random.default_rng(0)
    return [np.clip(i + rng.normal(0, 20, i.shape), 0, 255).astype(np.uint8) for i in images]


def at(position: int, change: Callable[[Sequence[Picture]], list[Picture]], count: int = 1):  # type: ignore[no-untyped-def]
    """Change some frames only."""
    end = position + count
    return lambda images: [
        *images[:position], *change(images[position:end]), *images[end:]
    ]  # fmt: skip


NO_CUT: dict[str, Callable[[Sequence[Picture]], list[Picture]]] = {
    "slow": list,
    "shaken": shaken,
    "noisy": noisy,
    "blurred": at(4, lambda i: [cv2.blur(each, (15, 1)) for each in i], 3),
    "flash": at(5, lambda i: lit(i, 3, 80)),
    "white": at(5, lambda i: lit(i, 0, 255)),
    "black": at(5, lambda i: lit(i, 0)),
    "two flashes": at(5, lambda i: lit(i, 2, 100), 2),
    "lights on": at(6, lambda i: lit(i, 1.6, 20), 6),
    "lights off": at(6, lambda i: lit(i, 0.4), 6),
}


@pytest.mark.parametrize("kind", NO_CUT)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_no_cut(kind: str, seed: int) -> None:
    assert forgotten(NO_CUT[kind](scene(seed, 12))) == []


@pytest.mark.parametrize("seed", range(3))
def test_fast_motion_is_no_cut(seed: int) -> None:
    assert forgotten(scene(seed, 12, speed=14)) == []


def test_a_flash_is_passed_over_and_the_mask_stays() -> None:
    images = NO_CUT["white"](scene(1, 10, speed=0))
    state = begun(images[0])
    for index, image in enumerate(images[1:], start=1):
        context = meet(state, image, replace(CONFIG, key_every=99))
        assert context.carried is not None
        overlap = (context.carried[0] > MASK_LEVEL)[32:64, 60:100].mean()
        assert overlap > 0.9, index
        assert (context.colors is None) == (index == 5)
        state = after_carrying(context)


def test_what_stays_bright_or_dark_is_another_scene() -> None:
    before, after = scene(1, FRAMES), scene(2, FRAMES)
    for level in (0, 255):
        found = forgotten([*before, *lit([before[0]] * 12, 0, level), *after])
        assert found[0] in range(FRAMES, FRAMES + 9)
        assert found[-1] in (FRAMES + 12, FRAMES + 13)


@pytest.mark.parametrize("frames", [6, 12, 24])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("seen", [list, grey], ids=["", "grey"])
def test_a_dissolve_leaves_nothing_of_the_old_scene(
    seen: Callable[[Sequence[Picture]], list[Picture]], seed: int, frames: int
) -> None:
    count = FRAMES + frames
    before, after = scene(seed, count), scene(seed + 50, count)
    blend = mixed(before[FRAMES:], after[:frames])
    found = forgotten(seen([*before[:FRAMES], *blend, *after[frames:]]))
    assert [index for index in found if count - 1 <= index <= count + 6]
    assert not [index for index in found if index < FRAMES]


@pytest.mark.parametrize("level", [0, 255])
def test_a_fade_leaves_nothing_of_the_old_scene(level: int) -> None:
    before, after, plain = scene(1, 16), scene(2, 16), lit(scene(1, 8), 0, level)
    images = [
        *before[:8], *mixed(before[8:], plain), *mixed(plain, after[:8]), *after[8:]
    ]  # fmt: skip
    found = forgotten(images)
    assert found and 16 <= found[-1] <= 24 + 6


def test_no_cuts_are_looked_for_without_trust() -> None:
    config = replace(CONFIG, cut_trust=0)
    assert forgotten([*scene(1, 4), *lit(scene(2, 1), 0, 255), *scene(3, 4)], config) == []


def test_light_is_no_change_and_other_pictures_are() -> None:
    one, other = (CutHistory.first(scene(seed, 1)[0], 0).last for seed in (1, 2))
    assert change(one, one, 1) == pytest.approx(-2, abs=1e-3)
    assert change(one, lit([one], 0.6)[0], 0) < 0.2 < 0.6 < change(one, other, 0)


def test_the_memory_of_frames_is_bounded_and_saved_whole() -> None:
    images = [*scene(3, 70, speed=0.5), *mixed(scene(3, 12), scene(4, 12)), *scene(4, 8)]
    state = begun(images[0])
    again, told = state, 0
    for image in images[1:]:
        again = TemporalState.from_dict(json.loads(json.dumps(again.to_dict())))
        context, other = meet(state, image, CONFIG), meet(again, image, CONFIG)
        assert context.begins_shot == other.begins_shot
        told += context.begins_shot
        if context.begins_shot:
            state = replace(begun(image), cut_history=context.cut_history, time_s=context.time_s)
            again = replace(begun(image), cut_history=other.cut_history, time_s=other.time_s)
        else:
            state, again = after_carrying(context), after_carrying(other)
        history = state.cut_history
        assert history is not None and len(history.past) <= MAX_HISTORY
        assert json.dumps(state.to_dict()) == json.dumps(again.to_dict())
    assert told


def test_a_state_without_a_cut_history_is_refused() -> None:
    saved = begun(scene(1, 1)[0]).to_dict()
    del saved["cut_history"]
    with pytest.raises(KeyError):
        TemporalState.from_dict(saved)


def causal_frames(images: Sequence[Picture]) -> Iterator[CausalFrame]:
    """Every third frame is a key frame, where the box is found again."""
    state = TemporalState.initial(1)
    config = replace(CONFIG, key_every=3, color=0)
    for index, image in enumerate(images):
        context = meet(state, image, config)
        if context.alive is None:
            state = after_carrying(context)
        else:
            source = NO_TRACK if context.begins_shot else 0
            state = replace(
                begun(image), cut_history=context.cut_history, time_s=context.time_s,
                sources=np.array([source]), absent_sources=np.array([source]),
            )  # fmt: skip
        assert state.maps is not None
        maps = select_maps(state.maps, state.chosen, 1, SIZE_HW)
        yield CausalFrame(
            index=index, time_s=index / 24, image=image, context=context,
            masks=maps > 0.5, maps=maps, state=state,
        )  # fmt: skip


def test_looking_ahead_goes_past_a_flash_but_not_past_a_cut() -> None:
    images = [*NO_CUT["white"](scene(1, 12, speed=0)), *scene(2, 9, speed=0)]
    config = replace(CONFIG, lag=2)
    results = list(smooth(causal_frames(images), 1, config, lambda image, maps: maps > 0.5))
    assert [result.index for result in results] == list(range(21))
    for result in results:
        assert result.masks[0][32:64, 60:100].mean() > 0.9, result.index
    causal = causal_frames(images)
    fresh = [index for index, frame in enumerate(causal) if frame.context.begins_shot]
    assert fresh == [0, 12]


# time ----------------------------------------------------------------------------------------


THIRD = replace(CONFIG, key_every_s=1 / 3)


def keys(times_s: Sequence[float], config: TemporalConfig = THIRD) -> list[int]:
    """Which frames are key frames."""
    image, found = scene(1, 1)[0], []
    state = TemporalState.initial(1)
    for index, time_s in enumerate(times_s):
        context = meet(state, image, config, time_s=time_s)
        if context.alive is not None:
            found.append(index)
            state = replace(begun(image), cut_history=context.cut_history, time_s=context.time_s)
        else:
            state = after_carrying(context)
    return found


@pytest.mark.parametrize(
    ("rate", "every"),
    [(24, 8), (25, 8), (30, 10), (30000 / 1001, 10), (50, 17), (60, 20), (120, MAX_FRAMES_BETWEEN),
     (6, 2), (5, 2), (1, 1)],
)  # fmt: skip
def test_key_frames_are_a_third_of_a_second_apart(rate: float, every: int) -> None:
    times_s = [index / rate for index in range(52)]
    assert keys(times_s) == list(range(0, 52, every))


def test_key_frames_without_usable_times_are_as_at_24_a_second() -> None:
    for times_s in ([math.nan] * 20, [0.0] * 20, [20.0 - index for index in range(20)]):
        assert keys(times_s) == [0, 8, 16]


def test_a_gap_in_time_asks_for_a_key_frame() -> None:
    times_s = [100 + index / 24 + (5 if index >= 3 else 0) for index in range(14)]
    assert keys(times_s) == [0, 3, 11]
    varying = np.cumsum([0, *[1 / 60] * 20, *[1 / 15] * 10]).tolist()
    assert keys(varying) == [0, 20, 25, 30]


def test_key_frames_are_every_four_at_24_a_second() -> None:
    assert keys([index / 24 for index in range(10)], CONFIG) == [0, 4, 8]


def test_key_frames_may_still_be_counted() -> None:
    config = load_config("default", ["temporal.key_every=5"]).temporal
    assert keys([index / 60 for index in range(12)], config) == [0, 5, 10]
    config = load_config("default", ["temporal.key_every_s=0"]).temporal
    assert keys([index / 60 for index in range(4)], config) == [0, 1, 2, 3]


def test_speeds_are_per_second_whatever_the_rate() -> None:
    image = scene(1, 1)[0]
    mask = np.zeros((1, *SIZE_HW), bool)
    mask[0, 30:60, 66:96] = True

    def moving_right(rate: float, pixels: float) -> float:
        state = replace(begun(image), time_s=1.0)
        context = meet(state, image, CONFIG, time_s=1.0 + 1 / rate)
        assert context.flow is not None
        motion = mask[0, ..., None] * np.array([pixels, 0], np.float32)
        flow = replace(context.flow, motion=motion)
        context = replace(context, seen=replace(context.seen, flow=flow))
        prior = context.prior(SIZE_HW, CONFIG)
        assert prior is not None
        return float(rate_wishes([Wish("motion", "right")], mask, prior.flow)[0])

    # Half sure at 24 frames a second: 0.004 picture widths a frame.
    assert moving_right(24, 0.64) == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-5)
    assert moving_right(60, 0.256) == pytest.approx(moving_right(24, 0.64), abs=1e-5)
    assert moving_right(math.nan, 0.64) == pytest.approx(moving_right(24, 0.64), abs=1e-5)


# real frames ---------------------------------------------------------------------------------


def test_real_motion_is_no_cut_and_a_join_is(shared: Path) -> None:
    clips = {}
    for name in ("soccerball", "bear", "car-turn"):
        paths = sorted((shared / "data/davis-train/JPEGImages/480p" / name).glob("*.jpg"))[:32]
        if not paths:
            pytest.skip("those sequences are not here")
        clips[name] = [
            np.asarray(Image.open(path).convert("RGB").resize(SIZE_HW[::-1]), np.uint8)
            for path in paths
        ]
        for stride in (1, 2, 4):
            assert forgotten(clips[name][::stride]) == [], (name, stride)
    assert forgotten([*clips["bear"][:8], *clips["car-turn"][:8]]) == [8]
    assert forgotten([*clips["soccerball"][:4], *clips["bear"][:4]]) == [4]
