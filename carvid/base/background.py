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
def behind(work: Callable[[T], None], weigh: Callable[[T], int]) -> Iterator[Callable[[T], None]]:
    """Yield a function that hands an item to a thread, which calls `work` with one after the other.

    Leaving waits until all is done, also when an exception leaves. What `work` raises is raised
    when the next item is handed over, or on leaving; the items after it are dropped.

    Args:
        work: what is to be done with an item.
        weigh: how many bytes it keeps in memory, about.
    """
    waiting: queue.Queue[tuple[T, int] | None] = queue.Queue()
    room, changed = ROOM, threading.Condition()
    failures: list[BaseException] = []

    def run() -> None:
        nonlocal room
        while (entry := waiting.get()) is not None:
            item, weight = entry
            if not failures:
                try:
                    work(item)
                except BaseException as failure:
                    failures.append(failure)
            with changed:
                room += weight
                changed.notify()

    def hand_over(item: T) -> None:
        nonlocal room
        weight = weigh(item)
        with changed:
            changed.wait_for(lambda: room > 0)
            room -= weight
        if failures:
            raise failures[0]
        waiting.put((item, weight))

    thread = threading.Thread(target=run, name="carvid-behind", daemon=True)
    thread.start()
    try:
        yield hand_over
    finally:
        waiting.put(None)
        thread.join()
    if failures:
        raise failures[0]
