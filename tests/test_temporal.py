"""Time: flow that carries masks, the path that a query takes, what looking ahead repairs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import carvid
from carvid.base.masks import ious
from carvid.car.choice import NONE, Candidates, TrackPrior, rate, representatives
from carvid.car.phrases import Phrase, parse
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.config import TemporalConfig, load_config
from carvid.media.encode import VideoWriter
from carvid.media.open import Frame, VideoReader
from carvid.pipeline import Carvid
from carvid.run.result import FrameResult
from carvid.temporal.colors import COLOR_BINS, by_color, count_colors, log_odds, to_colors
from carvid.temporal.flow import (
    carry,
    flow_between,
    moving_along,
    one_cv2_thread,
    snap_to_edges,
    to_gray,
)
from carvid.temporal.lookahead import Step, mix, smooth
from carvid.temporal.state import (
    HALF,
    FrameContext,
    TemporalState,
    after_carrying,
    apply_memory,
    correct_carried,
    observe,
    queries_to_ask,
    select_maps,
)

SIZE_HW = (144, 240)
TEXTS = ["a dog", "a white cat"]
DOG = Phrase("a dog", "a dog")


def texture(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2) * 3, np.uint8)


def moving(frames: int, step: int = 2) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """A textured square that goes to the right over another texture, and its mask."""
    ground, thing = texture(1), texture(2)[:48, :48]
    for t in range(frames):
        image, mask = ground.copy(), np.zeros(SIZE_HW, bool)
        left = 20 + step * t
        image[40:88, left : left + 48] = thing
        mask[40:88, left : left + 48] = True
        yield image, mask


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(ious(a[None], b[None])[0, 0])


# flow ----------------------------------------------------------------------------------------


def test_flow_carries_both_ways_and_knows_where_to_trust() -> None:
    (first, before), (second, now) = moving(2, step=8)
    flow = flow_between(to_gray(first, 854), to_gray(second, 854))
    assert flow.trust.shape == SIZE_HW and flow.trust.dtype == np.float32
    carried = carry(before[None] * np.uint8(255), flow.source)[0] > HALF
    back = carry(now[None] * np.uint8(255), flow.onward)[0] > HALF
    assert iou(carried, now) > 0.8 and iou(back, before) > 0.8
    assert iou(before, now) < 0.75
    uncovered = before & ~now  # the ground behind the square was not to be seen before
    assert flow.trust[uncovered].mean() < 0.6 < 0.8 < flow.trust[now].mean()
    assert np.median(flow.motion[now], axis=0) == pytest.approx([8, 0], abs=0.5)


def test_planes_are_carried_together_as_they_are_alone() -> None:
    (first, mask), (second, _) = moving(2, step=8)
    flow = flow_between(to_gray(first, 854), to_gray(second, 854))
    planes = np.stack([np.roll(mask, 3 * k, axis=0) * np.uint8(200 + k) for k in range(6)])
    alone = [carry(plane[None], flow.source)[0] for plane in planes]
    assert (carry(planes, flow.source) == alone).all()
    assert carry(planes[:0], flow.source).shape == (0, *SIZE_HW)


def test_what_comes_from_outside_is_not_trusted() -> None:
    wide = texture(3, (144, 280))
    flow = flow_between(to_gray(wide[:, 12:252], 854), to_gray(wide[:, :240], 854))
    assert flow.trust[:, :8].mean() < 0.2 < 0.8 < flow.trust[:, 30:].mean()


def test_masks_snap_to_the_edges_of_the_picture() -> None:
    gray = np.full(SIZE_HW, 40, np.uint8)
    gray[40:88, 60:120] = 200
    truth = gray > 100
    off = np.roll(truth, 2, axis=1).astype(np.float32)
    snapped = snap_to_edges(off, gray, 4, 1e-4)
    assert iou(snapped > 0.5, truth) > iou(off > 0.5, truth)
    assert snapped.min() >= 0 and snapped.max() <= 1


def test_what_moves_along_joins_a_mask() -> None:
    (first, _), (second, now) = moving(2, step=8)
    flow = flow_between(to_gray(first, 854), to_gray(second, 854))
    half = now.copy()
    half[64:] = False
    leaking = now | np.roll(now, -24, axis=0)
    assert iou(moving_along(half, flow), now) > iou(half, now) + 0.1
    assert iou(moving_along(leaking, flow), now) > iou(leaking, now) + 0.1
    still = flow_between(to_gray(first, 854), to_gray(first, 854))
    assert (moving_along(half, still) == half).all()


def test_gray_is_at_most_so_large() -> None:
    assert to_gray(texture(1), 60).shape == (36, 60)
    assert to_gray(texture(1), 854).shape == SIZE_HW


# colours -------------------------------------------------------------------------------------


def two_colors(size_hw: tuple[int, int] = SIZE_HW) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A red square on noise of blue and grey, and its mask."""
    rng = np.random.default_rng(3)
    image = rng.integers(80, 120, (*size_hw, 3)).astype(np.uint8)
    image[..., 2] += 80
    mask = np.zeros(size_hw, bool)
    mask[40:88, 60:120] = True
    image[mask] = rng.integers(0, 40, (np.count_nonzero(mask), 3))
    image[mask, 0] += 180
    return image, mask


