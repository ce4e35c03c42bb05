"""Pickles that hold data and nothing else. A pickle is a program for Python's unpickler, which may
name any function and call it; here none can be named."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from carvid.base.errors import DatasetError

MAX_PICKLE_BYTES = 1_000_000_000
"""Longer pickles are not read; the refs of RefCOCOg have some 50 MB."""
PROTOCOL = 0x80
"""The first byte of a pickle of protocol 2 or later; the second is the protocol."""
DAMAGED = (
    pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, TypeError,
    ArithmeticError, RecursionError, MemoryError, ImportError,
)  # fmt: skip
"""What the unpickler raises at a file that is damaged or no pickle."""


class _NamesCodeError(Exception):
    """A pickle names a class or a function."""


class _DataUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries; all else has a name, and none is allowed."""

    def find_class(self, module: str, name: str) -> Any:
        raise _NamesCodeError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _NamesCodeError(str(pid))


def read_pickle(path: Path) -> Any:
    """Read a pickle that somebody else may have written, of any protocol, Python 2's too.

    Byte strings, which are Python 2's texts, become text: UTF-8, or else Latin-1.

    Raises:
        OSError: it cannot be read.
        DatasetError: it would run code, is damaged, or is no pickle.
    """
    with path.open("rb") as file:
        data = file.read(MAX_PICKLE_BYTES + 1)
    if len(data) > MAX_PICKLE_BYTES:
        raise DatasetError(
            f"'{path}' has more than {MAX_PICKLE_BYTES / 1e6:g} MB; download it anew"
        )
    try:
        try:
            value = _load(data, "ascii")
        except UnicodeDecodeError:  # texts of Python 2, beyond ASCII
            return _as_text(_load(data, "bytes"))
        # Up to protocol 2 byte strings are texts of Python 2, and a walk through all is not quick.
        return _as_text(value) if data[0] == PROTOCOL and data[1] > 2 else value
    except _NamesCodeError as error:
        raise DatasetError(
            f"'{path}' would run code when it is read (it names {str(error)[:60]!r}), which no "
            "file of refs has to; remove it, and download it from its authors"
        ) from None
    except DAMAGED as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"'{path}' cannot be read as a pickle: {told}; download it again"
        ) from None


def _load(data: bytes, encoding: str) -> Any:
    return _DataUnpickler(io.BytesIO(data), encoding=encoding).load()


def _as_text(value: Any) -> Any:
    """The value with every byte string in it as text."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    if isinstance(value, dict):
        return {_as_text(key): _as_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(each) for each in value]
    return value
