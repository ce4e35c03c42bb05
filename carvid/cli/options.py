"""Options that several commands share, the groups in which help shows them, and what a shell
completes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from carvid.media.frames import Selection

INPUT = "Input"
QUESTION = "What to find"
OUTPUT = "Output"
MODELS = "Models"
QUALITY = "Quality and speed"
SEVERAL = "Several clips"
DATA = "Data set"

FORMATS = (
    "coco", "youtube-vis", "yolo", "labelme", "alpha", "alpha-each", "green", "matte", "png", "exr",
    "cutouts", "html",
)  # fmt: skip
"""Names of `carvid.exports.export.FORMATS`; a shell that completes does not wait for OpenCV."""
PROTOCOLS = (
    "refdavis17", "per-expression", "semi-supervised", "unsupervised",
    "mevis", "ref-youtube-vos", "long-rvos", "revos",
)  # fmt: skip
"""Names of `carvid.evaluation.protocols.PROTOCOLS`, likewise."""
SERVERS = ("mevis", "ref-youtube-vos")
"""Names of `carvid.benchmark.submit.SERVERS`, likewise."""
BENCHMARKS = (
    "voc20", "voc21", "context59", "context60", "context459", "coco-object", "ade150", "ade847",
    "refcoco", "refcoco+", "refcocog", "grefcoco",
)  # fmt: skip
"""Names of `carvid.benchmark.sets.SETS`, likewise."""
TABLES = ("recurrence", "backbones", "prompts", "thresholds", "background", "proposals")
"""Names of `carvid.benchmark.ablation_tables.NAMES`, likewise."""
SPLITS = ("valid", "train", "test", "valid_u")
"""Splits of Ref-DAVIS, Ref-YouTube-VOS, MeViS, Long-RVOS and ReVOS."""


def overrides(
    settings: Iterable[str],
    device: str | None = None,
    sam: str | None = None,
    style: Iterable[str] = (),
    threshold: float | None = None,
) -> list[str]:
    """Return `--set`, and what other options set, as `key=value`; the later ones win."""
    given = {"weights.device": device, "sam.model": sam}
    named = [f"{key}={value}" for key, value in given.items() if value]
    named += [] if threshold is None else [f"car.theta={threshold}"]
    return [*settings, *named, *(f"overlay.{each}" for each in style)]


def selection_of(start: str | None, end: str | None, stride: int, max_side: int) -> Selection:
    """Return which frames `--start` and the like choose.

    Raises:
        ConfigError: a time that is none.
    """
    from carvid.media.frames import Selection, seconds

    begin_s = 0.0 if start is None else seconds(start)
    return Selection(begin_s, None if end is None else seconds(end), stride, max_side)


def complete_presets(incomplete: str) -> list[str]:
    """Presets that begin so."""
    from carvid.config import preset_names

    return _beginning(incomplete, preset_names())


def complete_formats(incomplete: str) -> list[str]:
    """Formats that begin so."""
    return _beginning(incomplete, FORMATS)


def complete_protocols(incomplete: str) -> list[str]:
    """Protocols that begin so."""
    return _beginning(incomplete, PROTOCOLS)


def complete_servers(incomplete: str) -> list[str]:
    """Servers that begin so."""
    return _beginning(incomplete, SERVERS)


def complete_benchmarks(incomplete: str) -> list[str]:
    """Benchmarks that begin so, and the word that asks for a table of the paper's."""
    return _beginning(incomplete, (*BENCHMARKS, "ablation"))


def complete_tables(incomplete: str) -> list[str]:
    """Tables of ablations that begin so."""
    return _beginning(incomplete, TABLES)


def complete_splits(incomplete: str) -> list[str]:
    """Splits that begin so."""
    return _beginning(incomplete, SPLITS)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


