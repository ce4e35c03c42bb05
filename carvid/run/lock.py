"""One run in a folder at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carvid.base.errors import OutputError
from carvid.base.files import make_folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and keep other runs out of it; the system lets go when a process dies.

    The folder itself is locked, so that nothing is left in it. Windows, which cannot, and file
    systems without locks leave it to the user.

    Raises:
        OutputError: another run is in it, or it cannot be made.
    """
    make_folder(folder)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"another run is writing to '{folder}'; wait for it, or choose another folder "
                "with -o"
            ) from None
        except OSError:
            pass  # no locks here
        yield
    finally:
        os.close(place)
