"""A frame of a run in which things have labels of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import shrink_masks, small_size
from carvid.run.facts import RunFacts
from carvid.run.result import FrameResult
from carvid.temporal.census import Thing, numbers_of
from carvid.temporal.instance_state import InstanceFrame
from carvid.temporal.state import TemporalState


@dataclass(frozen=True, eq=False, repr=False)
class InstanceResult(FrameResult):
    """A frame in which things have labels: some masks are of things, others of expressions."""

    own_values: NDArray[np.float32] | None = None
    """float32 (N,) in [0, 1]: the path value of each label."""
    own_cosines: NDArray[np.float32] | None = None
    """float32 (N,): `cosines`; NaN of things."""

    @property
    def path_values(self) -> NDArray[np.float32]:
        """float32 (N,) in [0, 1]: each label's path value; a thing's is its score."""
        assert self.own_values is not None
        return self.own_values

    @property
    def cosines(self) -> NDArray[np.float32]:
        """float32 (N,): cosines of expressions; NaN of things."""
        assert self.own_cosines is not None
        return self.own_cosines


class Labels:
    """Which label is which thing, or which expression.

    Args:
        facts: of the run, with labels (`carvid.run.asked.with_labels`).
        things: index of an expression that is asked for all its things → those, in the order of
            labels.
        queries: how many expressions and distractors were asked for.
    """

    def __init__(
        self, facts: RunFacts, things: Mapping[int, Sequence[Thing]], queries: int
    ) -> None:
        self._count, self._queries = len(facts.texts), queries
        self._rows: dict[int, int] = {}
        """Number of a track → its label, from 0."""
        self._plain: list[int] = []
        self._nothing: list[int | None] = []
        for index, asked in enumerate(facts.asked):
            rows = [label - 1 for label in asked.labels]
            if not asked.instances:
                self._plain += rows
            else:
                mine = things.get(index, ())
                places = numbers_of(mine)
                self._rows.update({number: rows[place] for number, place in places.items()})
                self._nothing.append(None if mine else rows[0])

    def of(
        self, frame: InstanceFrame, best: Sequence[float], plain: FrameResult | None
    ) -> InstanceResult:
        """Return a frame with all labels.

        Args:
            frame: what it shows of all that was followed.
            best: the highest score of each expression that is asked for all its things, at the last
                key frame; empty before the first. It is that of a label without things.
            plain: what the frame has of the other expressions; None if there is none.
        """
        height, width = frame.masks.shape[1:]
        masks = np.zeros((self._count, height, width), bool)
        scores = np.zeros(self._count, np.float32)
        for number, score, mask in zip(frame.numbers, frame.scores, frame.masks, strict=True):
            if number in self._rows:
                row = self._rows[number]
                masks[row] |= mask
                scores[row] = max(scores[row], score)
        values, cosines = scores.copy(), np.full(self._count, np.nan, np.float32)
        for nothing, highest in zip(self._nothing, best, strict=False):
            if nothing is not None:
                scores[nothing] = highest
        if plain is None:
            maps = shrink_masks(masks, small_size((height, width)))
            state = TemporalState.initial(self._queries)
        else:
            rows, state = self._plain, plain.state
            maps = shrink_masks(masks, (plain.maps.shape[1], plain.maps.shape[2]))
            masks[rows], maps[rows], scores[rows] = plain.masks, plain.maps, plain.scores
            values[rows], cosines[rows] = plain.path_values, plain.cosines
        return InstanceResult(
            frame.index, frame.time_s, masks, maps, scores, state,
            own_values=values, own_cosines=cosines,
        )  # fmt: skip
