"""Frames larger than 480p: prompts as strong, as many patches, edges as sharp as theirs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from carvid.base.scale import (
    ROWS,
    Scales,
    cut_masks,
    enlarged_rows,
    resize,
    shrink,
    shrink_masks,
    small_size,
)
from carvid.car.classifier import letterbox
from carvid.car.crf import crf_masks
from carvid.car.proposals import patch_multiple
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.step import StepResult
from carvid.car.trace import Trace
from carvid.clip.backbone import ClipBackbone
from carvid.config import CrfConfig, TemporalConfig, load_config
from carvid.evaluation.regions import mask_scores
from carvid.pipeline import Carvid
from carvid.temporal.pending import KeptImage

SMALL_HW, FULL_HD, UHD = (480, 854), (1080, 1920), (2160, 3840)
TEXTS = ("a dog", "a white cat")


def blobs(size_hw: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """A smooth coloured texture, the same at every size."""
    noise = np.random.default_rng(seed).integers(0, 256, (24, 40, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(noise, size_hw[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def shape(size_hw: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A sharp star before a ground, drawn at any size, and its truth."""
    height, width = size_hw
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    radii = height * np.where(np.arange(14) % 2, 0.2, 0.4)
    points = np.stack([width / 2 + radii * np.cos(angles), height / 2 + radii * np.sin(angles)], 1)
    plane = cv2.fillPoly(np.zeros(size_hw, np.uint8), [np.round(points).astype(np.int32)], 1)
    truth = plane > 0
    noise = np.random.default_rng(1).normal(0, 4, (*size_hw, 1))
    image = np.where(truth[..., None], (200, 120, 60), (60, 90, 70)) + noise
    return np.clip(image, 0, 255).astype(np.uint8), truth


# sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_hw", [(480, 854), (854, 480), (480, 640), (100, 3000), (1, 1)])
def test_480p_and_less_stays_as_it_is(size_hw: tuple[int, int]) -> None:
    image, maps = np.zeros((*size_hw, 3), np.uint8), np.zeros((1, *size_hw), np.float32)
    assert small_size(size_hw) == size_hw
    assert shrink(image, size_hw) is image
    assert resize(maps, size_hw) is maps
    assert KeptImage(image).image() is image


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [
        (FULL_HD, (480, 853)),
        (UHD, (480, 853)),
        ((1920, 1080), (853, 480)),
        ((1080, 1440), (480, 640)),
    ],
)
def test_larger_frames_have_the_size_of_their_480p(
    size_hw: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert small_size(size_hw) == expected


@pytest.mark.parametrize(
    "size_hw",
    [FULL_HD, UHD, (1920, 1080), (1080, 1440), (1080, 1080), (1716, 4096), (2000, 1), (1, 100_000)],
)
@pytest.mark.parametrize("budget", [1, 7, 400, 1620])
def test_the_patches_stay_within_their_budget(size_hw: tuple[int, int], budget: int) -> None:
    height, width = patch_multiple(size_hw, 16, 0, budget)
    rows, columns = height // 16, width // 16
    assert height % 16 == width % 16 == 0 and 1 <= rows * columns <= budget
    if budget == 1620 and min(size_hw) > 1000:
        assert rows * columns > 0.9 * budget
        assert columns / rows == pytest.approx(size_hw[1] / size_hw[0], rel=0.03)


def test_the_budget_of_480p_changes_nothing_there() -> None:
    for size_hw in (SMALL_HW, SMALL_HW[::-1], (480, 640), (17, 16)):
        assert patch_multiple(size_hw, 16, 0, 1620) == patch_multiple(size_hw, 16)
    assert patch_multiple(SMALL_HW, 16, 432, 1620) == (256, 432)
    assert patch_multiple(FULL_HD, 16, 432, 1620) == patch_multiple(FULL_HD, 16, 432)
    assert patch_multiple(UHD, 16) == UHD


# masks, made small and large -----------------------------------------------------------------


def test_rows_of_a_plane_are_those_of_the_whole() -> None:
    plane = np.random.default_rng(0).random((50, 70), np.float32)
    size_hw = (2 * ROWS + 30, 301)
    rows = [enlarged_rows(plane, size_hw, top) for top in range(0, size_hw[0], ROWS)]
    whole = resize(plane[None], size_hw)[0]
    np.testing.assert_allclose(np.concatenate(rows), whole, atol=1e-5)


@pytest.mark.parametrize("size_hw", [FULL_HD, (1920, 1080)])
def test_an_enlarged_mask_has_the_frames_own_edges(size_hw: tuple[int, int]) -> None:
    image, truth = shape(size_hw)
    small = shrink_masks(truth[None], small_size(size_hw)) > 0.5
    guided = cut_masks(small.astype(np.float32), image)[0]
    linear = resize(small.astype(np.float32), size_hw)[0] > 0.5
    wrong, linearly_wrong = np.count_nonzero(guided != truth), np.count_nonzero(linear != truth)
    assert wrong < 0.2 * linearly_wrong


@pytest.mark.parametrize("contrast", [0, 8])
def test_without_an_edge_a_mask_is_enlarged_linearly(contrast: int) -> None:
    rng = np.random.default_rng(0)
    small = np.zeros((1, *SMALL_HW), np.float32)
    small[0, 100:300, 200:500] = 1
    image = (100 + rng.integers(0, contrast + 1, FULL_HD)).astype(np.uint8)
    wrong = cut_masks(small, image) != (resize(small, FULL_HD) > 0.5)
    assert wrong.mean() < 1e-4


def test_detail_away_from_its_edge_leaves_a_mask_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, FULL_HD, dtype=np.uint8)
    small = np.zeros((1, *SMALL_HW), np.float32)
    small[0, 100:300, 200:500] = 1
    large, linear = cut_masks(small, image)[0], resize(small, FULL_HD)[0]
    inside = linear > 0.5
    reach = np.ones((9, 9), np.uint8)  # two pixels of 480p in each direction
    near = cv2.morphologyEx(inside.view(np.uint8), cv2.MORPH_GRADIENT, reach) > 0
    assert (large == inside)[~near].all()
    assert (large != inside).mean() < 2e-3


