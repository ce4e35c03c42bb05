"""Masks drawn over frames: fill, outline and a label for each expression; the overlay video."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from carvid.config import OverlayConfig
from carvid.video import VideoInfo, VideoWriter

COLORS = (
    (255, 94, 58), (40, 160, 255), (255, 200, 30), (60, 200, 110), (200, 90, 230),
    (20, 205, 205), (255, 120, 180), (160, 190, 40),
)  # fmt: skip
"""Colours of expressions 1, 2, …, RGB; further ones follow by the golden ratio of hue."""
GOLDEN_RATIO = 0.618034
FONT_SHARE = 1 / 26
"""Height of a label's letters over the frame's height."""
MIN_FONT_PX = 11
OUTLINE_SHARE = 1 / 240
MAX_LABEL_SHARE = 0.6
"""Width of a label over the frame's width; longer expressions are shortened."""


def color_of(index: int) -> tuple[int, int, int]:
    """Return the RGB of expression `index`, from 0; the same in every run."""
    if index < len(COLORS):
        return COLORS[index]
    r, g, b = colorsys.hsv_to_rgb(index * GOLDEN_RATIO % 1, 0.75, 1.0)
    return (round(255 * r), round(255 * g), round(255 * b))


def draw_overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    texts: Sequence[str],
    config: OverlayConfig,
    *,
    scores: Sequence[float] | None = None,
) -> NDArray[np.uint8]:
    """Draw labelled masks over a frame.

    Args:
        image: uint8 (H, W, 3) RGB; not changed.
        labels: uint8 (H, W); k is expression k from 1, 0 is background.
        texts: the N expressions; letters that Pillow's own font lacks show as boxes.
        config: what to draw.
        scores: N scores in [0, 1], shown after the expressions.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels must be {image.shape[:2]}, got {labels.shape}")
    table = np.array([(0, 0, 0), *(color_of(k) for k in range(255))], np.uint8)
    strength = np.where(labels > 0, round(256 * config.opacity), 0).astype(np.uint16)[..., None]
    blended = (image * (256 - strength) + table[labels] * strength) >> 8
    picture = np.ascontiguousarray(blended, dtype=np.uint8)
    width = max(1, round(image.shape[0] * OUTLINE_SHARE))
    if config.outline:
        for label in np.unique(labels[labels > 0]).tolist():
            contours, _ = cv2.findContours(
                (labels == label).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
            )
            color = color_of(label - 1)
            cv2.drawContours(picture, contours, -1, color, width, cv2.LINE_AA)
    return _draw_labels(picture, labels, texts, scores) if config.labels else picture


def write_overlay(
    path: Path,
    info: VideoInfo,
    frames: Iterable[NDArray[np.uint8]],
    labels: Iterable[NDArray[np.uint8]],
    texts: Sequence[str],
    config: OverlayConfig,
    *,
    scores: Sequence[Sequence[float]] | None = None,
) -> int:
    """Write the overlay of frames, uint8 (H, W, 3) RGB, and label maps, uint8 (H, W).

    Returns:
        The number of frames written.

    Raises:
        OutputError: the place cannot be written.
        ValueError: there are more frames than label maps, or fewer.
    """
    count = 0
    with VideoWriter(path, info.size_hw, info.frame_rate) as writer:
        for image, plane in zip(frames, labels, strict=True):
            of_frame = scores[count] if scores is not None else None
            writer.write(draw_overlay(image, plane, texts, config, scores=of_frame))
            count += 1
    return count


def _draw_labels(
    picture: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    texts: Sequence[str],
    scores: Sequence[float] | None,
) -> NDArray[np.uint8]:
    """A plate above each mask; what is not there is listed at the bottom left."""
    height, width = labels.shape
    size = max(MIN_FONT_PX, round(height * FONT_SHARE))
    font, gap = _font(size), max(2, size // 3)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    taken: list[tuple[int, int, int, int]] = []
    foot = height - gap
    for index, text in enumerate(texts):
        rows, columns = np.nonzero(labels == index + 1)
        name = _shorten(draw, font, text, width * MAX_LABEL_SHARE)
        if not len(rows):
            name += ": not there"
        elif scores is not None:
            name += f"  {scores[index]:.2f}"
        w = round(draw.textlength(name, font=font)) + 2 * gap
        h = size + 2 * gap
        if len(rows):
            x = int(np.clip(columns.mean() - w / 2, 0, max(0, width - w)))
            y = int(np.clip(rows.min() - h - gap, 0, max(0, height - h)))
            y = _free_row(taken, (x, y, w, h), height)
            ink, plate = _contrast(color_of(index)), color_of(index)
        else:
            foot -= h
            x, y, ink, plate = gap, max(0, foot), (235, 235, 235), (60, 60, 60)
            foot -= gap
        taken.append((x, y, w, h))
        draw.rounded_rectangle((x, y, x + w, y + h), radius=gap, fill=plate)
        draw.text((x + gap, y + h / 2), name, font=font, fill=ink, anchor="lm")
    return np.array(canvas)


def _free_row(
    taken: list[tuple[int, int, int, int]], box: tuple[int, int, int, int], limit: int
) -> int:
    """The first place below a label's wish where no other label is."""
    x, y, w, h = box
    rows: tuple[int, ...] = (*range(y, limit - h, 2), *range(y, -1, -2))
    for row in rows:
        if all(x >= a + c or x + w <= a or row >= b + d or row + h <= b for a, b, c, d in taken):
            return row
    return y


def _shorten(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, text: str, limit: float
) -> str:
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= limit:
        return text
    while len(text) > 1 and draw.textlength(text + "…", font=font) > limit:
        text = text[:-1]
    return text.rstrip() + "…"


def _contrast(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on `color` (ITU-R BT.601 luma)."""
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luma > 140 else (255, 255, 255)


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
