"""The backbone against transformers' own forward, and the errors of weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer
from transformers.activations import ACT2FN

from carvid.base.errors import ConfigError, ExpressionError, WeightsError
from carvid.clip.backbone import ClipBackbone
from carvid.clip.layers import run_block
from carvid.clip.preprocessing import to_pixels
from carvid.clip.weights import find_weights, load_backbone
from carvid.config import WeightsConfig

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
"""Float32 sums in another order."""
HALF_TOLERANCES = {"float16": 0.02, "bfloat16": 0.05}
"""Of CAMs in [0, 1]; float16 has 11 bits, bfloat16 8."""

Backbones = tuple[ClipBackbone, ClipBackbone]


def test_whole_images_equal_transformers(backbones: Backbones, image: NDArray[np.uint8]) -> None:
    backbone = backbones[1]
    side = backbone.image_size
    pixels = torch.stack([to_pixels(image, (side, side)), to_pixels(image[::-1], (side, side))])
    with torch.no_grad():
        expected = backbone.model.get_image_features(pixel_values=pixels).pooler_output
    made = backbone.encode_images(pixels)
    torch.testing.assert_close(made, F.normalize(expected, dim=-1), **TOLERANCE)
    assert backbone.counts["images"] == 2
    shorter = backbone.encode_images(pixels, last_block=False)
    assert not torch.allclose(made, shorter, atol=1e-2)


def test_texts_equal_transformers_and_are_encoded_once(
    backbones: Backbones, weights: dict[str, str]
) -> None:
    backbone = backbones[0]
    texts = ["a dog", "the white cat", "a dog"]
    made = backbone.encode_texts(texts)
    model = CLIPModel.from_pretrained(weights["generator"])
    tokenizer = CLIPTokenizer.from_pretrained(weights["generator"])
    for text, feature in zip(texts, made, strict=True):
        with torch.no_grad():
            output = model.get_text_features(**tokenizer([text], return_tensors="pt"))
        expected = F.normalize(output.pooler_output[0], dim=-1)
        torch.testing.assert_close(feature, expected, **TOLERANCE)
    backbone.encode_texts(["the white cat"])
    assert backbone.counts["texts"] == 2


def test_patches_and_attention_equal_transformers(
    weights: dict[str, str], image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the trained square, where positions need no interpolation; maps in several chunks."""
    monkeypatch.setattr("carvid.clip.layers.MAP_ROWS", 7)
    backbone = load_backbone(weights["generator"], WeightsConfig(device="cpu"))
    side = backbone.image_size
    pixels = to_pixels(image, (side, side))
    features = backbone.encode_patches(pixels, attention_blocks=2)
    eager = CLIPModel.from_pretrained(weights["generator"], attn_implementation="eager").eval()
    with torch.no_grad():
        output = eager.vision_model(
            pixel_values=pixels[None], output_hidden_states=True, output_attentions=True
        )
    with torch.no_grad():
        activation = eager.vision_model.encoder.layers[-1].layer_norm1(output.hidden_states[-2][0])
    torch.testing.assert_close(features.activation, activation[1:], **TOLERANCE)
    maps = torch.stack([layer[0].mean(dim=0) for layer in output.attentions[-2:]]).mean(dim=0)
    torch.testing.assert_close(features.attention, maps[1:, 1:], **TOLERANCE)