def test_colors_are_counted_inside_and_close_around() -> None:
    image, mask = two_colors()
    colors = to_colors(image, SIZE_HW)
    assert colors.dtype == np.uint16 and colors.max() < COLOR_BINS
    assert to_colors(np.full((2, 2, 3), (255, 16, 32), np.uint8), (1, 1)) == 15 * 256 + 16 + 2
    inside, around = count_colors(colors, mask)
    assert inside.sum() == mask.sum() == 48 * 60
    assert around.sum() == 96 * 120 - 48 * 60  # the box, and half of it on each side
    assert (np.bincount(colors[mask], minlength=COLOR_BINS) == inside).all()
    assert not count_colors(colors, np.zeros_like(mask)).any()


def test_colors_tell_what_flow_cannot() -> None:
    image, mask = two_colors()
    colors = to_colors(image, SIZE_HW)
    odds = log_odds(count_colors(colors, mask))[colors]
    assert odds[mask].min() > 0 > odds[40:88, 130:140].max()
    assert log_odds(np.zeros((2, COLOR_BINS), np.float32)).any() == 0  # nothing seen tells nothing
    even = by_color(np.full(SIZE_HW, 0.5, np.float32), odds)
    assert ((even > 0.5)[30:98, 50:130] == mask[30:98, 50:130]).all()
    assert by_color(even, 0 * odds) == pytest.approx(even)


def test_a_mask_that_went_astray_is_led_back_by_its_colors() -> None:
    image, mask = two_colors()
    gray, colors = to_gray(image, 854), to_colors(image, SIZE_HW)
    counts = count_colors(colors, mask)
    astray = np.roll(mask, 8, axis=1) * np.uint8(255)

    def corrected(color: float, trust: float) -> float:
        levels, config = astray, TemporalConfig(color=color)
        for _ in range(10):
            sure = np.full(SIZE_HW, trust, np.float32)
            levels = correct_carried(levels, sure, gray, colors, counts, config)
        return iou(levels > HALF, mask)

    assert corrected(0.7, 0.0) > 0.95 > 0.85 > corrected(0.0, 0.0)
    assert corrected(0.7, 1.0) < corrected(0.7, 0.0)  # what is sure of its way is left alone more
    nothing = np.zeros_like(astray)
    sure = np.ones(SIZE_HW, np.float32)
    assert not correct_carried(nothing, sure, gray, colors, counts, TemporalConfig()).any()


