"""Cuts, dissolves and flashes, detected on small copies of the last frames.

A *cut* is where the flow is not trusted and the picture has changed: parts of the new frame are
looked for in the one before (normalised correlation, so that light does not matter), and the
colours of both are compared (histograms). A *dissolve* or *fade* is where every frame of a stretch
lies between its ends, and these have nothing in common. A *flash* is a frame that is burnt out,
or shows nothing: it is passed over, and the next frame compared with the one before it.

Everything looks back only, one frame at a time, on 64 x 36 pixels. PySceneDetect's detectors, which
the scores are akin to, know no flow, cannot be saved half way, and need another OpenCV package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.config import TemporalConfig
from carvid.temporal.packing import pack, unpack

LAST_WH = (64, 36)
"""Width and height of the copy of the last frame, pixels."""
PAST_WH = (32, 18)
"""Width and height of the copies of the frames before it, pixels."""
HISTORY_S = 1.75
"""Frames are remembered for so many seconds ..."""
MAX_HISTORY = 40
"""... at most so many of them ..."""
MIN_STEP_S = 1 / 25
"""... so many seconds apart or more."""
PART_WH = (21, 18)
"""Width and height of the parts of a frame that are looked for in another one, pixels ..."""
REACH_WH = (16, 10)
"""... and how far from their place, pixels."""
FLAT_SHARE = 0.15
"""A part with less than this share of the picture's contrast shows nothing to look for."""
BLANK_CONTRAST = 3.0
"""A picture shows nothing where its contrast (standard deviation of its grey, levels of 255) is
less than this ..."""
BLANK_SHARE = 0.15
"""... and less than this share of the other picture's."""
HISTOGRAM_BINS = 8
"""Bins for each of red, green and blue."""
BIN_SPREAD = 32
"""Levels of 255 that a standard deviation of grey is scaled to before colours are binned."""
TRUST_WEIGHT = 2.0
"""Weight of trusted flow against a change."""
BURNT_LEVEL, BURNT_SHARE = 245, 0.3
"""A flash burns out so much more of the picture than before, to this level of grey and above ..."""
DARKER_LEVELS, DARKER_SHARE = 8, 0.1
"""... and no more than this share of it is darker, by more than so many levels."""
FLASH_S = 0.25
"""A flash is over after so many seconds; what stays is another scene."""
MAX_DETOUR = 1.6
"""In a dissolve the way from its first frame over one between to its last, divided by the straight
way, is less than this on average."""
FADED_SHARE = 0.8
"""Share of its ends' contrast (variance) that the middle of a dissolve has at most: a blend of two
pictures has half of it."""
MIN_UNLIKENESS = 0.45
"""The ends of a dissolve differ by more (`unlikeness`)."""
MIN_DISSOLVE_FRAMES = 5
"""Frames of a dissolve with its ends, at least."""
MIN_DISSOLVE_LEVELS = 15
"""Levels of 255 by which the ends of a dissolve differ at least (root mean square)."""
DONE_SHARE = 0.85
"""A dissolve has ended when more than this share of its way is behind ..."""
MIN_REST_FRAMES, MIN_REST_SHARE = 3, 0.25
"""... for so many frames, and for this share of its length."""

Verdict = Literal["same", "cut", "flash"]
"""`same`: the scene goes on."""


