"""One run in a folder at a time.

On Linux and macOS the folder itself is locked. So no file is left in a finished run's folder, no
empty one looks like a run's (`carvid.run.layout.check_place`), nothing is removed under another
run's hands, and whoever may read the folder is kept out: other users, other containers, and other
spellings of its path, which a lock file in the user's own cache would let in. On a network drive
it holds among the programs of one machine; those of two may have to be kept apart by their users.
Workers of a cluster that is believed lost end by themselves before others take up their work
(`carvid.workers.ray_actors`), and those wait for the lock where it does hold.

Windows locks no folders. There a hidden file in it is locked, which is removed at the end; Windows
removes no file that another program has open, so that no two runs can hold two files of this name.

Whichever it is, the system lets go when the process dies, however it dies.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout, lock_descriptor

from carvid.base.errors import OUT, OutputError
from carvid.base.files import make_folder, partial_of

PATIENCE_S = 120.0
"""How long to wait for one that may be dying, or whose machine is dead: servers of files keep a
dead machine's locks for up to 90 s."""
LOOK_S = 0.5


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and keep other runs out of it.

    A file system that knows no locks leaves it to the user.

    Raises:
        OutputError: another run is in it, or it cannot be made.
    """
    make_folder(folder)
    with _lock(folder) as is_ours:
        if not is_ours:
            raise OutputError(
                f"another run is writing to '{folder}'; wait for it, or choose another folder "
                f"with {OUT}"
            )
        yield


def wait_until_free(folder: Path, patience_s: float = PATIENCE_S) -> None:
    """Wait until no run is in a folder, if it is there, or patience is at its end."""
    until_s = time.monotonic() + patience_s
    while folder.is_dir():
        with _lock(folder) as is_ours:
            if is_ours or time.monotonic() > until_s:
                return
        time.sleep(LOOK_S)


def _lock(folder: Path) -> AbstractContextManager[bool]:
    return (_file_lock if sys.platform == "win32" else _folder_lock)(folder)


@contextmanager
def _folder_lock(folder: Path) -> Iterator[bool]:
    """Lock the folder itself; give whether nobody else has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            is_ours = lock_descriptor(descriptor, blocking=False)
        except OSError:
            is_ours = True  # no locks here
        yield is_ours
    finally:
        os.close(descriptor)  # which unlocks it


@contextmanager
def _file_lock(folder: Path) -> Iterator[bool]:
    """Lock a file in the folder; give whether nobody else has.

    By its name it is one that a kill left unfinished: a folder that holds nothing else is empty.
    """
    lock = FileLock(partial_of(folder / "run.lock"), thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    except OSError:
        yield True  # no locks here
        return
    try:
        yield True
    finally:
        lock.release()
