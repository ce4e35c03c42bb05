"""What a frame shows whatever is looked for in it: grey, colours, motion, a cut or a flash.

It follows from the frames and `temporal` alone, never from expressions or masks. One frame's is all
that the next one's needs, so that it can be made ahead, or kept.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from carvid.base.background import made_ahead
from carvid.config import TemporalConfig
from carvid.temporal.colors import to_colors
from carvid.temporal.cuts import CutHistory, Verdict, detect_cut
from carvid.temporal.flow import Flow, flow_between, standing_still, to_gray

DEFAULT_STEP_S = 1 / 24
"""Seconds from one frame to the next where the frames have no times, or impossible ones."""

AHEAD = 4
"""Frames that are seen ahead at most: while a key frame's networks are at work, those up to the
next key frame."""


class Timed(Protocol):
    """A frame with its time: a `carvid.media.frames.Frame`."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB."""

    @property
    def time_s(self) -> float:
        """Seconds; NaN where it has none."""


F = TypeVar("F", bound=Timed)


class Earlier(Protocol):
    """What is needed of the frame before: a `SeenFrame`, or a `TemporalState`, has it."""

    @property
    def gray(self) -> NDArray[np.uint8] | None:
        """As `SeenFrame.gray`; None before the first frame."""

    @property
    def time_s(self) -> float:
        """As `SeenFrame.time_s`."""

    @property
    def cut_history(self) -> CutHistory | None:
        """As `SeenFrame.cut_history`; None before the first frame."""


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """What a frame shows, whatever is looked for."""

    time_s: float
    """The frame's time, seconds."""
    step_s: float = DEFAULT_STEP_S
    """Seconds since the frame before."""
    gray: NDArray[np.uint8] | None = None
    """uint8 (h, w): the frame, at most `temporal.flow_side`; of a flash, the frame before it. None
    where masks are not carried."""
    colors: NDArray[np.uint16] | None = None
    """uint16 (h, w): each pixel's colour (`colors.to_colors`); None in a flash, and where masks are
    not carried."""
    flow: Flow | None = None
    """The flow from the frame before; None where a shot begins."""
    verdict: Verdict | Literal["first"] = "first"
    """`cut`: another scene begins; `flash`: it is passed over, as if nothing moved; `first`: there
    is no frame before, or none of its size."""
    cut_history: CutHistory | None = None
    """The last frames, to compare the next one with; None where masks are not carried."""


NOTHING = SeenFrame(time_s=0.0)
"""What is before the first frame."""


def seen_frames(
    frames: Iterable[F], before: Earlier | None, config: TemporalConfig, *, ahead: int = 0
) -> Generator[tuple[F, SeenFrame], None, None]:
    """Yield each frame with what it shows.

    Args:
        frames: in order; read in the caller's thread.
        before: as of `see`, for the first of them; None where nothing is before it.
        config: settings.
        ahead: so many frames are read and seen ahead by a thread at most; 0 where the next frame
            may be long in coming.
    """
    last = before or NOTHING

    def see_next(frame: F) -> SeenFrame:
        nonlocal last
        last = seen = see(last, frame.image, config, time_s=frame.time_s)
        return seen

    return made_ahead(frames, see_next, ahead, lambda frame: frame.image.nbytes)


def see(
    before: Earlier, image: NDArray[np.uint8], config: TemporalConfig, *, time_s: float = math.nan
) -> SeenFrame:
    """Compare a frame with the one before it.

    Args:
        before: what the frame before showed, or the state that it left; the initial state before
            the first one.
        image: uint8 (H, W, 3) RGB.
        config: settings.
        time_s: the frame's time, seconds; NaN where it has none.
    """
    now_s, step_s = _clock(before, time_s)
    if not config.carry_masks:
        return SeenFrame(now_s, step_s)
    gray = to_gray(image, config.flow_side)
    flow = _flow_from(before.gray, gray)
    trust = float(flow.trust.mean()) if flow else 1.0
    verdict, history = detect_cut(before.cut_history if flow else None, image, now_s, trust, config)
    if flow and verdict == "flash":
        assert before.gray is not None
        still = standing_still((gray.shape[0], gray.shape[1]))
        return SeenFrame(now_s, step_s, before.gray, None, still, verdict, history)
    colors = to_colors(image, gray.shape)
    if flow is None or verdict == "cut":
        how = verdict if flow else "first"
        return SeenFrame(now_s, step_s, gray, colors, None, how, history)
    return SeenFrame(now_s, step_s, gray, colors, flow, verdict, history)


def _clock(before: Earlier, time_s: float) -> tuple[float, float]:
    """The time of a frame, and seconds since the one before. Frames without times, or whose clock
    stands or goes back, count as if they came 24 a second."""
    step_s = time_s - before.time_s
    if before.gray is None and math.isfinite(time_s):
        return time_s, DEFAULT_STEP_S
    if math.isfinite(step_s) and step_s > 0:
        return time_s, step_s
    return (time_s if math.isfinite(time_s) else before.time_s + DEFAULT_STEP_S), DEFAULT_STEP_S


def _flow_from(before: NDArray[np.uint8] | None, gray: NDArray[np.uint8]) -> Flow | None:
    """The flow from the frame before to a new one, uint8 (h, w) each; None if there is no frame
    before, or it has another size."""
    if before is None or before.shape != gray.shape:
        return None
    return flow_between(before, gray)
