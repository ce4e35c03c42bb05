"""Which candidate is a query's: scores, wishes, and the path through the key frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import carvid
from carvid.base.masks import ious
from carvid.car.choice import NO_TRACK, Candidates, TrackPrior, rate, representatives
from carvid.car.phrases import Phrase, parse
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.config import load_config
from carvid.pipeline import Carvid
from tests.squares import SIZE_HW, box, texture

DOG = Phrase("a dog", "a dog")
HERE, THERE = box(10), box(70)


def prior(
    *values: float, absent: float = 0.0, key_frames_seen: int = 1, chosen: int = 0
) -> TrackPrior:
    """Query 0 has tracks HERE and THERE, or the first of them."""
    count = len(values)
    return TrackPrior(
        masks=np.stack([HERE, THERE])[:count],
        owners=np.zeros(count, np.int64),
        values=np.array(values, np.float32),
        absent_values=np.array([absent], np.float32),
        chosen=np.array([chosen]),
        key_frames_seen=np.array([key_frames_seen]),
        smoothing=0.5,
        hysteresis=0.2,
        flow=np.zeros((*SIZE_HW, 2), np.float32),
        same_iou=0.7,
        max_new=2,
        at_edge=np.zeros(count, bool),
    )


def rated(scores: list[float], before: TrackPrior | None, phrase: Phrase = DOG) -> Candidates:
    masks = np.stack([HERE, THERE])
    return rate(
        np.array(scores, np.float32), masks, 0, phrase, theta=0.4, wish_weight=1.0, prior=before
    )


def test_a_path_value_is_what_the_formula_says() -> None:
    found = rated([0.5, 0.9], prior(0.8, absent=0.7))
    from_here, from_absent = 0.8, 0.7 - 0.2  # 0.2 is the hysteresis, and THERE no track
    assert found.values == pytest.approx([
        0.5 * 0.5 + 0.5 * max(from_here, from_absent),
        0.5 * 0.9 + 0.5 * max(from_here - 0.2, from_absent),
    ])  # fmt: skip
    assert found.absent_value == pytest.approx(0.5 * 0.4 + 0.5 * max(0.7, from_here - 0.2))
    wished = rated([0.9, 0.9], None, parse("the dog on the right"))
    left, right = (np.flatnonzero(mask.any(axis=0)).mean() + 0.5 for mask in (HERE, THERE))
    assert wished.values == pytest.approx([0.9 - (right - left) / SIZE_HW[1], 0.9])


def test_without_a_past_the_best_score_wins_and_theta_decides() -> None:
    found = rated([0.5, 0.6], None)
    assert found.best == 1 and found.is_there and found.sources.tolist() == [NO_TRACK, NO_TRACK]
    assert not rated([0.1, 0.4], None).is_there


def test_a_thing_is_not_left_for_one_that_is_a_little_better() -> None:
    assert rated([0.5, 0.6], prior(0.6)).best == 0
    assert rated([0.2, 1.0], prior(0.6)).best == 1
    assert rated([0.5, 0.6], prior(0.6)).sources.tolist() == [0, 0]


def test_of_equals_the_one_that_was_taken_stays() -> None:
    assert rated([0.9, 1.0], prior(0.9, 0.95, chosen=0)).best == 0
    assert rated([0.9, 1.0], prior(0.9, 0.95, chosen=1)).best == 1
    assert rated([0.9, 1.0], prior(0.9, 0.95, chosen=NO_TRACK)).best == 1


def test_evidence_adds_up_against_the_first_choice() -> None:
    values, best = [0.9, 0.3], []
    for _ in range(6):
        found = rated([0.5, 0.9], prior(*values, chosen=best[-1] if best else 0))
        values = found.values.tolist()
        best.append(found.best)
    assert best[0] == 0 and best[-1] == 1
    assert best == sorted(best)  # it changes once


def test_a_miss_is_forgiven_and_a_loss_is_not() -> None:
    assert rated([0.25, 0.0], prior(0.9, absent=0.7)).is_there
    assert not rated([0.05, 0.0], prior(0.9, absent=0.7)).is_there
    assert not rated([0.5, 0.0], prior(0.1, absent=0.6)).is_there  # must be clear to return
    returned = rated([0.8, 0.0], prior(0.1, absent=0.4))
    assert returned.is_there and returned.sources[0] == NO_TRACK


def test_what_flow_has_lost_is_found_elsewhere_or_gone_at_no_cost() -> None:
    here = prior(0.9, absent=0.5)
    lost = replace(here, masks=np.zeros_like(here.masks))
    found = rated([0.0, 0.9], lost)
    assert found.is_there and found.best == 1 and found.sources[1] == 0  # it was there before, too
    assert found.values[1] == rated([0.0, 0.9], here).values[1] < rated([0.9, 0.0], here).values[0]
    assert found.absent_source == 0 and found.absent_value == pytest.approx(0.5 * 0.4 + 0.5 * 0.9)
    assert found.absent_value > rated([0.0, 0.9], here).absent_value


def test_what_the_edge_cuts_off_is_not_gone_because_it_cannot_be_recognized() -> None:
    inside = prior(0.9, 0.8, absent=0.8, chosen=0)
    leaving = replace(inside, at_edge=np.array([True, False]))
    assert not rated([0.05, 0.0], inside).is_there
    found = rated([0.05, 0.0], leaving)
    assert found.is_there and found.best == 0 and found.scores[0] == np.float32(0.05)
    assert found.values[0] == pytest.approx(0.5 * 0.4 + 0.5 * 0.9)
    assert found.values[1] == rated([0.05, 0.0], inside).values[1]  # of no other track
    other = replace(inside, at_edge=np.array([False, True]))
    assert not rated([0.05, 0.0], other).is_there


def test_wishes_decide_between_look_alikes_and_the_past_outweighs_them() -> None:
    phrase = parse("the dog on the right")
    assert rated([0.7, 0.6], None, phrase).best == 1
    assert rated([0.7, 0.1], None, phrase).best == 0  # that one is no dog
    assert rated([0.7, 0.6], prior(0.7, key_frames_seen=1), phrase).best == 0


@pytest.fixture
def model(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", ["crf.iterations=1", "weights.device=cpu"], **weights)


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
