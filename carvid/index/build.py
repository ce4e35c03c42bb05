"""A clip's pieces, made in one pass over its frames; no expression has a say in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from carvid.car.proposals import EncodedFrame, ProposalGenerator
from carvid.car.step import StepResult
from carvid.config import TemporalConfig
from carvid.index.pieces import Piece, coarse_motion
from carvid.media.frames import Frame
from carvid.temporal.observe import FrameContext, observe
from carvid.temporal.seen import SeenFrame
from carvid.temporal.state import TemporalState
from carvid.temporal.update import after_carrying, after_key

NOTHING_FOUND = StepResult(
    maps=np.zeros((0, 1, 1), np.float32),
    masks=np.zeros((0, 1, 1), bool),
    query_scores=np.zeros(0, np.float32),
    query_cosines=np.zeros(0, np.float32),
    queries_kept=np.zeros(0, bool),
    candidates={},
)
"""What a key frame has if nothing is asked of it."""


@dataclass
class _OpenPiece:
    """A key frame whose next one has not come yet."""

    index: int
    encoded: EncodedFrame
    picture: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB: the key frame."""
    begins_shot: bool
    times_s: list[float] = field(default_factory=list)
    motion: list[NDArray[np.int16]] = field(default_factory=list)

    def add(self, context: FrameContext, time_s: float) -> None:
        """Take the key frame, or one after it."""
        assert context.gray is not None
        still = np.zeros((*context.gray.shape, 2), np.float32)
        flow = still if context.flow is None else context.flow.motion
        self.motion.append(coarse_motion(flow))
        self.times_s.append(time_s)

    def close(self) -> Piece:
        """Return the whole piece."""
        times_s, motion = np.array(self.times_s, np.float64), np.stack(self.motion)
        return Piece(self.index, self.encoded, self.begins_shot, times_s, motion)


@dataclass(frozen=True)
class BuiltPiece:
    """A piece, and where to go on after it."""

    piece: Piece
    picture: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB: its key frame."""
    following: int
    """Index of the first frame after it."""
    state: TemporalState
    """The state before that frame, of a run that asks for nothing."""


def build_pieces(
    frames: Iterable[tuple[Frame, SeenFrame]],
    generator: ProposalGenerator,
    config: TemporalConfig,
    state: TemporalState | None = None,
) -> Iterator[BuiltPiece]:
    """Yield the pieces of a clip, in order.

    It is a run in which nothing is asked for, so that its key frames are those of every run.

    Args:
        frames: the clip's, each with what it shows, from the beginning, or from where `state` was
            left.
        generator: encodes key frames.
        config: settings, with `early_keys` off.
        state: what an earlier piece left; None at the beginning.
    """
    state = TemporalState.initial(0) if state is None else state
    piece: _OpenPiece | None = None
    frame = None
    for frame, seen in frames:
        context = observe(state, seen, config)
        if context.is_key:
            if piece is not None:
                yield BuiltPiece(piece.close(), piece.picture, frame.index, state)
            encoded = generator.encode(frame.image)
            piece = _OpenPiece(frame.index, encoded, frame.image, context.begins_shot)
            state = after_key(context, NOTHING_FOUND, 0.0, config)[2]
        else:
            state = after_carrying(context)
        assert piece is not None
        piece.add(context, frame.time_s)
    if piece is not None and frame is not None:
        yield BuiltPiece(piece.close(), piece.picture, frame.index + 1, state)
