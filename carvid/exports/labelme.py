"""labelme/: each frame, and beside it a json of polygons that LabelMe opens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carvid.base.files import write_text
from carvid.exports.data_set import DataSet, Member
from carvid.exports.format import Format
from carvid.exports.polygons import corners, rings
from carvid.exports.written import Stems, writing_into
from carvid.media.picture_writer import write_picture
from carvid.run.layout import LABELME_FOLDER

LABELME_VERSION = "6.3.1"
"""The LabelMe whose files these are."""
DECIMALS = 2
"""Of coordinates, pixels."""


def write_labelme(runs: DataSet, path: Path) -> None:
    """Write frames as JPEGs, and beside each a json, also where nothing is; the parts of one thing
    are polygons of one `group_id`, its label. What an earlier export wrote and this one does not is
    removed.

    Raises:
        OutputError: the place cannot be written.
    """
    with writing_into(path) as written:
        stems = Stems()
        for member in runs.members():
            for frame in member.frames:
                stem = stems.of(member.stem(frame.index))
                write_picture(written.place(f"{stem}.jpg"), frame.image)
                values = _file(member, frame.index, f"{stem}.jpg", runs.categories)
                text = json.dumps(values, ensure_ascii=False) + "\n"
                write_text(written.place(f"{stem}.json"), text)


def _file(member: Member, index: int, image: str, categories: list[str]) -> dict[str, Any]:
    height, width = member.track.facts.video.size_hw
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": list(_shapes(member, index, categories)),
        "imagePath": image,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _shapes(member: Member, index: int, categories: list[str]) -> Iterator[dict[str, Any]]:
    for label, mask in member.masks(index):
        category, name = categories[member.categories[label - 1]], member.track.texts[label - 1]
        for ring in rings(mask):
            yield {
                "label": category,
                "points": corners(ring).round(DECIMALS).tolist(),
                "group_id": label,
                "description": name if name != category else "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }


FORMAT = Format("labelme", LABELME_FOLDER, write_set=write_labelme)
