"""Models in actors of Ray: the same weights as here, and as many threads."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import torch

from carvid.base.errors import WeightsError
from carvid.clip.content import content_of, weights_files
from carvid.config import Config
from carvid.version import __version__
from carvid.workers.ray_actors import RayActors
from carvid.workers.ray_cluster import cluster_address, find_ray
from carvid.workers.ray_nodes import Needs

Tool = TypeVar("Tool")
PACKAGES = ("torch", "numpy", "opencv-python-headless", "av", "ray")
"""Those by which results, or whether there are any, may differ."""


def actors_of(
    configs: Sequence[Config],
    prepare: Callable[[], Tool],
    *,
    count: int | None,
    ray_address: str | None,
    read: Iterable[Path],
    out: Path,
    names: Iterable[str | Path] = (),
) -> tuple[RayActors, Callable[[], Tool]]:
    """Return actors, and how each of them makes its tool.

    Args:
        configs: of the models; their weights and device.
        prepare: makes a tool with these models.
        count: how many actors; None as in `RayActors`.
        ray_address: of the cluster, if one is given.
        read: what every node of a cluster must see beside the weights: each is looked at once.
        out: where results go.
        names: other paths that actors are given, and which may start at the working folder.

    Raises:
        ConfigError: Ray is not installed, or the address is one for its client.
    """
    find_ray()
    address, threads = cluster_address(ray_address), torch.get_num_threads()
    weights = [path for config in configs for path in weights_files(config)]
    models = _models_of(configs)
    local = [name for name in models if Path(name).exists()]
    needs = Needs.of([*read, *weights], out, [*names, *local], _programs())
    known = {} if address is None else {name: content_of(name) for name in models}
    contents = {name: content for name, content in known.items() if content is not None}
    device = configs[0].weights.device
    actors = RayActors(count, device, threads, address, needs)
    return actors, partial(_prepared, prepare, threads, contents)


def _programs() -> dict[str, str]:
    """The programs of this machine, with their versions."""
    found = {"carvid": __version__, "Python": sys.version.split()[0]}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _models_of(configs: Iterable[Config]) -> list[str]:
    return list(dict.fromkeys(name for each in configs for name in each.networks.values()))


def _prepared(prepare: Callable[[], Tool], threads: int, contents: dict[str, str]) -> Tool:
    """Make a tool in an actor.

    Raises:
        WeightsError: its weights are not those of the machine where the command runs.
    """
    torch.set_num_threads(threads)
    with ThreadPoolExecutor(1, "carvid-content") as pool:
        read = {name: pool.submit(content_of, name) for name in contents}
        tool = prepare()  # which may download them
    for name, content in contents.items():
        if (read[name].result() or content_of(name)) != content:
            raise WeightsError(
                f"the weights '{name}' are others on {socket.gethostname()} than where the command "
                "runs; put one folder of them on storage that all nodes share, and give that"
            )
    return tool
