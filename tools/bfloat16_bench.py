"""Network passes of a key frame in float32 and in bfloat16: seconds, and how far both agree.

The networks have the real architectures and random weights, the same in both precisions.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from speed_bench import EXPRESSIONS, random_backbone
from torch import Tensor
from torch.nn import functional as F

from carvid.clip.backbone import ClipBackbone
from carvid.config import ProposalsConfig

DTYPES = (torch.float32, torch.bfloat16)
PARTS = ("texts", "image", "CAMs", "views", "sum")
CELL, NOISE = 16, 0.3
"""The picture: smooth, with a new colour every so many pixels, and noise of so many deviations."""

Made = TypeVar("Made")


def table(size_hw: tuple[int, int], count: int, runs: int, threads: int) -> Iterator[str]:
    """Yield rows of Markdown: seconds of each part in both precisions, and their agreement.

    Args:
        size_hw: of the image, pixels, divisible by 16.
        count: expressions, and views.
        runs: of each precision, after one that does not count.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    pixels = random_pixels(size_hw)
    views = F.interpolate(pixels[None], (224, 224), mode="area").repeat(count, 1, 1, 1)
    views *= torch.linspace(1, 0.5, count)[:, None, None, None]  # of other contrast each
    seconds: dict[tuple[str, torch.dtype], list[float]] = defaultdict(list)
    made: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
    models = {dtype: random_models(dtype) for dtype in DTYPES}
    for _ in range(runs + 1):
        for dtype, (generator, classifier) in models.items():
            made[dtype], taken = passes(generator, classifier, pixels, views)
            for part in PARTS:
                seconds[part, dtype].append(taken[part])
    yield "| part | float32, s | bfloat16, s | gain |\n|-|-|-|-|"
    for part in PARTS:
        full, half = (median(seconds[part, dtype][1:]) for dtype in DTYPES)
        yield f"| {part} | {full:.3f} | {half:.3f} | {full / half:.2f} |"
    (cams, features), (half_cams, half_features) = (made[dtype] for dtype in DTYPES)
    rows = zip(cams.flatten(1), half_cams.flatten(1), strict=True)
    least = min(float(np.corrcoef(np.stack(pair))[0, 1]) for pair in rows)
    yield f"least correlation of CAMs: {least:.5f}"
    cosine = F.cosine_similarity(features, half_features).min()
    yield f"least cosine of features of views: {float(cosine):.5f}"


def random_models(dtype: torch.dtype) -> tuple[ClipBackbone, ClipBackbone]:
    """B/16 and L/14, with the same weights in every precision."""
    generator = random_backbone("B/16", 0, half_positions=False, dtype=dtype)
    return generator, random_backbone("L/14", 1, half_positions=False, dtype=dtype)


def random_pixels(size_hw: tuple[int, int]) -> Tensor:
    """A picture as CLIP sees it, float32 (3, H, W)."""
    torch.manual_seed(0)
    height, width = size_hw
    colours = torch.randn(1, 3, height // CELL, width // CELL)
    smooth = F.interpolate(colours, size_hw, mode="bicubic")[0]
    return (smooth + NOISE * torch.randn(3, height, width)).clamp(-2, 2)


def passes(
    generator: ClipBackbone, classifier: ClipBackbone, pixels: Tensor, views: Tensor
) -> tuple[tuple[Tensor, Tensor], dict[str, float]]:
    """Run the passes of one key frame.

    Returns:
        CAMs, float32 (N, h, w), and features of views, float32 (N, D); seconds of each part.
    """
    words = [*EXPRESSIONS[: len(views)], *ProposalsConfig().background]
    generator.forget_texts()
    seconds: dict[str, float] = {}

    def timed(part: str, run: Callable[[], Made]) -> Made:
        start = time.perf_counter()
        result = run()
        seconds[part] = time.perf_counter() - start
        return result

    texts = timed("texts", lambda: generator.encode_texts(words))
    own, background = texts[: len(views)], texts[len(views) :]
    seen = timed("image", lambda: generator.encode_patches(pixels))
    cams = timed(
        "CAMs", lambda: generator.gradient_cams(seen, own, background, competing=True)
    )  # as semantic mode has them, of all texts together
    features = timed("views", lambda: classifier.encode_images(views))
    seconds["sum"] = sum(seconds[part] for part in ("image", "CAMs", "views"))  # texts: once a run
    return (cams, features), seconds