def test_a_mask_that_was_left_behind_is_known_by_its_colors() -> None:
    image, mask = two_colors()
    gray, colors = to_gray(image, 854), to_colors(image, SIZE_HW)
    counts, sure = count_colors(colors, mask), np.ones(SIZE_HW, np.float32)
    half, behind = np.roll(mask, 30, axis=1) * np.uint8(255), np.roll(mask, 60, axis=1)
    config = TemporalConfig()
    assert correct_carried(half, sure, gray, colors, counts, config).any()
    assert not correct_carried(behind * np.uint8(255), sure, gray, colors, counts, config).any()
    off = replace(config, color=0)
    assert correct_carried(behind * np.uint8(255), sure, gray, colors, counts, off).any()


def test_a_proposal_recalls_the_colors_of_its_track() -> None:
    image, mask = two_colors()
    config, state = TemporalConfig(motion=0), TemporalState.initial(1)
    context = observe(state, image, config)
    assert context.colors is not None
    blob = np.zeros((1, *SIZE_HW), np.float32)
    blob[0, 44:70, 64:126] = 0.6  # half of the thing, and some of what is beside it

    def recalled(source: int, context: FrameContext) -> float:
        values = np.ones(1, np.float32)
        candidates = Candidates(blob, values, values, np.array([source]), 0.3, NONE, 0)
        return iou(apply_memory(context, blob, [candidates], config)[0] > 0.5, mask)

    counts = count_colors(context.colors, mask)[None]
    known = replace(context, state=replace(state, colors=counts))
    # By its own colours it only leaves what is beside the thing.
    assert recalled(0, known) > 0.85 > recalled(NONE, context) > iou(blob[0] > 0.5, mask)
    unseen = replace(context, gray=None)
    assert (apply_memory(unseen, blob, [], config) == blob).all()


def test_a_part_that_was_never_carried_joins_by_its_motion() -> None:
    (first, _), (second, now) = moving(2, step=8)
    half = now.copy()
    half[64:] = False
    config = TemporalConfig(color=0)
    state = replace(
        TemporalState.initial(1), gray=to_gray(first, 854), maps=np.zeros((0, *SIZE_HW), np.uint8)
    )
    context = replace(observe(state, second, config), carried=half[None] * np.uint8(255))
    proposal, values = half[None].astype(np.float32), np.ones(1, np.float32)
    candidates = Candidates(proposal, values, values, np.array([0]), 0.3, NONE, 0)
    found = apply_memory(context, proposal, [candidates], config)[0]
    missed = now & ~half
    missed[70:] = False  # no further than its motion is looked for
    assert found[missed].mean() > 0.8 * config.motion
    still = apply_memory(context, proposal, [candidates], replace(config, motion=0))[0]
    assert still[missed].mean() < 0.1


# the path ------------------------------------------------------------------------------------


def box(left: int) -> NDArray[np.float32]:
    mask = np.zeros(SIZE_HW, np.float32)
    mask[20:40, left : left + 20] = 1
    return mask


HERE, THERE = box(10), box(70)


def prior(
    *values: float, absent: float = 0.0, key_frames_seen: int = 1, chosen: int = 0
) -> TrackPrior:
    """Query 0 has tracks HERE and THERE, or the first of them."""
    count = len(values)
    return TrackPrior(
        np.stack([HERE, THERE])[:count],
        np.zeros(count, np.int64),
        np.array(values, np.float32),
        np.array([absent], np.float32),
        np.array([chosen]),
        np.array([key_frames_seen]),
        0.5,
        0.2,
        np.zeros((*SIZE_HW, 2), np.float32),
        0.7,
        2,
        np.zeros(count, bool),
    )


def rated(own: list[float], before: TrackPrior | None, phrase: Phrase = DOG) -> Candidates:
    masks = np.stack([HERE, THERE])
    return rate(
        np.array(own, np.float32), masks, 0, phrase, theta=0.4, wish_weight=1.0, prior=before
    )


