"""Workers that each prepare a tool once and use it for one task after the other: processes.

A task that fails, or whose process dies, does not stop the others. Processes whose parent is gone
end before they do the next step of their work.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

from carvid.base.errors import CarvidError
from carvid.base.interrupt import ENDING_SIGNALS
from carvid.base.memory import telling_out_of_memory
from carvid.base.records import log_again, records_sent_to, wanted_level
from carvid.base.threads import sleeping_threads

log = logging.getLogger("carvid")

Tool = TypeVar("Tool")
Task = TypeVar("Task")
Work = Callable[[Tool, Task], Generator[Any, None, None]]
"""Does a task with the tool, and yields before each step that must not be done by an orphan."""


@dataclass(frozen=True)
class Event:
    """What happened to a task."""

    kind: Literal["ready", "step", "done", "again", "failed", "lost", "workers"]
    """`ready`: a tool is prepared, and no task is begun with it yet; `again`: a task failed and
    will be tried once more; `lost`: a machine is lost, and what it did is done again; `workers`:
    there are now more or fewer workers."""
    task: int = -1
    """Index of the task."""
    value: Any = None
    """Of a step what the work yielded, of a failure (`again`, too) one line that says why; of a
    lost machine its name and the tasks that are done again; of workers how many have a tool."""


_number = 0


def worker_number() -> int:
    """Return which of several workers this process is, from 0; one that takes the place of a dead
    one has its number. 0 in any other process."""
    return _number


class Workers(Protocol):
    """Those who do tasks: `Processes` of this machine, or `carvid.workers.ray_actors.RayActors`."""

    def run(
        self,
        prepare: Callable[[], Tool],
        work: Work[Tool, Task],
        tasks: Sequence[Task],
    ) -> Iterator[Event]:
        """Do tasks and yield what happens, in the order in which it happens.

        Where there are several workers, or a worker is no part of this process, `prepare`, `work`
        and the tasks are pickled.

        Args:
            prepare: makes the tool, once for each worker.
            work: does a task with a tool.
            tasks: what to do.

        Raises:
            CarvidError: what `prepare` raised, or a worker died in it.
        """


@dataclass(frozen=True)
class Processes:
    """Processes of this machine; see `Workers`."""

    count: int = 1
    """How many; 1 is this process itself. With more, scripts need
    `if __name__ == "__main__":`."""
    caller_helps: bool = False
    """Whether this process is one of several. It takes tasks from the end, and looks after the
    others between its steps, so these should be short."""

    def run(
        self,
        prepare: Callable[[], Tool],
        work: Work[Tool, Task],
        tasks: Sequence[Task],
    ) -> Iterator[Event]:
        """Do tasks and yield what happens; see `Workers.run`."""
        if not tasks:
            return
        if self.count == 1:
            tool = prepare()
            yield Event("ready")
            for index, task in enumerate(tasks):
                yield from events_of(work, tool, index, task)
            return
        crew = _Crew(prepare, work)
        try:
            yield from crew.events(tasks, min(self.count, len(tasks)), self.caller_helps)
        finally:
            crew.stop()


def follow(
    events: Iterable[Event],
    *,
    begin: Callable[[], object] = lambda: None,
    step: Callable[[int, Any], object] = lambda task, value: None,
    retry: Callable[[int, str], object] = lambda task, reason: None,
    fail: Callable[[int, str], object] = lambda task, reason: None,
    end: Callable[[int], object] = lambda task: None,
    lost: Callable[[str, list[int]], object] = lambda machine, tasks: None,
    workers: Callable[[int], object] = lambda count: None,
) -> dict[int, str]:
    """Go through the events of workers and call back at each.

    Args:
        events: of `Workers.run`.
        begin: called once, when the first tool is prepared and no task is begun.
        step: with a task's index and what its work yielded.
        retry: with a task's index and why it failed, where it is tried again.
        fail: with a task's index and why it failed for good.
        end: with a task's index, when it is done or has failed.
        lost: with a machine's name and the tasks that are done again, when it is lost.
        workers: with how many workers there are now.

    Returns:
        Index of each task that failed → one line that says why.
    """
    failed: dict[int, str] = {}
    begun = False
    for event in events:
        if event.kind == "ready":
            if not begun:
                begin()
            begun = True
        elif event.kind == "step":
            step(event.task, event.value)
        elif event.kind == "again":
            retry(event.task, event.value)
        elif event.kind == "lost":
            lost(*event.value)
        elif event.kind == "workers":
            workers(event.value)
        else:
            if event.kind == "failed":
                failed[event.task] = event.value
                fail(event.task, event.value)
            end(event.task)
    return failed


def events_of(work: Work[Tool, Task], tool: Tool, index: int, task: Task) -> Iterator[Event]:
    """Do one task and yield what happens; what was not foreseen leaves a traceback in the log."""
    try:
        with telling_out_of_memory():
            for value in work(tool, task):
                yield Event("step", index, value)
    except BrokenPipeError:  # the parent is gone
        raise
    except CarvidError as error:
        yield Event("failed", index, str(error))
    except Exception as error:
        log.exception("an error that was not foreseen")
        first = (str(error).splitlines() or [""])[0]
        yield Event(
            "failed", index, f"{type(error).__name__}: {first}; the log's traceback says where"
        )
    else:
        yield Event("done", index)


@dataclass
class _Worker:
    process: BaseProcess
    channel: Connection
    number: int
    """See `worker_number`."""
    task: int | None = None
    """What it is doing; None while it prepares its tool or waits."""


class _Crew(Generic[Tool, Task]):
    """The processes, and what each is doing."""

    def __init__(self, prepare: Callable[[], Tool], work: Work[Tool, Task]) -> None:
        self._prepare, self._work = prepare, work
        # Spawned, not forked: the caller may have threads, and torch's do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[Connection, _Worker] = {}

    def events(self, tasks: Sequence[Task], count: int, caller_helps: bool) -> Iterator[Event]:
        waiting = list(reversed(range(len(tasks))))
        for _ in range(count - caller_helps):
            self._start()
        own = self._do_own(tasks, waiting) if caller_helps else None
        while self._workers or own:
            for channel in wait(list(self._workers), 0 if own else None):
                worker = self._workers[cast("Connection", channel)]
                event = self._receive(worker)
                if event is None:
                    continue
                yield event
                if worker.channel not in self._workers:  # it died
                    if waiting:
                        self._start()
                elif event.kind != "step":
                    self._give_task(worker, tasks, waiting)
            if own:
                try:
                    yield next(own)
                except StopIteration:
                    own = None
                    self.stop(idle=True)

    def stop(self, *, idle: bool = False) -> None:
        """End what still runs, at once; or only what has no task."""
        for worker in list(self._workers.values()):
            if worker.task is None or not idle:
                worker.process.kill()
                self._dismiss(worker)

    def _do_own(self, tasks: Sequence[Task], waiting: list[int]) -> Iterator[Event]:
        """Do tasks in this process, from the end, until none is waiting."""
        tool = self._prepare()
        yield Event("ready")
        while waiting:
            index = waiting.pop(0)
            yield from events_of(self._work, tool, index, tasks[index])

    def _receive(self, worker: _Worker) -> Event | None:
        """What a worker tells, None if it only logs; if it has died, its task has failed, and it is
        dismissed.

        Raises:
            Exception: what its preparation raised.
        """
        try:
            event = worker.channel.recv()
        except (EOFError, ConnectionResetError):
            return self._failure_of_dead(worker)
        if isinstance(event, logging.LogRecord):
            log_again(event)
            return None
        if isinstance(event, Exception):
            raise event
        return cast("Event", event)

    def _give_task(self, worker: _Worker, tasks: Sequence[Task], waiting: list[int]) -> None:
        """Give a worker its next task, or dismiss it if none is waiting."""
        if not waiting:
            self._dismiss(worker)
            return
        worker.task = waiting.pop()
        with suppress(OSError):  # it died since; its end of the pipe will tell
            worker.channel.send((worker.task, tasks[worker.task]))

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        taken = {worker.number for worker in self._workers.values()}
        number = next(number for number in itertools.count() if number not in taken)
        process = self._context.Process(
            target=_be_worker,
            args=(theirs, number, self._prepare, self._work, wanted_level()), daemon=True,
        )  # fmt: skip
        with sleeping_threads():  # which it inherits
            process.start()
        theirs.close()  # so that its end is ours alone to notice
        self._workers[ours] = _Worker(process, ours, number)

    def _failure_of_dead(self, worker: _Worker) -> Event:
        worker.process.join()
        reason = f"its process died (exit code {worker.process.exitcode}), perhaps for lack of "
        reason += "memory; try fewer --workers"
        self._dismiss(worker)
        if worker.task is None:
            raise CarvidError(f"a worker could not begin: {reason}")
        return Event("failed", worker.task, reason)

    def _dismiss(self, worker: _Worker) -> None:
        del self._workers[worker.channel]
        worker.channel.close()
        worker.process.join()
        worker.process.close()


def _be_worker(
    channel: Connection,
    number: int,
    prepare: Callable[[], Tool],
    work: Work[Tool, Task],
    level: int,
) -> None:
    """What a process does: prepare, then one task after the other until the parent hangs up."""
    global _number
    _number = number
    for ending in (signal.SIGINT, *ENDING_SIGNALS):  # terminals, Slurm and systemd send to all
        signal.signal(ending, signal.SIG_IGN)  # the parent decides
    sending = threading.Lock()  # a background thread may log while this one sends

    def send(what: Event | Exception | logging.LogRecord) -> None:
        with sending:
            channel.send(what)

    def send_record(record: logging.LogRecord) -> None:
        with suppress(OSError):  # the parent is gone; the next event's way ends this process
            send(record)

    hung_up = suppress(EOFError, BrokenPipeError, ConnectionResetError)
    with hung_up, records_sent_to(send_record, level):
        try:
            tool = prepare()
        except Exception as error:
            if not isinstance(error, CarvidError):
                log.exception("an error that was not foreseen")
            send(error)
            return
        send(Event("ready"))
        while True:
            index, task = channel.recv()
            for event in events_of(work, tool, index, task):
                send(event)
