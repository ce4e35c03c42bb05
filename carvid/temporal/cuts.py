"""Cuts, dissolves and flashes, told from small copies of the last frames.

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

SIZE_WH, SMALL_WH = (64, 36), (32, 18)
"""Sizes of the copies of the last frame, and of those before it, pixels."""
SPAN_S, MOST, APART_S = 1.75, 40, 1 / 25
"""The frames before are kept for so many seconds, so many of them, so many seconds apart."""
PART_WH, REACH_WH = (21, 18), (16, 10)
"""Size of the parts of a frame that are looked for in another, and how far, pixels."""
FLAT = 0.15
"""A part with less than this share of a picture's contrast shows nothing to look for."""
BLANK, DIM = 3.0, 0.15
"""A picture shows nothing where its contrast (standard deviation of its grey, levels of 255) is
less than the first, and less than this share of the other's."""
BINS, SPREAD = 8, 32
"""Bins of a histogram for each of red, green and blue; levels of a standard deviation."""
TRUST = 2.0
"""How much trusted flow counts against a change."""
BURNT, BURNT_SHARE = 245, 0.3
"""A flash burns out so much more of the picture than before, to this level of grey and above ..."""
DARKER, DARKER_SHARE = 8, 0.1
"""... and no more than this share of it is darker, by more than so many levels."""
FLASH_S = 0.25
"""A flash is over after so many seconds; what stays is another scene."""
BLEND = 1.6
"""Of a dissolve: the way from its first frame over one between to its last, over the straight way,
is less than this on average."""
FADED = 0.8
"""Share of its ends' contrast (variance) that the middle of a dissolve has at most: a blend of two
pictures has half of it."""
APART = 0.45
"""The ends of a dissolve differ by more."""
LEAST, LEVELS = 5, 15
"""Frames that a dissolve needs with its ends, and levels of 255 by which the ends differ."""
DONE, LATEST = 0.85, 0.25
"""A dissolve is over when more than this share of its way was gone three frames ago, and for longer
than this share of its length."""

Verdict = Literal["same", "cut", "flash"]


@dataclass(frozen=True)
class Seen:
    """What of the last frames is remembered; plain data."""

    last: NDArray[np.uint8]
    """uint8 (36, 64, 3) RGB: the last frame that was no flash."""
    time_s: float
    """Its time, seconds."""
    past: NDArray[np.uint8]
    """uint8 (n, 18, 32, 3) RGB: the last frames of this shot, the oldest first."""
    times_s: NDArray[np.float64]
    """float64 (n,): their times."""
    flashes: int = 0
    """Frames that were passed over since."""
    told_s: float | None = None
    """The time at which a dissolve was over, seconds; None if there was none in this shot."""

    @classmethod
    def first(cls, image: NDArray[np.uint8], time_s: float) -> Seen:
        """Return what the first frame of a shot, uint8 (H, W, 3) RGB, leaves."""
        last = _shrunk(image, SIZE_WH)
        return cls(last, time_s, _shrunk(last, SMALL_WH)[None], np.array([time_s]))


def look(
    seen: Seen | None,
    image: NDArray[np.uint8],
    time_s: float,
    trust: float,
    config: TemporalConfig,
) -> tuple[Verdict, Seen]:
    """Compare a frame with those before it.

    Args:
        seen: what they left; None if that is not known: then trust alone tells.
        image: uint8 (H, W, 3) RGB.
        time_s: its time, seconds.
        trust: mean trust in the flow between it and the last frame that was no flash, in [0, 1].
        config: settings.

    Returns:
        What it is, and what is remembered from then on.
    """
    if seen is None or not config.cut_trust:
        return "cut" if trust < config.cut_trust else "same", Seen.first(image, time_s)
    now = _shrunk(image, SIZE_WH)
    if _has_changed(seen.last, now, trust, config):
        brief = not seen.flashes or time_s - seen.time_s <= FLASH_S
        if brief and is_flash(seen.last, now):
            return "flash", replace(seen, flashes=seen.flashes + 1)
        return "cut", Seen.first(image, time_s)
    past, times_s = _with(seen, now, time_s)
    following = Seen(now, time_s, past, times_s, told_s=seen.told_s)
    told = 0 if seen.told_s is None else int(np.searchsorted(times_s, seen.told_s))
    if is_dissolved(past, told):
        return "cut", replace(following, told_s=time_s)
    return "same", following


def _has_changed(
    before: NDArray[np.uint8], now: NDArray[np.uint8], trust: float, config: TemporalConfig
) -> bool:
    """Whether a picture is not that of the same scene. Where one shows nothing, flow is trusted
    for no reason."""
    if is_blank(before, now) or is_blank(now, before):
        return True
    return trust < config.cut_trust and change(before, now, trust) > config.cut_change


