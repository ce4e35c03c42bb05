"""What spreads from a corrected frame: drawn squares, clips that are read outward, and regions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import carvid
from carvid.base.masks import iou
from carvid.car.regions import region_in, regions_at
from carvid.config import TemporalConfig
from carvid.corrections import clip as clip_module
from carvid.corrections.clip import Clip, frames_of
from carvid.media.encode import VideoWriter
from carvid.media.frames import Frame
from carvid.media.given import GivenFrames
from carvid.temporal.nearby import instead_of, pointed_at
from carvid.temporal.seen import SeenFrame, seen_frames
from carvid.temporal.spread import Spread, refuted_by
from carvid.temporal.spread_carrier import ByFlow
from tests.squares import SIZE_HW, texture
from tests.test_seen import content

CONFIG = TemporalConfig()
RATE = 10
SIDE = 36
TINTS = (
    (2, np.array([150, 20, 0], np.uint8)),
    (3, np.array([0, 110, 20], np.uint8)),
)
"""Seeds of two squares' textures and what is added to them."""
EMPTY = np.zeros(SIZE_HW, bool)
BOTH = pytest.mark.parametrize("forward", [True, False])

Mask = NDArray[np.bool_]
Place = tuple[int, int] | None
"""Left and top of a square; None where it is not there."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Frames with two squares, and the masks of these."""

    seen: list[SeenFrame]
    one: list[Mask]
    other: list[Mask]

    def outward(self, forward: bool) -> tuple[list[SeenFrame], list[Mask], list[Mask]]:
        step = 1 if forward else -1
        return self.seen[::step], self.one[::step], self.other[::step]


