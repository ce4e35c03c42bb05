"""Which actor of Ray does which task, and who does it when an actor or its node is lost."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from carvid.base.errors import CarvidError
from carvid.base.records import log_again
from carvid.workers.processes import Event, Work
from carvid.workers.ray_cluster import Node

log = logging.getLogger("carvid")

ATTEMPTS = 3
"""How often a task is tried before it counts as failed."""
LOSSES = 5
"""How many nodes may be lost while they do a task, before it counts as failed: it may be what
brings them down."""
SHORT_S = 1.0
"""An actor whose last task took less has the next one at hand before it has told of this one."""
CALL_S = 0.2
"""Tasks that are shorter still are given several at a time, for so long: a call takes Ray 2 ms."""
MOST_AT_ONCE = 50
LOOK_S = 5.0
"""How often the cluster's nodes are looked at."""
HOLD_S = 5.0
"""How long tasks of a lost node wait, since its actors need up to `ASK_S` to learn that it is."""
DEATH_LOOKS, DEATH_LOOK_S = 5, 0.2
"""How often and after how long again it is seen whether a dead actor's node is lost, too: its
processes may end one after the other."""
UNSURE_S = 120.0
"""How long an actor may be out of reach before it counts as dead."""
MOVE_S = 10.0
"""How long an actor may wait for its place on a node, if another node may have one."""
FULL_S = 60.0
"""How long a node is taken for full, on which an actor has waited."""
ROOM_S = 30.0
"""After how long it is said that the cluster has no room yet."""


@dataclass(frozen=True)
class Staff:
    """Who could be had."""

    nodes: Callable[[], list[Node]]
    """Those that live, and have room for actors."""
    count: int | None
    """How many actors there are to be; None is all that the nodes have room for."""
    make: Callable[[Node], Any]
    """Begins an actor on a node."""
    check: Callable[[Node], str | None] | None
    """What is wrong with a node that has joined since, None if nothing is; None if this is no
    cluster."""


@dataclass(eq=False)
class _Actor:
    handle: Any
    node: Node
    calls: list[list[int]] = field(default_factory=list)
    """Tasks that it was given and has not told of: those of each call, in this order."""
    answers: list[Any] = field(default_factory=list)
    """What is awaited of it."""
    begun_s: float = field(default_factory=time.monotonic)
    placed: bool = False
    """Whether its process runs; until then, others hold the node's places."""
    ready: bool = False
    given_s: float = 0.0
    """When it began what it does, by the monotonic clock."""
    task_s: float = SHORT_S
    """How long its last tasks took, each."""
    unsure_s: float | None = None
    """Since when it is out of reach."""

    @property
    def tasks(self) -> list[int]:
        """All of them."""
        return [task for call in self.calls for task in call]


