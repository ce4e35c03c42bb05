"""Many clips with models that are loaded once; each clip has its own folder below one.

`out/<name>/` is what `Carvid.segment` writes for the clip of that name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from carvid.base.errors import ConfigError, OutputError
from carvid.base.guard import check_apart
from carvid.base.interrupt import finishing_frames, never
from carvid.batch.manifest import Clip
from carvid.car.classes import config_for, queries_of
from carvid.car.marks import marked_in
from carvid.clip.content import weights_files
from carvid.clip.on_ray import actors_of
from carvid.clip.weights import resolve
from carvid.config import Config, settings_files
from carvid.exports.export import check_formats
from carvid.index.facts import is_index
from carvid.instances.check import check_instances
from carvid.media.open import input_files
from carvid.media.sequences import is_pattern
from carvid.pipeline import Carvid, load
from carvid.run.asked import asked_for, asked_in_json
from carvid.run.earlier import check_earlier
from carvid.run.facts import queries_in_json
from carvid.run.layout import CHOOSE, PROGRESS_FOLDER, run_paths
from carvid.run.lock import locked, wait_until_free
from carvid.temporal.sam2_carrier import check_carrier
from carvid.workers.processes import Processes, Workers, follow
from carvid.workers.ray_cluster import check_no_address
from carvid.workers.telling import Telling

log = logging.getLogger("carvid")

Engine = Literal["serial", "ray"]


@dataclass(frozen=True)
class BatchResult:
    """What came of a batch."""

    out: Path
    done: Mapping[str, dict[str, Any]]
    """Name of a clip → what `Track.summary` says of its run, in the batch's order."""
    failed: Mapping[str, str]
    """Name of a clip → why it is not whole; empty if all are."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping."""
        return {
            "out": str(self.out),
            "clips": [{"clip": name, **facts} for name, facts in self.done.items()],
            "failed": [{"clip": name, "reason": why} for name, why in self.failed.items()],
        }


def run_batch(
    clips: Sequence[Clip],
    out: Path,
    preset: str | Path | Config = "default",
    overrides: Iterable[str] = (),
    *,
    generator: str | None = None,
    classifier: str | None = None,
    distractors: Sequence[str] = (),
    formats: Sequence[str] = (),
    keep_names: bool = False,
    instances: bool | Sequence[str] = False,
    engine: Engine = "serial",
    workers: int | None = None,
    ray_address: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    finish_frames: bool = False,
    read: Iterable[Path] = (),
) -> BatchResult:
    """Segment clips one after the other, or several at a time.

    A clip that fails does not stop the others; it is listed in `BatchResult.failed`. Each clip
    gets the bytes that a run of it alone has, whatever the engine.

    Args:
        clips: of `read_manifest` or `clips_of`.
        out: each clip's folder is made in it.
        preset: as in `carvid.load`, as are `overrides`, `generator` and `classifier`.
        distractors: as in `Carvid.segment`, for every clip.
        formats: as in `export`, for every clip.
        keep_names: as in `Carvid.segment`, for every clip.
        instances: likewise.
        engine: `serial`, in this process, or `ray`: see `RayActors`.
        workers: of Ray; None is one for each GPU. Without any it is one, of a cluster as many as it
            has CPUs for.
        ray_address: of a cluster that is joined, host:port or `auto`; None is what `RAY_ADDRESS`
            says, or else Ray is begun on this machine.
        resume: leave finished clips as they are, go on with begun ones after their last whole
            frame.
        overwrite: replace earlier runs of these clips; with `resume`, those that are made of
            something else.
        progress: show bars on stderr.
        finish_frames: Ctrl-C ends a serial run after the frame at hand; in the main thread only.
        read: what else was read, such as the manifest, and is not to be overwritten.

    Raises:
        KeyboardInterrupt: Ctrl-C; what is in `out` can be resumed.
        ConfigError: an unknown preset, setting or format, a clip is an index, SAM 2 is to carry
            classes, Ray or the cluster is not there, or one of its nodes does not see the clips,
            weights or folder.
        ExpressionError: a distractor is empty.
        OutputError: the clips' folders cannot be used, all that cannot are named; or what is read
            is in one of them.
        WeightsError: weights that are missing or no CLIP.
        ValueError: an unknown engine.
    """
    out = Path(out)
    check_no_address(engine, ray_address)
    config = resolve(preset, overrides, generator=generator, classifier=classifier)
    check_formats(formats)
    for clip in clips:
        if is_index(clip.video):
            raise ConfigError(f"'{clip.video}' is an index; ask it alone: carvid run {clip.video}")
        queries_of(clip.asked, distractors)
        check_carrier(config_for(clip.asked, config))
        if instances:
            check_instances(clip.video, clip.asked, config)
    _check_places(clips, out, config, distractors, instances, resume=resume, overwrite=overwrite)
    inputs = [path for clip in clips for path in input_files(clip.video)]
    check_apart(
        [*inputs, *read, *settings_files(preset), *weights_files(config)],
        [path for clip in clips for path in run_paths(out / clip.name)],
    )
    serial = engine == "serial"
    work = partial(
        _work, out=Path(os.path.abspath(out)), distractors=tuple(distractors),
        formats=tuple(formats), keep_names=keep_names, instances=instances, resume=resume,
        overwrite=overwrite, progress=progress and serial,
        finish_frames=finish_frames and serial, patient=not serial,
    )  # fmt: skip
    team, prepare = _workers(engine, config, workers, ray_address, clips, out)
    done: dict[int, dict[str, Any]] = {}
    with ExitStack() as stack, tqdm(
        total=len(clips), desc="clips", unit="clip", disable=not progress or serial
    ) as bar:  # fmt: skip
        telling = Telling(
            [clip.name for clip in clips], "clip", bar, lines=not serial and not progress
        )
        failed = follow(
            team.run(prepare, work, clips),
            begin=lambda: stack.enter_context(locked(out)),  # nothing is touched before
            step=lambda k, facts: done.update({k: {**facts, "out": str(out / clips[k].name)}}),
            retry=telling.retry,
            fail=telling.fail,
            end=telling.end,
            lost=telling.lost,
            workers=telling.workers,
        )
    return BatchResult(
        out,
        {clips[k].name: done[k] for k in sorted(done) if k not in failed},
        {clips[k].name: failed[k] for k in sorted(failed)},
    )


