#!/usr/bin/env python
"""Compare automatic masks of segment-anything with carvid's own, on SAMs of random weights.

    tools/compare_sam.py tiny reduced vit_b drawn

needs segment-anything and a torchvision that fits the torch. `tiny` has a few channels, `reduced`
the form of vit_b with a quarter of its width and input, `vit_b` the real sizes (minutes). `drawn`
gives both the same logits, ellipses of all sizes, in the place of the networks', whose masks are
much alike: it shows what thresholds and suppression leave. Prints a line for each picture: masks of
both, whether all are equal bit by bit and in the same order, pixels that differ, and the least IoU
of the masks at the same place.
"""

from __future__ import annotations

import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import SamConfig as SizesConfig
from transformers import SamModel

from carvid.config import SamConfig
from carvid.media.open import open_video
from carvid.sam.automatic import automatic_masks
from carvid.sam.network import SamNetwork
from carvid.sam.package import package_generator

CLIP = Path(__file__).parent.parent / "examples" / "dog-jumping.mp4"
SIZES = {
    "tiny": (
        {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_dim": 40,
         "image_size": 64, "patch_size": 8, "output_channels": 16, "window_size": 3,
         "global_attn_indexes": [1], "num_pos_feats": 8},
        {"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 12},
        {"hidden_size": 16, "mlp_dim": 28, "iou_head_hidden_dim": 20},
    ),
    "reduced": (
        {"hidden_size": 192, "num_attention_heads": 3, "mlp_dim": 768, "image_size": 256,
         "output_channels": 64, "num_pos_feats": 32},
        {"hidden_size": 64, "image_size": 256},
        {"hidden_size": 64, "mlp_dim": 512, "iou_head_hidden_dim": 64},
    ),
    "vit_b": ({}, {}, {}),
}  # fmt: skip
"""Sizes of the encoder, of prompts and of the decoder, beside those of vit_b."""
GRID = {"tiny": 12, "reduced": 12, "vit_b": 8}
"""Points of the grid in each direction."""


def random_sam(name: str, seed: int) -> SamModel:
    """Return a SAM whose weights are drawn so that its masks are neither empty nor whole frames."""
    torch.manual_seed(seed)
    vision, prompts, decoder = SIZES[name]
    config = SizesConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    model = SamModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 1.0 / max(parameter.shape[-1], 4) ** 0.5)
    model.tie_weights()
    return model


def pictures() -> list[NDArray[np.uint8]]:
    """A frame of the example, it with odd sides, a tall one, and coarse noise."""
    with open_video(CLIP) as video:
        frame = next(iter(video.frames())).image
    noise = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    tall = np.array(Image.fromarray(noise).resize((201, 333), Image.Resampling.BICUBIC))
    return [frame, np.ascontiguousarray(frame[:241, :427]), tall]


def compare(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> str:
    """Say in a few words how far two sets of masks agree."""
    if ours.shape != theirs.shape:
        own, other = ({mask.tobytes() for mask in each} for each in (ours, theirs))
        return (
            f"{len(ours)} and {len(theirs)} masks, {len(own - other)} of them only carvid's, "
            f"{len(other - own)} only the package's"
        )
    both = (ours & theirs).sum(axis=(1, 2))
    either = (ours | theirs).sum(axis=(1, 2))
    least = (both / either).min() if len(ours) else 1.0
    equal = "equal" if (ours == theirs).all() else "not equal"
    return (
        f"{len(ours)} masks, {equal}, {(ours != theirs).sum()} of {ours.size} pixels differ, "
        f"least IoU {least:.5f}"
    )


class Drawn:
    """Ellipses near each point, as a decoder's logits, and ratings; the same whoever asks."""

    SIDE = 64
    """Of the logits; a quarter of the network's input."""

    def __init__(self, seed: int, size_hw: tuple[int, int]) -> None:
        self.seed, self.size_hw = seed, size_hw

    def at(self, points: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, float32 (P, 3, h, w), and ratings, float32 (P, 3), of points (P, 2)."""
        rows, columns = np.mgrid[: self.SIDE, : self.SIDE]
        logits, ratings = [], []
        for x, y in np.round(points).astype(int):
            rng = np.random.default_rng([self.seed, x, y])
            centre = np.array([x, y]) * self.SIDE / max(self.size_hw)
            for _ in range(3):
                a, b = rng.uniform(0.5, 14, 2) * rng.choice([0.15, 0.4, 1.0])
                left, top = centre + rng.normal(0, 1.5, 2)
                distance = np.hypot((columns - left) / a, (rows - top) / b)
                logits.append(rng.choice([60, 400]) * (1 - distance).clip(-2))
                ratings.append(rng.uniform(0.8, 1))
        shape = (len(points), 3, self.SIDE, self.SIDE)
        both = (np.array(each, np.float32) for each in (logits, ratings))
        planes, rated = (torch.from_numpy(each) for each in both)
        return planes.reshape(shape), rated.reshape(len(points), 3)


def compare_drawn(seed: int, image: NDArray[np.uint8]) -> str:
    """Compare what is left of drawn logits, with the usual thresholds."""
    model, drawn = random_sam("reduced", seed), Drawn(seed, image.shape[:2])
    config = SamConfig(model="drawn", points_per_side=16, points_per_batch=16)
    network = SamNetwork(model)

    def masks_at(_: object, points: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
        logits, ratings = drawn.at(points)
        return logits.flatten(0, 1), ratings.flatten()

    def predict_torch(points: torch.Tensor, *_: object, **__: object) -> tuple[object, ...]:
        height, width = predictor.input_size
        frame = points[:, 0].numpy() * (image.shape[1] / width, image.shape[0] / height)
        logits, ratings = drawn.at(frame)
        size = (height, width), image.shape[:2]
        return predictor.model.postprocess_masks(logits, *size), ratings, None

    found = package_generator(model, config)
    assert found is not None, "segment-anything cannot be used here"
    predictor = found[0].args[0].predictor
    network.masks_at, predictor.predict_torch = masks_at, predict_torch
    return compare(automatic_masks(network, image, config), found[0](image))


def main() -> None:
    for name in sys.argv[1:] or ["tiny"]:
        if name == "drawn":
            for seed, image in product(range(2), pictures()):
                size = "{}×{}".format(*image.shape[1::-1])
                print(f"drawn {seed} {size}: {compare_drawn(seed, image)}", flush=True)
            continue
        for seed in range(1 if name == "vit_b" else 3):
            model = random_sam(name, seed)
            for max_box_iou in (1.0, 0.95):  # 1: whatever is asked for, as it comes
                config = SamConfig(
                    model=name, points_per_side=GRID[name], points_per_batch=16, min_iou=-1e9,
                    min_stability=0.0, max_box_iou=max_box_iou,
                )  # fmt: skip
                found = package_generator(model, config)
                assert found is not None, "segment-anything cannot be used here"
                for image in pictures()[: 1 if name == "vit_b" else None]:
                    times = [time.perf_counter()]
                    ours = automatic_masks(SamNetwork(model), image, config)
                    times.append(time.perf_counter())
                    theirs = found[0](image)
                    times.append(time.perf_counter())
                    spent = "{:.1f} and {:.1f} s".format(*np.diff(times))
                    size = "{}×{}".format(*image.shape[1::-1])
                    print(f"{name} {seed} {size} max_box_iou {max_box_iou}: "
                          f"{compare(ours, theirs)}; {spent}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
