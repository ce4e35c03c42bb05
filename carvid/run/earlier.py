"""An earlier run in a folder: what it was made of, and in what another one differs. Without
torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from carvid.base.errors import OVERWRITE, RESUME, OutputError
from carvid.base.files import read_json
from carvid.base.words import plural
from carvid.media.images import say_once
from carvid.run.asked import as_asked, marks_differ
from carvid.run.layout import CHOOSE, PROGRESS_FOLDER, check_contents, check_place
from carvid.sam.installed import MADE_BY, OWN

NOT_INPUTS = ("timing", "lost", "frame_count")
"""What a run.json says of how the run went."""
TOLD = frozenset(
    {
        "texts",
        "asked",
        "distractors",
        "synonyms",
        "stuff",
        "video",
        "config",
        "weights",
        "contents",
        "keep_names",
        "quick",
        "corrections",
    }
)
"""Of whose differences more is said than that there is one."""
ONE_OF_BOTH = {
    "keep_names": "masks are named as frames in one of both, and by numbers in the other",
    "quick": "one of both asks the classifier at a few key frames, the other at each (--thorough)",
}
"""What a run.json says only where it is so, and how two runs differ in it."""
MOST_TOLD = 4
"""Differences that a message lists."""
SELECTION = {"start_s": "start", "end_s": "end", "max_side": "max-side"}
"""What options call the fields of a `Selection`, where it is not the same."""


def check_earlier(
    folder: Path, now: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
) -> bool:
    """Check that a run may go into a folder, without making anything.

    Args:
        folder: the run's.
        now: what it is made of, as in a run.json, or as much as is known of that.
        resume: an earlier run there goes on, if it is made of the same.
        overwrite: it is replaced; with `resume`, if it is made of something else.

    Returns:
        Whether an earlier run is to be replaced.

    Raises:
        OutputError: as `check_place` and `check_contents`; or there is a run, and neither is asked
            for, or one that is made of something else is to go on.
    """
    if not check_place(folder):
        return False
    saved = inputs_in(folder)
    others = [] if saved is None else differences(saved, now)
    if overwrite and (others or not resume):
        check_contents(folder)
        return True
    if others:
        raise OutputError(
            f"'{folder}' holds a run with other inputs or settings: {listed(others)}; {CHOOSE}, or "
            f"replace it with {OVERWRITE}"
        )
    if not resume:
        raise OutputError(
            f"'{folder}' holds a run already; add {RESUME} to continue it, {OVERWRITE} to replace "
            f"it, or {CHOOSE}"
        )
    return False


def inputs_in(folder: Path) -> dict[str, Any] | None:
    """Return what the run in a folder, begun or whole, is made of; None if there is none, or if it
    is too damaged to say."""
    for path, key in ((folder / PROGRESS_FOLDER / "progress.json", "inputs"),
                      (folder / "run.json", None)):  # fmt: skip
        if path.exists():
            try:
                values = read_json(path)
                inputs = values[key] if key else values
            except (OSError, ValueError, LookupError, TypeError):
                return None
            if not isinstance(inputs, dict):
                return None
            return {name: inputs[name] for name in inputs if name not in NOT_INPUTS}
    return None


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in what a run differs from an earlier one, a few words each.

    The same input by another path is the same; that it has moved is logged.

    Args:
        saved: of the earlier one; JSON-able.
        now: of this one, or as much as is known of it.
    """
    saved, now = as_asked(saved), as_asked(json.loads(json.dumps(now)))
    told: dict[str, str] = {}
    for name, noun in (("texts", "expression"), ("distractors", "distractor")):
        if name in now:
            told |= _of_texts(noun, _list(saved.get(name)), now[name])
    if "texts" in now:
        told |= _of_classes(saved, now)
        told |= dict(marks_differ(_list(saved.get("asked")), _list(now.get("asked"))))
    told |= _of_input(saved, now)
    for name in ("weights", "config"):  # what both have is told once
        if name in now:
            unsaid = {MADE_BY: OWN} if name == "weights" else {}
            old = {**unsaid, **_dict(saved.get(name))}
            told |= dict(_of_values(old, {**unsaid, **now[name]}, name))
    told |= _of_contents(saved, now, told)
    for name, differ in ONE_OF_BOTH.items():
        if "texts" in now and bool(saved.get(name)) != bool(now.get(name)):  # else little is known
            told[name] = differ
    told |= _of_corrections(saved, now)
    for name in sorted(now.keys() - TOLD):
        told |= dict(_of_values(saved.get(name), now[name], name))
    return list(told.values())


