"""Who competes with an expression, and what is promised to be there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import carvid
from carvid.car.competitors import compete, not_named
from carvid.car.queries import Queries
from carvid.car.trace import Trace
from carvid.cli import main
from carvid.config import BACKGROUND_QUERIES
from carvid.demo.example import example_folder
from carvid.media.open import open_video
from carvid.pipeline import Carvid
from carvid.run.result import FrameResult
from carvid.run.track import Track
from tests.conftest import in_this_process

ABSENT = ("the pizza", "the penguin", "the rocket", "the whale", "the guitar")
FRAMES = 10
CAM = 1e-3
"""Of a CAM's range: sums over more or fewer columns round in other ways."""


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    """The first frames of the example clip: a dog, a ball, a cat and a car."""
    with open_video(next(example_folder().glob("*.mp4"))) as reader:
        return [frame.image for frame, _ in zip(reader.frames(), range(FRAMES), strict=False)]


@pytest.fixture(scope="module")
def tiny() -> Carvid:
    return carvid.load("tiny", ["weights.device=cpu"])


def named(text: str) -> set[str]:
    met = not_named(text, BACKGROUND_QUERIES)
    return {word for word, meets in zip(BACKGROUND_QUERIES, met, strict=True) if not meets}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the dog", set()),
        ("the road", {"road", "street"}),
        ("two Streets", {"road", "street"}),
        ("a tree in front of a house", {"tree", "house"}),
        ("a house behind trees", {"tree", "house", "building"}),
        ("a duck on the sea", {"sea"}),
        ("the ocean, seen from above", {"sea", "ocean", "water"}),
        ("a tree-lined street", {"tree", "road", "street"}),
        ("the railroads", {"railway", "railroad"}),
        ("a man with a helmet", {"helmet"}),
        ("valleys and bridges", {"valley", "bridge"}),
        ("a streetlight at a treehouse", set()),
        ("the glass", set()),
    ],
)
def test_an_expression_does_not_meet_itself(text: str, words: set[str]) -> None:
    assert named(text) == words


def test_background_words_of_several_words() -> None:
    words = ("tennis courts", "swimming pool")
    assert not_named("the tennis player", words).tolist() == [True, True]
    assert not_named("a tennis court", words).tolist() == [False, True]


def test_one_set_for_a_run() -> None:
    texts = ("a dog", "the road sign", "The  dog", "cat", "dog")
    found = compete(texts, [2, 1, 4], ("sky", "road", "a cat"))
    assert found.texts == ("a dog", "the road sign", "cat", "sky", "road")
    assert found.own.tolist() == [0, 1, 0]
    assert found.allowed[:, 4].tolist() == [True, False, True] and found.allowed[:, :4].all()
    released = compete(("a dog", "a dog"), [0, 1], ("sky",), collapse=True, skip_own=False)
    assert released.texts == ("a dog", "a dog", "sky") and released.own.tolist() == [0, 1]
    assert released.allowed.all()


def test_competitors_stay_when_queries_go(tiny: Carvid, frames: list[NDArray[np.uint8]]) -> None:
    """Every step and frame has the same columns, whoever is still asked."""
    trace, queries = Trace(), Queries(("the dog", *ABSENT), ("the shoe",))
    alive = np.array([True, False, True, False, False, False, True])
    tiny.segmenter.segment(frames[0], queries, alive=alive, trace=trace)
    tiny.segmenter.segment(frames[0], queries, trace=trace)
    assert {step.competitors[:7] for step in trace.steps} == {queries.all}
    assert all(len(step.competitors) == 7 + len(BACKGROUND_QUERIES) for step in trace.steps)
    scores = [step.own[0] for step in trace.steps]
    assert scores == pytest.approx(scores[:1] * len(scores), abs=1e-6)


