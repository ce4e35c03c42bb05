"""Track: the masks of a clip, in memory (packed) or in a run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import RESUME, OutputError
from carvid.base.files import cannot_write, read_json, replacing
from carvid.base.guard import check_apart
from carvid.base.names import existing, shown
from carvid.media.open import SHORTEST_FRAME_S, files_of
from carvid.run.corrections import Correction
from carvid.run.facts import RunFacts
from carvid.run.folder import MakeOverlay, RunFolder
from carvid.run.layout import MASK_FOLDER, overlay_name, run_paths
from carvid.run.lock import locked
from carvid.run.progress import NOT_OURS
from carvid.run.result import FrameResult
from carvid.run.scores import read_scores
from carvid.run.sequences import (
    FolderLabels,
    FrameArrays,
    MasksOfLabels,
    PackedLabels,
    PackedMasks,
)
from carvid.temporal.state import TemporalState


@dataclass(frozen=True, eq=False, repr=False)
class Track:
    """The masks of a clip, in memory (packed) or on disk; equal to itself alone."""

    facts: RunFacts
    times_s: NDArray[np.float64]
    """float64 (T,): the frames' times."""
    scores: NDArray[np.float32]
    """float32 (T, N) in [0, 1]."""
    masks: FrameArrays[np.bool_]
    """T entries of bool (N, H, W), unpacked or read when they are asked for; a slice of them is
    bool (T, N, H, W)."""
    label_maps: FrameArrays[np.uint8]
    """T entries of uint8 (H, W), likewise; expression k is label k, from 1."""
    lost: tuple[str, ...] = ()
    """What of the video could not be read, a line each."""
    cosines: NDArray[np.float32] | None = None
    """float32 (T, N): cosine of the views that were scored with the expressions, NaN where there
    was none; None where they are not known."""
    make_overlay: MakeOverlay | None = None
    """Draws the overlay where the track is saved; None copies that of its folder."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The expressions, in order."""
        return self.facts.texts

    def __len__(self) -> int:
        return len(self.times_s)

    def __repr__(self) -> str:
        (height, width), path = self.facts.video.size_hw, shown(self.facts.video.path)
        place = "in memory" if self.folder is None else f"in '{shown(self.folder)}'"
        frames = f"{len(self)} frames of {width}×{height} of '{path}'"
        return f"Track({list(self.texts)}, {frames}, {place})"

    @classmethod
    def open(cls, folder: str | Path) -> Track:
        """Open the folder of a finished run.

        Raises:
            OutputError: it is none.
        """
        folder = existing(folder)
        try:
            values = read_json(folder / "run.json")
            facts = RunFacts.from_dict(values)
            count = len(facts.texts)
            rows = list(read_scores(folder / "scores.csv", count))
            frames = values.get("frame_count", len(rows))
            times_s = np.array([row.time_s for row in rows], np.float64)
            scores, cosines = (
                np.array([getattr(row, key) for row in rows], np.float32).reshape(-1, count)
                for key in ("scores", "cosines")
            )
            lost = tuple(values.get("lost", ()))
            if facts.keep_names and len(facts.video.names) < len(rows):
                raise ValueError("frames lack names")
        except (OSError, *NOT_OURS):
            raise OutputError(
                f"'{folder}' is no folder of a finished run; give what carvid run -o made"
            ) from None
        if len(rows) != frames:
            raise OutputError(
                f"'{folder / 'scores.csv'}' is damaged: it has {len(rows)} of {frames} frames; "
                f"make the run again with {RESUME}"
            )
        labels = FolderLabels(
            folder / MASK_FOLDER, len(rows), facts.video.size_hw, count, facts.mask_name
        )
        masks = MasksOfLabels(labels, count)
        return cls(facts, times_s, scores, masks, labels, lost, cosines)

    def summary(self) -> dict[str, Any]:
        """Return what was found, JSON-able: the number of frames, and of each expression in how
        many it was found, its mean score, and its best one and where."""
        found = self._frames_found()
        best = self.scores.argmax(axis=0).tolist()
        return {
            **({"mode": "semantic"} if self.facts.semantic else {}),
            "frames": len(self),
            "theta": self.facts.config.car.theta,
            "expressions": [
                {"label": k + 1, "text": text, "frames_found": found[k],
                 "mean_score": round(float(self.scores[:, k].mean()), 4),
                 "best_score": round(float(self.scores[best[k], k]), 4), "best_frame": best[k]}
                for k, text in enumerate(self.texts)
            ],
        }  # fmt: skip

    def _frames_found(self) -> list[int]:
        """In how many frames each expression has a mask."""
        found = np.zeros(len(self.texts), np.int64)
        if isinstance(self.masks, MasksOfLabels):  # whose planes are many, if there are classes
            for labels in self.label_maps:
                found += np.bincount(labels.ravel(), minlength=256)[1 : len(found) + 1] > 0
        else:
            for masks in self.masks:
                found += masks.any(axis=(1, 2))
        return [int(count) for count in found]

    def save(self, folder: str | Path, *, overwrite: bool = False, progress: bool = False) -> None:
        """Write masks/, scores.csv, the overlay and run.json.

        The overlay is drawn over the video, which is read again, and so what came only once has
        none; that of a track in a folder is copied.

        Raises:
            OutputError: the folder holds something else, or what is read here, another run is
                writing to it, or it cannot be written.
            VideoError: the video is no longer there.
        """
        folder = Path(folder)
        overlay = None if self.make_overlay is None else self.make_overlay(folder, self.facts)
        target = RunFolder(folder, self.facts, overlay)
        target.check(overwrite=overwrite)
        with locked(folder):
            check_apart(self.files(), run_paths(folder))
            target.begin(overwrite=overwrite)
            for index in range(len(self)):
                target.add(self.result(index), self.label_maps[index])
            self._copy_overlay(folder / overlay_name(self.facts.video))
            target.finish({}, lost=self.lost, progress=progress)

    def correct(self, corrections: Iterable[Correction], model: CorrectsRuns) -> Track:
        """Return the track with further corrections; as `Carvid.correct`, which has more options.

        Args:
            corrections: what is said of its frames.
            model: a `carvid.Carvid` that decides what follows from it.
        """
        return model.correct(self, corrections)

    def files(self) -> list[Path]:
        """Return the files that are read for this track's frames and masks."""
        video = files_of(self.facts.video)
        if self.folder is None:
            return video
        masks = self.folder / MASK_FOLDER
        return [*video, masks, *masks.rglob("*.png")]

    def newer_masks(self) -> list[Path]:
        """Return the masks that were written after the run, by another program perhaps; none of a
        track in memory."""
        labels = self.label_maps
        if not isinstance(labels, FolderLabels):
            return []
        times = {path: _changed_ns(path) for path in map(labels.path, range(len(self)))}
        ended = _changed_ns(labels.folder.parent / "run.json")
        return [path for path, changed in times.items() if changed > ended]

    @property
    def folder(self) -> Path | None:
        """The run's folder that the masks are read from; None if they are in memory."""
        labels = self.label_maps
        return labels.folder.parent if isinstance(labels, FolderLabels) else None

    def result(self, index: int) -> FrameResult:
        """Return frame `index`, as far as it is known."""
        state = TemporalState.initial(len(self.facts.texts) + len(self.facts.distractors))
        cosines, masks = state.cosines.copy(), self.masks[index]
        if self.cosines is not None:
            cosines[: len(masks)] = self.cosines[index]
        return FrameResult(
            index=index,
            time_s=float(self.times_s[index]),
            masks=masks,
            maps=masks.astype(np.float32),
            scores=self.scores[index],
            state=replace(state, cosines=cosines),
        )

    def _copy_overlay(self, path: Path) -> None:
        """Copy the overlay of the run's folder to a path, if there is one and none will be made."""
        if self.make_overlay is not None or self.folder is None:
            return
        source = self.folder / path.name
        if not source.is_file():
            return
        try:
            with replacing(path) as partial:
                shutil.copyfile(source, partial)
        except OSError as error:
            raise cannot_write(path, str(error.strerror or error)) from None


