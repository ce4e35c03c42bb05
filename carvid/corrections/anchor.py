"""The corrected frame: which mask its corrections leave.

The frame becomes a key frame, and what could be the thing there is gathered: the candidates of
CaR's step, of this expression and of the others, masks of nearby frames that lead there, and, at a
click, regions of the picture. What contradicts a correction of this frame is out; the classifier
chooses among the rest. Where SAM 2 carries the masks it is asked first, by points and a box.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import box_of, iou
from carvid.base.scale import resize, shrink_masks
from carvid.car.queries import Queries
from carvid.car.regions import region_in, regions_at
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.step import StepResult
from carvid.config import Config
from carvid.corrections.prompts import PromptedFollower, depth_in, mask_of, prompts_of
from carvid.run.corrections import Correction
from carvid.temporal.nearby import Outward, instead_of, pointed_at

Mask = NDArray[np.bool_]
"""bool (H, W), of the frame."""

SAME = 0.9
"""Of candidates that overlap by more (IoU) one is asked of."""
BOX_IOU = 0.5
"""A candidate fits a box if its own box overlaps it by this (IoU)."""
NEAR_MARGIN = 0.1
"""A mask of a nearby frame or of another expression is taken if no other candidate scores higher by
more."""
DEEP_SHARE = 0.6
"""A point lies deep inside a mask where it is at least so far from its edge, of the most."""
WHOLE_SHARE = 0.5
"""A region that covers this share of a part of the mask is the whole of it: what is refused is the
thing itself, not what has leaked into its mask."""
MAX_AREA_RATIO = 3.0
"""What is had instead of a refused thing is larger or smaller by no more than this factor."""
MOVING_PIXELS = 1.0
"""What moves against the camera by more than this, pixels a frame (median), is another thing than
what moves the other way."""
SPECK = 1e-4
"""Candidates smaller than this share of the picture are no things."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """A frame with all that is said of one expression in it."""

    image: NDArray[np.uint8]
    """uint8 (H, W, 3) RGB."""
    query: int
    """The expression's index, from 0."""
    before: Mask
    """The run's mask of it."""
    others: NDArray[np.bool_]
    """bool (N - 1, H, W): the run's masks of the other expressions."""
    said: Sequence[Correction]
    """The corrections of this expression in this frame; the last one is new."""
    later: Outward
    """The frame and those after it, with the run's masks."""
    earlier: Outward
    """The frame and those before it, likewise."""

    @property
    def motion(self) -> NDArray[np.float32] | None:
        """float32 (h, w, 2): how the frame's pixels have moved since the frame before, or, where a
        shot begins, about how they go on; None if nothing tells."""
        flows = [self.earlier[0][0].flow, *(seen.flow for seen, _ in self.later[1:2])]
        return next((flow.motion for flow in flows if flow is not None), None)


def corrected_mask(
    frame: Corrected,
    segmenter: RecurrentSegmenter,
    queries: Queries,
    config: Config,
    follower: PromptedFollower | None = None,
) -> Mask:
    """Return the mask that the corrections of a frame leave, bool (H, W); empty where the thing is
    not there.

    Args:
        frame: the frame.
        segmenter: for the candidates, and their scores.
        queries: the run's.
        config: the run's.
        follower: is asked first, if given: it follows nothing, and has seen the frame. Its mask is
            taken if it fits all that is said, and where that is no yes, scores above θ.
    """
    said_yes = any(each.wanted for each in frame.said)
    asked = [] if follower is None else _fitting(frame, _asked(frame, follower))
    if asked and said_yes:
        return asked[0]
    encoded = segmenter.generator.encode(frame.image)
    score = partial(segmenter.score_masks, frame.image, queries, frame.query, encoded=encoded)
    if asked and score(masks=np.stack(asked))[0] > config.car.theta:
        return asked[0]
    step = segmenter.segment(frame.image, queries, encoded=encoded)
    fitting = _fitting(frame, _nearby(frame, config))
    near = len(fitting)
    fitting += _fitting(frame, chain(_of_step(frame, step, config), _regions(frame)), fitting)
    if not fitting:
        return _as_said(frame)
    scores = score(masks=np.stack(fitting))
    best = _best(scores, near)
    if not said_yes and scores[best] <= config.car.theta:
        return np.zeros_like(frame.before)
    return fitting[best]


def _asked(frame: Corrected, follower: PromptedFollower) -> Iterator[Mask]:
    """The mask that SAM 2 makes of all that is said; none where nothing says where the thing is."""
    prompts = prompts_of(frame.said, partial(_rest, frame))
    if prompts is not None:
        yield mask_of(follower, prompts, frame.image, frame.later[0][1].shape)