def test_thin_masks_do_not_vanish_and_specks_do() -> None:
    masks = np.zeros((4, *UHD), bool)
    masks[0, 300:1800, 1001] = True  # a line, one pixel wide
    masks[1, 1501:1503, 200:3000] = True
    masks[2, 702, 702] = True
    masks[3, 400:900, 500:1500] = True
    small = shrink_masks(masks, SMALL_HW) > 0.5
    assert small[0].any(axis=1).sum() > 300 and small[0].sum(axis=1).max() <= 2
    assert small[1].any(axis=0).sum() > 600
    assert not small[2].any()
    assert np.count_nonzero(small[3]) == pytest.approx(500 * 1000 / 4.5**2, rel=0.01)
    thin = small[:2].astype(np.float32)
    assert cut_masks(thin, np.full(UHD, 90, np.uint8)).any(axis=(1, 2)).all()


def test_a_frame_that_waits_is_nearly_the_same() -> None:
    image = blobs(FULL_HD)
    waiting = KeptImage(image)
    difference = np.abs(waiting.image().astype(int) - image)
    assert difference.mean() < 2 and difference.max() < 40
    gray = image[..., 1].copy()
    assert np.abs(KeptImage(gray).image().astype(int) - gray).mean() < 1
    assert waiting._data.nbytes < 0.15 * image.nbytes


# the CRF -------------------------------------------------------------------------------------


