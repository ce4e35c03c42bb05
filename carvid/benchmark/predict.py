"""Predictions for a whole data set: every video, every set of expressions, resumable by frame.

What is to be done, and where it goes, is in `jobs.py`; the folder as a whole in
`predictions_folder.py`.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from carvid.base.background import run_in_background
from carvid.base.words import plural
from carvid.benchmark.jobs import SetRun, VideoJob, video_job
from carvid.benchmark.predictions_folder import FOLDER, check_out, inputs_of
from carvid.benchmark.set_folder import SetFolder
from carvid.benchmark.workers import Asked, Engine, workers_of
from carvid.car.queries import Queries
from carvid.clip.content import weights_files
from carvid.clip.weights import resolve
from carvid.config import Config, settings_files
from carvid.datasets.open import files_of, open_dataset
from carvid.media.given import ahead
from carvid.media.open import ImagesReader
from carvid.media.sequences import ImageList
from carvid.pipeline import Carvid, load
from carvid.run.layout import forget_replaced, tidy
from carvid.run.lock import locked
from carvid.workers.processes import follow
from carvid.workers.telling import Telling

log = logging.getLogger("carvid")


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
    workers: int | None = None,
    engine: Engine = "local",
    ray_address: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Prediction:
    """Find what every expression of a data set names, in every frame.

    A video that fails does not stop the others; it is listed in `Prediction.failed`.

    Args:
        data: root of the data set, as in `open_dataset`.
        out: where the predictions go, as `carvid.evaluation.protocols.evaluate` reads them.
        preset: as in `carvid.load`, as are `overrides`, `generator` and `classifier`.
        videos: names; only these, and later calls with `resume` may add others.
        split: as in `open_dataset`, as is `resolution`.
        workers: processes or actors, each with its own models; None is one, of Ray as in
            `RayActors`. With more than one, scripts need
            `if __name__ == "__main__":`. Where there are GPUs they take them in turn, unless a
            device is named by its number. On a CPU they share the cores, and as a sum's order
            depends on the number of threads, scores may differ in the last bits.
        engine: `local`, processes of this machine, or `ray`, whose actors have as many threads as
            this process: see `RayActors`.
        ray_address: of a cluster that is joined, host:port or `auto`; None is what `RAY_ADDRESS`
            says, or else Ray is begun on this machine.
        resume: go on after the last whole frame of each run that `out` holds.
        overwrite: replace what an earlier call left in `out`; that is kept in
            `out/.carvid/replaced` until all videos are whole. With `resume`, too: what was made
            with the same settings goes on.
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
    asked = Asked(engine, workers, ray_address)
    asked.check()
    config = resolve(preset, overrides, generator=generator, classifier=classifier)
    dataset = open_dataset(data, split=split, resolution=resolution, videos=videos)
    inputs = inputs_of(config, dataset, split, resolution)
    read = [*files_of(dataset), *settings_files(preset), *weights_files(config)]
    overwrite = check_out(out, dataset, inputs, read, resume=resume, overwrite=overwrite)

    place = Path(os.path.abspath(out))  # elsewhere there may be another working folder
    jobs = [video_job(dataset, video, place) for video in dataset.videos]
    finished = [] if overwrite else [job for job in jobs if job.finished]
    for job in finished:
        job.tidy()
    done = {job.name for job in finished}
    todo = [job for job in jobs if job.name not in done]
    total = sum(job.frames for job in jobs)
    found = sum(job.frames for job in finished)
    found += 0 if overwrite else sum(job.frames_done for job in todo)
    team, prepare = workers_of(
        asked, [config], partial(load, config), read=[job.image_folder for job in todo], out=place,
        tasks=len(todo),
    )  # fmt: skip
    frames = Counter[int]()  # of each job, done now
    with tqdm(
        total=total, initial=found, desc="davis", unit="frame", disable=not progress
    ) as bar, ExitStack() as stack:  # fmt: skip

        def begin() -> None:
            stack.enter_context(locked(out))
            FOLDER.begin(out, inputs, overwrite=overwrite)

        def count(job: int, _: None) -> None:
            frames[job] += 1
            bar.update()

        def tell_end(job: int) -> None:
            if not progress and todo[job].finished:  # a bar says as much
                done_now = found + frames.total()
                told = plural(total, "frame")
                log.info("%s is done; %d of %s", todo[job].name, done_now, told)

        telling = Telling([job.name for job in todo], "video")
        failed = follow(
            team.run(prepare, _do_job, todo),
            begin=begin,
            step=count,
            retry=telling.retry,
            end=tell_end,
            lost=telling.lost,
        )
    if not failed:
        forget_replaced(out)
    reasons = {todo[index].name: failed[index] for index in sorted(failed)}
    return Prediction(
        out,
        tuple(job.name for job in jobs if job.name not in reasons),
        len(dataset.set_names),
        frames.total(),
        time.monotonic() - began,
        reasons,
    )


def _do_job(model: Carvid, job: VideoJob) -> Generator[None, None, None]:
    """Do the runs of a video that are not whole; yield before each frame is written."""
    with ImagesReader(job.image_folder, ImageList(list(job.image_paths))) as reader:
        for run in job.runs:
            yield from _do_run(model, run, reader)


def _do_run(model: Carvid, run: SetRun, reader: ImagesReader) -> Generator[None, None, None]:
    """Do a run from its first frame that is not done, if there is one."""
    queries = Queries(run.texts)
    folder = SetFolder(run, model.facts(reader.info, queries))
    folder.check(resume=True)
    if folder.done(resume=True):
        tidy(run.folder)
        return
    for backbone in model.backbones:
        backbone.forget_texts()  # of other runs, which another worker may have done
    model.segmenter.check_texts(queries)
    start, state = folder.begin(resume=True)
    began = time.monotonic()
    frames = ahead(reader, start)
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
