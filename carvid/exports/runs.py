"""The finished runs in folders that a user names: runs, and batches of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from carvid.base.errors import OutputError
from carvid.base.names import existing
from carvid.base.words import plural
from carvid.media.sequences import natural_key
from carvid.run.layout import PROGRESS_FOLDER
from carvid.run.track import Track

log = logging.getLogger("carvid")


class Runs(Mapping[str, Track]):
    """Runs in folders, by name, each opened anew when it is asked for: a thousand take no more
    memory than one.

    Args:
        folders: name → the run's folder.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)

    def __getitem__(self, name: str) -> Track:
        return Track.open(self._folders[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)


def is_run(folder: Path) -> bool:
    """Whether a folder is to be that of one run: it holds no others."""
    folder = existing(folder)
    return _holds_run(folder) or not _runs_in(folder)


def find_runs(folders: Sequence[Path]) -> Runs:
    """Return the runs that folders are, or, of a batch, hold, in the order that is given and in
    natural order; named as their folders, with a number where two are named alike. What is not
    finished in a batch is left out, which is logged.

    Raises:
        OutputError: a folder is no run and holds none, or one is given twice.
    """
    found: dict[str, Path] = {}
    seen: dict[Path, Path] = {}
    for given in folders:
        folder = existing(given)
        if not _holds_run(folder) and not (below := _runs_in(folder)):
            raise OutputError(
                f"'{folder}' is no folder of a finished run, and holds none; give what carvid run "
                "-o made"
            )
        for run in [folder] if _holds_run(folder) else below:
            other = seen.setdefault(run.resolve(), run)
            if other is not run:
                raise OutputError(f"'{run}' is the run '{other}' again; give each run once")
            found[_free(run.resolve().name, found)] = run
    return Runs(found)


def _free(name: str, taken: Mapping[str, Path]) -> str:
    """A name, with a number if it is taken."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _holds_run(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def _runs_in(folder: Path) -> list[Path]:
    """The finished runs right in a folder, in natural order; others are told."""
    if not folder.is_dir():
        return []
    below = sorted(
        (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")),
        key=lambda path: natural_key(path.name),
    )
    runs = [path for path in below if _holds_run(path)]
    begun = [path for path in below if path not in runs and (path / PROGRESS_FOLDER).is_dir()]
    if begun and runs:
        log.warning(
            "'%s': left out, as unfinished: %s, '%s' for one", folder, plural(len(begun), "run"),
            begun[0].name,
        )  # fmt: skip
    return runs
