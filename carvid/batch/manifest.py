"""Which clips a batch has: those of the command line, or the lines of a manifest.

    clips.csv      a header and a row for each expression; rows that differ in nothing else are
                   one run; `carvid.batch.tables` says what spreadsheets may make of it
    clips.jsonl    an object a line, each one run; its expr is a string or a list of them

Of the columns (or keys) `COLUMNS`, clip and expr are needed. Paths start at the manifest's folder.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from carvid.base.errors import CarvidError, ConfigError, suggest
from carvid.base.names import existing, existing_in, is_there, is_unicode
from carvid.batch.tables import Columns, Fault, decoded, read_table
from carvid.car.classes import Classes, Texts, queries_of
from carvid.car.queries import Queries
from carvid.media.frames import ALL, Selection, rate_of, seconds
from carvid.media.open import is_live
from carvid.media.sequences import images_of, is_pattern

COLUMNS = ("clip", "expr", "start", "end", "stride", "fps", "name")
CLIP_COLUMNS = Columns(
    known=COLUMNS,
    needed=("clip", "expr"),
    other_names={
        "video": "clip", "file": "clip", "path": "clip", "expression": "expr",
        "expressions": "expr", "text": "expr", "texts": "expr",
    },
    numbers=("start", "end"),
)  # fmt: skip
TABLES = (".csv", ".tsv", ".txt")
JSON_LINES = (".jsonl", ".ndjson")
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
"""How the files of spreadsheets begin, of Excel since 2007, LibreOffice and Numbers, and older."""
NOT_UTF8 = "is not UTF-8; save the manifest as CSV in UTF-8"
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
    classes: Classes | None = None
    """What the texts are the names of, if they are classes."""

    @property
    def asked(self) -> Classes | tuple[str, ...]:
        """What is to be found."""
        return self.classes or self.texts


def read_manifest(
    path: Path, selection: Selection = ALL, frame_rate: Fraction | None = None
) -> list[Clip]:
    """Read the clips that a CSV or JSON Lines file lists.

    Args:
        path: ends in .csv, .tsv or .txt, or in .jsonl or .ndjson.
        selection: of the clips whose lines say nothing else.
        frame_rate: likewise, of images.

    Raises:
        ConfigError: it cannot be used; the message lists every line's faults.
    """
    path = existing(path)
    read_rows = _reader_of(path)
    faults: list[Fault] = []
    rows = list(read_rows(_text_of(path), faults))
    usual = (selection, frame_rate)
    clips = [(line, _clip(line, row, path.parent, usual, faults)) for line, row in rows]
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
    texts: Texts,
    selection: Selection = ALL,
    frame_rate: Fraction | None = None,
) -> list[Clip]:
    """Return one run for each video, with the same expressions or classes.

    Raises:
        ConfigError: a video is not there, or two would share a folder; all of that at once.
        ExpressionError: an expression is empty.
    """
    asked, classes = queries_of(texts), texts if isinstance(texts, Classes) else None
    clips: dict[str, Clip] = {}
    faults = []
    for video in videos:
        try:
            place = _derived_name(video), _there(video)
            clip = Clip(*place, asked.texts, selection, frame_rate, classes)
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


def _reader_of(path: Path) -> Callable[[str, list[Fault]], Iterator[tuple[int, dict[str, Any]]]]:
    suffix = path.suffix.lower()
    if suffix in SPREADSHEETS:
        raise _spreadsheet(path)
    if suffix in TABLES:
        return _csv_rows
    if suffix in JSON_LINES:
        return _json_rows
    raise ConfigError(f"'{path}' is no manifest; give a file that ends in .csv or .jsonl")


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the manifest '{path}': {error.strerror}; give another"
        ) from None
    if data.startswith((ZIP, OLE)):
        raise _spreadsheet(path)
    try:
        return decoded(data)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"cannot read the manifest '{path}' as {error.encoding.upper()}: {error.reason}; save "
            "it as CSV in UTF-8"
        ) from None


def _spreadsheet(path: Path) -> ConfigError:
    return ConfigError(
        f"'{path}' is a spreadsheet; save it as CSV in UTF-8 (in Excel \"CSV UTF-8\"), and give "
        "that"
    )


def _csv_rows(text: str, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The runs, each with its first line; rows of one run are joined."""
    runs: dict[tuple[tuple[str, str], ...], tuple[int, dict[str, Any]]] = {}
    for line, row in read_table(text, CLIP_COLUMNS, faults):
        if "expr" not in row:
            yield line, row  # whose fault that is
            continue
        if not is_unicode(row["expr"]):
            faults.append((line, NOT_UTF8))
            continue
        expression = row.pop("expr")
        _, run = runs.setdefault(tuple(row.items()), (line, row | {"expr": []}))
        run["expr"].append(expression)
    yield from runs.values()


def _json_rows(text: str, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
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
    faults: list[Fault],
) -> Clip | None:
    """The run that a line asks for; None if the line has faults, which are noted."""
    found, (selection, frame_rate) = len(faults), usual
    row = {CLIP_COLUMNS.name_of(key): value for key, value in row.items()}
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
    if is_live(video):
        raise ConfigError(f"'{video}' comes only once; run it alone")
    path = existing(video) if folder is None else existing_in(folder, video)
    if is_live(path):
        raise ConfigError(f"'{video}' comes only once; run it alone")
    if not is_there(path) and not (is_pattern(path) and images_of(path).paths):
        if folder is not None and not is_unicode(video):  # else it would be there
            raise ConfigError(NOT_UTF8)
        raise ConfigError(f"no file or folder '{path}'; give a video, an image or a folder")
    return str(path)


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


def _unusable(path: Path, faults: list[Fault]) -> ConfigError:
    told = "; ".join(f"line {line}: {fault}" for line, fault in sorted(faults, key=lambda f: f[0]))
    return ConfigError(f"'{path}' cannot be used: {told}; mend it, nothing was run")
