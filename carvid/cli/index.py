"""`carvid index`, and what `carvid run` does with an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carvid.base.words import plural
from carvid.cli.classes import Asked
from carvid.cli.messages import resumable, show_progress, warn_lost
from carvid.cli.options import (
    OUTPUT,
    QUALITY,
    QUESTION,
    AsJson,
    Classifier,
    Device,
    End,
    Fps,
    Generator,
    MaxSide,
    Preset,
    Quiet,
    Settings,
    Start,
    Stride,
    overrides,
    selection_of,
)
from carvid.cli.results import print_json, print_place

if TYPE_CHECKING:
    from carvid.config import Config
    from carvid.index.clip_index import ClipIndex
    from carvid.index.facts import IndexFacts
    from carvid.media.frames import VideoInfo
    from carvid.pipeline import Carvid

MOST_LISTED = 20
"""Of more expressions those that are not found are left away."""
MOST_SPANS = 5
"""Of an expression so many stretches of time are listed."""
OF_FRAMES = ("start", "end", "stride", "max_side", "fps", "raw", "camera")
"""Options of `carvid run` that an index has answered."""
OF_SEVERAL = ("each", "manifest", "engine", "workers")
"""Options of `carvid run` that are for several clips."""

Thorough = Annotated[
    bool,
    typer.Option(
        "--thorough", rich_help_panel=QUALITY,
        help="Of an index: ask the classifier at each key frame, not at a few for each expression.",
    ),
]  # fmt: skip
Ask = Annotated[
    bool,
    typer.Option(
        "--ask",
        rich_help_panel=QUESTION,
        help="Of an index: print the first answer, where and when things are, and stop.",
    ),
]


def index(
    clip: Annotated[
        str,
        typer.Argument(
            metavar="CLIP", help="A video, a folder of images, an image, or a pattern of names."
        ),
    ],
    start: Start = None,
    end: End = None,
    stride: Stride = 1,
    max_side: MaxSide = 0,
    fps: Fps = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", rich_help_panel=OUTPUT,
            help="The index's folder; clip.idx beside clip.mp4 if not given.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", rich_help_panel=OUTPUT, help="Continue after the last whole key frame."
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", rich_help_panel=OUTPUT, help="Replace an earlier index in the folder."
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    weights_generator: Generator = None,
    weights_classifier: Classifier = None,
    device: Device = None,
    preset: Preset = "default",
    settings: Settings = [],  # noqa: B006  Typer's own way
) -> None:  # fmt: skip
    """Read a clip once and keep what does not depend on what is asked: carvid run then answers
    from that."""
    bars = show_progress(quiet)

    from carvid.config import load_config
    from carvid.index.facts import check_clip, default_folder
    from carvid.index.place import earlier_index
    from carvid.media.frames import rate_of
    from carvid.media.given import open_source

    # Everything that can be wrong is looked at before the weights, which take long, are loaded.
    config = load_config(preset, overrides(settings, device))
    how: dict[str, Any] = {
        "selection": selection_of(start, end, stride, max_side),
        "frame_rate": None if fps is None else rate_of(fps),
    }
    check_clip(clip)
    open_source(clip, **how).close()
    folder = default_folder(clip) if out is None else out
    earlier_index(folder, known=resume or overwrite)

    from carvid.base.interrupt import finishing_frames
    from carvid.pipeline import load

    with resumable(folder):
        model = load(config, generator=weights_generator, classifier=weights_classifier)
        with finishing_frames() as stop:
            made = model.index(
                clip, folder, resume=resume, overwrite=overwrite, progress=bars, stop=stop, **how
            )
    warn_lost(clip, made.lost)
    result = {
        "out": str(folder), "frames": made.frame_count, "key_frames": len(made.key_frames),
        "bytes": made.size_bytes,
    }  # fmt: skip
    if as_json:
        print_json(result)
        return
    counted = f"{plural(made.frame_count, 'frame')}, {plural(len(made.key_frames), 'key frame')}"
    print_place(f"{counted}, {made.size_bytes / 1e6:.1f} MB in {folder}", quiet=quiet)


@dataclass(frozen=True)
class IndexAsked:
    """The index that `carvid run` was given."""

    folder: Path
    preset: str | None
    """That the user has named, in the place of the index's own settings."""
    thorough: bool

    @cached_property
    def facts(self) -> IndexFacts:
        """What it was made of.

        Raises:
            ConfigError: it is not finished, damaged, or of another format.
        """
        from carvid.index.facts import read_facts

        return read_facts(self.folder)

    @cached_property
    def clip(self) -> VideoInfo:
        """Its clip, where that is now.

        Raises:
            VideoError: it is not there, or has changed.
        """
        return self.facts.clip(self.folder)

    @property
    def how(self) -> dict[str, Any]:
        """How the clip is opened to be read as it was."""
        return {"selection": self.clip.selection, "frame_rate": self.clip.asked_rate}

    def settings(self) -> Config:
        """Return the settings that `--set` and the like are put over.

        Raises:
            ConfigError: no such preset, or as `facts`.
        """
        from carvid.config import load_config
        from carvid.index.settings import index_config

        own = self.facts.config
        return own if self.preset is None else index_config(load_config(self.preset))

    def check(self, config: Config) -> None:
        """Check that it answers with these settings.

        Raises:
            ConfigError: settings differ that its contents depend on.
        """
        self.facts.check_settings(config)

    def files(self, out: Path) -> list[Path]:
        """Return its files, which a run in `out` reads.

        Raises:
            OutputError: `out` is in it.
        """
        from carvid.index.place import check_outside, index_files

        check_outside(out, self.folder)
        return index_files(self.folder)

    def first(
        self, model: Carvid, texts: Asked, distractors: Sequence[str], *, as_json: bool
    ) -> tuple[ClipIndex, dict[str, Any]]:
        """Open it and give the first answer, which is printed, if not `as_json`."""
        opened = model.open_index(self.folder)
        answer = opened.ask(texts, distractors=distractors).to_json()
        if not as_json:
            print_answer(answer)
        return opened, answer

    def answer(
        self,
        config: Config,
        models: Mapping[str, Any],
        texts: Asked,
        distractors: Sequence[str],
        *,
        as_json: bool,
    ) -> None:
        """Print the first answer alone."""
        from carvid.pipeline import load

        _, answer = self.first(load(config, **models), texts, distractors, as_json=as_json)
        if as_json:
            print_json({"index": str(self.folder), **answer})


