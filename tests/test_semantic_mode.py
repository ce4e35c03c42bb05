"""Semantic segmentation: things and stuff, words for the same, one label a pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from carvid.base.errors import ExpressionError
from carvid.car.choice import rows_in
from carvid.car.label_map import foreground_map, label_map
from carvid.car.passes import passes_of
from carvid.car.queries import MOST_TEXTS, Queries, in_template
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.sharpen import Sharpener
from carvid.car.step import StepResult
from carvid.car.trace import Trace
from carvid.clip.backbone import ClipBackbone
from carvid.clip.preprocessing import to_pixels
from carvid.config import load_config
from tests.conftest import make_frames

Backbones = tuple[ClipBackbone, ClipBackbone]
NAMES = ("dog", "grass", "cat", "wall", "ball")
STUFF = frozenset({"grass", "wall"})
THINGS = ("dog", "cat", "ball")
SEMANTIC = ("car.mode=semantic", "car.theta=0", "crf.iterations=1", "crf.mode=exact")


def unit_of(backbones: Backbones, *overrides: str) -> RecurrentSegmenter:
    return RecurrentSegmenter(*backbones, load_config("default", [*SEMANTIC, *overrides]))


def test_stuff_has_a_pass_of_its_own(backbones: Backbones, image: NDArray[np.uint8]) -> None:
    """As if things and stuff were asked for one after the other, the second time with the things'
    names as background words, and other prompts."""
    for background in ("always", "never"):
        own = f"classifier.background={background}"
        both, trace = unit_of(backbones, own), Trace()
        result = both.segment(image, Queries(NAMES, stuff=STUFF), trace=trace)
        first = unit_of(backbones, own).segment(image, Queries(THINGS))
        words = f"proposals.background={','.join(THINGS)}"
        second = unit_of(backbones, own, words, "prompts.kinds=blur,gray").segment(
            image, Queries(("grass", "wall"))
        )
        assert [{NAMES[i] for i in step.queries} <= STUFF for step in trace.steps] == sorted(
            {NAMES[i] for i in step.queries} <= STUFF for step in trace.steps
        )
        np.testing.assert_allclose(result.scores[[0, 2, 4]], first.scores, atol=1e-5)
        np.testing.assert_allclose(result.scores[[1, 3]], second.scores, atol=1e-5)
        np.testing.assert_allclose(result.maps[[0, 2, 4]], first.maps, atol=1e-4)
        np.testing.assert_allclose(result.maps[[1, 3]], second.maps, atol=1e-4)
        free = ~first.masks.any(axis=0)
        assert (result.masks[[0, 2, 4]] == first.masks).mean() > 0.999
        assert (result.masks[[1, 3]] == (second.masks & free)).mean() > 0.999


def test_which_passes_there_are() -> None:
    queries = Queries(NAMES, ("cup",), stuff=STUFF)
    semantic, refer = load_config("default", SEMANTIC), load_config("default")
    words = semantic.proposals.background
    things, stuff = passes_of(queries, semantic)
    assert (things.queries, things.background) == ((0, 2, 4, 5), words)
    assert (stuff.queries, stuff.background) == ((1, 3), ("dog", "cat", "ball", "cup"))
    named = load_config("default", [*SEMANTIC, "prompts.stuff=cat"])
    assert [each.queries for each in passes_of(Queries(NAMES), named)] == [(0, 1, 3, 4), (2,)]
    for one_pass in (
        passes_of(queries, refer),
        passes_of(Queries(NAMES), semantic),
        passes_of(Queries(("grass", "wall"), stuff=STUFF), semantic),
    ):
        assert [each.background for each in one_pass] == [words]


def test_only_what_is_alive_is_asked(backbones: Backbones, image: NDArray[np.uint8]) -> None:
    queries, trace = Queries(NAMES, stuff=STUFF), Trace()
    alive = np.array([False, True, False, False, False])
    result = unit_of(backbones).segment(image, queries, alive=alive, trace=trace)
    assert {step.queries for step in trace.steps} == {(1,)}
    assert result.queries_kept.tolist() == alive.tolist()
    assert set(trace.steps[0].competitors) == {*NAMES}


def test_nothing_is_encoded_twice(backbones: Backbones) -> None:
    """Of several images each one once, whatever the passes and steps; each text once a network."""
    generator, classifier = backbones
    templates = "classifier.templates=a clean origami {}.,a photo of {}"
    unit = unit_of(backbones, templates, "classifier.background=never")
    seen: list[bytes] = []
    encode = unit.classifier.encode

    def noting(images: list[NDArray[np.uint8]], *rest: object) -> object:
        seen.extend(each.tobytes() for each in images)
        return encode(images, *rest)  # type: ignore[arg-type]

    unit.classifier.encode = noting  # type: ignore[assignment, method-assign]
    frames = make_frames(3)
    for frame in frames:
        unit.segment(frame, Queries(NAMES, stuff=STUFF))
    assert generator.counts["patches"] == len(frames)
    words = {*unit.config.proposals.background}.difference(NAMES)
    assert generator.counts["texts"] == len(NAMES) + len(words)
    assert classifier.counts["texts"] == 2 * len(NAMES)
    assert classifier.counts["images"] == len(seen) == len(set(seen))


def test_so_many_views_at_a_time_are_the_same(
    backbones: Backbones, image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = unit_of(backbones).segment(image, Queries(NAMES))
    monkeypatch.setattr("carvid.car.views.NEW_VIEWS", 2)
    parts = unit_of(backbones).segment(image, Queries(NAMES))
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-5)
    assert (parts.masks == whole.masks).all()


def test_more_classes_than_an_indexed_png_has_labels(
    backbones: Backbones, image: NDArray[np.uint8]
) -> None:
    names = tuple(f"dog {k}" for k in range(MOST_TEXTS + 46))
    with pytest.raises(ExpressionError, match=r"300 expressions are given, and labels are for 254"):
        Queries(names)
    unit = unit_of(backbones, "crf.enabled=false", "car.max_steps=1")
    result = unit.segment(image, Queries(names, limit=65_534))
    assert result.scores.shape == (300,)


def test_words_for_the_same_are_one_query(backbones: Backbones, image: NDArray[np.uint8]) -> None:
    generator = backbones[0]
    each = generator.encode_texts(["a dog", "a white cat"])
    (mean,) = generator.encode_texts(["a dog\na white cat"])
    torch.testing.assert_close(mean, F.normalize(each.mean(dim=0), dim=0))
    assert in_template("a photo of a {}.", "dog\ncat") == "a photo of a dog.\na photo of a cat."

    unit = unit_of(backbones, "car.max_steps=1")
    plain = unit.segment(image, Queries(("dog", "ball")))
    same = unit.segment(image, Queries(("dog", "ball"), synonyms=(("dog",), ())))
    np.testing.assert_allclose(same.scores, plain.scores, atol=1e-5)
    trace = Trace()
    other = unit.segment(image, Queries(("dog", "ball"), synonyms=(("cat",), ())), trace=trace)
    assert trace.steps[0].competitors[:2] == ("dog\ncat", "ball")
    assert abs(other.scores - plain.scores).max() > 1e-4


def test_a_background_word_that_a_synonym_names_does_not_compete(backbones: Backbones) -> None:
    unit, trace = unit_of(backbones, "car.max_steps=1"), Trace()
    queries = Queries(("dog", "lane"), synonyms=((), ("road",)))
    unit.segment(make_frames(1)[0], queries, trace=trace)
    (step,) = trace.steps
    road = step.competitors.index("road")
    assert step.scores[0, road] > 0 and step.scores[1, road] == 0


def test_queries_say_what_is_wrong_with_them() -> None:
    with pytest.raises(ValueError, match=r"synonyms are for 1 texts, and there are 2"):
        Queries(("dog", "cat"), synonyms=(("puppy",),))
    with pytest.raises(ExpressionError, match="an expression is empty"):
        Queries(("dog",), synonyms=((" ",),))
    given = Queries(("dog",), ("cat",))
    assert Queries.of(given) is given
    with pytest.raises(ValueError, match="distractors are given beside queries"):
        Queries.of(given, ["ball"])


def result_of(masks: list[str], scores: list[float], maps: list[list[float]]) -> StepResult:
    """Of masks drawn as rows of pixels, `#` inside."""
    drawn = np.array([[[pixel == "#" for pixel in mask]] for mask in masks])
    planes = np.array([[row] for row in maps], np.float32)
    kept = drawn.any(axis=(1, 2))
    given = np.array(scores, np.float32)
    return StepResult(planes, drawn, given, np.full_like(given, np.nan), kept, {})


def test_things_cover_stuff_and_a_higher_score_a_lower_one() -> None:
    masks = ["####....", "..####..", "#.#.#.#.", "........"]
    maps = [[0.9] * 8, [0.1] * 7 + [0.3], [0.2] * 8, [1.0] * 8]
    result = result_of(masks, [0.9, 0.4, 0.6, 0.99], maps)
    is_stuff = np.array([True, False, False, False])
    labels = label_map(result, is_stuff)
    assert labels.dtype == np.uint16
    assert labels.tolist() == [[3, 1, 3, 2, 3, 2, 3, 0]]
    assert label_map(result, ~is_stuff).tolist() == [[1, 1, 1, 1, 3, 2, 3, 0]]
    # What is left over goes to the highest proposal of what was kept, stuff or not.
    assert foreground_map(result, labels).tolist() == [[3, 1, 3, 2, 3, 2, 3, 1]]


def test_every_pixel_has_a_class_though_none_is_kept() -> None:
    empty = result_of(["..", ".."], [0.2, 0.3], [[0.0, 0.0], [0.0, 0.0]])
    labels = label_map(empty, np.array([False, False]))
    assert not labels.any()
    assert foreground_map(empty, labels).tolist() == [[2, 2]]


def test_things_and_stuff_have_a_crf_each(image: NDArray[np.uint8]) -> None:
    """And what things cover is no longer stuff's."""
    rng = np.random.default_rng(3)
    proposals = rng.random((4, *image.shape[:2]), np.float32)
    stuff = np.array([False, True, False, True])
    sharpen = Sharpener(load_config("default", SEMANTIC), None)
    made = sharpen(image, proposals, stuff)
    things = sharpen(image, proposals[~stuff])
    assert (made[~stuff] == things).all()
    assert (made[stuff] == (sharpen(image, proposals[stuff]) & ~things.any(axis=0))).all()
    assert (made.sum(axis=0) <= 1).all()