@pytest.mark.parametrize("competing", [False, True])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_gradient_cams_equal_one_backward_a_query(
    backbones: Backbones,
    image: NDArray[np.uint8],
    competing: bool,
    activation: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any size and aspect; more than one batch of gradients, and maps in several chunks."""
    monkeypatch.setattr("carvid.clip.gradient_cam.GRADIENTS_PER_BATCH", 4)
    monkeypatch.setattr("carvid.clip.layers.MAP_ROWS", 7)
    backbone = backbones[0]
    *layers, layer = backbone.model.vision_model.encoder.layers
    for each in (*layers, layer):
        each.mlp.activation_fn = ACT2FN[activation]
    pixels = to_pixels(image, (40, 56))
    features = backbone.encode_patches(pixels)
    assert features.grid_hw == (5, 7)
    words = ["dog", "cat", "woman", "ball", "white", "red"]
    texts = backbone.encode_texts(words)
    background = backbone.encode_texts(["ground", "sky"])
    made = backbone.gradient_cams(features, texts, background, competing=competing)
    last_input = backbone._embed(pixels[None])
    for earlier in layers:
        last_input = earlier(last_input, attention_mask=None)
    for i in range(len(words)):
        x = last_input
        target = layer.layer_norm1(x).detach().requires_grad_()
        x = x + layer.self_attn(target)[0]
        x = x + layer.mlp(layer.layer_norm2(x))
        tokens = backbone.model.vision_model.post_layernorm(x[0, 1:]).mean(dim=0)
        pooled = F.normalize(backbone.model.visual_projection(tokens), dim=0)
        group = torch.cat([texts if competing else texts[i : i + 1], background])
        p = (backbone.logit_scale * group @ pooled).softmax(dim=0)[i if competing else 0]
        (gradient,) = torch.autograd.grad(p, target)
        weight = gradient[0, 1:].mean(dim=0)
        expected = (target[0, 1:].detach() @ weight).relu().view(5, 7)
        scale = float(expected.max()) or 1.0
        torch.testing.assert_close(made[i] / scale, expected / scale, atol=1e-4, rtol=0)


def test_half_precision_sees_the_same(weights: dict[str, str], image: NDArray[np.uint8]) -> None:
    """Nothing of a gradient may vanish in what a GPU computes in, nor be rounded away in what some
    processors do, which keeps features of texts whole."""
    cams, whole, words = [], [], []
    for dtype in ("float32", *HALF_TOLERANCES):
        backbone = load_backbone(weights["generator"], WeightsConfig(device="cpu", dtype=dtype))
        texts = backbone.encode_texts(["dog", "cat", "white"])
        features = backbone.encode_patches(to_pixels(image, (40, 56)))
        made = backbone.gradient_cams(features, texts[:2], texts[2:], competing=False)
        words.append(texts)
        cams.append(made / made.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6))  # one may be all 0
        side = backbone.image_size
        whole.append(backbone.encode_images(to_pixels(image, (side, side))[None]))
    assert cams[0].amax() == 1
    for half, tolerance in enumerate(HALF_TOLERANCES.values(), start=1):
        torch.testing.assert_close(cams[half], cams[0], atol=tolerance, rtol=0)
        torch.testing.assert_close(whole[half], whole[0], atol=0.01, rtol=0)
    assert torch.equal(words[2], words[0])


def test_tokens_are_added_up_in_float32(weights: dict[str, str], image: NDArray[np.uint8]) -> None:
    """In bfloat16 as well, of which each multiplication takes what it rounds."""
    config = WeightsConfig(device="cpu", dtype="bfloat16")
    backbone = load_backbone(weights["generator"], config)
    layers = backbone.model.vision_model.encoder.layers
    seen: list[torch.dtype] = []
    for layer in layers:
        layer.mlp.fc1.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    tokens = backbone._embed(to_pixels(image, (40, 56))[None])
    assert tokens.dtype == run_block(layers[0], tokens).dtype == torch.float32
    backbone.encode_patches(to_pixels(image, (40, 56)))
    assert set(seen) == {torch.bfloat16} and len(seen) == 1 + len(layers)


def test_too_long_expression_names_the_limit(backbones: Backbones) -> None:
    with pytest.raises(ExpressionError, match=r"has \d+ tokens, CLIP reads 77; shorten it"):
        backbones[0].encode_texts(["zebra " * 40])


def test_missing_weights_name_every_way_out() -> None:
    with pytest.raises(WeightsError) as error:
        find_weights("openai/clip-vit-base-patch16")
    for way in ("HF_HUB_OFFLINE", "--weights-generator DIR", "HF_HOME", "--preset tiny"):
        assert way in str(error.value)
    with pytest.raises(WeightsError, match="no weights folder"):
        find_weights("./nowhere")


def test_weights_of_the_wrong_kind(tmp_path: Path, weights: dict[str, str]) -> None:
    with pytest.raises(WeightsError, match="no readable config"):
        find_weights(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(WeightsError, match="holds a 'bert' model, not a CLIP"):
        find_weights(str(tmp_path))
    (tmp_path / "config.json").write_bytes(
        (Path(weights["generator"]) / "config.json").read_bytes()
    )
    with pytest.raises(WeightsError, match="cannot load"):
        load_backbone(str(tmp_path), WeightsConfig(device="cpu"))
    (tmp_path / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(WeightsError, match="cannot load"):
        load_backbone(str(tmp_path), WeightsConfig(device="cpu"))


def test_unknown_device() -> None:
    with pytest.raises(ConfigError, match="torch has no device 'gpu0'"):
        load_backbone("anything", WeightsConfig(device="gpu0"))
