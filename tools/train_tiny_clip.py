#!/usr/bin/env python
"""Train the small CLIP that carvid carries, from scratch, on drawn scenes.

    tools/get_sprites.py sprites
    tools/train_tiny_clip.py sprites work --minutes 75 --export carvid/clip/tiny
    tools/train_tiny_clip.py sprites work --minutes 75 --export carvid/clip/tiny --resume

One process draws, one trains; everything follows from `--seed` up to the order of floating-point
sums. The losses are those of CaR's two uses of a CLIP:

- the classifier reads CLS: a crop that carries a visual prompt must match its noun among all nouns
  and background words, and a crop of background its background word;
- the generator differentiates the mean of the patch tokens: the gradient CAM itself, with
  background queries, is computed in the loop and compared with the truth's mask.

A curriculum (one large thing, then two, then several small ones) is needed: without it nothing is
learnt for a long time.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from carvid.car.classifier import letterbox, mask_crop
from carvid.car.prompts import draw_prompts
from carvid.clip.preprocessing import IMAGE_MEAN, IMAGE_STD
from carvid.config import BACKGROUND_QUERIES, TEMPLATE
from carvid.demo import pictures

CLASSES = (*pictures.NOUNS, *BACKGROUND_QUERIES)
NOUN_COUNT = len(pictures.NOUNS)
COLOR_WORDS = tuple(pictures.HUES)
PLACES = ("", "", "on the left", "on the right", "in the middle", "at the top", "in the picture")
SIZES = ("", "", "", "small", "big", "little", "tiny", "large")
ARTICLES = ("a", "the", "one")
TEMPLATES = (TEMPLATE, TEMPLATE, "{}", "{}", "a photo of a {}.", "there is {} in the scene")

IMAGE_SIZE = 128
PATCH = 16
MAX_OBJECTS = 4
PROMPT_SETS = (
    *(("gray",),) * 4, ("black",), ("blur",), ("blur", "gray"), ("circle",), ("circle", "blur"), (),
)  # fmt: skip
"""Drawn from evenly: most often what preset `tiny` uses; none at all, too."""
BACKGROUND_POOL = 80
BACKGROUND_HW = (400, 600)
REPAINTED = 2
"""Backgrounds of the pool that are painted anew for every step."""
MAX_LOGIT_SCALE = math.log(50)
SCENES_PER_STEP = 18
CROPS_PER_STEP = 40
CROPS_PER_SCENE = 3
CROP_SCENE = (360, 480)
SCENE_SIZES = ((128, 128), (128, 128), (144, 256), (144, 256), (240, 432), (240, 432), (288, 512))
CAM_TOKENS = 1600
"""Patches of the CAMs that a step asks for."""
STAGES = ((0.10, 1, (0.45, 0.95)), (0.28, 2, (0.35, 0.7)), (1.0, 4, (0.2, 0.6)))
"""Until this share of the time: up to so many things, of this height over the scene's height."""
EMA_DECAY = 0.998
CHECKPOINT_S = 240.0


# words --------------------------------------------------------------------------------------


def phrase(rng: np.random.Generator, names: tuple[str, ...], *, thing: bool) -> str:
    """Return an expression that names a thing, with words around it, in a template."""
    text = names[0] if rng.random() < 0.6 else str(rng.choice(names))
    if thing and rng.random() < 0.6:
        motions = [word for words in pictures.MOTIONS.values() for word in words]
        words = (
            str(rng.choice(ARTICLES)),
            str(rng.choice(SIZES)),
            text,
            str(rng.choice(motions)) if rng.random() < 0.5 else "",
            str(rng.choice(PLACES)),
        )
        text = " ".join(word for word in words if word)
    return str(rng.choice(TEMPLATES)).format(text)


def noun_names(noun: str) -> tuple[str, ...]:
    return (noun, *pictures.NOUNS[noun][1:])


def class_phrase(rng: np.random.Generator, index: int) -> str:
    if index < NOUN_COUNT:
        return phrase(rng, noun_names(CLASSES[index]), thing=True)
    return phrase(rng, (CLASSES[index],), thing=False)


