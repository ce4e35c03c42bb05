"""What a run has followed so far, before anybody knows which of it are things: in `.carvid/` of its
folder, or in memory.

    .carvid/instances/frames.jsonl     a line for each frame: numbers, scores, packed masks
    .carvid/instances/progress.json    how many of them count, and the state that the last has left
    .carvid/instances/sam2-….npz       what SAM 2 remembered there, if it carries
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import RESUME, OutputError
from carvid.base.files import make_folder, read_json, write_text
from carvid.run.layout import PROGRESS_FOLDER
from carvid.run.memory_files import MemoryFiles
from carvid.run.progress import NOT_OURS, PROGRESS_SHARE
from carvid.temporal.instance_state import InstanceFrame, InstanceState
from carvid.temporal.packing import pack, unpack

INSTANCES_FOLDER = "instances"
"""In `PROGRESS_FOLDER`."""


class Tracklets:
    """The frames of a run's first pass, in order.

    Args:
        folder: the run's; None keeps them in memory.
        inputs: what must be equal for a first pass to go on, JSON-able.
    """

    def __init__(self, folder: Path | None = None, inputs: dict[str, Any] | None = None) -> None:
        self._folder = None if folder is None else folder / PROGRESS_FOLDER / INSTANCES_FOLDER
        self._inputs = json.loads(json.dumps(inputs))
        self._lines: list[str] = []
        """In memory."""
        self._bytes, self._save_from_s = 0, -math.inf
        self.done = 0
        """Frames that are there."""
        self.state = InstanceState()
        """What the last of them has left."""
        self._from = (0, 0, self.state)
        """Frames, bytes and the state of the last frame from whose state a run can go on."""
        self.whole = False
        """Whether it came to the end of the clip."""
        self.lost: tuple[str, ...] = ()
        """What of the video could not be read, a line each, once it is whole."""

    def take_up(self) -> None:
        """Take up what an earlier process has left, if it was asked for the same and is not
        damaged."""
        if self._folder is None or not self._progress.exists():
            return
        try:
            values = read_json(self._progress)
            if values["inputs"] != self._inputs:
                return
            state, done = InstanceState.from_dict(values["state"]), int(values["next"])
            count, whole, lost = int(values["bytes"]), bool(values["whole"]), values["lost"]
            if self._data.stat().st_size < count:
                return
            state = MemoryFiles(self._folder).read(state, values.get("memory"))
        except (OSError, *NOT_OURS):
            return
        self._bytes, self.done, self.state = count, done, state
        self._from = done, count, state
        self.whole, self.lost = whole, tuple(map(str, lost))

    def begin(self) -> None:
        """Make room for what comes after `done` frames.

        Raises:
            OutputError: the place cannot be written.
        """
        if self._folder is None:
            return
        make_folder(self._folder)
        try:
            with self._data.open("ab") as file:
                file.truncate(self._bytes)
        except OSError as error:
            raise self._cannot_write(error) from None

    def add(self, frame: InstanceFrame, state: InstanceState) -> None:
        """Keep a frame, and the state that it leaves; it counts once it is saved, which is soon.

        Raises:
            OutputError: the place cannot be written.
        """
        line = json.dumps(_to_dict(frame)) + "\n"
        if self._folder is None:
            self._lines.append(line)
        else:
            try:
                with self._data.open("ab") as file:
                    file.write(line.encode())
            except OSError as error:
                raise self._cannot_write(error) from None
        self._bytes += len(line.encode())
        self.done, self.state = self.done + 1, state
        if state.can_go_on:
            self._from = self.done, self._bytes, state
        if time.monotonic() >= self._save_from_s:
            self.save()

    def finish(self, lost: Sequence[str]) -> None:
        """Note that the clip has come to its end, and what of it could not be read."""
        self.whole, self.lost = True, tuple(lost)
        self._from = self.done, self._bytes, self.state
        self.save()

    def save(self) -> None:
        """Write how far it is, as far as a run can go on from there."""
        if self._folder is None:
            return
        began_s = time.monotonic()
        (done, count, left), memories = self._from, MemoryFiles(self._folder)
        state, memory = memories.write(left, done)
        values = {
            "inputs": self._inputs, "next": done, "bytes": count, "whole": self.whole,
            "lost": list(self.lost), "state": state.to_dict(), "memory": memory,
        }  # fmt: skip
        write_text(self._progress, json.dumps(values))
        memories.keep(memory)
        now_s = time.monotonic()
        self._save_from_s = now_s + (now_s - began_s) / PROGRESS_SHARE

    def discard(self) -> None:
        """Forget all of it."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def frames(self) -> Iterator[InstanceFrame]:
        """Yield the frames.

        Raises:
            OutputError: they are damaged.
        """
        if self._folder is None:
            yield from map(_from_line, self._lines)
            return
        try:
            with self._data.open(encoding="utf-8") as file:
                for _ in range(self.done):
                    yield _from_line(file.readline())
        except (OSError, *NOT_OURS):
            raise OutputError(
                f"'{self._data}' is damaged; remove it, and make the run again with {RESUME}"
            ) from None

    @property
    def _data(self) -> Path:
        assert self._folder is not None
        return self._folder / "frames.jsonl"

    @property
    def _progress(self) -> Path:
        assert self._folder is not None
        return self._folder / "progress.json"

    def _cannot_write(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write to '{self._folder}': {error.strerror}; free some space and continue "
            f"with {RESUME}"
        )


_PLAIN = ("index", "time_s", "is_key", "shot", "numbers", "owners", "scores", "found", "best")


def _to_dict(frame: InstanceFrame) -> dict[str, Any]:
    masks = [pack(np.packbits(mask)) for mask in frame.masks]
    values = {name: getattr(frame, name) for name in _PLAIN}
    return {**values, "size_hw": list(frame.masks.shape[1:]), "masks": masks}


def _from_line(line: str) -> InstanceFrame:
    values = json.loads(line)
    height, width = (int(side) for side in values["size_hw"])
    plain: dict[str, Any] = {
        name: tuple(values[name]) if isinstance(values[name], list) else values[name]
        for name in _PLAIN
    }
    masks = [_unpacked(text, (height, width)) for text in values["masks"]]
    return InstanceFrame(**plain, masks=np.array(masks, bool).reshape(-1, height, width))


def _unpacked(text: str, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    count = math.prod(size_hw)
    bits = unpack(text, (-(-count // 8),))
    return np.unpackbits(bits, count=count).view(bool).reshape(size_hw)
