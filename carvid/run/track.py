"""Track: what a run yields; RunFolder: the same on disk, frame by frame.

    out/run.json      version, resolved config, weights, video, texts, timing
    out/masks/        %05d.png, DAVIS label maps
    out/scores.csv    a row for each frame and expression
    out/overlay.mp4

While a run goes on, `out/.carvid/` holds the temporal state and the scores so far, so that a
stopped run resumes after its last whole frame, and a killed one after the last that was noted.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from carvid.base.errors import OutputError
from carvid.base.files import cannot_write, is_partial, make_folder, read_json, write_text
from carvid.base.guard import check_apart
from carvid.base.interrupt import never, stopping
from carvid.base.memory import release_unused
from carvid.base.scale import ROWS, enlarged_rows, resize
from carvid.config import Config, OverlayConfig
from carvid.media.label_png import label_map, read_label_png, write_label_png
from carvid.media.open import (
    ALL,
    DEFAULT_FRAME_RATE,
    SHORTEST_FRAME_S,
    Frame,
    Selection,
    VideoInfo,
    input_files,
    is_live,
    natural_key,
    open_video,
)
from carvid.run.layout import (
    MASK_FOLDER,
    MASK_NAME,
    PROGRESS_FOLDER,
    check_contents,
    check_place,
    is_half_moved,
    put_back,
    run_paths,
    set_aside,
)
from carvid.run.lock import locked
from carvid.show.overlay import write_overlay
from carvid.show.overlay_thread import OverlayAlong
from carvid.temporal.state import TemporalState

SCORE_COLUMNS = ("frame", "time_s", "label", "expression", "score", "cosine", "found", "area")
"""`score` is P[i, i] when the query was last asked, among all who compete; `cosine` is that of the
same view with the query's own text, empty where there was none; `area` counts the mask's pixels."""
PROGRESS_SHARE = 0.1
"""What writing the progress may take of the time: where frames are many and large, not each frame's
is written, and a kill loses some."""
LARGE_PIXELS = 4_000_000
"""The overlay of frames that have more, 4K's, is not drawn along: a second decoder and x264 take
half a gigabyte there, beside the networks."""
NOT_OURS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, csv.Error,
            zlib.error)  # fmt: skip
"""What reading a run's files raises when carvid did not write them."""


