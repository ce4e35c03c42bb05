"""MeViS on disk: the expressions lie beside the images.

    valid_u/JPEGImages/<video>/*.jpg              images
    valid_u/meta_expressions.json                 expressions; their obj_id and anno_id are lists
    valid_u/mask_dict.json                        truth: anno_id → run lengths of each frame

An expression may name several objects, so that no label stands for it, and in the second version
none; all expressions of a video are asked for together. The masks of `valid` are not published.
Ding, Liu, He, Jiang and Loy, *MeViS*, ICCV 2023, and with Ying TPAMI 2025 (the second version).
"""

from __future__ import annotations

from pathlib import Path

from carvid.datasets.expressions import META_NAME, Video, read_meta
from carvid.datasets.mask_dict import MASK_DICT
from carvid.datasets.video_dataset import VideoDataset


class Mevis(VideoDataset):
    """A split of MeViS."""

    name = "MeViS"
    expression_files = (*VideoDataset.expression_files, f"*/{MASK_DICT}", MASK_DICT)

    @classmethod
    def read_expressions(cls, root: Path, split: str) -> tuple[Video, ...] | None:
        """Read `meta_expressions.json` of a split, or that of the root; None without either."""
        for path in (root / split / META_NAME, root / META_NAME):
            if path.is_file():
                return read_meta(path)
        return None
