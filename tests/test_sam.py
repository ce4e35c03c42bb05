"""SAM: matching, the two formats of weights, automatic and prompted masks, the cache."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import SamConfig as SamModelConfig
from transformers import SamModel
from typer.testing import CliRunner

from carvid.base.errors import OutputError, WeightsError
from carvid.base.masks import box_of
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.cli import app
from carvid.clip.backbone import ClipBackbone
from carvid.config import SamConfig, load_config
from carvid.evaluation.regions import mask_scores
from carvid.sam.automatic import automatic_masks, non_maximum_suppression
from carvid.sam.cache import MaskCache, cache_folder
from carvid.sam.network import SamNetwork, inner_points
from carvid.sam.refiner import Ensemble, match_masks, prompted, sam_refiner
from carvid.sam.weights import load_sam
from tests.conftest import make_frames
from tests.fake_hub import FakeHub

Bools = NDArray[np.bool_]
EXAMPLE = Path(__file__).parent.parent / "examples" / "dog-jumping"


# matching -----------------------------------------------------------------------------------


def strip(*runs: tuple[int, int]) -> Bools:
    """A mask of 1 × 40 pixels that is true from each start to each end."""
    mask = np.zeros((1, 40), bool)
    for start, end in runs:
        mask[0, start:end] = True
    return mask


NONE = strip()
CASES = {
    "equal": (strip((0, 10)), [strip((0, 10))], strip((0, 10)), strip((0, 10))),
    "disjoint": (strip((0, 10)), [strip((20, 30))], strip((0, 10)), strip((20, 30))),
    "no automatic mask": (strip((0, 10)), [], strip((0, 10)), strip((0, 10))),
    "empty automatic mask": (strip((0, 10)), [NONE], strip((0, 10)), strip((0, 10))),
    "empty mask": (NONE, [strip((0, 10))], NONE, NONE),
    "parts inside": (
        strip((0, 10)), [strip((0, 5)), strip((5, 9))], strip((0, 9)), strip((0, 9)),
    ),
    "parts reach out a little": (
        strip((0, 10)), [strip((0, 6)), strip((6, 11))], strip((0, 11)), strip((0, 11)),
    ),
    "mask inside a far larger one": (
        strip((0, 10)), [strip((0, 40))], strip((0, 10)), strip((0, 40)),
    ),
    "mask inside a little larger one": (
        strip((0, 10)), [strip((0, 12))], strip((0, 12)), strip((0, 12)),
    ),
    "small part of the mask": (
        strip((0, 10)), [strip((0, 3))], strip((0, 10)), strip((0, 3)),
    ),
    "IoM exactly at its threshold": (  # 7 of 10
        strip((0, 20)), [strip((13, 23)), strip((0, 4))], strip((0, 20)), strip((0, 4)),
    ),
    "IoM just above": (  # 8 of 10, and then IoU 20 of 22
        strip((0, 20)), [strip((12, 22)), strip((0, 12))], strip((0, 22)), strip((0, 22)),
    ),
    "IoU exactly at its threshold": (  # 7 of 10
        strip((0, 10)), [strip((0, 7))], strip((0, 10)), strip((0, 7)),
    ),
    "best IoM, where none is enough": (
        strip((0, 20)), [strip((17, 27)), strip((15, 25))], strip((0, 20)), strip((15, 25)),
    ),
}  # fmt: skip
"""A mask, automatic masks, and what the paper's and the released rule make of them."""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rule", ["paper", "released"])
def test_hand_made_matches(name: str, rule: str) -> None:
    mask, automatic, *expected = CASES[name]
    parts = np.stack(automatic) if automatic else np.zeros((0, 1, 40), bool)
    found = match_masks(mask[None], parts, SamConfig(match=rule))
    assert (found[0] == expected[rule == "released"]).all()


def brute_force(
    mask: Bools, automatic: Bools, rule: str, iom_bound: float, iou_bound: float
) -> set[tuple[int, ...]]:
    """Return the pixels that the same rules give, with sets."""
    pixels = {tuple(p) for p in np.argwhere(mask)}
    parts = [{tuple(p) for p in np.argwhere(part)} for part in automatic]
    parts = [part for part in parts if part]
    if not pixels or not parts:
        return pixels
    ioms = [len(part & pixels) / min(len(part), len(pixels)) for part in parts]
    union: set[tuple[int, ...]] = set()
    for part, iom in zip(parts, ioms, strict=True):
        if iom > iom_bound:
            union |= part
    if rule == "released":
        return union or parts[ioms.index(max(ioms))]
    either = len(union | pixels)
    return union if len(union & pixels) / either > iou_bound else pixels


