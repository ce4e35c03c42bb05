"""Indexes of clips: what is exact in them is exact, and whatever happens to them is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import carvid
from carvid.base.errors import (
    CarvidError,
    ConfigError,
    ExpressionError,
    OutputError,
    VideoError,
    WeightsError,
)
from carvid.base.interrupt import Stopped
from carvid.car.affinity import NearestAffinity
from carvid.car.proposals import EncodedFrame, ProposalGenerator
from carvid.clip.dense import DenseFeatures
from carvid.config import load_config
from carvid.index.answer import Answer
from carvid.index.build import BuiltPiece, build_pieces
from carvid.index.clip_index import BEST, PIECES_IN_MEMORY, ClipIndex
from carvid.index.facts import default_folder, is_index
from carvid.index.folder import IndexFolder
from carvid.index.pieces import (
    FLOW_LEVELS,
    Piece,
    read_picture,
    read_piece,
    write_picture,
    write_piece,
)
from carvid.index.quick import Anchor, look_of, peak, strength, strongest
from carvid.index.settings import differences, index_config
from carvid.media.encode import VideoWriter
from carvid.media.open import Frame, Selection
from carvid.pipeline import Carvid
from carvid.run.earlier import differences as run_differences
from carvid.temporal.seen import seen_frames
from tests.conftest import carvid as command
from tests.conftest import make_frames
from tests.signalled import with_signal
from tests.squares import SIZE_HW, moving, texture
from tests.test_pipeline import FAST, TEXTS, files

SETTINGS = [*FAST, "temporal.key_every=2"]
HALF_PIXEL = 0.5
"""So far may flow on drawn textures be off."""


@dataclass(frozen=True)
class Made:
    """A clip of 6 frames and its index, 3 key frames."""

    clip: Path
    index: Path


def write_clip(path: Path, frames: NDArray[np.uint8], rate: int = 25) -> Path:
    with VideoWriter(path, frames.shape[1:3], Fraction(rate)) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def loaded(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", SETTINGS, **weights)


@pytest.fixture(scope="module")
def made(loaded: Carvid, tmp_path_factory: pytest.TempPathFactory) -> Made:
    frames = make_frames(6)
    frames[4:] = frames[4:, ::-1, ::-1]  # the last key frame shows things elsewhere
    clip = write_clip(tmp_path_factory.mktemp("indexed") / "clip.mp4", frames)
    return Made(clip, loaded.index(clip).folder)


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Made:
    """The same, to be changed."""
    shutil.copytree(made.clip.parent, tmp_path / "copied")
    (tmp_path / "copied" / "moved.mp4").hardlink_to(tmp_path / "copied" / made.clip.name)
    return Made(tmp_path / "copied" / made.clip.name, tmp_path / "copied" / made.index.name)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# What is exact


CLASSES = carvid.Classes(("dog", "grass", "cat"), (("red dog",), (), ()), frozenset({"grass"}))


@pytest.mark.parametrize(
    ("texts", "more"),
    [(TEXTS, {"distractors": "a ball"}), (["a dog", "a dog"], {}), (CLASSES, {})],
    ids=["distractor", "duplicates", "classes"],
)
def test_a_thorough_run_is_a_run_of_the_clip_with_the_index_s_settings(
    loaded: Carvid, made: Made, tmp_path: Path, texts: Any, more: dict[str, Any]
) -> None:
    patches = loaded.backbones[0].counts["patches"]
    thorough = loaded.segment(made.index, texts, out=tmp_path / "a", thorough=True, **more)
    assert loaded.backbones[0].counts["patches"] == patches
    plain = carvid.load(made.index).segment(made.clip, texts, out=tmp_path / "b", **more)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert np.isfinite(thorough.scores).all() and len(plain) == 6


def test_an_index_is_small_settings_and_what_they_were_set_to() -> None:
    config = index_config(load_config("default"))
    assert (config.proposals.method, config.proposals.dense_precision) == ("dense", "int8")
    assert (config.temporal.early_keys, config.temporal.key_every_s) == (False, 0.25)
    assert index_config(config) == config
    other = load_config("default", ["proposals.affinity_top=8", "temporal.key_every_s=1"])
    assert [name for name, *_ in differences(config, index_config(other))] == [
        "proposals.affinity_top", "temporal.key_every_s",
    ]  # fmt: skip
    free = load_config("default", ["car.theta=0.9", "overlay.dim=0.5", "temporal.lag=0"])
    assert not list(differences(config, index_config(free)))


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_a_piece_is_read_back_as_it_was(tmp_path: Path, precision: Any) -> None:
    torch.manual_seed(0)
    features = DenseFeatures.of((2, 3), torch.nn.functional.normalize(torch.randn(6, 5)), precision)
    affinity = NearestAffinity.of(torch.rand(6, 6), 4)
    motion = np.array([[[[-300, 7]]], [[[0, 32767]]]], np.int16)
    piece = Piece(12, EncodedFrame(features, affinity), True, np.array([0.5, np.nan]), motion)
    path = tmp_path / "00012.npz"
    write_piece(path, piece)
    first = path.read_bytes()
    write_piece(path, piece)
    assert path.read_bytes() == first
    again = read_piece(path)
    seen = cast("DenseFeatures", again.encoded.features)
    near = cast("NearestAffinity", again.encoded.affinity)
    for one, other in (
        (seen.values, features.values), (seen.steps, features.steps),
        (near.levels, affinity.levels), (near.columns, affinity.columns),
        (near.steps, affinity.steps),
    ):  # fmt: skip
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert (again.index, again.begins_shot, seen.grid_hw) == (12, True, (2, 3))
    np.testing.assert_array_equal(again.times_s, piece.times_s)
    np.testing.assert_array_equal(again.motion, motion)
    maps = torch.rand(6, 2)
    torch.testing.assert_close(near @ maps, affinity @ maps, rtol=0, atol=0)


class _Blind(ProposalGenerator):
    """Sees nothing, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def encode(self, image: NDArray[np.uint8]) -> EncodedFrame:
        self.asked += 1
        return cast("EncodedFrame", self.asked)