def color_phrase(rng: np.random.Generator, noun: str, color: str) -> str:
    return phrase(rng, tuple(f"{color} {name}" for name in noun_names(noun)), thing=True)


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """Learn a small byte-level BPE from carvid's phrases; any other text falls back to bytes."""
    rng = np.random.default_rng(0)
    corpus = [class_phrase(rng, i) for _ in range(40) for i in range(len(CLASSES))]
    corpus += [color_phrase(rng, n, c) for n in pictures.NOUNS for c in COLOR_WORDS]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=1600,
        min_frequency=2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator((text.lower() for text in corpus), trainer)
    learnt = json.loads(learner.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learnt["merges"]]
    tokens = [*alphabet, *(a + "</w>" for a in alphabet), *("".join(m) for m in merges)]
    tokens = [*list(dict.fromkeys(tokens)), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    config = CLIPConfig(
        projection_dim=128,
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 77,
            "projection_dim": 128,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
            "projection_dim": 128,
        },
    )
    return CLIPModel(config)


# pictures -----------------------------------------------------------------------------------


@dataclass
class Drawn:
    """One drawn scene."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    which: NDArray[np.uint8]
    objects: list[tuple[int, int, int]]
    """Label, noun's index, colour's index or -1, of what is visible."""
    words: list[list[int]]
    """Class indices of the words of each surface."""


class Artist:
    """Draws training pictures; lives in its own process."""

    def __init__(self, sprites: pictures.Sprites, seed: int, *, held_out: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.sprites = sprites
        self.held_out = held_out
        self.noise = self.rng.normal(0, 10, (500, 700, 3)).astype(np.int16)
        self.pool = [self._paint() for _ in range(BACKGROUND_POOL)]

    def _paint(self) -> tuple[Any, Any, Any]:
        if self.held_out:
            surfaces = list(pictures.HELD_OUT_SURFACES.values())
        else:  # without surfaces of any colours, the classifier learns the places by heart
            made_up = [pictures.random_surface(self.rng) for _ in range(len(pictures.SURFACES))]
            surfaces = [*pictures.SURFACES.values(), *made_up]
        return pictures.paint_background(self.rng, BACKGROUND_HW, surfaces)

    def repaint(self) -> None:
        """Change a part of the backgrounds."""
        for _ in range(REPAINTED):
            self.pool[self.rng.integers(len(self.pool))] = self._paint()

    def scene(self, size_hw: tuple[int, int], most: int, heights: tuple[float, float]) -> Drawn:
        rng = self.rng
        image, which, words = self._background(size_hw)
        labels = np.zeros(size_hw, np.uint8)
        count = int(rng.integers(max(1, most // 2), most + 1))
        kinds: list[tuple[int, int]] = []
        for _ in range(count):
            noun = int(rng.integers(NOUN_COUNT))
            color = int(rng.integers(len(COLOR_WORDS))) if rng.random() < 0.35 else -1
            if kinds and rng.random() < 0.15:  # a look-alike
                noun = kinds[-1][0]
                color = int(rng.integers(len(COLOR_WORDS)))
            kinds.append((noun, color))
        for label, (noun, color) in enumerate(kinds, 1):
            drawings = self.sprites[CLASSES[noun]]
            sprite = drawings[rng.integers(len(drawings))]
            if color >= 0:
                sprite = pictures.recolor(sprite, COLOR_WORDS[color])
            height = rng.uniform(*heights) * min(size_hw)
            height *= min(1.0, 1.3 * sprite.shape[0] / sprite.shape[1])
            angle = rng.normal(0, 12) if rng.random() < 0.85 else rng.uniform(-180, 180)
            placed = pictures.transform(sprite, height, angle, flip=bool(rng.random() < 0.5))
            center = (rng.uniform(0.1, 0.9) * size_hw[1], rng.uniform(0.15, 0.9) * size_hw[0])
            pictures.paste(image, labels, placed, center, label)
        image = self._camera(image)
        areas = np.bincount(labels.ravel(), minlength=len(kinds) + 1)
        least = 0.25 * (heights[0] * min(size_hw)) ** 2
        objects = [(k, n, c) for k, (n, c) in enumerate(kinds, 1) if areas[k] >= least]
        return Drawn(image, labels, which, objects, words)

    def crops(
        self, most: int, heights: tuple[float, float]
    ) -> list[tuple[NDArray[np.float32], int, int, list[int]]]:
        """Prompted crops of one scene: picture, noun (-1: background), colour, background words."""
        rng = self.rng
        drawn = self.scene(CROP_SCENE, most, (heights[0] * 0.8, heights[1] * 0.9))
        marked: list[tuple[NDArray[np.bool_], int, int, list[int]]] = []
        for label, noun, color in rng.permutation(drawn.objects).reshape(-1, 3)[:CROPS_PER_SCENE]:
            marked.append((self._rough(drawn.labels == label), int(noun), int(color), []))
        if rng.random() < 0.4:
            marked[2:] = [self._background_mask(drawn)]
        crops = []
        for mask, noun, color, words in marked:
            if np.count_nonzero(mask) < 64:
                continue
            kinds = PROMPT_SETS[rng.integers(len(PROMPT_SETS))]
            near, near_mask = (mask_crop(each, mask, 2.5) for each in (drawn.image, mask))
            picture = draw_prompts(near, near_mask, kinds)
            view = letterbox(mask_crop(picture, near_mask, rng.uniform(1.3, 1.7)), IMAGE_SIZE)
            crops.append((view.numpy(), noun, color, words))
        return crops

    def _background(self, size_hw: tuple[int, int]) -> tuple[Any, Any, list[list[int]]]:
        rng = self.rng
        image, which, words = self.pool[rng.integers(len(self.pool))]
        scale = rng.uniform(max(size_hw[0] / BACKGROUND_HW[0], size_hw[1] / BACKGROUND_HW[1]), 1.0)
        h = min(math.ceil(size_hw[0] / scale), BACKGROUND_HW[0])
        w = min(math.ceil(size_hw[1] / scale), BACKGROUND_HW[1])
        y, x = rng.integers(BACKGROUND_HW[0] - h + 1), rng.integers(BACKGROUND_HW[1] - w + 1)
        part, part_which = image[y : y + h, x : x + w], which[y : y + h, x : x + w]
        if rng.random() < 0.5:
            part, part_which = part[:, ::-1], part_which[:, ::-1]
        part = cv2.resize(part, size_hw[::-1], interpolation=cv2.INTER_AREA)
        part_which = cv2.resize(part_which, size_hw[::-1], interpolation=cv2.INTER_NEAREST)
        return part.copy(), part_which, [[CLASSES.index(word) for word in each] for each in words]

    def _camera(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rng = self.rng
        if rng.random() < 0.2:
            image = cv2.GaussianBlur(image, (3, 3), 0)
        gain, lift = rng.normal(1, 0.12), rng.normal(0, 8)
        lit = cv2.addWeighted(image, gain, image, 0, lift)
        if rng.random() < 0.4:
            h, w = image.shape[:2]
            y = rng.integers(self.noise.shape[0] - h + 1)
            x = rng.integers(self.noise.shape[1] - w + 1)
            noise = self.noise[y : y + h, x : x + w]
            lit = cv2.addWeighted(lit, 1, noise, rng.uniform(0, 0.6), 0, dtype=cv2.CV_8U)
        return lit

    def _rough(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask as a generator may find it: the truth, blobs of patches, or a part of it."""
        rng = self.rng
        if rng.random() < 0.3:
            return mask
        step = int(rng.choice([16, 24, 32]))
        small_wh = (mask.shape[1] // step, mask.shape[0] // step)
        small = cv2.resize(mask.astype(np.float32), small_wh, interpolation=cv2.INTER_AREA)
        small = small + rng.normal(0, 0.12, small.shape) * (small > 0)
        if rng.random() < 0.15:  # something else that the CAM found
            at = rng.integers(small.shape[0]), rng.integers(small.shape[1])
            small[at] = max(float(small[at]), rng.uniform(0.5, 1.0))
        rough = cv2.resize(small.astype(np.float32), mask.shape[::-1]) > rng.uniform(0.25, 0.7)
        if rng.random() < 0.1:  # a part
            rows, columns = np.nonzero(mask)
            axis, cut = rng.integers(2), rng.uniform(0.35, 0.65)
            at_px = np.quantile((rows, columns)[axis], cut)
            side = np.arange(mask.shape[axis]) < at_px
            rough = rough & (side[:, None] if axis == 0 else side[None])
        return rough

    def _background_mask(self, drawn: Drawn) -> tuple[NDArray[np.bool_], int, int, list[int]]:
        rng = self.rng
        h, w = drawn.labels.shape
        axes = rng.uniform(0.08, 0.3, 2) * min(h, w)
        center = rng.uniform(0.15, 0.85, 2) * (w, h)
        blob = np.zeros((h, w), np.uint8)
        cv2.ellipse(
            blob, (int(center[0]), int(center[1])), (int(axes[0]), int(axes[1])), 0, 0, 360, 1, -1
        )
        mask = (blob > 0) & (drawn.labels == 0)
        if not mask.any():
            return mask, -1, -1, []
        surface = int(np.bincount(drawn.which[mask]).argmax())
        return mask, -1, -1, drawn.words[surface]


def make_batch(artist: Artist, share: float) -> dict[str, Any]:
    """Draw one step's pictures, given how much of the training is done."""
    rng = artist.rng
    artist.repaint()
    most, heights = next((m, h) for end, m, h in STAGES if share <= end)
    size_hw = (128, 128) if most < 4 else SCENE_SIZES[rng.integers(len(SCENE_SIZES))]
    count = SCENES_PER_STEP * 128 * 128 // (size_hw[0] * size_hw[1])
    scenes: list[Drawn] = []
    while len(scenes) < count:
        drawn = artist.scene(size_hw, most, heights)
        if drawn.objects:
            scenes.append(drawn)
    crops: list[tuple[NDArray[np.float32], int, int, list[int]]] = []
    while len(crops) < CROPS_PER_STEP:
        crops += artist.crops(most, heights)
    crops = crops[:CROPS_PER_STEP]
    grid = (size_hw[0] // PATCH, size_hw[1] // PATCH)
    cover = np.zeros((count, MAX_OBJECTS, *grid), np.float32)
    ids = np.full((count, MAX_OBJECTS, 2), -1)
    surface = np.zeros((count, 2, *grid), np.float32)
    surface_words = np.zeros((count, 2, len(CLASSES)), np.float32)
    for b, drawn in enumerate(scenes):
        for k, (label, noun, color) in enumerate(drawn.objects[:MAX_OBJECTS]):
            cover[b, k] = cv2.resize(
                (drawn.labels == label).astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA
            )
            ids[b, k] = noun, color
        for s, words in enumerate(drawn.words):
            seen = (drawn.which == s) & (drawn.labels == 0)
            surface[b, s] = cv2.resize(
                seen.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA
            )
            surface_words[b, s, words] = 1
    crop_words = np.zeros((len(crops), len(CLASSES)), np.float32)
    for b, (_, noun, _, words) in enumerate(crops):
        crop_words[b, [noun] if noun >= 0 else words] = 1
    return {
        "scenes": np.stack([d.image for d in scenes]),
        "cover": cover,
        "ids": ids,
        "surface": surface,
        "surface_words": surface_words,
        "crops": np.stack([c[0] for c in crops]),
        "crop_words": crop_words,
        "crop_ids": np.array([[c[1], c[2]] for c in crops]),
    }


def draw_forever(folder: Path, seed: int, queue: Any, share: Any) -> None:
    cv2.setNumThreads(1)
    artist = Artist(pictures.load_sprites(folder), seed)
    while True:
        queue.put(make_batch(artist, float(share.value)))


# losses -------------------------------------------------------------------------------------


def pixels(images: NDArray[np.uint8]) -> Tensor:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(IMAGE_MEAN)[:, None, None]) / torch.tensor(IMAGE_STD)[:, None, None]


def embed(model: CLIPModel, x: Tensor) -> Tensor:
    """Patch tokens with interpolated positions, as `ClipBackbone` has them."""
    vision = model.vision_model
    patches = vision.embeddings.patch_embedding(x)
    grid = patches.shape[2:]
    table = vision.embeddings.position_embedding.weight
    side = IMAGE_SIZE // PATCH
    square = table[1:].T.reshape(1, -1, side, side)
    if tuple(grid) != (side, side):
        square = F.interpolate(square, grid, mode="bilinear", align_corners=False)
    position = torch.cat([table[:1], square[0].flatten(1).T])
    cls = vision.embeddings.class_embedding.expand(len(x), 1, -1)
    return vision.pre_layrnorm(torch.cat([cls, patches.flatten(2).transpose(1, 2)], 1) + position)


def encode_crops(model: CLIPModel, views: NDArray[np.float32]) -> Tensor:
    """What the classifier reads: unit features of CLS."""
    vision = model.vision_model
    x = embed(model, torch.from_numpy(views))
    for layer in vision.encoder.layers:
        x = layer(x, attention_mask=None)
    return F.normalize(model.visual_projection(vision.post_layernorm(x[:, 0])), dim=-1)


def last_block(layer: Any, x: Tensor, target: Tensor) -> Tensor:
    """The last block with its first LayerNorm's output given; twice differentiable."""
    attention = layer.self_attn
    heads = attention.num_heads
    q, k, v = (
        p(target).unflatten(2, (heads, -1)).transpose(1, 2)
        for p in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = (q * attention.scale @ k.transpose(2, 3)).softmax(-1) @ v
    x = x + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return x + layer.mlp(layer.layer_norm2(x))


def encode_texts(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return F.normalize(model.get_text_features(**ids).pooler_output, dim=-1)


def positives_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Contrastive loss with several positives: the log of their summed probability."""
    has = wanted.sum(-1) > 0
    log_p = logits.log_softmax(-1)
    summed = torch.logsumexp(log_p.masked_fill(wanted == 0, -1e4), dim=-1)
    return -summed[has].mean() if bool(has.any()) else logits.sum() * 0


def step_losses(
    model: CLIPModel, tokenizer: CLIPTokenizer, batch: dict[str, Any], rng: np.random.Generator
) -> dict[str, Tensor]:
    scale = model.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    ids, crop_ids = batch["ids"], batch["crop_ids"]
    count = len(ids)

    # Which things CAMs are asked for, by noun or, where one is coloured, by both.
    asked = np.argwhere(ids[..., 0] >= 0)
    asked = rng.permutation(asked)[: CAM_TOKENS // batch["cover"][0, 0].size]
    cam_texts: list[str] = []
    cam_class = []
    target = np.zeros((len(asked), *batch["cover"].shape[2:]), np.float32)
    for row, (b, k) in enumerate(asked):
        noun, color = ids[b, k]
        same = ids[b, :, 0] == noun
        if color >= 0 and rng.random() < 0.6:
            same &= ids[b, :, 1] == color
            cam_class.append(-1 - len(cam_texts))
            cam_texts.append(color_phrase(rng, CLASSES[noun], COLOR_WORDS[color]))
        else:
            cam_class.append(int(noun))
        target[row] = np.minimum(1, batch["cover"][b, same].sum(0))

    colored = [(b, k) for b in range(count) for k in range(MAX_OBJECTS) if ids[b, k, 1] >= 0][:10]
    colored_crops = [b for b in range(len(crop_ids)) if crop_ids[b, 1] >= 0][:10]
    nouns = [int(ids[b, k, 0]) for b, k in colored] + [int(crop_ids[b, 0]) for b in colored_crops]
    color_texts = [color_phrase(rng, CLASSES[n], c) for n in nouns for c in COLOR_WORDS]
    texts = [class_phrase(rng, i) for i in range(len(CLASSES))]
    features = encode_texts(model, tokenizer, texts + cam_texts + color_texts)
    classes, cam_extra, color_features = features.split(
        [len(texts), len(cam_texts), len(color_texts)]
    )
    losses: dict[str, Tensor] = {}

    # Crops: what the classifier reads.
    vision = model.vision_model
    cls = encode_crops(model, batch["crops"])
    losses["crop"] = positives_loss(scale * cls @ classes.T, torch.from_numpy(batch["crop_words"]))

    # Scenes: what the generator differentiates.
    x = embed(model, pixels(batch["scenes"]))
    for layer in vision.encoder.layers[:-1]:
        x = layer(x, attention_mask=None)
    out = vision.post_layernorm(vision.encoder.layers[-1](x, attention_mask=None))
    tokens = out[:, 1:]
    pooled = F.normalize(model.visual_projection(tokens.mean(1)), dim=-1)
    x_asked = x[torch.from_numpy(asked[:, 0])]
    activation = vision.encoder.layers[-1].layer_norm1(x_asked)
    out_asked = vision.post_layernorm(last_block(vision.encoder.layers[-1], x_asked, activation))
    pooled_asked = F.normalize(model.visual_projection(out_asked[:, 1:].mean(1)), dim=-1)
    queries = torch.stack([classes[c] if c >= 0 else cam_extra[-1 - c] for c in cam_class])
    own = scale * (pooled_asked * queries).sum(-1, keepdim=True)
    rows = torch.cat([own, scale * pooled_asked @ classes[NOUN_COUNT:].T], dim=1)
    # The gradient of log p is that of p up to a positive factor, which min-max takes away.
    (gradient,) = torch.autograd.grad(
        rows.log_softmax(-1)[:, 0].sum(), activation, create_graph=True
    )
    weights = gradient[:, 1:].mean(1)
    raw = torch.einsum("bd,bpd->bp", weights, activation[:, 1:])
    wanted = torch.from_numpy(target).flatten(1)
    centered = raw - raw.mean(1, keepdim=True)
    centered_wanted = wanted - wanted.mean(1, keepdim=True)
    losses["cam_corr"] = 1 - F.cosine_similarity(centered, centered_wanted, dim=1, eps=1e-12).mean()
    cam = raw.relu() / (raw.relu().amax(1, keepdim=True) + 1e-12)
    dice = 2 * (cam * wanted).sum(1) / (cam.square().sum(1) + wanted.square().sum(1) + 1e-6)
    losses["cam_dice"] = 1 - dice.mean()

    cover = torch.from_numpy(np.concatenate([batch["cover"], batch["surface"]], 1)).flatten(2)
    regions = cover @ tokens / (cover.sum(-1, keepdim=True) + 1e-6)
    regions = F.normalize(model.visual_projection(regions), dim=-1)
    words = np.zeros((count, MAX_OBJECTS, len(CLASSES)), np.float32)
    for b, k in np.argwhere(ids[..., 0] >= 0):
        words[b, k, ids[b, k, 0]] = 1
    region_words = torch.from_numpy(np.concatenate([words, batch["surface_words"]], 1))
    region_words = region_words * (cover.sum(-1, keepdim=True) > 0.5)
    losses["region"] = positives_loss(scale * regions @ classes.T, region_words)
    seen = region_words.amax(1)
    losses["mean"] = positives_loss(scale * pooled @ classes.T, seen)
    whole = F.normalize(model.visual_projection(out[:, 0]), dim=-1)
    losses["cls"] = positives_loss(
        scale * whole @ classes.T, seen * (torch.arange(len(CLASSES)) < NOUN_COUNT)
    )

    if nouns:
        parts = [regions[b, k] for b, k in colored] + [cls[b] for b in colored_crops]
        variants = color_features.view(len(nouns), len(COLOR_WORDS), -1)
        logits = scale * torch.einsum("nd,ncd->nc", torch.stack(parts), variants)
        right = [int(ids[b, k, 1]) for b, k in colored] + [
            int(crop_ids[b, 1]) for b in colored_crops
        ]
        losses["color"] = F.cross_entropy(logits, torch.tensor(right))
    return losses


LOSS_WEIGHTS = {
    "crop": 1.0,
    "cam_corr": 1.0,
    "cam_dice": 0.7,
    "region": 0.7,
    "mean": 0.15,
    "cls": 0.25,
    "color": 0.3,
}


# training -----------------------------------------------------------------------------------


@torch.no_grad()
def measure(model: CLIPModel, tokenizer: CLIPTokenizer, artist: Artist) -> dict[str, float]:
    """Quality on held-out backgrounds: top-1 of prompted crops, and the CAM's IoU at a half."""
    rng = np.random.default_rng(1)
    batch = make_batch(artist, 1.0)
    with torch.enable_grad():
        losses = step_losses(model, tokenizer, batch, rng)
    texts = [TEMPLATE.format(name) for name in CLASSES]
    classes = encode_texts(model, tokenizer, texts)
    cls = encode_crops(model, batch["crops"])
    best = (cls @ classes.T).argmax(1).numpy()
    right = batch["crop_words"][np.arange(len(best)), best].mean()
    return {"top1": float(right)} | {k: float(v) for k, v in losses.items()}


def export(
    model: CLIPModel, averaged: dict[str, Tensor], tokenizer: CLIPTokenizer, folder: Path
) -> None:
    """Save the averaged weights in half precision, as `from_pretrained` reads them."""
    copy = CLIPModel(model.config)
    copy.load_state_dict({k: v.clone() for k, v in averaged.items()}, strict=False)
    copy.logit_scale.data.clamp_(max=MAX_LOGIT_SCALE)
    copy.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sprites", type=Path)
    parser.add_argument("work", type=Path, help="checkpoints and the log")
    parser.add_argument("--export", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(options.work / "tokenizer")
    model = make_model(tokenizer).train()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=options.learning_rate,
        betas=(0.9, 0.98),
    )
    state: dict[str, Any] = {"step": 0, "images": 0, "spent_s": 0.0}
    checkpoint = options.work / "checkpoint.pt"
    averaged = {k: v.detach().clone() for k, v in model.state_dict().items()}
    if options.resume:
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        averaged, state = saved["averaged"], saved["state"]

    context = multiprocessing.get_context("spawn")
    queue, share = context.Queue(6), context.Value("d", 0.0)
    seed = options.seed + 1000 * (state["step"] + 1)
    drawer = context.Process(
        target=draw_forever, args=(options.sprites, seed, queue, share), daemon=True
    )
    drawer.start()
    judge = Artist(pictures.load_sprites(options.sprites), 987_654_321, held_out=True)
    rng = np.random.default_rng(seed)
    recent: deque[dict[str, float]] = deque(maxlen=50)
    total_s, saved_at, before = 60 * options.minutes, time.monotonic(), time.monotonic()
    while state["spent_s"] < total_s:
        done = state["spent_s"] / total_s
        share.value = done
        warm = min(1.0, (state["step"] + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = (
                options.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            )
        batch = queue.get()
        losses = step_losses(model, tokenizer, batch, rng)
        loss = sum(LOSS_WEIGHTS[k] * v for k, v in losses.items())
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(EMA_DECAY, state["step"] / (state["step"] + 10))
            for key, value in model.state_dict().items():
                averaged[key].lerp_(value, 1 - decay) if value.is_floating_point() else None
        state["step"] += 1
        state["images"] += len(batch["scenes"]) + len(batch["crops"])
        now = time.monotonic()
        state["spent_s"] += now - before
        before = now
        recent.append({k: float(v.detach()) for k, v in losses.items()})
        if state["step"] % 50 == 0:
            mean = {k: np.mean([r[k] for r in recent if k in r]) for k in LOSS_WEIGHTS}
            row = " ".join(f"{k} {v:.3f}" for k, v in mean.items())
            print(
                f"{state['step']} {state['spent_s'] / 60:.1f} min {state['images']} images {row}",
                flush=True,
            )
        if now - saved_at > CHECKPOINT_S or state["spent_s"] >= total_s:
            quality = measure(model, tokenizer, judge)
            print("held out: " + " ".join(f"{k} {v:.3f}" for k, v in quality.items()), flush=True)
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "averaged": averaged,
                    "state": state,
                },
                checkpoint,
            )
            export(model, averaged, tokenizer, options.export)
            saved_at = time.monotonic()
    drawer.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
