"""What a run of the example clip costs on a busy machine.

Used by `tools/bench.py busy`. Every run is the real command line in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from carvid.base.threads import WAITING
from carvid.demo.example import NAME, TEXT, example_folder

SPINNING = "GOMP_SPINCOUNT=300000"
"""What libgomp does if nothing is said: a waiting thread keeps its core for milliseconds."""
AS_IS = "as carvid has them"
LIMITS = {"busy": 1.6, "two": 2.4}
"""What a run may take, in times of the idle run: beside a busy core, and beside another run."""
BUSY_LOOP = "while True: pass"
HEAD = "| threads | situation | frames, s | × idle | command, s | × idle |\n|-|-|-|-|-|-|"


@dataclass(frozen=True)
class Taken:
    """What one command took."""

    frames_s: float
    """From the first frame to the last file (`timing` in run.json)."""
    command_s: float
    """All of it, with Python's start and loading."""
    masks: bytes
    """The label maps, one PNG after the other."""


def run_at_once(count: int, environment: Mapping[str, str], settings: Sequence[str]) -> list[Taken]:
    """Start `count` runs together and wait for all."""
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / str(index) for index in range(count)]
        began = time.monotonic()
        running = [_start(out, environment, settings) for out in outs]
        ends: dict[int, float] = {}
        try:
            while len(ends) < count:
                for index, process in enumerate(running):
                    if index not in ends and process.poll() is not None:
                        ends[index] = time.monotonic() - began
                time.sleep(0.01)
        finally:
            for process in running:
                process.kill()
        for process in running:
            if process.returncode:
                raise RuntimeError(f"carvid run ended with exit status {process.returncode}")
        return [_taken(out, ends[index]) for index, out in enumerate(outs)]


def _start(
    out: Path, environment: Mapping[str, str], settings: Sequence[str]
) -> subprocess.Popen[bytes]:
    clip = example_folder() / f"{NAME}.mp4"
    command = [sys.executable, "-m", "carvid", "run", str(clip), "--expr", TEXT, "-o", str(out)]
    command += ["--preset", "tiny", *(f"--set={each}" for each in settings)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=dict(environment), **quiet)  # type: ignore[call-overload]


def _taken(out: Path, seconds: float) -> Taken:
    timing = json.loads((out / "run.json").read_text())["timing"]
    masks = b"".join(path.read_bytes() for path in sorted((out / "masks").glob("*.png")))
    return Taken(timing["seconds"], seconds, masks)


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Keep cores busy, by a process each that never waits."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            with suppress(OSError):
                loop.kill()
            loop.wait()


def compare(
    settings: Sequence[str], rounds: int, *, spinning: bool
) -> tuple[list[dict[str, Any]], bool]:
    """Time runs idle, beside a busy core, and two at once, each `rounds` times, in turn.

    Returns:
        A line for each kind of waiting and each situation, medians over the rounds (of two runs at
        once the slower counts); and whether all masks of all runs are the same bytes.
    """
    plain = {key: value for key, value in os.environ.items() if key not in WAITING}
    ways = {AS_IS: plain}
    if spinning:
        key, _, value = SPINNING.partition("=")
        ways[SPINNING] = {**plain, key: value}
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    masks = set()
    for _ in range(rounds):
        for way, environment in ways.items():
            for situation, cores, count in (("idle", 0, 1), ("busy", 1, 1), ("two", 0, 2)):
                with busy_cores(cores):
                    taken = run_at_once(count, environment, settings)
                masks.update(each.masks for each in taken)
                slowest = (max(t.frames_s for t in taken), max(t.command_s for t in taken))
                times.setdefault((way, situation), []).append(slowest)
    lines = []
    for way, situation in times:
        own, idle = (
            [median(values) for values in zip(*times[way, which], strict=True)]
            for which in (situation, "idle")
        )
        lines.append({
            "threads": way, "situation": situation,
            "frames_s": own[0], "frames_ratio": own[0] / idle[0],
            "command_s": own[1], "command_ratio": own[1] / idle[1],
        })  # fmt: skip
    return lines, len(masks) == 1


def too_long(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the frames of a run take longer than `LIMITS` allows, as carvid has its threads."""
    return any(
        line["frames_ratio"] > LIMITS.get(line["situation"], float("inf"))
        for line in lines
        if line["threads"] == AS_IS
    )


def row(line: Mapping[str, Any]) -> str:
    """Return a line of the table under `HEAD`."""
    cells = [f"{line[key]:.2f}" for key in ("frames_s", "frames_ratio", "command_s")]
    cells.append(f"{line['command_ratio']:.2f}")
    return f"| {line['threads']} | {line['situation']} | {' | '.join(cells)} |"