@settings(max_examples=150, deadline=None)
@given(
    masks=arrays(bool, (2, 3, 4)),
    automatic=st.integers(0, 4).flatmap(lambda count: arrays(bool, (count, 3, 4))),
    rule=st.sampled_from(["paper", "released"]),
    # Bounds that ratios of small areas meet exactly.
    iom=st.sampled_from([0.0, 0.25, 0.5, 0.7, 0.75, 1.0]),
    iou=st.sampled_from([0.0, 0.25, 0.5, 0.7, 0.75, 1.0]),
)
def test_matching_equals_brute_force(
    masks: Bools, automatic: Bools, rule: str, iom: float, iou: float
) -> None:
    found = match_masks(masks, automatic, SamConfig(match=rule, phi_iom=iom, phi_iou=iou))
    for mask, sharper in zip(masks, found, strict=True):
        expected = brute_force(mask, automatic, rule, iom, iou)
        assert {tuple(p) for p in np.argwhere(sharper)} == expected


def test_matching_checks_sizes_and_leaves_its_input_alone() -> None:
    masks = np.ones((1, 3, 4), bool)
    match_masks(masks, np.eye(3, 4, dtype=bool)[None], SamConfig(match="released"))
    assert masks.all()
    with pytest.raises(ValueError, match="automatic masks must be"):
        match_masks(masks, np.ones((1, 4, 4), bool), SamConfig())


def test_perfect_automatic_masks_raise_j_and_f() -> None:
    """Truth of the example in pieces, against masks whose outlines are wrong and ragged."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:360, :640] // 120
    gains = []
    for path in sorted(EXAMPLE.glob("*.png"))[::16]:
        truth = np.array(Image.open(path)) == 1
        noise = cv2.resize(rng.standard_normal((20, 36)).astype(np.float32), truth.shape[::-1])
        soft = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 6)
        wrong = soft + 0.25 * noise * (soft > 0.02) > 0.45
        cells = (rows * 100 + columns) * 2 + truth
        pieces = np.stack([cells == cell for cell in np.unique(cells)])
        sharp = match_masks(wrong[None], pieces, SamConfig())[0]
        gains.append(np.mean(mask_scores(sharp, truth)) - np.mean(mask_scores(wrong, truth)))
    assert np.mean(gains) > 0.05


def test_the_segmenter_asks_once_for_all_masks(
    backbones: tuple[ClipBackbone, ClipBackbone], image: NDArray[np.uint8]
) -> None:
    seen: list[tuple[int, ...]] = []

    def sharpen(frame: NDArray[np.uint8], masks: Bools) -> Bools:
        assert (frame == image).all()
        seen.append(masks.shape)
        return ~masks

    config = load_config("default", ["car.theta=0", "crf.iterations=2"])
    plain = RecurrentSegmenter(*backbones, config)
    sharp = RecurrentSegmenter(*backbones, config, sharpen)
    queries = Queries(("a dog", "a cat"))
    before, after = (unit.segment(image, queries) for unit in (plain, sharp))
    assert seen == [(2, *image.shape[:2])]
    assert (after.masks == ~before.masks).all()


def test_nothing_is_generated_for_empty_masks(image: NDArray[np.uint8]) -> None:
    def generate(_: NDArray[np.uint8]) -> Bools:
        raise AssertionError

    masks = np.zeros((2, *image.shape[:2]), bool)
    assert not Ensemble(generate, SamConfig())(image, masks).any()


# the network --------------------------------------------------------------------------------

ORIGINAL = (
    ("vision_encoder.patch_embed.projection", "image_encoder.patch_embed.proj"),
    ("vision_encoder.neck.conv1", "image_encoder.neck.0"),
    ("vision_encoder.neck.layer_norm1", "image_encoder.neck.1"),
    ("vision_encoder.neck.conv2", "image_encoder.neck.2"),
    ("vision_encoder.neck.layer_norm2", "image_encoder.neck.3"),
    ("vision_encoder.layers", "image_encoder.blocks"),
    ("vision_encoder", "image_encoder"),
    ("prompt_encoder.shared_embedding.positional_embedding",
     "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    ("prompt_encoder.mask_embed.conv1", "prompt_encoder.mask_downscaling.0"),
    ("prompt_encoder.mask_embed.layer_norm1", "prompt_encoder.mask_downscaling.1"),
    ("prompt_encoder.mask_embed.conv2", "prompt_encoder.mask_downscaling.3"),
    ("prompt_encoder.mask_embed.layer_norm2", "prompt_encoder.mask_downscaling.4"),
    ("prompt_encoder.mask_embed.conv3", "prompt_encoder.mask_downscaling.6"),
    (".point_embed.", ".point_embeddings."),
    ("upscale_conv1", "output_upscaling.0"),
    ("upscale_layer_norm", "output_upscaling.1"),
    ("upscale_conv2", "output_upscaling.3"),
    (".layers.0.weight", ".layers.1.weight"),
    (".layers.0.bias", ".layers.1.bias"),
    ("proj_in", "layers.0"),
    ("proj_out", "layers.2"),
    ("layer_norm_final_attn", "norm_final_attn"),
    ("layer_norm", "norm"),
)  # fmt: skip
"""Names in a `SamModel`, and in the files of segment-anything; all that fit are replaced."""


def original_state(model: SamModel) -> dict[str, Tensor]:
    """Return the weights as segment-anything names them."""
    state = {}
    for key, value in model.state_dict().items():
        name = key
        for ours, theirs in ORIGINAL:
            name = name.replace(ours, theirs)
        if not key.startswith("shared_image_embedding"):
            state[name] = value.clone()
    return state


def make_sam(seed: int = 0) -> SamModel:
    """A seeded SAM of the real class, whose sizes differ, with one global block."""
    torch.manual_seed(seed)
    config = SamModelConfig(
        vision_config={
            "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_dim": 40,
            "image_size": 64, "patch_size": 8, "output_channels": 16, "window_size": 3,
            "global_attn_indexes": [1], "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 12,
        },
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 28, "iou_head_hidden_dim": 20},
    )  # fmt: skip
    model = SamModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 1.0 / max(parameter.shape[-1], 4) ** 0.5)
    model.tie_weights()
    return model


@pytest.fixture(scope="session")
def sams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same SAM as a checkpoint of segment-anything and as a folder."""
    folder = tmp_path_factory.mktemp("sam")
    model = make_sam()
    model.save_pretrained(folder / "folder")
    torch.save(original_state(model), folder / "sam.pth")
    return {"folder": str(folder / "folder"), "pth": str(folder / "sam.pth")}


