"""Work that a thread does behind the one that makes what it works on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

WAITING = 2
"""So many items may wait; who makes them waits for room."""


@contextmanager
def behind(work: Callable[[T], None]) -> Iterator[Callable[[T], None]]:
    """Yield a function that hands an item to a thread, which calls `work` with one after the other.

    Leaving waits until all is done, also when an exception leaves. What `work` raises is raised
    when the next item is handed over, or on leaving; the items after it are dropped.
    """
    waiting: queue.Queue[tuple[T] | None] = queue.Queue(maxsize=WAITING)
    failures: list[BaseException] = []

    def run() -> None:
        while (entry := waiting.get()) is not None:
            if not failures:
                try:
                    work(*entry)
                except BaseException as failure:
                    failures.append(failure)

    def hand_over(item: T) -> None:
        if not failures:
            waiting.put((item,))
        if failures:
            raise failures[0]

    thread = threading.Thread(target=run, name="carvid-behind", daemon=True)
    thread.start()
    try:
        yield hand_over
    finally:
        waiting.put(None)
        thread.join()
    if failures:
        raise failures[0]
