"""Workers on Ray: each has a GPU of its own, and a task that fails is tried again.

Ray is started on this machine and ended afterwards, unless the caller has begun it.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carvid.base.errors import CarvidError, ConfigError
from carvid.base.processes import Event, Task, Tool, Work, events_of
from carvid.base.records import log_again, records_sent_to, wanted_level
from carvid.base.threads import environment

ATTEMPTS = 3
"""How often a task is tried before it counts as failed."""


def find_ray() -> Any:
    """Return the module, set up to say nothing itself and to report nothing.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray would print on stdout that a worker died, among results; read when it is imported.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ConfigError("--engine ray needs Ray; pip install 'carvid[ray]'") from None


@dataclass(frozen=True)
class RayActors:
    """Actors of Ray; see `Workers`. The steps of a task come all at its end; a task is tried up to
    `ATTEMPTS` times, by a new actor if one died."""

    count: int | None = None
    """How many; None is one for each GPU, or a single one where there is none."""
    device: str = "auto"
    """`auto` and `cuda` give each actor a GPU of its own, if there are any."""
    threads: int = 1
    """Of an actor, for sums. With as many as here, results are the same bytes."""

    def run(
        self,
        prepare: Callable[[], Tool],
        work: Work[Tool, Task],
        tasks: Sequence[Task],
    ) -> Iterator[Event]:
        """Do tasks and yield what happens; see `Workers.run`.

        Raises:
            ConfigError: Ray is not installed, or more actors are asked for than it has room for.
            CarvidError: what `prepare` raised, or actors died in it.
        """
        ray = find_ray()
        if not tasks:
            return
        if self.device.startswith("cuda:"):
            raise ConfigError(f"Ray deals out the GPUs; use --device cuda instead of {self.device}")
        begun = not ray.is_initialized()
        if begun:
            _begin(ray, self.count)
        crew = None
        try:
            count, of_gpus = self._share(ray.cluster_resources())
            crew = _Crew(ray, prepare, work, of_gpus=of_gpus, threads=self.threads)
            yield from crew.events(tasks, min(count, len(tasks)))
        finally:
            if crew is not None:
                crew.stop()
            if begun:
                ray.shutdown()

    def _share(self, room: Mapping[str, float]) -> tuple[int, bool]:
        """How many actors there are to be, and whether each has a GPU, with what Ray has."""
        of_gpus = self.device in ("auto", "cuda") and room.get("GPU", 0) >= 1
        kind = "GPU" if of_gpus else "CPU"
        slots = int(room.get(kind, 0))
        count = self.count or (slots if of_gpus else 1)
        if count > slots:
            raise ConfigError(f"{count} workers need a {kind} each, Ray has {slots}; give fewer")
        return count, of_gpus


def _begin(ray: Any, workers: int | None) -> None:
    ending = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address="local", num_cpus=workers or 1, include_dashboard=False, log_to_driver=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"Ray cannot begin: {first}; see to it, or leave --engine ray away"
        ) from None
    finally:  # Ray takes SIGTERM for itself
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ending)


class _Worker:
    """What lives in an actor."""

    def __init__(self, folder: str, level: int) -> None:
        os.chdir(folder)  # paths may start here
        self._level = level
        """Of what is logged; see `wanted_level`."""
        self._tool: Any = None

    def prepare(
        self, prepare: Callable[[], Any]
    ) -> tuple[CarvidError | None, list[logging.LogRecord]]:
        """Make the tool; return what went wrong in it, and what was logged."""
        records: list[logging.LogRecord] = []
        with records_sent_to(records.append, self._level):
            try:
                self._tool = prepare()
            except CarvidError as error:
                return error, records
        return None, records

    def do(
        self, work: Work[Any, Any], index: int, task: Any
    ) -> tuple[list[Event], list[logging.LogRecord]]:
        """Do a task; return what happened, and what was logged."""
        records: list[logging.LogRecord] = []
        with records_sent_to(records.append, self._level):
            events = list(events_of(work, self._tool, index, task))
        return events, records


class _Crew:
    """The actors, and what each is doing."""

    def __init__(
        self,
        ray: Any,
        prepare: Callable[[], Any],
        work: Work[Any, Any],
        *,
        of_gpus: bool,
        threads: int,
    ) -> None:
        self._ray = ray
        # Once in Ray's store, not once in each message.
        self._prepare, self._work = ray.put(prepare), ray.put(work)
        self._make = ray.remote(_Worker).options(
            num_cpus=0 if of_gpus else 1,
            num_gpus=1 if of_gpus else 0,
            # Ray would give each actor one thread, and sums of another order other last bits.
            runtime_env={"env_vars": {**environment(), "OMP_NUM_THREADS": str(threads)}},
        )
        self._busy: dict[Any, tuple[Any, int | None]] = {}
        """Of each answer that is awaited: the actor, and its task; None while it prepares."""
        self._deaths = 0
        """Actors that died while they prepared."""

    def events(self, tasks: Sequence[Any], count: int) -> Iterator[Event]:
        waiting, attempts = deque(range(len(tasks))), Counter[int]()
        for _ in range(count):
            self._start()
        while self._busy:
            actor, task, result, records = self._next_answer()
            for record in records:
                log_again(record)
            if task is not None:
                attempts[task] += 1
                for event in result:
                    told = _after_attempt(event, attempts[task])
                    if told.kind == "again":
                        waiting.append(told.task)
                    yield told
            elif result is not None:
                raise result
            elif actor is not None:
                yield Event("ready")
            if actor is None:
                if waiting or task is None:
                    self._start()
            elif waiting:
                task = waiting.popleft()
                answer = actor.do.remote(self._work, task, tasks[task])
                self._busy[answer] = (actor, task)
            else:
                self._ray.kill(actor)

    def _next_answer(self) -> tuple[Any, int | None, Any, list[logging.LogRecord]]:
        """Wait for an actor; return it, None if it died, its task, None if it prepared, what it
        returned, and what was logged."""
        (answer,), _ = self._ray.wait(list(self._busy), num_returns=1)
        actor, task = self._busy.pop(answer)
        try:
            return actor, task, *self._ray.get(answer)
        except self._ray.exceptions.RayTaskError:  # not foreseen; the actor lives
            raise
        except self._ray.exceptions.RayError as error:
            reason = f"its worker died ({type(error).__name__}), perhaps for lack of memory"
            reason += "; try fewer --workers"
        self._ray.kill(actor)
        if task is not None:
            return None, task, [Event("failed", task, reason)], []
        self._deaths += 1
        if self._deaths == ATTEMPTS:
            raise CarvidError(f"a worker could not begin: {reason}")
        return None, None, None, []

    def stop(self) -> None:
        """End what still runs, at once."""
        for actor, _ in self._busy.values():
            self._ray.kill(actor)

    def _start(self) -> None:
        actor = self._make.remote(str(Path.cwd()), wanted_level())
        self._busy[actor.prepare.remote(self._prepare)] = (actor, None)


def _after_attempt(event: Event, attempt: int) -> Event:
    """What an event of a task's attempt, from 1, means: a failure is tried again, or the last."""
    if event.kind != "failed":
        return event
    if attempt < ATTEMPTS:
        return Event("again", event.task, event.value)
    return Event("failed", event.task, f"{event.value} (tried {ATTEMPTS} times)")
