"""The command line: parse, call one public function, print.

Results go to stdout, progress and warnings to stderr. Exit 0 done, 1 a failure in one line, 2 a
wrong command line, 130 interrupted. Heavy imports stay inside the commands.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from carvid.base.errors import CarvidError
from carvid.base.files import write_text
from carvid.base.memory import telling_out_of_memory
from carvid.base.threads import sleeping_threads
from carvid.version import __version__

if TYPE_CHECKING:
    from carvid.batch.manifest import Clip
    from carvid.config import Config

app = typer.Typer(
    name="carvid",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Masks in every frame of a video for the object that a sentence names, without training.",
    epilog='Example: carvid run clip.mp4 --expr "a white dog" -o out/',
)

Preset = Annotated[
    str, typer.Option("--preset", "-p", help="A preset's name, a YAML file, or a run.json.")
]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable.")
]
Generator = Annotated[
    str | None, typer.Option(help="CLIP of the proposals: folder, hub name, or tiny.")
]
Classifier = Annotated[
    str | None, typer.Option(help="CLIP of the classifier: folder, hub name, or tiny.")
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps; as --set weights.device=.")
]
Sam = Annotated[
    str | None,
    typer.Option(help="Sharpen masks by SAM: a .pth checkpoint, a folder, or a hub name."),
]
Style = Annotated[
    list[str],
    typer.Option(
        metavar="KEY=VALUE",
        help="How the overlay is drawn, repeatable; as --set overlay.KEY=VALUE: fill, opacity, "
        "outline, outline_width, halo, dim, labels, scores, palette, side_by_side.",
    ),
]
Videos = Annotated[list[str] | None, typer.Option("--videos", help="Only this video; repeatable.")]
Split = Annotated[str, typer.Option(help="Part of the data set: valid, train, valid_u …")]
Resolution = Annotated[
    str | None, typer.Option(help="480p or Full-Resolution, in DAVIS trees; 480p if it is there.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue after the last whole frame.")]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace an earlier run in the folder, once the new one has a frame."
    ),
]
Start = Annotated[str | None, typer.Option(help="Begin there: seconds, or 1:02.5.")]
End = Annotated[str | None, typer.Option(help="End before that: seconds, or 1:02.5.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"carvid {__version__}")
        raise typer.Exit


@app.command(
    epilog='Example: carvid run clip.mp4 --expr "a woman" --expr "a white dog" -o out/',
)
def run(
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VIDEO]...",
            help="A video, a folder of images, an image, a stream's URL, or - (pipe). Of several, "
            "each has its own folder in --out.",
        ),
    ] = None,
    expr: Annotated[
        list[str] | None,
        typer.Option("--expr", "-e", help="What to find; repeatable, in label order."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="A .csv or .jsonl of clips: clip, expr; start, end, stride, name."),
    ] = None,
    camera: Annotated[
        int | None, typer.Option(min=0, help="Read this camera, until Ctrl-C; 0 is the first.")
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(metavar="WxH@RATE", help="Frames through a pipe are bare RGB of this size."),
    ] = None,
    start: Start = None,
    end: End = None,
    stride: Annotated[int, typer.Option(help="Use every n-th frame.")] = 1,
    max_side: Annotated[
        int, typer.Option(help="Scale frames down to this longer side, pixels; 0 keeps the size.")
    ] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")] = Path("out"),
    distractor: Annotated[
        list[str] | None,
        typer.Option("--distractor", help="What else may be there; competes, gets no mask."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", help="Also write coco, alpha, green, cutouts or html."),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline/--causal", help="Let later frames of a file repair earlier ones, or not."
        ),
    ] = True,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how the expressions are understood, and stop.")
    ] = False,
    preset: Preset = "default",
    settings: Settings = [],  # noqa: B006  Typer's own way
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    sam: Sam = None,
    style: Style = [],  # noqa: B006
    device: Device = None,
    engine: Annotated[
        Literal["serial", "ray"], typer.Option(help="Of several clips: one by one, or on Ray.")
    ] = "serial",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of Ray; one for each GPU, or one, if not given.")
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find what expressions name in every frame; write masks, scores and an overlay video."""
    from carvid.base.guard import check_apart
    from carvid.batch.manifest import clips_of, read_manifest
    from carvid.car.phrases import understand
    from carvid.car.queries import Queries
    from carvid.config import load_config, settings_files
    from carvid.exports.formats import check_formats
    from carvid.media.frames import Selection, raw_frames, seconds
    from carvid.media.open import input_files, is_live, open_video
    from carvid.run.layout import check_contents, check_place, run_paths

    # Everything that can be wrong is looked at before the weights, which take long, are loaded.
    looks = [] if offline else ["temporal.lag=0"]
    config = load_config(preset, [*_overrides(settings, device, sam, style), *looks])
    selection = Selection(
        0.0 if start is None else seconds(start), None if end is None else seconds(end), stride,
        max_side,
    )  # fmt: skip
    videos, expr = videos or [], expr or []
    if manifest is not None and (videos or expr):
        raise typer.BadParameter("a manifest says which clips and expressions; give no others")
    clips = [] if manifest is None else read_manifest(manifest, selection)
    texts = list(dict.fromkeys(text for clip in clips for text in clip.texts)) or expr
    if not texts:
        raise typer.BadParameter("say what to find with --expr")
    queries = Queries(tuple(texts), tuple(distractor or ()))
    if explain:
        for text in queries.all:
            typer.echo(understand(text, config.phrases))
        return
    if (not videos and manifest is None) == (camera is None):
        raise typer.BadParameter("give one of VIDEO, --manifest and --camera")
    check_formats(formats or ())
    models: dict[str, Any] = {
        "generator": weights_generator, "classifier": weights_classifier,
    }  # fmt: skip
    options = {
        "distractors": distractor or (), "formats": formats or (), "resume": resume,
        "overwrite": overwrite, "progress": True,
    }  # fmt: skip
    if manifest is not None or len(videos) > 1:
        if raw is not None:
            raise typer.BadParameter("--raw is for one clip, through a pipe")
        clips = clips or clips_of(videos, expr, selection)
        read = [*settings_files(preset), *([] if manifest is None else [manifest])]
        how = {**models, **options, "engine": engine, "workers": workers, "read": read}
        _run_batch(clips, out, config, how, as_json=as_json)
        return
    if engine != "serial" or workers is not None:
        raise typer.BadParameter("--engine and --workers are for several clips")
    source = videos[0] if videos else f"camera:{camera}"
    form = None if raw is None else raw_frames(raw)
    if not is_live(source):
        open_video(source, selection=selection).close()
    check_apart([*input_files(source), *settings_files(preset)], run_paths(out))
    if check_place(out, resume=resume, overwrite=overwrite) and overwrite:
        check_contents(out)
    _run_one(
        source,
        expr,
        out,
        config,
        models,
        {**options, "selection": selection, "raw": form},
        as_json=as_json,
    )


