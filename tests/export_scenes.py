"""Runs whose masks are odd, in memory, and readers of what other tools take, written anew."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from carvid.config import Config
from carvid.media.open import open_video
from carvid.run.asked import Asked
from carvid.run.facts import RunFacts
from carvid.run.track import Track

SIZE = (33, 47)
POLYGON_IOU = 0.98
"""What comes back of a polygon, at least."""
Cut = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Planes:
    """Arrays of a run in memory."""

    def __init__(self, planes: NDArray[Any]) -> None:
        self.planes = planes

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, index: int) -> Any:
        return self.planes[index]


def odd_masks(size: tuple[int, int] = SIZE) -> dict[str, NDArray[np.bool_]]:
    """Masks that are hard for polygons, bool (H, W), by what is odd."""
    height, width = size
    rng = np.random.default_rng(3)

    def mask(*places: tuple[Any, Any], but: Sequence[tuple[Any, Any]] = ()) -> NDArray[np.bool_]:
        made = np.zeros(size, bool)
        for place in places:
            made[place] = True
        for place in but:
            made[place] = False
        return made

    all_rows = slice(None)
    blurred = cv2.GaussianBlur(rng.random(size).astype(np.float32), (5, 5), 1.5)
    return {
        "a pixel": mask((5, 7)),
        "a corner's pixel": mask((height - 1, width - 1)),
        "a row": mask((4, slice(3, 20))),
        "a column": mask((all_rows, width - 1)),
        "a cross of lines": mask((9, all_rows), (all_rows, 11)),
        "a slanted line": np.eye(height, width, dtype=bool),
        "all": mask((all_rows, all_rows)),
        "at the border, with holes": mask(
            (slice(0, 20), slice(0, 30)),
            but=[(slice(4, 9), slice(4, 9)), (12, 15), (15, slice(3, 20))],
        ),
        "a ring around a thing": mask(
            (slice(2, 30), slice(2, 40)), (slice(10, 20), slice(12, 24)),
            but=[(slice(5, 10), slice(5, 36)), (slice(20, 27), slice(5, 36)),
                 (slice(5, 27), slice(5, 12)), (slice(5, 27), slice(24, 36))],
        ),
        "two far apart": mask((slice(0, 4), slice(0, 4)), (slice(29, 33), slice(43, 47))),
        "large ones near each other": mask(
            (slice(2, 30), slice(2, 20)), (slice(2, 30), slice(22, 44))
        ),
        "many parts": blurred > 0.5,
        "noise": rng.random(size) > 0.5,
        "touching by corners": mask((slice(3, 9), slice(3, 9)), (slice(9, 15), slice(9, 15))),
    }  # fmt: skip


def images(
    folder: Path, count: int, size: tuple[int, int] = SIZE, form: str = "{:04d}.png"
) -> Path:
    """Make a folder of images, and return it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for t in range(count):
        picture = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / form.format(t))
    return folder


def run_of(
    source: Path,
    masks: NDArray[np.bool_],
    texts: Sequence[str],
    asked: tuple[Asked, ...] = (),
    mode: str = "objects",
) -> Track:
    """A run of a source in memory, in which masks, bool (T, N, H, W), were found."""
    with open_video(source) as reader:
        info = reader.info
    config = Config() if mode == "objects" else Config.from_dict({"car": {"mode": mode}})
    facts = RunFacts(config, info, tuple(texts), (), {}, asked=asked)
    labels = np.zeros((len(masks), *masks.shape[2:]), np.uint8)
    for k in range(masks.shape[1]):
        labels[masks[:, k]] = k + 1
    scores = np.linspace(0.2, 0.9, masks.shape[0] * masks.shape[1], dtype=np.float32)
    times = np.arange(len(masks)) / 24
    both: Any = Planes(masks), Planes(labels)
    return Track(facts, times, scores.reshape(masks.shape[:2]), *both)


def lines_of_yolo(
    label: Path, size: tuple[int, int], cut: Cut
) -> list[tuple[int, NDArray[np.bool_]]]:
    """Category and mask of each line of a text of YOLO's."""
    found = []
    for line in label.read_text().splitlines():
        category, *values = line.split()
        shares = np.array(values, np.float32).reshape(-1, 2)
        assert len(shares) >= 3 and shares.min() >= 0 and shares.max() <= 1
        corners = cut(shares * np.float32(size[::-1])).astype(np.int32)
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [corners], (1,))
        found.append((int(category), mask.astype(bool)))
    return found


def categories_of_yolo(
    label: Path, size: tuple[int, int], cut: Cut = np.trunc
) -> dict[int, NDArray[np.bool_]]:
    """Category → its mask in a frame."""
    found: dict[int, NDArray[np.bool_]] = defaultdict(lambda: np.zeros(size, bool))
    for category, mask in lines_of_yolo(label, size, cut):
        found[category] |= mask
    return found


def yolo_names(folder: Path) -> list[str]:
    """The categories of a data set of YOLO's, in order."""
    names = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))["names"]
    assert list(names) == list(range(len(names)))
    return list(names.values())


def things_of_labelme(path: Path) -> dict[tuple[str, int], NDArray[np.bool_]]:
    """Label and group → mask, of a json of LabelMe's."""
    values = json.loads(path.read_text(encoding="utf-8"))
    with Image.open(path.parent / values["imagePath"]) as picture:
        assert picture.size == (values["imageWidth"], values["imageHeight"])
    size = values["imageHeight"], values["imageWidth"]
    found: dict[tuple[str, int], NDArray[np.bool_]] = defaultdict(lambda: np.zeros(size, bool))
    for shape in values["shapes"]:
        canvas = Image.new("1", size[::-1])
        corners = [tuple(point) for point in shape["points"]]
        assert len(corners) >= 3 and shape["shape_type"] == "polygon"
        ImageDraw.Draw(canvas).polygon(corners, outline=1, fill=1)
        found[shape["label"], shape["group_id"]] |= np.asarray(canvas)
    return found
