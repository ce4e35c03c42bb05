"""What a folder of weights says of itself: which work, their pixels, what precision leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

import carvid
from carvid.base.errors import ExpressionError, OutputError, WeightsError
from carvid.car.classifier import MaskClassifier
from carvid.car.proposals import ProposalGenerator
from carvid.clip.backbone import ClipBackbone
from carvid.clip.precision import BFLOAT16_CAPS, BFLOAT16_WIDTH, has_bfloat16, resolve_dtype
from carvid.clip.preprocessing import (
    IMAGE_MEAN,
    IMAGE_STD,
    Preprocessing,
    read_preprocessing,
    to_pixels,
)
from carvid.clip.weights import load_backbone
from carvid.config import ClassifierConfig, Config, ProposalsConfig, WeightsConfig, load_config
from carvid.pipeline import Carvid

CPU = WeightsConfig(device="cpu")
HALVES = (0.5, 0.5, 0.5)


@pytest.fixture
def folder(weights: dict[str, str], tmp_path: Path) -> Path:
    """A CLIP's folder to spoil: image 32, patch 8."""
    return Path(shutil.copytree(weights["generator"], tmp_path / "clip"))


def change(path: Path, **values: Any) -> None:
    """Change a JSON file; `a__b=1` is in a mapping."""
    content = json.loads(path.read_text())
    for key, value in values.items():
        section, _, inner = key.rpartition("__")
        (content[section] if section else content)[inner] = value
    path.write_text(json.dumps(content))


# which work ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"model_type": "siglip"}, "'siglip' model, not a CLIP (SigLIP has no CLS token"),
        ({"model_type": "chinese_clip"}, "(its text encoder is a BERT)"),
        ({"model_type": "altclip"}, "(its text encoder is an XLM-R)"),
        ({"model_type": "blip"}, "BLIP"),
        ({"model_type": "clip_vision_model"}, "(the text half is missing)"),
        ({"model_type": "clip_text_model"}, "(the image half is missing)"),
        ({"model_type": "bert"}, "holds a 'bert' model, not a CLIP; give"),
        ({"architectures": ["EvaCLIPModel"]}, "network of other code, ['EvaCLIPModel']"),
        ({"auto_map": {"AutoModel": "eva.EvaCLIPModel"}}, "network of other code"),
        ({"vision_config__image_size": [32, 64]}, "its image_size is [32, 64], not one side of a"),
        ({"vision_config__patch_size": [8, 4]}, "its patch_size is [8, 4], not one side of a squ"),
        ({"vision_config__num_channels": 1}, "it sees 1 channels, not RGB"),
        ({"vision_config__hidden_size": 48}, "cannot load"),
        ({"text_config__vocab_size": 20}, "tokenizer has 241 tokens, its text encoder 20: it is n"),
        ({"text_config__vocab_size": 49408}, "tokenizer has 241 tokens, its text encoder 49408"),
        ({"text_config__eos_token_id": 17}, "does not know the first or the last token"),
        ({"text_config__bos_token_id": 17}, "does not know the first or the last token"),
    ],
)
def test_what_does_not_work_is_told_why(folder: Path, values: dict[str, Any], reason: str) -> None:
    change(folder / "config.json", **values)
    with pytest.raises(WeightsError) as error:
        load_backbone(str(folder), CPU)
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert "openai/clip-vit-base-patch16" in str(error.value)


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names]  # type: ignore[return-value]