def _changed_ns(path: Path) -> int:
    """When a file was last written, nanoseconds since 1970; 0 if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class CorrectsRuns(Protocol):
    """What `Track.correct` needs of a `carvid.Carvid`."""

    def correct(self, run: Track, corrections: Iterable[Correction]) -> Track:
        """Return a run with further corrections."""


class MemoryStore:
    """Collects a run in memory: packed bits, compressed, a few kilobytes a frame.

    Args:
        facts: what the run is made of.
        make_overlay: draws the overlay where the track is saved.
    """

    def __init__(self, facts: RunFacts, make_overlay: MakeOverlay | None = None) -> None:
        self.facts, self._make_overlay = facts, make_overlay
        self._times_s: list[float] = []
        self._scores: list[NDArray[np.float32]] = []
        self._cosines: list[NDArray[np.float32]] = []
        self._masks: list[bytes] = []
        self._labels: list[bytes] = []

    def add(self, result: FrameResult, labels: NDArray[np.uint8] | None = None) -> None:
        """Keep one frame; `labels`, uint8 (H, W), is its label map, if that is at hand."""
        self._times_s.append(result.time_s)
        self._scores.append(result.scores)
        self._cosines.append(result.cosines)
        self._masks.append(PackedMasks.pack(result.masks))
        self._labels.append(PackedLabels.pack(result.labels() if labels is None else labels))

    def track(self, lost: Sequence[str] = (), *, cut_short: bool = False) -> Track:
        """Return what was collected, and what could not be read; `cut_short`: as a clip that ends
        after the last frame."""
        count, size_hw = len(self.facts.texts), self.facts.video.size_hw
        return Track(
            facts=self._until_now() if cut_short else self.facts,
            times_s=np.array(self._times_s, np.float64),
            scores=np.array(self._scores, np.float32).reshape(-1, count),
            masks=PackedMasks(self._masks, (count, *size_hw)),
            label_maps=PackedLabels(self._labels, size_hw),
            lost=tuple(lost),
            cosines=np.array(self._cosines, np.float32).reshape(-1, count),
            make_overlay=self._make_overlay,
        )

    def _until_now(self) -> RunFacts:
        """The facts of a clip that ends after the last frame."""
        video = self.facts.video
        selection = replace(video.selection, end_s=self._times_s[-1] + SHORTEST_FRAME_S / 2)
        count = None if video.frame_count is None else len(self._times_s)
        video = replace(
            video, selection=selection, frame_count=count, names=video.names[: len(self._times_s)]
        )
        return replace(self.facts, video=video)
