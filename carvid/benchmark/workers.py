"""Who does the work of a benchmark: processes of this machine, or actors of Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch

from carvid.base.errors import ConfigError
from carvid.base.threads import cores
from carvid.clip.on_ray import actors_of
from carvid.config import Config
from carvid.workers.processes import Processes, Workers, worker_number
from carvid.workers.ray_cluster import check_no_address

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


@dataclass(frozen=True)
class Asked:
    """Who is to do the work."""

    engine: Engine = "local"
    """`local`, processes of this machine, or `ray`."""
    workers: int | None = None
    """How many; None is one, of Ray as in `RayActors`."""
    ray_address: str | None = None
    """Of a cluster that is joined; None is what `RAY_ADDRESS` says, or else none."""

    def check(self) -> None:
        """Say early what cannot be.

        Raises:
            ConfigError: less than one worker, or an address without Ray.
            ValueError: an unknown engine.
        """
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; give 1 or more")
        if self.engine not in ("local", "ray"):
            raise ValueError(f"engine must be local or ray, got {self.engine!r}")
        check_no_address(self.engine, self.ray_address)


def workers_of(
    asked: Asked,
    configs: Sequence[Config],
    prepare: Callable[[], Tool],
    *,
    read: Iterable[Path],
    out: Path,
    tasks: int,
) -> tuple[Workers, Callable[[], Tool]]:
    """Return who does the tasks, and how each of them makes its tool.

    Args:
        asked: who is wanted.
        configs: of the models.
        prepare: makes a tool; pickled where it is made elsewhere.
        read: what every node of a cluster must see, beside the weights.
        out: where results go.
        tasks: how many there are; no more processes are started than that.

    Raises:
        ConfigError: Ray is not installed, or as `Asked.check`.
        ValueError: likewise.
    """
    asked.check()
    if asked.engine == "ray":
        return actors_of(
            configs, prepare, count=asked.workers, ray_address=asked.ray_address, read=read, out=out
        )
    count = min(asked.workers or 1, max(tasks, 1))
    device = configs[0].weights.device
    return Processes(count), partial(_sharing, prepare, device, count)


def _sharing(prepare: Callable[[], Tool], device: str, workers: int) -> Tool:
    share_machine(device, workers)
    return prepare()
