"""Runs that are corrected: in their folder and in memory, once and again, interrupted, undone."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import carvid
from carvid.base.errors import CarvidError, ConfigError, OutputError, VideoError
from carvid.base.interrupt import Stopped
from carvid.car.proposals import ProposalGenerator
from carvid.corrections import write as writing
from carvid.exports.export import export
from carvid.media.encode import VideoWriter
from carvid.media.open import Selection
from carvid.pipeline import Carvid
from carvid.run.corrections import Correction
from carvid.run.layout import UNCORRECTED
from carvid.run.track import MemoryStore
from tests.conftest import HEIGHT, WIDTH, Finished, make_frames
from tests.conftest import carvid as command
from tests.signalled import with_signal
from tests.test_pipeline import FAST, TEXTS, files

SETTINGS = [*FAST, "temporal.key_every=2"]
SAID = (Correction(3, 2, point=(13, 13)), Correction(1, 1, point=(40, 30)))
"""Random networks take the square for the dog: it is the cat, and the dog is elsewhere."""
FRAMES = 6


@pytest.fixture(scope="module")
def model(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", SETTINGS, **weights)


@dataclass(frozen=True)
class Made:
    """A clip of 6 frames, its run, and the run with both corrections."""

    clip: Path
    plain: Path
    corrected: Path


@pytest.fixture(scope="module")
def made(model: Carvid, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("runs")
    with VideoWriter(root / "clip.mp4", (HEIGHT, WIDTH), Fraction(25)) as writer:
        for frame in make_frames(FRAMES):
            writer.write(frame)
    model.segment(root / "clip.mp4", TEXTS, out=root / "plain")
    shutil.copytree(root / "plain", root / "corrected")
    model.correct(root / "corrected", SAID)
    return Made(root / "clip.mp4", root / "plain", root / "corrected")


@pytest.fixture
def run(made: Made, tmp_path: Path) -> Path:
    """A copy of the run as it was."""
    return Path(shutil.copytree(made.plain, tmp_path / "run"))


@pytest.fixture
def again(made: Made, tmp_path: Path) -> Path:
    """A copy of the corrected run."""
    return Path(shutil.copytree(made.corrected, tmp_path / "again"))


def everything(folder: Path) -> dict[str, bytes]:
    """Every file of a run; of a run.json all but the timing."""
    found = {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
    for name in [name for name in found if name.endswith("run.json")]:
        values = json.loads(found[name])
        values.pop("timing")
        found[name] = json.dumps(values).encode()
    return found


def assert_same(folder: Path, wanted: Path) -> None:
    one, other = everything(folder), everything(wanted)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


# What a corrected run is


def test_a_run_is_corrected_in_its_folder(made: Made) -> None:
    plain, corrected = everything(made.plain), everything(made.corrected)
    kept = {name for name in plain if not name.startswith("overlay")}
    assert corrected.keys() == plain.keys() | {f"{UNCORRECTED}/{name}" for name in kept}
    assert {name: corrected[f"{UNCORRECTED}/{name}"] for name in kept} == {
        name: plain[name] for name in kept
    }
    assert corrected["overlay.mp4"] != plain["overlay.mp4"]
    track, before = carvid.Track.open(made.corrected), carvid.Track.open(made.plain)
    assert track.facts.corrections == SAID and before.facts.corrections == ()
    assert (track.scores == before.scores).all() and (track.times_s == before.times_s).all()
    for said in SAID:
        x, y = map(int, said.point or ())
        assert track.label_maps[said.frame][y, x] == said.label
        assert before.label_maps[said.frame][y, x] != said.label
    areas = [int(row.rsplit(",", 1)[1]) for row in corrected["scores.csv"].decode().split()[2:]
             if row[-1].isdigit()]  # fmt: skip
    assert areas == [int(mask.sum()) for masks in track.masks for mask in masks]


@pytest.mark.parametrize("key_every", [1, 2])
def test_what_is_said_of_a_frame_holds_in_it(
    made: Made, weights: dict[str, str], key_every: int
) -> None:
    """Whatever else is said of it, and of others."""
    model = carvid.load("default", [*FAST, f"temporal.key_every={key_every}"], **weights)
    track = model.segment(made.clip, TEXTS)
    chance = np.random.default_rng(8)
    said: list[Correction] = []
    for turn in range(12):
        frame, label = int(chance.integers(2, 4)), int(chance.integers(1, 3))
        left, top = int(chance.integers(WIDTH - 9)), int(chance.integers(HEIGHT - 9))
        corners = [(left, top), (left + 9, top + 9), (WIDTH - 1, top), (left, HEIGHT - 1)]
        point, wanted = corners[turn % 4], bool(chance.integers(2))
        each = Correction(frame, label, wanted, point)
        if turn % 4 == 3:
            each = Correction(frame, label, box=(left, top, left + 9, top + 9))
        said.append(each)
        track = model.correct(track, said[-1:])
    points = [each for each in said if each.point is not None]
    assert {each.wanted for each in points} == {True, False}
    for each in points:
        x, y = map(int, each.point or ())
        assert track.masks[each.frame][each.label - 1, y, x] == each.wanted, each


@pytest.mark.filterwarnings("error")
def test_a_mask_that_leaves_no_ground(model: Carvid) -> None:
    """Nothing tells how the camera moves then."""
    frames = make_frames(4)
    track = model.segment(frames, ["a dog"])
    whole = np.ones((1, HEIGHT, WIDTH), bool)
    whole[:, :, -9:] = False
    store = MemoryStore(track.facts)
    for index in range(4):
        store.add(replace(track.result(index), masks=whole, maps=whole.astype(np.float32)))
    for index in range(4):
        corrected = model.correct(
            store.track(), [Correction(index, 1, point=(WIDTH - 4, 17))], frames=list(frames)
        )
        assert corrected.masks[index][0, 17, WIDTH - 4]


def test_a_run_that_is_corrected_at_once(model: Carvid, made: Made, tmp_path: Path) -> None:
    track = model.segment(made.clip, TEXTS, out=tmp_path / "run", corrections=SAID)
    assert_same(tmp_path / "run", made.corrected)
    assert track.facts.corrections == SAID
    for options in ({}, {"resume": True}):  # a plain one
        with pytest.raises(OutputError, match=r"there were 2 corrections, there are 0|already"):
            model.segment(made.clip, TEXTS, out=tmp_path / "run", **options)
    assert_same(tmp_path / "run", made.corrected)
    model.segment(made.clip, TEXTS, out=tmp_path / "run", overwrite=True)
    assert_same(tmp_path / "run", made.plain)


def test_one_after_the_other_is_both_at_once(model: Carvid, made: Made, run: Path) -> None:
    for said in SAID:
        track = model.correct(run, [said])
    assert_same(run, made.corrected)
    assert track.facts.corrections == SAID
    model.correct(run, SAID[1:])  # said once more
    model.correct(run, SAID)
    model.correct(run)
    assert_same(run, made.corrected)


def test_corrections_are_undone(model: Carvid, made: Made, again: Path, tmp_path: Path) -> None:
    model.correct(again, keep=5)
    assert_same(again, made.corrected)
    model.correct(again, keep=1)
    first = tmp_path / "first"
    shutil.copytree(made.plain, first)
    model.correct(first, SAID[:1])
    assert_same(again, first)
    model.correct(again, SAID[1:], keep=0)
    model.correct(again, SAID, keep=0)
    assert_same(again, made.corrected)
    model.correct(again, keep=0)
    assert_same(again, made.plain)
    model.correct(again, keep=0)
    assert_same(again, made.plain)


def test_a_run_goes_on_from_what_it_was(
    model: Carvid, made: Made, again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of frames that are corrected alone something is asked."""
    calls: list[int] = []
    encode = ProposalGenerator.encode

    def counted(self: ProposalGenerator, *arguments: Any, **more: Any) -> Any:
        calls.append(1)
        return encode(self, *arguments, **more)

    monkeypatch.setattr(ProposalGenerator, "encode", counted)
    model.segment(made.clip, TEXTS, out=again, corrections=SAID, resume=True)
    assert not calls
    model.segment(made.clip, TEXTS, out=again, corrections=SAID[:1], resume=True)
    assert len(calls) == 1
    model.segment(made.clip, TEXTS, out=again, corrections=SAID, resume=True)
    assert len(calls) == 3
    assert_same(again, made.corrected)
    with pytest.raises(OutputError, match="expression 1 was 'a dog', is 'a ball'"):
        model.segment(made.clip, ["a ball"], out=again, corrections=SAID[1:], resume=True)
    with pytest.raises(OutputError, match=r"holds a run already|there were 2 corrections"):
        model.segment(made.clip, TEXTS, out=again, corrections=SAID)
    assert_same(again, made.corrected)
    model.segment(
        made.clip, ["a ball"], out=again, corrections=SAID[1:], resume=True, overwrite=True
    )
    assert carvid.Track.open(again).texts == ("a ball",)
    model.segment(made.clip, TEXTS, out=again, corrections=SAID, overwrite=True)
    assert_same(again, made.corrected)


