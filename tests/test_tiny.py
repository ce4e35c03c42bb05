"""The embedded model loads through plain transformers, offline, and through carvid."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import CLIPModel, CLIPTokenizer

import carvid
from carvid.clip.weights import EMBEDDED_FOLDER
from carvid.demo import pictures


def test_plain_transformers_loads_it() -> None:
    model = CLIPModel.from_pretrained(EMBEDDED_FOLDER)
    tokenizer = CLIPTokenizer.from_pretrained(EMBEDDED_FOLDER)
    ids = tokenizer(["the dog jumping", "zyzzyva ☃"], padding=True, return_tensors="pt")
    assert (ids["input_ids"] == model.config.text_config.eos_token_id).any(dim=1).all()
    assert model.get_text_features(**ids).pooler_output.shape == (2, 128)


def test_it_is_small() -> None:
    size = sum(path.stat().st_size for path in EMBEDDED_FOLDER.iterdir())
    assert size < 10 * 2**20


def test_preset_tiny_runs() -> None:
    rng = np.random.default_rng(3)
    image, _, _ = pictures.paint_background(rng, (96, 160), pictures.SURFACES.values())
    model = carvid.load("tiny", ["weights.device=cpu", "crf.iterations=1"])
    result = model.segment_image(image, ["a dog", "a red car"])
    assert result.masks.shape == (2, 96, 160)
    assert np.isfinite(result.scores).all()


@pytest.mark.parametrize("surfaces", [pictures.SURFACES, pictures.HELD_OUT_SURFACES])
def test_backgrounds_are_seeded_and_named(surfaces: dict[str, pictures.Surface]) -> None:
    one, other = (
        pictures.paint_background(np.random.default_rng(7), (60, 90), surfaces.values())
        for _ in range(2)
    )
    assert (one[0] == other[0]).all() and one[0].shape == (60, 90, 3)
    assert int(one[1].max()) < len(one[2])


def test_pasting_keeps_labels_exact() -> None:
    sprite = np.zeros((20, 30, 4), np.uint8)
    sprite[..., 0] = sprite[..., 3] = 255
    image, labels = np.zeros((50, 60, 3), np.uint8), np.zeros((50, 60), np.uint8)
    pictures.paste(image, labels, pictures.transform(sprite, 20), (30, 25), 3)
    assert abs(int((labels == 3).sum()) - 600) < 60
    assert (image[labels == 3][:, 0] > 120).all()
    blue = pictures.recolor(sprite, "blue")
    assert blue[5, 5, 2] > blue[5, 5, 0]
