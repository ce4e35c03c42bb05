"""Runs that are corrected: in their folder and in memory, once and again, interrupted, undone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
from carvid.run.folder import RunFolder
from carvid.run.layout import UNCORRECTED
from tests.conftest import HEIGHT, WIDTH, Finished, make_frames
from tests.conftest import carvid as command
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


def test_a_run_that_is_corrected_at_once(model: Carvid, made: Made, tmp_path: Path) -> None:
    track = model.segment(made.clip, TEXTS, out=tmp_path / "run", corrections=SAID)
    assert_same(tmp_path / "run", made.corrected)
    assert track.facts.corrections == SAID
    for options in ({}, {"resume": True}):  # a plain one
        with pytest.raises(OutputError, match="there were 2 corrections, there are 0|already"):
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
    with pytest.raises(OutputError, match="holds a run already|there were 2 corrections"):
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
    from PIL import Image

    (tmp_path / "clip" / "b").mkdir(parents=True)
    for index, frame in enumerate(make_frames(4)):
        Image.fromarray(frame).save(tmp_path / "clip" / ("b" if index % 2 else "") / f"{index}é.png")
    options = {"out": tmp_path / "run", "keep_names": True}
    model.segment(tmp_path / "clip", TEXTS, **options)
    whole = everything(tmp_path / "run")
    names = carvid.Track.open(tmp_path / "run").facts.video.names
    model.correct(tmp_path / "run", SAID)
    corrected = everything(tmp_path / "run")
    for name in names:
        assert f"masks/{name}" in corrected and f"{UNCORRECTED}/masks/{name}" in corrected
    model.segment(tmp_path / "clip", TEXTS, **options, corrections=SAID, overwrite=True)
    assert everything(tmp_path / "run") == corrected
    model.correct(tmp_path / "run", keep=0)
    assert everything(tmp_path / "run") == whole
