"""What worker processes log, brought to the process that has begun them.

There the program's own handlers get it, as if it had been logged there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler
from typing import Any, cast

log = logging.getLogger("carvid")

Send = Callable[[logging.LogRecord], object]


class _Sender(QueueHandler):
    """Hands records on, each with its text made and without what cannot be pickled."""

    def __init__(self, send: Send) -> None:
        super().__init__(cast("Any", None))  # no queue: `enqueue` goes another way
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        self._send(record)


@contextmanager
def records_sent_to(send: Send, level: int) -> Iterator[None]:
    """Within the block hand what is logged to `send`.

    Args:
        send: in a worker, takes a record that can be pickled.
        level: `wanted_level` of the process that gets the records.
    """
    handler, before = _Sender(send), log.level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def wanted_level() -> int:
    """Return from which level on this process wants to have what is logged."""
    return log.getEffectiveLevel()


def log_again(record: logging.LogRecord) -> None:
    """Log in this process what a worker has sent."""
    logging.getLogger(record.name).handle(record)
