"""ReVOS on disk: both splits in one folder.

    JPEGImages/<video>/*.jpg                images; <video> is a path, as UVO/all/2E4T5NCywcE
    meta_expressions_valid_.json            expressions, with anno_id and type_id
    mask_dict.json                          truth, as in MeViS

An expression may name several objects, or none; all expressions of a video are asked for together.
Yan et al., *VISA: Reasoning Video Object Segmentation via Large Language Models*, ECCV 2024; the
layout is that of its authors' repository, cilinyan/ReVOS-api.
"""

from __future__ import annotations

from pathlib import Path

from carvid.datasets.expressions import Video, read_meta
from carvid.datasets.folders import IMAGE_FOLDER, first_folder
from carvid.datasets.mask_dict import MASK_DICT
from carvid.datasets.video_dataset import VideoDataset

KINDS = {"0": "referring", "1": "reasoning"}
"""Types of expressions that the official evaluation counts, by their numbers."""


class Revos(VideoDataset):
    """A split of ReVOS."""

    name = "ReVOS"
    expression_files = ("meta_expressions_*_.json", MASK_DICT)

    @classmethod
    def read_expressions(cls, root: Path, split: str) -> tuple[Video, ...] | None:
        """Read `meta_expressions_<split>_.json`; None if it is not there."""
        path = root / f"meta_expressions_{split}_.json"
        return read_meta(path, nested=True) if path.is_file() else None

    @classmethod
    def image_folder(cls, root: Path, split: str, resolution: str | None) -> Path:
        """Return `JPEGImages`, which holds the videos of all splits."""
        return first_folder(root, [root / IMAGE_FOLDER], "images", "give the data set's root")
