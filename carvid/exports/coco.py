"""coco.json: an image for each frame, an annotation for each mask, label k as track k."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import ConfigError
from carvid.base.files import write_text
from carvid.base.masks import box_of
from carvid.base.names import shown
from carvid.exports.format import Format
from carvid.media.frames import Frame
from carvid.run.track import Track

VIDEO_FRAME = "frame_{:06d}.png"
"""What CVAT, and FFmpeg as people call it, name the frames of a video."""


def write_coco(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write masks as run lengths, with boxes and scores; frames need no image. Each image has the
    name of the frame's file, from the folder that is the input.

    Raises:
        ConfigError: pycocotools is not installed.
        OutputError: the place cannot be written.
    """
    tools = mask_tools()
    height, width = track.facts.video.size_hw
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names = track.facts.video.names
    for frame in frames:
        index = frame.index
        images.append({
            "id": index + 1, "file_name": names[index] if names else VIDEO_FRAME.format(index),
            "width": width,
            "height": height, "frame_index": index, "time_s": round(frame.time_s, 6),
        })  # fmt: skip
        for k, mask in enumerate(track.masks[index]):
            if not mask.any():
                continue
            code = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
            annotations.append({
                "id": len(annotations) + 1, "image_id": index + 1, "category_id": k + 1,
                "track_id": k + 1, "iscrowd": 0, "area": int(mask.sum()), "bbox": _xywh(mask),
                "score": round(float(track.scores[index, k]), 6),
                "segmentation": {"size": [height, width], "counts": code["counts"].decode()},
            })  # fmt: skip
    values = {
        "info": {"description": "carvid", "video": shown(track.facts.video.path)},
        "licenses": [],
        "images": images,
        "categories": [
            {"id": k, "name": text, "supercategory": "", **_kind(track, text)}
            for k, text in enumerate(track.texts, 1)
        ],
        "annotations": annotations,
    }
    write_text(path, json.dumps(values, ensure_ascii=False) + "\n")


def _kind(track: Track, text: str) -> dict[str, int]:
    """Of a class, whether it is a thing, as COCO's panoptic categories say it."""
    return {"isthing": int(not track.facts.is_stuff(text))} if track.facts.semantic else {}


def mask_tools() -> Any:
    """Return `pycocotools.mask`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise ConfigError("format coco needs pycocotools; pip install pycocotools") from None
    return mask


def _xywh(mask: NDArray[np.bool_]) -> list[int]:
    """x, y, width and height of a mask, pixels."""
    left, top, right, bottom = box_of(mask)
    return [left, top, right - left, bottom - top]


FORMAT = Format("coco", "coco.json", write_coco, shows_frames=False, check=mask_tools)
