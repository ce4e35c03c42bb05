"""Ray: one that is begun on this machine and ended afterwards, or a cluster that is joined and left
as it was."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from carvid.base.errors import ConfigError

ADDRESS = "RAY_ADDRESS"
"""Ray's own variable for the cluster to join."""
HERE = ("", "local")
"""Addresses that say to begin one on this machine."""
ANSWER_S = 10.0
"""How long a machine may take to take a connection."""
JOIN_S = 60.0
"""How long a cluster may take to let a program join, beginning Python and Ray included."""
MARK = "because: "
JOINING = f"""
import logging, sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
except Exception as error:
    sys.exit("{MARK}" + (str(error).splitlines() or [type(error).__name__])[0])
"""
REMEDY = "see to it with 'ray status' there, or leave --ray-address away"
FAILURES = (ConnectionError, OSError, RuntimeError, ValueError)
"""What `ray.init` raises."""


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


def cluster_address(given: str | None) -> str | None:
    """Return which cluster is to be joined: the one given, or else the variable's; None if Ray is
    to be begun on this machine.

    Raises:
        ConfigError: the address is one for Ray's client, which has another form.
    """
    address = os.environ.get(ADDRESS, "") if given is None else given
    address = address.strip()
    if address.startswith("ray://"):
        raise ConfigError(
            f"'{address}' is for Ray's client, which is not used; run carvid on a machine of the "
            "cluster, with --ray-address auto"
        )
    return None if address in HERE else address


def check_no_address(engine: str, given: str | None) -> None:
    """Refuse an address that nobody would use.

    Raises:
        ConfigError: one is given, and the engine is another.
    """
    if given is not None and engine != "ray":
        raise ConfigError("--ray-address is for --engine ray; add that, or leave it away")


@contextmanager
def ray_at(ray: Any, address: str | None, cpus: int) -> Iterator[None]:
    """Have Ray within the block: the one that the caller has begun, the cluster at `address`, or
    one of this machine. Only what was begun here is ended; a cluster goes on.

    Args:
        ray: the module.
        address: of `cluster_address`.
        cpus: what Ray of this machine has to give to workers.

    Raises:
        ConfigError: the cluster does not answer, or is of another version; or Ray cannot begin.
    """
    if ray.is_initialized():
        yield
        return
    if address is None:
        begin_ray(ray, cpus)
    else:
        join_cluster(ray, address)
    try:
        yield
    finally:
        ray.shutdown()  # of a cluster, leaves it


def begin_ray(ray: Any, cpus: int) -> None:
    """Begin Ray on this machine.

    Raises:
        ConfigError: it cannot begin.
    """
    _init(
        ray, lambda why: f"Ray cannot begin: {why}; see to it, or leave --engine ray away",
        address="local", num_cpus=cpus, include_dashboard=False,
    )  # fmt: skip


def join_cluster(ray: Any, address: str) -> None:
    """Join the cluster at an address, host:port or `auto`.

    Where nobody answers Ray waits for minutes, and ends the process that asks. So another process
    asks first, and has `JOIN_S`.

    Raises:
        ConfigError: it does not answer in time, or is of another version.
    """

    def told(why: str) -> str:
        return f"the Ray cluster at '{address}' cannot be joined: {why}; {REMEDY}"

    _check_connection(address, told)
    command = [sys.executable, "-c", JOINING, address]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=JOIN_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ConfigError(told(f"no answer within {JOIN_S:.0f} s")) from None
    if asked.returncode != 0:
        raise ConfigError(told(_reason(asked.stderr)))
    _init(ray, told, address=address)


def _check_connection(address: str, told: Callable[[str], str]) -> None:
    """Refuse at once what nobody listens at."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        if address == "auto":
            return
        raise ConfigError(told("it is no address; give host:port, or auto"))
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ConfigError(told(why[:1].lower() + why[1:])) from None


def _reason(said: str) -> str:
    """Why the process that asked could not join, among what Ray logs."""
    if "Unauthenticated" in said:
        return "it wants another token of Ray's than this machine has (RAY_AUTH_TOKEN_PATH)"
    told = [line.removeprefix(MARK) for line in said.splitlines() if line.startswith(MARK)]
    return told[-1] if told else "what answers there is no Ray"


def _init(ray: Any, told: Callable[[str], str], **how: Any) -> None:
    ending = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **how)
    except FAILURES as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(told(why)) from None
    finally:  # Ray takes SIGTERM for itself
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ending)


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that has room for workers."""

    id: str
    """Ray's."""
    name: str
    """Its host name and address, and how its id begins."""
    slots: int
    """How many workers it has room for, were it idle."""
    is_here: bool
    """Whether it is the machine of this very process."""


def nodes_of(ray: Any, kind: str, each: float) -> list[Node]:
    """Return the nodes that live and have room for a worker.

    Args:
        ray: the module.
        kind: what a worker takes, `GPU` or `CPU`.
        each: how much of it.
    """
    here = ray.get_runtime_context().get_node_id()
    found = []
    for facts in ray.nodes():
        slots = int(facts["Resources"].get(kind, 0) // each)
        if facts["Alive"] and slots > 0:
            number = facts["NodeID"]
            name = f"{facts['NodeManagerHostname']} ({facts['NodeManagerAddress']}, {number[:6]})"
            found.append(Node(number, name, slots, number == here))
    return sorted(found, key=lambda node: node.is_here)


def on_node(node: Node) -> dict[str, Any]:
    """Return Ray's options of what is to be there and nowhere else."""
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    return {"scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)}
