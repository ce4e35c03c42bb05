"""Work that a thread does behind the one that makes what it works on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

ROOM = 32_000_000
"""Items may wait while those before them have less than so many bytes; who makes more waits."""


@contextmanager
def run_in_background(
    work: Callable[[T], None], size_of: Callable[[T], int]
) -> Iterator[Callable[[T], None]]:
    """Yield a function that hands an item to a thread, which calls `work` with one after the other.

    Leaving waits until all is done, also when an exception leaves. What `work` raises is raised
    when the next item is handed over, or on leaving; the items after it are dropped.

    Args:
        work: what is to be done with an item.
        size_of: how many bytes it keeps in memory, about.
    """
    waiting: queue.Queue[tuple[T, int] | None] = queue.Queue()
    room, changed = ROOM, threading.Condition()
    failures: list[BaseException] = []

    def run() -> None:
        nonlocal room
        while (entry := waiting.get()) is not None:
            item, size = entry
            if not failures:
                try:
                    work(item)
                except BaseException as failure:
                    failures.append(failure)
            with changed:
                room += size
                changed.notify()

    def hand_over(item: T) -> None:
        nonlocal room
        size = size_of(item)
        with changed:
            changed.wait_for(lambda: room > 0)
            room -= size
        if failures:
            raise failures[0]
        waiting.put((item, size))

    thread = threading.Thread(target=run, name="carvid-background", daemon=True)
    thread.start()
    try:
        yield hand_over
    finally:
        waiting.put(None)
        thread.join()
    if failures:
        raise failures[0]
