"""Ref-YouTube-VOS on disk.

    valid/JPEGImages/<video>/*.jpg                        images
    meta_expressions/valid/meta_expressions.json          expressions, without object ids

Its validation masks are not published; all expressions of a video are asked for together. Seo,
Lee and Han, *URVOS*, ECCV 2020.
"""

from __future__ import annotations

from pathlib import Path

from carvid.datasets.expressions import META_FOLDER, META_NAME, Video, read_meta
from carvid.datasets.video_dataset import VideoDataset


class RefYoutubeVos(VideoDataset):
    """A split of Ref-YouTube-VOS."""

    name = "Ref-YouTube-VOS"

    @classmethod
    def read_expressions(cls, root: Path, split: str) -> tuple[Video, ...] | None:
        """Read `meta_expressions/<split>/meta_expressions.json`; None if it is not there."""
        path = root / META_FOLDER / split / META_NAME
        return read_meta(path) if path.is_file() else None