EASY = SamConfig(
    points_per_side=4, points_per_batch=5, min_iou=-1e9, min_stability=0.0, max_box_iou=0.95,
    phi_iou=0.0, cache="off",
)  # fmt: skip
"""Settings with which random weights give masks."""


def test_names_of_the_checkpoint_are_those_of_segment_anything(sams: dict[str, str]) -> None:
    names = set(torch.load(sams["pth"], weights_only=True))
    assert {
        "image_encoder.pos_embed",
        "image_encoder.patch_embed.proj.weight",
        "image_encoder.blocks.1.attn.rel_pos_h",
        "image_encoder.blocks.2.norm1.bias",
        "image_encoder.blocks.0.mlp.lin2.weight",
        "image_encoder.neck.3.weight",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "prompt_encoder.point_embeddings.3.weight",
        "prompt_encoder.not_a_point_embed.weight",
        "prompt_encoder.mask_downscaling.6.weight",
        "mask_decoder.transformer.layers.1.norm4.weight",
        "mask_decoder.transformer.layers.0.cross_attn_image_to_token.out_proj.bias",
        "mask_decoder.transformer.norm_final_attn.weight",
        "mask_decoder.iou_token.weight",
        "mask_decoder.output_upscaling.1.weight",
        "mask_decoder.output_upscaling.3.bias",
        "mask_decoder.output_hypernetworks_mlps.3.layers.2.weight",
        "mask_decoder.iou_prediction_head.layers.1.weight",
    } <= names
    assert not any("vision_encoder" in name or "layer_norm" in name for name in names)


