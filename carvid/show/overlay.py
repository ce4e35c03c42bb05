"""Masks drawn over frames: fill, outline and a label for each expression; the overlay video."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from carvid.config import OverlayConfig
from carvid.media.encode import Sound, VideoWriter
from carvid.media.frames import Frame, VideoInfo

Color: TypeAlias = tuple[int, int, int]
"""RGB, 0 to 255."""
VIVID: tuple[Color, ...] = (
    (255, 94, 58), (40, 160, 255), (255, 200, 30), (60, 200, 110), (200, 90, 230),
    (20, 205, 205), (255, 120, 180), (160, 190, 40),
)  # fmt: skip
"""Colours of expressions 1, 2, …, RGB; further ones follow by the golden ratio of hue."""
OKABE_ITO: tuple[Color, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
"""RGB of Okabe and Ito's "Color Universal Design" (2008), without its black, in their order."""
GREY: Color = (60, 60, 60)
NO_LETTER = "\uffff"
GOLDEN_RATIO = 0.618034
FONT_SHARE = 1 / 26
"""Height of a label's letters over the frame's height."""
MIN_FONT_PX = 12
FALLBACK_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc",
                  "Arial Unicode.ttf", "arial.ttf", "msyh.ttc")  # fmt: skip
"""Looked for on the machine, in this order, for letters that Pillow's own font (ASCII) lacks."""
WCAG_MIDDLE = 0.179
"""Relative luminance (WCAG 2) above which black has more contrast than white."""
MAX_LEGEND_SHARE = 0.34
"""Height of the list of what is not there over the frame's height."""
OUTLINE_SHARE = 1 / 240
HALO_SHARE = 0.5
"""Width of the halo on each side of an outline over the outline's."""
MAX_LABEL_SHARE = 0.6
"""Width of a label over the frame's width; longer expressions are shortened."""


def color_of(index: int, palette: str = "vivid") -> Color:
    """Return the RGB of expression `index`, from 0, in one of `PALETTES`; the same in every run."""
    if palette == "okabe-ito":
        return OKABE_ITO[index % len(OKABE_ITO)]
    if index < len(VIVID):
        return VIVID[index]
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
        texts: the N expressions; letters that no font on the machine has lose their accents, or
            show as "?".
        config: what to draw, and how.
        scores: N scores in [0, 1], shown after the expressions.

    Returns:
        uint8 (H, W, 3) RGB; (H, 2 W, 3) with `config.side_by_side`.

    Raises:
        ValueError: `labels` has another size than `image`.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels must be {image.shape[:2]}, got {labels.shape}")
    inside = round(256 * config.opacity) if config.fill else 0
    outside = round(256 * config.dim)
    picture = image.copy()
    masks = _masks_of(labels)
    _tint(picture, labels == 0, (0, 0, 0), outside)
    for label, mask in masks.items():
        _tint(picture, mask, color_of(label - 1, config.palette), inside)
    if config.outline:
        _draw_outlines(picture, masks, config)
    if config.labels:
        shown = scores if config.scores else None
        picture = _draw_labels(picture, masks, texts, shown, config.palette)
    return np.concatenate([image, picture], axis=1) if config.side_by_side else picture


def picture_size(size_hw: tuple[int, int], config: OverlayConfig) -> tuple[int, int]:
    """Return height and width of what `draw_overlay` makes of a frame."""
    height, width = size_hw
    return (height, 2 * width if config.side_by_side else width)


def write_overlay(
    path: Path,
    info: VideoInfo,
    frames: Iterable[Frame],
    labels: Iterable[NDArray[np.uint8]],
    texts: Sequence[str],
    config: OverlayConfig,
    *,
    scores: Sequence[Sequence[float]] | None = None,
) -> int:
    """Write the overlay of frames and label maps, uint8 (H, W), at the frames' own times.

    The sound of the file at `info.path` is copied, as much of it as belongs to the frames.

    Returns:
        The number of frames written.

    Raises:
        OutputError: the place cannot be written.
        ValueError: there are more frames than label maps, or fewer.
    """
    count = 0
    with overlay_writer(path, info, picture_size(info.size_hw, config)) as writer:
        for frame, plane in zip(frames, labels, strict=True):
            of_frame = scores[count] if scores is not None else None
            picture = draw_overlay(frame.image, plane, texts, config, scores=of_frame)
            writer.write(picture, frame.time_s, frame.duration_s)
            count += 1
    return count


def overlay_writer(
    path: Path, info: VideoInfo, size_hw: tuple[int, int] | None = None
) -> VideoWriter:
    """Return the writer of a video that goes with another's frames: their rate, pixels and sound,
    and their size if no other is given.

    Raises:
        OutputError: the place cannot be written.
    """
    selection, sound = info.selection, None
    if info.backend != "images" and not info.live:
        sound = Sound(Path(info.path), info.origin_s, selection.end_s, cut=selection.start_s > 0)
    return VideoWriter(
        path, size_hw or info.size_hw, info.frame_rate / selection.stride, sound=sound,
        pixel_aspect=info.pixel_aspect,
    )  # fmt: skip


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