def _run_one(
    source: str,
    texts: list[str],
    out: Path,
    config: Config,
    models: dict[str, Any],
    options: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Segment a clip and print what was found."""
    from carvid.base.interrupt import finishing_frames
    from carvid.media.open import is_live
    from carvid.pipeline import load

    model = load(config, **models)
    with _resumable(out, live=is_live(source)), finishing_frames() as stop:
        track = model.segment(source, texts, out=out, stop=stop, **options)
    _tell_lost(source, track.lost)
    result: dict[str, Any] = {"out": str(out), **track.summary()}
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    _tell_found(result)
    typer.echo(f"masks, scores and overlay are in {out}")


def _run_batch(
    clips: list[Clip], out: Path, config: Config, options: dict[str, Any], *, as_json: bool
) -> None:
    """Segment several clips and print what was found in each; exit 1 if one failed."""
    from carvid.batch.run import run_batch

    with _resumable(out):
        batch = run_batch(clips, out, config, finish_frames=True, **options)
    for facts in batch.done.values():
        _tell_lost(facts["video"], facts["lost"])
    if as_json:
        typer.echo(json.dumps(batch.to_json(), ensure_ascii=False))
    else:
        for name, facts in batch.done.items():
            _tell_found(facts, f"{name}: ")
        typer.echo(f"{len(batch.done)} clips, each in its folder, are in {out}")
    _tell_failed(batch.failed, len(batch.done), "clips", out)


@app.command(epilog="Example: carvid overlay clip.mp4 out/masks -o overlay.mp4")
def overlay(
    video: Annotated[Path, typer.Argument(help="The video that was segmented.")],
    masks: Annotated[Path, typer.Argument(help="A folder of DAVIS PNGs, one a frame.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The video to write.")],
    expr: Annotated[
        list[str] | None,
        typer.Option("--expr", "-e", help="Names of labels 1, 2, …; from run.json if not given."),
    ] = None,
    preset: Preset = "default",
    settings: Settings = [],  # noqa: B006
    style: Style = [],  # noqa: B006
) -> None:
    """Draw masks over a video."""
    from carvid.base.guard import check_apart
    from carvid.config import load_config, settings_files
    from carvid.run.track import expressions_beside, overlay_from_folder, selection_beside

    config = load_config(preset, _overrides(settings, None, style=style))
    check_apart(settings_files(preset), [out])
    texts = expr or expressions_beside(masks)
    count = overlay_from_folder(
        masks, video, out, texts, config.overlay, selection=selection_beside(masks), progress=True
    )
    typer.echo(f"{count} frames in {out}")


@app.command(epilog="Example: carvid view out/")
def view(
    folder: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    show: Annotated[
        bool, typer.Option("--show/--no-show", help="Open the page in the browser.")
    ] = True,
) -> None:
    """Make a web page of a run, if it has none yet, and open it."""
    from carvid.exports.formats import export
    from carvid.run.track import Track

    track, page = Track.open(folder), folder / "view.html"
    if not page.is_file():
        export(track, folder, ["html"], progress=True)
    typer.echo(page)
    if show:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())


@app.command(epilog="Example: carvid davis DAVIS -o runs/a --resume")
def davis(
    data: Annotated[Path, typer.Argument(help="The data set's root.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the predictions.")],
    preset: Preset = "davis",
    settings: Settings = [],  # noqa: B006
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    device: Device = None,
    videos: Videos = None,
    split: Split = "valid",
    resolution: Resolution = None,
    workers: Annotated[
        int, typer.Option(help="Processes; each loads the models and does one video at a time.")
    ] = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Predict masks for Ref-DAVIS 2017, or for Ref-YouTube-VOS or MeViS expressions."""
    from carvid.benchmark.predict import predict

    with _resumable(out):
        result = predict(
            data, out, preset, _overrides(settings, device), generator=weights_generator,
            classifier=weights_classifier, videos=videos, split=split, resolution=resolution,
            workers=workers, resume=resume, overwrite=overwrite, progress=True,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result.to_json(), ensure_ascii=False))
    else:
        sets = "four sets" if result.sets > 1 else "no sets, masks of expressions only"
        done = "1 video" if len(result.videos) == 1 else f"{len(result.videos)} videos"
        typer.echo(f"{done} in {out} ({sets}); {result.frames} frames done now")
    _tell_failed(result.failed, len(result.videos), "videos", out)


