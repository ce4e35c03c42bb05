"""The app without a server: jobs, sessions, pictures, and who is let in."""

from __future__ import annotations

import asyncio
import io
import json
import random
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import carvid
from carvid.app.clicks import corrections_from
from carvid.app.clips import FrameSource, read_clip
from carvid.app.desk import Desk
from carvid.app.doorkeeper import Doorkeeper
from carvid.app.exporting import CHOICES
from carvid.app.jobs import Job, Worker, run_beside
from carvid.app.limits import Limits
from carvid.app.models import Models
from carvid.app.pictures import Masks, draw, to_jpeg
from carvid.app.project import new_folder
from carvid.app.session import Session
from carvid.app.sessions import GRACE_S, Sessions
from carvid.app.things import Thing, Things, color_from, hex_of
from carvid.app.view import view_of
from carvid.base.errors import CarvidError, ConfigError, ExpressionError, VideoError
from carvid.base.interrupt import until_stopped
from carvid.config import OverlayConfig
from carvid.demo.example import TEXT, example_folder
from carvid.exports.export import FORMATS
from carvid.media.encode import VideoWriter
from carvid.media.open import Selection, open_video
from carvid.run.track import Track
from carvid.show.overlay import draw_overlay
from tests.conftest import carvid as command
from tests.conftest import make_frames

PART = Selection(stride=6)
"""Of the example: 8 frames."""
PLAIN = OverlayConfig(opacity=1.0, outline=False, halo=False, labels=False)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "work", limits=Limits(idle_s=60), models=Models("tiny"))
    desk.root.mkdir()
    yield desk
    assert desk.worker.close(20)


@pytest.fixture
def session(desk: Desk) -> Iterator[Session]:
    session = Session(desk)
    yield session
    session.close()


def finished(job: Job, state: str = "done") -> Job:
    assert job.wait(60)
    assert job.state == state, job.error
    return job


def opened(session: Session) -> Session:
    """With the first frames of the example."""
    finished(session.open_example())
    finished(session.open_part(PART))
    return session


def found(session: Session, *texts: str) -> Session:
    opened(session)
    for text in texts:
        session.change("add", value=text)
    finished(session.find())
    return session


# Things


def test_things_have_names_and_colours_of_their_own() -> None:
    things = Things(most=3)
    first, second = things.add(" the white\ndog "), things.add("a cat")
    assert (first.text, first.name) == ("the white dog", "the white dog")
    assert first.color != second.color
    things.rename(0, "Rex")
    things.paint(0, "#0a0B0c")
    assert things.all[0] == Thing("the white dog", "Rex", (10, 11, 12))
    assert hex_of((10, 11, 12)) == "#0a0b0c" and color_from("#0a0b0c") == (10, 11, 12)
    things.set(["a cat", "the white dog"])
    assert [each.name for each in things.all] == ["a cat", "Rex"]
    things.asked(["the white dog"])
    assert [each.label for each in things.all] == [0, 1]
    things.remove(1)
    assert things.texts == ["a cat"]


def test_several_things_of_one_kind_have_each_a_place() -> None:
    things = Things(most=9)
    things.set(["a dog", "a cat"])
    things.asked(["a dog 1", "a dog 2", "a cat"], ["a dog", "a dog", "a cat"])
    assert [(each.name, each.label) for each in things.all] == [
        ("a dog 1", 1), ("a dog 2", 2), ("a cat", 3)
    ]  # fmt: skip
    assert things.texts == ["a dog", "a cat"] and len({each.color for each in things.all}) == 3
    things.rename(1, "Rex")
    things.asked(["a dog 1", "a dog 2", "a cat"], ["a dog", "a dog", "a cat"])
    assert [each.name for each in things.all] == ["a dog 1", "Rex", "a cat"]
    things.asked(["a dog", "a cat"])
    assert [(each.name, each.label) for each in things.all] == [("a dog", 1), ("a cat", 2)]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda things: things.add("a cat"),
        lambda things: things.add("  "),
        lambda things: things.add("x" * 301),
        lambda things: [things.add("b"), things.add("c")],
        lambda things: things.rename(0, ""),
        lambda things: things.rename(1, "a"),
        lambda things: [things.add("b"), things.rename(1, "a cat")],
        lambda things: things.paint(0, "red"),
        lambda things: things.paint(0, "#12345"),
        lambda things: things.remove(-1),
        lambda things: things.set(["d", "d"]),
        lambda things: things.set(["d", ""]),
    ],
)
def test_what_no_list_of_things_can_be_is_refused(wrong: Callable[[Things], object]) -> None:
    things = Things(most=2)
    things.add("a cat")
    with pytest.raises(ConfigError):
        wrong(things)
    assert things.texts[0] == "a cat" and things.all[0].name == "a cat"


