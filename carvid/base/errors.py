"""Everything carvid raises because of what it was given.

    CarvidError                 one readable line that ends with the remedy
    ├── ConfigError             a setting, preset or expression that cannot be used
    │   └── ExpressionError     empty, too long for the text encoder, or the same to it as another
    ├── WeightsError            model weights that are missing, or of the wrong kind
    ├── VideoError              an input that cannot be opened or decoded
    ├── OutputError             a place that cannot be written, or holds something else
    ├── DatasetError            a data set or a prediction that is not whole
    └── OutOfMemoryError        frames, queries or models too large for this machine

The command line prints these as one line and exits 1. Mistakes of a caller in Python (a wrong
dtype or shape) are `ValueError`s instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from carvid.base.names import shown

OUT = "-o (out=)"
"""What decides where a run goes, as the command line and Python call it; messages name both."""
RESUME = "--resume (resume=True)"
OVERWRITE = "--overwrite (overwrite=True)"


class CarvidError(Exception):
    """Base of every error that a user can mend; `str(error)` is one line with the remedy."""

    def __str__(self) -> str:
        return shown(super().__str__())  # names of files may hold what no UTF-8 text can


class ConfigError(CarvidError):
    """A setting, a preset or a command that cannot be used."""


class ExpressionError(ConfigError):
    """An expression that is empty, too long for the text encoder, or the same to it as another."""


class WeightsError(CarvidError):
    """Model weights that are missing, unreadable, or of the wrong kind."""


class VideoError(CarvidError):
    """An input that cannot be opened or decoded."""


class OutputError(CarvidError):
    """A place that cannot be written to, or that holds something else."""


class DatasetError(CarvidError):
    """A data set or a set of predictions that is not whole or not of the expected form."""


class OutOfMemoryError(CarvidError):
    """The memory, of this machine or of its GPU, is too small for what was asked."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the closest of `known`, or the whole list if none is."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(known)}"