def _draw_outlines(
    picture: NDArray[np.uint8], masks: Mapping[int, NDArray[np.bool_]], config: OverlayConfig
) -> None:
    """Draw around each mask, into the picture; halos lie under all outlines."""
    width = config.outline_width or max(1, round(picture.shape[0] * OUTLINE_SHARE))
    halo_width = width + 2 * max(1, round(width * HALO_SHARE))
    lines = []
    for label, mask in masks.items():
        contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        lines.append((contours, color_of(label - 1, config.palette)))
    if config.halo:
        for contours, color in lines:
            cv2.drawContours(picture, contours, -1, _contrast(color), halo_width, cv2.LINE_AA)
    for contours, color in lines:
        cv2.drawContours(picture, contours, -1, color, width, cv2.LINE_AA)


def _draw_labels(
    picture: NDArray[np.uint8],
    masks: Mapping[int, NDArray[np.bool_]],
    texts: Sequence[str],
    scores: Sequence[float] | None,
    palette: str,
) -> NDArray[np.uint8]:
    """A plate above each mask; what is not there is listed at the bottom left."""
    height, width = picture.shape[:2]
    size = max(MIN_FONT_PX, round(height * FONT_SHARE))
    gap = max(2, size // 3)
    h = size + 2 * gap
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    taken: list[tuple[int, int, int, int]] = []

    def plate(text: str, tail: str, fill: Color, middle: float | None, y: int) -> None:
        """Draw a text, shortened, and its tail around column `middle`, or at the left edge."""
        readable, font = _readable(text, size)
        name = _shorten(draw, font, readable, width * MAX_LABEL_SHARE) + tail
        w = round(draw.textlength(name, font=font)) + 2 * gap
        x = gap if middle is None else int(np.clip(middle - w / 2, 0, max(0, width - w)))
        y = _free_row(taken, (x, y, w, h), height)
        taken.append((x, y, w, h))
        draw.rounded_rectangle((x, y, x + w, y + h), radius=gap, fill=fill)
        draw.text((x + gap, y + h / 2), name, font=font, fill=_contrast(fill), anchor="lm")

    absent = [text for k, text in enumerate(texts) if k + 1 not in masks]
    room = max(1, int(height * MAX_LEGEND_SHARE) // (h + gap))
    listed = absent if len(absent) <= room else absent[: room - 1]
    lines = [(text, ": not there") for text in listed]
    if len(listed) < len(absent):
        lines.append((f"{len(absent) - len(listed)} more", ": not there"))
    for row, (text, tail) in enumerate(lines):  # first, since they have one place only
        plate(text, tail, GREY, None, height - (row + 1) * (h + gap))
    for k, text in enumerate(texts):
        if (mask := masks.get(k + 1)) is not None:
            columns = np.count_nonzero(mask, axis=0)
            middle = float(columns @ np.arange(width)) / float(columns.sum())
            top = cv2.boundingRect(mask.view(np.uint8))[1]
            tail = "" if scores is None else f"  {scores[k]:.2f}"
            y = int(np.clip(top - h - gap, 0, max(0, height - h)))
            plate(text, tail, color_of(k, palette), middle, y)
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


def _shorten(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, text: str, limit: float
) -> str:
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= limit:
        return text
    while len(text) > 1 and draw.textlength(text + "…", font=font) > limit:
        text = text[:-1]
    return text.rstrip() + "…"


def _contrast(color: Color) -> Color:
    """Black or white, whichever has more contrast with `color`."""
    r, g, b = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in color)
    )
    luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return (0, 0, 0) if luminance > WCAG_MIDDLE else (255, 255, 255)


def _readable(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """A text and the first font that has all its letters; else the text without what none has.

    Plain ASCII always takes Pillow's own font, and so looks the same on every machine.
    """
    text = unicodedata.normalize("NFC", text)
    fonts = _fonts(size)
    for font in fonts:
        if all(_has(font, letter) for letter in text):
            return text, font
    font = max(fonts, key=lambda font: sum(_has(font, letter) for letter in text))
    plain = (x if _has(font, x) else unicodedata.normalize("NFKD", x)[0] for x in text)
    return "".join(x if _has(font, x) else "?" for x in plain), font


@lru_cache(maxsize=4)
def _fonts(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    own = ImageFont.load_default(size)
    assert isinstance(own, ImageFont.FreeTypeFont)
    fonts = [own]
    for name in FALLBACK_FONTS:
        with suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    return tuple(fonts)


@lru_cache(maxsize=4096)
def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether a font draws a letter otherwise than one that no font has."""
    if letter.isspace():
        return True
    missing, drawn = (font.getmask(x) for x in (NO_LETTER, letter))
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)