def index_in(context: typer.Context) -> IndexAsked | None:
    """Return the index among the inputs of `carvid run`, if there is one.

    Raises:
        typer.BadParameter: it is not the only input, or there are options that do not go with it,
            or that go with an index alone.
    """
    from carvid.base.names import existing
    from carvid.index.facts import is_index

    given = context.params
    sources = given["videos"] or []
    found = [source for source in sources if is_index(source)]
    if not found:
        for name in ("thorough", "ask"):
            if given[name]:
                raise typer.BadParameter(f"--{name} is for an index, which carvid index makes")
        return None
    if len(sources) > 1 or any(_is_given(context, name) for name in OF_SEVERAL):
        raise typer.BadParameter(f"'{found[0]}' is an index; give it alone, without other clips")
    for name in OF_FRAMES:
        if _is_given(context, name):
            option = name.replace("_", "-")
            raise typer.BadParameter(
                f"'{found[0]}' is an index, which has frames of its own; leave --{option} away, or "
                "index that part"
            )
    preset = given["preset"] if _is_given(context, "preset") else None
    return IndexAsked(existing(found[0]), preset, given["thorough"])


def print_answer(answer: Mapping[str, Any]) -> None:
    """Print a line for each expression of a first answer, as `Answer.to_json` gives it; of many
    those alone that are there."""
    entries = answer["expressions"]
    for entry in entries:
        if not entry["spans"] and len(entries) > MOST_LISTED:
            continue
        best = f"best score {entry['best_score']:.2f} at frame {entry['best_frame']}"
        typer.echo(f"first answer: {entry['label']}: {entry['text']}: {best}{_when(entry)}")


def _when(entry: Mapping[str, Any]) -> str:
    """When an expression is there, in words."""
    if entry["best_time_s"] is None:
        spans = [f"frames {first} to {after - 1}" for first, after in entry["spans"]]
        at = ""
    else:
        spans = [f"{begin_s:.1f} to {end_s:.1f} s" for begin_s, end_s in entry["spans_s"]]
        at = f" ({entry['best_time_s']:.1f} s)"
    more = f" and {len(spans) - MOST_SPANS} more" if len(spans) > MOST_SPANS else ""
    return f"{at}, there at {', '.join(spans[:MOST_SPANS])}{more}" if spans else f"{at}, not found"


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether the user has given an option."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
