"""youtube_vis/: YouTube-VIS, a track of masks for each thing; as truth, and as a prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.files import make_folder
from carvid.exports.coco import categories, mask_tools, run_lengths, xywh
from carvid.exports.data_set import DataSet, Member
from carvid.exports.format import Format
from carvid.exports.json_stream import json_file
from carvid.run.layout import YOUTUBE_VIS_FOLDER

NAME = "youtube-vis"


def write_youtube_vis(runs: DataSet, path: Path) -> None:
    """Write instances.json, a data set, and results.json, what a server of the benchmark takes:
    masks of each thing as run lengths, null in frames where it is not. Frames need no image. What
    is in no frame has no track.

    Raises:
        ConfigError: pycocotools is not installed.
        OutputError: the place cannot be written.
    """
    mask_tools(NAME)
    make_folder(path)
    with (
        json_file(path / "results.json") as results,
        results.list_of() as predict,
        json_file(path / "instances.json") as file,
    ):
        file.write_object({
            "info": {"description": "carvid"},
            "licenses": [],
            "videos": _videos(runs),
            "categories": categories(runs),
            "annotations": _tracks(runs, predict),
        })  # fmt: skip


def _videos(runs: DataSet) -> Iterator[dict[str, Any]]:
    for member in runs.members():
        height, width = member.track.facts.video.size_hw
        count = len(member.track)
        folder = "" if member.name else f"{member.title}/"
        yield {
            "id": member.number + 1, "width": width, "height": height, "length": count,
            "file_names": [folder + member.image_name(index) for index in range(count)],
        }  # fmt: skip


def _tracks(runs: DataSet, predict: Callable[[Any], None]) -> Iterator[dict[str, Any]]:
    """Yield the tracks of all runs, and predict each, too."""
    number = 0
    for member in runs.members():
        for label, masks in sorted(_masks_of(member).items()):
            number += 1
            height, width = member.track.facts.video.size_hw
            facts = {
                "video_id": member.number + 1, "category_id": member.categories[label - 1] + 1,
                "segmentations": masks.segmentations,
            }  # fmt: skip
            predict({**facts, "score": masks.score(member.track.scores[:, label - 1])})
            yield {
                "id": number, **facts, "iscrowd": 0, "length": len(member.track), "width": width,
                "height": height, "bboxes": masks.bboxes, "areas": masks.areas,
            }  # fmt: skip


class _Masks:
    """A thing's masks in T frames, as run lengths; None where it is not."""

    def __init__(self, count: int) -> None:
        self.segmentations: list[dict[str, Any] | None] = [None] * count
        self.bboxes: list[list[int] | None] = [None] * count
        self.areas: list[int | None] = [None] * count

    def put(self, index: int, mask: NDArray[np.bool_]) -> None:
        self.segmentations[index] = run_lengths(mask)
        self.bboxes[index] = xywh(mask)
        self.areas[index] = int(mask.sum())

    def score(self, scores: NDArray[np.float32]) -> float:
        """The mean of a thing's scores, float32 (T,), where it is."""
        there = [area is not None for area in self.areas]
        return round(float(scores[there].mean()), 6)


def _masks_of(member: Member) -> dict[int, _Masks]:
    """Label → its masks, of those that are in any frame of a run."""
    found: dict[int, _Masks] = {}
    for frame in member.frames:
        for label, mask in member.masks(frame.index):
            if label not in found:
                found[label] = _Masks(len(member.track))
            found[label].put(frame.index, mask)
    return found


FORMAT = Format(
    NAME, YOUTUBE_VIS_FOLDER, write_set=write_youtube_vis, shows_frames=False,
    check=partial(mask_tools, NAME),
)  # fmt: skip
