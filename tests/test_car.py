"""The stages f, v, g, the CRF, and the loop."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from carvid.base.errors import ExpressionError
from carvid.car.affinity import normalize_affinity
from carvid.car.classifier import center_crop, letterbox, mask_crop
from carvid.car.crf import crf_masks
from carvid.car.prompts import blur_all, draw_prompts
from carvid.car.proposals import (
    affinity_boxes,
    min_max,
    patch_multiple,
    refine,
    split_parts,
    to_masks,
)
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.trace import Trace
from carvid.clip.backbone import ClipBackbone
from carvid.config import PROMPT_KINDS, Config, CrfConfig, load_config

Backbones = tuple[ClipBackbone, ClipBackbone]


def settings(*overrides: str, preset: str = "default") -> Config:
    return load_config(preset, ["crf.iterations=2", *overrides])


def segmenter(backbones: Backbones, *overrides: str, preset: str = "default") -> RecurrentSegmenter:
    return RecurrentSegmenter(*backbones, settings(*overrides, preset=preset))


# proposals ----------------------------------------------------------------------------------


def test_boxes_are_exclusive_and_lose_the_last_column_and_row() -> None:
    cam = np.zeros((6, 8), np.float32)
    cam[1:3, 2:4] = 1
    cam[4:, 6:] = 0.9
    assert set(affinity_boxes(cam, 0.5)) == {(2, 1, 4, 3), (6, 4, 7, 5)}


def test_boxes_of_nothing_and_of_a_flat_map() -> None:
    assert affinity_boxes(np.zeros((4, 5), np.float32), 0.5) == ((0, 0, 0, 0),)
    assert affinity_boxes(np.ones((4, 5), np.float32), 1.0) == ((0, 0, 4, 3),)


def test_refine_equals_the_squared_affinity() -> None:
    rng = np.random.default_rng(0)
    affinity = normalize_affinity(torch.from_numpy(rng.random((20, 20), np.float32)))
    torch.testing.assert_close(affinity, affinity.T)
    cam = rng.random((1, 4, 5), np.float32)
    inside = np.zeros((4, 5), bool)
    inside[1:3, 0:2] = inside[0:2, 3:4] = True
    squared = (affinity @ affinity).numpy() * inside.ravel()[None]
    expected = (squared @ cam.ravel()).reshape(4, 5)
    made = refine(affinity, cam, [[(0, 1, 2, 3), (3, 0, 4, 2)]])[0]
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_min_max_and_resize() -> None:
    maps = np.stack([np.arange(12, dtype=np.float32).reshape(3, 4), np.full((3, 4), 7, np.float32)])
    scaled = min_max(maps)
    assert (scaled[0].min(), scaled[0].max(), scaled[1].max()) == (0, 1, 0)
    assert to_masks(maps, (9, 16)).shape == (2, 9, 16)


@pytest.mark.parametrize(
    ("size_hw", "patch", "most", "expected"),
    [
        ((480, 854), 16, 0, (480, 864)),
        ((480, 854), 16, 432, (256, 432)),
        ((17, 16), 16, 0, (32, 16)),
        ((30, 20), 8, 100, (32, 24)),
    ],
)
def test_patch_multiple(
    size_hw: tuple[int, int], patch: int, most: int, expected: tuple[int, int]
) -> None:
    assert patch_multiple(size_hw, patch, most) == expected


# prompts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROMPT_KINDS)
def test_every_prompt_marks_the_mask(kind: str, image: NDArray[np.uint8]) -> None:
    mask = np.zeros(image.shape[:2], bool)
    mask[8:20, 10:30] = True
    made = draw_prompts(image, mask, [kind])
    assert made.shape == image.shape and made.dtype == np.uint8
    assert (draw_prompts(image, mask, [kind], blur_all(image)) == made).all()
    changed = (made != image).any(axis=2)
    assert changed.any()
    if kind in ("blur", "gray", "black"):
        assert not changed[mask].any()
    else:
        assert (made[changed] == (255, 0, 0)).all()


def test_tiny_masks_leave_the_image_alone(image: NDArray[np.uint8]) -> None:
    mask = np.zeros(image.shape[:2], bool)
    mask[3, 3] = True
    assert (draw_prompts(image, mask, PROMPT_KINDS) == image).all()


def test_prompts_combine_in_their_fixed_order(image: NDArray[np.uint8]) -> None:
    mask = np.zeros(image.shape[:2], bool)
    mask[8:20, 10:30] = True
    one, other = (draw_prompts(image, mask, k) for k in (["circle", "blur"], ["blur", "circle"]))
    assert (one == other).all()
    red = (draw_prompts(image, mask, ["circle"]) != image).any(axis=2)
    assert (one[red] == (255, 0, 0)).all()


def test_prompts_check_their_input(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="mask must be bool"):
        draw_prompts(image, np.zeros(image.shape[:2], np.uint8), ["blur"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown visual prompts"):
        draw_prompts(image, np.zeros(image.shape[:2], bool), ["glow"])


# views --------------------------------------------------------------------------------------


def test_views_have_the_networks_size(image: NDArray[np.uint8]) -> None:
    assert letterbox(image, 28).shape == center_crop(image, 28).shape == (3, 28, 28)
    padding = letterbox(image, 48)[:, 0, :]
    torch.testing.assert_close(padding, torch.zeros_like(padding), atol=0.01, rtol=0)


def test_mask_crop_is_a_square_around_the_mask(image: NDArray[np.uint8]) -> None:
    mask = np.zeros(image.shape[:2], bool)
    mask[10:20, 20:26] = True
    crop = mask_crop(image, mask, 1.6)
    assert crop.shape == (16, 16, 3)
    assert (crop == image[7:23, 15:31]).all()


# CRF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_crf_follows_the_picture(mode: str) -> None:
    image = np.full((40, 60, 3), 40, np.uint8)
    image[10:30, 20:40] = (220, 60, 60)
    proposal = np.zeros((1, 40, 60), np.float32)
    proposal[0, 8:32, 18:42] = 0.7
    proposal = np.stack([cv2.GaussianBlur(proposal[0], (9, 9), 0), np.zeros((40, 60), np.float32)])
    masks = crf_masks(image, proposal, CrfConfig(mode=mode), joint=False)
    truth = (image == (220, 60, 60)).all(axis=2)
    assert (masks[0] & truth).sum() / (masks[0] | truth).sum() > 0.95
    assert not masks[1].any()


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_joint_crf_gives_a_pixel_to_one_mask(mode: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    proposals = rng.random((3, 20, 30), np.float32)
    masks = crf_masks(image, proposals, CrfConfig(mode=mode, iterations=2), joint=True)
    assert masks.shape == (3, 20, 30)
    assert masks.sum(axis=0).max() == 1


def drawn_case(count: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a picture of blobs on a textured ground, and blurred and shifted proposals of them."""
    rng = np.random.default_rng(2)
    image = cv2.resize(rng.integers(60, 90, (30, 40, 3), dtype=np.uint8), (160, 120))
    proposals = np.zeros((count, 120, 160), np.float32)
    for k, proposal in enumerate(proposals):
        x = 30 + 50 * k
        cv2.circle(image, (x, 60), 18, tuple(int(c) for c in rng.integers(100, 255, 3)), -1)
        cv2.circle(proposal, (x + 4, 57), 20, 0.9, -1)
        proposal[:] = cv2.GaussianBlur(proposal, (0, 0), 6)
    noisy = image + rng.normal(0, 4, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), proposals


