"""Frames given in Python: the same masks as of a file, whatever they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import carvid
from carvid.base.errors import OutputError
from carvid.base.interrupt import Stopped
from carvid.pipeline import Carvid
from tests.conftest import HEIGHT, WIDTH, make_frames
from tests.test_pipeline import FAST, files
from tests.test_reliability import frames_in

TEXTS = ["a dog", "a white cat"]


@pytest.fixture
def model(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", FAST, **weights)


def generated(frames: Iterable[Any]) -> Iterator[Any]:
    yield from frames


@pytest.mark.parametrize("form", [list, tuple, np.array, generated, iter], ids=lambda f: f.__name__)
def test_any_iterable_is_segmented_as_a_folder(
    model: Carvid, tmp_path: Path, form: Callable[[list[NDArray[np.uint8]]], Any]
) -> None:
    frames = list(make_frames(6))
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    track, wanted = model.segment(form(frames), TEXTS), model.segment(tmp_path, TEXTS)
    assert (track.masks[:] == wanted.masks[:]).all() and track.masks[:].any()
    assert (track.scores == wanted.scores).all()
    assert track.facts.video.backend == "frames" and track.facts.video.live
    assert track.times_s.tolist() == [t / 24 for t in range(6)]


def test_frames_keep_their_times(model: Carvid, clip: Path) -> None:
    with carvid.open_video(clip) as reader:
        track = model.segment(reader, TEXTS, selection=carvid.Selection(stride=2, max_side=40))
    wanted = model.segment(clip, TEXTS, selection=carvid.Selection(stride=2, max_side=40))
    assert track.times_s.tolist() == wanted.times_s.tolist() and len(track) == 3
    assert (track.masks[:] == wanted.masks[:]).all() and track.masks.shape[2:] == (28, 40)


def test_a_run_of_frames_has_everything_but_what_shows_them_again(
    model: Carvid, tmp_path: Path
) -> None:
    out, frames = tmp_path / "out", make_frames(6)
    track = model.segment(iter(frames), TEXTS, out=out, formats=["coco"])
    names = ["coco.json", "masks", "overlay.mp4", "run.json", "scores.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert frames_in(out / "overlay.mp4") == 6
    with pytest.raises(OutputError, match="'frames' comes only once, and format html needs"):
        model.segment(frames, TEXTS, out=tmp_path / "other", formats=["html"])
    assert not (tmp_path / "other").exists()
    track.save(tmp_path / "copy")
    assert {**files(out), "coco.json": b""} == {**files(tmp_path / "copy"), "coco.json": b""}


def test_stopped_frames_are_a_whole_run(model: Carvid, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        model.segment(make_frames(6), TEXTS, out=tmp_path / "out", stop=lambda: next(asked))
    assert len(carvid.Track.open(tmp_path / "out")) == 3


def test_frames_are_made_in_the_callers_thread(model: Carvid) -> None:
    import threading

    threads = set()

    def noted() -> Iterator[NDArray[np.uint8]]:
        for frame in make_frames(3):
            threads.add(threading.current_thread())
            yield frame

    model.segment(noted(), TEXTS)
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "frames is empty; give at least one frame"),
        (iter(()), "frames is empty"),
        (make_frames(1)[0], r"one picture of shape \(34, 48, 3\) is no iterable of frames"),
        ([make_frames(1)[0], make_frames(1)[0][:20]], r"frame 1 has height and width \(20, 48\)"),
        (5, "a video must be a path or an iterable of frames, got int"),
        (None, "got NoneType"),
        ([make_frames(1)[0].astype(np.uint16)], "uint16"),
        (["frame.png"], "str"),
    ],
)
def test_what_is_no_frames_is_said(model: Carvid, frames: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.segment(frames, TEXTS)


def test_one_text_is_one(model: Carvid) -> None:
    frames = make_frames(2)
    one, several = model.segment(frames, "a dog"), model.segment(frames, ["a dog"])
    assert one.texts == several.texts == ("a dog",)
    assert (one.masks[:] == several.masks[:]).all()
    assert len(model.segment_image(frames[0], "a dog", distractors="sky").masks) == 1
    (result, _) = model.stream(frames, "a dog")
    assert result.masks.shape == (1, HEIGHT, WIDTH)


def test_slices_of_masks_are_stacked(model: Carvid, clip: Path, tmp_path: Path) -> None:
    for track in (model.segment(clip, TEXTS), model.segment(clip, TEXTS, out=tmp_path / "out")):
        one_by_one = np.stack(list(track.masks))
        assert track.masks.shape == one_by_one.shape == (6, 2, HEIGHT, WIDTH)
        for chosen in (slice(0, 2), slice(None), slice(-1, None), slice(None, None, -2)):
            assert (track.masks[chosen] == one_by_one[chosen]).all()
            assert track.masks[chosen].dtype == bool
        assert track.masks[6:].shape == (0, 2, HEIGHT, WIDTH)
        assert (track.masks[-1] == one_by_one[5]).all()
        assert track.label_maps[1:3].shape == (2, HEIGHT, WIDTH)
        with pytest.raises(IndexError, match="frame 6 is asked for, there are 6"):
            track.masks[6]


def test_device_and_dtype_are_arguments(weights: dict[str, str]) -> None:
    model = carvid.load("default", device="cpu", dtype="bfloat16", **weights)
    assert model.config.weights.device == "cpu" and model.config.weights.dtype == "bfloat16"
    assert {str(each.dtype) for each in model.backbones} == {"torch.bfloat16"}
