"""classes.json: what each label of a semantic run stands for, and how much of the frames it has."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.files import read_json, write_text
from carvid.base.palette import Color, color_of
from carvid.run.facts import RunFacts
from carvid.run.layout import CLASSES_NAME
from carvid.version import __version__


def write_classes(folder: Path, facts: RunFacts, labels: Iterable[NDArray[np.uint8]]) -> None:
    """Write classes.json of a run's label maps, uint8 (H, W); the file is whole or as it was.

    Raises:
        OutputError: the place cannot be written.
    """
    values = {"carvid": __version__, **class_table(facts, labels)}
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    write_text(folder / CLASSES_NAME, text)


def has_classes(folder: Path, facts: RunFacts) -> bool:
    """Whether there is a classes.json of these classes in a run's folder."""
    try:
        names = [entry["name"] for entry in read_json(folder / CLASSES_NAME)["classes"]]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return names == list(facts.texts)


def class_table(facts: RunFacts, labels: Iterable[NDArray[np.uint8]]) -> dict[str, Any]:
    """Return what label maps have of each class, JSON-able: in how many frames it is (`frames`),
    and its share of all their pixels, in [0, 1] (`share`); so, too, what has no label.

    Args:
        facts: names, synonyms, stuff, and the overlay's palette, whose RGB are `color`, as in HTML.
        labels: T maps, uint8 (H, W); class k is label k, from 1.
    """
    pixels, present = np.zeros(256, np.int64), np.zeros(256, np.int64)
    frames = 0
    for plane in labels:
        counts = np.bincount(plane.ravel(), minlength=256)
        pixels, present, frames = pixels + counts, present + (counts > 0), frames + 1
    shares = (pixels / max(1, int(pixels.sum()))).tolist()
    synonyms = facts.synonyms or ((),) * len(facts.texts)
    return {
        "frames": frames,
        "background": {"label": 0, "frames": int(present[0]), "share": round(shares[0], 6)},
        "classes": [
            {"label": k, "name": name, "synonyms": list(others),
             "kind": "stuff" if facts.is_stuff(name) else "thing",
             "color": _in_html(color_of(k - 1, facts.config.overlay.palette)),
             "frames": int(present[k]), "share": round(shares[k], 6)}
            for k, (name, others) in enumerate(zip(facts.texts, synonyms, strict=True), 1)
        ],
    }  # fmt: skip


def _in_html(color: Color) -> str:
    return "#" + bytes(color).hex()