# Jobs


def test_a_worker_does_one_job_after_the_other_and_survives_all() -> None:
    worker, order, running = Worker(), [], threading.Event()
    first_may_end = threading.Event()

    def first(job: Job) -> None:
        running.set()
        assert first_may_end.wait(20)
        order.append("first")

    jobs = [
        Job("first", first),
        Job("second", lambda job: 1 / 0),
        Job("third", lambda job: list(until_stopped(range(5))), total=5),
    ]
    for job in jobs:
        worker.submit(job)
    assert running.wait(20)
    assert [worker.ahead_of(job) for job in jobs] == [0, 1, 2]
    first_may_end.set()
    finished(jobs[2])
    assert order == ["first"] and jobs[2].result == [0, 1, 2, 3, 4]
    assert jobs[2].frames == 5 and jobs[2].to_json()["finishing"]
    assert jobs[1].state == "failed" and "ZeroDivisionError" in str(jobs[1].error)
    assert worker.close(20)
    with pytest.raises(CarvidError, match="ending"):
        worker.submit(Job("late", print))


def test_a_job_that_is_cancelled_stops_after_the_frame_at_hand() -> None:
    seen: list[int] = []

    def work(job: Job) -> None:
        for frame in until_stopped(range(10)):
            seen.append(frame)
            if frame == 2:
                job.cancel()

    job = Job("ten frames", work)
    run_beside(job)
    finished(job, "cancelled")
    assert seen == [0, 1, 2]
    waiting = Job("not begun", lambda job: seen.append(99))
    waiting.cancel()
    waiting.run()
    assert waiting.state == "cancelled" and 99 not in seen


def test_a_full_memory_is_told_as_such() -> None:
    def work(job: Job) -> None:
        raise MemoryError

    job = Job("too large", work)
    job.run()
    assert job.state == "failed" and "not enough memory" in str(job.error)


# Clips and pictures


@pytest.mark.parametrize("kind", ["mp4", "folder"])
def test_single_frames_are_those_that_come_from_front_to_back(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "clip.mp4"
    if kind == "mp4":
        with VideoWriter(path, (34, 48), Fraction(30000, 1001)) as writer:
            for picture in make_frames(40):
                writer.write(picture)
    else:
        path = tmp_path / "frames"
        path.mkdir()
        for index, picture in enumerate(make_frames(20)):
            Image.fromarray(picture).save(path / f"{index}.png")
    clip = read_clip(path, selection=Selection(start_s=0.1, stride=2))
    with open_video(path, selection=clip.selection) as reader:
        images = [frame.image for frame in reader]
    assert len(clip) == len(images) > 5
    source, order = FrameSource(clip), [*range(len(clip))] * 2
    random.Random(1).shuffle(order)
    for index in order:
        assert (source.image(index) == images[index]).all(), index
    for wrong in (-1, len(clip)):
        with pytest.raises(VideoError, match="not"):
            source.image(wrong)
    source.close()
    with pytest.raises(VideoError, match="load the page again"):
        source.image(0)


def test_frames_are_asked_for_by_many_threads(clip: Path) -> None:
    source, wrong = FrameSource(read_clip(clip)), []
    with open_video(clip) as reader:
        images = [frame.image for frame in reader]

    def ask(seed: int) -> None:
        for index in random.Random(seed).choices(range(6), k=30):
            if not (source.image(index) == images[index]).all():
                wrong.append(index)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    source.close()


def test_an_upload_is_bounded_and_what_is_on_the_disk_is_not(clip: Path) -> None:
    assert len(read_clip(clip, limits=Limits(frames=6))) == 6
    with pytest.raises(VideoError, match="more than 5 frames"):
        read_clip(clip, limits=Limits(frames=5))
    with pytest.raises(VideoError, match=r"longer than 0\.1 s"):
        read_clip(clip, limits=Limits(seconds=0.1))
    for live in ("-", "rtsp://example.org/a", "camera:0"):
        with pytest.raises(VideoError, match="only once"):
            read_clip(Path(live) if ":" not in live else live)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="frames"):
        Limits(frames=0)


