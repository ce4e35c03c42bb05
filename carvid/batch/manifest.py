"""Which clips a batch has: those of the command line, or the lines of a manifest.

    clips.csv      a header and a row for each expression; rows that differ in nothing else are
                   one run
    clips.jsonl    an object a line, each one run; its expr is a string or a list of them

Of the columns (or keys) `COLUMNS`, clip and expr are needed. Paths start at the manifest's folder.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from carvid.base.errors import CarvidError, ConfigError, suggest
from carvid.car.queries import Queries
from carvid.media.frames import ALL, Selection, rate_of, seconds
from carvid.media.open import is_live
from carvid.media.sequences import images_of, is_pattern

COLUMNS = ("clip", "expr", "start", "end", "stride", "fps", "name")
UNSAFE = re.compile('[\\x00-\\x1f\\x7f/\\\\:*?"<>|\ud800-\udfff]')
"""What some file system or terminal takes amiss in a name."""
LONGEST_NAME = 200
"""Of a folder, bytes; file systems take 255, and files beside it may have longer names."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Clip:
    """One run of a batch."""

    name: str
    """Of its folder, below the batch's."""
    video: str
    """A video file, a folder or a pattern of images, or an image, as `open_video` takes it."""
    texts: tuple[str, ...]
    """The N expressions, in label order."""
    selection: Selection
    """Which frames are used."""
    frame_rate: Fraction | None = None
    """Of images, frames per second; None is their own times, or else 24."""


