"""What is told of many tasks that workers do: how many are done and failed, by how many workers,
and how much time is left; and what is done again."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from carvid.base.words import plural

log = logging.getLogger("carvid")

TOLD_PARTS = 10
"""Where there is no bar, a line is logged after so many parts of the tasks."""
FEWEST_TOLD = 20
"""Fewer tasks need no such lines: the workers' own tell of each."""


class Telling:
    """Takes what `follow` calls back with.

    Args:
        names: of the tasks.
        thing: what a task is, in the singular.
        bar: shows the tasks; None where another one, or none, is to be.
        lines: whether lines say how far it is, where there is no bar.
    """

    def __init__(
        self, names: Sequence[str], thing: str, bar: Any = None, *, lines: bool = False
    ) -> None:
        self._names, self._thing, self._bar, self._lines = names, thing, bar, lines
        self._ended = self._failed = self._workers = 0
        self._began_s = time.monotonic()

    def retry(self, task: int, reason: str) -> None:
        """Tell why a task is tried again."""
        log.warning("%s: %s; trying again", self._names[task], reason)

    def lost(self, machine: str, tasks: Sequence[int]) -> None:
        """Tell what is done again since a machine is lost."""
        names = ", ".join(self._names[task] for task in tasks)
        again = f"doing again: {names}" if tasks else f"it had no {self._thing} at hand"
        log.warning("node %s was lost; %s", machine, again)

    def workers(self, count: int) -> None:
        """Take note of how many workers there are."""
        self._workers = count
        self._show()

    def fail(self, task: int, reason: str) -> None:
        """Take note of a task that failed for good."""
        self._failed += 1

    def end(self, task: int) -> None:
        """Take note of a task that is done or failed."""
        self._ended += 1
        if self._bar is not None:
            self._bar.update()
        self._show()
        total = len(self._names)
        part = self._ended * TOLD_PARTS // total > (self._ended - 1) * TOLD_PARTS // total
        if self._lines and part and total >= FEWEST_TOLD:
            self._log()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._so_far(), refresh=False)

    def _log(self) -> None:
        total = len(self._names)
        left_s = (time.monotonic() - self._began_s) / self._ended * (total - self._ended)
        left = f", about {tqdm.format_interval(left_s)} left" if self._ended < total else ""
        log.info(
            "%d of %s%s; %s", self._ended, plural(total, self._thing), left, self._so_far()
        )  # fmt: skip

    def _so_far(self) -> str:
        return f"{self._failed} failed, {plural(self._workers, 'worker')}"
