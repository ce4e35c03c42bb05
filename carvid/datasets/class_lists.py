"""The classes of data sets of labelled images: their names, and the texts that CaR gives to CLIP.

The lists are facts about the data sets and the released code of CLIP as RNN; `classes/` holds them
as JSON, so that a run needs no file of the data set to know them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from carvid.base.errors import ConfigError, suggest

CLASS_LISTS = ("voc", "coco-object", "context59", "context459", "ade150", "ade847")
BACKGROUNDS = ("released", "terrestrial", "aquatic_atmospheric", "man_made", "clip_es")
"""Background words: those of the released configurations, the three lists of the paper's
supplement D, which Table 6 combines, and those of CLIP-ES for VOC."""

_BACKGROUND_FILE = "backgrounds"


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set, in the order of its labels."""

    name: str
    """One of `CLASS_LISTS`."""
    names: tuple[str, ...]
    """The data set's own names; label k, from 1, is `names[k - 1]`."""
    queries: tuple[str, ...]
    """The texts that CaR gives to CLIP, in the same order; a list with commas is one text."""
    stuff: tuple[int, ...]
    """Indices of stuff, as the released code orders its queries; all others are things. Where it
    is empty, things and stuff are not told apart, and there is one pass."""

    @property
    def things(self) -> tuple[int, ...]:
        """Indices of things, ascending."""
        stuff = set(self.stuff)
        return tuple(k for k in range(len(self.names)) if k not in stuff)


@cache
def class_list(name: str) -> ClassList:
    """Return a data set's classes.

    Args:
        name: one of `CLASS_LISTS`.

    Raises:
        ConfigError: there is no such list.
    """
    values = _entry(name)
    names = tuple(values["names"])
    return ClassList(name, names, tuple(values.get("queries", names)), tuple(values["stuff"]))


@cache
def class_ids(name: str) -> tuple[int, ...]:
    """Return what stands for each class in the source of a data set's labels.

    `coco-object`: the category's id in COCO's JSON. `ade847`: (R // 10) · 256 + G in `_seg.png`.

    Raises:
        ConfigError: there is no such list.
        ValueError: labels are the only ids of this data set.
    """
    ids = _entry(name).get("ids")
    if ids is None:
        raise ValueError(f"classes of {name} have no other ids than their labels")
    return tuple(ids)


@cache
def background_words(name: str) -> tuple[str, ...]:
    """Return a list of background words.

    Args:
        name: one of `BACKGROUNDS`.

    Raises:
        ConfigError: there is no such list.
    """
    if name not in BACKGROUNDS:
        raise ConfigError(f"no background words '{name}'{suggest(name, BACKGROUNDS)}")
    return tuple(_read(_BACKGROUND_FILE)[name])


def _entry(name: str) -> dict[str, Any]:
    if name not in CLASS_LISTS:
        raise ConfigError(f"no list of classes '{name}'{suggest(name, CLASS_LISTS)}")
    return _read(name)


def _read(name: str) -> dict[str, Any]:
    file = resources.files("carvid.datasets") / "classes" / f"{name}.json"
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values
