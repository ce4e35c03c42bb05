"""One run in a folder at a time.

On Linux and macOS the folder itself is locked. So no file is left in a finished run's folder, no
empty one looks like a run's (`carvid.run.layout.check_place`), nothing is removed under another
run's hands, and whoever may read the folder is kept out: other users, other containers, and other
spellings of its path, which a lock file in the user's own cache would let in. On a network drive
it holds among the programs of one machine; those of two may have to be kept apart by their users.

Windows locks no folders. There a hidden file in it is locked, which is removed at the end; Windows
removes no file that another program has open, so that no two runs can hold two files of this name.

Whichever it is, the system lets go when the process dies, however it dies.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout, lock_descriptor

from carvid.base.errors import OUT, OutputError
from carvid.base.files import make_folder, partial_of


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and keep other runs out of it.

    A file system that knows no locks leaves it to the user.

    Raises:
        OutputError: another run is in it, or it cannot be made.
    """
    make_folder(folder)
    lock = _file_lock if sys.platform == "win32" else _folder_lock
    with lock(folder) as is_ours:
        if not is_ours:
            raise OutputError(
                f"another run is writing to '{folder}'; wait for it, or choose another folder "
                f"with {OUT}"
            )
        yield


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
