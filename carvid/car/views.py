"""v and the image encoder of g together: prompted images of a frame, and their features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carvid.base.scale import Scales
from carvid.car.classifier import MaskClassifier
from carvid.car.frame import LoopFrame
from carvid.car.prompts import draw_prompts
from carvid.config import PromptsConfig

NEW_VIEWS = 64
"""So many prompted images are drawn and encoded at a time; of hundreds of queries all would not fit
into memory."""


def encode_views(
    frame: LoopFrame,
    masks: NDArray[np.bool_],
    kinds: Sequence[tuple[str, ...]],
    classifier: MaskClassifier,
    config: PromptsConfig,
) -> Tensor:
    """Return the features, float32 (C, D), of a frame with the prompt of each mask. No image is
    encoded twice: the frame keeps what was.

    Args:
        frame: the frame.
        masks: bool (C, h, w), at the size of the loop.
        kinds: C times the prompts that are drawn.
        classifier: whose encoder it is.
        config: how prompts are drawn.
    """
    keys = [
        " ".join(each).encode() + np.packbits(mask).tobytes()
        for each, mask in zip(kinds, masks, strict=True)
    ]
    new = {key: row for row, key in reversed(list(enumerate(keys))) if key not in frame.prompted}
    todo = sorted(new.values())
    for start in range(0, len(todo), NEW_VIEWS):
        rows = todo[start : start + NEW_VIEWS]
        images = [
            draw_prompts(
                frame.image, masks[row], kinds[row], frame.blurred, swap_gray=config.swap_gray
            )
            for row in rows
        ]  # x'_t
        scales = Scales(frame.image, frame.full)
        encoded = classifier.encode(images, masks[rows], scales)
        frame.prompted.update(zip((keys[row] for row in rows), encoded, strict=True))
    return torch.stack([frame.prompted[key] for key in keys])
