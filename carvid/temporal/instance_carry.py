"""Things that are followed one by one meet a new frame: carried, by flow unless something else is
given, or hidden and expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.config import InstancesConfig, TemporalConfig
from carvid.temporal.carry import MASK_LEVEL, around, carry, correct_carried
from carvid.temporal.flow import Flow
from carvid.temporal.instance_state import InstanceState, InstanceTrack
from carvid.temporal.observe import is_due
from carvid.temporal.seen import SeenFrame

WHOLE_SHARE = 0.7
"""A thing is seen whole where its mask has more than this share of its usual area; less of it says
nothing of where its middle is ..."""
HIDING_SHARE = 0.4
"""... and with less than this share, nothing of where it goes: the rest may be what hides it."""
HIDING_HALF_S = 0.25
"""A thing that stays half hidden for so many seconds has half the speed with which it came."""
MIN_PIXELS = 12
"""A carried mask with fewer pixels is out of sight ..."""
MIN_SHARE = 0.05
"""... and so is one with less than this share of its usual area."""
OWN_SHARE = 0.5
"""What is found anew is a thing of its own if more than this share of it is nobody else's."""
CAMERA_STEP = 8
"""The camera's motion is the median of every n-th pixel in each direction."""
TRUSTED = 0.5
"""A thing's motion is that of its pixels whose flow is trusted more."""
NEW_SPEED = 0.4
"""Weight of a frame's motion in the speed of a thing."""

CarryThings = Callable[[InstanceState, SeenFrame], Mapping[int, NDArray[np.uint8]]]
"""Carries what a state knows into the next frame: number of a track → its map, uint8 (h, w) in
steps of 1/255, of all tracks in sight; and of hidden ones that it finds again."""


@dataclass(frozen=True, eq=False)
class InstanceContext:
    """A new frame with all that is followed, carried into it."""

    state: InstanceState
    """The tracks as they are carried here, and what the frame leaves if nothing more is done. At a
    key frame hidden ones that are found again have maps, too."""
    seen: SeenFrame
    """What the frame shows, whatever is looked for."""
    is_key: bool
    """Whether it is a key frame."""

    @property
    def begins_shot(self) -> bool:
        """Whether it is the first frame, or the first one after a cut."""
        return self.seen.flow is None


def meet_frame(
    state: InstanceState,
    seen: SeenFrame,
    temporal: TemporalConfig,
    instances: InstancesConfig,
    *,
    carry_things: CarryThings | None = None,
) -> InstanceContext:
    """Carry what is followed into a new frame, and say if that is a key frame. At a cut everything
    is hidden; a flash is passed over.

    Where what carries finds a hidden track again, the next key frame is asked about it; until then
    it stays hidden, so that nothing appears that no key frame has confirmed.

    Args:
        state: what the frame before left.
        seen: what the new frame shows.
        temporal: settings of carrying.
        instances: settings of tracks.
        carry_things: what carries the tracks; by flow, if not given.
    """
    here = replace(
        state, since_key=state.since_key + 1, since_key_s=state.since_key_s + seen.step_s,
        time_s=seen.time_s, gray=seen.gray, cut_history=seen.cut_history,
        followed=None if state.followed is None else state.followed.between(),
    )  # fmt: skip
    if seen.flow is None:
        lost = tuple(_lost(track, seen.step_s) for track in state.tracks if seen.verdict == "cut")
        return InstanceContext(replace(here, tracks=lost, shot=state.shot + 1), seen, is_key=True)
    if seen.verdict == "flash":
        return InstanceContext(here, seen, is_key=False)
    camera = _camera_motion(seen.flow, state.tracks)
    crowded = _crowded(state.tracks)
    carried = carry_things(state, seen) if carry_things else by_flow(state, seen, temporal)
    is_key = is_due(state, seen.step_s, temporal)
    nothing = np.zeros(seen.flow.trust.shape, np.uint8)
    moved = [
        _moved(
            track, carried.get(track.number, nothing), seen, camera,
            crowded=track.number in crowded, is_key=is_key,
        )
        for track in state.tracks
    ]  # fmt: skip
    kept = [track for track in moved if track.hidden_s <= instances.hidden_s]
    return InstanceContext(replace(here, tracks=apart(kept)), seen, is_key)


def by_flow(
    state: InstanceState, seen: SeenFrame, temporal: TemporalConfig
) -> dict[int, NDArray[np.uint8]]:
    """Carry the tracks in sight by flow; as `CarryThings`."""
    return {
        track.number: _carried(track, seen, temporal)
        for track in state.tracks if not track.is_hidden
    }  # fmt: skip


def apart(tracks: Sequence[InstanceTrack]) -> tuple[InstanceTrack, ...]:
    """Give each pixel that several things of an expression claim to the one with the highest map;
    of equal ones to the first."""
    result = list(tracks)
    for owner in {track.owner for track in tracks}:
        mine = [k for k, track in enumerate(tracks) if track.owner == owner]
        if len(mine) < 2:
            continue
        levels = np.stack([tracks[k].levels for k in mine])
        twice = (levels > MASK_LEVEL).sum(axis=0) > 1
        if not twice.any():
            continue
        lost = twice & (np.arange(len(mine))[:, None, None] != levels.argmax(axis=0))
        for k, plane, without in zip(mine, levels, lost, strict=True):
            cut = np.where(without, np.minimum(plane, MASK_LEVEL), plane)
            result[k] = replace(tracks[k], levels=np.asarray(cut, np.uint8))
    return tuple(result)


