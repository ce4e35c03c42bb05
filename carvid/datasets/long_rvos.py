"""Long-RVOS on disk.

    valid/JPEGImages/<video>/*.jpg                images
    valid/Annotations/<video>/<object>/*.png      truth: black and white; none of a frame in which
                                                  the object is not to be seen
    valid/meta_expressions.json                   expressions, each with obj_id and type

The masks of its test split are not published. Liang et al., *Long-RVOS: A Comprehensive Benchmark
for Long-term Referring Video Object Segmentation*, 2025 (arXiv 2505.12702); the layout is that of
its authors' repository, iSEE-Laboratory/Long_RVOS.
"""

from __future__ import annotations

from pathlib import Path

from carvid.datasets.expressions import META_NAME, Video, read_meta
from carvid.datasets.video_dataset import VideoDataset

KINDS = ("static", "dynamic", "hybrid")
"""What expressions speak of; they tell this data set from others."""


class LongRvos(VideoDataset):
    """A split of Long-RVOS; an expression names one object."""

    name = "Long-RVOS"

    @classmethod
    def read_expressions(cls, root: Path, split: str) -> tuple[Video, ...] | None:
        """Read `<split>/meta_expressions.json`; None if its expressions are not of `KINDS`."""
        path = root / split / META_NAME
        if not path.is_file():
            return None
        videos = read_meta(path)
        kinds = {e.kind for video in videos for e in video.expressions}
        return videos if kinds and kinds <= set(KINDS) else None
