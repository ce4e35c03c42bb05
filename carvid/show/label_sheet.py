"""Sheets of images beside what they should be: label maps with a legend, masks with a sentence.

They are made for looking at the images that were done worst, and hold as many as they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from carvid.base.files import replacing
from carvid.base.palette import Color
from carvid.show.fonts import lettering

PANEL_PX = 320
"""A picture is scaled to it, its longer side."""
GAP_PX = 8
FONT_PX = 14
LINE_PX = FONT_PX + 8
NAME_GAP_PX = 4
ENDLESS_PX = 1e9
"""Wider than any text."""
LEGEND_LINES = 4
"""A row's legend has no more; what is over is counted."""
SENTENCE_LINES = 5
"""A sample's sentences have no more; what is over is left away."""
PER_LINE = 3
"""Samples beside each other."""
COLOR_BITS = 24
PAPER: Color = (255, 255, 255)
INK: Color = (40, 40, 40)
VOID_COLOR: Color = (255, 255, 255)
MASK_COLOR: Color = (255, 94, 58)
MASK_OPACITY = 0.5
TRUTH_COLOR: Color = (40, 255, 90)
TRUTH_LINE_PX = 2
MASK_HEAD = "filled: predicted; outlined: the truth"


@dataclass(frozen=True)
class LabelRow:
    """An image, its true and its predicted label map."""

    name: str
    miou: float
    """In [0, 1]."""
    image: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""
    truth: NDArray[np.uint16]
    """uint16 (H, W): 0 background, k class k; what is above the classes is void."""
    prediction: NDArray[np.uint16]
    """uint16 (H, W)."""


@dataclass(frozen=True)
class MaskRow:
    """An image, the mask that sentences ask for, and the predicted one."""

    name: str
    iou: float
    """In [0, 1]."""
    image: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""
    truth: NDArray[np.bool_]
    """bool (H, W)."""
    prediction: NDArray[np.bool_]
    """bool (H, W)."""
    sentences: tuple[str, ...]


