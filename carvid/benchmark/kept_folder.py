"""A folder of predictions that can be gone on with: what it may hold, and how it begins.

run.json    what the predictions are made of; it marks the folder from the first moment
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carvid.base.errors import OVERWRITE, RESUME, OutputError
from carvid.base.files import cannot_write, make_folder, read_json, write_text
from carvid.run.earlier import differences, listed
from carvid.run.layout import (
    CHOOSE,
    MOVING,
    PROGRESS_FOLDER,
    REPLACED,
    check_contents,
    check_place,
    is_half_moved,
    set_aside,
)


@dataclass(frozen=True)
class KeptFolder:
    """A kind of folder: what lies in it."""

    names: tuple[str, ...]
    """What an earlier call left; first what makes it look whole, run.json last."""
    contents: re.Pattern[str]
    """What may be in those of `names` that are folders."""
    keys: frozenset[str]
    """What its run.json has, and that of no other folder."""
    title: str
    """What it holds, in messages."""

    def check(self, out: Path, inputs: Mapping[str, Any], *, resume: bool, overwrite: bool) -> bool:
        """Check that predictions may be written, without making anything.

        Args:
            out: the folder.
            inputs: what must be equal for them to go on.
            resume: whether to go on with what is there.
            overwrite: whether to replace it; with `resume`, if its inputs are others.

        Returns:
            Whether what is there is to be replaced.

        Raises:
            OutputError: `out` holds something else, or was made of other inputs.
        """
        if not check_place(out, holds=None):
            return overwrite
        saved = _saved_inputs(out)
        damaged = not saved and any((out / name).is_dir() for name in self.names)
        if damaged and not overwrite:
            raise OutputError(
                f"'{out / 'run.json'}' is damaged; {CHOOSE}, or replace the predictions with "
                f"{OVERWRITE}"
            )
        if not damaged and not self.keys <= saved.keys():
            raise OutputError(f"'{out}' holds something else than {self.title}; {CHOOSE}")
        others = differences(saved, inputs)
        if overwrite and (others or not resume):
            check_contents(out, self.names, self.contents)
            return True
        if others:
            raise OutputError(
                f"'{out}' holds {self.title}, of other data or with other settings: "
                f"{listed(others)}; {CHOOSE}, or replace them with {OVERWRITE}"
            )
        if not resume:
            raise OutputError(
                f"'{out}' holds predictions already; add {RESUME} to continue them, {OVERWRITE} to "
                f"replace them, or {CHOOSE}"
            )
        return False

    def begin(self, out: Path, inputs: Mapping[str, Any], *, overwrite: bool) -> None:
        """Make the folder, which its run.json marks from the first moment.

        Raises:
            OutputError: the place cannot be written.
        """
        make_folder(out)
        if overwrite or is_half_moved(out):
            try:
                set_aside(out, self.names)
            except OSError as error:
                raise cannot_write(out, str(error.strerror or error)) from None
        write_text(out / "run.json", json.dumps(inputs, indent=2, ensure_ascii=False) + "\n")


def _saved_inputs(out: Path) -> dict[str, Any]:
    """The inputs of an earlier call, though a kill came while that was set aside; or nothing."""
    for folder in (out, *(out / PROGRESS_FOLDER / name for name in (MOVING, REPLACED))):
        try:
            return dict(read_json(folder / "run.json"))
        except (OSError, ValueError, TypeError):
            continue
    return {}
