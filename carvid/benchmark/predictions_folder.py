"""The folder of predictions for a data set as a whole: what it may hold, and how it begins.

out/run.json      version, data set, resolved settings
…                 what `jobs.py` draws
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from carvid.base.errors import OVERWRITE, RESUME, OutputError
from carvid.base.files import cannot_write, make_folder, read_json, write_text
from carvid.base.guard import check_apart
from carvid.benchmark.jobs import RUNS_FOLDER
from carvid.clip.content import contents_meanwhile
from carvid.config import Config
from carvid.datasets.open import is_inside
from carvid.datasets.refdavis import SET_NAMES
from carvid.datasets.video_dataset import VideoDataset
from carvid.evaluation.protocols import EXPRESSION_FOLDER
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
from carvid.version import __version__

NAMES = (RUNS_FOLDER, *SET_NAMES, EXPRESSION_FOLDER, "run.json")
"""What an earlier call left; runs first: none may look whole when its masks are gone."""
CONTENTS = re.compile(
    r"runs/[^/]+/[^/]+/(\.carvid/)?(run\.json|progress\.json|scores\.csv)"
    r"|anno_\d/[^/]+/[^/]+\.png|expressions/[^/]+/[^/]+/[^/]+\.png"
)
"""What may be in its folders."""


def inputs_of(
    config: Config, dataset: VideoDataset, split: str, resolution: str | None
) -> dict[str, Any]:
    """Return what must be equal for predictions to go on; run.json holds it."""
    facts = {"root": str(dataset.root), "split": split, "resolution": resolution}
    with contents_meanwhile(config) as contents:
        pass  # before any is loaded: whether anything need be is not yet known
    return {"carvid": __version__, "dataset": facts, "config": config.to_dict(),
            "contents": contents()}  # fmt: skip


def check_out(
    out: Path,
    dataset: VideoDataset,
    inputs: dict[str, Any],
    read: Iterable[Path],
    *,
    resume: bool,
    overwrite: bool,
) -> bool:
    """Check that predictions may be written, without making anything.

    Args:
        out: the folder.
        dataset: what is predicted for.
        inputs: of `inputs_of`.
        read: files that are read.
        resume: whether to go on with what is there.
        overwrite: whether to replace it; with `resume`, if its settings are others.

    Returns:
        Whether what is there is to be replaced.

    Raises:
        OutputError: `out` holds something else, or other settings than these, or is where the data
            set or something else is read from.
    """
    check_apart(read, [out / name for name in NAMES])
    if is_inside(dataset, out):
        raise OutputError(
            f"'{out}' is in the data set '{dataset.root}', of which it would become a "
            f"part; {CHOOSE}"
        )
    if not check_place(out, holds=None):
        return overwrite
    saved = _saved_inputs(out)
    damaged = not saved and (out / RUNS_FOLDER).is_dir()
    if damaged and not overwrite:
        raise OutputError(
            f"'{out / 'run.json'}' is damaged; {CHOOSE}, or replace the predictions with "
            f"{OVERWRITE}"
        )
    if not damaged and not {"carvid", "dataset"} <= saved.keys():
        raise OutputError(f"'{out}' holds something else than predictions for a data set; {CHOOSE}")
    others = differences(saved, inputs)
    if overwrite and (others or not resume):
        check_contents(out, NAMES, CONTENTS)
        return True
    if others:
        raise OutputError(
            f"'{out}' holds predictions for another data set or with other settings: "
            f"{listed(others)}; {CHOOSE}, or replace them with {OVERWRITE}"
        )
    if not resume:
        raise OutputError(
            f"'{out}' holds predictions already; add {RESUME} to continue them, {OVERWRITE} to "
            f"replace them, or {CHOOSE}"
        )
    return False


def begin_out(out: Path, inputs: dict[str, Any], *, overwrite: bool) -> None:
    """Make the folder, which its run.json marks as one of predictions from the first moment.

    Raises:
        OutputError: the place cannot be written.
    """
    make_folder(out)
    if overwrite or is_half_moved(out):
        try:
            set_aside(out, NAMES)
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