@dataclass(frozen=True)
class FrameResult:
    """What carvid finds in one frame, for N expressions."""

    index: int
    """The frame's index, from 0."""
    time_s: float
    """The frame's time, seconds; NaN where the input has none."""
    masks: NDArray[np.bool_]
    """bool (N, H, W); masks of different expressions may overlap."""
    maps: NDArray[np.float32]
    """float32 (N, h, w) in [0, 1]: what the masks were made from; where masks are carried, the
    soft maps that they are cut from at 0.5. Of frames larger than 480p they are smaller."""
    scores: NDArray[np.float32]
    """float32 (N,) in [0, 1]: each expression's score when it was last asked."""
    state: TemporalState
    """The state that this frame leaves to the next."""

    @property
    def proposals(self) -> NDArray[np.float32]:
        """`maps` at the frame's size, float32 (N, H, W)."""
        return resize(self.maps, (self.masks.shape[1], self.masks.shape[2]))

    @property
    def cosines(self) -> NDArray[np.float32]:
        """float32 (N,): cosine of the views that were scored with the expressions; NaN where there
        was none."""
        return self.state.cosines[: len(self.masks)]

    @property
    def nbytes(self) -> int:
        """What the frame's arrays take, about."""
        return self.masks.nbytes + self.maps.nbytes

    def labels(self) -> NDArray[np.uint8]:
        """Return one label map, uint8 (H, W); where masks overlap, the higher proposal has it,
        weighted by what its expression's choice is worth along time."""
        size_hw = self.masks.shape[1:]
        values = self.state.path_values(len(self.masks))[:, None, None]
        labels = np.empty(size_hw, np.uint8)
        for top in range(0, len(labels), ROWS):
            part = slice(top, top + ROWS)
            rank = values * [enlarged_rows(plane, size_hw, top) for plane in self.maps]
            planes = np.where(self.masks[:, part], 0.5 + rank / 2, 0)
            labels[part] = label_map(planes.astype(np.float32))
        return labels

    def rows(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the frame's rows of scores.csv."""
        areas = self.masks.sum(axis=(1, 2)).tolist()
        cosines = ["" if math.isnan(cosine) else f"{cosine:.6f}" for cosine in self.cosines]
        return [
            (str(self.index), f"{self.time_s:.6f}", str(k + 1), text, f"{self.scores[k]:.6f}",
             cosines[k], str(int(areas[k] > 0)), str(areas[k]))
            for k, text in enumerate(texts)
        ]  # fmt: skip


@dataclass(frozen=True)
class RunFacts:
    """What run.json says of a run, besides its timing."""

    config: Config
    video: VideoInfo
    texts: tuple[str, ...]
    distractors: tuple[str, ...]
    weights: dict[str, str]
    """Names (with revisions) of generator and classifier, device and precision."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping."""
        from carvid.version import __version__

        return {
            "carvid": __version__,
            "texts": list(self.texts),
            "distractors": list(self.distractors),
            "video": self.video.to_dict(),
            "weights": self.weights,
            "config": self.config.to_dict(),
        }


@dataclass(frozen=True)
class Track:
    """The masks of a clip, in memory (packed) or on disk."""

    facts: RunFacts
    times_s: NDArray[np.float64]
    """float64 (T,): the frames' times."""
    scores: NDArray[np.float32]
    """float32 (T, N) in [0, 1]."""
    masks: Sequence[NDArray[np.bool_]]
    """T entries of bool (N, H, W), unpacked or read when they are asked for."""
    label_maps: Sequence[NDArray[np.uint8]]
    """T entries of uint8 (H, W), likewise; expression k is label k, from 1."""
    lost: tuple[str, ...] = ()
    """What of the video could not be read, a line each."""
    cosines: NDArray[np.float32] | None = None
    """float32 (T, N): cosine of the views that were scored with the expressions, NaN where there
    was none; None where they are not known."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The expressions, in order."""
        return self.facts.texts

    def __len__(self) -> int:
        return len(self.times_s)

    @classmethod
    def open(cls, folder: str | Path) -> Track:
        """Open the folder of a finished run.

        Raises:
            OutputError: it is none.
        """
        folder = Path(folder)
        try:
            values = read_json(folder / "run.json")
            facts = _facts_from(values)
            rows = list(read_scores(folder / "scores.csv", len(facts.texts)))
            times_s = np.array([row.time_s for row in rows], np.float64)
            scores, cosines = (
                np.array([getattr(row, key) for row in rows], np.float32).reshape(
                    -1, len(facts.texts)
                )
                for key in ("scores", "cosines")
            )
            lost = tuple(values.get("lost", ()))
        except (OSError, *NOT_OURS):
            raise OutputError(
                f"'{folder}' is no folder of a finished run; give what carvid run -o made"
            ) from None
        maps = _FolderMaps(folder / "masks", len(rows))
        masks = _MasksOfMaps(maps, len(facts.texts))
        return cls(facts, times_s, scores, masks, maps, lost, cosines)

    def summary(self) -> dict[str, Any]:
        """Return what was found, JSON-able: the number of frames, and of each expression in how
        many it was found, its mean score, and its best one and where."""
        found = [0] * len(self.texts)
        for masks in self.masks:
            found = [count + int(mask.any()) for count, mask in zip(found, masks, strict=True)]
        best = self.scores.argmax(axis=0).tolist()
        return {
            "frames": len(self),
            "theta": self.facts.config.car.theta,
            "expressions": [
                {"label": k + 1, "text": text, "frames_found": found[k],
                 "mean_score": round(float(self.scores[:, k].mean()), 4),
                 "best_score": round(float(self.scores[best[k], k]), 4), "best_frame": best[k]}
                for k, text in enumerate(self.texts)
            ],
        }  # fmt: skip

    def save(self, folder: str | Path, *, overwrite: bool = False, progress: bool = False) -> None:
        """Write masks/, scores.csv, overlay.mp4 and run.json; the overlay reads the video again,
        and so a live input, whose frames are gone, has none.

        Raises:
            OutputError: the folder holds something else, or what is read here, another run is
                writing to it, or it cannot be written.
            VideoError: the video is no longer there.
        """
        target = RunFolder(Path(folder), self.facts)
        target.check(overwrite=overwrite)
        with locked(target.folder):
            check_apart(self.files(), run_paths(target.folder))
            target.begin(overwrite=overwrite)
            initial = TemporalState.initial(len(self.facts.texts) + len(self.facts.distractors))
            for index, masks in enumerate(self.masks):
                cosines = initial.cosines.copy()
                if self.cosines is not None:
                    cosines[: len(masks)] = self.cosines[index]
                target.add(
                    FrameResult(
                        index, float(self.times_s[index]), masks, masks.astype(np.float32),
                        self.scores[index], replace(initial, cosines=cosines),
                    ),
                    labels=self.label_maps[index],
                )  # fmt: skip
            target.finish({}, lost=self.lost, progress=progress)

    def files(self) -> list[Path]:
        """Return the files that are read for this track's frames and masks."""
        maps = self.label_maps
        return [
            *input_files(self.facts.video.path),
            *([maps.folder, *maps.folder.glob("*.png")] if isinstance(maps, _FolderMaps) else ()),
        ]


class MemoryStore:
    """Collects a run in memory: packed bits, compressed, a few kilobytes a frame."""

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self._times: list[float] = []
        self._scores: list[NDArray[np.float32]] = []
        self._cosines: list[NDArray[np.float32]] = []
        self._masks: list[bytes] = []
        self._maps: list[bytes] = []

    def add(self, result: FrameResult) -> None:
        """Keep one frame."""
        self._times.append(result.time_s)
        self._scores.append(result.scores)
        self._cosines.append(result.cosines)
        self._masks.append(zlib.compress(np.packbits(result.masks).tobytes(), 1))
        self._maps.append(zlib.compress(result.labels().tobytes(), 1))

    def track(self, lost: Sequence[str] = (), *, cut_short: bool = False) -> Track:
        """Return what was collected, and what could not be read; `cut_short`: as a clip that ends
        after the last frame."""
        count, size_hw = len(self.facts.texts), self.facts.video.size_hw
        return Track(
            self._until_now() if cut_short else self.facts,
            np.array(self._times, np.float64),
            np.array(self._scores, np.float32).reshape(-1, count),
            _PackedMasks(self._masks, (count, *size_hw)),
            _PackedMaps(self._maps, size_hw),
            tuple(lost),
            np.array(self._cosines, np.float32).reshape(-1, count),
        )

    def _until_now(self) -> RunFacts:
        video = self.facts.video
        selection = replace(video.selection, end_s=self._times[-1] + SHORTEST_FRAME_S / 2)
        count = None if video.frame_count is None else len(self._times)
        return replace(self.facts, video=replace(video, selection=selection, frame_count=count))


class RunFolder:
    """Writes a run's folder, one whole frame after the other."""

    def __init__(self, folder: Path, facts: RunFacts) -> None:
        self.folder, self.facts = folder, facts
        self._progress = folder / PROGRESS_FOLDER
        self._along: OverlayAlong | None = None
        self._done = 0
        """Whole frames that are there."""
        self._state: TemporalState | None = None
        """The state that the last of them has left."""
        self._save_from = -math.inf
        """When to save the progress next."""
        self._replaces = False
        """Whether an earlier run is still in its place, which the first frame will take."""

    def check(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Say early that the folder cannot be used.

        Raises:
            OutputError: it holds something else, or another run than the one to resume; or
                something else is among what would be replaced.
        """
        holds_run = check_place(self.folder, resume=resume, overwrite=overwrite)
        if holds_run and overwrite:
            check_contents(self.folder)
        saved = self._saved_inputs() if holds_run and not overwrite else None
        if saved is not None and saved != self._inputs:
            raise OutputError(
                f"'{self.folder}' holds a run with other inputs or settings; choose another "
                "folder with -o, or replace it with --overwrite"
            )

    def begin(
        self, *, resume: bool = False, overwrite: bool = False
    ) -> tuple[int, TemporalState | None]:
        """Make the folder; return the first frame to do, and the state before it, if saved.

        A run that is replaced stays until the first frame of the new one is there, and is then kept
        in `.carvid/replaced` until that is whole.
        """
        self.check(resume=resume, overwrite=overwrite)
        self._done, self._replaces = 0, overwrite
        if overwrite:
            return 0, None
        if is_half_moved(self.folder):
            self._set_aside()
        self._make_folders()
        saved = self._progress / "progress.json"
        if saved.exists() and self.facts.video.live:
            raise OutputError(
                f"'{self.folder}' holds a part of '{self.facts.video.path}', which comes only "
                "once; choose another folder with -o, or replace it with --overwrite"
            )
        if saved.exists():
            try:
                values = read_json(saved)
                state = TemporalState.from_dict(values["state"])
                self._cut_scores(values["next"])
                self._done, self._state = values["next"], state
                return self._done, state
            except NOT_OURS:
                raise self._unreadable(saved) from None
        self._cut_scores(0)
        self._save_progress()
        return 0, None

    @property
    def finished(self) -> bool:
        """Whether the folder holds a whole run."""
        return (self.folder / "run.json").exists() and not (
            self._progress / "progress.json"
        ).exists()

    @property
    def mask_folders(self) -> tuple[Path, ...]:
        """Where the masks go."""
        return (self.folder / MASK_FOLDER,)

    def add(self, result: FrameResult, labels: NDArray[np.uint8] | None = None) -> None:
        """Write one frame; it counts once the progress is saved, which is soon.

        Raises:
            OutputError: the place cannot be written.
        """
        labels = result.labels() if labels is None else labels
        rows = result.rows(self.facts.texts)
        self._take_place()
        self.write_masks(result, labels)
        if self._along is not None:
            column = SCORE_COLUMNS.index("score")  # rounded, as they are read back
            self._along.draw(result.index, labels, [float(row[column]) for row in rows])
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        try:
            with open(self._progress / "scores.csv", "a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        except OSError as error:
            raise OutputError(
                f"cannot write scores to '{self.folder}': {error.strerror}; free some space and "
                "continue with --resume"
            ) from None
        self._done, self._state = result.index + 1, result.state
        if time.monotonic() >= self._save_from:
            self._save_progress()

    def write_masks(self, result: FrameResult, labels: NDArray[np.uint8] | None) -> None:
        """Write the masks of one frame; `labels` is its label map, if that is at hand."""
        path = self.folder / "masks" / MASK_NAME.format(result.index)
        write_label_png(path, result.labels() if labels is None else labels)

    def draw_along(self) -> None:
        """Draw the overlay while the frames are added, from the first one on; it is drawn at the
        end otherwise, as that of large frames is."""
        facts, (height, width) = self.facts, self.facts.video.size_hw
        if facts.config.overlay.enabled and (facts.video.live or height * width < LARGE_PIXELS):
            path = self.folder / "overlay.mp4"
            self._along = OverlayAlong(path, facts.video, facts.texts, facts.config.overlay)

    def see(self, frame: Frame) -> Frame:
        """Take note of a frame of a live input before it is segmented."""
        return frame if self._along is None else self._along.keep(frame)

    def pause(self, *, progress: bool = False) -> None:
        """Leave a video of what is done so far; the run can be resumed."""
        if self._replaces:  # nothing is
            self.abandon()
            return
        self._save_progress()
        if self._along is not None:
            self._along.close()
        elif self.facts.config.overlay.enabled:
            rows = (self._progress / "scores.csv").read_text(encoding="utf-8")
            lines = io.StringIO(",".join(SCORE_COLUMNS) + "\n" + rows, newline="")
            rows_of_frames = _scores_of(lines, len(self.facts.texts))
            self._overlay(rows_of_frames, unfinished=True, progress=progress)

    def abandon(self) -> None:
        """Leave a video of what came of a live input, which will not come again, or the run that
        was to be replaced, if nothing came; for failures."""
        if not self._done and not self._replaces:
            with suppress(OSError):
                self._replaces = put_back(self.folder)
        if not self._replaces:
            with suppress(OutputError):  # a full disk is the failure itself
                self._save_progress()
        if self._along is None:
            return
        if not self.facts.video.live:
            self._along.discard()
            return
        with suppress(OutputError):  # a full disk is the failure itself
            self._along.close()

    def forget_if_empty(self) -> None:
        """Leave nothing of a run without a frame, which would be in the way of a better one."""
        if not self._done:
            if not self._replaces:
                shutil.rmtree(self._progress, ignore_errors=True)
            for folder in (*self.mask_folders, self.folder):
                with suppress(OSError):  # somebody else's things are in it
                    folder.rmdir()

    def finish(
        self,
        timing: dict[str, float],
        *,
        lost: Sequence[str] = (),
        progress: bool = False,
        stop: Callable[[], bool] = never,
    ) -> None:
        """Write scores.csv, the overlay and, last, run.json.

        Raises:
            KeyboardInterrupt: `stop` said so while the overlay was drawn; the run can be resumed.
            OutputError: the place cannot be written.
            VideoError: the video is no longer there.
        """
        self._take_place()
        self._save_progress()
        rows = self._progress / "scores.csv"
        header = ",".join(SCORE_COLUMNS) + "\n"
        write_text(
            self.folder / "scores.csv",
            header + (rows.read_text(encoding="utf-8") if rows.exists() else ""),
        )
        if self._along is not None:
            self._along.close()
        elif self.facts.config.overlay.enabled and not self.facts.video.live:
            release_unused()
            self.write_overlay(progress=progress, stop=stop)
        values = self.facts.to_dict() | {"lost": list(lost), "timing": timing}
        write_text(
            self.folder / "run.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        )
        (self._progress / "progress.json").unlink()  # first: what is left of it means nothing
        shutil.rmtree(self._progress)

    def write_overlay(self, *, progress: bool, stop: Callable[[], bool]) -> None:
        """Draw the masks over the video."""
        rows = read_scores(self.folder / "scores.csv", len(self.facts.texts))
        self._overlay(rows, progress=progress, stop=stop)

    def _overlay(
        self,
        rows: Iterable[FrameScores],
        *,
        unfinished: bool = False,
        progress: bool,
        stop: Callable[[], bool] = never,
    ) -> None:
        video = self.facts.video
        overlay_from_folder(
            self.folder / "masks", video.path, self.folder / "overlay.mp4", self.facts.texts,
            self.facts.config.overlay, scores=[row.scores for row in rows],
            frame_rate=video.frame_rate, selection=video.selection, unfinished=unfinished,
            progress=progress, stop=stop,
        )  # fmt: skip

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        """What must be equal for a run to go on; as JSON reads it back."""
        values: dict[str, Any] = json.loads(json.dumps(self.facts.to_dict()))
        return values

    def _saved_inputs(self) -> dict[str, Any] | None:
        for path, key in (
            (self._progress / "progress.json", "inputs"),
            (self.folder / "run.json", None),
        ):
            if path.exists():
                try:
                    values = read_json(path)
                    inputs: dict[str, Any] = values[key] if key else values
                    inputs.pop("timing", None)
                    inputs.pop("lost", None)
                except NOT_OURS:
                    raise self._unreadable(path) from None
                return inputs
        return None

    def _unreadable(self, path: Path) -> OutputError:
        return OutputError(
            f"'{path}' is damaged; choose another folder with -o, or replace the run with "
            "--overwrite"
        )

    def _save_progress(self) -> None:
        began = time.monotonic()
        count = len(self.facts.texts) + len(self.facts.distractors)
        state = self._state or TemporalState.initial(count)
        values = {"next": self._done, "state": state.to_dict(), "inputs": self._inputs}
        write_text(self._progress / "progress.json", json.dumps(values))
        now = time.monotonic()
        self._save_from = now + (now - began) / PROGRESS_SHARE

    def _cut_scores(self, frames: int) -> None:
        """Drop rows of a frame that was not finished."""
        path = self._progress / "scores.csv"
        if not path.exists():
            return
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows[: frames * len(self.facts.texts)])
        write_text(path, text.getvalue())

    def _take_place(self) -> None:
        """Take the place of an earlier run, if one is to be replaced and still there."""
        if self._replaces:
            self._set_aside()
            self._make_folders()
            self._replaces = False

    def _set_aside(self) -> None:
        try:
            set_aside(self.folder)
        except OSError as error:
            raise cannot_write(self.folder, str(error.strerror or error)) from None

    def _make_folders(self) -> None:
        make_folder(self._progress)  # first: it marks the folder as a run's
        for folder in self.mask_folders:
            make_folder(folder)


def expressions_beside(masks: Path) -> list[str]:
    """Return the expressions that the run.json beside a folder of masks names, or none.

    Raises:
        OutputError: it is damaged.
    """
    path = masks.parent / "run.json"
    if not path.exists():
        return []
    with _what_we_wrote(path):
        return [str(text) for text in read_json(path)["texts"]]


def selection_beside(masks: Path) -> Selection:
    """Return the part of the video that the run.json beside a folder of masks names, or all.

    Raises:
        OutputError: it is damaged.
    """
    path = masks.parent / "run.json"
    if not path.exists():
        return ALL
    with _what_we_wrote(path):
        video = read_json(path).get("video", {})
        return Selection(**video.get("selection", video.get("part", {})))


@contextmanager
def _what_we_wrote(path: Path) -> Iterator[None]:
    try:
        yield
    except NOT_OURS:
        raise OutputError(
            f"'{path}' is not what carvid run wrote; move it away from the masks"
        ) from None


def overlay_from_folder(
    masks: Path,
    video: str | Path,
    output: Path,
    texts: Sequence[str],
    config: OverlayConfig,
    *,
    scores: Sequence[Sequence[float]] | None = None,
    frame_rate: Fraction = DEFAULT_FRAME_RATE,
    selection: Selection = ALL,
    unfinished: bool = False,
    progress: bool = False,
    stop: Callable[[], bool] = never,
) -> int:
    """Draw a folder of DAVIS PNGs over a video; return the number of frames.

    Of an `unfinished` run as many frames are drawn as have scores. `stop` is asked after each.

    Raises:
        KeyboardInterrupt: `stop` said so; nothing is left.
        OutputError: there are fewer or more masks than frames, or the place cannot be written, or
            is one of what is read.
        VideoError: the video cannot be read.
        DatasetError: a mask cannot be read.
    """
    if not masks.is_dir():
        raise OutputError(f"no folder '{masks}'; give the folder of masks that carvid run made")
    paths = [path for path in masks.glob("*.png") if not is_partial(path)]
    paths.sort(key=lambda path: natural_key(path.name))
    check_apart([*input_files(video), *paths, masks.parent / "run.json"], [output])
    with open_video(video, frame_rate=frame_rate, selection=selection) as reader:
        count, frames = reader.info.frame_count, reader.frames()
        if unfinished and scores is not None:
            paths = paths[: len(scores)]
            count, frames = len(scores), itertools.islice(frames, len(scores))
        mismatch = OutputError(
            f"'{masks}' holds {len(paths)} masks, '{video}' has {count or 'another number of'} "
            "frames; give the masks of this video"
        )
        if not paths or (count is not None and count != len(paths)):
            raise mismatch
        bar = tqdm(
            stopping(frames, stop), total=len(paths), desc="overlay", unit="frame",
            disable=not progress,
        )  # fmt: skip
        planes = (read_label_png(path) for path in paths)
        try:
            return write_overlay(
                output, reader.info, bar, planes, texts, config, scores=scores,
            )  # fmt: skip
        except ValueError:  # one of the two ended first, or a mask has another size
            raise mismatch from None
        finally:
            bar.close()


@dataclass(frozen=True)
class FrameScores:
    """What scores.csv says of a frame and its N expressions."""

    time_s: float
    scores: list[float]
    cosines: list[float]
    """NaN where there was none."""


def read_scores(path: Path, count: int) -> Iterator[FrameScores]:
    """Yield what a scores.csv says of each frame, with `count` expressions."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from _scores_of(file, count)


def _scores_of(lines: Iterable[str], count: int) -> Iterator[FrameScores]:
    rows = csv.DictReader(lines)
    while frame := list(itertools.islice(rows, count)):
        if len(frame) == count:
            yield FrameScores(
                float(frame[-1]["time_s"]),
                [float(row["score"]) for row in frame],
                [float(row.get("cosine") or "nan") for row in frame],
            )


def _facts_from(values: dict[str, Any]) -> RunFacts:
    video = VideoInfo.from_dict(values["video"])
    # A file of that name was read; nobody who only looks at a run wants a network or a camera.
    video = replace(video, live=video.live or is_live(video.path))
    return RunFacts(
        Config.from_dict(values["config"]), video,
        tuple(values["texts"]), tuple(values["distractors"]), values["weights"],
    )  # fmt: skip


@dataclass(frozen=True)
class _PackedMasks(Sequence[NDArray[np.bool_]]):
    packed: list[bytes]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: Any) -> Any:
        bits = np.frombuffer(zlib.decompress(self.packed[index]), np.uint8)
        count = int(np.prod(self.shape))
        return np.unpackbits(bits, count=count).astype(bool).reshape(self.shape)


@dataclass(frozen=True)
class _PackedMaps(Sequence[NDArray[np.uint8]]):
    packed: list[bytes]
    size_hw: tuple[int, int]

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: Any) -> Any:
        return np.frombuffer(zlib.decompress(self.packed[index]), np.uint8).reshape(self.size_hw)


@dataclass(frozen=True)
class _FolderMaps(Sequence[NDArray[np.uint8]]):
    folder: Path
    frames: int

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: Any) -> Any:
        return read_label_png(self.folder / MASK_NAME.format(range(self.frames)[index]))


@dataclass(frozen=True)
class _MasksOfMaps(Sequence[NDArray[np.bool_]]):
    maps: _FolderMaps
    expressions: int

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: Any) -> Any:
        return self.maps[index][None] == np.arange(1, self.expressions + 1)[:, None, None]
