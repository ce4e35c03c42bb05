"""The paper's image benchmarks: predict, resumable by image, score, and compare with the paper.

What is to be done, and where it goes, is in `bench_plan.py`; the models in `bench_models.py`; the
numbers in `bench_scores.py` and `bench_result.py`.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from carvid.base.errors import ConfigError, DatasetError, OutputError
from carvid.base.guard import check_apart
from carvid.base.words import plural
from carvid.benchmark.bench_models import BenchRun, do_job, load_models
from carvid.benchmark.bench_plan import FOLDERS, BenchPlan, plan_bench
from carvid.benchmark.bench_result import BenchResult
from carvid.benchmark.bench_scores import score_plan
from carvid.benchmark.bench_settings import notes_on, settings_of
from carvid.benchmark.kept_folder import KeptFolder
from carvid.benchmark.sets import bench_set, paper_number
from carvid.benchmark.workers import Asked, Engine, workers_of
from carvid.clip.content import contents_meanwhile, weights_files
from carvid.config import Config, settings_files
from carvid.run.layout import CHOOSE, forget_replaced
from carvid.run.lock import locked
from carvid.sam.installed import maker_in_json
from carvid.version import __version__
from carvid.workers.processes import follow
from carvid.workers.telling import Telling

log = logging.getLogger("carvid")

RESULTS = "results.json"
FOLDER = KeptFolder(
    # Results first: none may look whole when its predictions are gone.
    names=(RESULTS, *FOLDERS, "run.json"),
    contents=re.compile(rf"(?:{'|'.join(FOLDERS)})/[^/]+\.png|{RESULTS}|run\.json"),
    keys=frozenset({"carvid", "benchmark"}),
    title="predictions for a benchmark",
)
TOLD_PARTS = 10
"""Where there is no bar, a line is logged after so many parts of the work."""


def bench(
    name: str,
    data: Path,
    out: Path | None = None,
    preset: str | Path | Config = "default",
    overrides: Iterable[str] = (),
    *,
    generator: str | None = None,
    classifier: str | None = None,
    split: str | None = None,
    by: str | None = None,
    old_order: bool = False,
    limit: int = 0,
    predictions: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    engine: Engine = "local",
    ray_address: str | None = None,
    progress: bool = False,
    written: Iterable[Path] = (),
) -> BenchResult:
    """Run one of the paper's image benchmarks, and put its numbers beside the paper's.

    An image that fails does not stop the others; it is listed in `BenchResult.failed`, and the
    numbers are over the rest. The numbers are the same however often a run was interrupted, and
    with any workers that compute with as many threads.

    Args:
        name: `voc20`, `voc21`, `context59`, `context60`, `context459`, `coco-object`, `ade150`,
            `ade847`, `refcoco`, `refcoco+`, `refcocog` or `grefcoco`.
        data: the data set's root.
        out: the run's folder: predictions and `results.json`.
        preset: `default` and `reference` take η, θ, λ, prompts, templates and mode of the
            benchmark; any other is used as it stands. As in `carvid.load`, as are `overrides`,
            `generator` and `classifier`.
        split: the usual one (`val`), if none is given.
        by: whose refs: `unc`, `google` or `umd`; the usual ones, if nobody is named.
        old_order: the truth of Pascal Context numbers its classes as older converters did.
        limit: images (of referring sets refs) in all, evenly spaced; 0 takes every one.
        predictions: score the PNGs of this folder instead, of any method; no model is loaded.
        resume: go on after the images that `out` holds.
        overwrite: replace what an earlier call left in `out`; that is kept in
            `out/.carvid/replaced` until all images are done. With `resume`, too: what was made
            with the same settings goes on.
        workers: processes or actors, each with its own models; None is one, of Ray one for each
            GPU. With more than one, scripts need `if __name__ == "__main__":`.
        engine: `local`, processes of this machine, or `ray`: see `RayActors`.
        ray_address: of a cluster that is joined, host:port or `auto`; None is what `RAY_ADDRESS`
            says, or else Ray is begun on this machine.
        progress: show bars with the time left on stderr.
        written: where further results are to be written to, which nothing is to be read from.

    Raises:
        ConfigError: an unknown benchmark, preset, setting or option; or neither or both of `out`
            and `predictions` are given.
        DatasetError: the data set or the predictions are not whole; the message lists what is
            missing.
        WeightsError: weights that are missing or no CLIP.
        OutputError: `out` holds something else, or other settings than these, or it or one of
            `written` is where the data set or something else is read from.
        ValueError: an unknown engine.
    """
    if (out is None) == (predictions is None):
        raise ConfigError(
            "give either a folder for predictions, -o (out=), or one of predictions to score, "
            "--predictions (predictions=)"
        )
    asked = Asked(engine, workers, ray_address)
    asked.check()
    chosen = bench_set(name)
    plan = plan_bench(
        chosen, Path(data).resolve(), split=split, by=by, old_order=old_order, limit=limit
    )
    check_apart(
        [*plan.dataset.files(), *settings_files(preset), *_pictures_in(predictions or out)],
        written, remedy="choose another file",
    )  # fmt: skip
    if out is None:
        assert predictions is not None
        folder, more = Path(predictions), ["predictions are given: how they were made is not known"]
        return result_of(plan, folder, None, more, workers=workers or 1, progress=progress)
    config = settings_of(chosen, preset, overrides, generator=generator, classifier=classifier)
    run = BenchRun(Path(out), config)
    began = time.monotonic()
    done, failed = predict_runs(
        plan, [run], settings_files(preset), resume=resume, overwrite=overwrite, asked=asked,
        progress=progress,
    )  # fmt: skip
    return result_of(
        plan, run.out, config, (), failed=failed, done_now=done,
        seconds=time.monotonic() - began, workers=workers or 1, progress=progress,
    )  # fmt: skip


def inputs_of(plan: BenchPlan, config: Config) -> dict[str, Any]:
    """Return what must be equal for predictions to go on; run.json holds it."""
    with contents_meanwhile(config) as contents:
        pass  # before any is loaded: whether anything need be is not yet known
    return {"carvid": __version__, "benchmark": plan.facts(), "config": config.to_dict(),
            "contents": contents(), **maker_in_json(config.sam)}  # fmt: skip


def predict_runs(
    plan: BenchPlan,
    runs: Sequence[BenchRun],
    read: Iterable[Path] = (),
    *,
    resume: bool,
    overwrite: bool,
    asked: Asked,
    progress: bool,
) -> tuple[int, dict[str, str]]:
    """Predict what is not done of several runs on the same data.

    Args:
        plan: the data.
        runs: each with its own folder.
        read: further files that are read.
        resume: as in `bench`, as are the others.
        asked: who does it.

    Returns:
        How many samples were done, each run's counted; and the names of images that failed → why.

    Raises:
        CarvidError: as `bench`.
    """
    inputs = [inputs_of(plan, run.config) for run in runs]
    files = [*plan.dataset.files(), *read]
    replaced = [
        _check_out(plan, run, told, files, resume=resume, overwrite=overwrite)
        for run, told in zip(runs, inputs, strict=True)
    ]
    work, jobs = plan.work(), plan.jobs()
    missing = {
        job.name: sum(
            old or not work.is_done(run.out, sample.name)
            for run, old in zip(runs, replaced, strict=True)
            for sample in job.samples
        )
        for job in jobs
    }
    todo = [job for job in jobs if missing[job.name]]
    total = len(runs) * len(plan.samples)
    found = total - sum(missing.values())
    # Elsewhere there may be another working folder.
    places = [BenchRun(Path(os.path.abspath(run.out)), run.config) for run in runs]
    team, prepare = workers_of(
        asked, [run.config for run in runs], partial(load_models, places, work), tasks=len(todo),
        read=[job.samples[0].image for job in todo], out=_common([run.out for run in places]),
    )  # fmt: skip
    done = 0
    with ExitStack() as stack, tqdm(
        total=total, initial=found, desc=plan.bench.name, unit=plan.bench.noun,
        disable=not progress,
    ) as bar:  # fmt: skip

        def begin() -> None:
            for run, told, old in zip(runs, inputs, replaced, strict=True):
                stack.enter_context(locked(run.out))
                FOLDER.begin(run.out, told, overwrite=old)
                (run.out / RESULTS).unlink(missing_ok=True)  # it is of fewer images

        def count(_: int, samples: int) -> None:
            nonlocal done
            done += samples
            bar.update(samples)
            now = found + done
            if not progress and now * TOLD_PARTS // total > (now - samples) * TOLD_PARTS // total:
                noun = plan.bench.noun  # a bar says as much
                log.info("%s: %d of %s", plan.bench.name, now, plural(total, noun))

        telling = Telling([job.name for job in todo], "image")
        failed = follow(
            team.run(prepare, do_job, todo), begin=begin, step=count, retry=telling.retry,
            lost=telling.lost,
        )  # fmt: skip
    if not failed:
        for run in runs:
            forget_replaced(run.out)
    return done, {todo[task].name: failed[task] for task in sorted(failed)}


def result_of(
    plan: BenchPlan,
    folder: Path,
    config: Config | None,
    notes: Iterable[str] = (),
    *,
    failed: Mapping[str, str] | None = None,
    done_now: int = 0,
    seconds: float = 0.0,
    workers: int = 1,
    progress: bool = False,
) -> BenchResult:
    """Score predictions and put them beside the paper's numbers.

    Args:
        plan: the data.
        folder: of predictions.
        config: the settings of carvid's own; None of those of another method, of which no
            results are written.
        notes: further ones.
        failed: images that are not whole, and are left out.
        done_now: as in `BenchResult`, as is `seconds`.
        workers: processes.
        progress: show a bar on stderr.

    Raises:
        DatasetError: predictions or truth are not whole.
    """
    failed = dict(failed or {})
    said = list(notes)
    used = plan
    if failed:
        lost = {sample.name for job in plan.jobs() if job.name in failed for sample in job.samples}
        used = plan.without(lost)
        said.append(f"{plural(len(failed), 'image')} failed, and the numbers are over the rest")
        if not used.samples:
            raise DatasetError(f"no image could be predicted: {next(iter(failed.values()))}")
    count = len(plan.samples)
    if count < plan.total:
        said.append(f"{count} of {plural(plan.total, plan.bench.noun)}; the paper's is over all")
    if config is not None:
        said += notes_on(plan.bench, config)
    if not plan.bench.target:
        said.append(
            "the released protocol, as the paper's number, takes the first object of a sentence "
            "for all of its target, and 0 where there is none; the paper does not name the split"
        )
    sharpened = config is not None and bool(config.sam.model)
    paper = paper_number(plan.bench, plan.split, plan.by, sam=sharpened)
    scored = score_plan(used, folder, paper, workers=workers, progress=progress)
    result = BenchResult(
        plan.bench.name, plan.bench.title, plan.split, plan.by, len(used.samples), plan.total,
        None if config is None else folder, scored, (*said, *scored.notes), failed, done_now,
        seconds, used, folder,
    )  # fmt: skip
    if config is not None:
        result.save(folder / RESULTS)
    return result


def _common(folders: Sequence[Path]) -> Path:
    """The folder that holds all of these, or is the only one."""
    return Path(os.path.commonpath(folders))


def _pictures_in(folder: Path | None) -> list[Path]:
    """The predictions that are in a folder, and in a run's folders below it."""
    places = [] if folder is None else [Path(folder), *(Path(folder) / name for name in FOLDERS)]
    return [path for place in places for path in place.glob("*.png")]


def _check_out(
    plan: BenchPlan,
    run: BenchRun,
    inputs: dict[str, Any],
    read: Iterable[Path],
    *,
    resume: bool,
    overwrite: bool,
) -> bool:
    """Check that a run may go into its folder, without making anything; return whether what is
    there is to be replaced."""
    check_apart([*read, *weights_files(run.config)], [run.out / name for name in FOLDER.names])
    inside = Path(os.path.realpath(run.out))
    for place in plan.places():
        if inside.is_relative_to(os.path.realpath(place)):
            raise OutputError(
                f"'{run.out}' is in the data set's folder '{place}', of which it would become a "
                f"part; {CHOOSE}"
            )
    return FOLDER.check(run.out, inputs, resume=resume, overwrite=overwrite)
