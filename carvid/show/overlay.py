"""Masks drawn over frames: fill, outline and a label for each expression; the overlay video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from carvid.base.palette import Color, color_of, contrast
from carvid.config import OverlayConfig
from carvid.media.encode import VideoWriter, sound_of
from carvid.media.frames import Frame, VideoInfo
from carvid.media.picture_writer import FORMS, PictureWriter
from carvid.show.fonts import font_of, lettering
from carvid.show.legend import LegendPlan, beside, draw_legend, plan_legend

GREY: Color = (60, 60, 60)
FONT_SHARE = 1 / 26
"""Height of a label's letters over the frame's height."""
MIN_FONT_PX = 12
MAX_ABSENT_SHARE = 0.34
"""Height of the list of what is not there over the frame's height."""
OUTLINE_SHARE = 1 / 240
HALO_SHARE = 0.5
"""Width of the halo on each side of an outline over the outline's."""
MAX_LABEL_SHARE = 0.6
"""Width of a label over the frame's width; longer expressions are shortened."""


def with_legend(config: OverlayConfig, *, semantic: bool) -> OverlayConfig:
    """Return a style that says whether there is a legend, where it leaves that to the mode."""
    if config.legend != "auto":
        return config
    return replace(config, legend="on" if semantic else "off")


def draw_overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    texts: Sequence[str],
    config: OverlayConfig,
    *,
    scores: Sequence[float] | None = None,
    colors: Sequence[Color] | None = None,
) -> NDArray[np.uint8]:
    """Draw labelled masks over a frame.

    Args:
        image: uint8 (H, W, 3) RGB; not changed.
        labels: uint8 (H, W); k is expression k from 1, 0 is background.
        texts: the N expressions; `carvid.show.fonts` says what is drawn of letters that no font on
            the machine has.
        config: what to draw, and how.
        scores: N scores in [0, 1], shown after the expressions.
        colors: of the N expressions; None are those of `config.palette`.

    Returns:
        uint8 (H, W, 3) RGB; (H, 2 W, 3) with `config.side_by_side`; with a legend wider by it, and
        perhaps higher (`picture_size`).

    Raises:
        ValueError: `labels` has another size than `image`.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels must be {image.shape[:2]}, got {labels.shape}")
    inside = round(256 * config.opacity) if config.fill else 0
    outside = round(256 * config.dim)
    picture = image.copy()
    masks, paint = _masks_of(labels), _painter(colors, config.palette)
    _tint(picture, labels == 0, (0, 0, 0), outside)
    for label, mask in masks.items():
        _tint(picture, mask, paint(label - 1), inside)
    if config.outline:
        _draw_outlines(picture, masks, config, paint)
    shown, plan = scores if config.scores else None, _legend(image.shape[:2], texts, config)
    if config.labels:
        absent = () if plan else [k for k in range(1, len(texts) + 1) if k not in masks]
        picture = _draw_labels(picture, masks, texts, absent, shown, paint)
    parts = [image, picture] if config.side_by_side else [picture]
    if plan is None:
        return np.concatenate(parts, axis=1)
    areas = {k: int(np.count_nonzero(mask)) for k, mask in masks.items() if k <= len(texts)}
    height, _ = picture_size((image.shape[0], image.shape[1]), texts, config)
    return beside(
        parts, draw_legend(plan, height, texts, areas, config.palette, shown, colors=colors)
    )


def picture_size(
    size_hw: tuple[int, int], texts: Sequence[str], config: OverlayConfig
) -> tuple[int, int]:
    """Return height and width of what `draw_overlay` makes of a frame."""
    height, width = size_hw
    width = 2 * width if config.side_by_side else width
    plan = _legend(size_hw, texts, config)
    return (height, width) if plan is None else (max(height, plan.least_height), width + plan.width)


def write_overlay(
    path: Path,
    info: VideoInfo,
    frames: Iterable[Frame],
    labels: Iterable[NDArray[np.uint8]],
    texts: Sequence[str],
    config: OverlayConfig,
    *,
    scores: Sequence[Sequence[float]] | None = None,
    colors: Sequence[Color] | None = None,
) -> int:
    """Write the overlay of frames and label maps, uint8 (H, W), at the frames' own times.

    The sound of the file at `info.path` is copied, as much of it as belongs to the frames. `colors`
    is as in `draw_overlay`.

    Returns:
        The number of frames written.

    Raises:
        OutputError: the place cannot be written.
        ValueError: there are more frames than label maps, or fewer.
    """
    count = 0
    with overlay_writer(path, info, picture_size(info.size_hw, texts, config)) as writer:
        for frame, plane in zip(frames, labels, strict=True):
            of_frame = scores[count] if scores is not None else None
            picture = draw_overlay(
                frame.image, plane, texts, config, scores=of_frame, colors=colors
            )
            writer.write(picture, frame.time_s, frame.duration_s)
            count += 1
    return count


def overlay_writer(
    path: Path, info: VideoInfo, size_hw: tuple[int, int] | None = None
) -> VideoWriter | PictureWriter:
    """Return the writer of a video that goes with another's frames: their rate, pixels and sound,
    and their size if no other is given. Of one picture it may be a picture, by its name.

    Raises:
        OutputError: the place cannot be written.
    """
    if info.is_picture and path.suffix.lower() in FORMS:
        return PictureWriter(path)
    return VideoWriter(
        path, size_hw or info.size_hw, info.frame_rate / info.selection.stride,
        sound=sound_of(info), pixel_aspect=info.pixel_aspect,
    )  # fmt: skip


def _legend(
    size_hw: tuple[int, ...], texts: Sequence[str], config: OverlayConfig
) -> LegendPlan | None:
    """Where the legend is drawn beside frames, if it is."""
    if config.legend != "on" or not texts:
        return None
    return plan_legend(tuple(texts), (size_hw[0], size_hw[1]), scores=config.scores)


def _masks_of(labels: NDArray[np.uint8]) -> dict[int, NDArray[np.bool_]]:
    """The mask, bool (H, W), of each label, from 1, that a map, uint8 (H, W), has."""
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256])
    return {label: labels == label for label in np.flatnonzero(counts).tolist() if label}


def _tint(picture: NDArray[np.uint8], mask: NDArray[np.bool_], color: Color, strength: int) -> None:
    """Colour a mask, bool (H, W), in the picture, as strongly as so many 256ths."""
    if not strength:
        return
    values = np.arange(256, dtype=np.uint16)[:, None, None]
    table = (values * (256 - strength) + np.array(color, np.uint16) * strength) >> 8
    inside = mask.view(np.uint8)
    x, y, width, height = cv2.boundingRect(inside)
    box = (slice(y, y + height), slice(x, x + width))
    if width:
        part = picture[box]
        part[:] = cv2.copyTo(cv2.LUT(part, table.astype(np.uint8)), inside[box], part)


def _painter(colors: Sequence[Color] | None, palette: str) -> Callable[[int], Color]:
    """What gives the colour of expression `index`, from 0."""
    own = () if colors is None else tuple(colors)
    return lambda index: own[index] if index < len(own) else color_of(index, palette)


def _draw_outlines(
    picture: NDArray[np.uint8],
    masks: Mapping[int, NDArray[np.bool_]],
    config: OverlayConfig,
    paint: Callable[[int], Color],
) -> None:
    """Draw around each mask, into the picture; halos lie under all outlines."""
    width = config.outline_width or max(1, round(picture.shape[0] * OUTLINE_SHARE))
    halo_width = width + 2 * max(1, round(width * HALO_SHARE))
    lines = []
    for label, mask in masks.items():
        contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        lines.append((contours, paint(label - 1)))
    if config.halo:
        for contours, color in lines:
            cv2.drawContours(picture, contours, -1, contrast(color), halo_width, cv2.LINE_AA)
    for contours, color in lines:
        cv2.drawContours(picture, contours, -1, color, width, cv2.LINE_AA)


def _draw_labels(
    picture: NDArray[np.uint8],
    masks: Mapping[int, NDArray[np.bool_]],
    texts: Sequence[str],
    absent: Sequence[int],
    scores: Sequence[float] | None,
    paint: Callable[[int], Color],
) -> NDArray[np.uint8]:
    """A plate above each mask; labels that are not there are listed at the bottom left."""
    height, width = picture.shape[:2]
    size = max(MIN_FONT_PX, round(height * FONT_SHARE))
    gap = max(2, size // 3)
    h = size + 2 * gap
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    taken: list[tuple[int, int, int, int]] = []

    def plate(k: int, text: str, tail: str, fill: Color, middle: float | None, y: int) -> None:
        """Draw the text of label k, shortened, and its tail around column `middle`, or at the left
        edge."""
        name, font = lettering(text, k, size, width * MAX_LABEL_SHARE)
        ending = font_of(tail, font, size)
        parts = [(name + tail, font)] if ending is font else [(name, font), (tail, ending)]
        w = round(sum(draw.textlength(part, font=each) for part, each in parts)) + 2 * gap
        x = gap if middle is None else int(np.clip(middle - w / 2, 0, max(0, width - w)))
        y = _free_row(taken, (x, y, w, h), height)
        taken.append((x, y, w, h))
        draw.rounded_rectangle((x, y, x + w, y + h), radius=gap, fill=fill)
        left: float = x + gap
        for part, each in parts:
            draw.text((left, y + h / 2), part, font=each, fill=contrast(fill), anchor="lm")
            left += draw.textlength(part, font=each)

    room = max(1, int(height * MAX_ABSENT_SHARE) // (h + gap))
    listed = [(k, texts[k - 1]) for k in (absent if len(absent) <= room else absent[: room - 1])]
    if len(listed) < len(absent):
        listed.append((0, f"{len(absent) - len(listed)} more"))
    for row, (k, text) in enumerate(listed):  # first, since they have one place only
        plate(k, text, ": not there", GREY, None, height - (row + 1) * (h + gap))
    for k, text in enumerate(texts):
        if (mask := masks.get(k + 1)) is not None:
            columns = np.count_nonzero(mask, axis=0)
            middle = float(columns @ np.arange(width)) / float(columns.sum())
            top = cv2.boundingRect(mask.view(np.uint8))[1]
            tail = "" if scores is None else f"  {scores[k]:.2f}"
            y = int(np.clip(top - h - gap, 0, max(0, height - h)))
            plate(k + 1, text, tail, paint(k), middle, y)
    return np.array(canvas)


def _free_row(
    taken: list[tuple[int, int, int, int]], box: tuple[int, int, int, int], limit: int
) -> int:
    """The row nearest to a label's wish where no other label is."""
    x, y, w, h = box
    for row in sorted(range(max(1, limit - h)), key=lambda row: abs(row - y)):
        if all(x >= a + c or x + w <= a or row >= b + d or row + h <= b for a, b, c, d in taken):
            return row
    return max(0, y)
