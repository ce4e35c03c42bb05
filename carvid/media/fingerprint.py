"""Whether an input is the one that an earlier run was made of, wherever it lies by now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from carvid.media.open import input_files, is_live

BLOCK_BYTES = 65536
"""Of a file, so much is read at each of `BLOCKS` places: all of a film would take minutes."""
BLOCKS = 16
"""Places in a file, and files among many images, evenly spaced; the last ones are among them."""

T = TypeVar("T")


def fingerprint(source: str | Path) -> str | None:
    """Return what tells an input from others by its content, not by its path: "sha256:" and 64
    hexadecimal digits over sizes, of images names, and blocks of bytes; None of what is live or
    cannot be read."""
    if is_live(source):
        return None
    files = [path for path in input_files(source) if not path.is_dir()]
    digest = hashlib.sha256()
    try:
        for path in files:
            name = os.fsencode(path.name) if len(files) > 1 else b""
            digest.update(b"%b\0%d\0" % (name, path.stat().st_size))
        for path in _spread(files):
            for block in _blocks(path):
                digest.update(block)
    except OSError:
        return None
    return f"sha256:{digest.hexdigest()}" if files else None


def _blocks(path: Path) -> list[bytes]:
    """Blocks of a file; all of one that is not longer."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= BLOCKS * BLOCK_BYTES:
            return [file.read()]
        blocks = []
        for place in range(BLOCKS):
            file.seek(place * (size - BLOCK_BYTES) // (BLOCKS - 1))
            blocks.append(file.read(BLOCK_BYTES))
        return blocks


def _spread(items: Sequence[T]) -> list[T]:
    """All items, or `BLOCKS` of them, evenly spaced."""
    last = len(items) - 1
    if last < BLOCKS:
        return list(items)
    return [items[place * last // (BLOCKS - 1)] for place in range(BLOCKS)]
