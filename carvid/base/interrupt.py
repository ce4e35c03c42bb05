"""Somebody wants to stop: the frame at hand is finished, whatever is being made of it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import TypeVar

log = logging.getLogger("carvid")

T = TypeVar("T")


class Stopped(KeyboardInterrupt):
    """Somebody wanted to stop, and the frame at hand is done."""


def never() -> bool:
    """Say that nobody wants to stop."""
    return False


_wanted: ContextVar[Callable[[], bool]] = ContextVar("stop wanted", default=never)


@contextmanager
def stop_when(wanted: Callable[[], bool]) -> Iterator[None]:
    """Let `wanted` say, until the block ends, whether `until_stopped` stops."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def until_stopped(items: Iterable[T]) -> Iterator[T]:
    """Yield items until somebody wants to stop, which is asked after each.

    Raises:
        Stopped: somebody did; after the last item, too.
    """
    wanted = _wanted.get()
    for item in items:
        yield item
        if wanted():
            raise Stopped


class EndingQuietly:
    """Ends items where somebody wants to stop, which is asked after each, as if there were no more;
    for what will not come again."""

    def __init__(self) -> None:
        self.stopped = False
        """Whether somebody did."""

    def __call__(self, items: Iterable[T]) -> Iterator[T]:
        wanted = _wanted.get()
        for item in items:
            yield item
            if wanted():
                self.stopped = True
                return


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
