"""FrameResult: what carvid finds in one frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carvid.base.brief import Brief
from carvid.base.scale import ROWS, enlarged_rows, resize
from carvid.base.spreadsheet import as_text
from carvid.car.label_map import paint
from carvid.media.label_png import label_map
from carvid.temporal.pending import CausalFrame, DecidedFrame
from carvid.temporal.state import TemporalState


@dataclass(frozen=True, eq=False, repr=False)
class FrameResult(Brief):
    """What carvid finds in one frame, for N expressions."""

    index: int
    """The frame's index, from 0."""
    time_s: float
    """The frame's time, seconds; NaN where the input has none."""
    masks: NDArray[np.bool_]
    """bool (N, H, W); masks of different expressions may overlap."""
    maps: NDArray[np.float32]
    """float32 (N, h, w) in [0, 1]: what the masks were made from; where masks are carried, the
    soft maps that they are cut from at 0.5. Of frames larger than 480p they are smaller."""
    scores: NDArray[np.float32]
    """float32 (N,) in [0, 1]: each expression's score when it was last asked."""
    state: TemporalState
    """The state that this frame leaves to the next."""
    stuff: NDArray[np.bool_] | None = None
    """bool (N,): which expressions name stuff, where they are classes (`car.mode=semantic`); None
    where they are not."""

    @classmethod
    def of(
        cls, frame: CausalFrame | DecidedFrame, stuff: NDArray[np.bool_] | None = None
    ) -> FrameResult:
        """Return a frame that was followed along time, as the user gets it."""
        return cls(
            index=frame.index,
            time_s=frame.time_s,
            masks=frame.masks,
            maps=frame.maps,
            scores=frame.state.scores[: len(frame.masks)],
            state=frame.state,
            stuff=stuff,
        )

    @property
    def proposals(self) -> NDArray[np.float32]:
        """`maps` at the frame's size, float32 (N, H, W)."""
        return resize(self.maps, (self.masks.shape[1], self.masks.shape[2]))

    @property
    def cosines(self) -> NDArray[np.float32]:
        """float32 (N,): cosine of the views that were scored with the expressions; NaN where there
        was none."""
        return self.state.cosines[: len(self.masks)]

    @property
    def path_values(self) -> NDArray[np.float32]:
        """float32 (N,) in [0, 1]: each expression's path value; 1 where masks are not carried."""
        return self.state.path_values(len(self.masks))

    @property
    def nbytes(self) -> int:
        """What the frame's arrays take, about."""
        return self.masks.nbytes + self.maps.nbytes

    def labels(self) -> NDArray[np.uint8]:
        """Return one label map, uint8 (H, W). Where masks overlap, the higher proposal has it,
        times the path value of its expression (1 where masks are not carried); of classes things
        cover stuff, and the higher score a lower one."""
        if self.stuff is not None:
            return paint(self.masks, self.scores, self.stuff).astype(np.uint8)
        size_hw = self.masks.shape[1:]
        values = self.path_values[:, None, None]
        labels = np.empty(size_hw, np.uint8)
        for top in range(0, len(labels), ROWS):
            part = slice(top, top + ROWS)
            rank = values * [enlarged_rows(plane, size_hw, top) for plane in self.maps]
            planes = np.where(self.masks[:, part], 0.5 + rank / 2, 0)
            labels[part] = label_map(planes.astype(np.float32))
        return labels

    def rows(self, texts: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the frame's rows of scores.csv; expressions by `as_text`."""
        areas = self.masks.sum(axis=(1, 2)).tolist()
        cosines = ["" if math.isnan(cosine) else f"{cosine:.6f}" for cosine in self.cosines]
        return [
            (str(self.index), f"{self.time_s:.6f}", str(k + 1), as_text(text),
             f"{self.scores[k]:.6f}", cosines[k], str(int(areas[k] > 0)), str(areas[k]))
            for k, text in enumerate(texts)
        ]  # fmt: skip