@pytest.mark.parametrize("form", ["folder", "pth"])
def test_both_formats_load_as_the_model_that_was_saved(sams: dict[str, str], form: str) -> None:
    expected, loaded = make_sam().state_dict(), load_sam(sams[form], "cpu")
    state = loaded.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    points = torch.tensor([[[[20.0, 30.0]]]])
    outputs = [model(pixel_values=pixels, input_points=points) for model in (make_sam(), loaded)]
    for name in ("pred_masks", "iou_scores"):
        first, second = (output[name] for output in outputs)
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_automatic_masks(sams: dict[str, str], image: NDArray[np.uint8]) -> None:
    masks = automatic_masks(SamNetwork(load_sam(sams["pth"], "cpu")), image, EASY)
    assert masks.dtype == bool and masks.shape[1:] == image.shape[:2]
    assert 1 < len(masks) <= 3 * 16 and masks.any(axis=(1, 2)).all()
    boxes = [box_of(mask) for mask in masks]
    thick = [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes if x1 - x0 > 1 and y1 - y0 > 1]
    assert thick and len(set(thick)) == len(thick)
    batches = SamConfig(**{**vars(EASY), "points_per_batch": 16})
    together = automatic_masks(SamNetwork(load_sam(sams["folder"], "cpu")), image, batches)
    assert (together == masks).all()


def test_automatic_masks_are_those_of_each_point(
    sams: dict[str, str], image: NDArray[np.uint8]
) -> None:
    """One point, by the model alone: the mask of the whole input, cut and scaled to the frame."""
    config = SamConfig(**{**vars(EASY), "points_per_side": 1})
    model = load_sam(sams["pth"], "cpu")
    network = SamNetwork(model)
    height, width = image.shape[:2]  # 34 × 48 → 45 × 64
    embedding = network.embed(image).values
    assert embedding.shape == (1, 16, 8, 8)
    output = model(
        image_embeddings=embedding, input_points=torch.tensor([[[[32.0, 22.5]]]]),
        input_labels=torch.ones((1, 1, 1), dtype=torch.int64),
    )  # fmt: skip
    full = torch.nn.functional.interpolate(output.pred_masks[0], (64, 64), mode="bilinear")
    cut = torch.nn.functional.interpolate(full[:, :, :45], (height, width), mode="bilinear") > 0
    expected = {mask.numpy().tobytes() for mask in cut[0] if mask.any()}
    found = {mask.tobytes() for mask in automatic_masks(network, image, config)}
    assert found and found <= expected


def test_prompted_masks(sams: dict[str, str], image: NDArray[np.uint8]) -> None:
    masks = np.zeros((3, *image.shape[:2]), bool)
    masks[0, 8:20, 4:16] = True
    masks[2, 20:30, 20:45] = True
    network = SamNetwork(load_sam(sams["pth"], "cpu"))
    refine = prompted(network, EASY)
    drawn = refine(image, masks)
    assert drawn.shape == masks.shape and not drawn[1].any()
    assert (drawn != masks).any()
    alone = refine(image, masks[2:])
    assert (alone[0] == drawn[2]).all()
    strict = SamConfig(**{**vars(EASY), "phi_iou": 1.0})
    assert (prompted(network, strict)(image, masks) == masks).all()


def test_a_prompt_is_the_mask_in_the_padded_input(sams: dict[str, str]) -> None:
    network = SamNetwork(load_sam(sams["pth"], "cpu"))
    mask = np.zeros((32, 64), bool)
    mask[:, 32:] = True
    prompt = network._mask_prompt(mask)[0, 0]
    assert prompt.shape == (32, 32)
    assert (prompt[:16, 16:] == 10).all()
    assert (prompt[:16, :16] == -10).all() and (prompt[16:] == -10).all()


def test_inner_points() -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:16, 5:16] = True
    mask[20:31, 40:51] = True
    assert {tuple(p) for p in inner_points(mask, 3)} == {(10, 10), (45, 25)}
    assert len(inner_points(np.ones((9, 9), bool), 1)) == 1
    thin = np.zeros((9, 9), bool)
    thin[4, 4] = True
    assert inner_points(thin, 3).tolist() == [[4, 4]]


def test_suppression_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 7], [20, 0, 30, 10]])
    scores = np.array([0.5, 0.9, 0.7, 0.1])
    # 90 of 100 and 70 of 90 are too much, then nothing is left to suppress the last.
    assert non_maximum_suppression(boxes, scores, 0.7).tolist() == [1, 3]
    assert non_maximum_suppression(boxes, scores, 0.8).tolist() == [1, 2, 3]
    # Exactly met is not above.
    assert non_maximum_suppression(boxes[:2], scores[:2], 0.9).tolist() == [1, 0]
    assert non_maximum_suppression(boxes[:0], scores[:0], 0.7).tolist() == []