def add(name: str, *gone: str, content: bytes = b"{}") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        remove(*gone)(folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return spoil


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (remove("tokenizer.json"), "it has no tokenizer (tokenizer.json, or vocab.json and mer"),
        (remove("tokenizer.json", "tokenizer_config.json"), "it has no tokenizer"),
        (add("vocab.json", "tokenizer.json"), "it has no tokenizer"),
        (add("tokenizer.json", content=b"{}"), "cannot load"),
        (remove("model.safetensors"), "neither model.safetensors nor pytorch_model.bin"),
        (add("onnx/model.onnx", "model.safetensors"), "carvid does not read ONNX's format"),
        (add("tf_model.h5", "model.safetensors"), "carvid does not read TensorFlow's format"),
        (add("open_clip_config.json", "config.json"), "carvid does not read OpenCLIP's format"),
        (add("open_clip_pytorch_model.bin", "config.json", "model.safetensors"), "OpenCLIP's"),
        (remove("config.json"), "it has no readable config.json"),
        (add("config.json", content=b"[]"), "it has no readable config.json"),
        (add("model.safetensors", content=POINTER), "'model.safetensors' is a pointer of git-lfs"),
        (add("tokenizer.json", content=POINTER), "'tokenizer.json' is a pointer of git-lfs"),
        (add("model.safetensors", content=b"\xff" * 100), "cannot load"),
        (add("model.safetensors", content=b""), "cannot load"),
        (
            add("model.safetensors.index.json", "model.safetensors",
                content=b'{"weight_map": {"logit_scale": "model-00001-of-00001.safetensors"}}'),
            "'model-00001-of-00001.safetensors' is missing",
        ),
        (
            add("model.safetensors.index.json", "model.safetensors", content=b"{"),
            "'a readable model.safetensors.index.json' is missing",
        ),
        (add("preprocessor_config.json", content=b"{"), "preprocessor_config.json cannot be read"),
    ],
)  # fmt: skip
def test_a_folder_of_shards_is_told_what_it_lacks(
    folder: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(folder)
    with pytest.raises(WeightsError) as error:
        load_backbone(str(folder), CPU)
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert "openai/clip-vit-base-patch16" in str(error.value)


def test_older_configs_do_not_say_where_a_text_ends(folder: Path) -> None:
    """`eos_token_id` 2 stands for the highest token, as in the released models."""
    texts = ["a dog", "the white cat"]
    expected = load_backbone(str(folder), CPU).encode_texts(texts)
    change(folder / "config.json", text_config__eos_token_id=2, text_config__bos_token_id=0)
    assert (load_backbone(str(folder), CPU).encode_texts(texts) == expected).all()


def test_a_tokenizer_of_other_weights_is_refused(folder: Path) -> None:
    """As many tokens, another order: the ends of texts are others."""
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    order = sorted(tokenizer.get_vocab(), key=lambda token: token[::-1])
    vocab = {token: row for row, token in enumerate(order)}
    other = CLIPTokenizer(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]])
    other.save_pretrained(folder)
    with pytest.raises(WeightsError, match="it is not the tokenizer of these weights"):
        load_backbone(str(folder), CPU)


