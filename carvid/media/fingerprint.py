"""Whether an input is the one that an earlier run was made of, wherever it lies by now."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from carvid.media.open import input_files, is_live

BLOCK_BYTES = 65536
"""Of a file, so much is read at each of `BLOCKS` places: all of a film would take minutes."""
BLOCKS = 16
"""Places in a file, evenly spaced; its begin and its end are among them."""


def fingerprint(source: str | Path) -> str | None:
    """Return what tells an input from others by its content, not by its path: "sha256:" and 64
    hexadecimal digits; None of what is live or cannot be read.

    Of a file they are over its size and blocks of its bytes; of a folder over the images' names and
    the first image, so that a later one that could not be read may be mended.
    """
    if is_live(source):
        return None
    files = [path for path in input_files(source) if not path.is_dir()]
    digest = hashlib.sha256()
    try:
        for path in files[:1]:
            digest.update(b"%d\0" % path.stat().st_size)
            for block in _blocks(path):
                digest.update(block)
    except OSError:
        return None
    for path in files if len(files) > 1 else ():
        digest.update(os.fsencode(path.name) + b"\0")
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