def _with(
    seen: Seen, now: NDArray[np.uint8], time_s: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The frames of a shot with one more, and their times; of those that follow each other faster
    than `APART_S`, some."""
    past, times_s = seen.past, seen.times_s
    if len(times_s) > 1 and times_s[-1] - times_s[-2] < APART_S:
        past, times_s = past[:-1], times_s[:-1]
    past = np.append(past, _shrunk(now, SMALL_WH)[None], axis=0)[-MOST:]
    times_s = np.append(times_s, time_s)[-MOST:]
    recent = times_s >= time_s - SPAN_S
    return past[recent], times_s[recent]


def change(before: NDArray[np.uint8], now: NDArray[np.uint8], trust: float) -> float:
    """Return how much a picture has changed: what of it is not found in the one before, plus the
    distance of their colours, each in [0, 1], minus twice the trust in the flow.

    Args:
        before: uint8 (36, 64, 3) RGB.
        now: likewise.
        trust: in [0, 1].
    """
    return unlikeness(before, now) - TRUST * trust


def is_blank(picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether a picture shows nothing where another one does."""
    contrast = _gray(picture).std()
    return bool(contrast < BLANK and contrast < DIM * _gray(other).std())


def unlikeness(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """Return how little two pictures, uint8 (36, 64, 3) RGB, have in common, in [0, 2]."""
    return 1 - _found(_gray(before), _gray(now)) + _color_distance(before, now)


def is_flash(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> bool:
    """Whether a picture is burnt out and nowhere darker than the one before, or shows nothing."""
    if is_blank(now, before):
        return True
    if is_blank(before, now):
        return False
    old, new = (_gray(each).astype(np.int16) for each in (before, now))
    darker = np.count_nonzero(new < old - DARKER)
    burnt = np.count_nonzero(new >= BURNT) - np.count_nonzero(old >= BURNT)
    return bool(darker <= DARKER_SHARE * new.size and burnt >= BURNT_SHARE * new.size)


def is_dissolved(past: NDArray[np.uint8], told: int = 0) -> bool:
    """Whether one scene has passed into another, and wholly so by now.

    Args:
        past: uint8 (n, 18, 32, 3) RGB: frames of equal distance in time, the oldest first.
        told: at this one it was said so last; 0 if it was not.
    """
    planes = past.reshape(len(past), -1).astype(np.float64)
    products = planes @ planes.T  # of whole numbers: the same in whatever order they are summed
    squares = np.diag(products)
    light = np.array([_gray(each).var() for each in past])
    for start in range(max(0, len(past) - LEAST), -1, -1):
        length = squares[start] + squares[-1] - 2 * products[start, -1]
        if length < planes.shape[1] * LEVELS**2:
            continue
        along = products[:, -1] - products[:, start] - products[start, -1] + squares[start]
        gone = along[start:] / length
        middle = start + int(np.abs(gone - 0.5).argmin())
        blended = light[middle] < FADED * (light[start] + light[-1]) / 2
        new = not told or (start < told and along[told] < DONE * length)
        if (
            blended
            and new
            and _is_over(gone)
            and _is_straight(planes[start:])
            and _are_apart(past[start], past[-1])
        ):
            return True
    return False


def _is_over(gone: NDArray[np.float64]) -> bool:
    """Whether a way, of which the share `gone`, float64 (n,), was behind each frame, has come to
    its end."""
    last, first = np.flatnonzero(gone < DONE)[-1], np.flatnonzero(gone <= 1 - DONE)[-1]
    rest = len(gone) - 1 - last
    return bool(last > first and rest > 2 and rest >= LATEST * (last - first))


def _is_straight(planes: NDArray[np.float64]) -> bool:
    """Whether frames, float64 (n, P), lie between the first and the last of them."""
    ways = [np.abs(planes - end).mean(axis=1) for end in (planes[0], planes[-1])]
    return bool((ways[0] + ways[1])[1:-1].mean() < BLEND * ways[1][0])


def _are_apart(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    larger = (
        np.asarray(cv2.resize(each, SIZE_WH, interpolation=cv2.INTER_LINEAR), np.uint8)
        for each in (a, b)
    )
    return unlikeness(*larger) > APART


def _found(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """How well the parts of one grey picture are found near their place in another: their mean
    correlation; 1 where there is nothing to look for."""
    (wide, high), (far_x, far_y) = PART_WH, REACH_WH
    least, values = FLAT * float(now.std()), []
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
    gray = _gray(image)
    scale = SPREAD / max(1.0, float(gray.std()))
    even = np.clip((image - float(gray.mean())) * scale + 128, 0, 255).astype(np.int64)
    red, green, blue = (even[..., channel] * BINS // 256 for channel in range(3))
    return np.bincount(((red * BINS + green) * BINS + blue).ravel(), minlength=BINS**3)


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _shrunk(image: NDArray[Any], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