def test_words_that_are_not_put_together_are_told(folder: Path) -> None:
    """As with an empty merges.txt: every word would be spelt."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="its tokenizer spells the words that it has"):
        load_backbone(str(folder), CPU)


# texts --------------------------------------------------------------------------------------


class Deaf:
    """A tokenizer that knows no word, as transformers makes of a folder without one."""

    def __init__(self, tokenizer: Any) -> None:
        self.ends = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.tokenizer = tokenizer

    def __call__(self, texts: list[str], **options: Any) -> Any:
        return self.tokenizer([""] * len(texts), **options)


@pytest.mark.parametrize("which", [0, 1])
def test_texts_that_clip_cannot_tell_apart_are_refused(
    which: int, backbones: tuple[ClipBackbone, ClipBackbone], image: NDArray[np.uint8]
) -> None:
    backbones[which].tokenizer = Deaf(backbones[which].tokenizer)  # type: ignore[assignment]
    model = Carvid(Config(), *backbones)
    message = "'a clean origami .*' are the same to the text encoder of"
    with pytest.raises(ExpressionError, match=message):
        model.segment_image(image, ["the dog", "the cat"])
    with pytest.raises(ExpressionError, match=message):
        model.segment_image(image, ["the dog"])  # against background words
    with pytest.raises(ExpressionError, match=message):
        next(model.stream([image], ["the dog", "the cat"]))
    backbones[which].encode_texts(["the dog"])
    backbones[which].encode_texts(["the cat"])
    with pytest.raises(ExpressionError, match="'the dog' and 'the cat' are the same"):
        backbones[which].encode_texts(["the dog", "the cat"])


def test_one_text_in_several_spellings_is_one_text(
    backbones: tuple[ClipBackbone, ClipBackbone], image: NDArray[np.uint8]
) -> None:
    texts = ["Dog", "dog", " dog ", "DOG", "the red ball.", "the  red ball ."]
    features = backbones[0].encode_texts(texts)
    assert torch.allclose(features[0], features[1:4], atol=1e-5)
    assert torch.allclose(features[4], features[5], atol=1e-5)
    assert Carvid(Config(), *backbones).segment_image(image, texts).masks.shape[0] == len(texts)


def test_broken_numbers_are_told(backbones: tuple[ClipBackbone, ClipBackbone]) -> None:
    backbones[0].model.text_model.final_layer_norm.weight.fill_(float("nan"))
    with pytest.raises(WeightsError, match="gives no numbers"):
        backbones[0].encode_texts(["a dog"])


# pixels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Preprocessing(IMAGE_MEAN, IMAGE_STD, None)),
        ({"size": 64}, Preprocessing(side=64)),
        ({"size": {"shortest_edge": 64}}, Preprocessing(side=64)),
        ({"size": {"height": 64, "width": 64}}, Preprocessing(side=64)),
        ({"size": {"longest_edge": 90, "shortest_edge": 64}}, Preprocessing(side=64)),
        ({"size": 80, "crop_size": 64}, Preprocessing(side=64)),
        ({"size": 80, "crop_size": {"height": 64, "width": 64}}, Preprocessing(side=64)),
        ({"size": 80, "crop_size": 64, "do_center_crop": False}, Preprocessing(side=80)),
        ({"size": 80, "crop_size": None, "do_center_crop": None}, Preprocessing(side=80)),
        ({"image_mean": HALVES, "image_std": [0.25, 0.5, 1]},
         Preprocessing(HALVES, (0.25, 0.5, 1.0))),
        ({"image_mean": 0.5, "image_std": 0.5}, Preprocessing(HALVES, HALVES)),
        ({"do_normalize": False}, Preprocessing((0.0,) * 3, (1.0,) * 3)),
        ({"image_mean": None, "image_std": None, "size": None}, Preprocessing()),
        ({"image_mean": 1, "image_std": 1, "rescale_factor": 2 / 255},
         Preprocessing(HALVES, HALVES)),
    ],
)  # fmt: skip
def test_preprocessors_settings(
    tmp_path: Path, values: dict[str, Any], expected: Preprocessing
) -> None:
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": values}))
    assert read_preprocessing(tmp_path) == expected
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"size": 9}}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    assert read_preprocessing(tmp_path) == expected


@pytest.mark.parametrize(
    "values",
    [
        {"image_mean": [0.5, 0.5]}, {"image_mean": "half"}, {"image_std": [0.5, 0, 0.5]},
        {"size": {"height": 32, "width": 64}}, {"size": "large"}, {"size": -1}, {"size": []},
        {"image_mean": [float("nan")] * 3}, {"rescale_factor": 0}, [],
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(folder: Path, values: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=r"cannot load '.*clip' as a CLIP: its "):
        load_backbone(str(folder), CPU)


def test_pixels_are_those_of_transformers(folder: Path, image: NDArray[np.uint8]) -> None:
    from transformers import CLIPImageProcessorPil

    values = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2],
              "size": {"shortest_edge": 40}, "crop_size": {"height": 40, "width": 40}}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    backbone = load_backbone(str(folder), CPU)
    assert backbone.image_size == 40
    square = image[:34, :34]
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    expected = processor(square, return_tensors="pt")["pixel_values"][0]
    made = to_pixels(square, (40, 40), backbone.preprocessing)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        output = model.vision_model(expected[None], interpolate_pos_encoding=True)
    assert output.pooler_output.shape[0] == 1  # transformers interpolates positions, too


@pytest.mark.parametrize("view", ["letterbox", "center-crop", "mask-crop"])
def test_views_and_frames_have_the_backbones_own_pixels(
    view: str, folder: Path, image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels of both networks are those of CLIP's settings, normalised otherwise."""
    seen: list[torch.Tensor] = []
    for mean, std in ((IMAGE_MEAN, IMAGE_STD), ((0.25, 0.5, 0.75), (0.5, 0.25, 0.2))):
        settings = {"image_mean": mean, "image_std": std, "size": 40}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        backbone = load_backbone(str(folder), CPU)
        embed = backbone._embed

        def spy(pixels: torch.Tensor, embed: Any = embed) -> torch.Tensor:
            seen.append(pixels[0])
            return embed(pixels)

        monkeypatch.setattr(backbone, "_embed", spy)
        mask = np.zeros(image.shape[:2], bool)
        mask[8:20, 4:16] = True
        MaskClassifier(backbone, ClassifierConfig(view=view)).encode([image], mask[None])
        ProposalGenerator(backbone, ProposalsConfig(), competing=False).encode(image)

    def colours(pixels: torch.Tensor, mean: Any, std: Any) -> torch.Tensor:
        return pixels * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]

    classifier, generator, other_classifier, other_generator = seen
    assert other_classifier.shape == (3, 40, 40)
    first = colours(generator, IMAGE_MEAN, IMAGE_STD)
    second = colours(other_generator, (0.25, 0.5, 0.75), (0.5, 0.25, 0.2))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
    padded = (classifier == classifier[:, :1, :1]).all(dim=0)
    padded &= classifier[:, 0, 0].abs().max() < 0.02
    first = colours(classifier, IMAGE_MEAN, IMAGE_STD)[:, ~padded]
    second = colours(other_classifier, (0.25, 0.5, 0.75), (0.5, 0.25, 0.2))[:, ~padded]
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
    assert padded.any() == (view == "letterbox")
    if padded.any():
        assert other_classifier[:, padded].abs().max() < 0.02


# precision ----------------------------------------------------------------------------------

WIDE = 768
AMX, AVX512 = {"_is_amx_tile_supported"}, {"_is_avx512_bf16_supported"}


