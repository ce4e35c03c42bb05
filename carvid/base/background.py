"""Work that a thread does behind the one that makes what it works on, or ahead of it."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

S = TypeVar("S")
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


def made_ahead(
    items: Iterable[T], make: Callable[[T], S], most: int, size_of: Callable[[T], int]
) -> Generator[tuple[T, S], None, None]:
    """Yield each item with what a thread makes of it, one after the other, while the caller is busy
    with those before.

    The items are read in the caller's thread. What that or `make` raises is raised at its place;
    an interruption, which belongs to no item, at once. Closing the generator waits for the item at
    hand.

    Args:
        items: what something is made of.
        make: makes it.
        most: so many items are read ahead, or fewer, where they have more than `ROOM` bytes; with
            0 there is no thread.
        size_of: how many bytes an item keeps in memory, about.
    """
    if not most:
        yield from ((item, make(item)) for item in items)
        return
    waiting: deque[tuple[T, Future[S]]] = deque()
    failure: list[Exception] = []
    with ThreadPoolExecutor(1, "carvid-ahead") as thread:
        try:
            for item in _until_failure(items, failure):
                waiting.append((item, thread.submit(make, item)))
                while len(waiting) > _room(most, size_of(item)):
                    first, made = waiting.popleft()
                    yield first, made.result()
            for first, made in waiting:
                yield first, made.result()
        finally:
            thread.shutdown(cancel_futures=True)
    if failure:
        raise failure[0]


def _until_failure(items: Iterable[T], failure: list[Exception]) -> Iterator[T]:
    """The items up to what reading them raises, which is noted."""
    try:
        yield from items
    except Exception as error:
        failure.append(error)


def _room(most: int, size: int) -> int:
    """How many items of a size wait: up to `most`, one at least."""
    return max(1, min(most, ROOM // max(1, size)))
