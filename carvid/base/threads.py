"""How many threads torch computes with by itself, and how they wait for each other: asleep.

Left to itself a thread of OpenMP's that waits keeps its core for milliseconds. Beside anything else
that computes it then keeps the very thread from running that it waits for, and a run takes ten
times as long and more. The results are the same bytes either way. OpenMP reads its environment
once, when torch is loaded, so all this must be said before.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Variables by which users say how threads wait; where any of them is set, it decides."""
COUNTING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which users say how many threads there are, likewise."""
CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def environment() -> dict[str, str]:
    """Return what OpenMP should find in its environment and does not yet.

    The number of threads depends on what this process is granted, never on how busy the machine
    is: sums of another order have other last bits.
    """
    missing = {}
    if not any(name in os.environ for name in WAITING):
        missing["OMP_WAIT_POLICY"] = "PASSIVE"
    # OpenMP sees by itself on which cores it may run, but not for how much of their time.
    if not any(name in os.environ for name in COUNTING) and granted_time() < granted_cores():
        missing["OMP_NUM_THREADS"] = str(cores())
    return missing


@contextmanager
def sleeping_threads() -> Iterator[None]:
    """Let threads of what is loaded or started within the block sleep while they wait.

    Nothing changes what the user has set; afterwards the environment is as before. Where torch is
    loaded already, it stays as it is.
    """
    missing = environment()
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def cores() -> int:
    """Return how many cores' time this process may use, at least 1."""
    return max(1, math.ceil(min(granted_cores(), granted_time())))


def granted_cores() -> int:
    """Return on how many cores this process may run."""
    # Linux may grant fewer than there are; elsewhere Python cannot tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def granted_time() -> float:
    """Return how many cores' time a container grants this process; infinity where none limits it.

    The least of `cpu.max` (cgroup v2), or of `cpu.cfs_quota_us` (v1), on the way from the process's
    own group to the root.
    """
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return math.inf
    limits = [math.inf]
    for line in lines:
        _, kinds, place = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        root = CGROUPS / kinds if kinds else CGROUPS
        own = root / place.lstrip("/")
        for folder in (own, *own.parents[: len(own.parts) - len(root.parts)]):
            limits.append(_limit(folder))
    return min(limits)


def _limit(folder: Path) -> float:
    """Return the cores' time that one group is granted; infinity if it says nothing."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # "max", or no such file
        return math.inf
