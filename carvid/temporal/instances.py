"""Every thing of an expression as a track of its own: a key frame's parts, matched and divided.

At a key frame the parts of each expression's CAM that score as it are matched with the tracks that
are carried here (`matching`). What covers several tracks, which cross, is divided among them, and
begins no new one. What nobody claims is a hidden track that comes back, or else a new one. A track
that is neither found nor scores as its expression any more is hidden; `instance_carry` keeps its
place in mind, and ends it after a while. A cut ends all tracks but those that are found at once in
their place and in their colours: what was taken for a cut may be none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from carvid.base.scale import cut_masks, resize, shrink_masks
from carvid.car.detections import Detections
from carvid.config import InstancesConfig, TemporalConfig
from carvid.temporal.carry import from_levels, to_levels
from carvid.temporal.claims import Claim, Sharpen, Standing, by_colors, by_what_moves, masks_of
from carvid.temporal.colors import COLOR_BINS, count_colors
from carvid.temporal.instance_carry import WHOLE_SHARE, InstanceContext, too_small
from carvid.temporal.instance_state import InstanceFrame, InstanceState, InstanceTrack
from carvid.temporal.matching import NONE, divide, likeness, match_hidden, match_seen, nearness
from carvid.temporal.update import COLOR_DECAY

USUAL_DECAY = 0.9
"""Weight of the usual area against that of a mask that is not whole."""


def after_key_frame(
    context: InstanceContext,
    detections: Sequence[Detections],
    sharpen: Sharpen,
    size_hw: tuple[int, int],
    theta: float,
    temporal: TemporalConfig,
    instances: InstancesConfig,
    standing: Standing | None = None,
) -> tuple[InstanceState, InstanceFrame]:
    """Return the state that a key frame leaves, and what it shows.

    Args:
        context: the key frame.
        detections: of each of N expressions what it has, the tracks that are in sight asked for in
            the order of `seen_tracks`.
        sharpen: makes masks of maps.
        size_hw: height and width of the frame, pixels.
        theta: θ: a track whose path value is lower, and that is not found, is hidden.
        temporal: settings of carrying.
        instances: settings of tracks.
        standing: says which tracks stand as a network has carried them; None if none carries.
    """
    colors = context.seen.colors
    assert colors is not None
    claims = [
        claim
        for owner, each in enumerate(detections)
        for claim in _claims(context, owner, each, theta, temporal, instances, standing)
    ]
    state, tracks, shown = context.state, [], []
    if claims:
        masks = masks_of(claims, sharpen, standing, size_hw)
        small = shrink_masks(masks, colors.shape) > 0.5
        begun = state.begun
        for claim, mask, inside in zip(claims, masks, small, strict=True):
            track = _updated(claim, inside, colors)
            if track is not None and track.number == NONE:
                track, begun = replace(track, number=begun), begun + 1
            if track is not None:
                tracks.append(track)
                if not track.is_hidden:
                    shown.append((track, mask, claim.found))
        state = replace(state, begun=begun)
    claimed = {track.number for track in tracks}
    rest = [_hidden(track, context) for track in state.tracks
            if track.number not in claimed and not context.begins_shot]  # fmt: skip
    state = replace(
        state, tracks=tuple(sorted([*tracks, *rest], key=lambda track: track.number)),
        since_key=0, since_key_s=0.0,
    )  # fmt: skip
    return state, _shown(context, shown, size_hw)


def between_key_frames(
    context: InstanceContext, image: NDArray[np.uint8]
) -> tuple[InstanceState, InstanceFrame]:
    """Return the state that a frame between two key frames leaves, and what it shows.

    Args:
        context: the frame.
        image: uint8 (H, W, 3) RGB.
    """
    seen = [track for track in context.state.tracks if not track.is_hidden]
    masks = np.zeros((0, *image.shape[:2]), bool)
    if seen:
        masks = cut_masks(from_levels(np.stack([track.levels for track in seen])), image)
    shown = [(track, mask, False) for track, mask in zip(seen, masks, strict=True)]
    return context.state, _shown(context, shown, (image.shape[0], image.shape[1]))


def seen_tracks(state: InstanceState, owner: int) -> list[InstanceTrack]:
    """Return the tracks of an expression that are in sight, or may be again (`meet_frame`), in
    order."""
    return [
        track for track in state.tracks
        if track.owner == owner and (not track.is_hidden or track.levels.any())
    ]  # fmt: skip


def _claims(
    context: InstanceContext,
    owner: int,
    detections: Detections,
    theta: float,
    temporal: TemporalConfig,
    instances: InstancesConfig,
    standing: Standing | None,
) -> list[Claim]:
    """The things of one expression in a key frame: what is followed, then what comes back or is
    new."""
    colors = context.seen.colors
    assert colors is not None
    size_hw = (colors.shape[0], colors.shape[1])
    maps = resize(detections.maps, size_hw)
    found = maps > 0.5
    counts = _insides([count_colors(colors, mask) for mask in found])
    tracks = seen_tracks(context.state, owner)
    known = _insides([track.counts for track in tracks])
    carried = np.array([track.mask for track in tracks], bool).reshape(-1, *size_hw)
    chosen = match_seen(
        found, carried, likeness(counts, known), _near(found, tracks), color=instances.color,
        motion=instances.motion,
    )  # fmt: skip
    claims, lost = [], []
    for number, track in enumerate(tracks):
        score = float(detections.followed[number])
        claim = _follow(track, score, chosen, number, detections, maps, theta, temporal)
        if chosen[number] == NONE and score <= theta:
            lost.append(track)
        if claim is None:
            continue
        row = int(chosen[number])
        alone = found[row] if row != NONE and not claim.shared else None
        here = 0.0 if alone is None else float(detections.scores[row])
        if standing is not None and standing.keep(track, score, alone, here):
            claims.append(replace(claim, chance=from_levels(track.levels), stands=True))
            continue
        if claim.shared:
            others = np.flatnonzero(chosen == chosen[number])
            shares = divide(carried[others], known[others], colors)
            share = shares[others.tolist().index(number)]
            claim = replace(claim, chance=claim.chance * (share > 0.5))
        claim = by_colors(claim, claim.track.counts, colors, temporal)
        others = carried[np.arange(len(tracks)) != number].any(axis=0)
        claims.append(by_what_moves(claim, others, context, temporal))
    free = [row for row in range(len(found)) if row not in chosen and found[row].any()]
    lost += [each for each in context.state.tracks
             if each.owner == owner and each.is_hidden and each not in tracks]  # fmt: skip
    again = _come_back(lost, found[free], counts[free], at_once=context.begins_shot)
    back = {track.number for track in again.values()}
    claims = [claim for claim in claims if claim.track.number not in back]
    if standing is not None:
        standing.stood.difference_update(back)
    for row in free:
        score = float(detections.scores[row])
        track = again.get(free.index(row)) or _new(owner, size_hw)
        own = track.counts if track.number != NONE else count_colors(colors, found[row])
        claim = Claim(replace(track, value=score), maps[row], score, found=True)
        claims.append(by_colors(claim, own, colors, temporal))
    return claims


def _near(found: NDArray[np.bool_], tracks: Sequence[InstanceTrack]) -> NDArray[np.float32]:
    """How near each found thing, bool (D, h, w), is to where each track should be by its motion,
    float32 (D, K); of those alone that are not wholly in sight, of which flow knows little."""
    near = nearness(
        np.array([_center(mask) for mask in found]).reshape(-1, 2),
        np.array([track.center_xy for track in tracks]).reshape(-1, 2),
        np.sqrt([float(track.area) for track in tracks]),
    )
    whole = [np.count_nonzero(track.mask) > WHOLE_SHARE * track.area for track in tracks]
    near[:, np.array(whole, bool)] = 0
    return near


def _follow(
    track: InstanceTrack,
    asked: float,
    chosen: NDArray[np.int64],
    number: int,
    detections: Detections,
    maps: NDArray[np.float32],
    theta: float,
    temporal: TemporalConfig,
) -> Claim | None:
    """What a key frame has of a track in sight; None if it is lost.

    Args:
        track: the track.
        asked: the score of where it is carried to.
        chosen: int64 (K,): the detection of each track, or `NONE`.
        number: the track's, among K.
        detections: D of them, and their `maps`, float32 (D, h, w) in [0, 1].
        theta: θ.
        temporal: settings.
    """
    row = int(chosen[number])
    own = asked if row == NONE else max(asked, float(detections.scores[row]))
    value = (1 - temporal.smoothing) * own + temporal.smoothing * track.value
    if track.is_hidden:  # what it was worth says nothing of what is there now
        value = own
    track, carried = replace(track, value=float(value)), from_levels(track.levels)
    if row == NONE:
        if value <= theta:
            return None
        return Claim(track, carried, asked, found=asked > theta)
    score = float(detections.scores[row])
    if np.count_nonzero(chosen == row) > 1:
        chance = np.maximum(maps[row], carried)
        return Claim(track, chance, own, found=asked > theta, shared=True)
    return Claim(track, maps[row] if score >= asked else carried, own, found=True)


def _come_back(
    lost: Sequence[InstanceTrack],
    found: NDArray[np.bool_],
    counts: NDArray[np.float32],
    *,
    at_once: bool,
) -> dict[int, InstanceTrack]:
    """Which of the things that nobody claims, bool (n, h, w) with their colours, float32 (n, C),
    are tracks that are hidden or lost: an index of them → the track. `at_once`: after a cut, where
    only what is in its place and has its colours is the same."""
    chosen = match_hidden(
        np.array([_center(mask) for mask in found]).reshape(-1, 2),
        np.array([track.center_xy for track in lost]).reshape(-1, 2),
        np.sqrt([float(track.area) for track in lost]),
        np.array([track.hidden_s for track in lost]),
        likeness(counts, _insides([track.counts for track in lost])),
        strict=at_once,
    )
    return {int(row): t for row, t in zip(chosen, lost, strict=True) if row != NONE}


def _updated(
    claim: Claim, inside: NDArray[np.bool_], colors: NDArray[np.uint16]
) -> InstanceTrack | None:
    """The track of a claim with its mask, bool (h, w); None if nothing is left of it."""
    track, area = claim.track, int(np.count_nonzero(inside))
    if too_small(area, track.area):
        return None
    is_new = track.number == NONE
    whole = is_new or area > WHOLE_SHARE * track.area
    usual = area if whole else round(USUAL_DECAY * track.area + (1 - USUAL_DECAY) * area)
    counts, center = track.counts, track.center_xy
    if whole and not claim.shared:
        center = _center(inside)
    if not claim.shared:
        counts = count_colors(colors, inside) + np.float32(COLOR_DECAY) * track.counts
    return replace(
        track, levels=to_levels(inside.astype(np.float32)), counts=counts, area=usual,
        center_xy=center, score=claim.score, hidden_s=0.0,
    )  # fmt: skip


def _hidden(track: InstanceTrack, context: InstanceContext) -> InstanceTrack:
    """A track that a key frame does not have."""
    nothing = np.zeros_like(track.levels)
    hidden_s = track.hidden_s or context.seen.step_s
    return replace(track, levels=nothing, hidden_s=hidden_s, score=0.0)


def _new(owner: int, size_hw: tuple[int, int]) -> InstanceTrack:
    """A track that begins."""
    return InstanceTrack(
        number=NONE, owner=owner, levels=np.zeros(size_hw, np.uint8),
        counts=np.zeros((2, COLOR_BINS), np.float32), center_xy=(0.0, 0.0), speed_xy=(0.0, 0.0),
        area=0, score=0.0, value=0.0,
    )  # fmt: skip


def _shown(
    context: InstanceContext,
    shown: Sequence[tuple[InstanceTrack, NDArray[np.bool_], bool]],
    size_hw: tuple[int, int],
) -> InstanceFrame:
    """What a frame shows, of the tracks in sight with their masks, and whether they were found."""
    ordered = sorted(shown, key=lambda each: each[0].number)
    planes = [mask for _, mask, _ in ordered]
    return InstanceFrame(
        is_key=context.is_key,
        shot=context.state.shot,
        numbers=tuple(track.number for track, _, _ in ordered),
        owners=tuple(track.owner for track, _, _ in ordered),
        scores=tuple(track.score for track, _, _ in ordered),
        found=tuple(found for _, _, found in ordered),
        masks=np.array(planes, bool).reshape(-1, *size_hw),
    )


def _insides(counts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The colours inside, float32 (n, C), of counts inside and around, float32 (2, C) each."""
    return np.array([each[0] for each in counts], np.float32).reshape(-1, COLOR_BINS)


def _center(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Where the middle of a mask is, that is not empty, pixels."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())