def drawn(one: Sequence[Place], other: Sequence[Place]) -> Shown:
    """Two textured squares that go over a third texture; the first is above."""
    height, width = SIZE_HW
    canvas_hw = (height + 2 * SIDE, width + 2 * SIDE)
    ground = texture(1, canvas_hw) // 3
    things = [texture(seed)[:SIDE, :SIDE] // 3 + tint for seed, tint in TINTS]
    inside = (slice(SIDE, SIDE + height), slice(SIDE, SIDE + width))
    frames: list[Frame] = []
    masks: tuple[list[Mask], list[Mask]] = ([], [])
    for index, places in enumerate(zip(one, other, strict=True)):
        image, owner = ground.copy(), np.zeros(canvas_hw, np.uint8)
        for label in (2, 1):
            place = places[label - 1]
            if place is not None:
                left, top = np.clip(place, -SIDE, (width, height)) + SIDE
                box = (slice(top, top + SIDE), slice(left, left + SIDE))
                image[box], owner[box] = things[label - 1], label
        frames.append(Frame(index, index / RATE, np.ascontiguousarray(image[inside])))
        for label in (1, 2):
            masks[label - 1].append(owner[inside] == label)
    return Shown([seen for _, seen in seen_frames(frames, None, CONFIG)], *masks)


def apart(frames: int) -> Shown:
    """One above, that goes to the right, and one below, that goes to the left."""
    return drawn(
        [(20 + 2 * t, 14) for t in range(frames)], [(190 - 2 * t, 84) for t in range(frames)]
    )


def spread(
    seen: Sequence[SeenFrame],
    mask: Mask,
    before: Mask,
    found: Iterable[Mask],
    *,
    forward: bool,
    wanted: bool = True,
) -> tuple[list[Mask], Spread]:
    """Correct the first of some frames to a mask; what becomes of those after it."""
    refuted = refuted_by(mask, before, wanted=wanted)
    moved = Spread(mask, refuted, seen[0], ByFlow(CONFIG, forward=forward), wanted=wanted)
    masks = []
    for frame, own in zip(seen[1:], found, strict=True):
        levels = None if moved.is_over else moved.into(frame, own)
        masks.append(own if levels is None else levels > 127)
    return masks, moved


# A mask on its way


@BOTH
def test_a_thing_is_held_where_the_run_has_another(forward: bool) -> None:
    seen, one, other = apart(20).outward(forward)
    masks, moved = spread(seen, one[0], other[0], other[1:], forward=forward)
    assert all(iou(mask, truth) > 0.8 for mask, truth in zip(masks, one[1:], strict=True))
    assert not moved.is_over


@BOTH
def test_a_thing_is_held_where_the_run_has_nothing(forward: bool) -> None:
    seen, one, _ = apart(20).outward(forward)
    masks, moved = spread(seen, one[0], EMPTY, [EMPTY] * 19, forward=forward)
    assert all(iou(mask, truth) > 0.8 for mask, truth in zip(masks, one[1:], strict=True))
    assert not moved.is_over


@BOTH
def test_the_run_s_own_mask_is_taken_up_where_both_agree(forward: bool) -> None:
    """Its shape is as new as the run's last key frame."""
    seen, one, other = apart(30).outward(forward)
    own = [np.roll(mask, 3, axis=0) for mask in one]
    found = [*other[1:5], *own[5:8], *[EMPTY] * 3, *own[11:]]
    masks, moved = spread(seen, one[0], other[0], found, forward=forward)
    assert all(iou(mask, truth) > 0.8 for mask, truth in zip(masks[:4], one[1:5], strict=True))
    assert all((mask == own[k]).all() for k, mask in enumerate(masks[4:7], 5))
    assert all(iou(mask, truth) > 0.8 for mask, truth in zip(masks[7:10], one[8:11], strict=True))
    assert moved.is_over  # both agree for more than a second
    assert all((mask == own[k]).all() for k, mask in enumerate(masks[10:], 11))


@BOTH
def test_what_agrees_for_a_second_is_over(forward: bool) -> None:
    seen, one, other = apart(34).outward(forward)
    _, moved = spread(seen[:9], one[0], other[0], one[1:9], forward=forward)
    assert not moved.is_over  # 0.8 s
    found = [*one[1:24], *other[24:]]
    masks, moved = spread(seen, one[0], other[0], found, forward=forward)
    assert moved.is_over
    assert all((mask == own).all() for mask, own in zip(masks, found, strict=True))


@BOTH
def test_a_refuted_thing_is_taken_away_as_long_as_it_is_the_same(forward: bool) -> None:
    seen, one, other = apart(24).outward(forward)
    found = [*other[1:8], *one[8:]]
    masks, _ = spread(seen, EMPTY, other[0], found, forward=forward, wanted=False)
    assert not any(mask.any() for mask in masks[:7])
    assert all((mask == own).all() for mask, own in zip(masks[7:], one[8:], strict=True))


def test_a_refuted_thing_that_has_left_is_forgotten() -> None:
    """What comes later at its place is another one."""
    leaves: list[Place] = [(190 + 8 * t, 84) for t in range(8)]
    shown = drawn([(20, 14)] * 16, [*leaves, *[None] * 8])
    found = [*shown.other[1:8], *shown.one[8:]]
    masks, moved = spread(shown.seen, EMPTY, shown.other[0], found, forward=True, wanted=False)
    assert not any(mask.any() for mask in masks[:4])
    assert all((mask == own).all() for mask, own in zip(masks[7:], shown.one[8:], strict=True))
    assert moved.is_over


def test_a_thing_that_has_left_takes_nothing_away() -> None:
    """A yes says where the thing is, and nothing of what the run has when it is gone."""
    leaves: list[Place] = [(20 - 8 * t, 14) if t < 9 else None for t in range(16)]
    shown = drawn(leaves, [(190 - t, 84) for t in range(16)])
    masks, moved = spread(shown.seen, shown.one[0], shown.other[0], shown.other[1:], forward=True)
    held = [iou(mask, truth) for mask, truth in zip(masks, shown.one[1:], strict=True)]
    assert min(held[:3]) > 0.7
    assert moved.is_over
    assert all((mask == own).all() for mask, own in zip(masks[9:], shown.other[10:], strict=True))


def test_where_a_thing_and_the_refuted_one_meet_it_ends() -> None:
    """Nobody knows which is which behind."""
    shown = drawn([(20 + 5 * t, 50) for t in range(24)], [(140 - 3 * t, 50) for t in range(24)])
    masks, moved = spread(shown.seen, shown.one[0], shown.other[0], shown.other[1:], forward=True)
    assert moved.is_over
    assert all(
        iou(mask, truth) > 0.7 for mask, truth in zip(masks[:9], shown.one[1:10], strict=True)
    )
    assert (masks[-1] == shown.other[-1]).all()


def test_what_was_refuted() -> None:
    one, other = EMPTY.copy(), EMPTY.copy()
    one[10:40, 10:40] = other[60:90, 60:90] = True
    assert (refuted_by(one, other, wanted=True) == other).all()
    assert (refuted_by(EMPTY, other, wanted=False) == other).all()
    part = one.copy()
    part[10:25] = False
    for mask, before in ((one, part), (part, one), (one, one)):  # the thing in another shape
        assert not refuted_by(mask, before, wanted=True).any()
    assert not refuted_by(part, one, wanted=False).any()  # a leak
    assert not refuted_by(one, EMPTY, wanted=True).any()
    sliver = one.copy()
    sliver[15:] = False
    assert (refuted_by(sliver, one, wanted=False) == one & ~sliver).all()  # most of it is not it


@BOTH
def test_nothing_spreads_of_nothing(forward: bool) -> None:
    seen, one, _ = apart(2).outward(forward)
    for mask, refuted, wanted, over in (
        (EMPTY, EMPTY, True, True), (EMPTY, EMPTY, False, True), (EMPTY, one[0], True, True),
        (EMPTY, one[0], False, False), (one[0], EMPTY, True, False),
    ):  # fmt: skip
        moved = Spread(mask, refuted, seen[0], ByFlow(CONFIG, forward=forward), wanted=wanted)
        assert moved.is_over == over


# What nearby frames know


@BOTH
def test_a_point_leads_to_the_mask_of_a_nearby_frame(forward: bool) -> None:
    seen, one, other = apart(9).outward(forward)
    found = [*other[:6], *(a | b for a, b in zip(one[6:8], other[6:8], strict=True)), EMPTY]
    found[6:8] = one[6:8]
    frames = list(zip(seen, found, strict=True))
    rows, columns = np.nonzero(one[0])
    at = (float(columns.mean()), float(rows.mean()))
    mask = pointed_at(at, frames, CONFIG, forward=forward)
    assert mask is not None and iou(mask, one[0]) > 0.8
    assert pointed_at(at, frames[:6], CONFIG, forward=forward) is None
    assert pointed_at((120.0, 70.0), frames, CONFIG, forward=forward) is None
    assert pointed_at((0.0, 143.0), frames[:1], CONFIG, forward=forward) is None


@BOTH
@pytest.mark.parametrize("point", [(239, 143), (239.4, 0), (0, 143), (0, 0), (238, 70)])
def test_points_at_the_border_lead_somewhere(forward: bool, point: tuple[float, float]) -> None:
    seen, _, _ = apart(3).outward(forward)
    whole = ~EMPTY
    mask = pointed_at(point, list(zip(seen, [EMPTY, whole, EMPTY], strict=True)), CONFIG,
                      forward=forward)  # fmt: skip
    assert mask is not None and iou(mask, whole) > 0.9


@BOTH
def test_what_the_run_has_instead_of_a_refuted_mask(forward: bool) -> None:
    seen, one, other = apart(9).outward(forward)
    frames = list(zip(seen, [*other[:5], EMPTY, *one[6:]], strict=True))
    mask = instead_of(other[0], frames, CONFIG, forward=forward)
    assert mask is not None and iou(mask, one[0]) > 0.8
    assert instead_of(other[0], frames[:6], CONFIG, forward=forward) is None
    assert instead_of(one[0], frames[:1], CONFIG, forward=forward) is None


@BOTH
def test_a_cut_hides_what_is_behind(forward: bool) -> None:
    shown = apart(6)
    cut = [*shown.seen]
    images = [texture(9)] * 3
    rest = [seen for _, seen in seen_frames(
        (Frame(3 + k, (3 + k) / RATE, image) for k, image in enumerate(images)), cut[2], CONFIG
    )]  # fmt: skip
    seen = [*cut[:3], *rest]
    assert rest[0].flow is None
    step = 1 if forward else -1
    found = [shown.one[0]] * 3
    masks = [EMPTY] * 3 + found if forward else found + [EMPTY] * 3
    frames = list(zip(seen, masks, strict=True))[::step]
    at = (40.0, 30.0)
    assert pointed_at(at, frames, CONFIG, forward=forward) is None
    assert instead_of(shown.other[0], frames, CONFIG, forward=forward) is None


# Clips, read outward


CUT = 7
"""A scene begins with this frame of `scenes`."""


def scenes() -> list[NDArray[np.uint8]]:
    """15 pictures with a cut and a flash."""
    images = []
    for index in range(15):
        image = (
            texture(4) // 2 if index < CUT else texture(5) // 4 + np.array([150, 0, 0], np.uint8)
        )
        image[40:76, 30 + 4 * index : 66 + 4 * index] = texture(6)[:36, :36]
        images.append(image)
    images[11] = np.full_like(images[11], 255)
    return images


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("outward")
    (root / "folder").mkdir()
    with VideoWriter(root / "clip.mp4", SIZE_HW, Fraction(25)) as writer:
        for index, image in enumerate(scenes()):
            writer.write(image)
            Image.fromarray(image).save(root / "folder" / f"{index:03d}.png")
    return {"video": root / "clip.mp4", "folder": root / "folder"}


Read = list[tuple[int, float, bytes, list[object]]]


def read(frames: Iterable[tuple[Frame, SeenFrame]]) -> Read:
    """All but the history, which is as long as what was read before."""
    return [
        (frame.index, frame.time_s, frame.image.tobytes(),
         [part for place, part in enumerate(content(seen)) if place not in (1, 3)])
        for frame, seen in frames
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["video", "folder", "memory"])
def test_a_clip_is_read_outward_as_the_run_has_read_it(
    kind: str, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the ends of a shot, around the borders of pieces, in any order."""
    monkeypatch.setattr(clip_module, "MOST", 3)
    if kind == "memory":
        images = scenes()
        whole = list(seen_frames(GivenFrames(images).frames(), None, CONFIG))
        clip = Clip(lambda start: GivenFrames(images).frames(start), SIZE_HW, CONFIG)
        _check_outward(clip, whole)
        return
    with carvid.open_video(sources[kind]) as reader:
        whole = list(seen_frames(reader.frames(), None, CONFIG))
        times_s = np.array([frame.time_s for frame, _ in whole])
        _check_outward(Clip(frames_of(reader, times_s), SIZE_HW, CONFIG), whole)


def _check_outward(clip: Clip, whole: list[tuple[Frame, SeenFrame]]) -> None:
    assert [index for index, (_, seen) in enumerate(whole) if seen.flow is None] == [0, CUT]
    assert whole[11][1].verdict == "flash"
    wanted = read(whole)
    for index in (0, 5, CUT - 1, CUT, 9, 11, 14):
        first, end = (0, CUT) if index < CUT else (CUT, 15)
        later, earlier = (clip.outward(index, forward=forward) for forward in (True, False))
        begun = [*read([next(later)]), *read([next(earlier)])]  # both are open at a time
        assert begun == [wanted[index]] * 2
        assert read(earlier) == wanted[first:index][::-1]
        assert read(later) == wanted[index + 1 : end]


def test_a_dissolve_across_pieces_ends_a_shot() -> None:
    """It is noticed by the frames before it."""
    first, last = (np.asarray(scenes()[index], np.float32) for index in (0, CUT))
    blends = [first + (last - first) * k / 15 for k in range(1, 15)]
    images = [np.asarray(each, np.uint8) for each in [*[first] * 30, *blends, *[last] * 30]]

    def frames_from(index: int) -> Iterator[Frame]:
        return GivenFrames(images, Fraction(25)).frames(index)

    shots = [k for k, (_, seen) in enumerate(seen_frames(frames_from(0), None, CONFIG))
             if seen.flow is None]  # fmt: skip
    assert len(shots) == 2 and 35 < shots[1] < 50
    clip = Clip(frames_from, SIZE_HW, CONFIG)
    for index in range(shots[1] + 16, shots[1] + 24):
        *_, (frame, _) = clip.outward(index, forward=False)
        assert frame.index == shots[1]


def test_pieces_are_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    images = scenes()[:CUT]

    def frames_from(index: int) -> Iterator[Frame]:
        asked.append(index)
        return GivenFrames(images).frames(index)

    def starts(piece_bytes: int) -> list[int]:
        asked.clear()
        monkeypatch.setattr(clip_module, "PIECE_BYTES", piece_bytes)
        clip = Clip(frames_from, SIZE_HW, CONFIG)
        assert [frame.index for frame, _ in clip.outward(CUT - 1, forward=False)] == [*range(CUT)][
            ::-1
        ]
        return asked

    monkeypatch.setattr(clip_module, "LEAD", 0)
    with pytest.raises(AssertionError):  # without a lead each piece begins a shot
        starts(1)
    monkeypatch.setattr(clip_module, "LEAD", 1)
    assert starts(1) == [4, 2, 0, 0]
    assert starts(10**12) == [0]


# Regions


def on_texture(
    size_hw: tuple[int, int], radius: int, at: tuple[int, int]
) -> tuple[NDArray[np.uint8], Mask]:
    """A disc, yellow, on a bluish texture, and its mask."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    disc = (rows - at[1]) ** 2 + (columns - at[0]) ** 2 <= radius**2
    image = texture(7, size_hw) // 3 + np.array([0, 0, 90], np.uint8)
    image[disc] = texture(8, size_hw)[disc] // 4 + np.array([160, 140, 0], np.uint8)
    return image, disc


@pytest.mark.parametrize(
    ("size_hw", "radius"), [((144, 240), 12), ((144, 240), 30), ((480, 854), 60), ((480, 854), 130)]
)
def test_a_disc_is_one_of_the_regions_at_a_point_in_it(
    size_hw: tuple[int, int], radius: int
) -> None:
    at = (size_hw[1] // 2, size_hw[0] // 2)
    image, disc = on_texture(size_hw, radius, at)
    regions = regions_at(image, at)
    assert max(iou(region, disc) for region in regions) >= 0.8
    areas = [np.count_nonzero(region) for region in regions]
    assert len({region.tobytes() for region in regions}) == len(regions)
    assert all(region.dtype == bool and region.shape == size_hw for region in regions)
    assert areas[0] < 1.2 * np.count_nonzero(disc)
    assert all(region[at[1], at[0]] for region in regions)
    again = regions_at(image, at)
    assert all((a == b).all() for a, b in zip(regions, again, strict=True))


def test_what_is_excluded_is_in_no_region() -> None:
    image, disc = on_texture((144, 240), 30, (120, 72))
    excluded = np.zeros(disc.shape, bool)
    excluded[60:85, 125:155] = True
    regions = regions_at(image, (110, 72), excluded)
    assert all(not (region & excluded).any() for region in regions)
    assert max(iou(region, disc & ~excluded) for region in regions) >= 0.7


@pytest.mark.parametrize("point", [(0, 0), (47, 0), (47.9, 33.9)])
@pytest.mark.parametrize("size_hw", [(34, 48), (136, 192), (646, 912)])
def test_points_at_the_border(point: tuple[float, float], size_hw: tuple[int, int]) -> None:
    scale = size_hw[0] // 34
    at = (point[0] * scale, point[1] * scale)
    regions = regions_at(texture(3, size_hw), at)
    assert regions and all(region[int(at[1]), int(at[0])] for region in regions)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (16, 16), (16, 300), (2, 3)])
@pytest.mark.parametrize("level", [None, 0])
def test_tiny_pictures_and_flat_ones(size_hw: tuple[int, int], level: int | None) -> None:
    image = texture(3, size_hw) if level is None else np.full((*size_hw, 3), level, np.uint8)
    at = (size_hw[1] - 1, size_hw[0] - 1)
    for excluded in (None, np.ones(size_hw, bool)):
        regions = regions_at(image, at, excluded)
        assert regions and all(region[at[1], at[0]] for region in regions)
    for box in ((0, 0, size_hw[1], size_hw[0]), (0, 0, 1, 1), (0.2, 0.2, 0.4, 0.4)):
        assert region_in(image, box).shape == size_hw and region_in(image, box).any()


def test_a_box_holds_a_disc() -> None:
    image, disc = on_texture((480, 854), 60, (300, 200))
    region = region_in(image, (230, 130, 370, 270))
    assert iou(region, disc) >= 0.8
    outside = np.ones(disc.shape, bool)
    outside[125:275, 225:375] = False
    assert not (region & outside).any()
