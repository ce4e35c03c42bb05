#!/usr/bin/env python
"""Compare carvid's dense features with golden files of the published NACLIP code.

    tools/check_dense_golden.py FILE.npz [FILE.npz ...]

Prints one line for each array, with the largest difference, and exits 1 if any is out. A file holds
what enters the last block, since the published code enlarges position embeddings in another way;
where its grid is the network's own, the whole pass from the pixels is checked, too. The networks
are those of tools/check_golden.py, whose weights follow from a seed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from check_golden import Line, golden_clip
from numpy.typing import NDArray
from torch import Tensor

from carvid.clip.backbone import ClipBackbone
from carvid.clip.dense import DenseFeatures, Variant, dense_features, log_probabilities
from carvid.clip.layers import split_heads

TOLERANCES = {"features": 1e-4, "probabilities": 1e-4}
"""Float tolerances, all of them."""
KINDS: dict[str, tuple[Variant, float]] = {
    "kk": ("kk", 0.0), "qq": ("qq", 0.0), "sclip": ("sclip", 0.0)
}  # fmt: skip
"""Name in a file → variant and σ; `naclip_5` is `kk` with σ = 5."""
SCALE = 40.0
"""Factor from cosine to logit in the files."""


def check(path: Path) -> Iterator[Line]:
    """Yield one line for each array of a file."""
    with np.load(path) as file:
        arrays = dict(file)
    model = golden_clip(str(arrays["model"]))
    down, across = arrays["grid_hw"].tolist()
    inputs = {"": torch.from_numpy(arrays["last_block_input"])[None]}
    backbone = ClipBackbone(model, None)
    if down * across + 1 == model.vision_model.embeddings.num_positions and down == across:
        inputs[" from the pixels"] = _last_block_input(backbone, arrays["pixels"])
    texts = torch.from_numpy(arrays["text_features"])
    for whence, x in inputs.items():
        for name in _names(arrays):
            variant, sigma = _variant(name)
            features = _features(backbone, x, (down, across), variant, sigma)
            for what, found in _arrays(features, (down, across), texts).items():
                given = arrays[f"{name}_{what}"]
                yield _line(f"{name} {what}{whence}", given, found, TOLERANCES[what])


def _names(arrays: dict[str, NDArray[np.float32]]) -> list[str]:
    """The variants in a file, in its order."""
    return [
        key.removesuffix("_features")
        for key in arrays
        if key.endswith("_features") and key != "text_features"
    ]


def _variant(name: str) -> tuple[Variant, float]:
    sigma = re.fullmatch(r"naclip_([\d.]+)", name)
    return ("kk", float(sigma[1])) if sigma else KINDS[name]


def _last_block_input(backbone: ClipBackbone, pixels: NDArray[np.float32]) -> Tensor:
    with torch.inference_mode():
        return backbone.enter_last_block(torch.from_numpy(pixels), attention_blocks=1).x


def _features(
    backbone: ClipBackbone, x: Tensor, grid_hw: tuple[int, int], variant: Variant, sigma: float
) -> Tensor:
    layer = backbone.model.vision_model.encoder.layers[-1]
    with torch.inference_mode():
        heads = split_heads(layer.self_attn, layer.layer_norm1(x))
    return dense_features(
        backbone.model, backbone._projection, x, heads, grid_hw, variant=variant, sigma=sigma
    )


def _arrays(
    features: Tensor, grid_hw: tuple[int, int], texts: Tensor
) -> dict[str, NDArray[np.float32]]:
    """What is compared: features, float32 (hw, D'), and probabilities, float32 (hw, S)."""
    kept = DenseFeatures.of(grid_hw, features)
    logs = log_probabilities(kept, texts, texts[:0], scale=SCALE, competing=True)  # (S, h, w)
    return {"features": features.numpy(), "probabilities": logs.exp().flatten(1).T.numpy()}


def _line(
    name: str, given: NDArray[np.float32], found: NDArray[np.float32], tolerance: float
) -> Line:
    if given.shape != found.shape:
        return Line(name, False, f"shape {found.shape}, the file has {given.shape}")
    difference = np.abs(given - found)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    where = "" if difference[worst] <= tolerance else f" at {tuple(map(int, worst))}"
    detail = f"largest difference {difference[worst]:.1e}{where} (at most {tolerance:g})"
    return Line(name, bool(difference[worst] <= tolerance), detail)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz")
    args = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    for path in args.files:
        print(path.name)
        for line in check(path):
            failed |= not line.passed
            print(f"  {'ok ' if line.passed else 'OUT'} {line.name}: {line.detail}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
