"""`carvid demo`, `carvid config`, `carvid info`: carvid itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from carvid.base.words import plural
from carvid.cli.messages import resumable, show_progress
from carvid.cli.options import (
    AsJson,
    Overwrite,
    Preset,
    PresetArgument,
    Quiet,
    Resume,
    RunFolder,
    Settings,
)
from carvid.cli.results import print_json, print_place


def demo(
    out: RunFolder = Path("out/demo"),
    preset: Preset = "tiny",
    settings: Settings = [],  # noqa: B006  Typer's own way
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find "the dog jumping" in the clip that carvid comes with, and compare with the truth."""
    bars = show_progress(quiet)

    from carvid.base.interrupt import finishing_frames
    from carvid.demo.example import TEXT, run_example

    with resumable(out), finishing_frames() as stop:
        result = run_example(
            out, preset=preset, overrides=settings, resume=resume, overwrite=overwrite,
            progress=bars, stop=stop,
        )  # fmt: skip
    if as_json:
        values = {"J": result.j, "F": result.f, "J&F": result.j_and_f}
        print_json({"out": str(out), "frames": len(result.track), **values})
        return
    typer.echo(
        f"{TEXT}: J&F {result.j_and_f:.3f} (J {result.j:.3f}, F {result.f:.3f}) over "
        f"{plural(len(result.track), 'frame')}"
    )
    video = out / "overlay.mp4"
    place = f"overlay: {video}" if video.is_file() else f"masks: {out / 'masks'}"
    print_place(place, quiet=quiet)


def config(
    preset: PresetArgument = "default",
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
    if as_json:
        print_json(values)
    else:
        typer.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip())


def info(preset: Preset = "default", as_json: AsJson = False) -> None:
    """Print versions, devices, which weights are at hand, and what is missing."""
    from carvid.cli.information import gather

    facts = gather(preset)
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{name}:")
            for key, each in value.items():
                typer.echo(f"  {key}: {each}")
        else:
            typer.echo(f"{name}: {value}")
