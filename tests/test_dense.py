"""Dense maps: features of a changed last block, softmax over texts, and their way through the loop.

A second version of everything is here, in plain NumPy and double precision, from the formulas.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from carvid.benchmark.measurements import CurrentImage, SharedGenerator
from carvid.car.proposals import ProposalGenerator
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.trace import Trace
from carvid.clip.backbone import ClipBackbone
from carvid.clip.dense import DenseFeatures, Precision, Variant, dense_maps, nearness
from carvid.clip.preprocessing import to_pixels
from carvid.clip.weights import load_backbone
from carvid.config import WeightsConfig, load_config
from tests.conftest import in_this_process

TOLERANCES = {"features": 1e-5, "probabilities": 1e-5, "half": 2e-2, "float16": 2.0**-11}
"""Float tolerances, all of them: float32 sums in another order; a network in half precision, in
cosines; half a step of a float16, relative."""
TOOL = Path(__file__).parent.parent / "tools" / "check_dense_golden.py"
GRID_HW = (5, 7)
DENSE = ("proposals.method=dense", "car.theta=0", "crf.iterations=1")

Backbones = tuple[ClipBackbone, ClipBackbone]
Plane = NDArray[np.float64]


def pixels_of(image: NDArray[np.uint8]) -> torch.Tensor:
    """The image as the generator with patches of 8 pixels sees it, in `GRID_HW` patches."""
    return to_pixels(image, (GRID_HW[0] * 8, GRID_HW[1] * 8))


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def random_units(count: int, channels: int, seed: int) -> torch.Tensor:
    rows = np.random.default_rng(seed).standard_normal((count, channels))
    return torch.from_numpy(unit(rows).astype(np.float32))


# features -----------------------------------------------------------------------------------


def plain_features(backbone: ClipBackbone, pixels: torch.Tensor, variant: str, sigma: float) -> Any:
    """Unit features of the patches, float64 (hw, D'), head by head, from the formulas."""
    vision = backbone.model.vision_model
    *earlier, last = vision.encoder.layers
    hidden = backbone._embed(pixels[None])
    for layer in earlier:
        hidden = layer(hidden, attention_mask=None)
    x = hidden[0].double().numpy()

    def norm(rows: Plane, layer: Any) -> Plane:
        centred = rows - rows.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt(rows.var(axis=1, keepdims=True) + layer.eps)
        return np.asarray(scaled * layer.weight.double().numpy() + layer.bias.double().numpy())

    def linear(rows: Plane, layer: Any) -> Plane:
        return np.asarray(rows @ layer.weight.double().numpy().T + layer.bias.double().numpy())

    def softmax(logits: Plane) -> Plane:
        return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))

    attention, normed = last.self_attn, norm(x, last.layer_norm1)
    places = [None, *np.ndindex(*GRID_HW)]  # CLS is nowhere
    near = np.zeros((len(x), len(x)))
    for i, one in enumerate(places):
        for j, other in enumerate(places):
            if variant == "kk" and sigma and one is not None and other is not None:
                away = (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2
                near[i, j] = np.exp(-away / (2 * sigma**2))
    heads = []
    width = normed.shape[1] // attention.num_heads
    q, k, v = (
        linear(normed, each) for each in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    for start in range(0, normed.shape[1], width):
        mine = slice(start, start + width)
        maps = {
            letter: softmax(rows[:, mine] @ rows[:, mine].T / width**0.5 + near)
            for letter, rows in (("q", q), ("k", k))
        }
        weights = {"kk": maps["k"], "qq": maps["q"], "sclip": maps["q"] + maps["k"]}[variant]
        heads.append(weights @ v[:, mine])
    tokens = linear(np.concatenate(heads, axis=1), attention.out_proj)
    if variant == "sclip":
        tokens = x + tokens
        inner = linear(norm(tokens, last.layer_norm2), last.mlp.fc1)
        tokens = tokens + linear(inner / (1 + np.exp(-1.702 * inner)), last.mlp.fc2)
    projection = backbone.model.visual_projection.weight.double().numpy()
    return unit(norm(tokens[1:], vision.post_layernorm) @ projection.T)


@pytest.mark.parametrize(
    ("variant", "sigma"), [("kk", 5.0), ("kk", 1.5), ("kk", 0.0), ("qq", 5.0), ("sclip", 5.0)]
)
def test_features_equal_the_formulas(
    backbones: Backbones, image: NDArray[np.uint8], variant: Variant, sigma: float
) -> None:
    pixels = pixels_of(image)
    made, attention = backbones[0].encode_dense(pixels, variant=variant, sigma=sigma)
    assert made.grid_hw == GRID_HW and attention is not None
    expected = plain_features(backbones[0], pixels, variant, sigma)
    np.testing.assert_allclose(made.values, expected, atol=TOLERANCES["features"])
    same = backbones[0].encode_patches(pixels).attention
    np.testing.assert_array_equal(attention, same)


def test_nearness_is_none_for_cls_and_falls_with_the_distance() -> None:
    near = nearness((3, 4), 2.0)
    assert near.shape == (13, 13) and not near[0].any() and not near[:, 0].any()
    assert (near[1:, 1:].diagonal() == 1).all() and torch.equal(near, near.T)
    assert float(near[1, 1 + 2 * 4 + 1]) == pytest.approx(np.exp(-(2**2 + 1**2) / 8))
    for sigma in (1e-200, 1e200):
        assert nearness((3, 4), sigma)[1:, 1:].unique().tolist() in ([0, 1], [1])


def test_without_affinity_no_map_is_made(
    backbones: Backbones, image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = ProposalGenerator(
        backbones[0], load_config("default", DENSE).proposals, competing=False
    )
    whole = generator.encode(image)
    generator.config = load_config("default", [*DENSE, "proposals.affinity=false"]).proposals
    monkeypatch.delattr("carvid.clip.layers.AttentionMaps.attend")
    bare = generator.encode(image)
    assert whole.affinity is not None and bare.affinity is None
    assert isinstance(whole.features, DenseFeatures) and isinstance(bare.features, DenseFeatures)
    torch.testing.assert_close(
        whole.features.values, bare.features.values, atol=TOLERANCES["features"], rtol=0
    )
    proposals = generator.propose(bare, ["dog", "cat"], (34, 48))
    assert proposals.refined is proposals.cams and proposals.masks.max(axis=(1, 2)).min() > 0.5
    with pytest.raises(ValueError, match="attention_blocks must be positive"):
        backbones[0].encode_patches(pixels_of(image), attention_blocks=0)


def test_half_precision_sees_the_same(weights: dict[str, str], image: NDArray[np.uint8]) -> None:
    found = []
    for dtype in ("float32", "float16"):
        backbone = load_backbone(weights["generator"], WeightsConfig(device="cpu", dtype=dtype))
        features, _ = backbone.encode_dense(pixels_of(image))
        assert features.values.dtype == torch.float32
        found.append(features.values)
    assert float((found[0] * found[1]).sum(dim=1).min()) > 1 - TOLERANCES["half"]


@pytest.mark.parametrize(("precision", "size"), [("float32", 4), ("float16", 2), ("int8", 1)])
def test_how_far_kept_features_are_off(precision: Precision, size: int) -> None:
    """In CLIP's 512 channels: within what rounding allows at most, and usually far within."""
    features, texts = random_units(300, 512, seed=0), random_units(40, 512, seed=1)
    features[7] = 0
    features[8] = torch.eye(512)[3]
    kept = DenseFeatures.of((15, 20), features, precision)
    assert kept.values.element_size() == size
    exact = (texts.double() @ features.double().T).view(40, 15, 20)
    off = (kept.cosines(texts) - exact).abs().flatten(1)  # (40, 300)
    most = {
        "float32": torch.full_like(off, 1e-6),
        "float16": TOLERANCES["float16"] * (texts.abs() @ features.abs().T) + 1e-6,
        "int8": texts.abs().sum(dim=1)[:, None] * features.abs().amax(dim=1) / 254 + 1e-6,
    }[precision]
    assert (off <= most).all() and not off[:, 7].any()
    typical = float(off.square().mean().sqrt())
    assert typical < {"float32": 1e-6, "float16": 2e-5, "int8": 1e-3}[precision]


# maps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("competing", [False, True], ids=["refer", "semantic"])
@pytest.mark.parametrize("words", ["background", "left-out", "all-left-out", "none"])
def test_maps_equal_a_softmax_for_each_text_and_patch(competing: bool, words: str) -> None:
    features = DenseFeatures.of(GRID_HW, random_units(35, 20, seed=2))
    texts = random_units(4, 20, seed=3)
    background = random_units(0 if words == "none" else 3, 20, seed=4)
    left_out = None
    if "left-out" in words:
        left_out = torch.zeros(4, 3, dtype=torch.bool)
        left_out[1, 2] = left_out[3, :2] = True
        left_out[2] = words == "all-left-out"
    maps, flat = dense_maps(features, texts, background, left_out, scale=10.0, competing=competing)
    assert maps.shape == (4, *GRID_HW)
    for i in range(4):
        rows = [texts[j] for j in range(4) if competing and j != i]
        rows += [
            background[k] for k in range(len(background)) if left_out is None or not left_out[i, k]
        ]
        expected = np.zeros(35)
        for patch in range(35):
            logits = [10 * float(row @ features.values[patch]) for row in (texts[i], *rows)]
            expected[patch] = np.exp(logits[0]) / np.exp(logits).sum() if rows else logits[0] / 10
        assert bool(flat[i]) == (not rows)
        if rows:
            expected /= expected.max()
        np.testing.assert_allclose(maps[i].flatten(), expected, atol=TOLERANCES["probabilities"])


def test_what_wins_everywhere_or_nowhere_has_a_map() -> None:
    """Of a text that always wins the probability is 1, of its double a half, give or take rounding,
    which is no map; of one that hardly ever has any it is too small for a float."""
    (text,) = random_units(1, 20, seed=3)
    around = text + 0.5 * random_units(35, 20, seed=2)
    features = DenseFeatures.of(GRID_HW, around / around.norm(dim=1, keepdim=True))
    cosine = features.cosines(text[None])[0]
    none = text[None][:0]
    cases = [dense_maps(features, text[None], -text[None], competing=False)]
    for scale in (0.0, 40.0, 1e4):
        cases.append(dense_maps(features, text.expand(2, -1), none, scale=scale, competing=True))
    for maps, flat in cases:
        assert flat.all()
        for each in maps:
            np.testing.assert_allclose(each, cosine, atol=TOLERANCES["probabilities"])
    maps, flat = dense_maps(features, -text[None], text[None], scale=1e4, competing=False)
    assert not flat.any() and float(maps.max()) == 1
    assert int(maps.argmax()) == int(cosine.argmin())


# the loop -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("mode", ["refer", "semantic"])
def test_one_generator_pass_and_no_gradient_whatever_is_asked(
    backbones: Backbones,
    image: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    count: int,
) -> None:
    """Stuff in a pass of its own, words for the same and all: still one."""
    monkeypatch.delattr("carvid.clip.backbone.ClipBackbone.encode_patches")
    monkeypatch.setattr(torch.autograd, "grad", None)
    texts = ("dog", "grass", "the white cat", "ball")[:count]
    unit = RecurrentSegmenter(*backbones, load_config("default", [*DENSE, f"car.mode={mode}"]))
    synonyms = (("red dog",), (), (), ())[:count]
    queries, trace = Queries(texts, stuff=frozenset({"grass"}), synonyms=synonyms), Trace()
    result = unit.segment(image, queries, trace=trace)
    assert backbones[0].counts["patches"] == 1
    assert result.kept.all() and result.maps.max(axis=(1, 2)).min() > 0.5
    assert len(trace.steps) == (2 if mode == "semantic" and count > 1 else 1)
    for step in trace.steps:
        assert not step.proposals.recomputed.any()
        np.testing.assert_array_equal(step.proposals.cams.max(axis=(1, 2)), 1)
    alone = unit.segment(image, Queries(texts[:1], synonyms=synonyms[:1])).maps[0]
    same = bool(np.allclose(alone, result.maps[0], atol=1e-4))
    assert same == (mode == "refer" or count == 1)


def test_images_are_shared_only_by_models_that_encode_alike(
    backbones: Backbones, image: NDArray[np.uint8]
) -> None:
    current = CurrentImage()
    alike = (("proposals.dense_scale=20",), ("proposals.background=",), ("proposals.lambda_=0.3",))
    unlike = (
        ("proposals.method=gradcam",), ("proposals.affinity=false",),
        *((f"proposals.dense_{each}",) for each in ("variant=qq", "sigma=2", "precision=int8")),
    )  # fmt: skip
    for changes in ((), *alike, *unlike, ()):
        config = load_config("default", [*DENSE, *changes]).proposals
        mine = ProposalGenerator(backbones[0], config, competing=False)
        SharedGenerator(mine, current).encode(image)
    assert backbones[0].counts["patches"] == 1 + len(unlike)


# numbers of the published code --------------------------------------------------------------


def test_published_numbers(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((shared / "golden" / "dense").glob("*.npz"))
    assert files
    monkeypatch.syspath_prepend(str(TOOL.parent))
    main = runpy.run_path(str(TOOL))["main"]
    result = in_this_process(lambda: sys.exit(main()), *files)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ok  naclip_5 features") >= len(files)