def soft(truth: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A proposal of the truth, float32 (1, h, w): coarse and blurred."""
    coarse = cv2.resize(truth.astype(np.float32), (54, 30), interpolation=cv2.INTER_AREA)
    return resize(0.9 * cv2.GaussianBlur(coarse, (0, 0), 1.0)[None], truth.shape)


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_the_crf_of_a_large_frame_is_as_good_as_that_of_480p(
    backbones: tuple[ClipBackbone, ClipBackbone], mode: str
) -> None:
    scores = []
    for size_hw in (SMALL_HW, FULL_HD):
        image, truth = shape(size_hw)
        config = load_config("default", [f"crf.mode={mode}", "crf.iterations=3"])
        unit = RecurrentSegmenter(*backbones, config)
        mask = unit.sharpen(image, resize(soft(truth), small_size(size_hw)))[0]
        assert mask.shape == size_hw
        scores.append(mask_scores(mask, truth))
    (j, f), (large_j, large_f) = scores
    assert j > 0.9
    assert large_j >= j - 1e-3 and large_f >= f - 1e-3


def test_the_released_behaviour_has_the_frames_own_pixels() -> None:
    for preset in ("reference", "voc", "refcoco+", "pascal-context"):
        config = load_config(preset)
        assert (config.prompts.scale, config.crf.scale, config.proposals.max_tokens) == (
            "frame", "frame", 0,
        )  # fmt: skip


def test_the_crf_at_the_frames_own_size(backbones: tuple[ClipBackbone, ClipBackbone]) -> None:
    image, truth = shape((600, 700))
    config = load_config("default", ["crf.scale=frame", "crf.iterations=1"])
    proposals = resize(soft(truth), (480, 560))
    made = RecurrentSegmenter(*backbones, config).sharpen(image, proposals)
    own = resize(proposals, (600, 700))
    assert (made == crf_masks(image, own, CrfConfig(iterations=1), joint=False)).all()


def test_without_a_crf_proposals_are_enlarged_and_cut(
    backbones: tuple[ClipBackbone, ClipBackbone],
) -> None:
    image, truth = shape(FULL_HD)
    config = load_config("default", ["crf.enabled=false", "prompts.eta=0.4"])
    proposals = resize(soft(truth), small_size(FULL_HD))
    made = RecurrentSegmenter(*backbones, config).sharpen(image, proposals)
    assert (made == (resize(proposals, FULL_HD) > 0.4)).all()


# prompts -------------------------------------------------------------------------------------


def prompt_change(
    backbones: tuple[ClipBackbone, ClipBackbone],
    monkeypatch: pytest.MonkeyPatch,
    image: NDArray[np.uint8],
    mask: NDArray[np.float32],
    *overrides: str,
) -> float:
    """By how much a prompt changes what the classifier sees, mean over the view."""
    views: list[torch.Tensor] = []
    monkeypatch.setattr(
        ClipBackbone, "encode_images", lambda _, batch, **__: views.append(batch) or batch[:, 0, 0]
    )
    for kinds in ("circle,blur", ""):
        config = load_config("default", [f"prompts.kinds={kinds}", *overrides])
        unit = RecurrentSegmenter(*backbones, config)
        monkeypatch.setattr(unit.generator, "encode", lambda _: None)
        small = shrink(image, unit.size_of(image))
        frame = _frame(small, image)
        unit._classify(frame, [config.prompts.kinds], resize(mask[None], small.shape[:2]))
    prompted, plain = views
    return float((prompted - plain).abs().mean())


def _frame(small: NDArray[np.uint8], full: NDArray[np.uint8]) -> object:
    from carvid.car.frame import LoopFrame

    return LoopFrame(small, full, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("view", ["letterbox", "center-crop", "mask-crop"])
@pytest.mark.parametrize("portrait", [False, True])
def test_clip_sees_as_much_of_a_prompt_on_any_frame(
    backbones: tuple[ClipBackbone, ClipBackbone],
    monkeypatch: pytest.MonkeyPatch,
    view: str,
    portrait: bool,
) -> None:
    monkeypatch.setattr(backbones[1], "image_size", 224)
    picture = np.random.default_rng(3).integers(0, 256, (120, 214, 3)).astype(np.uint8)
    mask = np.zeros((120, 214), np.float32)
    cv2.ellipse(mask, (107, 60), (9, 6), 0, 0, 360, 1, -1)
    if portrait:
        picture, mask = np.rot90(picture).copy(), np.rot90(mask).copy()
    changes = {}
    for name, size_hw in {"480p": (480, 856), "1080p": FULL_HD, "4K": UHD}.items():
        size_wh = size_hw if portrait else size_hw[::-1]
        image = cv2.resize(picture, size_wh, interpolation=cv2.INTER_CUBIC)
        plane = cv2.resize(mask, size_wh, interpolation=cv2.INTER_LINEAR)
        changes[name] = prompt_change(
            backbones, monkeypatch, np.asarray(image, np.uint8), plane, f"classifier.view={view}"
        )
    assert changes["1080p"] == pytest.approx(changes["480p"], rel=0.1)
    assert changes["4K"] == pytest.approx(changes["480p"], rel=0.1)


def test_a_small_thing_is_seen_in_the_frames_detail() -> None:
    full = blobs(UHD)
    full[1000:1200:2, 1000:1200] = 0  # stripes that 480p does not have
    small = shrink(full, SMALL_HW)
    prompted = small.copy()
    box = (slice(210, 280), slice(210, 280))
    prompted[230:260, 250:260] = (255, 0, 0)
    crop = Scales(small, full).detailed(prompted[box], box)
    assert crop.shape == (315, 315, 3)
    lines = crop[1010 - 945 : 1030 - 945, 1010 - 945 : 1030 - 945]
    assert (lines[::2] == 0).all() and lines[1::2].mean() > 20
    assert (crop[110:200, 190:220] == (255, 0, 0)).all()
    same = prompted[box]
    assert Scales(small, small).detailed(same, box) is same


# the whole loop, and time --------------------------------------------------------------------


def model(backbones: tuple[ClipBackbone, ClipBackbone], *overrides: str) -> Carvid:
    config = load_config("default", ["car.theta=0", "crf.enabled=false", *overrides])
    return Carvid(config, *backbones)


def test_a_large_frame_is_understood_as_its_480p(
    backbones: tuple[ClipBackbone, ClipBackbone],
) -> None:
    unit = model(backbones, "proposals.max_tokens=400")
    results: list[StepResult] = []
    traces = [Trace(), Trace()]
    large = blobs((1080, 1922))
    for image, trace in zip((shrink(large, (480, 854)), large), traces, strict=True):
        results.append(unit.segment_image(image, TEXTS, trace=trace))
    small, full = results
    assert full.masks.shape == full.proposals.shape == (2, 1080, 1922)
    assert full.maps.shape == small.maps.shape == small.masks.shape
    np.testing.assert_allclose(full.scores, small.scores, atol=0.03)
    assert len(traces[0].steps) == len(traces[1].steps)


def moving(
    count: int, size_hw: tuple[int, int]
) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """The star, shifted by a few pixels of 480p from frame to frame."""
    image, truth = shape(size_hw)
    step = round(3 * size_hw[0] / 480)
    return [
        (np.roll(image, step * t, axis=1), np.roll(truth, step * t, axis=1)) for t in range(count)
    ]


@pytest.mark.parametrize("ahead", [True, False])
def test_edges_between_key_frames_are_those_of_key_frames(
    backbones: tuple[ClipBackbone, ClipBackbone], monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    """Key frames that have the truth; what is between must not be blurred."""
    unit = model(backbones, "temporal.key_every=3", "temporal.lag=1", "proposals.max_tokens=99")
    frames = moving(5, FULL_HD)
    truths = iter([frames[0][1], frames[3][1]])
    found = unit.segmenter.segment

    def segment(*args: object, **options: object) -> StepResult:
        result = found(*args, **options)  # type: ignore[arg-type]
        truth = next(truths)[None]
        every = {
            query: _with(each, shrink_masks(truth, each.masks.shape[1:]))
            for query, each in result.candidates.items()
        }
        small = shrink_masks(truth, result.maps.shape[1:])
        return StepResult(
            maps=small, masks=truth, query_scores=result.scores, query_cosines=result.cosines,
            queries_kept=np.ones(1, bool), candidates=every,
        )  # fmt: skip

    monkeypatch.setattr(unit.segmenter, "segment", segment)
    follow = unit.offline if ahead else unit.stream
    results = list(follow([image for image, _ in frames], ["a dog"]))
    assert [r.state.since_key for r in results] == [0, 1, 2, 0, 1]
    for result, (_, truth) in zip(results, frames, strict=True):
        assert result.masks.shape == (1, *FULL_HD)
        if result.state.since_key:
            wrong = np.count_nonzero(result.masks[0] != truth)
            linear = resize(result.maps, FULL_HD)[0] > 0.5
            assert wrong < 0.6 * np.count_nonzero(linear != truth)


def _with(candidates: object, masks: NDArray[np.float32]) -> object:
    from dataclasses import replace

    count = len(candidates.masks)  # type: ignore[attr-defined]
    return replace(candidates, masks=np.repeat(masks, count, axis=0))  # type: ignore[type-var]


def test_labels_of_a_large_frame_are_those_of_whole_planes() -> None:
    from carvid.media.label_png import label_map
    from carvid.run.result import FrameResult
    from carvid.temporal.state import TemporalState

    rng = np.random.default_rng(0)
    for size_hw in ((60, 80), (300, 400)):
        maps = cv2.blur(rng.random((60, 80, 2), np.float32), (9, 9)).transpose(2, 0, 1).copy()
        masks = rng.random((2, *size_hw)) > 0.4
        result = FrameResult(
            0, 0.0, masks, maps, np.ones(2, np.float32),
            TemporalState.initial(2),
        )  # fmt: skip
        planes = np.where(masks, 0.5 + result.proposals / 2, 0).astype(np.float32)
        differ = (result.labels() != label_map(planes)).mean()
        assert differ == 0 if size_hw == (60, 80) else differ < 1e-3


def test_the_view_of_480p_is_as_it_was() -> None:
    image = blobs(SMALL_HW)
    torch.testing.assert_close(letterbox(image, 28), letterbox(shrink(image, SMALL_HW), 28))
    assert TemporalConfig().flow_side == 854
