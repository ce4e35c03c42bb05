"""The settings that a benchmark runs with, and in what they differ from the paper's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from carvid.benchmark.sets import BenchSet
from carvid.clip.weights import EMBEDDED_NAME, resolve
from carvid.config import Config, load_config, load_over

BASES = ("default", "reference")
"""Presets that a benchmark's own settings are put over; any other is used as it stands."""
NOT_OF_THE_METHOD = ("weights", "temporal", "overlay", "sam")
"""Sections that change no mask of a single image, or that are told by themselves."""
MOST_TOLD = 4
"""Settings that a note lists."""


def settings_of(
    bench: BenchSet,
    preset: str | Path | Config,
    overrides: Iterable[str] = (),
    *,
    generator: str | None = None,
    classifier: str | None = None,
) -> Config:
    """Return the settings that a benchmark runs with.

    Args:
        bench: the benchmark.
        preset: `default` and `reference` get the benchmark's own η, θ, λ, prompts, templates and
            mode; any other is used as it stands.
        overrides: `section.key=value`, in order.
        generator: weights; as `classifier`.

    Raises:
        ConfigError: an unknown preset or setting.
    """
    if preset in BASES:
        preset = load_over(load_config(preset), bench.preset)
    return resolve(preset, overrides, generator=generator, classifier=classifier)


def notes_on(bench: BenchSet, config: Config) -> list[str]:
    """Return in what settings and weights differ from those that the paper's number is of."""
    usual = load_config(bench.preset)
    notes = []
    changed = list(_changed(usual.to_dict(), config.to_dict()))
    if changed:
        more = f" and {len(changed) - MOST_TOLD} more" if len(changed) > MOST_TOLD else ""
        named = ", ".join(changed[:MOST_TOLD]) + more
        notes.append(f"settings are not the released ones (--preset reference): {named}")
    models = (config.weights.generator, config.weights.classifier)
    papers = (usual.weights.generator, usual.weights.classifier)
    if EMBEDDED_NAME in models:
        notes.append("the embedded model (tiny) knows drawn things alone, and no photograph")
    elif models != papers:
        ours, theirs = (" and ".join(each) for each in (models, papers))
        notes.append(f"generator and classifier are {ours}, in the paper {theirs}")
    if config.sam.model:
        notes.append(f"masks are sharpened by {config.sam.model}, in the paper by HQ-SAM")
    return notes


def _changed(usual: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for section, values in now.items():
        if section not in NOT_OF_THE_METHOD:
            for key, value in values.items():
                if value != usual[section][key]:
                    yield f"{section}.{key}"