def test_boxes_without_an_area_all_stay() -> None:
    """As in segment-anything, where the IoU of two such is 0 / 0, and above nothing."""
    boxes = np.array([[5, 0, 5, 9], [0, 0, 10, 10], [5, 0, 5, 9], [0, 0, 10, 10], [3, 3, 3, 3]])
    scores = np.array([0.5, 0.9, 0.6, 0.8, 0.7])
    assert non_maximum_suppression(boxes, scores, 0.7).tolist() == [1, 4, 2, 0]


def plain_suppression(
    boxes: NDArray[np.int64], scores: Sequence[float], most: Fraction
) -> list[int]:
    """Greedy suppression by sets of pixels, in exact numbers."""
    pixels = [set(product(range(x0, x1), range(y0, y1))) for x0, y0, x1, y1 in boxes.tolist()]
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        pairs = [(len(pixels[i] & pixels[k]), len(pixels[i] | pixels[k])) for k in kept]
        if all(both * most.denominator <= most.numerator * either for both, either in pairs):
            kept.append(i)
    return kept


@settings(max_examples=300, deadline=None)
@given(
    corners=arrays(np.int64, st.tuples(st.integers(0, 25), st.just(2), st.just(2)),
                   elements=st.integers(0, 9)),
    data=st.data(),
    most=st.sampled_from(["0", "0.1", "0.25", "0.3", "0.5", "0.7", "0.75", "0.9", "0.95", "1"]),
)  # fmt: skip
def test_suppression_equals_a_plain_one(
    corners: NDArray[np.int64], data: st.DataObject, most: str
) -> None:
    """Equal and negative scores, equal boxes, and small areas, whose IoUs are often the bound."""
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=1)
    of_few = st.sampled_from([-3.0, 0.0, 0.5, np.nextafter(0.5, 1), 2.0])
    scores = data.draw(st.lists(of_few, min_size=len(boxes), max_size=len(boxes)))
    found = non_maximum_suppression(boxes, np.array(scores), float(most))
    assert found.tolist() == plain_suppression(boxes, scores, Fraction(most))


def test_suppression_is_exact_at_the_bound_at_a_frames_size() -> None:
    """63 of 90 is 0.7, which floating-point numbers round either way; so with larger boxes."""
    for scale in (1, 3, 7, 40, 64):
        for width, inner in ((10, 7), (90, 63), (30, 21), (20, 14)):
            boxes = np.array([[0, 0, width * scale, 9], [0, 0, inner * scale, 9]])
            scores = np.array([0.9, 0.8])
            assert non_maximum_suppression(boxes, scores, 0.7).tolist() == [0, 1]
            boxes[1, 2] += 1
            assert non_maximum_suppression(boxes, scores, 0.7).tolist() == [0]


# the cache ----------------------------------------------------------------------------------


def test_cache_by_content(sams: dict[str, str], tmp_path: Path, image: NDArray[np.uint8]) -> None:
    calls: list[int] = []

    def generate(frame: NDArray[np.uint8]) -> Bools:
        calls.append(1)
        return frame[None, :, :, 0] > 50

    state = load_sam(sams["pth"], "cpu").state_dict()
    cache = MaskCache(tmp_path / "masks", state, (32.0,))
    first = cache.get(image, generate)
    again = MaskCache(tmp_path / "masks", make_sam().state_dict(), (32.0,)).get(image, generate)
    assert len(calls) == 1 and (again == first).all() and again.dtype == bool
    cache.get(image[::-1], generate)
    MaskCache(tmp_path / "masks", make_sam(1).state_dict(), (32.0,)).get(image, generate)
    MaskCache(tmp_path / "masks", state, (16.0,)).get(image, generate)
    assert len(calls) == 4 and len(list((tmp_path / "masks").iterdir())) == 4
    for path in (tmp_path / "masks").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    assert (cache.get(image, generate) == first).all()
    assert len(calls) == 5


