"""One frame as a JPEG, with the masks of chosen things over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.app.things import Thing
from carvid.config import OverlayConfig
from carvid.show.overlay import draw_overlay

LARGEST_SIDE = 1280
"""Longer side of a picture that is sent, pixels."""
SMALLEST_SIDE = 64
JPEG_QUALITY = 88


@dataclass(frozen=True)
class Masks:
    """What is drawn over a frame."""

    labels: NDArray[np.uint8]
    """uint8 (H, W): label k from 1, 0 is background."""
    things: Sequence[Thing]
    """Those that are drawn, each with its label."""
    scores: Sequence[float] | None = None
    """Their scores in [0, 1]; None shows none."""


def fitted(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return an image, uint8 (H, W, 3), scaled down to a longer side, pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, max(SMALLEST_SIDE, min(side, LARGEST_SIDE)) / max(height, width))
    if scale == 1.0:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def chosen_labels(labels: NDArray[np.uint8], things: Sequence[Thing]) -> NDArray[np.uint8]:
    """Return a label map, uint8 (H, W), in which thing k of these, from 1, is label k, and all
    others are background."""
    table = np.zeros(256, np.uint8)
    for place, thing in enumerate(things, 1):
        if thing.label:
            table[thing.label] = place
    return table[labels]


def draw(
    image: NDArray[np.uint8], masks: Masks | None, style: OverlayConfig, *, names: bool = True
) -> NDArray[np.uint8]:
    """Draw masks over a frame as the overlay of a run does, in the things' own colours.

    Args:
        image: uint8 (H, W, 3) RGB.
        masks: of any size; None draws none.
        style: of the run.
        names: whether the things' names are drawn beside them.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    if masks is None or not masks.things:
        return image
    size = (image.shape[1], image.shape[0])
    labels = chosen_labels(masks.labels, masks.things)
    if labels.shape != image.shape[:2]:
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    plain = replace(style, side_by_side=False, legend="off", labels=names and style.labels)
    return draw_overlay(
        image, labels, [thing.name for thing in masks.things], plain,
        scores=masks.scores, colors=[thing.color for thing in masks.things],
    )  # fmt: skip


def to_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return an image, uint8 (H, W, 3) RGB, as a JPEG."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert done
    return data.tobytes()