@pytest.mark.parametrize("joint", [False, True])
def test_fast_crf_is_close_to_the_exact_one(joint: bool) -> None:
    image, proposals = drawn_case(3)
    exact, fast = (
        crf_masks(image, proposals, CrfConfig(mode=mode), joint=joint) for mode in ("exact", "fast")
    )
    assert (exact != (proposals > 0.5)).any(axis=(1, 2)).all()  # there was something to do
    assert ((exact & fast).sum(axis=(1, 2)) / (exact | fast).sum(axis=(1, 2)) > 0.97).all()


def test_fast_crf_on_all_pixels_is_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carvid.car.fast_crf.SURELY_BACKGROUND", 2.0)
    image, proposals = drawn_case(1)
    exact, fast = (
        crf_masks(image, proposals, CrfConfig(mode=mode), joint=False) for mode in ("exact", "fast")
    )
    assert (exact != fast).mean() < 1e-3


@pytest.mark.parametrize("sxy", [0.5, 5.0, 67.0, 400.0])
@pytest.mark.parametrize("srgb", [0.5, 3.0, 1000.0])
def test_fast_crf_stays_in_range(sxy: float, srgb: float) -> None:
    """A kernel too wide or too narrow for the filter's range would warn of infinities."""
    image, proposals = drawn_case(2)
    for picture in (image, np.full_like(image, 9)):
        exact, fast = (
            crf_masks(
                picture,
                proposals,
                CrfConfig(mode=mode, bilateral_sxy=sxy, bilateral_srgb=srgb),
                joint=False,
            )
            for mode in ("exact", "fast")
        )
        assert (exact != fast).mean() < 0.02


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_each_mask_has_its_own_crf(mode: str) -> None:
    image, proposals = drawn_case(2)
    both = crf_masks(image, proposals, CrfConfig(mode=mode), joint=False)
    for proposal, mask in zip(proposals, both, strict=True):
        alone = crf_masks(image, proposal[None], CrfConfig(mode=mode), joint=False)[0]
        different = (alone != mask).mean()
        assert different == 0 if mode == "exact" else different < 0.005


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_crf_of_a_flat_proposal(image: NDArray[np.uint8], mode: str, value: float) -> None:
    flat = np.full((1, *image.shape[:2]), value, np.float32)
    assert (crf_masks(image, flat, CrfConfig(mode=mode), joint=False) == (value > 0.5)).all()