def test_without_a_past_the_best_score_wins_and_theta_decides() -> None:
    found = rated([0.5, 0.6], None)
    assert found.best == 1 and found.there and found.sources.tolist() == [NONE, NONE]
    assert not rated([0.1, 0.4], None).there


def test_a_thing_is_not_left_for_one_that_is_a_little_better() -> None:
    assert rated([0.5, 0.6], prior(0.6)).best == 0
    assert rated([0.2, 1.0], prior(0.6)).best == 1
    assert rated([0.5, 0.6], prior(0.6)).sources.tolist() == [0, 0]


def test_of_equals_the_one_that_was_taken_stays() -> None:
    assert rated([0.9, 1.0], prior(0.9, 0.95, chosen=0)).best == 0
    assert rated([0.9, 1.0], prior(0.9, 0.95, chosen=1)).best == 1
    assert rated([0.9, 1.0], prior(0.9, 0.95, chosen=NONE)).best == 1


def test_evidence_adds_up_against_the_first_choice() -> None:
    values, best = [0.9, 0.3], []
    for _ in range(6):
        found = rated([0.5, 0.9], prior(*values, chosen=best[-1] if best else 0))
        values = found.values.tolist()
        best.append(found.best)
    assert best[0] == 0 and best[-1] == 1
    assert best == sorted(best)  # it changes once


def test_a_miss_is_forgiven_and_a_loss_is_not() -> None:
    assert rated([0.25, 0.0], prior(0.9, absent=0.7)).there
    assert not rated([0.05, 0.0], prior(0.9, absent=0.7)).there
    assert not rated([0.5, 0.0], prior(0.1, absent=0.6)).there  # must be clear to return
    returned = rated([0.8, 0.0], prior(0.1, absent=0.4))
    assert returned.there and returned.sources[0] == NONE


def test_what_flow_has_lost_is_found_elsewhere_or_gone_at_no_cost() -> None:
    here = prior(0.9, absent=0.5)
    lost = replace(here, masks=np.zeros_like(here.masks))
    found = rated([0.0, 0.9], lost)
    assert found.there and found.best == 1 and found.sources[1] == 0  # it was there before, too
    assert found.values[1] == rated([0.0, 0.9], here).values[1] < rated([0.9, 0.0], here).values[0]
    assert found.absent_source == 0 and found.absent == pytest.approx(0.5 * 0.4 + 0.5 * 0.9)
    assert found.absent > rated([0.0, 0.9], here).absent


def test_what_the_edge_cuts_off_is_not_gone_because_it_cannot_be_recognized() -> None:
    inside = prior(0.9, 0.8, absent=0.8, chosen=0)
    leaving = replace(inside, at_edge=np.array([True, False]))
    assert not rated([0.05, 0.0], inside).there
    found = rated([0.05, 0.0], leaving)
    assert found.there and found.best == 0 and found.own[0] == np.float32(0.05)
    assert found.values[0] == pytest.approx(0.5 * 0.4 + 0.5 * 0.9)
    assert found.values[1] == rated([0.05, 0.0], inside).values[1]  # of no other track
    other = replace(inside, at_edge=np.array([False, True]))
    assert not rated([0.05, 0.0], other).there


def test_wishes_decide_between_look_alikes_and_the_past_outweighs_them() -> None:
    phrase = parse("the dog on the right")
    assert rated([0.7, 0.6], None, phrase).best == 1
    assert rated([0.7, 0.1], None, phrase).best == 0  # that one is no dog
    assert rated([0.7, 0.6], prior(0.7, key_frames_seen=1), phrase).best == 0


def test_fewer_parts_of_what_is_known_are_looked_at(model: Carvid) -> None:
    image = texture(3)
    changes = ["proposals.parts=3", "proposals.affinity=false", "car.theta=0"]
    unit = RecurrentSegmenter(*model.backbones, load_config(model.config, changes))

    def candidates(key_frames_seen: int, max_new: int) -> int:
        before = replace(
            prior(0.9, key_frames_seen=key_frames_seen), max_new=max_new, owners=np.array([1]),
            masks=np.zeros((1, *image.shape[:2]), np.float32),
        )  # fmt: skip
        found = unit.segment(image, Queries(("a dog",)), prior=before)
        return len(found.candidates[0].masks)

    assert 3 == candidates(0, 1) == candidates(1, 9) > candidates(1, 2) > candidates(1, 1) == 1


