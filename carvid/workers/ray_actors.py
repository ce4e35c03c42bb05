"""Workers on Ray: each has a GPU of its own, and a task that fails is tried again.

Ray is begun on this machine (`carvid.workers.ray_cluster`), or a cluster is joined. Who does which
task is in `carvid.workers.ray_crew`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carvid.base.errors import CarvidError, ConfigError
from carvid.base.records import records_sent_to, wanted_level
from carvid.base.threads import environment
from carvid.workers.processes import Event, Task, Tool, Work, events_of
from carvid.workers.ray_cluster import Node, find_ray, nodes_of, on_node, ray_at
from carvid.workers.ray_crew import Crew, Staff
from carvid.workers.ray_nodes import Needs, check_nodes

HUB = ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE")
"""Variables that say where models are; workers get this machine's."""
ASK_S = 2.0
"""How often a worker asks the cluster whether its node still belongs to it."""
CUT_OFF_S = 10.0
"""A worker that has had no answer for so long ends: a cluster takes 15 s at least until it gives a
node up, and its tasks to others, who must not find it writing."""


@dataclass(frozen=True)
class RayActors:
    """Actors of Ray; see `Workers`. The steps of a task come all at its end; a task is tried up to
    `ATTEMPTS` times, by a new actor if one died. A node that is lost counts against no task."""

    count: int | None = None
    """How many; None is one for each GPU. Where there is none: a single one of this machine, of a
    cluster as many as it has CPUs for."""
    device: str = "auto"
    """`auto` and `cuda` give each actor a GPU of its own, if there are any."""
    threads: int = 1
    """Of an actor, for sums. With as many as here, results are the same bytes. An actor without a
    GPU takes as many CPUs of a cluster."""
    address: str | None = None
    """Of the cluster that is joined, as `carvid.workers.ray_cluster.cluster_address` gives it; None
    begins Ray on this machine, unless the caller has."""
    needs: Needs | None = None
    """What every node of a cluster must see."""

    def run(
        self,
        prepare: Callable[[], Tool],
        work: Work[Tool, Task],
        tasks: Sequence[Task],
    ) -> Iterator[Event]:
        """Do tasks and yield what happens; see `Workers.run`.

        Raises:
            ConfigError: Ray is not installed, the cluster does not answer, a node does not see what
                it needs, or more actors are asked for than there is room for.
            CarvidError: what `prepare` raised, or actors died in it; or no node is left.
        """
        ray = find_ray()
        if not tasks:
            return
        if self.device.startswith("cuda:"):
            raise ConfigError(f"Ray deals out the GPUs; use --device cuda instead of {self.device}")
        with ray_at(ray, self.address, self.count or 1):
            alive = [facts for facts in ray.nodes() if facts["Alive"]]
            of_cluster = self.address is not None or len(alive) > 1
            staff = self._staff(ray, of_cluster=of_cluster)
            if of_cluster and self.needs is not None:
                used = staff.nodes()
                check_nodes(ray, used, self.needs, {"runtime_env": self._environment()})
            crew = Crew(ray, staff, prepare, work)
            try:
                yield from crew.events(tasks)
            finally:
                crew.stop()

    def _staff(self, ray: Any, *, of_cluster: bool) -> Staff:
        """How many actors there are to be, and what each takes."""
        room = ray.cluster_resources()
        of_gpus = self.device in ("auto", "cuda") and room.get("GPU", 0) >= 1
        kind = "GPU" if of_gpus else "CPU"
        each = self.threads if of_cluster and not of_gpus else 1

        def nodes() -> list[Node]:
            return nodes_of(ray, kind, each)

        slots = sum(node.slots for node in nodes())
        takes = f"a {kind}" if each == 1 else f"{each} CPUs (as many as threads here)"
        if (self.count or 1) > slots:
            fewer = "; give fewer" if slots else "; give it some, or set OMP_NUM_THREADS=1"
            raise ConfigError(
                f"{self.count or 1} workers need {takes} each, Ray has {int(room.get(kind, 0))}"
                f"{'' if each == 1 else f', room for {slots}'}{fewer}"
            )
        everyone = of_gpus or of_cluster
        kinds = {"num_gpus": 1, "num_cpus": 0} if of_gpus else {"num_cpus": each}
        actors = ray.remote(_Worker)

        def make(node: Node) -> Any:
            options = {**kinds, **on_node(node), "runtime_env": self._environment()}
            folder, level = str(Path.cwd()), wanted_level()
            return actors.options(**options).remote(folder, level, of_cluster=of_cluster)

        check = self._check_later(ray) if of_cluster else None
        return Staff(nodes, self.count or (None if everyone else 1), make, check)

    def _check_later(self, ray: Any) -> Callable[[Node], str | None]:
        """What tells what is wrong with a node that has joined since."""

        def fault(node: Node) -> str | None:
            try:
                if self.needs is not None:
                    check_nodes(ray, [node], self.needs, {"runtime_env": self._environment()})
            except CarvidError as error:
                return str(error)
            return None

        return fault

    def _environment(self) -> dict[str, Any]:
        # Ray would give each actor one thread, and sums of another order other last bits.
        hub = {name: os.environ[name] for name in HUB if os.environ.get(name)}
        threads = {"OMP_NUM_THREADS": str(self.threads)}
        return {"env_vars": {**hub, **environment(), **threads}}


class _Worker:
    """What lives in an actor."""

    def __init__(self, folder: str, level: int, *, of_cluster: bool) -> None:
        if os.path.isdir(folder):  # of a cluster, `Needs` says whether any path starts here
            os.chdir(folder)
        self._level = level
        """Of what is logged; see `wanted_level`."""
        self._tool: Any = None
        if of_cluster:
            _end_when_cut_off()

    def ping(self) -> None:
        """Answer, when all that was asked before is done."""

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
        self, work: Work[Any, Any], tasks: Sequence[tuple[int, Any]]
    ) -> list[tuple[list[Event], list[logging.LogRecord]]]:
        """Do tasks, given with their indices; return what happened, and what was logged."""
        return [self._do_one(work, index, task) for index, task in tasks]

    def _do_one(
        self, work: Work[Any, Any], index: int, task: Any
    ) -> tuple[list[Event], list[logging.LogRecord]]:
        records: list[logging.LogRecord] = []
        with records_sent_to(records.append, self._level):
            events = list(events_of(work, self._tool, index, task))
        return events, records


def _end_when_cut_off() -> None:
    """From now on, end this process when its node is none of the cluster's any more, or it has
    heard nothing of the cluster for `CUT_OFF_S`: its tasks are given to others then. Ray itself
    lets it live on where its node's own process has been killed."""
    ray = find_ray()
    own = ray.get_runtime_context().get_node_id()
    heard_s = time.monotonic()

    def ask() -> None:
        nonlocal heard_s
        while True:
            if not any(node["NodeID"] == own and node["Alive"] for node in ray.nodes()):
                os._exit(1)
            heard_s = time.monotonic()
            time.sleep(ASK_S)

    def watch() -> None:
        nonlocal heard_s
        while True:
            before_s = time.monotonic()
            time.sleep(ASK_S)
            if time.monotonic() - before_s > 2 * ASK_S:  # stopped, or kept from running
                heard_s = time.monotonic()  # `ask` could not run, either
            if time.monotonic() - heard_s > CUT_OFF_S:
                os._exit(1)

    for each in (ask, watch):
        threading.Thread(target=each, name=f"carvid-{each.__name__}", daemon=True).start()