def test_crf_refuses_what_pydensecrf_would_swallow(image: NDArray[np.uint8]) -> None:
    bad = np.full((1, *image.shape[:2]), np.nan, np.float32)
    with pytest.raises(ValueError, match="finite"):
        crf_masks(image, bad, CrfConfig(), joint=False)
    with pytest.raises(ValueError, match="proposals must be"):
        crf_masks(image, bad[:, 1:], CrfConfig(), joint=False)


def test_parts_of_a_map() -> None:
    plane = np.zeros((6, 9), np.float32)
    plane[1:3, 1:3] = (0.6, 0.7)  # a blob with its slope
    plane[1, 3] = 0.2
    plane[4, 6:8] = 1.0
    plane[0, 8] = 0.5
    maps = np.stack([plane, np.zeros_like(plane)])
    parts, owners = split_parts(maps, 0.4, [2] * len(maps))
    assert owners.tolist() == [0, 0, 1]
    assert [float(part.max()) for part in parts] == [1.0, np.float32(0.7), 0.0]
    assert parts[1][1, 3] == np.float32(0.2) and not parts[1][3:].any()
    assert (split_parts(maps[:1], 0.4, [9])[0].sum(axis=0) <= plane).all()


def test_the_classifier_chooses_among_parts(backbones: Backbones, image: NDArray[np.uint8]) -> None:
    texts = ("a dog", "a cat")
    chosen = ("car.theta=0", "car.max_steps=1", "proposals.affinity=false")
    trace = Trace()
    segmenter(backbones, *chosen, "proposals.parts=4").segment(image, Queries(texts), trace=trace)
    (step,) = trace.steps
    unit = segmenter(backbones, *chosen)
    parts, owners = split_parts(step.proposals.refined, 0.4, [4] * len(step.proposals.refined))
    assert len(parts) > len(texts)
    masks = to_masks(parts, image.shape[:2])
    views = [draw_prompts(image, mask > 0.5, unit.config.prompts.kinds) for mask in masks]
    scores = unit.classifier.score(unit.classifier.encode(views, masks > 0.5), step.competitors)
    for query in range(len(texts)):
        mine = np.flatnonzero(owners == query)
        best = mine[scores[mine, query].argmax()]
        assert (step.proposals.masks[query] == masks[best]).all()
        assert step.own[query] == pytest.approx(scores[best, query], rel=1e-4)


# the loop -----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["default", "reference"])
@pytest.mark.parametrize("count", [1, 3])
def test_passes_are_as_few_as_can_be(
    backbones: Backbones, image: NDArray[np.uint8], preset: str, count: int
) -> None:
    generator, classifier = backbones
    templates = "classifier.templates=a clean origami {}.,a photo of {}"
    unit = segmenter(backbones, "car.theta=0", templates, preset=preset)
    texts = ("a dog", "a cat", "a ball")[:count]
    trace = Trace()
    unit.segment(image, Queries(texts), trace=trace)
    assert generator.counts["patches"] == 1
    masks = {
        mask.tobytes()
        for step in trace.steps
        if len(step.competitors) > 1  # a text without competitors scores 1 unseen
        for mask in step.proposals.masks > 0.5
    }  # different masks, whatever the number of steps and templates
    assert classifier.counts["images"] == len(masks)
    encoded = (generator.counts["texts"], classifier.counts["texts"])
    unit.segment(image, Queries(texts))
    assert (generator.counts["texts"], classifier.counts["texts"]) == encoded