@app.command("eval", epilog="Example: carvid eval runs/a DAVIS --protocol refdavis17")
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A folder of predictions, of any method.")],
    data: Annotated[Path, typer.Argument(help="The data set's root.")],
    protocol: Annotated[
        str,
        typer.Option(help="refdavis17, per-expression, semi-supervised or unsupervised."),
    ],
    compare: Annotated[
        Path | None, typer.Option(help="Other predictions, to put side by side with these.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every number to this CSV file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the worst objects over time to this PNG.")
    ] = None,
    videos: Videos = None,
    split: Split = "valid",
    resolution: Resolution = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; as many as there are cores if not given.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print every number as a Markdown table.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score predictions on a data set: J, F and J&F. Nothing is cached."""
    from carvid.base.guard import check_distinct
    from carvid.base.threads import cores
    from carvid.evaluation import protocols as davis
    from carvid.evaluation import report as reports

    written = [path for path in (csv, plot) if path is not None]
    check_distinct(written, remedy="give --csv and --plot a file each")

    def score(folder: Path) -> reports.Report:
        return davis.evaluate(
            folder, data, protocol, videos=videos, split=split, resolution=resolution,
            workers=cores() if workers is None else workers, progress=sys.stderr.isatty(),
            written=written,
        )  # fmt: skip

    report = score(predictions)
    result: reports.Report | reports.Comparison = report
    if compare is not None:
        result = reports.compare(report, score(compare), (str(predictions), str(compare)))
    for note in report.notes:
        typer.echo(f"carvid: {note}", err=True)
    if csv is not None:
        write_text(csv, report.to_csv())
    if plot is not None:
        reports.plot_worst(report, plot)
    if as_json:
        typer.echo(json.dumps(result.to_json(), ensure_ascii=False))
    else:
        typer.echo(result.to_markdown() if markdown else result.to_text())


@app.command(epilog="Example: carvid calibrate DAVIS -o calibrated.yaml")
def calibrate(
    data: Annotated[Path, typer.Argument(help="The root of Ref-DAVIS, with its masks.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The preset, a .yaml.")],
    preset: Preset = "default",
    settings: Settings = [],  # noqa: B006
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    device: Device = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Frames in all, evenly spaced; 0 takes every one.")
    ] = 60,
    absent: Annotated[
        bool,
        typer.Option(
            "--absent/--no-absent",
            help="Also ask for things of other videos, and choose θ by what is found of them.",
        ),
    ] = True,
    videos: Videos = None,
    split: Split = "valid",
    resolution: Resolution = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue what was interrupted.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier calibration.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Choose settings for a model by measuring on single frames, and write them as a preset."""
    from carvid.benchmark.calibrate import calibrate as choose

    with _resumable(out):
        result = choose(
            data, out, preset, _overrides(settings, device), generator=weights_generator,
            classifier=weights_classifier, limit=limit, absent=absent, videos=videos, split=split,
            resolution=resolution, resume=resume, overwrite=overwrite, progress=True,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result.to_json(), ensure_ascii=False))
    else:
        typer.echo(f"{result.to_text()}\nthe preset is {out}")