def test_only_chosen_things_are_drawn_in_their_own_colours() -> None:
    image = make_frames(1)[0]
    labels = np.zeros(image.shape[:2], np.uint8)
    labels[:10], labels[20:] = 1, 2
    other = Thing("b", "b", (9, 200, 30), label=2)
    made = draw(image, Masks(labels, [other]), PLAIN)
    assert (made[20:] == other.color).all() and (made[:20] == image[:20]).all()
    assert (draw(image, None, PLAIN) == image).all()
    small = draw(image[::2, ::2], Masks(labels, [other]), PLAIN)  # masks of another size
    assert (small[12:] == other.color).all()
    assert Image.open(io.BytesIO(to_jpeg(made))).size == (48, 34)


def test_an_overlay_without_chosen_colours_has_those_of_the_palette() -> None:
    image, labels = make_frames(1)[0], np.ones((34, 48), np.uint8)
    usual = draw_overlay(image, labels, ["a"], OverlayConfig())
    same = draw_overlay(image, labels, ["a"], OverlayConfig(), colors=[(255, 94, 58)])
    other = draw_overlay(image, labels, ["a"], OverlayConfig(), colors=[(1, 2, 3)])
    assert (usual == same).all() and (usual != other).any()
    legend = OverlayConfig(legend="on")
    drawn = draw_overlay(image, labels, ["a"], legend, colors=[(1, 2, 3)])
    assert (drawn[:, 48:] == (1, 2, 3)).all(axis=-1).any()


def test_folders_are_called_as_clips_and_stay_where_they_belong(tmp_path: Path) -> None:
    assert new_folder(tmp_path, "my clip.mp4").name == "my-clip"
    assert new_folder(tmp_path, "my clip.mov").name == "my-clip-2"
    for name in ("../../x.mp4", "..", "", "ä/b\\c\0d.mp4", ".hidden", "x" * 300):
        folder = new_folder(tmp_path, name)
        assert folder.parent == tmp_path and folder.is_dir() and not folder.name.startswith(".")


# A session


def test_a_session_finds_shows_corrects_and_exports(session: Session) -> None:
    found(session, TEXT, "a zebra crossing")
    project = session.project
    assert project is not None and project.track is not None
    track = carvid.Track.open(project.run)  # as the command line sees it
    assert list(track.texts) == [TEXT, "a zebra crossing"] and len(track) == 8
    view = view_of(session)
    json.dumps(view)
    assert [thing["found"] for thing in view["things"]] == [
        each["frames_found"] for each in track.summary()["expressions"]
    ]
    assert view["run"]["spans"][0] == [[0, 8]]
    plain, masked, hidden, other = (
        session.picture(3, source=source, places=places)
        for source, places in (("plain", None), ("run", None), ("run", []), ("run", [1]))
    )
    assert hidden == plain and len({plain, masked, other}) == 3
    session.change("paint", 0, "#0000ff")
    assert session.picture(3) != masked
    command("view", project.run, "--no-show")
    assert (project.run / "view.html").is_file()


