"""Which queries go through the loop together: in semantic mode things, and stuff after them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carvid.car.queries import Queries
from carvid.config import Config


@dataclass(frozen=True)
class Pass:
    """Queries that compete with each other in the loop."""

    queries: tuple[int, ...]
    """Indices into `Queries.all`."""
    background: tuple[str, ...]
    """The texts that compete with them, and that nobody asked for."""


def passes_of(queries: Queries, config: Config) -> tuple[Pass, ...]:
    """Return the passes of a frame: all queries in one; in semantic mode, where some name stuff,
    things first, then stuff, with the things' names as its background words (the released code)."""
    stuff = stuff_rows(queries, config)
    everyone, words = tuple(range(len(queries.all))), config.proposals.background
    if config.car.mode != "semantic" or stuff.all() or not stuff.any():
        return (Pass(everyone, words),)
    things = tuple(i for i in everyone if not stuff[i])
    names = tuple(dict.fromkeys(queries.all[i] for i in things))
    return Pass(things, words), Pass(tuple(np.flatnonzero(stuff).tolist()), names)


def stuff_rows(queries: Queries, config: Config) -> NDArray[np.bool_]:
    """Return which queries name stuff, bool (Q,): by `Queries.stuff` or `prompts.stuff`."""
    names = queries.stuff.union(config.prompts.stuff)
    return np.array([text in names for text in queries.all], bool)
