"""MeViS on disk: the expressions lie beside the images.

    valid_u/JPEGImages/<video>/*.jpg              images
    valid_u/meta_expressions.json                 expressions; their object ids are lists

An expression may name several objects, so that no label stands for it; all expressions of a video
are asked for together. Ding, Liu, He, Jiang and Loy, *MeViS*, ICCV 2023.
"""

from __future__ import annotations

from pathlib import Path

from carvid.datasets.expressions import META_NAME, Video, read_meta
from carvid.datasets.video_dataset import VideoDataset


class Mevis(VideoDataset):
    """A split of MeViS."""

    name = "MeViS"

    @classmethod
    def read_expressions(cls, root: Path, split: str) -> tuple[Video, ...] | None:
        """Read `meta_expressions.json` of a split, or that of the root; None without either."""
        for path in (root / split / META_NAME, root / META_NAME):
            if path.is_file():
                return read_meta(path)
        return None