def test_exports_of_a_corrected_run(model: Carvid, made: Made, run: Path, tmp_path: Path) -> None:
    export(carvid.Track.open(run), run, ["green", "cutouts"])
    model.correct(run, SAID, formats=["coco"])
    names = {path.name for path in run.iterdir()}
    assert names == {"run.json", "scores.csv", "masks", "overlay.mp4", "coco.json", UNCORRECTED}
    export(carvid.Track.open(run), run, ["cutouts"])
    values = json.loads((run / "coco.json").read_text())
    assert sum(each["area"] for each in values["annotations"]) == sum(
        int((labels > 0).sum()) for labels in carvid.Track.open(run).label_maps
    )
    carvid.Track.open(run).save(tmp_path / "saved")
    assert files(tmp_path / "saved") == {
        name: content for name, content in files(made.corrected).items()
        if not name.startswith(UNCORRECTED)
    }  # fmt: skip


def test_masks_that_keep_names(model: Carvid, tmp_path: Path) -> None:
    """Those in folders, too."""
    (tmp_path / "clip" / "b").mkdir(parents=True)
    for index, frame in enumerate(make_frames(4)):
        Image.fromarray(frame).save(tmp_path / "clip" / "b" / f"{index}é.png")
    clip, options = f"{tmp_path}/clip/**/*.png", {"out": tmp_path / "run", "keep_names": True}
    model.segment(clip, TEXTS, **options)
    whole = everything(tmp_path / "run")
    names = carvid.Track.open(tmp_path / "run").facts.video.names
    assert len(names) == 4 and names[0].endswith("0é.png")
    model.correct(tmp_path / "run", SAID)
    corrected = everything(tmp_path / "run")
    for name in names:
        assert f"masks/{name}" in corrected and f"{UNCORRECTED}/masks/{name}" in corrected
    model.segment(clip, TEXTS, **options, corrections=SAID, overwrite=True)
    assert everything(tmp_path / "run") == corrected
    model.correct(tmp_path / "run", keep=0)
    assert everything(tmp_path / "run") == whole


