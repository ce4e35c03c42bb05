"""Corrections, one after the other: each is decided in its frame and spread from there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from carvid.base.interrupt import until_stopped
from carvid.base.scale import cut_masks
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.config import Config
from carvid.corrections.anchor import Corrected, corrected_mask, small_mask
from carvid.corrections.clip import Clip
from carvid.corrections.clip import Outward as Frames
from carvid.corrections.masks import CorrectedMasks
from carvid.corrections.prompts import NewPromptedFollower, PromptedFollower
from carvid.media.frames import Frame
from carvid.run.corrections import Correction
from carvid.temporal.carry import from_levels
from carvid.temporal.pending import KeptImage
from carvid.temporal.sam2_carrier import needed
from carvid.temporal.seen import SeenFrame
from carvid.temporal.spread import Spread, refuted_by
from carvid.temporal.spread_carrier import ByFlow, ByFollower, SpreadCarrier

NEARBY = 24
"""So many frames on each side are asked what the thing of a corrected frame is."""


@dataclass(frozen=True, eq=False)
class _Near:
    """A frame that is kept until the corrected one is decided."""

    index: int
    """The frame's index, from 0."""
    image: KeptImage
    """Its picture."""
    seen: SeenFrame
    """What it shows."""
    mask: NDArray[np.bool_]
    """bool (h, w), of the flow's size: what the run has there."""


class Corrector:
    """Applies corrections to the masks of a run.

    Args:
        clip: the run's frames.
        masks: the run's masks; are changed.
        segmenter: for the corrected frames.
        queries: the run's.
        config: the run's.
        new_follower: makes networks that follow things, for a run whose masks they carry.
        progress: show a bar on stderr.

    Raises:
        ConfigError: SAM 2 has carried the run's masks, and there is none.
    """

    def __init__(
        self,
        clip: Clip,
        masks: CorrectedMasks,
        segmenter: RecurrentSegmenter,
        queries: Queries,
        config: Config,
        new_follower: NewPromptedFollower | None,
        *,
        progress: bool = False,
    ) -> None:
        self._clip, self._masks = clip, masks
        self._segmenter, self._queries, self._config = segmenter, queries, config
        by_flow = config.temporal.carrier == "flow"
        self._new_follower = None if by_flow else needed(new_follower)
        self._progress = progress

    def apply(self, new: Sequence[Correction], earlier: Sequence[Correction] = ()) -> None:
        """Apply corrections, in order, after those that the masks have in them already.

        What one correction says of its frame stays, whatever later ones say of others.

        Raises:
            VideoError: the clip cannot be read.
            ExpressionError: an expression is too long.
            WeightsError: memory is too small for SAM 2.
        """
        said = list(earlier)
        for correction in new:
            what = f"frame {correction.frame}"
            said.append(correction)
            of_label = [each for each in said if each.label == correction.label]
            with tqdm(desc=what, unit="frame", disable=not self._progress) as bar:
                self._apply_one(of_label, bar)

    def _apply_one(self, said: Sequence[Correction], bar: tqdm[NoReturn]) -> None:
        """Apply the last of the corrections of one expression."""
        new, query = said[-1], said[-1].label - 1
        fixed = {each.frame for each in said[:-1]} - {new.frame}
        frames = [self._clip.outward(new.frame, forward=forward) for forward in (True, False)]
        first, seen = next(frames[0])
        next(frames[1])
        start = self._near(first, seen, query)
        onward = [self._nears(outward, query) for outward in frames]
        near = [[start, *islice(each, NEARBY)] for each in onward]
        before = self._masks.mask(new.frame, query)
        size_hw = (start.mask.shape[0], start.mask.shape[1])
        followers = [self._follower_at(first, size_hw) for _ in frames]
        mask = corrected_mask(
            Corrected(
                image=first.image, query=query, before=before,
                others=self._masks.others(new.frame, query),
                said=[each for each in said if each.frame == new.frame],
                later=[(each.seen, each.mask) for each in near[0]],
                earlier=[(each.seen, each.mask) for each in near[1]],
            ),
            self._segmenter, self._queries, self._config, followers[0],
        )  # fmt: skip
        self._masks.put(new.frame, query, mask)
        small = small_mask(mask, size_hw)
        refuted = refuted_by(small, start.mask, wanted=new.wanted)
        for kept, rest, follower, forward in zip(
            near, onward, followers, (True, False), strict=True
        ):
            carrier = self._carrier(follower, forward=forward)
            spread = Spread(small, refuted, start.seen, carrier, wanted=new.wanted)
            self._spread(
                spread, until_stopped(_counted(bar, chain(kept[1:], rest))), query, fixed
            )

    def _spread(
        self, spread: Spread, outward: Iterable[_Near], query: int, fixed: set[int]
    ) -> None:
        """Carry a corrected mask outward, up to another correction."""
        if spread.is_over:
            return
        for frame in outward:
            if frame.index in fixed:
                return
            levels = spread.into(frame.seen, frame.mask, frame.image)
            if levels is not None:
                maps = from_levels(levels[None])
                self._masks.put(frame.index, query, cut_masks(maps, frame.image.image())[0])
            if spread.is_over:
                return

    def _follower_at(self, frame: Frame, size_hw: tuple[int, int]) -> PromptedFollower | None:
        """What follows nothing yet and has seen a frame; None where flow carries masks."""
        if self._new_follower is None:
            return None
        follower = self._new_follower()
        follower.step(frame.image, size_hw)
        return follower

    def _carrier(self, follower: PromptedFollower | None, *, forward: bool) -> SpreadCarrier:
        if follower is None:
            return ByFlow(self._config.temporal, forward=forward)
        return ByFollower(follower)

    def _nears(self, frames: Frames, query: int) -> Iterator[_Near]:
        for frame, seen in frames:
            yield self._near(frame, seen, query)

    def _near(self, frame: Frame, seen: SeenFrame, query: int) -> _Near:
        assert seen.gray is not None
        size_hw = (seen.gray.shape[0], seen.gray.shape[1])
        mask = small_mask(self._masks.mask(frame.index, query), size_hw)
        return _Near(frame.index, KeptImage(frame.image), seen, mask)


def _counted(bar: tqdm[NoReturn], frames: Iterable[_Near]) -> Iterator[_Near]:
    for frame in frames:
        yield frame
        bar.update()