def test_masks_that_are_nearly_the_same_are_shown_once() -> None:
    here, nearly, there = box(10) > 0.5, box(11) > 0.5, box(70) > 0.5
    masks, kinds = np.stack([here, there, nearly, here]), ["blur"] * 4
    both, either = np.count_nonzero(here & nearly), np.count_nonzero(here | nearly)
    assert ious(masks, masks)[0].tolist() == [1, 0, np.float32(both / either), 1]
    assert representatives(masks, kinds, 0.5).tolist() == [0, 1, 0, 0]
    assert representatives(masks, kinds, both / either + 0.01).tolist() == [0, 1, 2, 0]
    assert representatives(masks, ["blur", "blur", "gray", "blur"], 0.5).tolist() == [0, 1, 2, 0]


# the state -----------------------------------------------------------------------------------


def test_missed_queries_are_dropped_and_offered_again() -> None:
    config = TemporalConfig(drop_after=2, reoffer_every=3)
    state = TemporalState.initial(2)
    missed = replace(state, misses=np.array([0, 2]))
    assert queries_to_ask(state, config).tolist() == [True, True]
    assert queries_to_ask(missed, config).tolist() == [True, False]
    assert queries_to_ask(replace(missed, since_offer=2), config).tolist() == [True, True]
    alone = replace(config, carry_queries=False)
    assert queries_to_ask(missed, alone).tolist() == [True, True]


def test_a_cut_forgets_everything() -> None:
    config, state = TemporalConfig(), known_state()
    same = observe(state, next(moving(2, step=1))[0], config)
    cut = observe(state, texture(9), config)
    assert not same.begins_shot and same.asked is None and len(same.carried) == 1
    assert cut.begins_shot and cut.asked is not None and cut.asked.all()
    assert not len(cut.state.owners) and cut.prior(SIZE_HW, config) is None


def known_state() -> TemporalState:
    image, mask = next(moving(1))
    return replace(
        TemporalState.initial(1), chosen=np.array([0]), owners=np.array([0]),
        values=np.array([0.7], np.float32), sources=np.array([NONE]),
        colors=count_colors(to_colors(image, SIZE_HW), mask)[None], areas=np.array([mask.sum()]),
        maps=mask[None] * np.uint8(255), gray=to_gray(image, 854),
    )  # fmt: skip