def test_a_run_of_an_index(model: Carvid, made: Made, tmp_path: Path) -> None:
    index = model.index(made.clip, tmp_path / "clip.idx")
    model.segment(index, TEXTS, out=tmp_path / "run")
    model.correct(tmp_path / "run", SAID)
    for given in (index, index.folder):
        model.segment(given, TEXTS, out=tmp_path / "once", corrections=SAID, overwrite=True)
        assert_same(tmp_path / "once", tmp_path / "run")
    assert carvid.Track.open(tmp_path / "run").facts.quick


# Interruptions


CHANGES = ("replace", "rename", "mkdir", "unlink", "rmdir")
"""Of `os`: what changes which files there are."""


def shape(folder: Path) -> frozenset[str]:
    """How far a folder has come: what is there, and whether a mask is."""
    places = (path.relative_to(folder).parts[:2] for path in folder.rglob("*"))
    return frozenset(re.sub(r"\d{5}", "#", "/".join(place)) for place in places)


def moments(
    folder: Path, root: Path, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """Do something to a folder; return copies of it as a kill would have left it, one of each
    `shape`, before its files change."""
    places: dict[frozenset[str], Path] = {}
    lock, copying = threading.RLock(), False

    def between(function: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*arguments: Any, **more: Any) -> Any:
            nonlocal copying
            with lock:
                if not copying and (now := shape(folder)) not in places:
                    copying = True
                    places[now] = Path(shutil.copytree(folder, root / f"killed-{len(places)}"))
                    copying = False
                return function(*arguments, **more)

        return changed

    with monkeypatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, between(getattr(os, name)))
        work()
    return list(places.values())


