"""Every thing of an expression its own track: peaks, matching, following, counting, whole runs."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import carvid
from carvid.base.errors import ConfigError, ExpressionError, OutputError, VideoError
from carvid.base.interrupt import Stopped
from carvid.car.detections import Detections
from carvid.car.marks import marked_in, read_stars
from carvid.car.peaks import split_peaks
from carvid.car.queries import Queries
from carvid.config import load_config
from carvid.demo.pictures import Image, paste
from carvid.demo.stills import sprite_name
from carvid.media.encode import VideoWriter
from carvid.run.tracklets import Tracklets
from carvid.temporal.census import Census, Thing, numbers_of
from carvid.temporal.colors import COLOR_BINS
from carvid.temporal.instance_carry import meet_frame
from carvid.temporal.instance_state import InstanceFrame, InstanceState
from carvid.temporal.instances import after_key_frame, between_key_frames, seen_tracks
from carvid.temporal.matching import NONE, divide, likeness, match_hidden, match_seen, nearness
from carvid.temporal.seen import see
from tests.conftest import carvid as run_carvid
from tests.squares import SIZE_HW, box, texture

CONFIG = load_config("default", ["temporal.key_every=3"])
SPRITES = Path(carvid.__file__).parent / "demo" / "sprites"


# peaks ---------------------------------------------------------------------------------------


def bump(x: float, peak: float = 1.0, width: int = 40) -> NDArray[np.float32]:
    columns, rows = np.arange(width) - x, np.arange(12) - 6
    away = np.add.outer(np.square(rows), np.square(columns))
    return (peak * np.exp(-away / 12)).astype(np.float32)


def test_two_peaks_are_two_parts_where_the_saddle_is_low() -> None:
    plane = np.maximum(bump(10), bump(17, 0.8))
    parts = split_peaks(plane, level=0.1, saddle=0.75, most=9)
    assert [int(part.max(axis=0).argmax()) for part in parts] == [10, 17]
    assert not ((parts > 0).sum(axis=0) > 1)[plane > 0.1].any()
    assert len(split_peaks(plane, level=0.1, saddle=0.3, most=9)) == 1
    assert len(split_peaks(plane, level=0.1, saddle=0.75, most=1)) == 1


def test_a_faint_part_is_one_unless_it_is_below_the_level() -> None:
    plane = np.maximum(bump(10), bump(30, 0.4))
    assert len(split_peaks(plane, level=0.3, saddle=0.75, most=9)) == 2
    assert len(split_peaks(plane, level=0.5, saddle=0.75, most=9)) == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_flat_map_is_one_part(value: float) -> None:
    plane = np.full((5, 7), value, np.float32)
    [part] = split_peaks(plane, level=0.3, saddle=0.75, most=9)
    assert (part == plane).all()


# matching ------------------------------------------------------------------------------------


def boxes(*lefts: int) -> NDArray[np.bool_]:
    return np.array([box(left) > 0 for left in lefts], bool).reshape(-1, *SIZE_HW)


def test_what_overlaps_is_the_same_thing() -> None:
    alike = np.ones((2, 3), np.float32)
    chosen = match_seen(boxes(100, 22), boxes(20, 60, 98), alike, color=0.3)
    assert chosen.tolist() == [1, NONE, 0]


def test_colours_decide_between_two_that_overlap_alike() -> None:
    alike = np.array([[0.2, 0.9]], np.float32)
    found, followed = boxes(50), boxes(42, 58)
    assert match_seen(found, followed, alike, color=0.5).tolist()[1] == 0
    assert match_seen(found, followed[:, :, ::-1], alike[:, ::-1], color=0.5).tolist()[1] == NONE


def test_of_what_is_half_hidden_its_motion_decides() -> None:
    found, followed = boxes(40, 80), boxes(45, 46)
    alike = np.ones((2, 2), np.float32)
    near = np.array([[0, 0.1], [0, 0.9]], np.float32)
    chosen = match_seen(found, followed, alike, near, color=0.3, motion=0.5)
    assert chosen.tolist() == [0, 1]
    assert match_seen(found, followed, alike, color=0.3, motion=0.5).tolist() == [0, 0]
    away = nearness(np.array([[50.0, 20], [30, 20]]), np.array([[50.0, 20]]), np.array([10.0]))
    assert away.ravel() == pytest.approx([1, math.exp(-4)])


def test_things_that_cross_are_found_as_one() -> None:
    both = boxes(40).copy()
    both[0, 20:40, 40:70] = True
    chosen = match_seen(both, boxes(40, 50), np.ones((1, 2), np.float32), color=0.3)
    assert chosen.tolist() == [0, 0]


@pytest.mark.parametrize(("found", "followed"), [(0, 2), (2, 0), (0, 0)])
def test_nothing_matches_nothing(found: int, followed: int) -> None:
    alike = np.zeros((found, followed), np.float32)
    masks = boxes(20, 60)
    assert (
        match_seen(masks[:found], masks[:followed], alike, color=0.3).tolist() == [NONE] * followed
    )
    places, sizes = np.zeros((followed, 2)), np.ones(followed)
    chosen = match_hidden(np.zeros((found, 2)), places, sizes, sizes, alike)
    assert chosen.tolist() == [NONE] * followed


def test_what_was_hidden_is_found_near_its_place_and_in_its_colours() -> None:
    alike = np.array([[0.9, 0.9], [0.1, 0.9]], np.float32)
    centers, places = np.array([[50.0, 30], [100, 30]]), np.array([[95.0, 30], [200, 30]])
    sizes, hidden_s = np.array([20.0, 20]), np.array([0.1, 0.1])
    assert match_hidden(centers, places, sizes, hidden_s, alike).tolist() == [NONE, NONE]
    assert match_hidden(centers, places, sizes, hidden_s, alike[::-1]).tolist() == [1, NONE]
    # The longer it was out of sight, the farther it may be.
    assert match_hidden(centers, places, sizes, hidden_s + 4, alike).tolist() == [0, 1]


def test_a_place_is_divided_by_distance_and_by_colours() -> None:
    colors = np.zeros(SIZE_HW, np.uint16)
    colors[:, 60:] = 7
    red, blue = (np.eye(1, COLOR_BINS, k, dtype=np.float32)[0] * 50 for k in (0, 7))
    masks = boxes(30, 70)
    shares = divide(masks, np.stack([red, red]), colors)
    assert shares[0, 30, 45] > 0.9 and shares[1, 30, 75] > 0.9
    assert shares.sum(axis=0)[30, 30:90] == pytest.approx(1)
    # Both are carried to one place: colours alone tell them apart.
    same = divide(boxes(50, 50), np.stack([red, blue]), colors)
    assert same[0, 30, 52] > 0.9 and same[1, 30, 68] > 0.9
    assert likeness(red[None], np.stack([red, blue])).tolist() == [[1.0, 0.0]]


# following -----------------------------------------------------------------------------------


def scene(lefts: Sequence[int], tops: Sequence[int]) -> tuple[Image, list[NDArray[np.bool_]]]:
    """Textured squares over a texture, later ones in front; the image, and what is seen of each."""
    image, masks = texture(1), []
    for k, (left, top) in enumerate(zip(lefts, tops, strict=True)):
        mask = np.zeros(SIZE_HW, bool)
        rows, columns = slice(top, top + 32), slice(max(0, left), max(0, left + 32))
        width = image[rows, columns].shape[1]
        shift = max(0, -left)
        image[rows, columns] = texture(10 + k)[:32, shift : shift + width]
        mask[rows, columns] = True
        masks = [each & ~mask for each in masks] + [mask]
    return image, masks


def detections(parts: Sequence[NDArray[np.bool_]], followed: int, score: float = 0.9) -> Detections:
    maps = np.array(parts, np.float32).reshape(-1, *SIZE_HW)
    return Detections(
        maps, np.full(len(maps), score, np.float32), np.zeros(followed, np.float32), score
    )


def follow(
    frames: Sequence[tuple[Image, Sequence[NDArray[np.bool_]]]],
) -> Iterator[tuple[InstanceFrame, InstanceState]]:
    """Follow one expression through frames, each with the parts that its CAM would have."""
    state, before = InstanceState(), None
    for index, (image, parts) in enumerate(frames):
        before = see(before or state, image, CONFIG.temporal, time_s=index / 24)
        context = meet_frame(state, before, CONFIG.temporal, CONFIG.instances)
        if context.is_key:
            found = detections([part for part in parts if part.any()],
                               len(seen_tracks(context.state, 0)))  # fmt: skip
            state, shown = after_key_frame(
                context, [found], lambda maps: maps > 0.5, SIZE_HW, 0.3, CONFIG.temporal,
                CONFIG.instances,
            )  # fmt: skip
        else:
            state, shown = between_key_frames(context, image)
        yield replace(shown, index=index, best=(0.9,) if context.is_key else ()), state


def under(shown: InstanceFrame, masks: Sequence[NDArray[np.bool_]]) -> dict[int, int]:
    """Which thing each number lies on most."""
    return {
        number: int(np.argmax([(mask & each).sum() for each in masks]))
        for number, mask in zip(shown.numbers, shown.masks, strict=True)
    }


def test_things_keep_their_numbers_while_they_move() -> None:
    frames = [scene((20 + 2 * t, 150 - t), (30, 80)) for t in range(10)]
    found = list(follow(frames))
    for (shown, _), (_, masks) in zip(found, frames, strict=True):
        assert under(shown, masks) == {0: 0, 1: 1}
        for mask, number in zip(shown.masks, shown.numbers, strict=True):
            assert (mask & masks[number]).sum() > 0.8 * masks[number].sum()
        assert not shown.masks.all(axis=0).any()
    assert [shown.is_key for shown, _ in found] == [t % 3 == 0 for t in range(10)]


def test_things_that_cross_are_divided_and_none_is_born() -> None:
    """Two squares pass each other; where they touch, the CAM has one part for both."""
    frames = []
    for t in range(28):
        image, masks = scene((20 + 5 * t, 160 - 5 * t), (50, 58))
        touching = abs(140 - 10 * t) < 34
        parts = [masks[0] | masks[1]] if touching else masks
        frames.append((image, masks, parts))
    found = list(follow([(image, parts) for image, _, parts in frames]))
    assert found[-1][1].begun == 2
    assert under(found[-1][0], frames[-1][1]) == under(found[0][0], frames[0][1]) == {0: 0, 1: 1}


def behind() -> list[tuple[Image, list[NDArray[np.bool_]]]]:
    """A square that goes behind something and comes out again."""
    frames = []
    for t in range(34):
        image, [mask] = scene([10 + 5 * t], [50])
        image[:, 85:130] = texture(3)[:, 85:130]
        mask[:, 85:130] = False
        frames.append((image, [mask]))
    return frames


def test_what_was_behind_something_is_the_same_thing_again() -> None:
    found = list(follow(behind()))
    hidden = [not shown.numbers for shown, _ in found]
    assert any(hidden) and not hidden[0] and not hidden[-1]
    assert {number for shown, _ in found for number in shown.numbers} == {0}
    assert found[-1][1].begun == 1


def test_what_comes_later_than_a_thing_may_be_hidden_is_a_new_one() -> None:
    image, [mask] = scene([40], [50])
    empty = texture(1)
    long = math.ceil(24 * CONFIG.instances.hidden_s) + 6
    frames = [(image, [mask])] * 4 + [(empty, [])] * long + [(image, [mask])] * 4
    numbers = [shown.numbers for shown, _ in follow(frames)]
    assert numbers[0] == (0,) and numbers[-1] == (1,) and () in numbers
    soon = [shown.numbers for shown, _ in follow(frames[:4] + frames[4:16] + frames[-4:])]
    assert soon[-1] == (0,)


def test_what_is_in_its_place_after_a_cut_that_was_none_is_the_same() -> None:
    """A cut is seen in what is around it, which turns white."""
    frames = [scene((40, 150), (20, 80))] * 4
    image, masks = scene((41, 149), (20, 80))
    other = np.where(np.any(masks, axis=0)[..., None], image, 255 - texture(77) // 4)
    found = list(follow([*frames, *[(np.asarray(other, np.uint8), masks)] * 4]))
    assert found[-1][0].shot == 1 and found[-1][0].numbers == (0, 1)


def test_a_cut_ends_what_was_followed() -> None:
    image, masks = scene((40, 150), (20, 80))
    other = np.rot90(texture(77, (SIZE_HW[1], SIZE_HW[0]))).copy()[::-1] // 3
    other = np.ascontiguousarray(255 - other)
    found = list(follow([(image, masks)] * 4 + [(other, masks)] * 4))
    assert found[3][0].numbers == (0, 1) and found[-1][0].numbers == (2, 3)
    assert [shown.shot for shown, _ in found] == [0] * 4 + [1] * 4


def test_a_thing_that_leaves_at_the_edge_is_gone() -> None:
    frames = [scene((200 + 4 * t, 40), (20, 80)) for t in range(16)]
    found = list(follow(frames))
    assert found[0][0].numbers == (0, 1) and found[-1][0].numbers == (1,)


def test_a_state_that_is_saved_goes_on_as_it_was() -> None:
    frames = [scene((20 + 2 * t, 150 - t), (30, 80)) for t in range(3)]
    _, state = list(follow(frames))[-1]
    again = InstanceState.from_dict(json.loads(json.dumps(state.to_dict())))
    assert again.to_dict() == state.to_dict()
    for one, other in zip(again.tracks, state.tracks, strict=True):
        assert (one.levels == other.levels).all() and (one.counts == other.counts).all()
    assert InstanceState.from_dict(InstanceState().to_dict()).gray is None


# counting ------------------------------------------------------------------------------------


def shown(
    index: int, places: dict[int, int], *, key: bool = True, found: bool = True, shot: int = 0
) -> InstanceFrame:
    """Number → left side."""
    count = len(places)
    return InstanceFrame(
        is_key=key, shot=shot, numbers=tuple(places), owners=(0,) * count, scores=(0.9,) * count,
        found=(found,) * count, masks=boxes(*places.values()), index=index, time_s=index / 24,
        best=(0.9,) if key else (),
    )  # fmt: skip


def things(
    frames: Sequence[InstanceFrame], confirm: int = 2, most: int | None = None, share: float = 0.7
) -> list[list[Thing]]:
    census = Census()
    for frame in frames:
        census.add(frame)
    return census.things(replace(CONFIG.instances, confirm=confirm, share=share), most)


def test_things_are_numbered_as_they_appear_and_from_left_to_right() -> None:
    frames = [shown(0, {0: 180, 1: 90}), shown(1, {0: 180, 1: 90, 2: 20}), shown(2, {2: 20})]
    assert things(frames) == [[(1,), (0,), (2,)]]
    assert things(frames, confirm=3) == [[]]
    # Those that are seen longest are kept.
    assert things([*frames, shown(3, {0: 180}), shown(4, {0: 180})], most=2) == [[(1,), (0,)]]


def test_what_is_found_once_is_a_thing_only_where_there_was_one_key_frame() -> None:
    assert things([shown(0, {0: 20})]) == [[(0,)]]
    assert things([shown(0, {0: 20}), shown(1, {})]) == [[]]
    assert things([shown(0, {}), shown(1, {3: 20}, shot=1)]) == [[(3,)]]
    carried = [shown(0, {0: 20}), *(shown(t, {0: 20}, key=t % 2 == 0, found=False) for t in (1, 2))]
    assert things(carried) == [[]]
    assert things([shown(0, {})]) == [[]] and things([]) == []


def test_what_always_touches_is_one_thing() -> None:
    """Boxes are 20 pixels wide."""
    together = [shown(t, {0: 20, 1: 42, 2: 120}) for t in range(10)]
    assert things(together) == [[(0, 1), (2,)]]
    assert numbers_of(things(together)[0]) == {0: 0, 1: 0, 2: 1}
    parting = [*together, *(shown(10 + t, {0: 20, 1: 60 + t, 2: 120}) for t in range(3))]
    assert things(parting) == [[(0,), (1,), (2,)]]
    chain = [shown(t, {0: 20, 1: 42, 2: 64}) for t in range(3)]
    assert things(chain) == [[(0, 1, 2)]]


def test_what_scores_far_less_than_the_best_is_none() -> None:
    frames = [replace(shown(t, {0: 20, 1: 120}), scores=(0.9, 0.5)) for t in range(3)]
    assert things(frames) == [[(0,)]]
    assert things(frames, share=0.5) == [[(0,), (1,)]]


def test_tracklets_are_kept_as_they_are(tmp_path: Path) -> None:
    frames = [shown(0, {0: 20, 4: 60}), shown(1, {}, key=False), shown(2, {4: 70})]
    for folder in (None, tmp_path):
        kept = Tracklets(folder, {"asked": 1})
        kept.begin()
        for frame in frames:
            kept.add(frame, InstanceState(begun=frame.index))
        kept.finish(["a line"])
        for one, other in zip(kept.frames(), frames, strict=True):
            assert (one.masks == other.masks).all() and one.masks.shape == other.masks.shape
            assert replace(one, masks=other.masks).__dict__ == other.__dict__
    again, others = Tracklets(tmp_path, {"asked": 1}), Tracklets(tmp_path, {"asked": 2})
    again.take_up()
    others.take_up()
    assert (again.done, again.whole, again.lost, again.state.begun) == (3, True, ("a line",), 2)
    assert (others.done, others.whole) == (0, False)
    data = tmp_path / ".carvid/instances/frames.jsonl"
    data.write_bytes(data.read_bytes()[:-9])
    cut = Tracklets(tmp_path, {"asked": 1})
    cut.take_up()
    assert cut.done == 0
    with pytest.raises(OutputError, match="is damaged"):
        list(again.frames())


# what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text", "marked"),
    [
        ("dog*", "dog", True), ("the dog *", "the dog ", True), ("dog", "dog", False),
        ("dog\\*", "dog*", False), ("dog\\**", "dog*", True), ("a * b", "a * b", False),
        ("*", "", True), ("dog ", "dog ", False), ("dog* ", "dog", True),
    ],
)  # fmt: skip
def test_a_star_marks_an_expression(given: str, text: str, marked: bool) -> None:
    assert read_stars([given, "cat"]) == ([text, "cat"], (0,) if marked else ())


def test_which_expressions_are_meant() -> None:
    queries = Queries(("dog", "cat", "dog"))
    assert marked_in(queries, True) == (0, 1, 2) and marked_in(queries, False) == ()
    assert marked_in(queries, "cat") == (1,) and marked_in(queries, ["dog"]) == (0, 2)
    with pytest.raises(ExpressionError, match=r"'dgo' is to be found one by one.*did you mean"):
        marked_in(queries, ["dgo"])
    with pytest.raises(ValueError, match="instances must be"):
        marked_in(queries, [3])  # type: ignore[list-item]


# whole runs ----------------------------------------------------------------------------------


def drawn(count: int = 12, things: int = 2) -> list[Image]:
    """Dogs that walk past each other over a plain ground."""
    [dog, ball] = (
        cv2.cvtColor(
            cv2.imread(str(SPRITES / sprite_name(noun)), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA
        )
        for noun in ("dog", "ball")
    )
    dog, ball = (cv2.resize(each, (56, 52), interpolation=cv2.INTER_AREA) for each in (dog, ball))
    images = []
    for t in range(count):
        image = np.full((144, 256, 3), (120, 160, 110), np.uint8)
        labels = np.zeros(image.shape[:2], np.uint8)
        for k, center in enumerate([(50 + 2 * t, 95), (200 - 2 * t, 100)][:things]):
            paste(image, labels, np.asarray(dog, np.uint8), center, k + 1)
        paste(image, labels, np.asarray(ball, np.uint8), (128, 32), 9)
        images.append(image)
    return images


@pytest.fixture(scope="module")
def model() -> carvid.Carvid:
    return carvid.load("tiny", ["crf.iterations=2", "temporal.cut_trust=0"])


@pytest.fixture(scope="module")
def dogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dogs") / "dogs.mp4"
    with VideoWriter(path, (144, 256), Fraction(24)) as writer:
        for image in drawn():
            writer.write(image)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def test_each_thing_has_a_label_everywhere(
    model: carvid.Carvid, dogs: Path, tmp_path: Path
) -> None:
    texts = ["the dog", "the ball"]
    track = model.segment(
        dogs, texts, instances=["the dog"], out=tmp_path / "out", formats=["coco"],
        distractors=["a cat"],
    )  # fmt: skip
    assert track.texts == ("the dog 1", "the dog 2", "the ball")
    facts = json.loads((tmp_path / "out/run.json").read_text())
    assert facts["texts"] == list(track.texts) and facts["distractors"] == ["a cat"]
    assert facts["asked"] == [
        {"text": "the dog", "instances": True, "labels": [1, 2]},
        {"text": "the ball", "instances": False, "labels": [3]},
    ]
    middles = [np.nonzero(mask)[1].mean() for mask in track.masks[0]]
    assert middles[0] < middles[2] < middles[1]
    assert all(entry["frames_found"] == 12 for entry in track.summary()["expressions"])
    scores = (tmp_path / "out/scores.csv").read_text()
    assert "0,0.000000,2,the dog 2,0.9" in scores
    coco = json.loads((tmp_path / "out/coco.json").read_text())
    assert [each["name"] for each in coco["categories"]] == ["the dog", "the ball"]
    tracks = {(each["track_id"], each["category_id"]) for each in coco["annotations"]}
    assert tracks == {(1, 1), (2, 1), (3, 2)}
    assert (tmp_path / "out/overlay.mp4").stat().st_size and not (tmp_path / "out/.carvid").exists()
    reopened = carvid.Track.open(tmp_path / "out")
    reopened.save(tmp_path / "copy")
    assert json.loads((tmp_path / "copy/run.json").read_text())["asked"] == facts["asked"]
    memory = model.segment(dogs, texts, instances=["the dog"], distractors=["a cat"])
    assert (memory.label_maps[:] == track.label_maps[:]).all() and memory.texts == track.texts


@pytest.mark.parametrize("after", [0, 1, 5, 11, 12, 13, 18])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    model: carvid.Carvid, dogs: Path, tmp_path: Path, after: int
) -> None:
    asked: dict[str, Any] = {"texts": ["the dog", "the ball"], "instances": "the dog"}
    model.forgetting_texts().segment(dogs, **asked, out=tmp_path / "whole")
    calls = iter(range(99))
    with pytest.raises(Stopped):
        model.forgetting_texts().segment(
            dogs, **asked, out=tmp_path / "out", stop=lambda: next(calls) >= after
        )
    assert (tmp_path / "out/.carvid/progress.json").exists()
    with pytest.raises(OutputError, match="other inputs or settings: each thing of 'the dog'"):
        model.segment(dogs, ["the dog", "the ball"], out=tmp_path / "out", resume=True)
    model.forgetting_texts().segment(dogs, **asked, out=tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_killed_first_pass_goes_on(model: carvid.Carvid, dogs: Path, tmp_path: Path) -> None:
    """Frames that were written after the progress was last saved do not count."""
    model.segment(dogs, "the dog", instances=True, out=tmp_path / "whole")
    calls = iter(range(99))
    with pytest.raises(Stopped):
        model.segment(
            dogs, "the dog", instances=True, out=tmp_path / "out", stop=lambda: next(calls) >= 6
        )
    shutil.copytree(tmp_path / "out", tmp_path / "killed")
    with (tmp_path / "killed/.carvid/instances/frames.jsonl").open("a") as file:
        file.write('{"index": 7, "time_')
    model.segment(dogs, "the dog", instances=True, out=tmp_path / "killed", resume=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_finished_run_is_left_and_another_one_refused_or_replaced(
    model: carvid.Carvid, dogs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    model.segment(dogs, "the dog", instances=True, out=out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    model.segment(dogs, "the dog", instances=True, out=out, resume=True)
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    with pytest.raises(OutputError, match="holds a run already"):
        model.segment(dogs, "the dog", instances=True, out=out)
    with pytest.raises(OutputError, match="each thing of 'the dog' has a label of its own in one"):
        model.segment(dogs, "the dog", out=out, resume=True)
    with pytest.raises(OutputError, match="expression 1 was 'the dog', is 'a dog'"):
        model.segment(dogs, "a dog", instances=True, out=out, resume=True)
    calls = iter(range(99))
    with pytest.raises(Stopped):  # the earlier run stays until the first frame is written
        model.segment(
            dogs, "the ball", instances=True, out=out, overwrite=True,
            stop=lambda: next(calls) >= 3,
        )  # fmt: skip
    assert carvid.Track.open(out).texts == ("the dog 1", "the dog 2")
    track = model.segment(dogs, "the ball", instances=True, out=out, overwrite=True)
    assert track.texts == ("the ball 1",) and not (out / ".carvid").exists()
    assert model.segment(dogs, "the dog", out=out, overwrite=True).texts == ("the dog",)


def test_of_which_nothing_is_found_has_one_label(model: carvid.Carvid, dogs: Path) -> None:
    track = model.segment(dogs, ["the pizza", "the dog"], instances=True)
    assert track.texts == ("the pizza", "the dog 1", "the dog 2")
    entry = track.summary()["expressions"][0]
    assert entry["frames_found"] == 0 and 0 < entry["best_score"] < 0.35


def test_one_picture_is_counted(model: carvid.Carvid) -> None:
    assert model.segment(drawn(1), "the dog", instances=True).texts == ("the dog 1", "the dog 2")
    assert model.segment(drawn(1, things=0), "the dog", instances=True).texts == ("the dog",)


def test_frames_that_come_once(model: carvid.Carvid, tmp_path: Path) -> None:
    track = model.segment(iter(drawn(5)), "the dog", instances=True, out=tmp_path / "out")
    assert track.texts == ("the dog 1", "the dog 2") and len(track) == 5
    assert not (tmp_path / "out/overlay.mp4").exists()
    with pytest.raises(VideoError, match=r"only once.*give a list"):
        model.segment(iter(drawn(5)), ["the dog", "the ball"], instances=["the dog"])
    calls = iter(range(99))
    short = model.segment(
        drawn(9), ["the dog", "the ball"], instances="the dog", stop=lambda: next(calls) >= 3
    )
    assert len(short) == 4 and short.texts[:2] == ("the dog 1", "the dog 2")


def test_more_things_than_labels(
    model: carvid.Carvid, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("carvid.instances.run.MOST_TEXTS", 2)
    with caplog.at_level(logging.WARNING, "carvid"):
        track = model.segment(drawn(5), "the dog", instances=True)
    assert track.texts == ("the dog 1",)
    assert "2 things are found, and labels are for 1" in caplog.text


def test_what_cannot_be_had_is_said_early(model: carvid.Carvid, dogs: Path) -> None:
    with pytest.raises(ConfigError, match="classes are no things"):
        model.segment(dogs, carvid.Classes(("dog",)), instances=True)
    with pytest.raises(VideoError, match="comes only once, and things are numbered"):
        model.segment("camera:0", "dog", instances=True)
    still = carvid.load("tiny", ["temporal.carry_masks=false"])
    with pytest.raises(ConfigError, match="things are followed along time"):
        still.segment(dogs, "dog", instances=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--camera", "0", "-e", "dog*"], "comes only once"),
        (["CLIP", "--classes", "CLASSES", "--instances"], "classes are no things"),
        (["CLIP", "-e", "*"], "an expression is empty"),
        (["CLIP", "-e", "dog*", "--set", "temporal.carry_masks=false"], "followed along time"),
    ],
)
def test_the_command_line_says_it_in_one_line_before_weights_are_loaded(
    dogs: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\n")
    words = [{"CLIP": str(dogs), "CLASSES": str(classes)}.get(each, each) for each in arguments]
    ended = run_carvid("run", *words, "-o", tmp_path / "out", "-p", "default")
    assert ended.returncode == 1 and message in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_the_command_line_marks_one_or_all(dogs: Path, tmp_path: Path) -> None:
    quick = ["-p", "tiny", "--set", "crf.iterations=1", "--set", "overlay.enabled=false", "--json"]
    one = run_carvid(
        "run", dogs, "-e", "the dog*", "-e", "the ball", "-o", tmp_path / "one", *quick
    )
    texts = [entry["text"] for entry in json.loads(one.stdout)["expressions"]]
    assert texts == ["the dog 1", "the dog 2", "the ball"], one.stderr
    again = run_carvid(
        "run", dogs, "-e", "the dog", "-e", "the ball", "--instances", "-o", tmp_path / "one",
        "--resume", *quick,
    )  # fmt: skip
    assert again.returncode == 1 and "each thing of 'the ball' has a label" in again.stderr
    both = run_carvid("run", dogs, "-e", "the dog", "-e", "the ball", "--instances",
                      "-o", tmp_path / "all", *quick)  # fmt: skip
    texts = [entry["text"] for entry in json.loads(both.stdout)["expressions"]]
    assert texts == ["the dog 1", "the dog 2", "the ball 1"], both.stderr


def test_several_clips_at_once(dogs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    shutil.copy(dogs, other)
    quick = ["-p", "tiny", "--set", "crf.iterations=1", "--set", "overlay.enabled=false", "--json"]
    words = ["run", dogs, other, "-e", "the dog*", "-o", tmp_path / "out", *quick]
    ended = run_carvid(*words)
    clips = json.loads(ended.stdout)["clips"]
    assert [[e["text"] for e in clip["expressions"]] for clip in clips] == [
        ["the dog 1", "the dog 2"]
    ] * 2
    assert run_carvid(*words, "--resume").returncode == 0
    assert contents(tmp_path / "out/dogs") == contents(tmp_path / "out/other")
