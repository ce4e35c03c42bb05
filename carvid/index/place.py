"""An index's folder: what lies where in it, and whether an index may go there. Without torch."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from carvid.base.errors import OVERWRITE, RESUME, OutputError
from carvid.base.files import is_partial, read_json
from carvid.config.presets import INDEX_JSON
from carvid.index.facts import PROGRESS_JSON
from carvid.run.layout import CHOOSE, LITTER, check_makeable
from carvid.run.progress import NOT_OURS

PIECES = "pieces"
INDEX_NAMES = (INDEX_JSON, PROGRESS_JSON, PIECES)
"""All that is in an index's folder, in the order in which it is removed: what is half gone looks
like no index."""
CONTENTS = re.compile(r"pieces/\d{5,}\.(?:npz|jpg)")
"""What is in `PIECES`."""


def earlier_index(folder: Path, *, known: bool) -> dict[str, Any] | None:
    """Return what an earlier index in a folder was made of, empty if it is too damaged to say;
    None if there is none.

    Args:
        folder: where an index is to go.
        known: the user has said what becomes of an earlier one.

    Raises:
        OutputError: the folder holds something else, or cannot be written; or there is an index,
            and nobody has said what becomes of it.
    """
    check_makeable(folder)
    found = _found(folder)
    if found is not None and not known:
        raise OutputError(
            f"'{folder}' holds an index already; go on with {RESUME}, replace it with {OVERWRITE}, "
            f"or {CHOOSE}"
        )
    return found


def _found(folder: Path) -> dict[str, Any] | None:
    if not folder.exists():
        return None
    for path in (folder / INDEX_JSON, folder / PROGRESS_JSON):
        with suppress(OSError, *NOT_OURS):
            values = read_json(path)
            values = values["inputs"] if path.name == PROGRESS_JSON else values
            if "index" in values:
                return dict(values)
    names = [path.name for path in folder.iterdir() if not is_partial(path)]
    if set(names) <= {*INDEX_NAMES, *LITTER}:
        return {} if {INDEX_JSON, PROGRESS_JSON} & set(names) else None
    raise OutputError(f"'{folder}' exists and holds something else; {CHOOSE}")


def check_outside(out: Path, folder: Path) -> None:
    """Refuse to write a run into the folder of an index.

    Raises:
        OutputError: `out` is it, or in it.
    """
    place, index = Path(os.path.realpath(out)), Path(os.path.realpath(folder))
    if place.is_relative_to(index):
        raise OutputError(f"'{out}' is in the index '{folder}'; {CHOOSE}")


def index_files(folder: Path) -> list[Path]:
    """Return the folders and files of an index."""
    pieces = folder / PIECES
    return [folder, folder / INDEX_JSON, pieces, *pieces.glob("*")]
