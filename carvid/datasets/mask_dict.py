"""`mask_dict.json`, the truth of MeViS and ReVOS: annotation id → a mask, or null, of each frame.

    {"12": [{"size": [720, 1280], "counts": "…"}, null, …], "13": …}

The file has hundreds of MB. It is read once, one annotation after the other; those that are not
asked for are dropped at once, and the others stay run lengths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from carvid.base.errors import DatasetError
from carvid.media.run_lengths import RunLengths

MASK_DICT = "mask_dict.json"
CHUNK_CHARS = 1 << 20
"""As much is read at a time, twice as much whenever an annotation is longer than that."""
MAX_ANNOTATION_CHARS = 1 << 28
"""An annotation is not longer."""

Track = tuple[RunLengths | None, ...]
"""Masks of an annotation, frame by frame; None where it is not to be seen."""

_FORM = 'write {"id": [{"size": [H, W], "counts": "…"} or null for each frame]}'
_SPACE = re.compile(r"[\s]*")


def read_mask_dict(path: Path, wanted: Collection[str]) -> dict[str, Track]:
    """Read the masks of some annotations.

    Args:
        path: the file.
        wanted: their ids.

    Raises:
        DatasetError: it cannot be read, is of another form, or lacks one of them.
    """
    found: dict[str, Track] = {}
    try:
        for key, values in _entries(path):
            if key in wanted:
                found[key] = _track(path, key, values)
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}; check the path") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}; unpack it again") from None
    lacking = [key for key in wanted if key not in found]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise DatasetError(
            f"'{path}' lacks annotation {lacking[0]}{more}, which the expressions name; unpack the "
            "truth that belongs to them"
        )
    return found


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Keys and values of the object that a JSON file holds, one after the other."""
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8-sig") as file:
        text, place, size, at_end = "", 0, CHUNK_CHARS, False
        before = "{"  # what stands before the next entry
        while True:
            try:
                entry = _entry(text, place, before, decode)
            except ValueError as error:
                # Perhaps only because the rest is not read yet.
                if at_end or len(text) - place > MAX_ANNOTATION_CHARS:
                    raise ValueError(f"it is no such JSON ({error}); {_FORM}") from None
                part = file.read(size)
                at_end = not part
                text, place, size = text[place:] + part, 0, 2 * size
                continue
            if entry is None:
                return
            key, value, place = entry
            before, size = ",", CHUNK_CHARS
            yield key, value


def _entry(text: str, place: int, before: str, decode: Any) -> tuple[str, Any, int] | None:
    """Key, value and end of an entry; None at the end of the object.

    Raises:
        ValueError: it is not there, or not whole.
    """
    place = _after(text, place)
    if text[place : place + 1] == "}" and before == ",":
        return None
    place = _after(text, _past(text, place, before))
    if text[place : place + 1] == "}" and before == "{":
        return None
    key, place = decode(text, place)
    if not isinstance(key, str):
        raise ValueError(f"{key!r} is no key")
    place = _after(text, _past(text, _after(text, place), ":"))
    value, place = decode(text, place)
    if place == len(text):  # a number may go on
        raise ValueError("it ends early")
    return key, value, place


def _after(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _past(text: str, place: int, sign: str) -> int:
    if text[place : place + 1] != sign:
        raise ValueError(f"{sign!r} is expected, and there is {text[place : place + 1]!r}")
    return place + 1


def _track(path: Path, key: str, values: Any) -> Track:
    if not isinstance(values, list):
        raise DatasetError(f"annotation {key} in '{path}' is no list; {_FORM}")
    return tuple(
        _run_lengths(path, key, index, value) if value else None
        for index, value in enumerate(values)
    )


def _run_lengths(path: Path, key: str, index: int, value: Any) -> RunLengths:
    try:
        return RunLengths.of_coco(value)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"annotation {key} in '{path}' is no run lengths in frame {index + 1}: {error}; {_FORM}"
        ) from None