def test_doubt_asks_for_a_key_frame() -> None:
    config, state = TemporalConfig(key_every=99), known_state()
    image = next(moving(1))[0]
    assert observe(state, image, config).asked is None
    grown = replace(state, areas=state.areas // 6)
    assert observe(grown, image, config).asked is not None
    assert observe(state, image, replace(config, key_every=1)).asked is not None
    image[40:88, 20:68] = texture(7)[:48, :48]  # something else stands there now
    assert observe(state, image, replace(config, min_trust=0.9)).asked is not None
    assert observe(state, image, replace(config, min_trust=0.0)).asked is None


def test_a_thing_leaves_where_the_edge_cuts_it_off() -> None:
    config, state = TemporalConfig(), known_state()
    context = observe(state, next(moving(1))[0], config)

    def leaving(left: int, width: int) -> bool:
        carried = np.zeros((1, *SIZE_HW), np.uint8)
        carried[0, 40:88, left : left + width] = 255  # of 48 x 48 pixels at the key frame
        before = replace(context, carried=carried).prior(SIZE_HW, config)
        assert before is not None and before.at_edge.shape == (1,)
        return bool(before.at_edge[0])

    assert leaving(0, 30) and leaving(SIZE_HW[1] - 30, 30)
    assert not leaving(0, 40)  # it only touches the edge
    assert not leaving(20, 30)  # something hides it
    assert not leaving(0, 0)  # it has left


def test_a_state_is_saved_whole() -> None:
    for state in (known_state(), TemporalState.initial(3)):
        state = replace(state, smoothed=np.array([0]))
        loaded = TemporalState.from_dict(json.loads(json.dumps(state.to_dict())))
        for name, value in vars(state).items():
            again = getattr(loaded, name)
            np.testing.assert_array_equal(again, value, name)
            assert getattr(again, "dtype", None) == getattr(value, "dtype", None), name


# looking ahead -------------------------------------------------------------------------------

WITH_CUT = 7


@pytest.fixture
def model(weights: dict[str, str]) -> Carvid:
    settings = [
        "crf.iterations=1", "car.theta=0.4", "weights.device=cpu", "temporal.key_every=3",
        "temporal.lag=2", "proposals.parts=2",
    ]  # fmt: skip
    return carvid.load("default", settings, **weights)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 frames with a cut after the seventh."""
    path = tmp_path_factory.mktemp("long") / "clip.mp4"
    images = [image for image, _ in moving(20)]
    images[WITH_CUT:] = [np.ascontiguousarray(255 - image[::-1]) for image in images[WITH_CUT:]]
    with VideoWriter(path, SIZE_HW, Fraction(10)) as writer:
        for index, image in enumerate(images):
            writer.write(image, index / 10)
    return path


def test_looking_ahead_yields_every_frame_in_order(model: Carvid, long_clip: Path) -> None:
    ahead = model.segment(long_clip, TEXTS)
    with carvid.open_video(long_clip) as reader:
        causal = list(model.stream(reader.frames(), TEXTS))
    assert len(ahead) == len(causal) == 20
    # The last key frame has nothing to wait for.
    last = max(r.index for r in causal if r.state.since_key == 0)
    assert (causal[last].masks == ahead.masks[last]).all()


def hand_made_steps(seen: Sequence[bool]) -> Iterator[Step]:
    """Every second frame is a key frame; at the n-th, the thing is taken for there if `seen[n]`.
    Its track always is, and every path comes from it."""
    state, config = TemporalState.initial(1), TemporalConfig(key_every=2)
    for index, (image, mask) in enumerate(moving(2 * len(seen))):
        context = observe(state, image, config)
        if index % 2:
            assert context.asked is None
            state = after_carrying(context)
            proposals = select_maps(context.carried, state.chosen, 1, SIZE_HW)
        else:
            there = seen[index // 2]
            source = np.array([0 if index else NONE])
            state = replace(
                TemporalState.initial(1), owners=np.array([0]), sources=source,
                absent_sources=source, chosen=np.array([0 if there else NONE]),
                values=np.ones(1, np.float32), areas=np.array([mask.sum()]),
                maps=mask[None] * np.uint8(255), gray=context.gray,
                colors=count_colors(context.colors, mask)[None],
            )  # fmt: skip
            proposals = (mask & there)[None].astype(np.float32)
            context = replace(context, asked=np.ones(1, bool))
        result = FrameResult(
            index, index / 10, proposals > 0.5, proposals, np.ones(1, np.float32), state
        )
        yield Step(image, context, result)


def test_a_gap_is_filled_when_the_thing_was_there_later() -> None:
    truths = [mask for _, mask in moving(10)]

    def found(lag: int, *seen: bool) -> list[bool]:
        config = TemporalConfig(lag=lag)
        sharpened.clear()
        results = list(smooth(hand_made_steps(seen), 1, config, sharpen))
        assert [r.index for r in results] == list(range(10))
        for result, truth in zip(results, truths, strict=True):
            assert not result.masks.any() or iou(result.masks[0], truth) > 0.8
        return [bool(r.masks.any()) for r in results]

    sharpened: list[int] = []

    def sharpen(image: NDArray[np.uint8], proposals: NDArray[np.float32]) -> NDArray[np.bool_]:
        sharpened.append(len(proposals))
        return proposals > 0.5

    assert found(2, True, True, False, True, True) == [True] * 10
    assert sharpened == [1]
    assert found(2, False, False, True, True, True) == [True] * 10
    # Nothing that comes later speaks for it at the last key frame.
    assert found(1, True, True, True, False, False) == [True] * 8 + [False] * 2


def test_key_frames_on_both_sides_are_mixed_where_they_see_the_same_thing() -> None:
    nearly, nothing = box(12), np.zeros(SIZE_HW, np.float32)
    mixed = mix(HERE, nearly, 0.25)
    assert mixed.dtype == np.float32
    assert mixed == pytest.approx(0.75 * HERE + 0.25 * nearly)
    for share, taken_one in ((0.25, HERE), (0.5, HERE), (0.75, THERE)):
        assert (mix(HERE, THERE, share) == taken_one).all()
        assert (mix(HERE, nothing, share) == HERE).all()  # what was lost is kept so long
        assert (mix(nothing, THERE, share) == THERE).all()


@pytest.mark.parametrize("stop", [1, 4, 8, 11, 13, 18])
def test_a_run_that_looks_ahead_resumes_to_the_same_bytes(
    model: Carvid, long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model.segment(long_clip, TEXTS, out=whole)
    reader = type(carvid.open_video(long_clip))
    frames = reader.frames

    def fail(self: VideoReader, start: int = 0) -> Iterator[Frame]:
        for frame in frames(self, start):  # type: ignore[arg-type]
            if frame.index == stop:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(reader, "frames", fail)
    with pytest.raises(KeyboardInterrupt):
        model.segment(long_clip, TEXTS, out=broken)
    monkeypatch.setattr(reader, "frames", frames)
    model.segment(long_clip, TEXTS, out=broken, resume=True)
    for path in [*sorted((whole / "masks").iterdir()), whole / "scores.csv"]:
        assert (broken / path.relative_to(whole)).read_bytes() == path.read_bytes(), path.name


def test_flow_in_several_threads_is_the_same_and_leaves_opencv_as_it_was() -> None:
    rng = np.random.default_rng(4)
    pairs = [
        (gray, np.roll(gray, (2, 3), (0, 1)))
        for gray in (cv2.GaussianBlur(rng.integers(0, 256, (120, 160), np.uint8), (0, 0), 2)
                     for _ in range(4))
    ]  # fmt: skip
    wanted = [flow_between(*pair) for pair in pairs]
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda k: flow_between(*pairs[k % 4]), range(60)))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
    for k, flow in enumerate(found):
        assert (flow.motion == wanted[k % 4].motion).all()
        assert (flow.trust == wanted[k % 4].trust).all()


def test_threads_that_overlap_keep_opencv_at_one() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        first, second = one_cv2_thread(), one_cv2_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert cv2.getNumThreads() == 1  # the second is still at work
        second.__exit__(None, None, None)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_a_flat_frame_is_filtered_without_a_variance_to_divide_by() -> None:
    """Without epsilon the guided filter is a regression of the map on the guide."""
    chance = np.zeros((40, 60), np.float32)
    chance[10:30, 20:40] = 1
    flat = snap_to_edges(chance, np.full(chance.shape, 90, np.uint8), 3, 0.0)
    mean = cv2.blur(cv2.blur(chance, (7, 7), borderType=cv2.BORDER_REFLECT), (7, 7),
                    borderType=cv2.BORDER_REFLECT)  # fmt: skip
    np.testing.assert_allclose(flat, mean, atol=1e-4)
    gray = np.where(chance > 0, 200, 40).astype(np.uint8)
    np.testing.assert_allclose(snap_to_edges(chance, gray, 3, 0.0), chance, atol=1e-2)