def label_color(label: int) -> Color:
    """Return the RGB of a label: VOC's palette, whose rule goes on above 255."""
    rgb = [0, 0, 0]
    for bit in range(COLOR_BITS):
        rgb[bit % 3] |= (label >> bit & 1) << (7 - bit // 3)
    return (rgb[0], rgb[1], rgb[2])


def draw_label_sheet(rows: Iterable[LabelRow], path: Path, *, classes: Sequence[str]) -> None:
    """Draw a row for each image, as a PNG: picture, truth and prediction side by side in the
    classes' colours (void is white), above them name and mIoU, below them the classes' names.

    Args:
        rows: one at a time; no more than their scaled panels is kept.
        path: where it goes.
        classes: the name of label k is `classes[k - 1]`.

    Raises:
        ValueError: there are no rows, or a map has another size than its image.
        OutputError: the place cannot be written.
    """
    colors = np.array([label_color(k) for k in range(len(classes) + 1)] + [VOID_COLOR], np.uint8)
    _write(path, [_draw_label_row(row, classes, colors) for row in rows])


def draw_mask_sheet(rows: Iterable[MaskRow], path: Path) -> None:
    """Draw a picture for each sample, as a PNG, several in a line: the predicted mask is filled,
    the true one outlined; above it name and IoU, below it its sentences.

    Args:
        rows: one at a time; no more than their scaled panels is kept.
        path: where it goes.

    Raises:
        ValueError: there are no rows, or a mask has another size than its image.
        OutputError: the place cannot be written.
    """
    cells = [_draw_mask_cell(row) for row in rows]
    lines = [cells[k : k + PER_LINE] for k in range(0, len(cells), PER_LINE)]
    _write(path, [_line(MASK_HEAD), *(_beside(line) for line in lines)] if cells else [])


def _draw_label_row(
    row: LabelRow, classes: Sequence[str], colors: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    _check_sizes(row.name, row.image, row.truth, row.prediction)
    maps = [np.minimum(each, len(colors) - 1) for each in (row.truth, row.prediction)]
    panels = [_scaled(row.image), *(_scaled(colors[each], exact=True) for each in maps)]
    used = sorted({int(k) for each in maps for k in np.unique(each)} - {len(colors) - 1})
    names = {k: classes[k - 1] if k else "background" for k in used}
    heads = (f"{row.name}, mIoU {100 * row.miou:.1f} %", "truth", "prediction")
    return _below([_beside([*map(_line, heads)]), _beside(panels), _legend(names)])


def _draw_mask_cell(row: MaskRow) -> NDArray[np.uint8]:
    _check_sizes(row.name, row.image, row.truth, row.prediction)
    picture = _scaled(row.image)
    truth, prediction = (
        _scaled(mask.astype(np.uint8), exact=True) for mask in (row.truth, row.prediction)
    )
    filled = (1 - MASK_OPACITY) * picture + MASK_OPACITY * np.array(MASK_COLOR)
    picture = np.where(prediction[..., None] > 0, filled.round(), picture).astype(np.uint8)
    contours, _ = cv2.findContours(truth, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, TRUTH_COLOR, TRUTH_LINE_PX, cv2.LINE_AA)
    lines = [(line, k) for k, text in enumerate(row.sentences, 1) for line in _wrapped(text)]
    if len(lines) > SENTENCE_LINES:
        lines[SENTENCE_LINES - 1 :] = [("…", 0)]
    title = f"{row.name}, IoU {100 * row.iou:.1f} %"
    return _below([_line(title), picture, *(_line(*line) for line in lines)])


def _check_sizes(name: str, image: NDArray[np.uint8], *maps: NDArray[Any]) -> None:
    for each in maps:
        if each.shape != image.shape[:2]:
            raise ValueError(f"{name}: a map is {each.shape}, its image {image.shape}")


def _scaled(picture: NDArray[np.uint8], *, exact: bool = False) -> NDArray[np.uint8]:
    """Scale uint8 (H, W[, 3]) to a panel's longer side; `exact` mixes no colours."""
    height, width = picture.shape[:2]
    scale = PANEL_PX / max(height, width)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(  # type: ignore[return-value]
        picture, size_wh, interpolation=cv2.INTER_NEAREST_EXACT if exact else way
    )


def _line(text: str, number: int = 0) -> NDArray[np.uint8]:
    """A line of text, no wider than a panel, uint8 (LINE_PX, PANEL_PX, 3)."""
    canvas = Image.new("RGB", (PANEL_PX, LINE_PX), PAPER)
    words, font = lettering(text, number, FONT_PX, PANEL_PX)
    ImageDraw.Draw(canvas).text((0, LINE_PX / 2), words, font=font, fill=INK, anchor="lm")
    return np.array(canvas)


def _wrapped(text: str) -> list[str]:
    """A text in lines; a word wider than a panel stays whole, for `_line` to cut."""
    _, font = lettering(text, 0, FONT_PX, ENDLESS_PX)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= PANEL_PX:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _legend(names: Mapping[int, str]) -> NDArray[np.uint8]:
    """Names of labels behind fields of their colours, in as many lines as they need."""
    width = 3 * PANEL_PX + 2 * GAP_PX
    canvas = Image.new("RGB", (width, LEGEND_LINES * LINE_PX), PAPER)
    draw = ImageDraw.Draw(canvas)
    x, line = 0.0, 0
    for index, (label, name) in enumerate(names.items()):
        words, font = lettering(name, label, FONT_PX, PANEL_PX)
        takes = FONT_PX + NAME_GAP_PX + font.getlength(words) + 2 * GAP_PX
        more, last = f"and {len(names) - index} more", line == LEGEND_LINES - 1
        if x and x + takes > width - (font.getlength(more) if last else 0):
            if last:
                draw.text((x, (line + 0.5) * LINE_PX), more, font=font, fill=INK, anchor="lm")
                break
            x, line = 0.0, line + 1
        top = line * LINE_PX + (LINE_PX - FONT_PX) // 2
        field = (x, top, x + FONT_PX, top + FONT_PX)
        draw.rectangle(field, fill=label_color(label), outline=INK)
        place = (x + FONT_PX + NAME_GAP_PX, (line + 0.5) * LINE_PX)
        draw.text(place, words, font=font, fill=INK, anchor="lm")
        x += takes
    return np.array(canvas)[: (line + 1) * LINE_PX]


def _beside(panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures in a line, each in a field as wide as a panel, at the top left of it."""
    line = np.empty((max(len(p) for p in panels), len(panels) * (PANEL_PX + GAP_PX), 3), np.uint8)
    line[:] = PAPER
    for k, panel in enumerate(panels):
        left = k * (PANEL_PX + GAP_PX)
        line[: panel.shape[0], left : left + panel.shape[1]] = panel
    return line[:, :-GAP_PX]


def _below(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures one below the other, at the left."""
    width = max(part.shape[1] for part in parts)
    sheet = np.empty((sum(len(part) for part in parts), width, 3), np.uint8)
    sheet[:] = PAPER
    top = 0
    for part in parts:
        sheet[top : top + len(part), : part.shape[1]] = part
        top += len(part)
    return sheet


def _write(path: Path, lines: Sequence[NDArray[np.uint8]]) -> None:
    if not lines:
        raise ValueError("a sheet needs a row")
    space = np.empty((2 * GAP_PX, 1, 3), np.uint8)
    space[:] = PAPER
    sheet = _below([part for line in lines for part in (line, space)][:-1])
    framed = np.pad(sheet, ((GAP_PX, GAP_PX), (GAP_PX, GAP_PX), (0, 0)), constant_values=255)
    with replacing(path) as partial:
        Image.fromarray(framed).save(partial, format="PNG")