def pieces_of(images: list[NDArray[np.uint8]], times_s: list[float]) -> list[BuiltPiece]:
    config = index_config(load_config("default", ["temporal.key_every=4"])).temporal
    frames = [Frame(k, *pair) for k, pair in enumerate(zip(times_s, images, strict=True))]
    return list(build_pieces(seen_frames(frames, None, config), _Blind(), config))


def test_a_cut_begins_a_piece_and_a_flash_does_not() -> None:
    images = [image for image, _ in moving(3)]
    white = np.full_like(images[0], 250)
    other = [texture(9)] * 3
    built = pieces_of([*images, *other], [k / 25 for k in range(6)])
    assert [(each.piece.index, each.piece.begins_shot) for each in built] == [(0, True), (3, True)]
    assert not built[1].piece.motion[0].any()
    flash = pieces_of([images[0], white, images[0], images[0]], [k / 25 for k in range(4)])
    assert [each.piece.index for each in flash] == [0]
    assert not flash[0].piece.motion.any()


def test_motion_is_what_moved() -> None:
    """The square goes 2 pixels to the right each frame, its ground stands still."""
    [built] = pieces_of([image for image, _ in moving(4)], [k / 25 for k in range(4)])
    motion = built.piece.motion.astype(float) / FLOW_LEVELS
    assert motion.shape == (4, SIZE_HW[0] // 8, SIZE_HW[1] // 8, 2)
    assert not motion[0].any()
    np.testing.assert_allclose(np.median(motion[1:, 6:10, 4:7], (0, 1, 2)), (2, 0), atol=HALF_PIXEL)
    np.testing.assert_allclose(np.median(motion[1:, :, 20:], (0, 1, 2)), 0, atol=HALF_PIXEL)


@pytest.mark.parametrize(
    ("times_s", "keys"),
    [([0.0, 0.5, 1.0, 1.5], [0, 1, 2, 3]), ([np.nan] * 4, [0]), ([0.0, 9.0, 1.0, 1.0], [0, 1])],
    ids=["2 fps", "no times", "odd times"],
)
def test_key_frames_come_by_time(times_s: list[float], keys: list[int]) -> None:
    config = index_config(load_config("default")).temporal
    frames = [Frame(k, at, texture(1)) for k, at in enumerate(times_s)]
    built = list(build_pieces(seen_frames(frames, None, config), _Blind(), config))
    assert [each.piece.index for each in built] == keys
    assert sum(len(each.piece.times_s) for each in built) == 4


def test_pieces_go_on_where_they_were_left() -> None:
    config = index_config(load_config("default", ["temporal.key_every=2"])).temporal
    frames = [Frame(k, k / 25, image) for k, (image, _) in enumerate(moving(6))]
    whole = list(build_pieces(seen_frames(frames, None, config), _Blind(), config))
    after = whole[0]
    left = seen_frames(frames[after.following :], after.state, config)
    rest = list(build_pieces(left, _Blind(), config, after.state))
    assert [each.piece.index for each in rest] == [each.piece.index for each in whole[1:]]
    for one, other in zip(rest, whole[1:], strict=True):
        np.testing.assert_array_equal(one.piece.motion, other.piece.motion)


# Inputs


@pytest.mark.parametrize(
    ("count", "height", "width", "rate"), [(1, 34, 48, 25), (3, 35, 47, 2)], ids=["one", "odd"]
)
def test_small_clips(
    loaded: Carvid, tmp_path: Path, count: int, height: int, width: int, rate: int
) -> None:
    even = make_frames(count, height + height % 2, width + width % 2)
    clip = write_clip(tmp_path / "c.mp4", even, rate)
    index = loaded.index(clip, selection=Selection(max_side=width))
    answer = index.ask(TEXTS)
    assert index.frame_count == count == len(answer.times_s)
    assert answer.masks(count - 1).shape == (2, *index.facts.video.size_hw)
    track = loaded.segment(index, TEXTS)
    assert len(track) == count and track.masks[0].shape[1:] == index.facts.video.size_hw


def test_folders_of_images_keep_their_names(loaded: Carvid, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(make_frames(3)):
        Image.fromarray(frame).save(folder / f"shot.{1001 + number}.png")
    index = loaded.index(f"{folder}/", frame_rate=12)
    assert index.folder == tmp_path / "frames.idx"
    assert index.ask(TEXTS).times_s.tolist() == pytest.approx([0, 1 / 12, 2 / 12])
    loaded.segment(index.folder, TEXTS, out=tmp_path / "out", keep_names=True)
    assert (tmp_path / "out" / "masks" / "shot.1003.png").exists()
    pattern = loaded.index(folder / "shot.%04d.png", tmp_path / "by-pattern.idx")
    (tmp_path / "moved").mkdir()
    shutil.move(pattern.folder, tmp_path / "moved" / "by-pattern.idx")
    shutil.move(folder, tmp_path / "moved" / "frames")
    assert len(loaded.segment(tmp_path / "moved" / "by-pattern.idx", TEXTS)) == 3
    picture = loaded.index(tmp_path / "moved" / "frames" / "shot.1001.png")
    assert len(loaded.segment(picture, TEXTS)) == 1


def test_where_an_index_goes_if_nobody_says(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_folder(made.clip) == made.clip.with_name("clip.idx")
    (tmp_path / "a.v2").mkdir()
    monkeypatch.chdir(tmp_path / "a.v2")
    assert default_folder(".") == tmp_path / "a.v2.idx"
    assert default_folder("*.jpg") == tmp_path / "a.v2.idx"
    assert default_folder("../b/%05d.jpg") == Path("../b.idx")


def test_only_some_of_the_frames(loaded: Carvid, made: Made, tmp_path: Path) -> None:
    part = Selection(start_s=0.04, stride=2)
    index = loaded.index(made.clip, tmp_path / "part.idx", selection=part)
    assert index.frame_count == 3
    wanted = carvid.load(index.folder).segment(made.clip, TEXTS, selection=part)
    found = loaded.segment(index, TEXTS, thorough=True)
    np.testing.assert_array_equal(found.times_s, wanted.times_s)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    with pytest.raises(OutputError, match=r"its frames were chosen otherwise"):
        loaded.index(made.clip, index.folder)
    with pytest.raises(ConfigError, match=r"an index has frames of its own"):
        loaded.segment(index, TEXTS, selection=part)


# Stopping and going on


def test_a_stopped_index_goes_on_to_the_same_bytes(
    loaded: Carvid, made: Made, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.idx"
    for answers in ([False] * 4 + [True], [True]):  # in the third piece; and at once again
        asked = iter(answers)
        with pytest.raises(Stopped):
            loaded.index(made.clip, broken, stop=lambda asked=asked: next(asked))  # type: ignore[misc]
    for ask in (loaded.open_index, lambda folder: loaded.segment(folder, TEXTS)):
        with pytest.raises(ConfigError, match=r"not finished; go on with: carvid index CLIP -o .*"):
            ask(broken)
    patches = loaded.backbones[0].counts["patches"]
    loaded.index(made.clip, broken)
    assert loaded.backbones[0].counts["patches"] == patches + 1
    assert contents(broken) == contents(made.index)
    loaded.index(made.clip, broken)
    assert loaded.backbones[0].counts["patches"] == patches + 1


def test_a_quick_run_and_a_thorough_one_are_not_mixed(
    loaded: Carvid, made: Made, tmp_path: Path
) -> None:
    asked = iter([False] * 4 + [True])
    with pytest.raises(Stopped):
        loaded.segment(made.index, TEXTS, out=tmp_path / "a", stop=lambda: next(asked))
    with pytest.raises(OutputError, match=r"one of both asks the classifier at a few key frames"):
        loaded.segment(made.index, TEXTS, out=tmp_path / "a", resume=True, thorough=True)
    loaded.segment(made.index, TEXTS, out=tmp_path / "a", resume=True)
    loaded.segment(made.index, TEXTS, out=tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    loaded.segment(made.index, TEXTS, out=tmp_path / "c", thorough=True)
    with pytest.raises(OutputError, match=r"one of both asks the classifier"):
        loaded.segment(made.index, TEXTS, out=tmp_path / "c", resume=True)


@pytest.mark.parametrize("name", ["quick", "keep_names"])
def test_what_is_not_known_of_a_run_is_no_difference(name: str) -> None:
    assert not run_differences({"texts": ["a dog"], name: True}, {})
    asked = {"texts": ["a dog"], "distractors": []}
    assert run_differences({**asked, name: True}, asked)
    assert run_differences(asked, {**asked, name: True})
    assert not run_differences({**asked, name: True}, {**asked, name: True})


# What is wrong


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def _json(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("pieces/00002.npz", _cut, "00002.npz' is damaged or missing; index the clip again"),
        ("pieces/00002.npz", _changed, "00002.npz' is damaged or missing"),
        ("pieces/00002.npz", Path.unlink, "00002.npz' is damaged or missing"),
        ("pieces/00002.jpg", _cut, "00002.jpg' is damaged or missing"),
        ("index.json", _cut, "is damaged; index the clip again, with --overwrite"),
        ("index.json", Path.unlink, "no index '.*'; make one with: carvid index CLIP -o "),
        ("index.json", _json(index=99), "is an index of format 99, and this is carvid"),
        ("index.json", _json(key_frames=[]), "is damaged"),
        ("index.json", _json(key_frames=["x"]), "is damaged"),
        ("index.json", _json(video=[]), "is damaged"),
        ("index.json", _json(weights={}), "is damaged"),
        ("index.json", _json(contents={}), "is damaged"),
        ("index.json", _json(config={"car": {"thta": 1}}), "unknown key 'car.thta'"),
        ("index.json", _json(frames=["../../x"]), "is damaged"),
    ],
)
def test_damage_is_told(
    loaded: Carvid, copied: Made, name: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(copied.index / name)
    with pytest.raises(ConfigError, match=message):
        index = loaded.open_index(copied.index)
        for text in "abcd":  # one of whose best key frames is the damaged one
            index.ask(text)


def test_the_clip_is_looked_for(loaded: Carvid, made: Made, copied: Made, tmp_path: Path) -> None:
    _json(video=json.loads((copied.index / "index.json").read_text())["video"] | {
        "path": str(tmp_path / "elsewhere" / "clip.mp4")
    })(copied.index / "index.json")  # fmt: skip
    index = loaded.open_index(copied.index)
    assert index.facts.clip(index.folder).path == str(copied.clip)  # beside the index
    copied.clip.rename(tmp_path / "aside.mp4")
    with pytest.raises(VideoError, match=r"elsewhere/clip.mp4', which is not there; put it back"):
        loaded.segment(index, TEXTS)
    write_clip(copied.clip, make_frames(4))
    with pytest.raises(VideoError, match=r"copied/clip.mp4' has changed since it was indexed"):
        loaded.segment(index, TEXTS)
    assert index.ask(TEXTS).masks(5).shape[0] == 2  # without the clip


def test_relative_paths_hold_elsewhere(
    loaded: Carvid, copied: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.clip.parent)
    folder = loaded.index("moved.mp4", "../far.idx").folder
    assert folder == Path("../far.idx")
    monkeypatch.chdir("/")
    assert len(loaded.segment(tmp_path / "far.idx", "a dog")) == 6


def test_other_models_are_told(
    loaded: Carvid, made: Made, weights: dict[str, str], tmp_path: Path
) -> None:
    other = carvid.load("default", [*FAST, "temporal.key_every=3"], **weights)
    for ask in (other.open_index, lambda folder: other.segment(folder, TEXTS),
                lambda _: other.segment(loaded.open_index(made.index), TEXTS)):  # fmt: skip
        with pytest.raises(ConfigError, match=r"made with temporal.key_every=2, not 3; leave the"):
            ask(made.index)
    with pytest.raises(OutputError, match=r"holds another index: temporal.key_every was 2, is 3"):
        other.index(made.clip, made.index)
    swapped = {"generator": weights["classifier"], "classifier": weights["generator"]}
    with pytest.raises(WeightsError, match=r"made with the generator '.*generator', and this is"):
        carvid.load("default", SETTINGS, **swapped).open_index(made.index)
    same = carvid.load("default", [*SETTINGS, "car.theta=0.7"], generator=weights["generator"],
                       classifier=weights["generator"])  # fmt: skip
    assert same.index(made.clip, made.index).facts.config.car.theta == 0  # opened as it is
    assert same.open_index(made.index).ask(TEXTS).anchors


def test_what_is_no_clip(loaded: Carvid, made: Made, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    cases: list[tuple[Any, type[CarvidError], str]] = [
        (tmp_path / "pipe", VideoError, "can be read only once"),
        ("-", VideoError, "can be read only once"),
        ("rtsp://nowhere/x", VideoError, "can be read only once"),
        (make_frames(2), VideoError, "'ndarray' can be read only once"),
        (made.index, ConfigError, "is an index already; ask it with: carvid run"),
        (tmp_path / "none.mp4", VideoError, "no file or folder"),
    ]
    for clip, kind, message in cases:
        with pytest.raises(kind, match=message):
            loaded.index(clip)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe"]


def test_what_is_not_overwritten(loaded: Carvid, copied: Made, tmp_path: Path) -> None:
    """Whatever is in the folder, nothing of it is touched."""
    thesis, run, file = tmp_path / "thesis", tmp_path / "run", tmp_path / "file"
    (thesis / "pieces").mkdir(parents=True)
    (thesis / "pieces" / "mine.txt").touch()
    file.touch()
    loaded.segment(copied.clip, "a dog", out=run)
    (copied.index / "pieces" / "mine.txt").touch()
    before = contents(tmp_path)
    for out, message in (
        (thesis, "none of what carvid wrote"), (run, "holds something else"), (file, "is a file"),
        (copied.index, "none of what carvid wrote"), (copied.clip.parent, "holds something else"),
        (copied.clip, "is a file|is read"), (file / "x", "cannot write to"),
    ):  # fmt: skip
        with pytest.raises(OutputError, match=message):
            loaded.index(copied.clip, out, overwrite=True, resume=False)
    for out in (copied.index, copied.index / "pieces", copied.index / "new"):
        for overwrite in (False, True):
            with pytest.raises(OutputError, match=r"is in the index"):
                loaded.segment(copied.index, "a dog", out=out, overwrite=overwrite)
    with pytest.raises(OutputError, match=r"holds something else"):
        loaded.segment(copied.clip, "a dog", out=copied.index, overwrite=True)
    assert contents(tmp_path) == before
    (copied.index / "pieces" / "mine.txt").unlink()
    index = loaded.index(copied.clip, copied.index, overwrite=True, resume=False)
    assert index.frame_count == 6


def test_a_place_that_cannot_be_written(
    loaded: Carvid, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match=r"cannot write '.*00000.npz': No space left"):
            loaded.index(made.clip, tmp_path / "a.idx")
    loaded.index(made.clip, tmp_path / "a.idx")  # nothing is in the way
    assert contents(tmp_path / "a.idx") == contents(made.index)
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(OutputError, match=r"cannot write to"):
            loaded.index(made.clip, tmp_path / "closed" / "a.idx")


# Answers


def anchor(score: float, frame: int) -> Anchor:
    """Of a thing and of what is around it, which the classifier tells apart."""
    looks, scores = np.eye(2, 3, dtype=np.float32), np.array([score, 0.1], np.float32)
    return Anchor(score, frame, looks, scores, np.array([0.8, 0.4], np.float32))


def answer_of(kept: list[list[bool]], **changes: Any) -> Answer:
    """Of 2 expressions, with key frames 0, 2, 4 among 6 frames."""
    maps = np.zeros((3, 2, 8, 12), np.uint8)
    maps[:, :, 2:5, 2:5] = 255
    motion = np.zeros((2, 8, 12, 2), np.int16)
    motion[1, ..., 0] = 3 * FLOW_LEVELS * 8  # three of the maps' pixels to the right
    anchors = (anchor(0.9, 2), anchor(0.0, 4))
    values: dict[str, Any] = {
        "texts": ("a dog", "a cat"), "times_s": np.arange(6) / 2, "key_frames": np.array([0, 2, 4]),
        "scores": np.zeros((3, 2), np.float32), "kept": np.array(kept), "anchors": anchors,
        "size_hw": (64, 96), "eta": 0.5, "maps": maps, "motion_of": lambda key: motion,
    }  # fmt: skip
    return Answer(**{**values, **changes})


def test_an_answer_says_where_and_when() -> None:
    answer = answer_of([[True, False], [False, False], [True, False]])
    assert answer.spans(1) == [(0, 2), (4, 6)] and answer.spans(2) == []
    assert answer.best_frame(1) == 2
    for label in (0, 3, -1):
        with pytest.raises(IndexError, match=f"label {label} is not among 1 to 2"):
            answer.spans(label)
    for frame in (-1, 6):
        with pytest.raises(IndexError, match=r"is not among the clip's 6"):
            answer.masks(frame)
    one, other = answer.to_json()["expressions"]
    assert one["spans_s"] == [[0.0, 0.5], [2.0, 2.5]] and one["best_time_s"] == 1.0
    assert (other["best_score"], other["spans"]) == (0.0, [])
    untimed = answer_of([[True, True]] * 3, times_s=np.full(6, np.nan)).to_json()
    assert untimed["expressions"][0]["best_time_s"] is None
    json.dumps(untimed, allow_nan=False)
    assert "<uint8 (3, 2, 8, 12)>" in repr(answer)


def test_an_answer_moves_masks_along() -> None:
    answer = answer_of([[True, True]] * 3)
    key, after = answer.masks(2)[0], answer.masks(3)[0]
    assert key.shape == (64, 96) and key[20:36, 20:36].all() and key.sum() < 30 * 30
    np.testing.assert_array_equal(after[:, 24:], key[:, :-24])


def test_asking_again_costs_little(loaded: Carvid, made: Made) -> None:
    index = loaded.open_index(made.index)
    generator, classifier = (backbone.counts for backbone in loaded.backbones)
    patches, images = generator["patches"], classifier["images"]
    first = index.ask(TEXTS, distractors="a ball")
    asked = classifier["images"] - images
    assert 0 < asked <= 3 * BEST * loaded.config.proposals.parts
    again = index.ask(TEXTS, distractors="a ball")
    assert classifier["images"] - images == asked and generator["patches"] == patches
    np.testing.assert_array_equal(first.scores, again.scores)
    np.testing.assert_array_equal(first.maps, again.maps)
    loaded.segment(index, TEXTS, distractors="a ball")  # the run knows what the answer knew
    assert classifier["images"] - images == asked and generator["patches"] == patches


def test_what_can_be_asked(loaded: Carvid, made: Made) -> None:
    index = loaded.open_index(made.index)
    assert index.ask("a dog").masks(0).shape == (1, 34, 48)
    assert index.ask(["a dog", "a dog"]).texts == ("a dog", "a dog")
    answer = index.ask(CLASSES, distractors=["a ball"])
    assert answer.texts == CLASSES.names and answer.masks(5).shape[0] == 3
    for texts, message in (([], "no expression"), (" ", "is empty"), ("zebra " * 40, "CLIP reads")):
        with pytest.raises(ExpressionError, match=message):
            index.ask(texts)


def test_a_long_index_does_not_stay_in_memory(loaded: Carvid, copied: Made) -> None:
    path, count = copied.index / "index.json", PIECES_IN_MEMORY + 3
    for key in range(count):
        for suffix in (".npz", ".jpg"):
            place = copied.index / "pieces" / f"{key:05d}{suffix}"
            if not place.exists():
                place.hardlink_to(copied.index / "pieces" / f"00000{suffix}")
    _json(key_frames=list(range(count)))(path)
    index = ClipIndex(copied.index, loaded.open_index(copied.index)._unit)
    for key in index.key_frames:
        index.encoding(key)
    assert index._piece.cache_info().currsize == PIECES_IN_MEMORY


def test_where_the_classifier_is_asked() -> None:
    peaks = np.array([0.1, 0.9, 0.8, 0.7, 0.2])
    apart = np.arange(5) * 0.6
    assert strongest(peaks, apart, 2, 1.0) == [1, 3]  # the second best is too near
    assert strongest(peaks, apart, 9, 1.0) == [1, 3, 2, 4, 0]
    assert strongest(peaks, np.full(5, np.nan), 2, 1.0) == [1, 2]
    assert strongest(peaks, np.zeros(5), 2, 1.0) == [1, 2]
    assert strongest(np.zeros(1), np.zeros(1), 2, 1.0) == [0]
    assert strongest(np.zeros(3), apart[:3], 2, 1.0) == [0, 2]


def test_a_mask_is_scored_as_what_it_looks_like() -> None:
    thing, around = np.eye(2, 3, dtype=np.float32)
    known = anchor(0.9, 2)
    assert known.score_of(thing, 0.8) == pytest.approx(0.9)
    assert known.score_of(thing, 0.99) == pytest.approx(0.9)  # and not more
    assert known.score_of(thing, 0.2) == pytest.approx(0.9 / 4)
    assert known.score_of(around, 0.8) == pytest.approx(0.1)
    assert known.score_of(around, 0.2) == pytest.approx(0.05)
    between = (thing + around) / np.float32(2**0.5)
    assert known.score_of(between, 1.0) == pytest.approx(0.5)
    nothing = np.zeros(3, np.float32)
    assert known.score_of(nothing, 0.0) == 0


def test_a_look_is_the_mean_feature_in_a_mask() -> None:
    values = torch.zeros(6, 3)
    values[[0, 3], 0], values[[1, 4], 1], values[[2, 5], 2] = 1, 1, 1  # three columns of patches
    for precision in ("float32", "int8"):
        features = DenseFeatures.of((2, 3), values, cast("Any", precision))
        encoded = EncodedFrame(features, torch.zeros(0))
        mask = np.zeros((16, 24), bool)
        np.testing.assert_array_equal(look_of(encoded, mask), np.zeros(3))
        mask[:, :8] = True
        np.testing.assert_allclose(look_of(encoded, mask), (1, 0, 0), atol=1e-6)
        mask[:, :16] = True
        np.testing.assert_allclose(look_of(encoded, mask), (0.5**0.5, 0.5**0.5, 0), atol=1e-6)


def test_strength() -> None:
    chances = np.zeros((4, 6), np.float32)
    chances[:, :3] = 0.8
    mask = np.zeros((16, 24), bool)
    assert strength(chances, mask) == 0
    mask[:, :12] = True
    assert strength(chances, mask) == pytest.approx(0.8)
    mask[:] = True
    assert strength(chances, mask) == pytest.approx(0.4)
    assert peak(chances) == pytest.approx(0.8) and peak(chances * 0) == 0


def test_pictures_are_whole(tmp_path: Path) -> None:
    image = texture(1)
    write_picture(tmp_path / "a.jpg", image)
    again = read_picture(tmp_path / "a.jpg")
    assert again.shape == image.shape and np.abs(again.astype(int) - image).mean() < 12


# The command line


def lines(*arguments: object) -> list[str]:
    result = command(*arguments)
    assert result.returncode in (1, 2), result
    assert not result.stdout
    return [line for line in result.stderr.splitlines() if not line.startswith("Try ")]


def networks_of(weights: dict[str, str]) -> list[str]:
    return ["--weights-generator", weights["generator"], "--weights-classifier",
            weights["classifier"], *(f"--set={each}" for each in SETTINGS)]  # fmt: skip


def test_the_commands(made: Made, weights: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "a.idx"
    result = command("index", made.clip, "-o", out, "--json", *networks_of(weights))
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["out"], said["frames"], said["key_frames"]) == (str(out), 6, 3)
    assert said["bytes"] == sum(map(len, contents(out).values()))
    asked = ["run", out, "-e", "a dog", "-e", "a cat"]
    result = command(*asked, "--ask", "--set=car.theta=0.999", "--json", "-o", tmp_path / "none")
    assert json.loads(result.stdout)["expressions"][0]["spans"] == []
    assert not (tmp_path / "none").exists()
    assert json.loads(command("config", out, "--json").stdout)["proposals"]["method"] == "dense"
    result = command(*asked, "-o", tmp_path / "run", "--threshold", "0.01")
    assert result.returncode == 0, result.stderr
    first, second, *rest = result.stdout.splitlines()
    assert first.startswith("first answer: 1: a dog: best score ") and "there at 0.0 to" in first
    assert second.startswith("first answer: 2: a cat") and rest[0].startswith("1: a dog: in ")
    values = json.loads((tmp_path / "run" / "run.json").read_text())
    assert values["quick"] is True and values["config"]["car"]["theta"] == 0.01
    result = command(*asked, "-o", tmp_path / "b", "--thorough", "--json", "--preset", out)
    assert json.loads(result.stdout)["first"]["frames"] == 6


def test_ctrl_c_says_how_to_go_on(
    made: Made, weights: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "a.idx", contents(made.index)
    words = ["index", made.clip, "-o", out, "--quiet", *networks_of(weights)]
    with monkeypatch.context() as patch:
        patch.setattr(IndexFolder, "add", with_signal(IndexFolder.add, signal.SIGINT, 2))
        result = command(*words)
    assert result.returncode == 130
    assert result.stderr.splitlines()[-1].startswith("carvid: interrupted; continue with: carvid ")
    assert result.stderr.endswith("--resume\n") and not (out / "index.json").exists()
    assert command(*words, "--resume").returncode == 0
    assert contents(out) == whole


def test_names_that_no_system_takes() -> None:
    for name in ("x" * 5000, "a\0b", "-", "rtsp://x"):
        assert not is_index(name)
        with pytest.raises(ConfigError, match=r"unknown preset"):
            load_config(name)


def test_what_is_wrong_with_a_command(copied: Made, tmp_path: Path) -> None:
    run, dog, out = ["run", copied.index], ["-e", "a dog"], ["-o", tmp_path / "out"]
    cases: list[tuple[list[object], str]] = [
        ([*run, *dog, *out, "--start", "1"], "leave --start away, or index that part"),
        ([*run, *dog, *out, "--max-side", "64"], "leave --max-side away"),
        ([*run, copied.clip, *dog, *out], "is an index; give it alone"),
        ([*run, *dog, *out, "--each"], "is an index; give it alone"),
        (["run", copied.clip, *dog, *out, "--ask"], "--ask is for an index, which carvid index"),
        (["run", copied.clip, *dog, *out, "--thorough"], "--thorough is for an index"),
        ([*run, *dog, *out, "--set", "temporal.key_every=3"], "made with temporal.key_every=2"),
        ([*run, *dog, *out, "--preset", "fast"], "the index was made with "),
        ([*run, *dog, "-o", copied.index / "x"], "is in the index"),
        ([*run, *dog, "-o", tmp_path / "taken"], "holds something else"),
        (["view", copied.index, "--no-show"], "is no folder of a finished run"),
        (["index", copied.index], "is an index already"),
        (["index", copied.clip], "holds an index already; go on with --resume"),
        (["index", tmp_path / "none.mp4"], "no file or folder"),
    ]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    for arguments, message in cases:
        [line] = lines(*arguments)
        assert message in line
    manifest = tmp_path / "clips.csv"
    manifest.write_text(f"clip,expr\n{copied.index},a dog\n")
    [line] = lines("run", "--manifest", manifest, *out)
    assert "is an index; ask it alone" in line
    copied.clip.unlink()
    _json(video=json.loads((copied.index / "index.json").read_text())["video"] | {
        "path": str(tmp_path / "gone.mp4")
    })(copied.index / "index.json")  # fmt: skip
    [line] = lines(*run, *dog, *out)
    assert "gone.mp4', which is not there" in line
    facts = json.loads((copied.index / "index.json").read_text())
    (copied.index / "index.json").rename(copied.index / "progress.json")
    (copied.index / "progress.json").write_text(json.dumps({"inputs": facts}))
    [line] = lines(*run, *dog, *out)
    assert "is not finished; go on with: carvid index CLIP -o" in line
    assert not (tmp_path / "out").exists()
