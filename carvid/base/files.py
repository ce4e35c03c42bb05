"""Files that are whole or not there: everything is written beside its place and renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from carvid.base.errors import OUT, OutputError

MAX_TEXT_BYTES = 64_000_000
"""Longer texts are not read; the expressions of the largest data sets have some 20 MB."""
PARTIAL = ".part"
"""In the names of files that are being written; a kill may leave one."""


def is_partial(path: Path) -> bool:
    """Whether a file is what a kill left of one that was being written."""
    return path.name.startswith(".") and PARTIAL in path.suffixes


def partial_of(path: Path, tag: str = "") -> Path:
    """Return the hidden name beside `path` under which it is written; `tag` makes it another."""
    return path.with_name(f".{path.stem}{tag}{PARTIAL}{path.suffix}")


@contextmanager
def replacing(path: Path, *, tag: str = "") -> Iterator[Path]:
    """Give a hidden name beside `path`, of the same suffix, to write to; rename it at the end.

    An exception removes the temporary file and leaves what was at `path` as it was.

    Args:
        path: where it goes.
        tag: of the temporary file's name, where several may write to one place at a time.

    Raises:
        OutputError: the place cannot be written.
    """
    partial = partial_of(path, tag)
    with suppress(OSError):
        partial.unlink(missing_ok=True)  # it may be a link, through which something was written
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, str(error.strerror or error)) from error
    finally:
        with suppress(OSError):  # a place that cannot be written has no such file, either
            partial.unlink(missing_ok=True)


def cannot_write(path: Path, reason: str) -> OutputError:
    """Return the error of a place that the system refuses to write."""
    return OutputError(f"cannot write '{path}': {reason}; free some space or choose another place")


def make_folder(path: Path) -> None:
    """Make a folder with its parents.

    Raises:
        OutputError: it cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder '{path}': {error.strerror or error}; choose another with {OUT}"
        ) from None


def write_text(path: Path, text: str) -> None:
    r"""Write UTF-8 text to a whole file.

    A name's byte that is no UTF-8 is written as `\udce9`, which JSON reads back as that name.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_text(path: Any, *, limit: int = MAX_TEXT_BYTES, encoding: str = "utf-8") -> str:
    """Read a text that somebody else may have written.

    Raises:
        OSError: it cannot be read.
        ValueError: it has more than `limit` bytes, or another encoding.
    """
    data = bytearray()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            data += part
            if len(data) > limit:
                raise ValueError(f"it has more than {limit / 1e6:g} MB")
    return data.decode(encoding)


def read_json(path: Path, *, encoding: str = "utf-8") -> Any:
    """Read JSON that somebody else may have written.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, too large, or nested too deep.
    """
    try:
        return json.loads(read_text(path, encoding=encoding))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def shipped_folder(name: str) -> Any:
    """Return a folder that carvid brings: in a wheel package data, in a checkout at its root."""
    packaged = resources.files("carvid") / name
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / name
