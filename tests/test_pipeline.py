"""Clips through the whole house: tracks, folders, resuming, the state between frames."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

import carvid
from carvid.base.background import ROOM, run_in_background
from carvid.base.errors import OutputError
from carvid.config import load_config
from carvid.media.label_png import read_label_png
from carvid.media.open import Frame, VideoReader
from carvid.pipeline import Carvid
from carvid.temporal.state import TemporalState
from tests.conftest import HEIGHT, WIDTH, make_frames

TEXTS = ["a dog", "a white cat"]
FAST = ["crf.iterations=1", "car.theta=0", "weights.device=cpu"]


@pytest.fixture
def model(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", FAST, **weights)


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a run but run.json, which has the run's timing."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "run.json"
    }


def test_a_run_leaves_everything(model: Carvid, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    track = model.segment(clip, TEXTS, out=out)
    assert sorted(p.name for p in out.iterdir()) == [
        "masks", "overlay.mp4", "run.json", "scores.csv",
    ]  # fmt: skip
    names = sorted(p.name for p in (out / "masks").iterdir())
    assert names == [f"{t:05d}.png" for t in range(6)]
    labels = [read_label_png(out / "masks" / name) for name in names]
    assert {plane.shape for plane in labels} == {(HEIGHT, WIDTH)}
    assert set(np.unique(labels)) <= {0, 1, 2} and np.any(labels)
    rows = list(csv.DictReader((out / "scores.csv").read_text().splitlines()))
    assert [(r["frame"], r["label"], r["expression"]) for r in rows] == [
        (str(t), str(k), text) for t in range(6) for k, text in enumerate(TEXTS, 1)
    ]
    with av.open(str(out / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert str(stream.average_rate) == "30000/1001"
        assert sum(1 for _ in container.decode(stream)) == 6
    values = json.loads((out / "run.json").read_text())
    assert values["texts"] == TEXTS
    assert values["timing"]["frames_per_s"] > 0
    assert load_config(out / "run.json") == model.config
    assert len(track) == 6 and track.scores.shape == (6, 2)
    assert (track.label_maps[3] == labels[3]).all()
    assert (track.masks[3][1] == (labels[3] == 2)).all()


def test_memory_and_folder_agree(model: Carvid, clip: Path, tmp_path: Path) -> None:
    model.segment(clip, TEXTS, out=tmp_path / "a")
    track = model.segment(clip, TEXTS)
    track.save(tmp_path / "b")
    one, other = files(tmp_path / "a"), files(tmp_path / "b")
    assert one.keys() == other.keys()
    for name in one:
        assert one[name] == other[name], name


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_stopped_run_resumes_to_the_same_bytes(
    model: Carvid, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model.segment(clip, TEXTS, out=whole)
    reader = type(carvid.open_video(clip))
    frames = reader.frames

    def fail(self: VideoReader, start: int = 0) -> Iterator[Frame]:
        for frame in frames(self, start):  # type: ignore[arg-type]
            if frame.index == stop:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(reader, "frames", fail)
    with pytest.raises(KeyboardInterrupt):
        model.segment(clip, TEXTS, out=broken)
    monkeypatch.setattr(reader, "frames", frames)
    assert not (broken / "run.json").exists() and not (broken / "scores.csv").exists()
    # A frame that was being written when the run was killed.
    with (broken / ".carvid" / "scores.csv").open("a") as file:
        file.write(f"{stop},0.0,1,half a r")
    with pytest.raises(OutputError, match="add --resume"):
        model.segment(clip, TEXTS, out=broken)
    with pytest.raises(OutputError, match="other inputs or settings"):
        model.segment(clip, ["a ball"], out=broken, resume=True)
    model.segment(clip, TEXTS, out=broken, resume=True)
    assert files(broken) == files(whole)
    before = (broken / "run.json").read_bytes()
    model.segment(clip, TEXTS, out=broken, resume=True)  # nothing left to do
    assert (broken / "run.json").read_bytes() == before
    model.segment(clip, ["a ball"], out=broken, overwrite=True)
    assert carvid.Track.open(broken).texts == ("a ball",)


def test_an_overlay_of_another_style_is_not_resumed(
    model: Carvid, weights: dict[str, str], clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    model.segment(clip, TEXTS, out=out)
    before = files(out)
    other = carvid.load("default", [*FAST, "overlay.side_by_side=on"], **weights)
    with pytest.raises(OutputError, match="other inputs or settings"):
        other.segment(clip, TEXTS, out=out, resume=True)
    assert files(out) == before
    other.segment(clip, TEXTS, out=out, overwrite=True)
    with av.open(str(out / "overlay.mp4")) as container:
        assert container.streams.video[0].width == 2 * WIDTH


def test_foreign_folders_are_left_alone(model: Carvid, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="holds something else"):
            model.segment(clip, TEXTS, out=tmp_path / "mine", **options)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(OutputError, match="is no folder of a finished run"):
        carvid.Track.open(tmp_path / "mine")


def test_stream_is_causal_and_goes_on_from_a_state(model: Carvid) -> None:
    frames = make_frames(5)
    whole = list(model.stream(frames, TEXTS))
    first = list(model.stream(frames[:2], TEXTS))
    state = TemporalState.from_dict(json.loads(json.dumps(first[-1].state.to_dict())))
    rest = list(model.stream(frames[2:], TEXTS, state=state))
    for one, other in zip(whole, [*first, *rest], strict=True):
        assert (one.masks == other.masks).all()
        assert (one.scores == other.scores).all()


@pytest.mark.parametrize(("every", "passes"), [(1, 4), (3, 2)])
def test_one_generator_pass_a_key_frame(weights: dict[str, str], every: int, passes: int) -> None:
    doubtless = ["temporal.min_trust=0", "temporal.area_jump=1e9"]
    model = carvid.load("default", [*FAST, *doubtless, f"temporal.key_every={every}"], **weights)
    generator = model.backbones[0]
    list(model.stream(make_frames(4), [*TEXTS, "a ball", "a woman"]))
    assert generator.counts["patches"] == passes
    texts = generator.counts["texts"]
    list(model.stream(make_frames(4), [*TEXTS, "a ball", "a woman"]))
    assert generator.counts["texts"] == texts


def test_segment_image_fills_a_trace(model: Carvid) -> None:
    trace = carvid.Trace()
    result = model.segment_image(make_frames(1)[0], TEXTS, distractors=["sky"], trace=trace)
    assert result.masks.shape == (2, HEIGHT, WIDTH)
    assert trace.steps[0].competitors[:3] == ("a dog", "a white cat", "sky")
    assert len(result.scores) == len(result.kept) == len(result.masks)
    assert len(result.distractor_scores) == len(result.distractors_kept) == 1


def test_public_names() -> None:
    for name in set(carvid.__all__) - {"__version__"}:
        assert getattr(carvid, name).__name__.split(".")[-1] == name
    assert carvid.__version__.count(".") == 2 and set(carvid.__all__) <= set(dir(carvid))


# writing behind ------------------------------------------------------------------------------


def test_work_is_done_behind_in_order_and_all_of_it() -> None:
    done: list[int] = []
    threads: set[str] = set()

    def work(item: int) -> None:
        threads.add(threading.current_thread().name)
        done.append(item)

    with run_in_background(work, int) as hand_over:
        for item in range(20):
            hand_over(item)
    assert done == list(range(20)) and threads == {"carvid-background"}


def test_so_much_waits_as_there_is_room_for() -> None:
    go_on, done, handed = threading.Semaphore(0), list[int](), list[int]()

    def work(item: int) -> None:
        go_on.acquire()
        done.append(item)

    def make() -> None:
        with run_in_background(work, lambda item: ROOM // 2) as hand_over:
            for item in range(5):
                hand_over(item)
                handed.append(item)

    maker = threading.Thread(target=make)
    maker.start()
    while len(handed) < 2:
        time.sleep(0.001)
    maker.join(0.1)  # the third waits for the first
    assert handed == [0, 1] and done == []
    for _ in range(5):
        go_on.release()
    maker.join()
    assert done == handed == list(range(5))


def test_what_was_handed_over_is_done_though_the_maker_fails() -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), run_in_background(done.append, int) as hand_over:
        hand_over(1)
        hand_over(2)
        raise KeyboardInterrupt
    assert done == [1, 2]


@pytest.mark.parametrize("items", [1, 2, 50])
def test_a_failure_behind_is_raised_and_nothing_is_done_after_it(items: int) -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        raise OSError(f"item {item}")

    with pytest.raises(OSError, match="item 0"), run_in_background(work, int) as hand_over:
        for item in range(items):
            hand_over(item)
    assert begun == [0]
