"""Predictions for a whole data set: every video, every set of expressions, resumable by frame.

    out/run.json                                 version, data set, resolved settings
    out/anno_0 … anno_3/<video>/<frame>.png      label maps of the four sets of Ref-DAVIS
    out/expressions/<video>/<key>/<frame>.png    the mask of each expression, labels 0 and 1
    out/runs/<video>/<set>/                      run.json and scores.csv of each run

All expressions of a set are queries of one run, so that they are each other's distractors. A data
set without the four sets has one run a video, `out/runs/<video>/all`, and no label maps.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from carvid.base.background import run_in_background
from carvid.base.errors import ConfigError, OutputError
from carvid.base.files import cannot_write, make_folder, read_json, write_text
from carvid.base.guard import check_apart
from carvid.base.processes import run_tasks, worker_number
from carvid.base.threads import cores
from carvid.car.queries import Queries
from carvid.config import Config, settings_files
from carvid.datasets.refdavis import Dataset, Video, open_dataset
from carvid.evaluation.protocols import EXPRESSION_FOLDER, SET_FOLDERS
from carvid.media.frames import frames_ahead
from carvid.media.label_png import write_label_png
from carvid.media.open import DEFAULT_FRAME_RATE, ImagesReader, prefetch
from carvid.pipeline import Carvid, load, resolve, weights_files
from carvid.run.facts import RunFacts
from carvid.run.folder import RunFolder
from carvid.run.layout import (
    MOVING,
    PROGRESS_FOLDER,
    REPLACED,
    check_contents,
    check_place,
    forget_replaced,
    is_half_moved,
    set_aside,
    tidy,
)
from carvid.run.lock import locked
from carvid.run.result import FrameResult

log = logging.getLogger("carvid")

RUNS_FOLDER = "runs"
NAMES = (RUNS_FOLDER, *SET_FOLDERS, EXPRESSION_FOLDER, "run.json")
"""What an earlier call left; runs first: none may look whole when its masks are gone."""
CONTENTS = re.compile(
    r"runs/[^/]+/[^/]+/(\.carvid/)?(run\.json|progress\.json|scores\.csv)"
    r"|anno_\d/[^/]+/[^/]+\.png|expressions/[^/]+/[^/]+/[^/]+\.png"
)
"""What may be in its folders."""
WHOLE_VIDEO = "all"
"""Name of the run where a data set has no sets."""


@dataclass(frozen=True)
class Prediction:
    """What came of predicting for a data set."""

    out: Path
    videos: tuple[str, ...]
    """Names of those that are whole, in the data set's order."""
    sets: int
    """4 in Ref-DAVIS, elsewhere 1."""
    frames: int
    """Frames done now, each set of a video counted."""
    seconds: float
    """How long that took, loading included."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Name of a video → why it is not whole; empty if all are."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping."""
        return {
            "out": str(self.out),
            "videos": list(self.videos),
            "sets": self.sets,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "failed": [{"video": name, "reason": why} for name, why in self.failed.items()],
        }


