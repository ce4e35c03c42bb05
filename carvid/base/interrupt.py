"""Ctrl-C ends a run after the frame at hand, whichever file is being written."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

log = logging.getLogger("carvid")

T = TypeVar("T")


def never() -> bool:
    """Say that nobody wants to stop."""
    return False


def stopping(items: Iterable[T], stop: Callable[[], bool]) -> Iterator[T]:
    """Yield items until someone wants to stop.

    Raises:
        KeyboardInterrupt: `stop` said so, before an item or after the last.
    """
    for item in items:
        if stop():
            raise KeyboardInterrupt
        yield item
    if stop():
        raise KeyboardInterrupt


@contextmanager
def finishing_frames() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether Ctrl-C was pressed; pressed again, it ends all at once.

    To be used in the main thread, which alone gets signals.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt
        asked = True
        log.warning("finishing the frame; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
