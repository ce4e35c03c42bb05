"""Whatever happens to a run, no more than the frame at hand is lost."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

import carvid
from carvid.base.errors import CarvidError, OutputError, VideoError
from carvid.exports.export import FORMATS, export
from carvid.media.open import Selection, open_video
from carvid.pipeline import Carvid
from carvid.run.lock import locked
from tests import HANGS_S
from tests.conftest import make_frames
from tests.kill_runs import INDEXES, PLACES
from tests.odd_files import MAKERS, RATE
from tests.test_cli import ENVIRONMENT, options
from tests.test_pipeline import FAST, TEXTS, files

RATE_OF_CLIP = Fraction(30000, 1001)
KILLS = int(os.environ.get("CARVID_KILLS", str(len(PLACES))))
"""Kills in the suite, one in each place; set it higher for a longer look."""


@pytest.fixture
def model(weights: dict[str, str]) -> Carvid:
    """Decides each frame at once."""
    return carvid.load("default", [*FAST, "temporal.lag=0"], **weights)


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
def test_killed_runs_resume_to_the_same_bytes(tmp_path: Path, weights: dict[str, str]) -> None:
    folder = Path(weights["generator"]).parent
    result = subprocess.run(
        [sys.executable, "-m", "tests.kill_runs", folder, tmp_path, str(KILLS)],
        capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    places = json.loads(result.stdout)
    assert places.pop(INDEXES) == 4
    assert sum(places.values()) == KILLS and places.keys() >= {*PLACES[:KILLS]}


def test_two_runs_do_not_share_a_folder(model: Carvid, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        locked(out),
        pytest.raises(OutputError, match=r"another run is writing to .*choose another folder"),
    ):
        model.segment(clip, TEXTS, out=out)
    assert not list(out.iterdir())
    model.segment(clip, TEXTS, out=out)


def test_a_run_that_is_stopped_leaves_a_video_and_resumes(
    model: Carvid, clip: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model.segment(clip, TEXTS, out=whole)
    asked = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        model.segment(clip, TEXTS, out=broken, stop=lambda: next(asked))
    assert frames_in(broken / "overlay.mp4") == 3
    assert not (broken / "run.json").exists()
    model.segment(clip, TEXTS, out=broken, resume=True)
    assert files(broken) == files(whole)


def test_a_run_that_looks_ahead_stops_after_the_frame_at_hand(
    weights: dict[str, str], clip: Path, tmp_path: Path
) -> None:
    model = carvid.load("default", [*FAST, "temporal.key_every=2", "temporal.lag=1"], **weights)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model.segment(clip, TEXTS, out=whole)
    looked_at = model.backbones[0].counts["patches"]
    for answers, done in (([True], 0), ([False] * 4 + [True], 3)):  # the fifth is a key frame
        asked = iter(answers)
        with pytest.raises(KeyboardInterrupt):
            model.segment(clip, TEXTS, out=broken, resume=True, stop=lambda each=asked: next(each))
        assert next(asked, None) is None
        assert len(list((broken / "masks").glob("*.png"))) == done
        assert (broken / "overlay.mp4").exists() == (done > 0)
    assert model.backbones[0].counts["patches"] == looked_at + 1 + 3  # none after the stop
    model.segment(clip, TEXTS, out=broken, resume=True)
    assert files(broken) == files(whole)


@pytest.mark.parametrize("lag", [0, 1, 4])
def test_a_clip_in_memory_ends_when_told(
    weights: dict[str, str], clip: Path, tmp_path: Path, lag: int
) -> None:
    settings = [*FAST, "temporal.key_every=2", f"temporal.lag={lag}"]
    model = carvid.load("default", settings, **weights)
    asked = iter([False, False, True])
    track = model.segment(clip, TEXTS, stop=lambda: next(asked))
    part = Selection(end_s=2.5 / float(RATE_OF_CLIP))
    wanted = model.segment(clip, TEXTS, selection=part)
    assert len(track) == len(wanted) == 3 and track.facts.video.frame_count in (None, 3)
    assert [(a == b).all() for a, b in zip(track.masks, wanted.masks, strict=True)] == [True] * 3
    track.save(tmp_path / "out")  # as a clip of its own
    assert frames_in(tmp_path / "out" / "overlay.mp4") == 3
    export(carvid.Track.open(tmp_path / "out"), tmp_path / "out", ["green"])
    assert frames_in(tmp_path / "out" / "green.mp4") == 3
    assert track.summary()["frames"] == 3


def test_a_live_input_in_memory_ends_when_told(model: Carvid, tmp_path: Path) -> None:
    """The pipe stays open, and more would come."""
    path, pipe = MAKERS["y4m"](tmp_path), tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    writer = subprocess.Popen(["cat", path], stdout=end)
    asked = iter([False, True])
    try:
        track = model.segment(pipe, TEXTS, stop=lambda: next(asked))
    finally:
        writer.kill()
        writer.wait()
        os.close(end)
    assert len(track) == 2 and track.masks[1].shape[0] == 2


FRAMES_ASKED, OVERLAY_ASKED, GREEN_ASKED = 3, 3 + 6, 3 + 6 + 6
"""How often `stop` is asked, by a run that goes on with three of its six frames, until those are
done, the overlay, and green.mp4."""


@pytest.mark.parametrize("answers", [FRAMES_ASKED, OVERLAY_ASKED - 1, OVERLAY_ASKED, GREEN_ASKED])
def test_a_run_that_is_stopped_after_its_frames_resumes(
    model: Carvid, clip: Path, tmp_path: Path, answers: int
) -> None:
    """In the overlay's first frame, at its end, and in the first frames of two formats."""
    whole, broken, formats = tmp_path / "whole", tmp_path / "broken", ["green", "html"]
    model.segment(clip, TEXTS, out=whole, formats=formats)
    asked = iter([False, False, True] + [False] * answers + [True])
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            model.segment(
                clip, TEXTS, out=broken, formats=formats, resume=resume, stop=lambda: next(asked)
            )
    done = {path.name for path in broken.iterdir()}
    assert len(list((broken / "masks").iterdir())) == 6
    assert frames_in(broken / "overlay.mp4") == (6 if answers >= OVERLAY_ASKED else 3)
    assert ("run.json" in done) == (answers >= OVERLAY_ASKED)
    assert ("green.mp4" in done) == (answers >= GREEN_ASKED)
    assert "view.html" not in done and not any(".part" in name for name in done)
    model.segment(clip, TEXTS, out=broken, resume=True, formats=formats)
    assert files(broken).keys() == files(whole).keys()
    for name, content in files(whole).items():
        assert files(broken)[name] == content, name