def too_small(area: int, usual: int) -> bool:
    """Return whether a mask of so many pixels is none, of a thing that usually has `usual`."""
    return area < MIN_PIXELS or area < MIN_SHARE * usual


def _moved(
    track: InstanceTrack,
    levels: NDArray[np.uint8],
    seen: SeenFrame,
    camera: NDArray[np.float64],
    *,
    crowded: bool,
    is_key: bool,
) -> InstanceTrack:
    """A track in the next frame, where it is carried to `levels`, uint8 (h, w). `crowded`: it
    touches another one, so that the motion under its mask may be that one's."""
    speed = np.array(track.speed_xy)
    area = int(np.count_nonzero(levels > MASK_LEVEL))
    if not track.is_hidden and (area > WHOLE_SHARE * track.area or not crowded):
        speed = _speed(track, levels > MASK_LEVEL, seen, camera)
    step = camera + speed * seen.step_s
    is_lost = too_small(area, track.area)
    hidden_s = track.hidden_s + seen.step_s if track.is_hidden or is_lost else 0.0
    if is_lost or (track.is_hidden and not is_key):
        levels = np.zeros_like(levels)
    center = np.array(track.center_xy) + step
    if not hidden_s:
        center = _near(center, levels > MASK_LEVEL, float(track.area) ** 0.5)
    x, y = center
    return replace(
        track, levels=levels, hidden_s=float(hidden_s), center_xy=(float(x), float(y)),
        speed_xy=(float(speed[0]), float(speed[1])),
    )  # fmt: skip


def _lost(track: InstanceTrack, step_s: float) -> InstanceTrack:
    """A track at a cut: nobody knows where it is."""
    hidden_s = track.hidden_s + step_s
    return replace(track, levels=np.zeros_like(track.levels), hidden_s=hidden_s, score=0.0)


def _carried(track: InstanceTrack, seen: SeenFrame, temporal: TemporalConfig) -> NDArray[np.uint8]:
    """A track's map in the next frame, uint8 (h, w), by flow, corrected by colours and edges."""
    flow = seen.flow
    assert flow is not None and seen.gray is not None and seen.colors is not None
    result = np.zeros_like(track.levels)
    box = around(flow.backward_map.leading_into(track.levels), temporal)
    levels = carry([track.levels], flow.backward_map, box)[0]
    result[box] = correct_carried(
        levels, flow.trust[box], seen.gray[box], seen.colors[box], track.counts, temporal
    )
    return result


def _near(center: NDArray[np.float64], mask: NDArray[np.bool_], most: float) -> NDArray[np.float64]:
    """The middle of a thing, float64 (2,), no farther from that of what is seen of it, bool (h, w),
    than `most` pixels."""
    rows, columns = np.nonzero(mask)
    seen = np.array([columns.mean(), rows.mean()])
    away = center - seen
    return np.asarray(seen + away * min(1.0, most / max(1e-6, float(np.linalg.norm(away)))))


def _crowded(tracks: Sequence[InstanceTrack]) -> set[int]:
    """The numbers of tracks that touch another one of their expression."""
    found: set[int] = set()
    square = np.ones((3, 3), np.uint8)
    for one, other in combinations([track for track in tracks if not track.is_hidden], 2):
        if one.owner == other.owner:
            near = cv2.dilate(one.mask.astype(np.uint8), square) > 0
            if (near & other.mask).any():
                found |= {one.number, other.number}
    return found


def _speed(
    track: InstanceTrack,
    mask: NDArray[np.bool_],
    seen: SeenFrame,
    camera: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How a track moves against the camera, float64 (2,), pixels a second, with what a frame says
    of it."""
    assert seen.flow is not None
    inside, before = mask & (seen.flow.trust > TRUSTED), np.array(track.speed_xy)
    if np.count_nonzero(mask) < HIDING_SHARE * track.area:
        return np.asarray(before * 0.5 ** (seen.step_s / HIDING_HALF_S), np.float64)
    if np.count_nonzero(inside) < MIN_PIXELS:
        return before
    now = (np.median(seen.flow.motion[inside], axis=0) - camera) / seen.step_s
    return np.asarray(before + NEW_SPEED * (now - before), np.float64)


def _camera_motion(flow: Flow, tracks: Sequence[InstanceTrack]) -> NDArray[np.float64]:
    """How the ground moves, float64 (2,), pixels a frame: the median of what is no track's."""
    thin = (slice(None, None, CAMERA_STEP),) * 2
    ground = np.ones(flow.trust[thin].shape, bool)
    for track in tracks:
        ground &= ~track.mask[thin]
    motion = flow.motion[thin][ground]
    return np.asarray(np.median(motion, axis=0) if len(motion) else np.zeros(2), np.float64)
