"""Videos and the expressions that name things in them, and `meta_expressions.json`, which holds
them for Ref-DAVIS (ReferFormer's form), Ref-YouTube-VOS, Long-RVOS, MeViS and ReVOS alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carvid.base.errors import DatasetError
from carvid.base.files import read_json, write_text

META_NAME = "meta_expressions.json"
META_FOLDER = "meta_expressions"
"""Holds a folder for each split, with the file in it; MeViS keeps the file beside the images."""

_META_FORM = (
    'write {"videos": {name: {"expressions": {"0": {"exp": …, "obj_id": …}}, "frames": […]}}}'
)


@dataclass(frozen=True)
class Expression:
    """A sentence that names something in a video."""

    key: str
    """Its key in `meta_expressions.json`; in Ref-DAVIS 4 · (object − 1) + set."""
    text: str
    object_id: int | None
    """The object's label in the truth, from 1; None where the data set does not publish it."""
    annotations: tuple[str, ...] | None = None
    """Ids in `mask_dict.json` of all that it names, none if it names nothing; None where the data
    set has no such ids, or does not publish them (MeViS, ReVOS)."""
    kind: str = ""
    """Long-RVOS: `static`, `dynamic` or `hybrid`; ReVOS: the number of its type."""


@dataclass(frozen=True)
class Video:
    """A video with its expressions.

    Raises:
        DatasetError: its name, a frame's or a key cannot be the name of a file or folder.
    """

    name: str
    frames: tuple[str, ...]
    """Names of the frames, in order, without suffix; empty where only texts are known."""
    expressions: tuple[Expression, ...]
    nested: bool = False
    """Whether its name is a path of folders, as in ReVOS (`UVO/all/…`)."""

    def __post_init__(self) -> None:
        parts = self.name.split("/") if self.nested else [self.name]
        for name in (*parts, *self.frames, *(e.key for e in self.expressions)):
            _check_name(name)


def find_meta(root: Path, split: str) -> Path | None:
    """Return a data set's `meta_expressions.json`: the first of `meta_places`, None without one."""
    return next((path for path in meta_places(root, split) if path.is_file()), None)


def meta_places(root: Path, split: str) -> tuple[Path, ...]:
    """Return where `meta_expressions.json` is looked for, in this order."""
    return (root / META_FOLDER / split / META_NAME, root / split / META_NAME, root / META_NAME)


def read_meta(path: Path, *, nested: bool = False) -> tuple[Video, ...]:
    """Read `meta_expressions.json`, of any of the data sets that have one.

    Args:
        path: the file.
        nested: whether names of videos are paths of folders.

    Raises:
        DatasetError: unreadable, or of another form.
    """
    try:
        values = read_json(path, encoding="utf-8-sig")
        return tuple(_video(name, entry, nested) for name, entry in values["videos"].items())
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}; check the path") from None
    except KeyError as error:
        raise DatasetError(f"'{path}' lacks the key {error}; {_META_FORM}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}; {_META_FORM}") from None


def write_meta(path: Path, videos: Iterable[Video]) -> None:
    """Write `meta_expressions.json`; the file is whole or absent."""
    values = {
        video.name: {
            "expressions": {
                e.key: {"exp": e.text}
                | ({} if e.object_id is None else {"obj_id": str(e.object_id)})
                for e in video.expressions
            },
            "frames": list(video.frames),
        }
        for video in videos
    }
    write_text(path, json.dumps({"videos": values}, indent=1, ensure_ascii=False))


def _video(name: str, entry: dict[str, Any], nested: bool) -> Video:
    return Video(
        name,
        tuple(str(frame) for frame in entry["frames"]),
        tuple(
            Expression(
                key, str(each["exp"]), _object_id(each.get("obj_id")),
                _annotations(each.get("anno_id")), str(each.get("type", each.get("type_id", ""))),
            )
            for key, each in entry["expressions"].items()
        ),
        nested,
    )  # fmt: skip


def _annotations(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    ids = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(str(each) for each in ids))


def _object_id(value: Any) -> int | None:
    # MeViS gives lists: an expression there names several objects, which no label stands for.
    return None if value is None or isinstance(value, list) else int(value)


def _check_name(name: str) -> None:
    """Refuse what would lead out of the folder that it is put into."""
    if name in ("", ".", "..") or not set("/\\\0").isdisjoint(name):
        raise DatasetError(
            f"{name!r} is the name of a video, a frame or an expression, and none of a file; "
            "rename it"
        )