def test_a_picture_has_the_masks_of_its_frame(session: Session) -> None:
    found(session, TEXT)
    session.change("paint", 0, "#0000ff")
    project = session.project
    assert project is not None and project.track is not None
    clip = project.clip
    with open_video(clip.path, selection=clip.selection) as reader:
        images = [frame.image.astype(int) for frame in reader]
    for index in (5, 2, 7):
        plain, drawn = (
            np.array(Image.open(io.BytesIO(session.picture(index, source=source, names=False))))
            for source in ("plain", "run")
        )
        assert abs(plain - images[index]).mean() < 4, index
        changed = abs(drawn.astype(int) - plain).max(axis=2) > 40
        mask = project.track.masks[index][0]
        assert (changed & mask).sum() / (changed | mask).sum() > 0.7, index


def test_names_are_in_exports_and_the_run_says_what_was_asked(session: Session) -> None:
    found(session, TEXT)
    session.change("rename", 0, "Rex")
    project = session.project
    assert project is not None
    coco = json.loads(Path(finished(session.export("coco")).result).read_text())
    assert [each["name"] for each in coco["categories"]] == ["Rex"]
    with zipfile.ZipFile(finished(session.export("masks")).result) as archive:
        assert b",Rex," in archive.read("scores.csv")
        assert len([name for name in archive.namelist() if name.startswith("masks/")]) == 8
    run = json.loads((project.run / "run.json").read_text())
    assert run["texts"] == [TEXT]
    assert json.loads((project.folder / "names.json").read_text())[0]["name"] == "Rex"
    assert TEXT in (project.run / "scores.csv").read_text()
    assert set(view_of(session)["exports"][0]) == {"name", "bytes", "url"}
    session.change("rename", 0, "Max")  # what was exported has the old name
    assert not session.exports


def test_every_form_can_be_exported(session: Session) -> None:
    assert {*FORMATS} <= {*CHOICES}
    found(session, TEXT)
    for name in CHOICES:
        path = Path(finished(session.export(name)).result)
        assert path.stat().st_size > 100, name
        assert session.project is not None and path.is_relative_to(session.project.folder)
    with open_video(session.exports["overlay.mp4"]) as reader:
        assert len(list(reader)) == 8
    job = finished(session.export("nothing"), "failed")
    assert "unknown export" in str(job.error)


def test_an_exported_video_has_chosen_colours(session: Session) -> None:
    found(session, TEXT)
    usual = Path(finished(session.export("overlay")).result)
    with open_video(usual) as reader:
        before = next(iter(reader)).image.astype(int)
    session.change("paint", 0, "#0000ff")
    with open_video(finished(session.export("overlay")).result) as reader:
        after = next(iter(reader)).image.astype(int)
    assert session.project is not None and session.project.track is not None
    inside = session.project.track.masks[0][0]
    assert (after - before)[inside][:, 2].mean() > 40 and abs(after - before)[~inside].mean() < 8


def test_a_run_that_is_cancelled_goes_on(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(session)
    session.change("add", value=TEXT)
    stop = Job.stop

    def after_three(job: Job) -> bool:
        return stop(job) or job.frames >= 7

    with monkeypatch.context() as patch:
        patch.setattr(Job, "stop", after_three)
        job = finished(session.find(), "cancelled")
    assert job.frames < 8 and view_of(session)["message"][0] == "done"
    assert session.project is not None and session.project.track is None
    view = view_of(session)
    assert view["going"] > 0 and view["run"] is None and view["things"][0]["found"] is None
    assert session.picture(0) != session.picture(0, source="plain")  # what is there is seen
    again = finished(session.find())
    assert again.frames < 8 + 8 and again.result["frames"] == 8
    assert session.project.track is not None


def test_one_job_at_a_time_and_others_are_told(session: Session) -> None:
    opened(session)
    session.change("add", value=TEXT)
    may_end = threading.Event()
    session.desk.worker.submit(Job("somebody else's", lambda job: may_end.wait(20)))
    job = session.find()
    view = view_of(session)
    assert view["job"]["state"] == "waiting" and view["job"]["ahead"] == 1
    for refused in (session.find, session.open_example, session.prepare):
        with pytest.raises(ConfigError, match="wait until this is done"):
            refused()
    assert len(session.picture(2)) > 500  # scrubbing goes on
    session.cancel()
    may_end.set()
    finished(job, "cancelled")


def test_what_cannot_be_done_yet_is_told(session: Session, tmp_path: Path) -> None:
    for early, words in (
        (session.find, "open a clip first"),
        (session.prepare, "open a clip first"),
        (lambda: session.picture(0), "open a clip first"),
    ):
        with pytest.raises(ConfigError, match=words):
            early()
    opened(session)
    for early, words in (
        (session.find, "say what to find"),
        (session.ask, "say what to find"),
        (lambda: session.export("coco"), "find something first"),
        (lambda: session.correct([object()]), "find something first"),
        (lambda: session.picture(8), "frames 0 to 7"),
        (lambda: session.change("nonsense"), "unknown change"),
    ):
        with pytest.raises(CarvidError, match=words):
            early()
    session.change("add", value=TEXT)
    with pytest.raises(ConfigError, match="quick answers"):
        session.find(from_index=True)
    for theta in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="θ"):
            session.find(theta=theta)


