"""What every data set of videos has: images by video and frame, and expressions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from carvid.datasets.expressions import META_FOLDER, META_NAME, Expression, Video
from carvid.datasets.folders import IMAGE_FOLDER, LIST_FOLDER, image_folder, images_in
from carvid.datasets.truth import SEMI_SUPERVISED, UNSUPERVISED


@dataclass(frozen=True)
class VideoDataset(ABC):
    """A data set to predict for: every video has its expressions and all its images.

    A subclass says in `read_expressions` how to know the data set and where its expressions lie,
    and, where they are asked for in several sets, which belong together.
    """

    name: ClassVar[str]
    """Its name, as papers write it."""
    set_names: ClassVar[tuple[str, ...]] = ("all",)
    """Names of the sets of expressions that are asked for together."""
    folders: ClassVar[tuple[str, ...]] = (
        IMAGE_FOLDER, SEMI_SUPERVISED, UNSUPERVISED, LIST_FOLDER, META_FOLDER,
    )  # fmt: skip
    """Folders in its root that nothing is written to."""
    expression_files: ClassVar[tuple[str, ...]] = (
        f"{META_FOLDER}/*/{META_NAME}", f"*/{META_NAME}", META_NAME,
    )  # fmt: skip
    """Files that may hold its expressions, as patterns from its root."""

    root: Path
    images: Path
    """Folder of `<video>/<frame>.jpg`."""
    videos: tuple[Video, ...]

    @classmethod
    @abstractmethod
    def read_expressions(cls, root: Path, split: str) -> tuple[Video, ...] | None:
        """Read the expressions of a split; None if it is another data set that lies in `root`.

        Raises:
            DatasetError: they are malformed.
        """

    @classmethod
    def image_folder(cls, root: Path, split: str, resolution: str | None) -> Path:
        """Return the folder of `<video>/<frame>.jpg`.

        Raises:
            DatasetError: there is none.
        """
        return image_folder(root, split, resolution)

    @classmethod
    def faults(cls, video: Video) -> list[str]:
        """Return what the expressions of a video lack, a clause each; nothing if all is there."""
        return [] if video.expressions else [f"{video.name} has no expressions"]

    def sets(self, video: Video) -> tuple[tuple[Expression, ...], ...]:
        """Return the expressions of a video that are asked for together, of each set."""
        return (video.expressions,)

    def image_paths(self, video: Video) -> tuple[Path, ...]:
        """Return the images of a video's frames, in order."""
        files = images_in(self.images / video.name)
        return tuple(files[frame] for frame in video.frames)
