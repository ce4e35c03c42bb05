#!/usr/bin/env python
"""Compare automatic masks of segment-anything with carvid's own, on SAMs of random weights.

    tools/compare_sam.py tiny reduced vit_b

needs segment-anything and a torchvision that fits the torch. `tiny` has a few channels, `reduced`
the form of vit_b with a quarter of its width and input, `vit_b` the real sizes (minutes). Prints a
line for each picture: masks of both, whether all are equal bit by bit and in the same order, pixels
that differ, and the least IoU of the masks at the same place.
"""

from __future__ import annotations

import sys
import time
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
        return f"{len(ours)} and {len(theirs)} masks"
    both = (ours & theirs).sum(axis=(1, 2))
    either = (ours | theirs).sum(axis=(1, 2))
    least = (both / either).min() if len(ours) else 1.0
    equal = "equal" if (ours == theirs).all() else "not equal"
    return (
        f"{len(ours)} masks, {equal}, {(ours != theirs).sum()} of {ours.size} pixels differ, "
        f"least IoU {least:.5f}"
    )


def main() -> None:
    for name in sys.argv[1:] or ["tiny"]:
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