def _workers(
    engine: Engine,
    config: Config,
    count: int | None,
    ray_address: str | None,
    clips: Sequence[Clip],
    out: Path,
) -> tuple[Workers, Callable[[], Carvid]]:
    """Who does the clips, and how each of them loads the models."""
    if count is not None and count < 1:
        raise ConfigError(f"workers is {count}; give 1 or more")
    if engine == "ray":
        return actors_of(
            [config], partial(load, config), count=count, ray_address=ray_address, out=out,
            read=[_looked_at(clip.video) for clip in clips], names=[clip.video for clip in clips],
        )  # fmt: skip
    if engine != "serial":
        raise ValueError(f"engine must be serial or ray, got {engine!r}")
    if count is not None:
        raise ConfigError("workers are Ray's; add --engine ray, or leave --workers away")
    return Processes(), partial(load, config)


def _looked_at(video: str) -> Path:
    """What tells whether a clip is there: its file or folder, or that of a pattern's images."""
    return Path(video).parent if is_pattern(video) else Path(video)


def _work(
    model: Carvid,
    clip: Clip,
    *,
    out: Path,
    distractors: tuple[str, ...],
    formats: tuple[str, ...],
    keep_names: bool,
    instances: bool | Sequence[str],
    resume: bool,
    overwrite: bool,
    progress: bool,
    finish_frames: bool,
    patient: bool,
) -> Generator[dict[str, Any], None, None]:
    """Do one clip and yield its summary."""
    folder = out / clip.name
    for backbone in model.backbones:
        backbone.forget_texts()  # of other clips, which a run of this one alone would not know
    if patient:
        wait_until_free(folder)  # of a worker that is given up for lost, and is not yet gone
    with finishing_frames() if finish_frames else nullcontext(never) as stop:
        # Places were looked at before: a run in this one is to be gone on with, or an attempt.
        track = model.segment(
            clip.video, clip.asked, distractors=distractors, out=folder,
            resume=resume or not overwrite,
            overwrite=overwrite, progress=progress, selection=clip.selection,
            frame_rate=clip.frame_rate, formats=formats, keep_names=keep_names,
            instances=instances, stop=stop,
        )  # fmt: skip
        yield {"out": str(folder), "video": clip.video, "lost": list(track.lost), **track.summary()}
        if stop():  # after the last frame
            raise KeyboardInterrupt


def _check_places(
    clips: Sequence[Clip],
    out: Path,
    config: Config,
    distractors: Sequence[str],
    instances: bool | Sequence[str],
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Check the folders of all clips, without making anything."""
    if (out / "run.json").exists() or (out / PROGRESS_FOLDER).exists():
        raise OutputError(f"'{out}' holds a run of its own, and cannot hold several; {CHOOSE}")
    faults = []
    for clip in clips:
        folder = out / clip.name
        try:
            if os.path.realpath(folder) != os.path.join(os.path.realpath(out), clip.name):
                raise OutputError(f"'{folder}' leads out of '{out}'; remove it, or give names")
            # Of those to resume, one that is made of something else does not stop the others.
            now = {} if resume else _asked_of(clip, config, distractors, instances)
            check_earlier(folder, now, resume=resume, overwrite=overwrite)
        except OutputError as error:
            faults.append(str(error))
    if faults:
        raise OutputError("; ".join(faults))


def _asked_of(
    clip: Clip, config: Config, distractors: Sequence[str], instances: bool | Sequence[str]
) -> dict[str, Any]:
    """What a run.json says of a clip's run, as far as it is known without reading the clip."""
    queries = queries_of(clip.asked, distractors)
    return {
        **queries_in_json(queries),
        **asked_in_json(asked_for(queries.texts, marked_in(queries, instances))),
        "config": config_for(clip.asked, config).to_dict(),
        "video": {"selection": asdict(clip.selection)},
    }  # fmt: skip
