"""What a network remembered at the frame that a state was left at: a file beside the progress.

It is megabytes of numbers, which JSON would make longer and slower. The file of a newer frame is
written first, then the progress, which names it; then the older ones are removed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from carvid.base.files import replacing
from carvid.temporal.followed import KINDS, Followed

NAME = "sam2-{}.npz"
"""By how many frames were done."""


class FollowedState(Protocol):
    """A state that knows what a network follows."""

    @property
    def followed(self) -> Followed | None:
        """What it follows; None where flow carries masks."""


State = TypeVar("State", bound=FollowedState)


class MemoryFiles:
    """The memory of a state, in a folder.

    Args:
        folder: the one of the progress.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, state: State, done: int) -> tuple[State, str | None]:
        """Write the memory of the state that `done` frames have left, if it has one and it is not
        there; return the state without it, and the file's name.

        Raises:
            OutputError: the place cannot be written.
        """
        followed = state.followed
        if followed is None or followed.memory is None:
            return state, None
        path = self._folder / NAME.format(done)
        if not path.exists():
            with replacing(path) as partial:
                np.savez(partial, **followed.memory)  # type: ignore[arg-type]
        return _with(state, followed.between()), path.name

    def read(self, state: State, name: str | None) -> State:
        """Return a state with the memory of a file that `write` has named.

        Raises:
            ValueError: there is no such file, or it is damaged.
        """
        if name is None or state.followed is None:
            return state
        if Path(name).name != name:
            raise ValueError(f"'{name}' is no name of a file")
        try:
            with (self._folder / name).open("rb") as file:
                arrays = np.load(file, allow_pickle=False)
                memory = {key: arrays[key] for key in arrays.files}
        except (OSError, EOFError, LookupError, zipfile.BadZipFile) as error:
            raise ValueError(f"no memory in '{name}': {error}") from None
        _check(memory)
        return _with(state, replace(state.followed, memory=memory))

    def keep(self, name: str | None) -> None:
        """Remove all files but one; what cannot be removed stays."""
        for path in self._folder.glob(NAME.format("*")):
            if path.name != name:
                with suppress(OSError):
                    path.unlink()


def _with(state: State, followed: Followed) -> State:
    changed: State = replace(state, followed=followed)  # type: ignore[type-var]
    return changed


def _check(memory: Mapping[str, NDArray[Any]]) -> None:
    for name, array in memory.items():
        if str(array.dtype) not in KINDS:
            raise ValueError(f"'{name}' is of {array.dtype}")
