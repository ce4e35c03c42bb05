"""Ref-YouTube-VOS on disk.

    valid/JPEGImages/<video>/*.jpg                        images
    train/Annotations/<video>/*.png                       truth: label maps
    meta_expressions/valid/meta_expressions.json          expressions; obj_id in those of train

Its validation masks are not published (`valid/Annotations` of YouTube-VOS has first frames alone).
The file of `valid` names the videos of `test` as well, which are left out where the file of `test`
is there, as everybody does. All expressions of a video are asked for together. Seo, Lee and Han,
*URVOS*, ECCV 2020.
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
        if not path.is_file():
            return None
        videos, test = read_meta(path), root / META_FOLDER / "test" / META_NAME
        if split != "valid" or not test.is_file():
            return videos
        others = {video.name for video in read_meta(test)}
        return tuple(video for video in videos if video.name not in others)