def listed(told: Sequence[str]) -> str:
    """Return differences as one text; of many, the first."""
    more = len(told) - MOST_TOLD
    return ", ".join(told[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def same_place(path: str, other: str) -> bool:
    """Whether two paths lead to one file, by links, `.`, `..` and `~`; also of what is no more."""
    real, other_real = (os.path.realpath(os.path.expanduser(each)) for each in (path, other))
    return real == other_real


def _of_texts(noun: str, saved: Sequence[str], now: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, (old, new) in enumerate(zip_longest(saved, now), 1):
        if old != new:
            name = f"{noun} {number}"
            told = f"{name} was {_shown(old)}, is {_shown(new)}"
            if old is None:
                told = f"{name} {_shown(new)} is new"
            elif new is None:
                told = f"{name} {_shown(old)} is no longer asked for"
            yield name, told


def _of_classes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How synonyms and kinds of the expressions that both have differ."""
    old, new = (
        dict(zip_longest(_list(values.get("texts")), _list(values.get("synonyms"))))
        for values in (saved, now)
    )
    stuff, now_stuff = _list(saved.get("stuff")), now.get("stuff", [])
    for text in now["texts"]:
        if text not in old:
            continue
        if (old[text] or []) != (new[text] or []):
            told = f"{_shown(', '.join(old[text] or []))}, are {_shown(', '.join(new[text] or []))}"
            yield f"synonyms of {text}", f"the synonyms of '{text}' were {told}"
        if (text in stuff) != (text in now_stuff):
            told = "was a thing, is stuff" if text in now_stuff else "was stuff, is a thing"
            yield f"kind of {text}", f"'{text}' {told}"


def _of_input(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How the input differs; what is read of it is its own matter."""
    old, new = _dict(saved.get("video")), now.get("video", {})
    contents = [_dict(values.get("contents")).get("video") for values in (saved, now)]
    known = None not in contents
    if "path" in new:
        place = same_place(str(old.get("path")), new["path"])
        if known and contents[0] != contents[1]:
            told = f"the input was '{old.get('path')}', is '{new['path']}'"
            yield "input", f"'{new['path']}' has another content than then" if place else told
            new = {"selection": new.get("selection", {})}
        elif not known and not place:
            yield "input", f"the input was '{old.get('path')}', is '{new['path']}'"
            new = {"selection": new.get("selection", {})}
        elif not place:
            say_once(f"'{new['path']}' has the content of '{old.get('path')}': the same input")
    for name in new:
        if name == "selection":
            for key, value in _of_values(old.get(name), new[name], name):
                yield f"selection.{key}", value
        elif name != "path":
            yield from _of_values(old.get(name), new[name], name)


def _of_contents(
    saved: Mapping[str, Any], now: Mapping[str, Any], told: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Which weights have another content under the same name."""
    old, new = _dict(saved.get("contents")), now.get("contents", {})
    for use in new:
        named = f"{use}.model" if use in ("sam", "sam2") else f"weights.{use}"
        if use != "video" and use in old and old[use] != new[use] and named not in told:
            yield f"content of {use}", f"the weights of {use} have another content than then"


def _of_corrections(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """How what a user has corrected differs."""
    old, new = (_list(values.get("corrections")) for values in (saved, now))
    if "texts" in now and "corrections" in saved and not old and "corrections" not in now:
        return {"corrections": "its corrections are being undone"}
    if "texts" not in now or old == new:
        return {}
    if len(old) == len(new):
        return {"corrections": "corrections differ"}
    return {"corrections": f"there were {plural(len(old), 'correction')}, there are {len(new)}"}


def _of_values(saved: Any, now: Any, name: str) -> Iterator[tuple[str, str]]:
    """Which values differ, by their dotted names."""
    if isinstance(now, dict):
        old = _dict(saved)
        for key in now:
            below = key if name in ("config", "selection") else f"{name}.{key}"
            yield from _of_values(old.get(key), now[key], SELECTION.get(below, below))
    elif saved != now:
        yield name, f"{name} was {_shown(saved)}, is {_shown(now)}"


def _dict(value: Any) -> dict[str, Any]:
    """A mapping that somebody may have damaged."""
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _shown(value: Any) -> str:
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
