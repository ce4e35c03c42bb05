"""Jobs: what takes long is waited for, looked at, cancelled; those with networks one by one."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from carvid.base.errors import CarvidError
from carvid.base.interrupt import Stopped, stop_when
from carvid.base.memory import telling_out_of_memory

log = logging.getLogger("carvid")

State = Literal["waiting", "running", "done", "failed", "cancelled"]
OVER = ("done", "failed", "cancelled")


class Job:
    """Work that is done in a thread.

    Args:
        name: what people are told that it is, as "looking for 2 things".
        work: does it; it asks `stop` after each frame.
        total: of how many frames, if that is known.
    """

    def __init__(self, name: str, work: Callable[[Job], object], total: int | None = None) -> None:
        self.name, self.total = name, total
        self.state: State = "waiting"
        self.frames = 0
        """How often `stop` was asked: once a frame."""
        self.error: str | None = None
        """Of a failed one: why, in one line."""
        self.result: Any = None
        """Of one that is done: what `work` returned."""
        self.then: Callable[[Job], None] | None = None
        """Called once when it is over, in its thread, before `wait` returns."""
        self._work = work
        self._wanted, self._over = threading.Event(), threading.Event()
        self._began_s: float | None = None

    def stop(self) -> bool:
        """Count a frame; say whether somebody wants to stop."""
        self.frames += 1
        return self._wanted.is_set()

    def cancel(self) -> None:
        """Let it stop after the frame at hand."""
        self._wanted.set()

    @property
    def cancelling(self) -> bool:
        """Whether somebody wants it to stop."""
        return self._wanted.is_set()

    @property
    def over(self) -> bool:
        """Whether it has come to an end, whichever."""
        return self._over.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is over, or so many seconds; return whether it is."""
        return self._over.wait(timeout_s)

    def run(self) -> None:
        """Do it here; whatever is raised ends the job, and nothing else."""
        self._began_s, self.state = time.monotonic(), "running"
        state: State = "done"
        try:
            if self.cancelling:
                raise Stopped
            with stop_when(self.stop), telling_out_of_memory():
                self.result = self._work(self)
        except Stopped:
            state = "cancelled"
        except CarvidError as error:
            state, self.error = "failed", str(error)
        except Exception as error:
            log.exception("%s failed", self.name)
            state = "failed"
            self.error = f"this should not happen: {type(error).__name__}: {error}".split("\n")[0]
        self.state = state
        try:
            if self.then is not None:
                self.then(self)
        finally:
            self._over.set()

    def to_json(self) -> dict[str, Any]:
        """Return what a page shows of it."""
        seconds = 0.0 if self._began_s is None else time.monotonic() - self._began_s
        return {
            "name": self.name,
            "state": self.state,
            "frames": self.frames if self.total is None else min(self.frames, self.total),
            "total": self.total,
            "finishing": self.total is not None and self.frames >= self.total,
            "cancelling": self.cancelling,
            "seconds": round(seconds, 1),
        }


def run_beside(job: Job) -> None:
    """Run a job that needs no networks, in a thread of its own."""
    threading.Thread(target=job.run, name="carvid-app-job", daemon=True).start()


class Worker:
    """One thread that does jobs in the order in which they come: networks are there once."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._now: Job | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="carvid-app-worker", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Let a job be done when those before it are."""
        with self._changed:
            if self._closed:
                raise CarvidError("the app is ending; start it again")
            self._waiting.append(job)
            self._changed.notify()

    def ahead_of(self, job: Job) -> int:
        """Return how many others come before a job."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return list(self._waiting).index(job) + (self._now is not None)

    def close(self, patience_s: float) -> bool:
        """Cancel all jobs; return whether the one at hand ended within so many seconds."""
        with self._changed:
            self._closed = True
            for job in [*self._waiting, *([self._now] if self._now else [])]:
                job.cancel()
            self._changed.notify()
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                self._now = self._waiting.popleft()
            self._now.run()
            with self._changed:
                self._now = None