def _rest(frame: Corrected) -> Mask:
    """What remains of the mask without what is refused; nothing, unless that has leaked into most
    of a thing: a smaller rest is not the thing, which was refused itself."""
    rest, before = _as_said(frame), np.count_nonzero(frame.before)
    is_leak = WHOLE_SHARE * before < np.count_nonzero(rest) < before
    return rest if is_leak else np.zeros_like(rest)


def _best(scores: NDArray[np.float32], near: int) -> int:
    """Which candidate is chosen by the scores, float32 (C,), of which the first `near` are those of
    nearby frames."""
    best_near = int(scores[:near].argmax()) if near else 0
    is_good = near and scores[best_near] >= scores.max() - NEAR_MARGIN
    return best_near if is_good else int(scores.argmax())


def _fitting(
    frame: Corrected, masks: Iterable[Mask], found: Sequence[Mask] = ()
) -> list[Mask]:
    """The masks that are what all corrections say, and no specks; of those that are nearly the same
    as one before, or as one of `found`, none."""
    fitting: list[Mask] = []
    for mask in masks:
        if (
            np.count_nonzero(mask) > SPECK * mask.size
            and all(fits(mask, each) for each in frame.said)
            and not (frame.said[-1].wanted and _is_two(mask, frame))
            and all(iou(mask, other) <= SAME for other in (*found, *fitting))
        ):
            fitting.append(mask)
    return fitting


def _of_step(frame: Corrected, step: StepResult, config: Config) -> Iterator[Mask]:
    """The candidates of CaR's step; where somebody is to be had instead of what is refused, those
    of this expression that are of its size."""
    wanted, size_hw = frame.said[-1].wanted, frame.before.shape
    for query, candidates in step.candidates.items():
        if wanted or query == frame.query:
            for plane in resize(candidates.masks, (size_hw[0], size_hw[1])):
                mask = np.asarray(plane > config.prompts.eta, bool)
                if wanted or _same_size(mask, frame.before):
                    yield mask


def _same_size(mask: Mask, other: Mask) -> bool:
    """Whether two masks are of about the same size."""
    area, other_area = np.count_nonzero(mask), np.count_nonzero(other)
    return bool(max(area, other_area) <= MAX_AREA_RATIO * min(area, other_area))


def _nearby(frame: Corrected, config: Config) -> Iterator[Mask]:
    """What other frames and other expressions know of the thing."""
    if frame.said[-1].wanted:
        yield from _nearby_of_yes(frame, config)
        yield from frame.others
    else:
        yield from _nearby_of_no(frame, config)


def _regions(frame: Corrected) -> Iterator[Mask]:
    """What follows from the picture."""
    return _regions_of_yes(frame) if frame.said[-1].wanted else _regions_of_no(frame)


def fits(mask: Mask, said: Correction) -> bool:
    """Whether a mask is what a correction says of its frame."""
    if said.point is not None:
        return bool(mask[int(said.point[1]), int(said.point[0])]) == said.wanted
    assert said.box is not None
    if not mask.any():
        return False
    (left, top, right, bottom), box = box_of(mask), said.box
    across = max(0.0, min(right, box[2]) - max(left, box[0]))
    down = max(0.0, min(bottom, box[3]) - max(top, box[1]))
    both = across * down
    areas = (right - left) * (bottom - top) + (box[2] - box[0]) * (box[3] - box[1])
    return both >= BOX_IOU * (areas - both)


def _nearby_of_yes(frame: Corrected, config: Config) -> Iterator[Mask]:
    """Masks of nearby frames that lead to what is wanted."""
    center = _wanted_at(frame)
    for forward, frames in ((True, frame.later), (False, frame.earlier)):
        small = frames[0][1].shape
        scale = small[1] / frame.before.shape[1], small[0] / frame.before.shape[0]
        at = (center[0] * scale[0], center[1] * scale[1])
        found = pointed_at(at, frames, config.temporal, forward=forward)
        if found is not None:
            yield _enlarged(found, frame.before.shape)


def _regions_of_yes(frame: Corrected) -> Iterator[Mask]:
    """What the picture has at a point, alone and with what the run had; or in a box."""
    said = frame.said[-1]
    if said.box is not None:
        yield region_in(frame.image, said.box)
        return
    refused = _points(frame, wanted=False)
    regions = regions_at(frame.image, _wanted_at(frame), refused)[::-1]
    if frame.before.any():
        yield from (region | frame.before for region in regions)
    yield from regions