def test_rows_that_lie_side_by_side_are_not_copied() -> None:
    owners = np.array([0, 1, 1, 2, 0])
    assert rows_in(owners, 1) == slice(1, 3) and rows_in(owners, 2) == slice(3, 4)
    rows = rows_in(owners, 0)
    assert isinstance(rows, np.ndarray) and rows.tolist() == [0, 4]


def test_what_a_saturated_softmax_leaves_is_a_cam(
    backbones: Backbones, image: NDArray[np.uint8]
) -> None:
    """Of two texts the direction of the gradient does not hang on how sure the softmax is."""
    backbone = backbones[0]
    features = backbone.encode_patches(to_pixels(image, (40, 56)))
    pooled = F.normalize(backbone.model.visual_projection.weight @ features.mean, dim=0)
    across = F.normalize(torch.randn(len(pooled), generator=torch.manual_seed(0)), dim=0)
    texts = torch.stack([pooled, F.normalize(across - 0.2 * pooled, dim=0)]).detach()
    cams = []
    for scale in (1.0, 60.0):
        backbone.logit_scale = scale
        cams.append(backbone.gradient_cams(features, texts[:1], texts[1:], competing=True)[0])
    assert 0 < cams[1].max() < 1e-20
    made, expected = (cam / cam.max() for cam in cams)
    torch.testing.assert_close(made, expected, atol=1e-3, rtol=0)
