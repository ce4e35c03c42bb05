"""How a set of expressions is written: a run's folder whose masks go where evaluations look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carvid.benchmark.jobs import SetRun
from carvid.media.label_png import write_label_png
from carvid.run.facts import RunFacts
from carvid.run.folder import RunFolder
from carvid.run.result import FrameResult


class SetFolder(RunFolder):
    """A run's folder of one set of expressions; it has no overlay."""

    def __init__(self, run: SetRun, facts: RunFacts) -> None:
        super().__init__(run.folder, facts)
        self._run = run

    @property
    def finished(self) -> bool:
        return super().finished and self._run.has_all_masks

    @property
    def mask_folders(self) -> tuple[Path, ...]:
        return self._run.mask_folders

    def mask_files(self, index: int) -> list[Path]:
        return [folder / f"{self._run.frames[index]}.png" for folder in self._run.mask_folders]

    def write_classes(self, frames: int) -> None:
        """Write nothing: a data set's expressions are no classes."""

    def write_masks(self, result: FrameResult, labels: NDArray[np.uint8]) -> None:
        name = f"{self._run.frames[result.index]}.png"
        for folder, mask in zip(self._run.expression_folders, result.masks, strict=True):
            write_label_png(folder / name, mask.astype(np.uint8))
        if self._run.label_folder is not None:
            write_label_png(self._run.label_folder / name, labels)