def test_a_clip_that_cannot_be_read_is_told_and_nothing_is_left(
    session: Session, tmp_path: Path
) -> None:
    opened(session)
    before = sorted(session.desk.root.iterdir())
    bad = tmp_path / "holiday.mp4"
    bad.write_bytes(b"this is no video at all" * 100)
    finished(session.open_upload(bad, "my holiday.mp4"), "failed")
    kind, text = view_of(session)["message"]
    assert kind == "error" and "my holiday.mp4" in text and str(session.desk.root) not in text
    assert "\n" not in text
    assert sorted(session.desk.root.iterdir()) == before
    assert len(session.picture(2)) > 500  # the other one is still there
    finished(session.open_path(str(tmp_path / "nowhere.mp4")), "failed")
    assert "nowhere.mp4" in view_of(session)["message"][1]


def test_a_text_that_is_too_long_for_the_model_is_told(session: Session) -> None:
    opened(session)
    session.change("add", value="dog " * 74)
    finished(session.find(), "failed")
    assert view_of(session)["message"][0] == "error"
    session.change("remove", 0)
    session.change("add", value=TEXT)
    finished(session.find())


def test_weights_that_are_not_at_hand_are_told(tmp_path: Path, clip: Path) -> None:
    desk = Desk(tmp_path / "work", models=Models("default", weights={"generator": "no/such"}))
    desk.root.mkdir()
    session = Session(desk)
    finished(session.open_path(str(clip)))
    session.change("add", value=TEXT)
    finished(session.find(), "failed")
    kind, text = view_of(session)["message"]
    assert kind == "error" and "no/such" in text and "\n" not in text
    finished(session.open_example())  # has the embedded model, which needs none
    finished(session.open_part(PART))
    finished(session.find())
    session.close()
    desk.worker.close(5)


def test_a_server_in_public_opens_no_paths(tmp_path: Path, clip: Path) -> None:
    desk = Desk(tmp_path, limits=Limits(from_disk=False), models=Models("tiny"))
    session = Session(desk)
    with pytest.raises(ConfigError, match="upload the clip"):
        session.open_path(str(clip))
    desk.worker.close(5)


# Quick answers


