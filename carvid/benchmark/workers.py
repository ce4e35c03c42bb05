"""Who does the work of a benchmark: processes of this machine, or actors of Ray."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import torch

from carvid.base.errors import ConfigError
from carvid.base.processes import Processes, Workers, worker_number
from carvid.base.ray_actors import RayActors
from carvid.base.ray_cluster import find_ray
from carvid.base.threads import cores

Tool = TypeVar("Tool")
Engine = Literal["local", "ray"]


def share_machine(device: str, workers: int) -> None:
    """Let this process be one of several: they share the cores, and take the GPUs in turn, unless a
    device is named by its number.

    Args:
        device: the setting `weights.device`.
        workers: how many processes there are.
    """
    if workers == 1:
        return
    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores() // workers)))
    if device in ("auto", "cuda") and (count := torch.cuda.device_count()):
        torch.cuda.set_device(worker_number() % count)  # `cuda` then means that one


def workers_of(
    engine: Engine, workers: int | None, device: str, prepare: Callable[[], Tool], tasks: int
) -> tuple[Workers, Callable[[], Tool]]:
    """Return who does the tasks, and how each of them makes its tool.

    Args:
        engine: `local`, processes of this machine, or `ray`.
        workers: how many; None is one, of Ray one for each GPU.
        device: the setting `weights.device`.
        prepare: makes a tool; pickled where it is made elsewhere.
        tasks: how many there are; no more processes are started than that.

    Raises:
        ConfigError: less than one worker, or Ray is not installed.
        ValueError: an unknown engine.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; give 1 or more")
    if engine == "ray":
        find_ray()
        threads = torch.get_num_threads()
        return RayActors(workers, device, threads), partial(_with_threads, prepare, threads)
    if engine != "local":
        raise ValueError(f"engine must be local or ray, got {engine!r}")
    count = min(workers or 1, max(tasks, 1))
    return Processes(count), partial(_sharing, prepare, device, count)


def _sharing(prepare: Callable[[], Tool], device: str, workers: int) -> Tool:
    share_machine(device, workers)
    return prepare()


def _with_threads(prepare: Callable[[], Tool], threads: int) -> Tool:
    torch.set_num_threads(threads)
    return prepare()
