"""What every node of a cluster must have: the same programs, inputs and output folder.

A folder of the same name may be another one on each machine, as /tmp is. So files are compared by
their sizes and folders by the names in them, and the output folder by a file that this process
writes there and each node reads, and one that the node writes and this process reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from carvid.base.errors import ConfigError, OutputError
from carvid.base.files import partial_of
from carvid.workers.ray_cluster import Node, on_node

LOOK_S = 120.0
"""How long a node may take to look at thousands of files, from a process that begins there."""
SHARE = "put it on storage that all nodes share, under the same path"
SAME = "install the same on every node"


@dataclass(frozen=True)
class Needs:
    """What of this machine's files every node must see."""

    read: tuple[Path, ...]
    """Files and folders, of which none is looked into."""
    out: Path
    """The folder that results go to; it need not be there yet."""
    programs: dict[str, str]
    """`carvid`, `Python` and names of packages, each with its version."""
    folder: str | None = None
    """The working folder, if a name in what is done starts there."""

    @classmethod
    def of(
        cls,
        read: Iterable[Path],
        out: Path,
        names: Iterable[str | Path],
        programs: dict[str, str],
    ) -> Needs:
        """Return what is needed to read files and write to a folder.

        Args:
            read: of which each is looked at once.
            out: the folder of results.
            names: paths as workers are given them, which may start at the working folder.
            programs: as in `Needs`.
        """
        is_relative = any(not os.path.isabs(name) for name in names)
        paths = (Path(os.path.abspath(path)) for path in read)
        return cls(
            tuple(dict.fromkeys(paths)), Path(os.path.abspath(out)), programs,
            str(Path.cwd()) if is_relative else None,
        )  # fmt: skip


def check_nodes(ray: Any, nodes: Sequence[Node], needs: Needs, options: dict[str, Any]) -> None:
    """Let each node look, once, at what is needed.

    Args:
        ray: the module, joined to the cluster.
        nodes: who looks.
        needs: what is needed.
        options: of Ray's tasks, such as their environment.

    Raises:
        ConfigError: a node lacks something, or has another; the message names both.
        OutputError: this machine itself cannot write there.
    """
    seen, look = _looking()
    here = [(str(path), seen(str(path))) for path in needs.read]
    expected = ray.put([(path, what) for path, what in here if not isinstance(what, OSError)])
    token = uuid4().hex
    probe = _written(_nearest(needs.out), token)
    try:
        answers = {
            ray.remote(look)
            .options(num_cpus=0, max_retries=0, **on_node(node), **options)
            .remote(needs.programs, expected, str(probe), token, needs.folder): node
            for node in nodes
        }
        faults = [
            f"node {node.name} {fault}"
            for answer, node in answers.items()
            if (fault := _fault_of(ray, answer, probe, token))
        ]
    finally:
        for path in (probe, *probe.parent.glob(f"{probe.name}.*")):
            path.unlink(missing_ok=True)
    if faults:
        more = f" (so {len(faults)} of {len(nodes)} nodes)" if len(faults) > 1 else ""
        raise ConfigError(faults[0] + more)


def _fault_of(ray: Any, answer: Any, probe: Path, token: str) -> str | None:
    """What is wrong with a node, None if nothing is."""
    try:
        fault, written = ray.get(answer, timeout=LOOK_S)
    except ray.exceptions.GetTimeoutError:
        return f"does not answer within {LOOK_S:.0f} s; see to it, or take it out of the cluster"
    except ray.exceptions.RayError as error:
        why = (str(error).splitlines() or [""])[0]
        return f"cannot work: {type(error).__name__}: {why}; see to it, or take it out"
    if fault is not None:
        return str(fault)
    with suppress(OSError, ValueError):
        if Path(written).read_text(encoding="utf-8") == token:
            return None
    return f"writes to another '{probe.parent}' than this machine; {SHARE}"


def _nearest(out: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(folder for folder in (out, *out.parents) if folder.is_dir())


def _written(folder: Path, token: str) -> Path:
    """A file in a folder, named as one that a kill left unfinished."""
    probe = partial_of(folder / f"probe-{token}.txt")
    try:
        probe.write_text(token, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write to '{folder}': {error.strerror or error}; choose another folder"
        ) from None
    return probe


Seen = Callable[[str], object]
Look = Callable[[dict[str, str], list[tuple[str, object]], str, str, str | None], Any]


def _looking() -> tuple[Seen, Look]:
    """Functions that need nothing of carvid, as a node may have none: what a path leads to, and how
    a node looks. They go there by their code, since they are no module's."""
    share, same = SHARE, SAME

    def seen(path: str) -> object:
        """The size of a file, a digest of the names in a folder, or why neither can be told."""
        import hashlib
        import os

        try:
            if not os.path.isdir(path):
                return os.stat(path).st_size
            names = sorted(name for name in os.listdir(path) if not name.startswith("."))
            digest = hashlib.sha256("\0".join(names).encode(errors="surrogateescape"))
            return f"{len(names)} entries, {digest.hexdigest()[:12]}"
        except OSError as error:
            return error

    def other_program(versions: dict[str, str]) -> str | None:
        """Which program is another one here, or none."""
        import importlib
        import importlib.metadata
        import sys

        for name, wanted in versions.items():
            try:
                if name == "carvid":
                    found = importlib.import_module("carvid.version").__version__
                elif name == "Python":
                    found = sys.version.split()[0]
                else:
                    found = importlib.metadata.version(name)
            except ImportError:
                return f"has no {name}; {same}"
            if found != wanted:
                return f"has {name} {found}, this machine {wanted}; {same}"
        return None

    def other_file(expected: list[tuple[str, object]]) -> str | None:
        """Which file is another one here, or cannot be seen, and how many more."""
        faults = []
        for path, wanted in expected:
            found = seen(path)
            if isinstance(found, OSError):
                faults.append(f"cannot see '{path}' ({found.strerror})")
            elif found != wanted:
                faults.append(f"has another '{path}' than this machine")
        more = f", nor {len(faults) - 1} more" if len(faults) > 1 else ""
        return f"{faults[0]}{more}; {share}" if faults else None

    def look(
        versions: dict[str, str],
        expected: list[tuple[str, object]],
        probe: str,
        token: str,
        folder: str | None,
    ) -> tuple[str | None, str]:
        """What is wrong here, in words that follow the node's name; and the file written here."""
        import os
        import socket

        where, written = os.path.dirname(probe), ""
        fault = other_program(versions)
        if fault is None and folder is not None and not os.path.isdir(folder):
            fault = (f"cannot see the working folder '{folder}', where a path starts; give whole "
                     f"paths, or {share}")  # fmt: skip
        fault = fault or other_file(expected)
        if fault is not None:
            return fault, written
        try:
            with open(probe, encoding="utf-8") as file:
                if file.read() != token:
                    raise FileNotFoundError
        except OSError:
            is_there = os.path.isdir(where)
            told = f"has another '{where}' than this machine" if is_there else f"has no '{where}'"
            return f"{told}; {share}", written
        written = f"{probe}.{socket.gethostname()}-{os.getpid()}"
        try:
            with open(written, "x", encoding="utf-8") as file:
                file.write(token)
        except OSError as error:
            return f"cannot write to '{where}': {error.strerror}; let it, or {share}", written
        return None, written

    return seen, look
