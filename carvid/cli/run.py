"""`carvid run`: look at all that can be wrong, then segment one clip, or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from carvid.base.words import plural
from carvid.cli.classes import Asked, ClassesFile, asked_of, explain_classes, settings_of
from carvid.cli.clips import clips_in_folders, clips_of_manifest, clips_of_sources
from carvid.cli.correct import Clicks, Corrections, corrections_of
from carvid.cli.index import Ask, IndexAsked, Thorough, index_in
from carvid.cli.instances import Instances, check_all, which
from carvid.cli.messages import (
    exit_if_failed,
    resumable,
    show_progress,
    warn_lost,
    warn_of_drawings,
)
from carvid.cli.options import (
    INPUT,
    OUTPUT,
    QUALITY,
    QUESTION,
    RAY_ADDRESS,
    SEVERAL,
    AsJson,
    Classifier,
    Device,
    End,
    Formats,
    Fps,
    Generator,
    MaxSide,
    Overwrite,
    Preset,
    Quiet,
    Resume,
    RunFolder,
    Sam,
    Settings,
    Start,
    Stride,
    Style,
    overrides,
    selection_of,
)
from carvid.cli.results import print_found, print_json, print_phrases, print_place

if TYPE_CHECKING:
    from carvid.batch.manifest import Clip
    from carvid.config import Config
    from carvid.run.corrections import Correction


def run(
    context: typer.Context,
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEO",
            help="A video, a folder of images, an image, a pattern ('a/%05d.jpg', 'a/*.jpg'), a "
            "stream's URL, - (pipe), or an index. Of several, each has its own folder in --out.",
        ),
    ] = None,
    expr: Annotated[
        list[str] | None,
        typer.Option(
            "--expr", "-e", metavar="TEXT", rich_help_panel=QUESTION,
            help="What to find; repeatable, in label order.",
        ),
    ] = None,
    distractor: Annotated[
        list[str] | None,
        typer.Option(
            "--distractor", "--negative", metavar="TEXT", rich_help_panel=QUESTION,
            help="What else may be there; competes, gets no mask. Repeatable.",
        ),
    ] = None,
    instances: Instances = False,
    classes: ClassesFile = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", rich_help_panel=QUESTION,
            help="Say how the expressions are understood, and stop.",
        ),
    ] = False,
    click: Clicks = None,
    correct: Corrections = None,
    ask: Ask = False,
    camera: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", rich_help_panel=INPUT,
            help="Read this camera, until Ctrl-C; 0 is the first.",
        ),
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="WxH@RATE", rich_help_panel=INPUT,
            help="Frames through a pipe are bare RGB of this size.",
        ),
    ] = None,
    start: Start = None,
    end: End = None,
    stride: Stride = 1,
    max_side: MaxSide = 0,
    fps: Fps = None,
    out: RunFolder = Path("out"),
    formats: Formats = None,
    keep_names: Annotated[
        bool,
        typer.Option(
            "--keep-names", rich_help_panel=OUTPUT,
            help="Name masks as the frames of a folder: shot.1001.jpg gives shot.1001.png.",
        ),
    ] = False,
    style: Style = [],  # noqa: B006  Typer's own way
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    sam: Sam = None,
    device: Device = None,
    preset: Preset = "default",
    settings: Settings = [],  # noqa: B006
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="THETA", rich_help_panel=QUALITY,
            help="θ, 0 to 1: less finds more; the setting car.theta.",
        ),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline/--causal", rich_help_panel=QUALITY,
            help="Let later frames of a file repair earlier ones, or not.",
        ),
    ] = True,
    thorough: Thorough = False,
    each: Annotated[
        bool,
        typer.Option(
            "--each", rich_help_panel=SEVERAL,
            help="VIDEO is a folder of clips: its videos, and the folders of images right in it.",
        ),
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=SEVERAL,
            help="A .csv or .jsonl of clips: clip, expr; start, end, stride, fps, name.",
        ),
    ] = None,
    engine: Annotated[
        Literal["serial", "ray"],
        typer.Option(rich_help_panel=SEVERAL, help="One by one, or on Ray."),
    ] = "serial",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", rich_help_panel=SEVERAL,
            help="Of Ray. If not given one for each GPU, or one; of a cluster without any as many "
            "as it has CPUs for.",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address", metavar="ADDRESS", rich_help_panel=SEVERAL, help=RAY_ADDRESS
        ),
    ] = None,
) -> None:  # fmt: skip
    """Find what expressions name in every frame; write masks, scores and an overlay video."""
    bars = show_progress(quiet)

    from carvid.base.names import to_unicode
    from carvid.config import load_config, settings_files
    from carvid.exports.export import check_formats
    from carvid.media.frames import rate_of, raw_frames

    # Everything that can be wrong is looked at before the weights, which take long, are loaded.
    looks = [] if offline else ["temporal.lag=0"]
    asked = [*settings_of(classes), *overrides(settings, device, sam, style, threshold), *looks]
    index = index_in(context)
    config = load_config(preset if index is None else index.settings(), asked)
    selection = selection_of(start, end, stride, max_side)
    rate = None if fps is None else rate_of(fps)
    sources = videos or []
    expressions, distractors = (
        [to_unicode(text) for text in given or ()] for given in (expr, distractor)
    )
    expressions, marked = which(expressions, every=instances)
    texts = asked_of(classes, expressions, manifest, config)
    clips = clips_of_manifest(manifest, sources, texts, selection, rate)
    _check_texts(clips, texts, distractors)
    if explain:
        if isinstance(texts, list):
            every = [text for clip in clips for text in clip.texts] or texts
            print_phrases(
                [*dict.fromkeys(every), *distractors], config.phrases, as_json=as_json,
                as_said=every if marked is True else marked or (),
            )  # fmt: skip
        else:
            explain_classes(texts, distractors, as_json=as_json)
        raise typer.Exit
    if (not sources and manifest is None) == (camera is None):
        raise typer.BadParameter("give one of VIDEO, --manifest and --camera")
    check_formats(formats or ())
    check_all(sources if camera is None else [f"camera:{camera}"], texts, config, marked)
    task = _Task(
        config, [*settings_files(preset), *([] if classes is None else [classes])], out,
        {"generator": weights_generator, "classifier": weights_classifier},
        {
            "distractors": distractors, "formats": formats or (), "resume": resume,
            "overwrite": overwrite, "progress": bars, "keep_names": keep_names,
            "instances": marked,
        },
        as_json=as_json, quiet=quiet,
    )  # fmt: skip
    if each:
        sources = clips_in_folders(sources)
    if manifest is not None or each or len(sources) > 1:
        if raw is not None:
            raise typer.BadParameter("--raw is for one clip, through a pipe")
        if click or correct is not None:
            raise typer.BadParameter("--click and --correct are for one clip")
        _run_several(
            task, clips or clips_of_sources(sources, texts, selection, rate), manifest,
            {"engine": engine, "workers": workers, "ray_address": ray_address},
        )  # fmt: skip
        return
    if marked and (click or correct is not None):
        raise typer.BadParameter("things have no labels yet; use carvid correct afterwards")
    said = corrections_of(correct, click, texts if isinstance(texts, list) else ())
    if engine != "serial" or workers is not None or ray_address is not None:
        raise typer.BadParameter("--engine, --workers and --ray-address are for several clips")
    source = sources[0] if sources else f"camera:{camera}"
    if index is not None:
        index.check(config)
        if ask:
            index.answer(config, task.models, texts, distractors, as_json=as_json)
            return
        _check_one(task, index.clip.path, texts, index.how, said, index)
        _run_one(task, source, texts, {"thorough": thorough, "corrections": said}, index)
        return
    form = None if raw is None else raw_frames(raw)
    how = {"selection": selection, "frame_rate": rate}
    _check_one(task, source, texts, how, said)
    _run_one(task, source, texts, {**how, "raw": form, "corrections": said})


@dataclass(frozen=True)
class _Task:
    """What was asked for, whether of one clip or of several."""

    config: Config
    read: list[Path]
    """What `config` and classes were read from; nothing is written onto it."""
    out: Path
    models: dict[str, Any]
    """Of `load` and `run_batch`."""
    options: dict[str, Any]
    """Of `Carvid.segment` and `run_batch`."""
    as_json: bool
    quiet: bool

    @property
    def model_names(self) -> list[str]:
        """Names of generator and classifier."""
        weights = self.config.weights
        own = {"generator": weights.generator, "classifier": weights.classifier}
        return [self.models[key] or name for key, name in own.items()]


def _check_texts(clips: list[Clip], texts: Asked, distractors: list[str]) -> None:
    """Check all that is asked for, of each clip."""
    from carvid.car.classes import queries_of

    asked: list[Asked] = [list(clip.texts) for clip in clips] or [texts]
    if not asked[0]:
        raise typer.BadParameter("say what to find with --expr, or --classes")
    for each in asked:
        queries_of(each, distractors)


def _check_one(
    task: _Task,
    source: str,
    texts: Asked,
    how: dict[str, Any],
    said: Sequence[Correction],
    index: IndexAsked | None = None,
) -> None:
    """Say what is wrong with a clip, perhaps that of an index, or its folder, without loading
    torch."""
    from carvid.base.guard import check_apart
    from carvid.car.classes import queries_of
    from carvid.car.marks import marked_in
    from carvid.config import Config
    from carvid.corrections.write import check_correctable, place_of_run
    from carvid.media.given import open_source
    from carvid.media.open import input_files, is_live
    from carvid.run.asked import with_asked
    from carvid.run.earlier import check_earlier
    from carvid.run.facts import RunFacts
    from carvid.run.layout import run_paths
    from carvid.run.names import check_names

    read = [] if index is None else index.files(task.out)
    check_apart([*input_files(source), *task.read, *read], run_paths(task.out))
    models = {name: model for name, model in task.models.items() if model is not None}
    config = Config.from_dict({"weights": models}, base=task.config)
    queries = queries_of(texts, task.options["distractors"])
    now: dict[str, Any] = {}
    if not is_live(source):
        with open_source(source, **how) as reader:
            if task.options["keep_names"]:
                check_names(reader.info.names, source)
            facts = RunFacts.of_input(
                config, reader.info, queries, {}, keep_names=task.options["keep_names"],
                quick=index is not None and not index.thorough,
            )  # fmt: skip
            facts = with_asked(facts, marked_in(queries, task.options["instances"]))
        now = {key: value for key, value in facts.to_dict().items() if key != "weights"}
    resume = task.options["resume"]
    if said:
        check_correctable(source, config)
    place = place_of_run(task.out, said, resume=resume)
    check_earlier(place, now, resume=resume, overwrite=task.options["overwrite"])


def _run_one(
    task: _Task,
    source: str,
    texts: Asked,
    how: dict[str, Any],
    index: IndexAsked | None = None,
) -> None:
    """Segment a clip and print what was found; of an index first what it says by itself."""
    from carvid.base.interrupt import finishing_frames
    from carvid.media.open import is_live
    from carvid.pipeline import load

    live = is_live(source)
    first: dict[str, Any] = {}
    with resumable(task.out, live=live):
        model = load(task.config, **task.models)
        given: Any = source
        if index is not None:
            given, first["first"] = index.first(
                model, texts, task.options["distractors"], as_json=task.as_json
            )
        with finishing_frames() as stop:
            track = model.segment(given, texts, out=task.out, stop=stop, **how, **task.options)
    warn_lost(source, track.lost)
    result: dict[str, Any] = {"out": str(task.out), **track.summary(), **first}
    warn_of_drawings(task.model_names, [result])
    if task.as_json:
        print_json(result)
        return
    print_found(result)
    print_place(f"masks, scores and overlay are in {task.out}", quiet=task.quiet)


def _run_several(
    task: _Task, clips: list[Clip], manifest: Path | None, who: dict[str, Any]
) -> None:
    """Segment several clips and print what was found in each; exit 1 if one failed."""
    from carvid.batch.run import run_batch

    read = [*task.read, *([] if manifest is None else [manifest])]
    with resumable(task.out):
        batch = run_batch(
            clips, task.out, task.config, read=read, finish_frames=True, **who, **task.models,
            **task.options,
        )  # fmt: skip
    for facts in batch.done.values():
        warn_lost(facts["video"], facts["lost"])
    warn_of_drawings(task.model_names, batch.done.values())
    if task.as_json:
        print_json(batch.to_json())
    else:
        for name, facts in batch.done.items():
            print_found(facts, f"{name}: ")
        clips_done = plural(len(batch.done), "clip")
        print_place(f"{clips_done}, each in its folder, are in {task.out}", quiet=task.quiet)
    exit_if_failed(batch.failed, len(batch.done), "clip")