@pytest.mark.parametrize("preset", ["tiny", "default"])
def test_absent_things_do_not_find_each_other(frames: list[NDArray[np.uint8]], preset: str) -> None:
    """Company only takes from a score. Two absent things used to share the softmax between them:
    the pizza had 0.998 and a mask beside the penguin."""
    model = carvid.load(preset, ["weights.device=cpu"], generator="tiny", classifier="tiny")
    before = np.ones(len(ABSENT), np.float32)
    for count in range(1, len(ABSENT) + 1):
        result = model.segment_image(frames[0], ABSENT[:count])
        assert (result.scores <= before[:count] + 1e-6).all()
        before[:count] = result.scores
        assert not result.masks[0].any() and result.scores[0] < 0.2


def test_a_query_is_not_its_own_background(tiny: Carvid, frames: list[NDArray[np.uint8]]) -> None:
    """In the CAM and in the classifier: the words that it names take nothing from it."""
    trace = Trace()
    tiny.segmenter.segment(frames[0], Queries(("the roads", "the dog")), trace=trace)
    step = trace.steps[0]
    road = [step.competitors.index(word) for word in ("road", "street")]
    assert (step.scores[0, road] == 0).all() and (step.scores[1, road] > 0).all()
    np.testing.assert_allclose(step.scores.sum(axis=1), 1, rtol=1e-5)

    def cam(background: str, *settings: str) -> NDArray[np.float32]:
        model = carvid.load("tiny", [f"proposals.background={background}", *settings])
        seen = Trace()
        model.segmenter.segment(frames[0], Queries(("the dog",)), trace=seen)
        return seen.steps[0].proposals.cams

    np.testing.assert_allclose(cam("sky,dogs,dog"), cam("sky"), atol=CAM)
    released = cam("sky,dogs,dog", "proposals.skip_own_words=false")
    assert np.abs(released - cam("sky")).max() > 10 * CAM


def follow(model: Carvid, way: str, frames: list[NDArray[np.uint8]], texts: tuple[str, ...]
           ) -> Iterator[FrameResult]:  # fmt: skip
    return model.stream(frames, texts) if way == "causal" else model.offline(frames, texts)


@pytest.mark.parametrize("way", ["causal", "offline"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_what_is_promised_to_be_there(
    frames: list[NDArray[np.uint8]], way: str, count: int
) -> None:
    """Preset `davis`: a mask for each expression in each frame, whatever it scores."""
    texts = ("the dog jumping", *ABSENT)[:count] if count > 1 else ABSENT[:1]
    model = carvid.load(
        "davis", ["weights.device=cpu", "proposals.max_side=240", "temporal.lag=1",
                  "temporal.key_every=4", "crf.iterations=2", "prompts.kinds=blur"],
        generator="tiny", classifier="tiny",
    )  # fmt: skip
    results = list(follow(model, way, frames, texts))
    assert len(results) == FRAMES
    assert all(result.masks.any(axis=(1, 2)).all() for result in results)


@pytest.mark.parametrize("way", ["causal", "offline"])
def test_one_of_them_is_there(frames: list[NDArray[np.uint8]], way: str) -> None:
    """`best`: at every key frame one has a mask, though none passes."""
    model = carvid.load("tiny", ["weights.device=cpu", "car.present=best", "car.theta=0.999999"])
    for result in follow(model, way, frames, ABSENT[:3]):
        if not result.state.since_key:
            assert result.masks.any()


def test_a_run_says_why_nothing_was_found(tmp_path: Path) -> None:
    clip = next(example_folder().glob("*.mp4"))
    result = in_this_process(
        main, "run", clip, "-e", "the pizza", "-e", "the dog", "--preset", "tiny", "--end", "0.09",
        "--set", "overlay.enabled=false", "-o", tmp_path / "out",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    track = Track.open(tmp_path / "out")
    best = track.scores[:, 0].argmax()
    why = f"1: not found: best score {track.scores[best, 0]:.2f} at frame {best}, θ 0.35"
    assert why in result.stdout.splitlines()
    assert "2: not found" not in result.stdout
    assert (np.abs(track.cosines) < 1).all() and (track.cosines[:, 1] > track.cosines[:, 0]).all()
