"""Who does what when actors and nodes are lost: with a Ray that is simulated, and needs no Ray."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from carvid.base.errors import CarvidError
from carvid.workers import ray_crew
from carvid.workers.processes import Event
from carvid.workers.ray_cluster import Node
from carvid.workers.ray_crew import ATTEMPTS, LOSSES, MOST_AT_ONCE, Crew, Staff

RayError = type("RayError", (Exception,), {})
ERRORS = SimpleNamespace(
    RayError=RayError,
    RayTaskError=type("RayTaskError", (RayError,), {}),
    ActorUnavailableError=type("ActorUnavailableError", (RayError,), {}),
    ActorDiedError=type("ActorDiedError", (RayError,), {}),
)
Do = Callable[[Any, int], Any]
"""What an actor makes of a task: events, or an exception as its answer."""


class Method:
    def __init__(self, answer: Callable[..., Any]) -> None:
        self.remote = answer


class Ray:
    """Actors that answer at once, in the order in which they were asked."""

    exceptions = ERRORS

    def __init__(self, slots: dict[str, int], do: Do) -> None:
        self.living = {name: Node(name, name, count, False) for name, count in slots.items()}
        self.do, self.answers, self.numbers = do, {}, itertools.count()
        self.begun, self.killed = list[Any](), list[Any]()
        self.calls = list[tuple[int, ...]]()
        self.ping: Any = None
        self.full, self.withheld = set[str](), set[int]()

    def put(self, value: Any) -> Any:
        return value

    def make(self, node: Node) -> Any:
        def prepare(prepare: Any) -> int:
            return withheld(self._answer((None, [])))

        def ping() -> int:
            return withheld(self._answer(self.ping))

        def withheld(number: int) -> int:
            self.withheld |= {number} if node.id in self.full else set()
            return number

        def do(work: Any, given: list[tuple[int, Any]]) -> int:
            self.calls.append(tuple(index for index, _ in given))
            told: Any = []
            for index, _ in given:
                events = self.do(actor, index)
                if isinstance(events, Exception):
                    told = events
                    break
                told.append((events, []))
            return self._answer(told)

        actor = SimpleNamespace(
            node=node.id, prepare=Method(prepare), do=Method(do),
            ping=Method(ping),
        )  # fmt: skip
        self.begun.append(actor)
        return actor

    def _answer(self, value: Any) -> int:
        number = next(self.numbers)
        self.answers[number] = value
        return number

    def wait(self, owed: list[int], **_: Any) -> tuple[list[int], list[int]]:
        return sorted(set(owed) - self.withheld)[:1], []

    def get(self, answer: int) -> Any:
        value = self.answers.pop(answer)
        if isinstance(value, Exception):
            raise value
        return value

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)

    def crew(self, count: int | None = None, *, of_cluster: bool = True) -> Crew:
        check = (lambda node: None) if of_cluster else None
        return Crew(
            self, Staff(lambda: list(self.living.values()), count, self.make, check), int, iter
        )  # type: ignore[arg-type]

    def lose(self, name: str) -> Exception:
        self.living.pop(name, None)
        return ERRORS.ActorDiedError()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOLD_S", "DEATH_LOOK_S"):
        monkeypatch.setattr(ray_crew, name, 0.0)


def done(index: int) -> list[Event]:
    return [Event("done", index)]


def kinds(events: list[Event], kind: str) -> list[Any]:
    return [event.value if kind in ("lost", "workers") else event.task for event in events
            if event.kind == kind]  # fmt: skip


def test_actors_are_spread_over_the_nodes() -> None:
    ray = Ray({"one": 3, "two": 3, "three": 1}, lambda actor, index: done(index))
    events = list(ray.crew(4).events(range(40)))
    assert sorted(kinds(events, "done")) == list(range(40))
    assert Counter(actor.node for actor in ray.begun[:4]) == {"one": 2, "two": 1, "three": 1}
    every = Ray({"one": 3, "two": 3, "three": 1}, lambda actor, index: done(index))
    list(every.crew().events(range(40)))
    assert Counter(actor.node for actor in every.begun[:7]) == {"one": 3, "two": 3, "three": 1}
    few = Ray({"one": 3}, lambda actor, index: done(index))
    crew = few.crew()
    list(crew.events(range(2)))
    crew.stop()
    assert len(few.begun) == 2 == len(few.killed)


def test_tasks_of_a_lost_node_are_done_elsewhere_and_count_as_no_attempt() -> None:
    tried = Counter[int]()

    def do(actor: Any, index: int) -> Any:
        tried[index] += 1
        if actor.node == "one":
            return ray.lose("one")
        return done(index) if tried[index] > 1 or index != 5 else [Event("failed", index, "no")]

    ray = Ray({"one": 1, "two": 1}, do)
    events = list(ray.crew().events(range(9)))
    assert sorted(kinds(events, "done")) == list(range(9)) and not kinds(events, "failed")
    ((name, again),) = kinds(events, "lost")
    assert name == "one" and again == [0]
    assert kinds(events, "again") == [5]
    assert kinds(events, "workers")[-1] <= 1


def test_a_task_that_brings_down_node_after_node_fails() -> None:
    def do(actor: Any, index: int) -> Any:
        return ray.lose(actor.node) if index == 0 else done(index)

    ray = Ray({f"node {number}": 1 for number in range(LOSSES + 1)}, do)
    events: list[Event] = []
    with suppress(CarvidError):  # of a crew that has lost all nodes, and no task is failed then
        events.extend(ray.crew(1).events(range(3)))
    assert kinds(events, "failed") == [0] and sorted(kinds(events, "done")) == [1, 2]
    (failed,) = (event for event in events if event.kind == "failed")
    assert failed.value == "5 nodes were lost while they did it; see whether it is the cause"


def test_without_a_node_it_ends_in_one_line() -> None:
    ray = Ray({"one": 2}, lambda actor, index: ray.lose("one"))
    with pytest.raises(CarvidError, match=r"no node .* is left, and 8 of 8 .*continue with --res"):
        list(ray.crew().events(range(8)))


def test_a_task_that_kills_its_worker_is_found_among_short_ones() -> None:
    """Several are given at a time; each of those is then given alone, and the others are done."""
    fatal = 30
    ray = Ray(
        {"one": 1},
        lambda actor, index: ERRORS.ActorDiedError() if index == fatal else done(index),
    )
    events = list(ray.crew().events(range(200)))
    assert max(map(len, ray.calls)) == MOST_AT_ONCE
    assert sorted(kinds(events, "done")) == [k for k in range(200) if k != fatal]
    (failed,) = (event for event in events if event.kind == "failed")
    assert failed.task == fatal and failed.value.endswith(f"(tried {ATTEMPTS} times)")
    alone = [call for call in ray.calls if fatal in call][1:]
    assert alone == [(fatal,)] * ATTEMPTS


def test_an_actor_out_of_reach_is_asked_until_it_answers_or_is_dead() -> None:
    """While nobody knows whether it still works, its task is given to no other one."""
    answers: Iterator[Any] = iter([ERRORS.ActorUnavailableError()] * 3 + [None])

    def do(actor: Any, index: int) -> Any:
        if actor is ray.begun[0]:
            ray.ping = ERRORS.ActorUnavailableError()
            return ERRORS.ActorUnavailableError()
        return done(index)

    ray = Ray({"one": 1}, do)
    get = ray.get

    def get_after(answer: int) -> Any:
        if isinstance(ray.answers[answer], ERRORS.ActorUnavailableError):
            ray.ping = next(answers)
            assert len(ray.begun) == 1
        return get(answer)

    ray.get = get_after  # type: ignore[method-assign]
    events = list(ray.crew().events(range(3)))
    assert sorted(kinds(events, "done")) == [0, 1, 2]
    assert not kinds(events, "again") and len(ray.begun) == 2 and ray.begun[0] in ray.killed


def test_a_node_that_joins_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_crew, "LOOK_S", 0.0)

    def do(actor: Any, index: int) -> list[Event]:
        if len(ray.calls) == 2:
            ray.living["two"] = Node("two", "two", 2, False)
        return done(index)

    ray = Ray({"one": 1}, do)
    events = list(ray.crew().events(range(500)))
    assert len(kinds(events, "done")) == 500
    assert Counter(actor.node for actor in ray.begun) == {"one": 1, "two": 2}
    assert max(kinds(events, "workers")) == 3


def test_an_actor_does_not_wait_for_a_full_node_beside_an_empty_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOOK_S", "MOVE_S"):
        monkeypatch.setattr(ray_crew, name, 0.0)
    ray = Ray({"one": 1, "two": 1, "three": 1}, lambda actor, index: done(index))
    ray.full = {"one", "two"}
    events = list(ray.crew(1).events(range(5)))
    assert sorted(kinds(events, "done")) == list(range(5))
    assert [actor.node for actor in ray.begun] == ["one", "two", "three"]
    assert not kinds(events, "lost") and not kinds(events, "again")