def predict(
    data: Path,
    out: Path,
    preset: str | Path | Config = "davis",
    overrides: Iterable[str] = (),
    *,
    generator: str | None = None,
    classifier: str | None = None,
    videos: Iterable[str] | None = None,
    split: str = "valid",
    resolution: str | None = None,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Prediction:
    """Find what every expression of a data set names, in every frame.

    A video that fails does not stop the others; it is listed in `Prediction.failed`.

    Args:
        data: root of the data set, in any layout of `carvid.datasets.refdavis`.
        out: where the predictions go, as `carvid.evaluation.protocols` reads them.
        preset: as in `carvid.load`, as are `overrides`, `generator` and `classifier`.
        videos: names; only these, and later calls with `resume` may add others.
        split: as in `open_dataset`, as is `resolution`.
        workers: processes, each with its own models. With more than one, scripts need
            `if __name__ == "__main__":`. Where there are GPUs they take them in turn, unless a
            device is named by its number. On a CPU they share the cores, and as a sum's order
            depends on the number of threads, scores may differ in the last bits.
        resume: go on after the last whole frame of each run that `out` holds.
        overwrite: replace what an earlier call left in `out`; that is kept in
            `out/.carvid/replaced` until all videos are whole.
        progress: show a bar with the time left on stderr.

    Raises:
        ConfigError: an unknown preset or setting.
        DatasetError: the data set is not whole; the message lists all that is missing.
        WeightsError: weights that are missing or no CLIP.
        OutputError: `out` holds something else, or other settings than these, or is where the data
            set or something else is read from.
    """
    began = time.monotonic()
    data, out = Path(data).resolve(), Path(out)
    if workers < 1:
        raise ConfigError(f"workers is {workers}; give 1 or more")
    config = resolve(preset, overrides, generator=generator, classifier=classifier)
    dataset = open_dataset(data, split=split, resolution=resolution, videos=videos)
    inputs = _inputs(config, dataset, split, resolution)
    read = [*dataset.files(), *settings_files(preset), *weights_files(config)]
    _check_apart(dataset, read, out)
    _check_out(out, inputs, resume=resume, overwrite=overwrite)

    jobs = [_job(dataset, video, out) for video in dataset.videos]
    finished = [] if overwrite else [job for job in jobs if job.finished]
    done = {job.video.name for job in finished}
    open_jobs = [job for job in jobs if job.video.name not in done]
    found = sum(job.frames for job in finished)
    found += 0 if overwrite else sum(job.found for job in open_jobs)
    for job in finished:
        job.tidy()
    failed: dict[str, str] = {}
    frames, begun = 0, False
    workers = min(workers, max(len(open_jobs), 1))
    total = sum(job.frames for job in jobs)
    with tqdm(
        total=total, initial=found, desc="davis", unit="frame", disable=not progress
    ) as bar, ExitStack() as stack:  # fmt: skip
        for event in run_tasks(partial(_prepare, config, workers), _work, open_jobs, workers):
            if event.kind == "ready" and not begun:  # nothing is touched before models are there
                stack.enter_context(locked(out))
                _begin(out, inputs, overwrite=overwrite)
                begun = True
            elif event.kind == "step":
                frames += 1
                bar.update()
            elif event.kind == "failed":
                failed[open_jobs[event.task].video.name] = event.value
            elif event.kind == "done" and not progress:  # a bar says as much
                name = open_jobs[event.task].video.name
                log.info("%s is done; %d of %d frames", name, found + frames, total)
    if not failed:
        forget_replaced(out)
    return Prediction(
        out,
        tuple(job.video.name for job in jobs if job.video.name not in failed),
        len(jobs[0].runs),
        frames,
        time.monotonic() - began,
        {job.video.name: failed[job.video.name] for job in jobs if job.video.name in failed},
    )


@dataclass(frozen=True)
class _Run:
    """One set of a video's expressions, and where it is written."""

    folder: Path
    frames: tuple[str, ...]
    """Names of the frames, which the masks bear."""
    texts: tuple[str, ...]
    expression_folders: tuple[Path, ...]
    """One for each expression."""
    label_folder: Path | None
    """None where the data set has no sets."""

    @property
    def mask_folders(self) -> tuple[Path, ...]:
        labels = () if self.label_folder is None else (self.label_folder,)
        return (*self.expression_folders, *labels)

    @property
    def whole(self) -> bool:
        """Whether every mask is there."""
        names = {f"{frame}.png" for frame in self.frames}
        return all(
            folder.is_dir() and names <= {p.name for p in folder.iterdir()}
            for folder in self.mask_folders
        )

    @property
    def found(self) -> int:
        """How many frames are done already."""
        if self._progress.exists():
            return int(read_json(self._progress)["next"])
        return len(self.frames) if self.finished else 0

    @property
    def finished(self) -> bool:
        """Whether the run is whole, and was made for these expressions."""
        if self._progress.exists() or not (self.folder / "run.json").exists() or not self.whole:
            return False
        values = read_json(self.folder / "run.json")
        return tuple(values["texts"]) == self.texts

    @property
    def _progress(self) -> Path:
        return self.folder / PROGRESS_FOLDER / "progress.json"


@dataclass(frozen=True)
class _Job:
    """A video: what a worker is given at a time."""

    video: Video
    folder: Path
    """Of its images."""
    images: tuple[Path, ...]
    runs: tuple[_Run, ...]

    @property
    def frames(self) -> int:
        """Frames of all runs."""
        return len(self.images) * len(self.runs)

    @property
    def found(self) -> int:
        """Frames that are done already."""
        return sum(run.found for run in self.runs)

    @property
    def finished(self) -> bool:
        """Whether all its runs are."""
        return all(run.finished for run in self.runs)

    def tidy(self) -> None:
        """Remove what a kill left of finished runs."""
        for run in self.runs:
            tidy(run.folder)


class _SetFolder(RunFolder):
    """A run whose masks go where the evaluation looks for them; without an overlay."""

    def __init__(self, run: _Run, facts: RunFacts) -> None:
        super().__init__(run.folder, facts)
        self._run = run

    @property
    def finished(self) -> bool:
        return super().finished and self._run.whole

    @property
    def mask_folders(self) -> tuple[Path, ...]:
        return self._run.mask_folders

    def write_masks(self, result: FrameResult, labels: NDArray[np.uint8]) -> None:
        name = f"{self._run.frames[result.index]}.png"
        for folder, mask in zip(self._run.expression_folders, result.masks, strict=True):
            write_label_png(folder / name, mask.astype(np.uint8))
        if self._run.label_folder is not None:
            write_label_png(self._run.label_folder / name, labels)


def _job(dataset: Dataset, video: Video, out: Path) -> _Job:
    names = SET_FOLDERS if dataset.has_sets else (WHOLE_VIDEO,)
    runs = tuple(
        _Run(
            out / RUNS_FOLDER / video.name / name,
            video.frames,
            tuple(e.text for e in expressions),
            tuple(out / EXPRESSION_FOLDER / video.name / e.key for e in expressions),
            out / name / video.name if dataset.has_sets else None,
        )
        for name, expressions in zip(names, dataset.sets(video), strict=True)
    )
    return _Job(video, dataset.images / video.name, dataset.image_paths(video), runs)


def _prepare(config: Config, workers: int) -> Carvid:
    """Load the models; several workers share the cores, and take the GPUs in turn."""
    import torch

    if workers > 1:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores() // workers)))
        if config.weights.device in ("auto", "cuda") and (count := torch.cuda.device_count()):
            torch.cuda.set_device(worker_number() % count)  # `cuda` then means that one
    return load(config)


def _work(model: Carvid, job: _Job) -> Generator[None, None, None]:
    """Do the runs of a video that are not whole; yield before each frame is written."""
    with ImagesReader(job.folder, list(job.images), DEFAULT_FRAME_RATE) as reader:
        for run in job.runs:
            queries = Queries(run.texts)
            folder = _SetFolder(run, model.facts(reader.info, queries))
            folder.check(resume=True)
            if folder.finished:
                tidy(run.folder)
                continue
            for backbone in model.backbones:
                backbone.forget_texts()  # of other runs, which another worker may have done
            model.segmenter.check_texts(queries)
            start, state = folder.begin(resume=True)
            began = time.monotonic()
            frames = prefetch(reader.frames(start), frames_ahead(reader.info.size_hw))
            try:
                with run_in_background(folder.add, attrgetter("nbytes")) as write:
                    for result in model.offline(frames, queries.texts, state=state):
                        yield
                        write(result)
            finally:
                frames.close()
            seconds = time.monotonic() - began
            speed = (len(run.frames) - start) / seconds
            folder.finish({"seconds": round(seconds, 3), "frames_per_s": round(speed, 3)})


def _inputs(config: Config, dataset: Dataset, split: str, resolution: str | None) -> dict[str, Any]:
    """What must be equal for predictions to go on."""
    from carvid.version import __version__

    facts = {"root": str(dataset.root), "split": split, "resolution": resolution}
    return {"carvid": __version__, "dataset": facts, "config": config.to_dict()}


def _check_apart(dataset: Dataset, read: Iterable[Path], out: Path) -> None:
    check_apart(read, [out / name for name in NAMES])
    if dataset.holds(out):
        raise OutputError(
            f"'{out}' is in the data set '{dataset.root}', of which it would become a part; choose "
            "another folder with -o"
        )


def _check_out(out: Path, inputs: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    if not check_place(out, resume=resume, overwrite=overwrite, holds=None):
        return
    saved = _saved_inputs(out)
    if not {"carvid", "dataset"} <= saved.keys():
        raise OutputError(
            f"'{out}' holds something else than predictions for a data set; choose another folder "
            "with -o"
        )
    if not overwrite and saved != inputs:
        raise OutputError(
            f"'{out}' holds predictions for another data set or with other settings; choose "
            "another folder with -o, or replace them with --overwrite"
        )
    if overwrite:
        check_contents(out, NAMES, CONTENTS)


def _saved_inputs(out: Path) -> dict[str, Any]:
    """The inputs of an earlier call, though a kill came while that was set aside; or nothing."""
    for folder in (out, *(out / PROGRESS_FOLDER / name for name in (MOVING, REPLACED))):
        try:
            return dict(read_json(folder / "run.json"))
        except (OSError, ValueError, TypeError):
            continue
    return {}


def _begin(out: Path, inputs: dict[str, Any], *, overwrite: bool) -> None:
    """Make the folder, which its run.json marks as one of predictions from the first moment."""
    make_folder(out)
    if overwrite or is_half_moved(out):
        try:
            set_aside(out, NAMES)
        except OSError as error:
            raise cannot_write(out, str(error.strerror or error)) from None
    write_text(out / "run.json", json.dumps(inputs, indent=2, ensure_ascii=False) + "\n")