@pytest.mark.parametrize("texts", [[TEXT], [TEXT, "a cat"]])
def test_theta_is_chosen_afterwards_as_if_it_had_been_asked_for(
    session: Session, texts: list[str]
) -> None:
    opened(session)
    for text in texts:
        session.change("add", value=text)
    finished(session.prepare())
    project = session.project
    assert project is not None and project.quick is not None
    quick = project.quick
    lowest = float(quick.answer.scores.min())
    for theta in (0.0, lowest - 1e-4, lowest + 1e-4, 0.5, 0.9999):
        model = session.desk.models.get(example=True, theta=theta)
        asked = model.open_index(project.folder / "clip.idx").ask(texts)
        if len(texts) == 1:  # of several one that drops out changes the others a little
            assert (asked.kept == quick.there(theta)).all(), theta
            for frame in range(8):
                assert ((quick.labels(frame, theta) == 1) == asked.masks(frame)[0]).all()
    assert not quick.labels(0, 1.0).any()
    few, many = (
        sum((quick.labels(frame, theta) > 0).sum() for frame in range(8)) for theta in (0.9999, 0.0)
    )
    assert few <= many > 0
    assert quick.spans(0.0)[0]["spans"] == [[0, 8]] and quick.spans(1.0)[0]["spans"] == []
    view = view_of(session)
    assert view["prepared"] and len(view["quick"]["scores"]) == len(texts)
    assert view["things"][0]["row"] == 0
    assert session.picture(3, source="quick", theta=0.0) != session.picture(3, source="plain")
    assert session.picture(3, source="quick", theta=1.0) != session.picture(
        3, source="quick", theta=0.0
    )


def test_a_run_from_the_index_has_the_theta_of_the_slider(session: Session) -> None:
    opened(session)
    session.change("add", value=TEXT)
    finished(session.prepare())
    finished(session.find(theta=0.2, from_index=True))
    assert session.project is not None
    run = json.loads((session.project.run / "run.json").read_text())
    assert run["quick"] is True and run["config"]["car"]["theta"] == 0.2
    session.change("add", value="a cat")
    finished(session.ask())
    assert session.project.quick is not None
    assert session.project.quick.texts == (TEXT, "a cat")


# Corrections


def test_corrections_are_read_and_what_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(carvid, "Correction", lambda **fields: made.append(fields), raising=False)
    corrections_from(
        [
            {"frame": 3, "label": 1, "wanted": True, "point": [4, 5]},
            {"frame": 3, "label": 2, "box": [1, 2, 3, 4]},
        ]
    )
    assert made == [
        {"frame": 3, "label": 1, "wanted": True, "point": (4.0, 5.0)},
        {"frame": 3, "label": 2, "box": (1.0, 2.0, 3.0, 4.0)},
    ]
    for wrong in (
        [{"frame": 3, "label": 1}],
        [{"frame": "x", "label": 1, "point": [1, 2], "wanted": True}],
        [{"frame": 1, "label": 1, "point": [1], "wanted": True}],
        [{"frame": 1, "label": 1, "point": [1, float("nan")], "wanted": True}],
        ["nonsense"],
        "nonsense",
        [{}] * 201,
    ):
        with pytest.raises(ConfigError, match="correction"):
            corrections_from(wrong)  # type: ignore[arg-type]