def test_one_expression_can_be_absent(backbones: Backbones, image: NDArray[np.uint8]) -> None:
    """Against the background words a lone query has a score under θ, and an empty mask."""
    unit = segmenter(backbones, "car.theta=0.9999")
    trace = Trace()
    result = unit.segment(image, Queries(("a dog",)), trace=trace)
    assert trace.steps[0].competitors[0] == "a dog"
    assert "ground" in trace.steps[0].competitors
    assert 0 < result.scores[0] < 0.9999
    assert not result.kept[0] and not result.masks.any()
    kept = segmenter(backbones, "car.theta=0.9999", "car.present=best")
    assert kept.segment(image, Queries(("a dog",))).kept[0]
    alone = segmenter(backbones, "classifier.background=never")
    assert alone.segment(image, Queries(("a dog",))).scores[0] == 1


def test_equal_expressions_keep_a_label_each(
    backbones: Backbones, image: NDArray[np.uint8]
) -> None:
    queries = Queries(("a dog", "A  Dog", "a cat"))
    result = segmenter(backbones, "car.theta=0").segment(image, queries)
    assert result.scores[0] == result.scores[1]
    assert (result.masks[0] == result.masks[1]).all()
    collapsed = segmenter(backbones, "car.theta=0", preset="reference").segment(
        image, Queries(("a dog", "a dog", "a cat"))
    )
    assert collapsed.kept.tolist() == [True, False, True]
    assert not collapsed.masks[1].any()


def test_distractors_compete_without_a_mask(backbones: Backbones, image: NDArray[np.uint8]) -> None:
    trace = Trace()
    unit = segmenter(backbones, "car.theta=0")
    result = unit.segment(image, Queries(("a dog",), ("a cat", "sky")), trace=trace)
    assert trace.steps[0].competitors[:3] == ("a dog", "a cat", "sky")
    assert trace.steps[0].competitors.count("sky") == 1
    assert result.masks.shape == (1, *image.shape[:2])
    assert result.scores.shape == result.kept.shape == (1,)
    assert result.distractor_scores.shape == result.distractors_kept.shape == (2,)
    own = trace.steps[0].own
    assert [*result.scores, *result.distractor_scores] == own.tolist()
    assert result.query_scores.tolist() == own.tolist() and result.queries_kept.all()


def test_steps_prune_until_h_stands_still(backbones: Backbones, image: NDArray[np.uint8]) -> None:
    texts = ("a dog", "a cat", "a ball", "a woman")
    trace = Trace()
    unit = segmenter(backbones, "car.theta=0.2", "classifier.background=never")
    result = unit.segment(image, Queries(texts), trace=trace)
    for before, step in zip(trace.steps, trace.steps[1:], strict=False):
        assert step.queries == before.kept
    for step in trace.steps:
        np.testing.assert_allclose(step.scores.sum(axis=1), 1, rtol=1e-5)
        assert step.kept == tuple(
            q for q, own in zip(step.queries, step.own, strict=True) if own > 0.2
        )
    assert trace.steps[-1].kept in ((), trace.steps[-1].queries)
    assert tuple(np.flatnonzero(result.kept)) == trace.steps[-1].kept


def test_semantic_mode_and_stuff(backbones: Backbones, image: NDArray[np.uint8]) -> None:
    unit = segmenter(
        backbones,
        "car.mode=semantic",
        "car.theta=0",
        "prompts.stuff=sky",
        "classifier.background=never",
    )
    result = unit.segment(image, Queries(("a dog", "sky")))
    assert result.masks.sum(axis=0).max() <= 1


def test_no_background_queries_still_gives_proposals(
    backbones: Backbones, image: NDArray[np.uint8]
) -> None:
    """The released code crashes here: a softmax over one text has no gradient."""
    config = settings("car.theta=0", "classifier.background=never")
    config = dataclasses.replace(
        config, proposals=dataclasses.replace(config.proposals, background=())
    )
    highest = []
    for text in ("a dog", "a cat", "a ball", "a woman"):
        trace = Trace()
        RecurrentSegmenter(*backbones, config).segment(image, Queries((text,)), trace=trace)
        assert trace.steps[0].proposals.recomputed.tolist() == [True]
        highest.append(trace.steps[0].proposals.cams.max())
    assert max(highest) == 1  # a random network may still find nothing for some text


def test_queries_and_images_are_checked(backbones: Backbones) -> None:
    with pytest.raises(ExpressionError, match="no expression"):
        Queries(())
    with pytest.raises(ExpressionError, match="empty"):
        Queries(("a dog", "  "))
    with pytest.raises(ValueError, match=r"image must be uint8 \(H, W, 3\), got float64"):
        segmenter(backbones).segment(np.zeros((4, 4, 3)), Queries(("a dog",)))  # type: ignore[arg-type]