def check_kills(
    folder: Path,
    work: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
    which: slice,
) -> None:
    """Whenever a kill comes, the same call leaves what it leaves uninterrupted; `which` of the
    moments are tried."""
    places = moments(folder, folder.parent, lambda: work(folder), monkeypatch)
    assert len(places) >= 15
    for place in places[which]:
        work(place)
        assert_same(place, folder)


@pytest.fixture(scope="module")
def silent(weights: dict[str, str]) -> Carvid:
    """Draws nothing, which takes most of the time."""
    return carvid.load("default", [*SETTINGS, "overlay.enabled=off"], **weights)


@pytest.fixture(scope="module")
def undrawn(silent: Carvid, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undrawn") / "run"
    silent.segment(made.clip, TEXTS, out=out)
    return out


def masks_in(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / "masks").iterdir())]


def test_a_killed_correction_is_made_by_the_same_call(
    silent: Carvid, undrawn: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of all while the run as it was is copied."""
    run = Path(shutil.copytree(undrawn, tmp_path / "run"))
    check_kills(run, lambda at: silent.correct(at, SAID), monkeypatch, slice(0, 9))
    assert masks_in(run) == masks_in(made.corrected) != masks_in(made.plain)


def test_a_kill_forgets_no_earlier_correction(
    silent: Carvid, undrawn: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(undrawn, tmp_path / "run"))
    silent.correct(run, SAID[:1])
    check_kills(run, lambda at: silent.correct(at, SAID[1:]), monkeypatch, slice(0, None, 2))
    assert masks_in(run) == masks_in(made.corrected)
    assert carvid.Track.open(run).facts.corrections == SAID


def test_a_kill_while_corrections_are_undone(
    silent: Carvid, undrawn: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor may such a run go on as one without them: its frames have no state."""
    run = Path(shutil.copytree(undrawn, tmp_path / "run"))
    silent.correct(run, SAID)

    def work(place: Path) -> None:
        if (place / ".carvid" / "progress.json").exists():
            with pytest.raises(OutputError, match="its corrections are being undone"):
                silent.segment(made.clip, TEXTS, out=place, resume=True)
        silent.correct(place, keep=0)

    check_kills(run, work, monkeypatch, slice(None, None, -2))
    assert_same(run, undrawn)


def test_a_killed_run_with_corrections(
    silent: Carvid, undrawn: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(place: Path) -> None:
        silent.segment(made.clip, TEXTS, out=place, corrections=SAID, resume=True)

    run = Path(shutil.copytree(undrawn, tmp_path / "run"))
    silent.correct(run, SAID[1:])
    check_kills(run, work, monkeypatch, slice(1, None, 5))
    assert masks_in(run) == masks_in(made.corrected)


@pytest.mark.parametrize("written", [None, 0, 2])
def test_whoever_stops_it_goes_on_by_the_same_call(
    model: Carvid, made: Made, run: Path, written: int | None
) -> None:
    """While it is spread nothing has changed; while it is written the rest is."""
    asked: list[bool] = []

    def stop() -> bool:
        if written is None:
            return True
        asked.extend([True] if (run / UNCORRECTED).exists() else [])
        return len(asked) > written

    with pytest.raises(Stopped):
        model.correct(run, SAID, stop=stop)
    if written is None:
        assert_same(run, made.plain)
    else:
        assert len(list((run / "masks").iterdir())) == written + 1
        assert not (run / "run.json").exists()
    model.correct(run, SAID)
    assert_same(run, made.corrected)


# In memory


def test_a_track_in_memory(model: Carvid, made: Made, tmp_path: Path) -> None:
    track = model.segment(made.clip, TEXTS)
    before = [masks.copy() for masks in track.masks]
    corrected = track.correct([SAID[0]], model).correct([SAID[1]], model)
    assert corrected.facts.corrections == SAID and track.facts.corrections == ()
    assert [(a == b).all() for a, b in zip(before, track.masks, strict=True)] == [True] * FRAMES
    assert (corrected.masks[3][1] != before[3][1]).any()
    corrected.save(tmp_path / "saved")
    opened = carvid.Track.open(tmp_path / "saved")
    assert opened.facts.corrections == SAID
    for masks, labels in zip(corrected.masks, opened.label_maps, strict=True):
        assert ((labels > 0) == masks.any(axis=0)).all()
    once = model.segment(made.clip, TEXTS, corrections=SAID)
    assert (once.label_maps[:] == corrected.label_maps[:]).all()
    with pytest.raises(ConfigError, match="forgets no corrections"):
        model.correct(corrected, keep=1)
    assert (model.correct(corrected, keep=2).label_maps[:] == corrected.label_maps[:]).all()
    with pytest.raises(OutputError, match="lacks 'uncorrected'"):  # only what it became was saved
        model.correct(tmp_path / "saved", SAID)


@pytest.mark.parametrize(
    "selection", [Selection(), Selection(stride=2, max_side=40), Selection(start_s=0.04)]
)
def test_a_track_of_frames_in_memory(model: Carvid, selection: Selection) -> None:
    frames = make_frames(FRAMES)
    track = model.segment(frames, TEXTS, selection=selection, frame_rate=25)
    said = [Correction(1, 2, point=(9, 12))]
    corrected = model.correct(track, said, frames=frames)
    assert len(corrected) == len(track) and corrected.masks[1][1, 12, 9]
    again = model.correct(track, said, frames=[Image.fromarray(each) for each in frames])
    assert (again.label_maps[:] == corrected.label_maps[:]).all()
    with pytest.raises(VideoError, match="came only once"):
        model.correct(track, said)
    with pytest.raises(ConfigError, match=f"the track has {len(track)} frames of height and"):
        model.correct(track, said, frames=frames[:-2])
    with pytest.raises(ConfigError, match=r"of height and width \("):
        model.correct(track, said, frames=frames[:, :20])


# What cannot be done


def wrong_calls(model: Carvid, made: Made, weights: dict[str, str]) -> Iterator[Any]:
    """Of what is wrong a call on a folder, the error, and a part of its message."""
    other = carvid.load("default", SETTINGS, generator=weights["generator"],
                        classifier=weights["generator"])  # fmt: skip
    yield lambda at: model.correct(at, [Correction(6, 1, point=(1, 1))]), ConfigError, "no frame 6"
    yield lambda at: model.correct(at, [Correction(0, 3, point=(1, 1))]), ConfigError, "no label 3"
    yield lambda at: model.correct(at, [Correction(0, 1, point=(48, 1))]), ConfigError, "outside"
    yield lambda at: model.correct(at, [*SAID, Correction(6, 1, point=(1, 1))]), ConfigError, "no"
    said = [Correction(2, 1, point=(5, 5))]
    yield lambda at: model.correct(at, said, formats=["gren"]), ConfigError, "unknown format 'gren'"
    yield lambda at: model.correct(at, said, keep=-1), ConfigError, "keep is 0 or more"
    yield lambda at: model.correct(at, said, frames=make_frames(6)), ConfigError, "in memory"
    yield lambda at: other.correct(at, said), ConfigError, "was made with the classifier"
    yield lambda at: model.correct(at.parent / "none", SAID), OutputError, "is no folder of a fin"
    yield lambda at: model.correct(at / "run.json", SAID), OutputError, "is no folder of a finished"
    yield lambda at: model.correct(at.parent, SAID), OutputError, "is no folder of a finished run"
    yield lambda at: model.correct("", SAID), OutputError, "is no folder of a finished run"
    segment, third = model.segment, [Correction(0, 3, point=(1, 1))]
    yield (
        lambda at: segment(made.clip, TEXTS, corrections=said, out=at / "x", formats=["gren"]),
        ConfigError, "unknown format",
    )  # fmt: skip
    yield (
        lambda at: segment(made.clip, TEXTS, corrections=third, out=at / "x"),
        ConfigError, "no label 3",
    )  # fmt: skip
    yield (
        lambda at: segment(make_frames(6), TEXTS, corrections=said, out=at / "x"),
        ConfigError, "comes only once",
    )  # fmt: skip


def test_what_is_wrong_is_told_and_changes_nothing(
    model: Carvid, made: Made, again: Path, weights: dict[str, str]
) -> None:
    before, around = everything(again), sorted(again.parent.rglob("*"))
    for call, error, message in wrong_calls(model, made, weights):
        with pytest.raises(error, match=message) as raised:
            call(again)
        assert len(str(raised.value).splitlines()) == 1
        assert everything(again) == before and sorted(again.parent.rglob("*")) == around, message


def test_runs_that_cannot_be_corrected(
    model: Carvid, made: Made, tmp_path: Path, weights: dict[str, str]
) -> None:
    alone = carvid.load("default", [*SETTINGS, "temporal.carry_masks=off"], **weights)
    classes = carvid.Classes(("dog", "cat"))
    alone.segment(made.clip, TEXTS, out=tmp_path / "alone")
    model.segment(made.clip, classes, out=tmp_path / "classes")
    model.segment(make_frames(4), TEXTS, out=tmp_path / "live")
    for name, message in (
        ("alone", "without temporal.carry_masks"), ("classes", "a run of classes"),
        ("live", "came only once"),
    ):  # fmt: skip
        before = everything(tmp_path / name)
        with pytest.raises(CarvidError, match=message):
            model.correct(tmp_path / name, SAID)
        assert everything(tmp_path / name) == before
    for which, texts in ((alone, TEXTS), (model, classes)):
        with pytest.raises(ConfigError, match=r"carry_masks|of classes"):
            which.segment(made.clip, texts, out=tmp_path / "new", corrections=SAID)
        assert not (tmp_path / "new").exists()


def test_what_is_damaged(model: Carvid, made: Made, again: Path, run: Path) -> None:
    (again / "masks" / "00002.png").write_bytes(b"cut")
    model.correct(again)
    assert_same(again, made.corrected)
    (again / "scores.csv").write_text("cut")
    model.correct(again)
    assert_same(again, made.corrected)
    (run / "masks" / "00002.png").write_bytes(b"cut")
    before = everything(run)
    with pytest.raises(CarvidError, match=r"00002\.png"):
        model.correct(run, SAID)
    assert everything(run) == before
    (again / "run.json").write_text("{")
    before = {path: path.read_bytes() for path in again.rglob("*.*") if path.is_file()}
    with pytest.raises(OutputError, match=r"run\.json' is damaged, and has the corrections"):
        model.correct(again, SAID)
    assert before == {path: path.read_bytes() for path in again.rglob("*.*") if path.is_file()}
    shutil.rmtree(again / UNCORRECTED)
    (again / "run.json").write_bytes((made.corrected / "run.json").read_bytes())
    with pytest.raises(OutputError, match="lacks 'uncorrected'"):
        model.correct(again, keep=0)
    assert masks_in(again) == masks_in(made.corrected)


def test_somebody_elses_files_stay(model: Carvid, run: Path) -> None:
    (run / "masks" / "notes.txt").write_text("mine")
    before = everything(run)
    with pytest.raises(OutputError, match="is none of what carvid wrote"):
        model.correct(run, SAID)
    assert everything(run) == before


def test_a_disk_that_is_full_while_the_run_is_copied(
    model: Carvid, made: Made, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing.shutil, "copyfile", full)
        with pytest.raises(OutputError, match=r"cannot write .*No space left"):
            model.correct(run, SAID)
    assert_same(run, made.plain)


# The command line


def networks(weights: dict[str, str]) -> list[str]:
    return [f"--weights-{name}={weights[name]}" for name in ("generator", "classifier")]


def test_the_command(
    made: Made, run: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    more = [*networks(weights), "--device=cpu"]
    said = command("correct", run, "--click", "3:13,13:a white cat", *more)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1].endswith(f"are in {run}")
    (tmp_path / "said.json").write_text(json.dumps([SAID[1].to_dict()]))
    said = command("correct", run, "--correct", tmp_path / "said.json", "--json", *more)
    values = json.loads(said.stdout)
    assert (values["out"], values["corrections"], values["frames"]) == (str(run), 2, FRAMES)
    assert [each["text"] for each in values["expressions"]] == TEXTS
    assert_same(run, made.corrected)
    said = command("correct", run, "--keep", "0", "--quiet", "-f", "coco", *more)
    assert said.returncode == 0 and not said.stderr and (run / "coco.json").exists()
    (run / "coco.json").unlink()
    assert_same(run, made.plain)


def test_a_run_with_clicks(made: Made, weights: dict[str, str], tmp_path: Path) -> None:
    words: list[object] = ["run", made.clip, *(f"-e{text}" for text in TEXTS), "-o", tmp_path / "o"]
    words += [*networks(weights), *(f"--set={each}" for each in SETTINGS)]
    clicks = ["--click=3:13,13:2", "--click=1:40,30:a dog"]
    said = command(*words, *clicks)
    assert said.returncode == 0, said.stderr
    assert_same(tmp_path / "o", made.corrected)
    for more, message in (
        (["--resume"], "there were 2 corrections, there are 0"),
        ([*clicks], "add --resume|there were 2 corrections|holds a run"),
        (["--click", "3:1,1:3"], "there is no label 3 to correct"),
        (["--click", "9:1,1:1", "--resume"], "there is no frame 9"),
        (["--click", "3:1,1:1", "-f", "gren"], "did you mean 'green'"),
        (["--click", "3:1,1:1", "--resume", "--set", "temporal.carry_masks=off"], "carry_masks"),
    ):
        said = command(*words, *more)
        assert said.returncode in (1, 2) and re.search(message, one_line(said)), said.stderr
        assert_same(tmp_path / "o", made.corrected)
    assert command(*words, *clicks, "--resume").returncode == 0
    assert_same(tmp_path / "o", made.corrected)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 1, "say what is wrong with --click, --correct or --keep"),
        (["--click", "3:1,1"], 1, "say which of the 2 expressions is corrected"),
        (["--click", "3:1,1:a dgo"], 1, "did you mean 'a dog'"),
        (["--click", "-3:1,1:1"], 1, "a click is FRAME:X,Y"),
        (["--click", "9:1,1:1"], 1, "there is no frame 9 to correct; the last is 5"),
        (["--click", "3:99,1:1"], 1, "lies outside of the picture"),
        (["--click", "3:1,1:1", "-f", "gren"], 1, "did you mean 'green'"),
        (["--correct", "none.json"], 1, "cannot read corrections from 'none.json'"),
        (["--keep", "-1"], 2, "--keep"),
        (["--keep", "x"], 2, "--keep"),
        (["--clik", "3:1,1"], 2, "--clik"),
    ],
)
def test_what_is_wrong_with_a_command(
    run: Path, weights: dict[str, str], words: list[str], code: int, message: str
) -> None:
    before = everything(run)
    said = command("correct", run, *words, *networks(weights))
    assert (said.returncode, said.stdout) == (code, "")
    assert message in one_line(said)
    assert everything(run) == before


def one_line(said: Finished) -> str:
    [line] = [line for line in said.stderr.splitlines() if not line.startswith("Try ")]
    assert line.startswith("carvid: ")
    return line


def test_other_folders_are_told(weights: dict[str, str], tmp_path: Path) -> None:
    said = command("correct", tmp_path / "none", "--keep", "0", *networks(weights))
    assert said.returncode == 1 and "is no folder of a finished run" in one_line(said)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_says_how_to_go_on(
    made: Made, run: Path, weights: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["correct", run, "--click", "3:13,13:2", "--click", "1:40,30:1", *networks(weights)]
    with monkeypatch.context() as patch:
        patch.setattr(carvid.Track, "result", with_signal(carvid.Track.result, signal.SIGINT, 2))
        said = command(*words)
    assert said.returncode == 130
    last = said.stderr.splitlines()[-1]
    assert last == "carvid: interrupted; continue with: " + shlex.join(
        ["carvid", *map(str, words)]
    )
    assert command(*words).returncode == 0
    assert_same(run, made.corrected)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['carvid', 'correct', '--help']\n"
        "from carvid.cli import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "--click" in said.stdout and "--correct" in said.stdout and "--keep" in said.stdout