Preset = Annotated[
    str,
    typer.Option(
        "--preset", "-p", metavar="PRESET", rich_help_panel=QUALITY,
        autocompletion=complete_presets, help="A preset's name, a YAML file, or a run.json.",
    ),
]  # fmt: skip
PresetArgument = Annotated[
    str,
    typer.Argument(
        metavar="[PRESET]", autocompletion=complete_presets,
        help="A preset's name, a YAML file, or a run.json.",
    ),
]  # fmt: skip
Settings = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", rich_help_panel=QUALITY,
        help="Change one setting; repeatable.",
    ),
]  # fmt: skip
Generator = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", rich_help_panel=MODELS,
        help="CLIP of the proposals: folder, hub name, or tiny.",
    ),
]  # fmt: skip
Classifier = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", rich_help_panel=MODELS,
        help="CLIP of the classifier: folder, hub name, or tiny.",
    ),
]  # fmt: skip
Sam = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", rich_help_panel=MODELS,
        help="Sharpen masks by SAM: a .pth checkpoint, a folder, or a hub name.",
    ),
]  # fmt: skip
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE", rich_help_panel=MODELS,
        help="auto, cpu, cuda, cuda:1, mps; as --set weights.device=.",
    ),
]  # fmt: skip
Style = Annotated[
    list[str],
    typer.Option(
        metavar="KEY=VALUE", rich_help_panel=OUTPUT,
        help="How the overlay is drawn, repeatable; as --set overlay.KEY=VALUE: fill, opacity, "
        "outline, outline_width, halo, dim, labels, legend, scores, palette, side_by_side.",
    ),
]  # fmt: skip
Videos = Annotated[
    list[str] | None,
    typer.Option(
        "--videos", metavar="NAME", rich_help_panel=DATA, help="Only this video; repeatable."
    ),
]
Split = Annotated[
    str,
    typer.Option(
        metavar="NAME", rich_help_panel=DATA, autocompletion=complete_splits,
        help="Part of the data set: valid, train, valid_u …",
    ),
]  # fmt: skip
Resolution = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=DATA,
        help="480p or Full-Resolution, in DAVIS trees; 480p if it is there.",
    ),
]  # fmt: skip
Start = Annotated[
    str | None,
    typer.Option(
        "--start", metavar="TIME", rich_help_panel=INPUT, help="Begin there: seconds, or 1:02.5."
    ),
]  # fmt: skip
End = Annotated[
    str | None,
    typer.Option(
        "--end", metavar="TIME", rich_help_panel=INPUT, help="End before that: seconds, or 1:02.5."
    ),
]  # fmt: skip
Stride = Annotated[
    int,
    typer.Option("--stride", metavar="N", rich_help_panel=INPUT, help="Use every n-th frame."),
]
MaxSide = Annotated[
    int,
    typer.Option(
        "--max-side", metavar="PIXELS", rich_help_panel=INPUT,
        help="Scale frames down to this longer side; 0 keeps the size.",
    ),
]  # fmt: skip
Fps = Annotated[
    str | None,
    typer.Option(
        "--fps", metavar="RATE", rich_help_panel=INPUT,
        help="Frames per second of images: 24, 30000/1001; else their own times, or 24.",
    ),
]  # fmt: skip
RunFolder = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="FOLDER", rich_help_panel=OUTPUT, help="The run's folder."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", rich_help_panel=OUTPUT, help="Continue after the last whole frame."),
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format", "-f", metavar="NAME", rich_help_panel=OUTPUT,
        autocompletion=complete_formats,
        help="Also write coco, youtube-vis, yolo, labelme, alpha, alpha-each, green, matte, png, "
        "exr, cutouts or html; repeatable.",
    ),
]  # fmt: skip
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", rich_help_panel=OUTPUT,
        help="Replace an earlier run in the folder, once the new one has a frame.",
    ),
]  # fmt: skip
AsJson = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print the result as JSON.")
]
RAY_ADDRESS = "Join the Ray cluster at host:port, or auto; RAY_ADDRESS, or none, if not given."
EngineName = Annotated[
    Literal["local", "ray"],
    typer.Option(rich_help_panel=QUALITY, help="Processes of this machine, or Ray."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address", metavar="ADDRESS", rich_help_panel=QUALITY, help=RAY_ADDRESS
    ),
]  # fmt: skip
WorkerCount = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", rich_help_panel=QUALITY,
        help="Processes, or actors of Ray, each with its own models. If not given one; of Ray one "
        "for each GPU; of a cluster without any as many as it has CPUs for.",
    ),
]  # fmt: skip
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", rich_help_panel=OUTPUT,
        help="No bars, and no lines that say what was done and where it is; what was found, "
        "warnings and errors stay.",
    ),
]  # fmt: skip