@dataclass(frozen=True)
class CutHistory:
    """The last frames, with which the next one is compared; plain data."""

    last: NDArray[np.uint8]
    """uint8 (36, 64, 3) RGB: the last frame that was no flash."""
    time_s: float
    """Its time, seconds."""
    past: NDArray[np.uint8]
    """uint8 (n, 18, 32, 3) RGB: the last frames of this shot, the oldest first."""
    times_s: NDArray[np.float64]
    """float64 (n,): their times, seconds."""
    flashes: int = 0
    """Frames that were passed over since `last`."""
    dissolved_s: float | None = None
    """The time at which a dissolve ended, seconds; None if there was none in this shot."""

    @classmethod
    def first(cls, image: NDArray[np.uint8], time_s: float) -> CutHistory:
        """Return the history after the first frame of a shot, uint8 (H, W, 3) RGB."""
        last = _shrink(image, LAST_WH)
        past = _shrink(last, PAST_WH)[None]
        return cls(last=last, time_s=time_s, past=past, times_s=np.array([time_s]))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping that `from_dict` loads back equal."""
        return {
            "last": pack(self.last),
            "time_s": self.time_s,
            "past": pack(self.past),
            "times_s": self.times_s.tolist(),
            "flashes": self.flashes,
            "dissolved_s": self.dissolved_s,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CutHistory:
        """Load what `to_dict` returned.

        Raises:
            ValueError: it is something else; so are KeyError, TypeError and zlib.error.
        """
        times_s = np.array(values["times_s"], np.float64)
        return cls(
            last=unpack(values["last"], (*LAST_WH[::-1], 3)),
            time_s=values["time_s"],
            past=unpack(values["past"], (len(times_s), *PAST_WH[::-1], 3)),
            times_s=times_s,
            flashes=values["flashes"],
            dissolved_s=values["dissolved_s"],
        )


def detect_cut(
    history: CutHistory | None,
    image: NDArray[np.uint8],
    time_s: float,
    trust: float,
    config: TemporalConfig,
) -> tuple[Verdict, CutHistory]:
    """Compare a frame with those before it.

    Args:
        history: the frames before; None if they are not known: then trust alone decides.
        image: uint8 (H, W, 3) RGB.
        time_s: its time, seconds.
        trust: mean trust in the flow between it and the last frame that was no flash, in [0, 1].
        config: settings.

    Returns:
        `cut` where another scene begins, a dissolve's end included; `flash`; else `same`. And the
        history for the next frame.
    """
    if history is None or not config.cut_trust:
        verdict: Verdict = "cut" if trust < config.cut_trust else "same"
        return verdict, CutHistory.first(image, time_s)
    now = _shrink(image, LAST_WH)
    if _has_changed(history.last, now, trust, config):
        brief = not history.flashes or time_s - history.time_s <= FLASH_S
        if brief and is_flash(history.last, now):
            return "flash", replace(history, flashes=history.flashes + 1)
        return "cut", CutHistory.first(image, time_s)
    past, times_s = _extended(history, now, time_s)
    following = CutHistory(
        last=now, time_s=time_s, past=past, times_s=times_s, dissolved_s=history.dissolved_s
    )
    dissolved_s = history.dissolved_s
    reported = 0 if dissolved_s is None else int(np.searchsorted(times_s, dissolved_s))
    if is_dissolved(past, reported):
        return "cut", replace(following, dissolved_s=time_s)
    return "same", following


def _has_changed(
    before: NDArray[np.uint8], now: NDArray[np.uint8], trust: float, config: TemporalConfig
) -> bool:
    """Whether a picture, uint8 (36, 64, 3) RGB, is not of the same scene as the one before. Where
    one of them shows nothing, trust in the flow means nothing."""
    if is_blank(before, now) or is_blank(now, before):
        return True
    return trust < config.cut_trust and change(before, now, trust) > config.cut_change


def _extended(
    history: CutHistory, now: NDArray[np.uint8], time_s: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The frames of a shot with one more, and their times, seconds; some are left out where they
    follow each other faster than `MIN_STEP_S`."""
    past, times_s = history.past, history.times_s
    if len(times_s) > 1 and times_s[-1] - times_s[-2] < MIN_STEP_S:
        past, times_s = past[:-1], times_s[:-1]
    past = np.append(past, _shrink(now, PAST_WH)[None], axis=0)[-MAX_HISTORY:]
    times_s = np.append(times_s, time_s)[-MAX_HISTORY:]
    recent = times_s >= time_s - HISTORY_S
    return past[recent], times_s[recent]


def change(before: NDArray[np.uint8], now: NDArray[np.uint8], trust: float) -> float:
    """Return how much a picture has changed, in [-2, 2]: `unlikeness` - 2 * trust.

    Args:
        before: uint8 (36, 64, 3) RGB.
        now: likewise.
        trust: mean trust in the flow between them, in [0, 1].
    """
    return unlikeness(before, now) - TRUST_WEIGHT * trust


