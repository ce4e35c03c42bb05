"""Somebody wants to stop: the frame at hand is finished, whatever is being made of it."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import TypeVar

log = logging.getLogger("carvid")

T = TypeVar("T")
_HANGUP = getattr(signal, "SIGHUP", None)
"""Windows has none."""
ENDING_SIGNALS = [signal.SIGTERM] + ([] if _HANGUP is None else [_HANGUP])
"""They end a program, as Ctrl-C does."""
SAME_WISH_S = 1.0
"""A SIGHUP that comes so soon after another signal is none of impatience: a closed terminal and
systemd send several, seconds."""
_received: list[tuple[int, float]] = []
"""Signals that came within `ending_signals`, in order, each with its time, s."""


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
def ending_signals() -> Iterator[None]:
    """Let SIGTERM (`docker stop`, Slurm, systemd) and SIGHUP (a closed terminal) end the block as
    Ctrl-C does, by a KeyboardInterrupt; what the caller ignores, as nohup does, stays ignored.

    Elsewhere than in the main thread, which alone gets signals, it does nothing.
    """
    _received.clear()
    with _handled(_raise, [*ENDING_SIGNALS]):
        yield


def exit_status() -> int:
    """Return the exit status of a program that a signal has ended, 128 and its number: 130 after
    Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (_received[-1][0] if _received else signal.SIGINT)


@contextmanager
def finishing_frames() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether Ctrl-C, SIGTERM or SIGHUP came; a second one ends all at
    once.

    To be used in the main thread, which alone gets signals.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        now_s = time.monotonic()
        if asked and number == _HANGUP and now_s - _received[-1][1] < SAME_WISH_S:
            return
        _received.append((number, now_s))
        if asked:
            _raise(number, frame)
        asked = True
        again = "Ctrl-C again stops" if number == signal.SIGINT else "a second signal ends all"
        log.warning("finishing the frame; %s at once", again)

    with _handled(ask, [signal.SIGINT, *ENDING_SIGNALS]):
        yield lambda: asked


def _raise(number: int, frame: FrameType | None) -> None:
    """Interrupt the main thread; the same signal once more does what it does by itself."""
    own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    signal.signal(number, own)
    _received.append((number, time.monotonic()))
    raise KeyboardInterrupt


@contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], None], numbers: Iterable[int]
) -> Iterator[None]:
    """Handle signals within the block, but for ignored ones; Ctrl-C is not, as a shell lets its
    background programs ignore it though somebody sends it."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