class Crew:
    """The actors, and what each is doing.

    Args:
        ray: the module.
        staff: who could be had.
        prepare: as in `Workers.run`, as is `work`.
    """

    def __init__(
        self, ray: Any, staff: Staff, prepare: Callable[[], Any], work: Work[Any, Any]
    ) -> None:
        self._ray, self._staff = ray, staff
        # Once in Ray's store, not once in each message.
        self._prepare, self._work = ray.put(prepare), ray.put(work)
        self._nodes = {node.id: node for node in staff.nodes()}
        self._refused: set[str] = set()
        """Ids of nodes that joined later and cannot be used."""
        self._full: dict[str, float] = {}
        """Of nodes that seem to be full, by their ids: until when."""
        self._looked_s = self._began_s = time.monotonic()
        self._actors: list[_Actor] = []
        self._awaited: dict[Any, tuple[_Actor, list[int]]] = {}
        """Of each answer: who owes it, and of which tasks; of none while it prepares, or is asked
        whether it lives."""
        self._tasks: Sequence[Any] = ()
        self._waiting: deque[int] = deque()
        self._held: list[tuple[float, int]] = []
        """Tasks of lost nodes, each with when it may be done again."""
        self._alone: set[int] = set()
        """Tasks that are given one by one, since one of them may have killed an actor."""
        self._attempts, self._losses = Counter[int](), Counter[int]()
        self._deaths = self._told = 0
        """Actors that died while they prepared; and how many were told to be prepared."""

    def events(self, tasks: Sequence[Any]) -> Iterator[Event]:
        """Do tasks and yield what happens.

        Raises:
            CarvidError: what preparing raised, or actors died in it; or no node is left.
        """
        self._tasks, self._waiting = tasks, deque(range(len(tasks)))
        while self._waiting or self._held or any(actor.calls for actor in self._actors):
            self._release()
            yield from self._look_at_nodes()
            self._hire()
            for actor in list(self._actors):
                self._give(actor)
            for answer in self._ready_answers():
                yield from self._take(answer)
            if self._count != self._told:
                self._told = self._count
                yield Event("workers", value=self._told)

    def stop(self) -> None:
        """End the actors, at once."""
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._actors.clear()
        self._awaited.clear()

    @property
    def _count(self) -> int:
        """How many actors are prepared."""
        return sum(actor.ready for actor in self._actors)

    def _ready_answers(self) -> list[Any]:
        owed = list(self._awaited)
        until_s = min((at for at, _ in self._held), default=float("inf"))
        wait_s = max(0.0, min(LOOK_S, until_s - time.monotonic()))
        if not owed:
            time.sleep(min(wait_s, 0.2))
            return []
        ready, _ = self._ray.wait(owed, num_returns=1, timeout=wait_s)
        return list(ready)

    def _release(self) -> None:
        """Let tasks of lost nodes be done again, whose time has come; they go first."""
        now_s = time.monotonic()
        for _, task in reversed([each for each in self._held if each[0] <= now_s]):
            self._waiting.appendleft(task)
        self._held = [each for each in self._held if each[0] > now_s]

    def _hire(self) -> None:
        """Begin actors, spread over the nodes, as long as there is room and work for them."""
        room = sum(node.slots for node in self._nodes.values())
        wanted = room if self._staff.count is None else min(self._staff.count, room)
        owed = len(self._waiting) + len(self._held) + sum(bool(a.calls) for a in self._actors)
        while len(self._actors) < min(wanted, owed):
            actor = self._begin(self._free_nodes()[0])
            self._await(actor, actor.handle.ping.remote())
            self._await(actor, actor.handle.prepare.remote(self._prepare))

    def _begin(self, node: Node) -> _Actor:
        actor = _Actor(self._staff.make(node), node)
        self._actors.append(actor)
        return actor

    def _free_nodes(self) -> list[Node]:
        """Those that have room beside this crew, the likeliest first; this machine comes last."""
        taken = Counter(actor.node.id for actor in self._actors)
        free = [node for node in self._nodes.values() if taken[node.id] < node.slots]
        return sorted(free, key=lambda node: (self._is_full(node), taken[node.id]))

    def _is_full(self, node: Node) -> bool:
        return self._full.get(node.id, 0.0) > time.monotonic()

    def _move(self) -> None:
        """Take actors that wait for a place to nodes that may have one: others use the cluster."""
        now_s = time.monotonic()
        for actor in [each for each in self._actors if not each.placed]:
            if now_s - actor.begun_s > MOVE_S:
                self._full[actor.node.id] = now_s + FULL_S
                if any(not self._is_full(node) for node in self._free_nodes()):
                    self._dismiss(actor)

    def _await(self, actor: _Actor, answer: Any, tasks: Sequence[int] = ()) -> None:
        actor.answers.append(answer)
        self._awaited[answer] = (actor, list(tasks))

    def _give(self, actor: _Actor) -> None:
        """Give an actor what it can do next; dismiss one that will have nothing to do."""
        if not actor.ready or actor.unsure_s is not None:
            return
        while self._waiting and len(actor.calls) < 1 + self._may_have_more(actor):
            tasks = self._next_tasks(actor)
            if not actor.calls:
                actor.given_s = time.monotonic()
            actor.calls.append(tasks)
            given = [(task, self._tasks[task]) for task in tasks]
            self._await(actor, actor.handle.do.remote(self._work, given), tasks)
        if not actor.calls and not self._held:
            self._dismiss(actor)

    def _may_have_more(self, actor: _Actor) -> bool:
        """Whether the next task may be at hand before this one is told of."""
        return actor.task_s < SHORT_S and not self._alone & {*actor.tasks, self._waiting[0]}

    def _next_tasks(self, actor: _Actor) -> list[int]:
        """As many tasks as make a call, and leave others their share."""
        share = len(self._waiting) // (2 * len(self._actors))
        count = min(int(CALL_S / max(actor.task_s, CALL_S / MOST_AT_ONCE)), share)
        tasks = [self._waiting.popleft()]
        while len(tasks) < count and not self._alone & {tasks[0], self._waiting[0]}:
            tasks.append(self._waiting.popleft())
        return tasks

    def _dismiss(self, actor: _Actor) -> list[int]:
        """End an actor; return what it leaves undone."""
        self._ray.kill(actor.handle)
        self._actors.remove(actor)
        for answer in actor.answers:
            self._awaited.pop(answer, None)
        return actor.tasks

    def _take(self, answer: Any) -> Iterator[Event]:
        """Take what an actor answers; or see that it is dead."""
        actor, tasks = self._awaited[answer]
        try:
            told = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError:  # not foreseen; the actor lives
            raise
        except self._ray.exceptions.ActorUnavailableError as error:
            yield from self._doubt(actor, error)
            return
        except self._ray.exceptions.RayError as error:
            yield from self._bury(actor, error)
            return
        del self._awaited[answer]
        actor.answers.remove(answer)
        if told is None and not actor.placed:
            actor.placed = True
            return
        if told is None:  # it was out of reach: what it told is lost, and what it prepared unknown
            self._waiting.extendleft(reversed(self._dismiss(actor)))
            return
        if not tasks:
            wrong, records = told
            _log_all(records)
            if wrong is not None:
                raise wrong
            actor.ready = True
            yield Event("ready")
            return
        now_s = time.monotonic()
        actor.task_s, actor.given_s = (now_s - actor.given_s) / len(tasks), now_s
        actor.calls.remove(tasks)
        for task, (events, records) in zip(tasks, told, strict=True):
            _log_all(records)
            yield from self._after_attempt(task, events)

    def _after_attempt(self, task: int, events: Sequence[Event]) -> Iterator[Event]:
        """What the events of a task's attempt mean: a failure is tried again, or the last."""
        self._attempts[task] += 1
        for event in events:
            if event.kind != "failed":
                yield event
            elif self._attempts[task] < ATTEMPTS:
                self._waiting.append(task)
                yield Event("again", task, event.value)
            else:
                yield Event("failed", task, f"{event.value} (tried {ATTEMPTS} times)")

    def _doubt(self, actor: _Actor, error: Exception) -> Iterator[Event]:
        """Ask an actor that is out of reach, and perhaps at work, until it answers or is dead."""
        now_s = time.monotonic()
        for answer in actor.answers:
            self._awaited.pop(answer, None)
        actor.answers.clear()
        if actor.unsure_s is None:
            actor.unsure_s = now_s
        if now_s - actor.unsure_s > UNSURE_S:
            yield from self._bury(actor, error)
            return
        time.sleep(0.05)  # else an actor that cannot be asked would be asked without pause
        self._await(actor, actor.handle.ping.remote())

    def _bury(self, actor: _Actor, error: Exception) -> Iterator[Event]:
        """An actor is dead: see whether its node is lost, too, and have its tasks done again."""
        for _ in range(0 if self._staff.check is None else DEATH_LOOKS):
            yield from self._look_at_nodes(now=True)
            if actor not in self._actors:  # its node is lost, and so it went
                return
            time.sleep(DEATH_LOOK_S)
        tasks = self._dismiss(actor)
        reason = f"its worker died ({type(error).__name__}), perhaps for lack of memory"
        reason += "; try fewer --workers"
        if not actor.ready:
            self._deaths += 1
            if self._deaths == ATTEMPTS:
                raise CarvidError(f"a worker could not begin: {reason}")
        if len(tasks) == 1:
            yield from self._after_attempt(tasks[0], [Event("failed", tasks[0], reason)])
        else:  # which of them it was will be seen; what it told of the first may be lost with it
            self._alone.update(tasks)
            self._waiting.extendleft(reversed(tasks))
            yield from (Event("again", task, reason) for task in tasks)

    def _look_at_nodes(self, *, now: bool = False) -> Iterator[Event]:
        """See from time to time, or now, which nodes are lost and which have joined.

        Raises:
            CarvidError: none is left.
        """
        at_s = time.monotonic()
        if not now and at_s - self._looked_s < LOOK_S:
            return
        self._looked_s = at_s
        found = {node.id: node for node in self._staff.nodes()}
        for node in [each for each in self._nodes.values() if each.id not in found]:
            yield from self._lose(node)
        for node in found.values():
            if node.id not in self._nodes and node.id not in self._refused:
                self._welcome(node)
        if not self._nodes:
            left = len(self._waiting) + len(self._held)
            raise CarvidError(
                f"no node of the cluster is left, and {left} of {len(self._tasks)} are not done; "
                "continue with --resume (resume=True) when there are nodes again"
            )
        self._move()
        if at_s - self._began_s > ROOM_S and not any(actor.placed for actor in self._actors):
            self._began_s = at_s + 3600
            log.warning("all places of the cluster are taken; waiting for one")

    def _welcome(self, node: Node) -> None:
        fault = None if self._staff.check is None else self._staff.check(node)
        if fault is not None:
            self._refused.add(node.id)
            log.warning("%s; it is not used", fault)
            return
        self._nodes[node.id] = node
        log.info("node %s has joined", node.name)

    def _lose(self, node: Node) -> Iterator[Event]:
        """A node is lost with its actors: their tasks are done elsewhere, and count as no attempt,
        unless they bring down one node after the other."""
        del self._nodes[node.id]
        tasks: list[int] = []
        for actor in [each for each in self._actors if each.node.id == node.id]:
            tasks += self._dismiss(actor)
        self._losses.update(tasks)
        again = [task for task in tasks if self._losses[task] < LOSSES]
        self._held += [(time.monotonic() + HOLD_S, task) for task in again]
        yield Event("lost", value=(node.name, again))
        for task in tasks:
            if task not in again:
                reason = f"{LOSSES} nodes were lost while they did it; see whether it is the cause"
                yield Event("failed", task, reason)


def _log_all(records: Sequence[logging.LogRecord]) -> None:
    for record in records:
        log_again(record)
