"""Masks carried by flow from frame to frame, led back by their colours, snapped to edges.

Maps that are carried are uint8, in steps of 1/255: a quarter of the memory of float32.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_around
from carvid.base.scale import resize
from carvid.car.choice import NO_TRACK
from carvid.config import TemporalConfig
from carvid.temporal.colors import by_color, log_odds
from carvid.temporal.flow import PixelMap
from carvid.temporal.seen import SeenFrame
from carvid.temporal.state import TemporalState

MASK_LEVEL = 127
"""A pixel is in the mask where its map, in steps of 1/255, is above this."""
CHANNELS = 4
"""OpenCV carries so many maps at once, in a third of the time."""
FAINT_LEVEL = 25
"""Where a carried map is above it, of 255, a pixel may belong to the mask ..."""
REACH = 3
"""... and in a square of this side around, pixels; not elsewhere, whatever its colour."""
UNTRUSTED_BELIEF, TRUSTED_BELIEF = 0.9, 0.98
"""How far a carried mask is believed against its colours, in [0, 1]: where the flow is not trusted
at all, and where it is trusted wholly."""
TRUSTED_COLOR_SHARE = 0.1
"""Share of `temporal.color` that colours count for where the flow is trusted wholly."""
REFUTED_LOG_ODDS = -0.5
"""A carried mask lies on something else where the log odds of its colours are less on average."""
ROUNDING_VARIANCE = 1e-6
"""Variance of grey in [0, 1] that float32 cannot tell from none; a step of 1/255 has 1.5e-5."""


def carry(
    planes: Sequence[NDArray[np.uint8]], pixel_map: PixelMap, box: tuple[slice, slice]
) -> list[NDArray[np.uint8]]:
    """Return maps of one frame as they lie in another one: of the frame before in this one
    (`Flow.backward_map`), or of this one in the frame before (`Flow.forward_map`).

    Args:
        planes: up to `CHANNELS` maps, uint8 (h, w).
        pixel_map: where they lie.
        box: rows and columns of the part of the other frame (`PixelMap.leading_into`).

    Returns:
        uint8 (r, c) each.
    """
    places, parts = pixel_map.of_box(box)
    if not places.size:
        return [np.zeros(places.shape[:2], np.uint8) for _ in planes]
    # The number of channels decides how OpenCV rounds.
    picture = np.zeros((*planes[0].shape, CHANNELS), np.uint8)
    for channel, plane in enumerate(planes):
        cv2.insertChannel(plane, picture, channel)
    how = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_CONSTANT}
    warped = cv2.remap(picture, places, parts, **how)  # type: ignore[call-overload]
    return [np.asarray(cv2.extractChannel(warped, channel)) for channel in range(len(planes))]


def carry_tracks(
    state: TemporalState,
    seen: SeenFrame,
    config: TemporalConfig,
    without: Collection[int] = (),
) -> NDArray[np.uint8]:
    """Return a state's tracks, carried into the next frame by flow; those that are chosen are
    corrected.

    Args:
        state: what the frame before left.
        seen: the next frame; no shot begins there.
        config: settings.
        without: tracks that something else carries; their maps are zeros.

    Returns:
        uint8 (M, h, w), in steps of 1/255.
    """
    assert state.maps is not None and seen.flow is not None
    assert seen.gray is not None and seen.colors is not None
    carried, pixel_map = np.zeros_like(state.maps), seen.flow.backward_map
    for track, plane in enumerate(state.maps):
        if track in without:
            continue
        box = around(pixel_map.leading_into(plane), config)
        levels = carry([plane], pixel_map, box)[0]
        if track in state.chosen:
            levels = correct_carried(
                levels, seen.flow.trust[box], seen.gray[box], seen.colors[box],
                state.colors[track], config,
            )  # fmt: skip
        carried[track][box] = levels
    return carried


def around(box: tuple[slice, slice], config: TemporalConfig) -> tuple[slice, slice]:
    """Return a box with so much around it that what is carried into it is corrected in there as it
    is in the whole frame; an empty one stays empty."""
    margin = REACH // 2 + 2 * config.snap_radius
    rows, columns = (
        part if part.start == part.stop
        else slice(max(0, part.start - margin), part.stop + margin) for part in box
    )  # fmt: skip
    return rows, columns


def correct_carried(
    carried: NDArray[np.uint8],
    trust: NDArray[np.float32],
    gray: NDArray[np.uint8],
    colors: NDArray[np.uint16],
    counts: NDArray[np.float32],
    config: TemporalConfig,
) -> NDArray[np.uint8]:
    """Correct a carried map by the colours of its track, and snap it to the frame's edges.

    Args:
        carried: uint8 (h, w), in steps of 1/255.
        trust: float32 (h, w) in [0, 1]: how far to believe it; the less, the more colours count.
        gray: uint8 (h, w): the frame.
        colors: uint16 (h, w): its colours.
        counts: float32 (2, C): the colours inside the track so far, and around it.
        config: settings.

    Returns:
        uint8 (h, w), in steps of 1/255; zeros where its colours say that it was left behind on
        something else.
    """
    corrected = np.zeros_like(carried)
    faint = carried > FAINT_LEVEL
    if not faint.any():
        return corrected
    near = cv2.dilate(faint.view(np.uint8), np.ones((REACH, REACH), np.uint8))
    box = box_around(near > 0, margin=2 * config.snap_radius)
    chance = from_levels(carried[box])
    if config.color:
        trusted = trust[box]
        belief = UNTRUSTED_BELIEF + (TRUSTED_BELIEF - UNTRUSTED_BELIEF) * trusted
        weight = config.color * (1 - (1 - TRUSTED_COLOR_SHARE) * trusted)
        odds = log_odds(counts)[colors[box]]
        chance = near[box] * by_color(chance, weight * odds, belief)
        inside = chance > 0.5
        if inside.any() and odds[inside].mean() < REFUTED_LOG_ODDS:
            return corrected
    chance = snap_to_edges(chance, gray[box], config.snap_radius, config.snap_epsilon)
    corrected[box] = to_levels(chance)
    return corrected


def snap_to_edges(
    chance: NDArray[np.float32], gray: NDArray[np.uint8], radius: int, epsilon: float
) -> NDArray[np.float32]:
    """Filter a map, float32 (h, w) in [0, 1], guided by a grey frame (He et al., ECCV 2010).

    Args:
        chance: the map.
        gray: uint8 (h, w): the guide.
        radius: of the square window, pixels.
        epsilon: variance of the guide, in [0, 1]², under which a window counts as flat.
    """
    guide = gray.astype(np.float32) / np.float32(255)
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(plane: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(plane, size, borderType=cv2.BORDER_REFLECT), np.float32)

    mean_guide, mean_map = mean(guide), mean(chance)
    variance = mean(guide * guide) - mean_guide * mean_guide + epsilon
    slope = (mean(guide * chance) - mean_guide * mean_map) / np.maximum(variance, ROUNDING_VARIANCE)
    filtered = mean(slope) * guide + mean(mean_map - slope * mean_guide)
    return np.asarray(np.clip(filtered, 0, 1), np.float32)


def select_maps(
    maps: NDArray[np.uint8], tracks: NDArray[np.int64], count: int, size_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the maps of the first `count` queries' tracks at a size.

    Args:
        maps: uint8 (M, h, w), in steps of 1/255: all tracks.
        tracks: int64 (Q,): each query's track, or `NO_TRACK`.
        count: N.
        size_hw: height and width of the result.

    Returns:
        float32 (N, H, W) in [0, 1]; zeros where a query has no track.
    """
    result = np.zeros((count, *size_hw), np.float32)
    with_track = np.flatnonzero(tracks[:count] != NO_TRACK)
    result[with_track] = resize(from_levels(maps[tracks[with_track]]), size_hw)
    return result


def to_levels(maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round maps, float32 (…, h, w) in [0, 1], to steps of 1/255: uint8, of the same shape."""
    if not maps.size:
        return np.zeros(maps.shape, np.uint8)
    rows = maps.reshape(-1, maps.shape[-1])
    return np.asarray(cv2.convertScaleAbs(rows, alpha=255), np.uint8).reshape(maps.shape)


def from_levels(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return maps in steps of 1/255, uint8, as float32 in [0, 1]."""
    return np.multiply(levels, np.float32(1 / 255), dtype=np.float32)