def test_a_correction_changes_what_is_seen(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for `Carvid.correct` that empties the masks of a thing and says so."""

    def correct(
        model: Any, run: Path, corrections: list[Any], *, keep: int | None = None, **more: Any
    ) -> Track:
        assert more["stop"]() is False
        values = json.loads((run / "run.json").read_text())
        kept = values.get("corrections", [])[: 99 if keep is None else keep]
        kept += [
            {"frame": each.frame, "expression": each.label, "point": [*each.point], "answer": "no"}
            for each in corrections
        ]
        (run / "run.json").write_text(json.dumps(values | {"corrections": kept}))
        for path in (run / "masks").iterdir():
            Image.fromarray(np.zeros((360, 640), np.uint8)).save(path)
        return Track.open(run)

    found(session, TEXT)
    before = session.picture(3)
    monkeypatch.setattr("carvid.pipeline.Carvid.correct", correct, raising=False)
    click = SimpleNamespace(frame=3, label=1, point=(1, 2), wanted=False)
    finished(session.correct([click]))
    assert session.picture(3) != before
    assert view_of(session)["corrections"] == [
        {"frame": 3, "label": 1, "point": [1, 2], "wanted": False}
    ]
    finished(session.correct([], keep=0))
    assert view_of(session)["corrections"] == []
    with pytest.raises(ConfigError, match="click"):
        session.correct([])


# Sessions


def test_a_window_that_is_loaded_anew_has_its_session_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(desk)
    first = sessions.of("window 1")
    assert sessions.of("window 1") is first and sessions.of("window 2") is not first
    sessions.leave("window 1")
    assert sessions.attach("window 3", first.token) is first
    assert sessions.attach("window 4", "a guess") is not first
    assert sessions.by_token(first.token) is first and sessions.by_token("") is None
    assert len({each.token for each in map(sessions.of, "abc")}) == 3
    job = Job("long", lambda job: None)
    first.job = job
    sessions.leave("window 1")
    sessions.leave("window 3")
    monkeypatch.setattr("time.monotonic", lambda now=time.monotonic: now() + 30)
    sessions.tidy()
    assert not job.cancelling
    monkeypatch.setattr("time.monotonic", lambda now=time.monotonic: now() + GRACE_S)
    sessions.tidy()
    assert job.cancelling
    sessions.close()
    assert len(sessions) == 0


def test_idle_sessions_and_their_folders_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = tmp_path / "uploads"
    (uploads / "old").mkdir(parents=True)
    desk = Desk(tmp_path / "work", keep=False, limits=Limits(idle_s=50), models=Models("tiny"))
    desk.root.mkdir()
    sessions = Sessions(desk, uploads)
    session = opened(sessions.of("a"))
    folder = session.project.folder if session.project else None
    assert [each for each in desk.root.iterdir()] == [folder]  # the part before it is gone
    sessions.tidy()
    assert sessions.of("a") is session and (uploads / "old").is_dir()
    for name in ("time.monotonic", "time.time"):
        clock = getattr(time, name.split(".")[1])
        monkeypatch.setattr(name, lambda clock=clock: clock() + 100)
    sessions.tidy()
    assert len(sessions) == 0 and not list(desk.root.iterdir()) and not list(uploads.iterdir())
    sessions.close()
    desk.worker.close(5)


def test_windows_are_bounded(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limits=Limits(sessions=2), models=Models("tiny"))
    sessions = Sessions(desk)
    first, second = sessions.of("a"), sessions.of("b")
    sessions.of("a")
    third = sessions.of("c")
    assert len(sessions) == 2
    assert sessions.by_token(second.token) is None
    assert sessions.by_token(first.token) is first and sessions.by_token(third.token) is third
    sessions.close()
    desk.worker.close(5)


# Who is let in


def asked(headers: dict[str, str], path: str = "/", method: str = "POST") -> int:
    """The status that a server on loopback answers with."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "path": path, "method": method,
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    asyncio.run(Doorkeeper(app)(scope, None, send))  # type: ignore[arg-type]
    if sent[0]["status"] == 200:
        assert b"default-src 'self'" in dict(sent[0]["headers"])[b"content-security-policy"]
    return int(sent[0]["status"])


def test_only_the_page_itself_is_let_in() -> None:
    own = {"host": "127.0.0.1:7860"}
    assert asked(own) == 200
    assert asked({**own, "origin": "http://127.0.0.1:7860"}) == 200
    assert asked({"host": "localhost:80"}) == 200 and asked({"host": "[::1]:7860"}) == 200
    for wrong in (
        {"host": "evil.example:7860"},
        {},
        {"host": "["},
        {**own, "origin": "http://evil.example"},
        {**own, "origin": "http://127.0.0.1:9999"},
        {**own, "origin": "null"},
        {**own, "sec-fetch-site": "cross-site"},
    ):
        assert asked(wrong) == 403, wrong
    for path in ("/gradio_api/file=http://evil.example/a", "/gradio_api/proxy=http://evil.example"):
        assert asked(own, path, "GET") == 403


def test_texts_of_strangers_are_no_formulas(session: Session) -> None:
    found(session, TEXT)
    session.change("rename", 0, "=1+1")
    with zipfile.ZipFile(finished(session.export("masks")).result) as archive:
        assert b",'=1+1," in archive.read("scores.csv")
    with pytest.raises(ExpressionError):
        session.change("rename", 0, "\n")


def test_the_example_is_there() -> None:
    assert (example_folder() / "dog-jumping.mp4").is_file()
