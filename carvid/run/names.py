"""What masks are called: 00000.png on, or as the frames that they belong to."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath

from carvid.base.errors import OutputError


def png_name(name: str) -> str:
    """Return a frame's name as that of a PNG: `a/shot.1001.jpg` → `a/shot.1001.png`. What is after
    the last dot stays if it is a number."""
    stem, dot, suffix = name.rpartition(".")
    is_suffix = dot and stem and "/" not in suffix and not suffix.isdigit()
    return f"{stem if is_suffix else name}.png"


def check_names(names: Sequence[str], source: str) -> None:
    """Say early that masks cannot be named as the frames of `source`.

    Raises:
        OutputError: the frames have no names, or two masks would have one.
    """
    if not names:
        raise OutputError(
            f"the frames of '{source}' have no names to keep; leave --keep-names away"
        )
    seen: dict[str, str] = {}
    for name in names:
        # Some file systems take capitals for small letters, and one accent's spellings for another.
        key = unicodedata.normalize("NFC", png_name(name)).casefold()
        other = seen.setdefault(key, name)
        if other is not name:
            raise OutputError(
                f"masks of '{other}' and '{name}' would have one name; rename one, or leave "
                "--keep-names away"
            )


def is_inside(name: str) -> bool:
    """Whether a name, which somebody may have written, stays in the folder that it is put in."""
    path, other = PurePosixPath(name), PureWindowsPath(name)
    parts = {*path.parts, *other.parts}
    return bool(name) and ".." not in parts and "\0" not in name and not (path.root or other.anchor)