def test_the_cache_has_a_limit_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    folder, frames = tmp_path / "masks", make_frames(6)
    made: list[int] = []

    def generate(frame: NDArray[np.uint8]) -> NDArray[np.bool_]:
        made.append(1)
        noise = np.random.default_rng(len(made))
        return noise.random((3, *frame.shape[:2])) > 0.5  # of nearly the same size each

    def used(number: int) -> None:
        cache.get(frames[number], generate)
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (clock := next(times), clock))

    times = iter(range(1000, 2000))
    cache = MaskCache(folder, {}, ())
    used(0)
    size = next(folder.iterdir()).stat().st_size
    cache = MaskCache(folder, {}, (), max_bytes=3.5 * size)
    others = [folder / "mine.npz", folder / f"{'a' * 40}.txt"]
    for path in others:
        path.write_bytes(bytes(4 * size))
        os.utime(path, (1, 1))
    for number in (1, 2):
        used(number)
    used(0)
    used(3)  # in the place of 1, which was used longest ago
    assert len(made) == 4 and len(list(folder.iterdir())) == 3 + len(others)
    for number in (0, 2, 3):
        used(number)
    assert len(made) == 4
    used(1)
    assert len(made) == 5 and all(path.exists() for path in others)
    MaskCache(folder, {}, (), max_bytes=1).get(frames[5], generate)
    assert len(list(folder.iterdir())) == 1 + len(others)  # the newest stays


def test_what_a_kill_left_in_the_cache_goes(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    cache = MaskCache(tmp_path, {}, ())
    cache.get(image, lambda frame: np.ones((1, *frame.shape[:2]), bool))
    name = next(tmp_path.iterdir()).stem
    old, new = (tmp_path / f".{name}-{pid}-1.part.npz" for pid in (1, 2))
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    cache.get(image[::-1], lambda frame: np.ones((1, *frame.shape[:2]), bool))
    assert not old.exists() and new.exists()


def test_several_may_use_a_cache_that_is_too_small(tmp_path: Path) -> None:
    frames = make_frames(4)
    faults: list[BaseException] = []

    def use(seed: int) -> None:
        cache = MaskCache(tmp_path, {}, (), max_bytes=2000)
        try:
            for number in np.random.default_rng(seed).integers(0, 4, 40):
                masks = cache.get(frames[number], lambda frame: frame[None, ..., 0] > 60)
                assert (masks[0] == (frames[number][..., 0] > 60)).all()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and not list(tmp_path.glob(".*"))


def test_cache_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("auto") == tmp_path / "carvid" / "sam"
    if sys.platform == "linux":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder("auto") == tmp_path / ".cache" / "carvid" / "sam"
    assert cache_folder("off") is None
    assert cache_folder("here") == Path("here")
    (tmp_path / "file").write_text("")
    cache = MaskCache(tmp_path / "file", {}, ())
    with pytest.raises(OutputError, match=r"sam\.cache=off"):
        cache.get(make_frames(1)[0], lambda frame: np.ones((1, *frame.shape[:2]), bool))


# the setting, and what can be wrong ---------------------------------------------------------


@pytest.mark.parametrize("mode", ["ensemble", "prompted"])
@pytest.mark.parametrize("form", ["folder", "pth"])
def test_sharpener(
    sams: dict[str, str], tmp_path: Path, image: NDArray[np.uint8], form: str, mode: str
) -> None:
    easy = [f"sam.{key}={value}" for key, value in vars(EASY).items() if key != "model"]
    changes = [f"sam.model={sams[form]}", f"sam.mode={mode}", f"sam.cache={tmp_path}"]
    config = load_config("default", ["weights.device=cpu", *easy, *changes])
    sharpen = sam_refiner(config)
    assert sharpen is not None
    masks = np.zeros((1, *image.shape[:2]), bool)
    masks[0, 8:20, 4:16] = True
    assert (sharpen(image, masks) == sharpen(image, masks)).all()
    assert len(list(tmp_path.iterdir())) == (mode == "ensemble")
    assert sam_refiner(load_config("default")) is None


def test_clear_errors(sams: dict[str, str], weights: dict[str, str], tmp_path: Path) -> None:
    state = torch.load(sams["pth"], weights_only=True)
    del state["mask_decoder.iou_token.weight"]
    files = {
        "text.pth": b"not a checkpoint",
        "empty.pth": b"",
        "cut.pth": Path(sams["pth"]).read_bytes()[:5000],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"model": {}}, tmp_path / "other.pth")
    torch.save([1], tmp_path / "list.pth")
    torch.save(state, tmp_path / "part.pth")
    torch.save(state | {"mask_decoder.hf_token.weight": torch.zeros(1)}, tmp_path / "hq.pth")
    (tmp_path / "nothing").mkdir()
    for name, reason in (
        ("missing.pth", "no SAM at"),
        ("text.pth", "cannot read"),
        ("empty.pth", "cannot read"),
        ("cut.pth", "cannot read"),
        ("other.pth", "no checkpoint of segment-anything"),
        ("list.pth", "no checkpoint of segment-anything"),
        ("part.pth", "no whole SAM"),
        ("hq.pth", "HQ-SAM"),
        ("nothing", "no readable config.json"),
    ):
        with pytest.raises(WeightsError, match=reason) as caught:
            load_sam(str(tmp_path / name), "cpu")
        assert "\n" not in str(caught.value) and "sam_vit_b_01ec64.pth" in str(caught.value)
    with pytest.raises(WeightsError, match="'clip' model, not a SAM"):
        load_sam(weights["generator"], "cpu")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        load_sam("someone/no-such-sam", "cpu")


