"""What a run that goes on has done: in `.carvid/` of its folder, the state and the scores so far.

A stopped run resumes after its last whole frame, a killed one after the last that was noted.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import time
import zlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from carvid.base.errors import RESUME, OutputError
from carvid.base.files import make_folder, read_json, write_text
from carvid.run.facts import RunFacts
from carvid.run.layout import PROGRESS_FOLDER
from carvid.run.memory_files import MemoryFiles
from carvid.run.scores import fault_in_scores, to_csv
from carvid.temporal.state import TemporalState

PROGRESS_SHARE = 0.1
"""What writing the progress may take of the time: where frames are many and large, not each frame's
is written, and a kill loses some."""
NOT_OURS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, csv.Error,
            zlib.error)  # fmt: skip
"""What reading a run's files raises when carvid did not write them."""


class Progress:
    """The progress of a run.

    Args:
        folder: the run's.
        facts: what the run is made of.
    """

    def __init__(self, folder: Path, facts: RunFacts) -> None:
        self.done = 0
        """Whole frames that are there."""
        self.state: TemporalState | None = None
        """The state that the last of them has left; None before the first."""
        self._from: tuple[int, TemporalState | None] = (0, None)
        """The same of the last frame from whose state a run can go on."""
        self._run_json, self._folder, self._facts = (
            folder / "run.json",
            folder / PROGRESS_FOLDER,
            facts,
        )
        self._file, self._scores = self._folder / "progress.json", self._folder / "scores.csv"
        self._memory = MemoryFiles(self._folder)
        self._save_from_s = -math.inf
        """When to save next, by the monotonic clock."""

    @property
    def begun(self) -> bool:
        """Whether a run has begun and is not whole."""
        return self._file.exists()

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """What must be equal for a run to go on; as JSON reads it back."""
        values: dict[str, Any] = json.loads(json.dumps(self._facts.to_dict()))
        return values

    def make_folder(self) -> None:
        """Make the folder, which marks the one that it is in as a run's."""
        make_folder(self._folder)

    def load(self) -> str | None:
        """Take up what was saved, and forget the rows of a frame that was not finished; return what
        is damaged, if anything is, and take up nothing then."""
        try:
            values = read_json(self._file)
            state, done = TemporalState.from_dict(values["state"]), values["next"]
            if not isinstance(done, int) or done < 0:
                raise ValueError
            state = self._memory.read(state, values.get("memory"))
        except NOT_OURS:
            return f"'{self._file}' is damaged"
        if self._scores.exists() or done:
            fault = fault_in_scores(self._scores, len(self._facts.texts), done, header=False)
            if fault is not None:
                return fault
        self._cut_scores(done)
        self.done, self.state = self._from = done, state
        return None

    def begin(self) -> None:
        """Note that nothing is done yet."""
        self.done, self.state = self._from = 0, None
        self._cut_scores(0)
        self.save()

    def add(self, index: int, state: TemporalState, rows: Iterable[Sequence[str]]) -> None:
        """Note a whole frame; it counts once it is saved, which is soon, and a run can go on from
        it or a later one.

        Raises:
            OutputError: the place cannot be written.
        """
        try:
            with open(self._scores, "a", encoding="utf-8", newline="") as file:
                file.write(to_csv(rows))
        except OSError as error:
            raise OutputError(
                f"cannot write scores to '{self._run_json.parent}': {error.strerror}; free some "
                f"space and continue with {RESUME}"
            ) from None
        self.done, self.state = index + 1, state
        if state.can_go_on:
            self._from = self.done, state
        if time.monotonic() >= self._save_from_s:
            self.save()

    def save(self) -> None:
        """Write what is done, as far as a run can go on from it, whole."""
        began_s = time.monotonic()
        count = len(self._facts.texts) + len(self._facts.distractors)
        done, left = self._from
        state, memory = self._memory.write(left or TemporalState.initial(count), done)
        named = {} if memory is None else {"memory": memory}
        values = {"next": done, "state": state.to_dict(), **named, "inputs": self.inputs}
        write_text(self._file, json.dumps(values))
        self._memory.keep(memory)
        now_s = time.monotonic()
        self._save_from_s = now_s + (now_s - began_s) / PROGRESS_SHARE

    def scores(self) -> str:
        """Return the rows so far, without a header."""
        return self._scores.read_text(encoding="utf-8") if self._scores.exists() else ""

    def remove(self) -> None:
        """Forget it: the run is whole."""
        self._file.unlink()  # first: what is left of it means nothing
        shutil.rmtree(self._folder)

    def discard(self) -> None:
        """Forget it, as far as it is there."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _cut_scores(self, frames: int) -> None:
        """Drop rows of a frame that was not finished."""
        if not self._scores.exists():
            return
        with self._scores.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        write_text(self._scores, to_csv(rows[: frames * len(self._facts.texts)]))