def is_blank(picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether a picture shows nothing where another one does."""
    contrast = _gray(picture).std()
    return bool(contrast < BLANK_CONTRAST and contrast < BLANK_SHARE * _gray(other).std())


def unlikeness(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """Return how little two pictures, uint8 (36, 64, 3) RGB, have in common, in [0, 2]: 1 - mean
    correlation of the parts of `now` with `before`, plus the share of pixels of other colours."""
    return 1 - _found(_gray(before), _gray(now)) + _color_distance(before, now)


def is_flash(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> bool:
    """Whether a picture is burnt out and nowhere darker than the one before, or shows nothing."""
    if is_blank(now, before):
        return True
    if is_blank(before, now):
        return False
    old, new = (_gray(each).astype(np.int16) for each in (before, now))
    darker = np.count_nonzero(new < old - DARKER_LEVELS)
    burnt = np.count_nonzero(new >= BURNT_LEVEL) - np.count_nonzero(old >= BURNT_LEVEL)
    return bool(darker <= DARKER_SHARE * new.size and burnt >= BURNT_SHARE * new.size)


def is_dissolved(past: NDArray[np.uint8], reported: int = 0) -> bool:
    """Whether one scene has passed into another, and the last frames show only the new one.

    Args:
        past: uint8 (n, 18, 32, 3) RGB: frames of equal distance in time, the oldest first.
        reported: index of the frame at which a dissolve was last found to be over; 0 if there was
            none.
    """
    planes = past.reshape(len(past), -1).astype(np.float64)
    # Not by BLAS, whose threads wait busily for each other: beside other work it takes 70 ms, not
    # 0.2. The products are of whole numbers: the same in whatever order they are summed.
    products = np.asarray(cv2.mulTransposed(planes, False), np.float64)
    squares = np.diag(products)
    variances = np.array([_gray(each).var() for each in past])
    for start in range(max(0, len(past) - MIN_DISSOLVE_FRAMES), -1, -1):
        # Squared distance of the ends, and each frame's projection on the way between them.
        length = squares[start] + squares[-1] - 2 * products[start, -1]
        if length < planes.shape[1] * MIN_DISSOLVE_LEVELS**2:
            continue
        along = products[:, -1] - products[:, start] - products[start, -1] + squares[start]
        progress = along[start:] / length
        middle = start + int(np.abs(progress - 0.5).argmin())
        is_faded = variances[middle] < FADED_SHARE * (variances[start] + variances[-1]) / 2
        is_new = not reported or (start < reported and along[reported] < DONE_SHARE * length)
        if (
            is_faded
            and is_new
            and _is_over(progress)
            and _is_straight(planes[start:])
            and _are_apart(past[start], past[-1])
        ):
            return True
    return False


def _is_over(progress: NDArray[np.float64]) -> bool:
    """Whether a dissolve has ended, by the share of its way that is behind at each frame, float64
    (n,)."""
    last_before_end = np.flatnonzero(progress < DONE_SHARE)[-1]
    last_at_start = np.flatnonzero(progress <= 1 - DONE_SHARE)[-1]
    rest = len(progress) - 1 - last_before_end
    is_long = rest >= MIN_REST_FRAMES and rest >= MIN_REST_SHARE * (last_before_end - last_at_start)
    return bool(last_before_end > last_at_start and is_long)


def _is_straight(planes: NDArray[np.float64]) -> bool:
    """Whether frames, float64 (n, P), lie between the first and the last of them."""
    ways = [np.abs(planes - end).mean(axis=1) for end in (planes[0], planes[-1])]
    return bool((ways[0] + ways[1])[1:-1].mean() < MAX_DETOUR * ways[1][0])


def _are_apart(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Whether two pictures, uint8 (18, 32, 3) RGB, have little in common."""
    larger = (
        np.asarray(cv2.resize(each, LAST_WH, interpolation=cv2.INTER_LINEAR), np.uint8)
        for each in (a, b)
    )
    return unlikeness(*larger) > MIN_UNLIKENESS


def _found(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """How well the parts of one grey picture are found near their place in another: their mean
    correlation; 1 where there is nothing to look for."""
    (wide, high), (far_x, far_y) = PART_WH, REACH_WH
    least, values = FLAT_SHARE * float(now.std()), []
    for y in range(0, now.shape[0] - high + 1, high):
        for x in range(0, now.shape[1] - wide + 1, wide):
            part = now[y : y + high, x : x + wide]
            if part.std() > least:
                area = before[
                    max(0, y - far_y) : y + high + far_y, max(0, x - far_x) : x + wide + far_x
                ]
                values.append(cv2.matchTemplate(area, part, cv2.TM_CCOEFF_NORMED).max())
    return float(np.clip(np.mean(values), 0, 1)) if values else 1.0


def _color_distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Share of pixels whose colours the other picture does not have, both in the same light."""
    one, other = _histogram(a), _histogram(b)
    return 1 - float(np.minimum(one, other).sum()) / (a.size // 3)


def _histogram(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of each colour, int64 (B,), of uint8 (h, w, 3) RGB, mean and contrast made equal."""
    gray = _gray(image)
    scale = BIN_SPREAD / max(1.0, float(gray.std()))
    even = np.clip((image - float(gray.mean())) * scale + 128, 0, 255).astype(np.int64)
    red, green, blue = (even[..., channel] * HISTOGRAM_BINS // 256 for channel in range(3))
    bins = (red * HISTOGRAM_BINS + green) * HISTOGRAM_BINS + blue
    return np.bincount(bins.ravel(), minlength=HISTOGRAM_BINS**3)


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _shrink(image: NDArray[Any], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
