#!/usr/bin/env python
"""A command line that gets a signal in the middle: `python -m tests.signalled NAME FRAME WORD …`.

The signal comes when its n-th frame is begun, from 1: a wait for a file, in another process, would
sometimes be over when the command is.
"""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Callable
from typing import Any


def with_signal(function: Callable[..., Any], number: int, call: int) -> Callable[..., Any]:
    """Return a function whose n-th call, from 1, begins with a signal."""
    calls = itertools.count(1)

    def called(*arguments: Any, **more: Any) -> Any:
        if next(calls) == call:
            signal.raise_signal(number)
        return function(*arguments, **more)

    return called


def main(name: str, frame: int, words: list[str]) -> None:
    from carvid.cli import main as command_line
    from carvid.temporal import causal

    number = getattr(signal, name)
    causal.observe = with_signal(causal.observe, number, frame)  # type: ignore[attr-defined]
    sys.argv = ["carvid", *words]
    command_line()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
