"""yolo/: a data set of YOLO's segmentation, a text of polygons beside each frame, and data.yaml."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from carvid.base.files import write_text
from carvid.exports.data_set import DataSet, Member
from carvid.exports.format import Format
from carvid.exports.polygons import corners, rings
from carvid.exports.written import Stems, Written, writing_into
from carvid.media.picture_writer import write_picture
from carvid.run.layout import YOLO_FOLDER

log = logging.getLogger("carvid")

BRIDGED = 0.01
"""How much of a thing's area bridges may add between its parts. A line is one thing for YOLO: what
lies farther apart has a line of its own."""
VAL_EVERY = 5
"""Every so manieth run is for validation, or the last one, where there are fewer."""
DECIMALS = 7
"""Of coordinates in [0, 1]: a hundredth of a pixel in pictures of 100,000."""
TRAIN, VAL = "train", "val"


def write_yolo(runs: DataSet, path: Path) -> None:
    """Write frames as JPEGs, for each a text, empty where nothing is, and data.yaml, whose places
    start at its folder. A run is for training or for validation as a whole; a single one is both.
    What an earlier export wrote and this one does not is removed, and what Ultralytics has read.

    Raises:
        OutputError: the place cannot be written.
    """
    with writing_into(path) as written:
        for part in (TRAIN, VAL):  # by which Ultralytics might not see that labels have changed
            (path / "labels" / f"{part}.cache").unlink(missing_ok=True)
        stems = Stems()
        for member in runs.members():
            _write_run(member, _part_of(member.number, len(runs)), stems, written)
        write_text(written.place("data.yaml"), _data_yaml(runs))
    if len(runs) == 1:
        log.info("%s: a single clip is both train and val; export several runs at once to part "
                 "them", path / "data.yaml")  # fmt: skip


def _write_run(member: Member, part: str, stems: Stems, written: Written) -> None:
    for frame in member.frames:
        stem = stems.of(member.stem(frame.index))
        write_picture(written.place(f"images/{part}/{stem}.jpg"), frame.image)
        lines = "".join(_lines(member, frame.index))
        write_text(written.place(f"labels/{part}/{stem}.txt"), lines)


def _lines(member: Member, index: int) -> Iterator[str]:
    """The lines of a frame: a category from 0, and corners, x and y as shares of the picture."""
    height, width = member.track.facts.video.size_hw
    for label, mask in member.masks(index):
        for ring in rings(mask, bridged=BRIDGED):
            yield f"{member.categories[label - 1]} {_shares(corners(ring) / (width, height))}\n"


def _shares(points: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.{DECIMALS}f}".rstrip("0") for value in points.ravel().tolist())


def _part_of(number: int, count: int) -> str:
    """Whether run `number`, from 0, of so many is for training or for validation."""
    last_of_few = 1 < count < VAL_EVERY and number == count - 1
    return VAL if number % VAL_EVERY == VAL_EVERY - 1 or last_of_few else TRAIN


def _data_yaml(runs: DataSet) -> str:
    val = VAL if len(runs) > 1 else TRAIN
    values = {
        "train": f"images/{TRAIN}", "val": f"images/{val}",
        "names": dict(enumerate(runs.categories)),
    }  # fmt: skip
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False)


FORMAT = Format("yolo", YOLO_FOLDER, write_set=write_yolo)