def read_manifest(
    path: Path, selection: Selection = ALL, frame_rate: Fraction | None = None
) -> list[Clip]:
    """Read the clips that a CSV or JSON Lines file lists.

    Args:
        path: ends in .csv or .jsonl.
        selection: of the clips whose lines say nothing else.
        frame_rate: likewise, of images.

    Raises:
        ConfigError: it cannot be used; the message lists every line's faults.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise ConfigError(f"'{path}' is no manifest; give a file that ends in .csv or .jsonl")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the manifest '{path}': {error.strerror}; give another"
        ) from None
    faults: list[tuple[int, str]] = []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _unusable(path, [(line, "is not UTF-8")]) from None
    rows = list(readers[path.suffix.lower()](text, faults))
    clips = [
        (line, _clip(line, row, path.parent, (selection, frame_rate), faults)) for line, row in rows
    ]
    lines_of: dict[str, int] = {}
    for line, clip in clips:
        if clip is None:
            continue
        first = lines_of.setdefault(_folded(clip.name), line)
        if first != line:
            faults.append(
                (line, f"'{clip.name}' is the folder of line {first} too; give one another name")
            )
    if not rows and not faults:
        faults.append((1, "no clip is listed"))
    if faults:
        raise _unusable(path, faults)
    return [clip for _, clip in clips if clip is not None]


def clips_of(
    videos: Iterable[str],
    texts: Sequence[str],
    selection: Selection = ALL,
    frame_rate: Fraction | None = None,
) -> list[Clip]:
    """Return one run for each video, with the same expressions.

    Raises:
        ConfigError: a video is not there, or two would share a folder; all of that at once.
        ExpressionError: an expression is empty.
    """
    asked = Queries(tuple(texts))
    clips: dict[str, Clip] = {}
    faults = []
    for video in videos:
        try:
            clip = Clip(_derived_name(video), _there(video), asked.texts, selection, frame_rate)
        except ConfigError as error:
            faults.append(str(error))
            continue
        other = clips.setdefault(_folded(clip.name), clip)
        if other is not clip:
            faults.append(
                f"'{other.video}' and '{video}' have the folder '{clip.name}' both; rename one, or "
                "give names in a manifest"
            )
    if faults:
        raise ConfigError("; ".join(faults))
    return list(clips.values())


def _csv_rows(text: str, faults: list[tuple[int, str]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The runs, each with its first line; rows of one run are joined."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] | None = None
    runs: dict[tuple[tuple[str, str], ...], tuple[int, dict[str, Any]]] = {}
    while True:
        line = rows.line_num + 1
        try:
            cells = [cell.strip() for cell in next(rows)]
        except StopIteration:
            break
        except csv.Error as error:
            faults.append((line, f"is no CSV: {error}"))
            continue
        if not any(cells):
            continue
        if header is None:
            header = cells
            if problems := _header_faults(header):
                faults.extend((line, problem) for problem in problems)
                break
        elif len(cells) != len(header):
            told = f"has {len(cells)} cells, the header {len(header)}; put quotes around commas"
            faults.append((line, told))
        else:
            row = {key: cell for key, cell in zip(header, cells, strict=True) if cell}
            if "expr" not in row:
                yield line, row  # whose fault that is
                continue
            expression = row.pop("expr")
            _, run = runs.setdefault(tuple(row.items()), (line, row | {"expr": []}))
            run["expr"].append(expression)
    yield from runs.values()


def _header_faults(header: list[str]) -> list[str]:
    twice = {name for name in header if header.count(name) > 1}
    return [
        *(f"unknown column '{name}'{suggest(name, COLUMNS)}" for name in header
          if name not in COLUMNS),
        *(f"column '{name}' is there twice" for name in sorted(twice)),
        *(f"there is no column '{name}'" for name in ("clip", "expr") if name not in header),
    ]  # fmt: skip


def _json_rows(text: str, faults: list[tuple[int, str]]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, words in enumerate(text.split("\n"), 1):
        if not words.strip():
            continue
        try:
            row = json.loads(words, object_pairs_hook=_unique)
        except ValueError as error:
            faults.append((line, f"is no JSON: {error}"))
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            faults.append((line, 'is no object such as {"clip": "a.mp4", "expr": "a dog"}'))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _clip(
    line: int,
    row: dict[str, Any],
    folder: Path,
    usual: tuple[Selection, Fraction | None],
    faults: list[tuple[int, str]],
) -> Clip | None:
    """The run that a line asks for; None if the line has faults, which are noted."""
    found, (selection, frame_rate) = len(faults), usual
    faults.extend(
        (line, f"unknown key '{key}'{suggest(key, COLUMNS)}") for key in row if key not in COLUMNS
    )
    faults.extend((line, f"has no {key}") for key in ("clip", "expr") if row.get(key) is None)

    def tried(read: Callable[[Any], Value], key: str, absent: Value) -> Value:
        if row.get(key) is None:
            return absent
        try:
            return read(row[key])
        except CarvidError as error:
            faults.append((line, str(error)))
            return absent

    video = tried(lambda clip: _there(_string(clip, "clip"), folder), "clip", "")
    name = tried(lambda name: _safe_name(_string(name, "name")), "name", "")
    none: tuple[str, ...] = ()
    texts = tried(_texts, "expr", none)
    changes: dict[str, Any] = {
        "start_s": tried(_time, "start", selection.start_s),
        "end_s": tried(_time, "end", selection.end_s),
        "stride": tried(_stride, "stride", selection.stride),
    }
    rate = tried(_rate, "fps", frame_rate)
    if len(faults) > found:
        return None
    try:
        chosen = replace(selection, **changes)
        return Clip(name or _derived_name(video), video, texts, chosen, rate)
    except ConfigError as error:
        faults.append((line, str(error)))
        return None


def _there(video: str, folder: Path | None = None) -> str:
    """The path of a clip that is there, from a folder on."""
    path = video if folder is None else str(folder / video)
    if is_live(video) or is_live(path):
        raise ConfigError(f"'{video}' comes only once; run it alone")
    if not os.path.exists(path) and not (is_pattern(path) and images_of(path).paths):
        raise ConfigError(f"no file or folder '{path}'; give a video, an image or a folder")
    return path


def _derived_name(video: str) -> str:
    path = Path(os.path.abspath(video))
    if is_pattern(path):
        path = path.parent  # whose images it names
    name = UNSAFE.sub("_", path.name if path.is_dir() else path.stem).strip(". ")
    try:
        return _safe_name(name)
    except ConfigError:
        raise ConfigError(
            f"'{video}' gives no name for a folder; rename it, or give a name in a manifest"
        ) from None


def _safe_name(name: str) -> str:
    """A name that is that of one visible folder everywhere."""
    if not name or UNSAFE.search(name) or name.strip(". ") != name:
        raise ConfigError(
            f"the name '{name}' is none of a folder; leave out / \\ : * ? \" < > | and dots or "
            "spaces at its ends"
        )
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise ConfigError(f"the name '{name[:40]}…' is too long; give a shorter one")
    return name


def _folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"expr must be a text or a list of texts, got {value!r}")
    return Queries(tuple(texts)).texts


def _string(value: Any, key: str) -> str:
    try:
        if not value.strip() or "\0" in value:
            raise ValueError
        os.fsencode(value)
    except (AttributeError, ValueError):
        raise ConfigError(f"{key} must be a text, got {value!r}") from None
    return str(value)


def _time(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"cannot read the time {value!r}; write 12.5, '1:02.5' or '1:00:02'")
    return seconds(str(value))


def _rate(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"cannot use {value!r} frames per second; write 24 or '30000/1001'")
    return rate_of(str(value))


def _stride(value: Any) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise ConfigError(f"stride must be 1 or more, got {value!r}") from None


def _unusable(path: Path, faults: list[tuple[int, str]]) -> ConfigError:
    told = "; ".join(f"line {line}: {fault}" for line, fault in sorted(faults, key=lambda f: f[0]))
    return ConfigError(f"'{path}' cannot be used: {told}; mend it, nothing was run")
