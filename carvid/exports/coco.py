"""coco.json: an image for each frame, an annotation for each mask, label k as track k."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import ConfigError
from carvid.base.masks import box_of
from carvid.base.names import shown
from carvid.exports.data_set import DataSet
from carvid.exports.format import Format
from carvid.exports.json_stream import json_file


def write_coco(runs: DataSet, path: Path) -> None:
    """Write masks as run lengths, with boxes and scores; frames need no image. Each image has the
    name of the frame's file, from the folder that is the input; of several runs it is in a folder
    of the run's name.

    Raises:
        ConfigError: pycocotools is not installed.
        OutputError: the place cannot be written.
    """
    mask_tools()
    names = [shown(member.track.facts.video.path) for member in runs.members() if not member.name]
    with json_file(path) as file:
        file.write_object({
            "info": {"description": "carvid", **({"video": names[0]} if names else {})},
            "licenses": [],
            "images": _images(runs),
            "categories": categories(runs),
            "annotations": _annotations(runs),
        })  # fmt: skip


def categories(runs: DataSet) -> list[dict[str, Any]]:
    """Return the categories, from 1; of classes whether each is a thing, as COCO's panoptic ones
    say it."""
    return [
        {"id": k, "name": text, "supercategory": "",
         **({"isthing": runs.is_thing[text]} if text in runs.is_thing else {})}
        for k, text in enumerate(runs.categories, 1)
    ]  # fmt: skip


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask, bool (H, W), as compressed run lengths of COCO, JSON-able.

    Raises:
        ConfigError: pycocotools is not installed.
    """
    code = mask_tools().encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": code["counts"].decode()}


def mask_tools(name: str = "coco") -> Any:
    """Return `pycocotools.mask`, which a format needs.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise ConfigError(f"format {name} needs pycocotools; pip install pycocotools") from None
    return mask


def xywh(mask: NDArray[np.bool_]) -> list[int]:
    """Return x, y, width and height of a mask, bool (H, W), pixels."""
    left, top, right, bottom = box_of(mask)
    return [left, top, right - left, bottom - top]


def _images(runs: DataSet) -> Iterator[dict[str, Any]]:
    for member in runs.members():
        height, width = member.track.facts.video.size_hw
        for index, time_s in enumerate(member.track.times_s.tolist()):
            yield {
                "id": member.images_before + index + 1, "file_name": member.image_name(index),
                "width": width, "height": height, "frame_index": index, "time_s": round(time_s, 6),
            }  # fmt: skip


def _annotations(runs: DataSet) -> Iterator[dict[str, Any]]:
    count = 0
    for member in runs.members():
        for frame in member.frames:
            for label, mask in member.masks(frame.index):
                count += 1
                yield {
                    "id": count, "image_id": member.images_before + frame.index + 1,
                    "category_id": member.categories[label - 1] + 1,
                    "track_id": member.tracks_before + label,
                    "iscrowd": 0, "area": int(mask.sum()), "bbox": xywh(mask),
                    "score": round(float(member.track.scores[frame.index, label - 1]), 6),
                    "segmentation": run_lengths(mask),
                }  # fmt: skip


FORMAT = Format("coco", "coco.json", write_set=write_coco, shows_frames=False, check=mask_tools)