def pretend(
    monkeypatch: pytest.MonkeyPatch, has: set[str], *, level: str = "AVX512", cap: str = ""
) -> None:
    """Let torch tell of a processor that has the instruction sets of these functions."""
    for name in BFLOAT16_CAPS:
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in has, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)


@pytest.mark.parametrize(
    ("has", "level", "cap", "expected"),
    [
        (AMX | AVX512, "AVX512", "", "bfloat16"),
        (AMX, "AVX512", "", "bfloat16"),
        (AVX512, "AVX512", "", "bfloat16"),
        (set(), "AVX512", "", "float32"),
        (set(), "AVX512", "ALL", "float32"),
        (AMX | AVX512, "AVX2", "", "float32"),
        (AMX | AVX512, "DEFAULT", "", "float32"),
        (AMX | AVX512, "AVX512", "default", "bfloat16"),
        (AMX | AVX512, "AVX512", "AVX512_CORE_AMX", "bfloat16"),
        (AMX | AVX512, "AVX512", "AVX512_CORE_BF16", "bfloat16"),
        (AMX, "AVX512", "AVX512_CORE_BF16", "float32"),
        (AMX | AVX512, "AVX512", "AVX512_CORE", "float32"),
        (AMX | AVX512, "AVX512", "AVX2", "float32"),
        (AMX | AVX512, "AVX512", "avx2", "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_in_it(
    has: set[str], level: str, cap: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, has, level=level, cap=cap)
    assert resolve_dtype("auto", torch.device("cpu"), WIDE) == getattr(torch, expected)


def test_an_older_name_caps_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, AMX | AVX512)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    assert not has_bfloat16()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")  # comes first
    assert has_bfloat16()


def test_a_torch_that_cannot_tell_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, AMX | AVX512)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_bfloat16()
    monkeypatch.undo()
    pretend(monkeypatch, AMX | AVX512)
    for name in BFLOAT16_CAPS:
        monkeypatch.delattr(torch.cpu, name)
    assert not has_bfloat16()


@pytest.mark.parametrize(
    ("named", "device", "width", "expected"),
    [
        ("auto", "cuda", WIDE, "float16"), ("auto", "mps", WIDE, "float32"),
        ("auto", "cpu", 192, "float32"), ("auto", "cpu", BFLOAT16_WIDTH, "bfloat16"),
        ("float32", "cpu", WIDE, "float32"), ("float32", "cuda", WIDE, "float32"),
        ("float16", "cpu", WIDE, "float16"), ("bfloat16", "cuda", 192, "bfloat16"),
    ],
)  # fmt: skip
def test_a_named_precision_is_taken_and_small_networks_keep_float32(
    named: str, device: str, width: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, AMX | AVX512)
    assert resolve_dtype(named, torch.device(device), width) == getattr(torch, expected)


def test_what_is_compared_with_released_code_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config("reference").weights.dtype == "float32"
    pretend(monkeypatch, AMX | AVX512)
    assert load_backbone("tiny", CPU).dtype == torch.float32


def test_a_run_of_another_precision_does_not_go_on(
    weights: dict[str, str], clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun on a processor with bfloat16, resumed on one without; `auto` on both."""
    monkeypatch.setattr("carvid.clip.precision.BFLOAT16_WIDTH", 1)
    given = dict(device="cpu", **weights)
    pretend(monkeypatch, AMX)
    begun = carvid.load("default", **given).segment(clip, ["a dog"], out=tmp_path / "run")
    assert begun.facts.weights["dtype"] == "bfloat16"
    pretend(monkeypatch, set())
    with pytest.raises(OutputError, match=r"weights\.dtype was 'bfloat16', is 'float32'"):
        carvid.load("default", **given).segment(
            clip, ["a dog"], out=tmp_path / "run", resume=True
        )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_used_in_float32_is_not_rounded(folder: Path, dtype: str) -> None:
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        model.logit_scale.fill_(float(np.log(100)))
        model.vision_model.embeddings.position_embedding.weight.normal_(0, 1)
    model.save_pretrained(folder)
    backbone = load_backbone(str(folder), WeightsConfig(device="cpu", dtype=dtype))
    assert backbone.dtype == getattr(torch, dtype)
    assert backbone.logit_scale == pytest.approx(100, rel=1e-6)
    table = model.vision_model.embeddings.position_embedding.weight.detach()
    square = F.interpolate(table[1:].T.reshape(1, -1, 4, 4), (5, 7), mode="bilinear")
    expected = torch.cat([table[:1], square[0].flatten(1).T])
    assert (backbone._position((5, 7)) == expected.to(backbone.dtype)).all()
    assert (backbone._projection == model.visual_projection.weight).all()
