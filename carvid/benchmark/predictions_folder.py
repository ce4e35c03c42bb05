"""The folder of predictions for a data set of videos as a whole.

out/run.json      version, data set, resolved settings
…                 what `jobs.py` draws
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from carvid.base.errors import OutputError
from carvid.base.guard import check_apart
from carvid.benchmark.jobs import RUNS_FOLDER
from carvid.benchmark.kept_folder import KeptFolder
from carvid.clip.content import contents_meanwhile
from carvid.config import Config
from carvid.datasets.open import is_inside
from carvid.datasets.refdavis import SET_NAMES
from carvid.datasets.video_dataset import VideoDataset
from carvid.evaluation.predicted_files import EXPRESSION_FOLDER
from carvid.run.layout import CHOOSE
from carvid.sam.installed import maker_in_json
from carvid.version import __version__

FOLDER = KeptFolder(
    # Runs first: none may look whole when its masks are gone.
    names=(RUNS_FOLDER, *SET_NAMES, EXPRESSION_FOLDER, "run.json"),
    contents=re.compile(
        r"runs/([^/]+/){2,}(\.carvid/)?(run\.json|progress\.json|scores\.csv)"
        r"|anno_\d/[^/]+/[^/]+\.png|expressions/([^/]+/){2,}[^/]+\.png"
    ),
    keys=frozenset({"carvid", "dataset"}),
    title="predictions for a data set",
)


def inputs_of(
    config: Config, dataset: VideoDataset, split: str, resolution: str | None
) -> dict[str, Any]:
    """Return what must be equal for predictions to go on; run.json holds it."""
    facts = {"root": str(dataset.root), "split": split, "resolution": resolution}
    with contents_meanwhile(config) as contents:
        pass  # before any is loaded: whether anything need be is not yet known
    return {"carvid": __version__, "dataset": facts, "config": config.to_dict(),
            "contents": contents(), **maker_in_json(config.sam)}  # fmt: skip


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
    check_apart(read, [out / name for name in FOLDER.names])
    if is_inside(dataset, out):
        raise OutputError(
            f"'{out}' is in the data set '{dataset.root}', of which it would become a "
            f"part; {CHOOSE}"
        )
    return FOLDER.check(out, inputs, resume=resume, overwrite=overwrite)