def _nearby_of_no(frame: Corrected, config: Config) -> Iterator[Mask]:
    """What the run has in nearby frames instead of what is refused."""
    for forward, frames in ((True, frame.later), (False, frame.earlier)):
        found = instead_of(frames[0][1], frames, config.temporal, forward=forward)
        if found is not None:
            yield _enlarged(found, frame.before.shape)


def _regions_of_no(frame: Corrected) -> Iterator[Mask]:
    """The mask without its part at a point, and without the regions there."""
    point, before = frame.said[-1].point, frame.before
    assert point is not None
    if not before[int(point[1]), int(point[0])]:
        yield before
        return
    part = _part_at(before, point)
    yield before & ~part
    regions = _leaks(frame, part, point)
    yield from (before & ~region for region in regions)


def _part_at(mask: Mask, point: tuple[float, float]) -> Mask:
    """The connected part of a mask at a point in it."""
    _, parts = cv2.connectedComponents(mask.view(np.uint8))
    return np.asarray(parts == parts[int(point[1]), int(point[0])], bool)


def _leaks(frame: Corrected, part: Mask, point: tuple[float, float]) -> list[Mask]:
    """The regions at a point of a part of the mask that may have leaked into it; none where they
    are most of it and the point lies deep inside: then the whole part is meant."""
    kept = _points(frame, wanted=True)
    regions = [region & part for region in regions_at(frame.image, point, kept)]
    half = WHOLE_SHARE * np.count_nonzero(part)
    small = [region for region in regions if np.count_nonzero(region) < half]
    depth = depth_in(part)
    is_deep = depth[int(point[1]), int(point[0])] >= DEEP_SHARE * depth.max()
    return [] if is_deep and len(small) < len(regions) else small


def _is_two(mask: Mask, frame: Corrected) -> bool:
    """Whether a mask that is wanted joins what the run had with what moves otherwise: they are two
    things, of which the run had the wrong one."""
    before, motion = frame.before, frame.motion
    rest = mask & ~before
    if motion is None or np.count_nonzero(mask & before) < WHOLE_SHARE * np.count_nonzero(before):
        return False
    size_hw = (motion.shape[0], motion.shape[1])
    planes = [motion[small_mask(each, size_hw)] for each in (before, rest)]
    planes.append(motion[~small_mask(mask | before, size_hw)])
    if not all(len(plane) for plane in planes):
        return False
    one, other, camera = (np.median(plane, axis=0) for plane in planes)
    one, other = one - camera, other - camera
    return bool(min(np.hypot(*one), np.hypot(*other)) > MOVING_PIXELS and one @ other < 0)


def _points(frame: Corrected, *, wanted: bool) -> Mask:
    """A small square around each point that is wanted, or not."""
    mask = np.zeros_like(frame.before)
    reach = max(1, round(0.005 * max(mask.shape)))
    for said in frame.said:
        if said.point is not None and said.wanted == wanted:
            x, y = int(said.point[0]), int(said.point[1])
            mask[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    return mask


def _as_said(frame: Corrected) -> Mask:
    """The mask where no candidate fits all that is said: that of before, with what is at the points
    that are wanted, and without what is at the others. Points are more exact than a box, and hold
    at least where they are."""
    mask = frame.before.copy()
    for said in sorted(frame.said, key=lambda each: each.point is not None):
        if said.point is None:
            assert said.box is not None
            mask = region_in(frame.image, said.box)
        elif said.wanted and not fits(mask, said):
            mask |= regions_at(frame.image, said.point, _points(frame, wanted=False))[0]
        elif not fits(mask, said):
            part = _part_at(mask, said.point)
            mask &= ~(_leaks(frame, part, said.point) or [part])[0]
    for said in frame.said:
        if said.point is not None and not fits(mask, said):  # a later one took its whole part
            mask[int(said.point[1]), int(said.point[0])] = said.wanted
    return mask


def _enlarged(mask: NDArray[np.bool_], size_hw: tuple[int, ...]) -> Mask:
    """A mask of the flow's size at that of the frame."""
    maps = resize(mask[None].astype(np.float32), (size_hw[0], size_hw[1]))
    return np.asarray(maps[0] > 0.5, bool)


def _wanted_at(frame: Corrected) -> tuple[float, float]:
    """The point that is wanted, or the middle of the box."""
    said = frame.said[-1]
    if said.point is not None:
        return said.point
    assert said.box is not None
    left, top, right, bottom = said.box
    return (left + right) / 2, (top + bottom) / 2


def small_mask(mask: Mask, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask of a frame, bool (H, W), at the flow's size, bool (h, w)."""
    return np.asarray(shrink_masks(mask[None], size_hw)[0] > 0.5, bool)