@app.command(epilog="Example: carvid demo -o out/demo")
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")] = Path("out/demo"),
    preset: Preset = "tiny",
    settings: Settings = [],  # noqa: B006
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find "the dog jumping" in the clip that carvid comes with, and compare with the truth."""
    from carvid.demo.example import TEXT, run_example

    with _resumable(out):
        result = run_example(
            out, preset=preset, overrides=settings, resume=resume, overwrite=overwrite,
            progress=True,
        )  # fmt: skip
    overlay_path = out / "overlay.mp4"
    if as_json:
        values = {"J": result.j, "F": result.f, "J&F": result.j_and_f}
        typer.echo(json.dumps({"out": str(out), "frames": len(result.track), **values}))
        return
    typer.echo(
        f"{TEXT}: J&F {result.j_and_f:.3f} (J {result.j:.3f}, F {result.f:.3f}) over "
        f"{len(result.track)} frames"
    )
    typer.echo(f"overlay: {overlay_path}" if overlay_path.is_file() else f"masks: {out / 'masks'}")


@app.command(epilog="Example: carvid config default --set car.theta=0.4")
def config(
    preset: Annotated[
        str, typer.Argument(help="A preset's name, a YAML file, or a run.json.")
    ] = "default",
    settings: Settings = [],  # noqa: B006
    as_json: AsJson = False,
    names: Annotated[bool, typer.Option("--list", help="List the presets.")] = False,
) -> None:
    """Print a preset with everything resolved, as YAML that loads back."""
    import yaml

    from carvid.config import load_config, load_expectations, preset_names

    if names:
        typer.echo("\n".join(preset_names()))
        return
    values: dict[str, Any] = load_config(preset, settings).to_dict()
    if not settings and (expected := load_expectations(preset)):
        values["expect"] = [each.to_dict() for each in expected]
    dump = yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip()
    typer.echo(json.dumps(values, ensure_ascii=False) if as_json else dump)


@app.command(epilog="Example: carvid info --json")
def info(preset: Preset = "default", as_json: AsJson = False) -> None:
    """Print versions, devices, which weights are at hand, and what is missing."""
    from carvid.cli.information import gather

    facts = gather(preset)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{name}:")
            for key, each in value.items():
                typer.echo(f"  {key}: {each}")
        else:
            typer.echo(f"{name}: {value}")


def _overrides(
    settings: list[str], device: str | None, sam: str | None = None, style: Iterable[str] = ()
) -> list[str]:
    given = {"weights.device": device, "sam.model": sam}
    named = [f"{key}={value}" for key, value in given.items() if value]
    return [*settings, *named, *(f"overlay.{each}" for each in style)]


def _tell_lost(source: str, lost: Iterable[str]) -> None:
    for line in lost:
        typer.echo(f"carvid: '{source}': {line}", err=True)


def _tell_found(facts: Mapping[str, Any], name: str = "") -> None:
    for entry in facts["expressions"]:
        typer.echo(
            f"{name}{entry['label']}: {entry['text']}: in {entry['frames_found']} of "
            f"{facts['frames']} frames, mean score {entry['mean_score']:.2f}"
        )
        if not entry["frames_found"] and facts["frames"]:
            typer.echo(f"{name}{entry['label']}: {_why_not(entry, facts['theta'])}")


def _why_not(entry: Mapping[str, Any], theta: float) -> str:
    """Say why an expression was found in no frame."""
    why = (
        f"not found: best score {entry['best_score']:.2f} at frame {entry['best_frame']}, "
        f"θ {theta:.2f}"
    )
    if entry["best_score"] > theta:
        why += "; the frames around it speak against it"
    return why


def _tell_failed(failed: Mapping[str, str], whole: int, things: str, out: Path) -> None:
    """List what failed, and exit 1 if anything did."""
    if not failed:
        return
    for name, reason in failed.items():
        typer.echo(f"carvid: {name} failed: {reason}", err=True)
    typer.echo(
        f"carvid: {len(failed)} of {len(failed) + whole} {things} failed; mend them and continue "
        f"with --resume -o {out}",
        err=True,
    )
    raise typer.Exit(1)


@contextmanager
def _resumable(out: Path, *, live: bool = False) -> Iterator[None]:
    """Say how an interrupted run continues; Typer would leave without a word."""
    try:
        yield
    except KeyboardInterrupt:
        done, going_on = f"what came until then is in {out}", f"continue with --resume -o {out}"
        typer.echo(f"\ncarvid: interrupted; {done if live else going_on}", err=True)
        raise typer.Exit(130) from None


def main() -> None:
    """Run the command line; errors that users can mend become one line on stderr."""
    try:
        with sleeping_threads(), telling_out_of_memory():
            app()
    except CarvidError as error:
        print(f"carvid: {error}", file=sys.stderr)
        sys.exit(1)
