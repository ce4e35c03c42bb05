"""Names of files and folders as text: bytes that are no UTF-8, accents in two spellings, `~`.

Python holds a byte of a name that it cannot decode as a lone surrogate, U+DC80 to U+DCFF (PEP 383).
Such a name opens its file, but no UTF-8 text can hold it: there it is escaped.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

SURROGATES = re.compile("[\ud800-\udfff]")
ESCAPED = "carvid.escaped"
"""The error handler of encodings that writes what they lack as `shown` does."""


def shown(name: object) -> str:
    r"""Return a name as text that every encoding of Unicode holds: the byte E9 shows as `\xe9`."""
    return SURROGATES.sub(lambda match: _escape(match[0]), str(name))


def is_unicode(text: str) -> bool:
    """Whether a text is Unicode throughout: no byte in it was left undecoded."""
    return not SURROGATES.search(text)


def to_unicode(text: str) -> str:
    """Return what the system gave as text (an argument, a path) with its bytes decoded as UTF-8,
    also where the system's encoding is ASCII (`LANG=C`); what is no UTF-8 stays undecoded."""
    if is_unicode(text):
        return text
    try:
        return os.fsencode(text).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text


def to_system(name: str) -> str:
    """Return what `to_unicode` gave of a path as this system opens it."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        with_bytes = name.encode("utf-8", "surrogateescape") if _only_bytes(name) else b""
        return os.fsdecode(with_bytes) or name
    return name


def existing(path: str | Path) -> Path:
    """Return the path of what is there and is called so.

    As it is, if that is there; else with `~` and environment variables replaced, with `/` for
    `\\`, or with accents in the other of Unicode's two spellings ("é" is one letter, or "e" and an
    accent); else as it is.
    """
    return existing_in(Path(), path)


def existing_in(folder: Path, path: str | Path) -> Path:
    """Return `existing` of a path that starts at a folder."""
    text = str(path)
    slashes = text.replace("\\", "/")
    if is_there(folder / text):
        return folder / text
    expanded = (os.path.expanduser(os.path.expandvars(each)) for each in (text, slashes))
    for spelling in dict.fromkeys((text, *expanded)):
        found = _spelt_alike(folder / spelling)
        if found is not None:
            return found
    return folder / text


def is_there(path: Path) -> bool:
    """Whether a file or folder is there; no name that the system refuses is."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


class ShowNames(logging.Filter):
    """Escapes undecoded names in what is logged, so that every handler can write it."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if not is_unicode(message):
            record.msg, record.args = shown(message), ()
        return True


@contextmanager
def printing_any_text() -> Iterator[None]:
    """Within the block print letters that stdout and stderr cannot encode as escapes."""
    with ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors=ESCAPED)
        yield


def _spelt_alike(path: Path) -> Path | None:
    """The path whose parts, in Unicode's composed spelling, are those of `path`; None if there is
    none."""
    if is_there(path):
        return path
    place = Path(path.anchor)
    for part in path.parts[len(place.parts) :]:
        if not is_there(place / part):
            alike = _alike_in(place, part)
            if alike is None:
                return None
            part = alike
        place /= part
    return place


def _alike_in(folder: Path, name: str) -> str | None:
    wanted = unicodedata.normalize("NFC", name)
    try:
        if wanted.isascii():
            return None
        return min(
            (each for each in os.listdir(folder) if unicodedata.normalize("NFC", each) == wanted),
            default=None,
        )
    except OSError:
        return None


def _only_bytes(name: str) -> bool:
    """Whether all surrogates in a name stand for bytes."""
    return all("\udc80" <= letter <= "\udcff" for letter in SURROGATES.findall(name))


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    bad = shown(error.object[error.start : error.end])
    return bad.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(ESCAPED, _escaped)
