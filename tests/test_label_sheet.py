"""Sheets of the worst images: what is where, in which colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.media.label_png import palette
from carvid.show.label_sheet import (
    FONT_PX,
    GAP_PX,
    INK,
    LINE_PX,
    MASK_COLOR,
    PANEL_PX,
    SENTENCE_LINES,
    TRUTH_COLOR,
    LabelRow,
    MaskRow,
    draw_label_sheet,
    draw_mask_sheet,
    label_color,
)

CLASSES = ("cat", "ape", "bird")
SIZE = (80, 160)
SHOWN = (160, 320)
TOP = GAP_PX + LINE_PX
"""Where the first row's pictures begin."""


def label_row() -> LabelRow:
    image = np.full((*SIZE, 3), (10, 200, 90), np.uint8)
    truth, prediction = np.zeros(SIZE, np.uint16), np.zeros(SIZE, np.uint16)
    truth[:40, :80], truth[40:, :80] = 1, 65535
    prediction[:, 80:] = 3
    return LabelRow("first", 0.25, image, truth, prediction)


def mask_row(*sentences: str) -> MaskRow:
    truth, prediction = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    truth[20:60, 20:60], prediction[20:60, 100:140] = True, True
    return MaskRow("7_0", 0.0, np.full((*SIZE, 3), 100, np.uint8), truth, prediction, sentences)


def sheet_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        return np.array(picture)


def panel(sheet: NDArray[np.uint8], column: int) -> NDArray[np.uint8]:
    left = GAP_PX + column * (PANEL_PX + GAP_PX)
    return sheet[TOP : TOP + SHOWN[0], left : left + SHOWN[1]]


def colors_in(picture: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.reshape(-1, 3).tolist()))


def test_colors_are_vocs_and_go_on() -> None:
    made = [channel for k in range(256) for channel in label_color(k)]
    assert made == palette()
    assert len({label_color(k) for k in range(848)}) == 848


def test_maps_are_side_by_side(tmp_path: Path) -> None:
    draw_label_sheet([label_row()], tmp_path / "sheet.png", classes=CLASSES)
    sheet = sheet_of(tmp_path / "sheet.png")
    cat, bird, ground, void = (128, 0, 0), (128, 128, 0), (0, 0, 0), (255, 255, 255)
    assert colors_in(panel(sheet, 0)) == {(10, 200, 90)}
    truth, prediction = panel(sheet, 1), panel(sheet, 2)
    assert colors_in(truth[:80, :160]) == {cat} and colors_in(truth[80:, :160]) == {void}
    assert colors_in(truth[:, 160:]) == {ground}
    assert colors_in(prediction[:, :160]) == {ground} and colors_in(prediction[:, 160:]) == {bird}
    legend = sheet[TOP + SHOWN[0] : -GAP_PX]
    assert legend.shape[0] == LINE_PX
    fields = {color for color in colors_in(legend) if count(legend, color) >= (FONT_PX - 1) ** 2}
    assert {cat, bird, ground} <= fields and (0, 128, 0) not in fields


def count(picture: NDArray[np.uint8], color: tuple[int, ...]) -> int:
    return int((picture == color).all(axis=2).sum())


def test_name_and_miou_are_written(tmp_path: Path) -> None:
    sheets = []
    for row in (label_row(), replace(label_row(), miou=0.5), replace(label_row(), name="other")):
        draw_label_sheet([row], tmp_path / "sheet.png", classes=CLASSES)
        sheets.append(sheet_of(tmp_path / "sheet.png"))
    for other in sheets[1:]:
        assert np.array_equal(sheets[0][TOP:], other[TOP:])
        assert not np.array_equal(sheets[0][:TOP], other[:TOP])


def test_many_classes_are_counted(tmp_path: Path) -> None:
    classes = [f"a class of long names, number {k}" for k in range(600)]
    labels = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE) % 601
    row = replace(label_row(), truth=labels, prediction=labels)
    draw_label_sheet([row, row], tmp_path / "sheet.png", classes=classes)
    height = 2 * (LINE_PX + SHOWN[0] + 4 * LINE_PX) + 4 * GAP_PX
    assert sheet_of(tmp_path / "sheet.png").shape == (height, 3 * PANEL_PX + 4 * GAP_PX, 3)


def test_masks_are_filled_and_outlined(tmp_path: Path) -> None:
    rows = [mask_row("the left one"), mask_row("one", "two"), mask_row(), mask_row("next line")]
    draw_mask_sheet(iter(rows), tmp_path / "masks.png")
    sheet = sheet_of(tmp_path / "masks.png")
    assert sheet.shape[1] == 3 * PANEL_PX + 4 * GAP_PX
    top = GAP_PX + LINE_PX + 2 * GAP_PX + LINE_PX
    for left in (GAP_PX, 2 * GAP_PX + PANEL_PX):
        picture = sheet[top : top + SHOWN[0], left : left + SHOWN[1]]
        filled = tuple(round(0.5 * 100 + 0.5 * channel) for channel in MASK_COLOR)
        assert colors_in(picture[42:118, 202:278]) == {filled}  # the prediction, whole
        assert colors_in(picture[45:115, 45:115]) == {(100, 100, 100)}  # the truth's inside
        assert tuple(picture[80, 40]) == TRUTH_COLOR
        assert count(picture[:, 130:], TRUTH_COLOR) == 0
    below = sheet[top + SHOWN[0] : top + SHOWN[0] + 2 * LINE_PX]
    inked = [
        bool(count(below[k * LINE_PX :][:LINE_PX, left : left + PANEL_PX], INK))
        for left in (GAP_PX, 2 * GAP_PX + PANEL_PX, 3 * GAP_PX + 2 * PANEL_PX)
        for k in (0, 1)
    ]
    assert inked == [True, False, True, True, False, False]


def test_long_sentences_take_several_lines(tmp_path: Path) -> None:
    heights = []
    for words in (1, 14, 400):
        draw_mask_sheet([mask_row(" ".join(["person"] * words))], tmp_path / "masks.png")
        heights.append(sheet_of(tmp_path / "masks.png").shape[0] // LINE_PX)
    assert heights[1] > heights[0] and heights[2] == heights[0] + SENTENCE_LINES - 1


def test_wrong_rows(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    with pytest.raises(ValueError, match="needs a row"):
        draw_label_sheet([], path, classes=CLASSES)
    with pytest.raises(ValueError, match="needs a row"):
        draw_mask_sheet([], path)
    with pytest.raises(ValueError, match=r"first: a map is \(40, 160\)"):
        row = label_row()
        draw_label_sheet([replace(row, truth=row.truth[:40])], path, classes=CLASSES)
    assert not path.exists()