@pytest.mark.parametrize(
    "place", ["carvid.show.overlay_thread.draw_overlay", "carvid.exports.html.write_page"]
)
def test_one_ctrl_c_ends_the_encoding(
    clip: Path, tmp_path: Path, weights: dict[str, str], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    from carvid.cli import app

    module, name = place.rsplit(".", 1)
    write = getattr(sys.modules[module], name)

    def pressed(*arguments: object, **more: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return write(*arguments, **more)

    command = ["run", str(clip), "-e", "a dog", "-o", str(tmp_path / "out"), "-f", "html",
               *options(weights)]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(place, pressed)
        with pytest.raises(SystemExit) as end:
            app(command)
    assert end.value.code == 130
    assert not (tmp_path / "out" / "view.html").exists()
    with pytest.raises(SystemExit) as end:
        app([*command, "--resume"])
    assert end.value.code == 0
    assert frames_in(tmp_path / "out" / "overlay.mp4") == 6
    assert (tmp_path / "out" / "view.html").exists()


def test_a_run_keeps_its_folder_until_its_formats_are_written(
    model: Carvid, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, refused = tmp_path / "out", []

    def write(track: carvid.Track, folder: Path, frames: object) -> None:
        for use in (
            lambda: model.segment(clip, TEXTS, out=out, overwrite=True),
            lambda: export(track, out, ["green"]),
            lambda: track.save(out, overwrite=True),
        ):
            with pytest.raises(OutputError, match="another run is writing"):
                use()
            refused.append(use)

    monkeypatch.setitem(FORMATS, "cutouts", replace(FORMATS["cutouts"], write=write))
    track = model.segment(clip, TEXTS, out=out, formats=["cutouts"])
    assert len(refused) == 3
    export(track, out, ["green"])
    assert frames_in(out / "green.mp4") == 6


@pytest.mark.parametrize("error", [VideoError("gone; plug it in"), KeyboardInterrupt()])
def test_a_live_run_that_fails_leaves_a_video_of_what_came(
    model: Carvid, tmp_path: Path, error: BaseException
) -> None:
    path, pipe, out = MAKERS["y4m"](tmp_path), tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    writer = subprocess.Popen(["cat", path], stdout=end)
    calls = 0

    def fail() -> bool:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return False

    try:
        with pytest.raises(type(error)):
            model.segment(pipe, TEXTS, out=out, stop=fail)
    finally:
        writer.kill()
        writer.wait()
        os.close(end)
    assert frames_in(out / "overlay.mp4") == 3
    assert not list(out.glob(".*.selection.*")) and not (out / "run.json").exists()


def test_a_live_input_is_saved_without_an_overlay(model: Carvid, tmp_path: Path) -> None:
    path, pipe, out = MAKERS["y4m"](tmp_path), tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)
    with subprocess.Popen(f"exec cat '{path}' > '{pipe}'", shell=True):
        track = model.segment(pipe, TEXTS)
    track.save(out)
    assert sorted(path.name for path in out.iterdir()) == ["masks", "run.json", "scores.csv"]
    opened = carvid.Track.open(out)
    assert len(opened) == len(track) == 12
    assert (opened.label_maps[11] == track.label_maps[11]).all()


def test_formats_that_a_live_input_cannot_give_are_refused_at_once(
    model: Carvid, tmp_path: Path
) -> None:
    path, pipe, out = MAKERS["y4m"](tmp_path), tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    writer = subprocess.Popen(["cat", path], stdout=end)
    try:
        with pytest.raises(OutputError, match="comes only once, and format green"):
            model.segment(pipe, TEXTS, out=out, formats=["green"])
    finally:
        writer.kill()
        writer.wait()
        os.close(end)
    assert not out.exists()


def test_a_damaged_video_is_used_and_the_loss_is_noted(model: Carvid, tmp_path: Path) -> None:
    clip = MAKERS["damaged_packet"](tmp_path)
    part = Selection(start_s=0.2, end_s=0.6, stride=2, max_side=48)
    track = model.segment(clip, TEXTS, out=tmp_path / "out", selection=part)
    assert track.times_s.tolist() == pytest.approx([0.2, 0.28, 0.36, 0.48, 0.56])
    assert track.label_maps[0].shape == (32, 48)
    assert track.facts.video.selection == part
    track = model.segment(clip, TEXTS, out=tmp_path / "whole")
    assert track.lost == ("left out, for they cannot be decoded: 1 frame",)
    values = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert values["lost"] == list(track.lost) and len(track) == 35
    assert frames_in(tmp_path / "whole" / "overlay.mp4") == 35
    with pytest.raises(VideoError, match=r"no frame .* from 9 s to the end; its last begins at"):
        model.segment(clip, TEXTS, selection=Selection(start_s=9))


def test_a_run_without_a_frame_leaves_nothing(model: Carvid, tmp_path: Path) -> None:
    """Or it would be in the way of the next one, with better times."""
    out, clip = tmp_path / "new" / "out", MAKERS["h264_reordered"](tmp_path)
    for _ in range(2):
        with pytest.raises(VideoError, match="no frame"):
            model.segment(clip, TEXTS, out=out, selection=Selection(start_s=9))
        assert not out.exists()
    model.segment(clip, TEXTS, out=out, selection=Selection(end_s=0.1))
    kept = files(out)
    with pytest.raises(OutputError, match="other inputs"):
        model.segment(clip, TEXTS, out=out, selection=Selection(start_s=9), resume=True)
    assert files(out) == kept
    (out / "notes.txt").write_text("mine")
    with pytest.raises(VideoError, match="no frame"):
        model.segment(clip, TEXTS, out=out, selection=Selection(start_s=9), overwrite=True)
    assert files(out) == kept | {"notes.txt": b"mine"} and len(carvid.Track.open(out)) == 3


@pytest.mark.parametrize("change", [{"stride": 0}, {"start_s": -1}, {"end_s": 0}, {"max_side": -1}])
def test_parts_that_hold_nothing_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(CarvidError, match="must be"):
        Selection(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["h264", "ffv1_mkv"])
def test_every_reader_reads_a_part(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path)
    whole = list(open_video(path))
    with open_video(path, selection=Selection(start_s=0.08, end_s=0.4, stride=3)) as reader:
        read = list(reader)
        assert [frame.index for frame in read] == [0, 1, 2]
        assert [frame.time_s for frame in read] == pytest.approx([0.08, 0.2, 0.32])
        assert all((a.image == b.image).all() for a, b in zip(read, whole[2:10:3], strict=True))
        assert [frame.index for frame in reader.frames(2)] == [2]
        assert reader.info.frame_count in (None, 3)


def test_a_deleted_input_is_read_to_its_end(model: Carvid, clip: Path, tmp_path: Path) -> None:
    whole, broken, hidden = tmp_path / "whole", tmp_path / "broken", tmp_path / "hidden.mp4"
    model.segment(clip, TEXTS, out=whole)
    calls = 0

    def delete() -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:
            clip.rename(hidden)
        return False

    model.segment(clip, TEXTS, out=broken, stop=delete)
    hidden.rename(clip)
    assert files(broken) == files(whole)


def test_an_input_that_is_gone_when_a_run_goes_on_leaves_it_as_it_was(
    model: Carvid, clip: Path, tmp_path: Path
) -> None:
    whole, broken, hidden = tmp_path / "whole", tmp_path / "broken", tmp_path / "hidden.mp4"
    model.segment(clip, TEXTS, out=whole)
    asked = iter([False, True, *[False] * 4])

    def stop() -> bool:
        answer = next(asked)
        if not answer and (broken / "overlay.mp4").exists() and clip.exists():
            clip.rename(hidden)
        return answer

    with pytest.raises(KeyboardInterrupt):
        model.segment(clip, TEXTS, out=broken, stop=stop)
    with pytest.raises(VideoError, match="no file or folder"):  # for the overlay, at the end
        model.segment(clip, TEXTS, out=broken, resume=True, stop=stop)
    assert not (broken / "run.json").exists()
    hidden.rename(clip)
    model.segment(clip, TEXTS, out=broken, resume=True)
    assert files(broken) == files(whole)


def test_a_full_disk_leaves_a_run_that_can_go_on(model: Carvid, clip: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # limits the size of files as a disk would
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model.segment(clip, TEXTS, out=whole)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limits = itertools.chain([10**9], itertools.repeat(100))

    def fill() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (next(limits), hard))
        return False

    try:
        with pytest.raises(OutputError, match=r"cannot write .*free some space"):
            model.segment(clip, TEXTS, out=broken, stop=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    model.segment(clip, TEXTS, out=broken, resume=True)
    assert files(broken) == files(whole)


def piped(weights: dict[str, str], out: Path, *more: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "carvid", "run", "-", "-e", "a dog", "-o", str(out), "--json",
         *map(str, more), *options(weights)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip


def test_a_pipe_is_read_as_it_comes_until_ctrl_c(tmp_path: Path, weights: dict[str, str]) -> None:
    """An endless pipe of bare frames."""
    out = tmp_path / "out"
    images = make_frames(8, 34, 48)
    run = piped(weights, out, "--raw", "48x34@25")
    assert run.stdin is not None
    until, sent = time.monotonic() + HANGS_S, 0
    while not (out / "masks" / "00002.png").exists():
        assert run.poll() is None and time.monotonic() < until
        run.stdin.write(images[sent % 8].tobytes())
        run.stdin.flush()
        sent += 1
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    stop = time.monotonic() + HANGS_S
    while run.poll() is None and time.monotonic() < stop:
        try:
            run.stdin.write(images[0].tobytes())
            run.stdin.flush()
        except BrokenPipeError:
            break
        time.sleep(0.05)
    code = run.wait(HANGS_S)
    assert run.stderr is not None and run.stdout is not None
    said = run.stderr.read().decode()
    run.stdout.close()
    run.stderr.close()
    with suppress(BrokenPipeError):
        run.stdin.close()
    assert code == 130 and "what came until then is in" in said
    track = carvid.Track.open(out)
    assert len(track) >= 3 and track.facts.video.live
    assert frames_in(out / "overlay.mp4") == len(track)


def test_a_y4m_pipe_gives_what_the_file_gives(model: Carvid, tmp_path: Path) -> None:
    path, pipe = MAKERS["y4m"](tmp_path), tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    writer = subprocess.Popen(["cat", path], stdout=end)
    try:
        with open_video(pipe) as reader:
            assert reader.info.live and reader.info.frame_rate == RATE
            frames = reader.frames()
            read = [next(frames) for _ in range(12)]
            with pytest.raises(VideoError, match="only once"):
                next(reader.frames())
    finally:
        writer.wait()
        os.close(end)
    for frame, wanted in zip(read, open_video(path), strict=True):
        assert (frame.image == wanted.image).all()


def test_a_camera_that_is_not_there_is_one_line() -> None:
    for source in ("camera:97", "camera:x", "http://127.0.0.1:9/a.mp4"):
        with pytest.raises(VideoError, match=f"cannot open '{source}': .*see that it is there"):
            open_video(source)