def test_a_sam_of_the_hub_is_downloaded_once(
    sams: dict[str, str], hub: FakeHub, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level("INFO", "carvid")
    hub.add("someone/sam", Path(sams["folder"]))
    hub.models["someone/sam"] |= {"pytorch_model.bin": b"large", "tf_model.h5": b"large"}
    hub.broken.add("model.safetensors")
    with pytest.raises(WeightsError, match="broke off"):
        load_sam("someone/sam", "cpu")
    hub.broken.clear()
    first = load_sam("someone/sam", "cpu").state_dict()
    assert hub.got == ["config.json", "model.safetensors"]
    assert "downloading someone/sam from the hub, once" in caplog.messages
    caplog.clear()
    hub.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = load_sam("someone/sam", "cpu").state_dict()
    assert hub.asked == [] and caplog.text == ""
    assert all((first[key] == again[key]).all() for key in first)


def test_sam_folders_of_other_kinds(sams: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "sam"
    for content, reason in (
        ({"model_type": "sam2"}, "'sam2' model, not a SAM (SAM 2 is another network)"),
        ({"model_type": "sam_hq"}, "(HQ-SAM has further layers)"),
        ({"model_type": "sam", "architectures": ["Other"]}, "a network of other code, ['Other']"),
        ({"model_type": "sam"}, "neither model.safetensors nor pytorch_model.bin"),
    ):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(content))
        with pytest.raises(WeightsError) as error:
            load_sam(str(folder), "cpu")
        assert reason in str(error.value) and "sam_vit_b_01ec64.pth" in str(error.value)


def test_want_of_memory_is_one_line(sams: dict[str, str], image: NDArray[np.uint8]) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate …")

    network = SamNetwork(load_sam(sams["pth"], "cpu"))
    network.model.forward = fail
    with pytest.raises(WeightsError, match="not enough memory"):
        automatic_masks(network, image, EASY)
    with pytest.raises(WeightsError, match="not enough memory"):
        prompted(network, EASY)(image, np.ones((1, *image.shape[:2]), bool))


def test_a_run_with_sam(
    sams: dict[str, str], clip: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    easy = [
        f"sam.{key}={value}" for key, value in vars(EASY).items() if key not in ("model", "cache")
    ]
    arguments = [
        "run", str(clip), "--expr", "a dog", "--end", "0.1", "-o", str(tmp_path / "out"),
        "--weights-generator", weights["generator"], "--weights-classifier", weights["classifier"],
    ]  # fmt: skip
    for change in ["car.theta=0", "temporal.key_every=1", f"sam.cache={tmp_path / 'cache'}", *easy]:
        arguments += ["--set", change]
    runner = CliRunner()
    assert runner.invoke(app, [*arguments, "--sam", sams["pth"]]).exit_code == 0
    saved = json.loads((tmp_path / "out" / "run.json").read_text())
    assert saved["config"]["sam"]["model"] == sams["pth"]
    assert len(list((tmp_path / "cache").iterdir())) == len(
        list((tmp_path / "out/masks").iterdir())
    )
    result = runner.invoke(app, [*arguments, "--overwrite", "--sam", str(tmp_path / "missing.pth")])
    assert isinstance(result.exception, WeightsError)
