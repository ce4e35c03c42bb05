"""What there is to be done to predict for a data set, where it goes, and what of it is done.

    out/anno_0 … anno_3/<video>/<frame>.png      label maps of the four sets of Ref-DAVIS
    out/expressions/<video>/<key>/<frame>.png    the mask of each expression, labels 0 and 1
    out/runs/<video>/<set>/                      run.json and scores.csv of each run

All expressions of a set are queries of one run, so that they are each other's distractors. A data
set without the four sets has one run a video, `out/runs/<video>/all`, and no label maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from carvid.base.files import read_json
from carvid.datasets.expressions import Expression, Video
from carvid.datasets.video_dataset import VideoDataset
from carvid.evaluation.predicted_files import EXPRESSION_FOLDER
from carvid.run.layout import PROGRESS_FOLDER, tidy
from carvid.run.scores import fault_in_scores

RUNS_FOLDER = "runs"
UNREADABLE = (OSError, ValueError, LookupError, TypeError)
"""What reading a damaged file of a run raises."""


@dataclass(frozen=True)
class SetRun:
    """One set of a video's expressions, and where it is written."""

    folder: Path
    """Of run.json and scores.csv."""
    frames: tuple[str, ...]
    """Names of the frames, which the masks bear."""
    texts: tuple[str, ...]
    expression_folders: tuple[Path, ...]
    """Of the masks of each expression."""
    label_folder: Path | None
    """Of the label maps; None where the data set has no sets."""

    @property
    def mask_folders(self) -> tuple[Path, ...]:
        """All folders of masks."""
        labels = () if self.label_folder is None else (self.label_folder,)
        return (*self.expression_folders, *labels)

    @property
    def has_all_masks(self) -> bool:
        """Whether every mask of every frame is there."""
        names = {f"{frame}.png" for frame in self.frames}
        return all(
            folder.is_dir() and names <= {p.name for p in folder.iterdir()}
            for folder in self.mask_folders
        )

    @property
    def frames_done(self) -> int:
        """How many frames need not be done again."""
        if self._progress.exists():
            try:
                return int(read_json(self._progress)["next"])
            except UNREADABLE:  # it will be done again
                return 0
        return len(self.frames) if self.finished else 0

    @property
    def finished(self) -> bool:
        """Whether the run is whole, and was made for these expressions."""
        facts = self.folder / "run.json"
        if self._progress.exists() or not facts.exists() or not self.has_all_masks:
            return False
        try:
            if tuple(read_json(facts)["texts"]) != self.texts:
                return False
        except UNREADABLE:  # likewise
            return False
        scores, count = self.folder / "scores.csv", len(self.texts)
        return fault_in_scores(scores, count, len(self.frames), header=True) is None

    @property
    def _progress(self) -> Path:
        return self.folder / PROGRESS_FOLDER / "progress.json"


@dataclass(frozen=True)
class VideoJob:
    """A video with the runs of all its sets: what a worker is given at a time."""

    name: str
    image_folder: Path
    image_paths: tuple[Path, ...]
    runs: tuple[SetRun, ...]

    @property
    def frames(self) -> int:
        """Frames to do, each set's counted."""
        return len(self.image_paths) * len(self.runs)

    @property
    def frames_done(self) -> int:
        """How many of them need not be done again."""
        return sum(run.frames_done for run in self.runs)

    @property
    def finished(self) -> bool:
        """Whether all its runs are."""
        return all(run.finished for run in self.runs)

    def tidy(self) -> None:
        """Remove what a kill left of finished runs."""
        for run in self.runs:
            tidy(run.folder)


def video_job(dataset: VideoDataset, video: Video, out: Path) -> VideoJob:
    """Return what is to be done for a video."""
    sets = zip(dataset.set_names, dataset.sets(video), strict=True)
    runs = tuple(_set_run(dataset, video, name, expressions, out) for name, expressions in sets)
    return VideoJob(video.name, dataset.images / video.name, dataset.image_paths(video), runs)


def _set_run(
    dataset: VideoDataset, video: Video, name: str, expressions: tuple[Expression, ...], out: Path
) -> SetRun:
    return SetRun(
        out / RUNS_FOLDER / video.name / name,
        video.frames,
        tuple(e.text for e in expressions),
        tuple(out / EXPRESSION_FOLDER / video.name / e.key for e in expressions),
        out / name / video.name if len(dataset.set_names) > 1 else None,
    )
