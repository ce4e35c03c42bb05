"""Runs that are corrected: in their folder and in memory, once and again, interrupted, undone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from carvid.media.open import Selection
from carvid.pipeline import Carvid
from carvid.run.corrections import Correction
from carvid.run.folder import RunFolder
from carvid.run.layout import UNCORRECTED
from tests.conftest import HEIGHT, WIDTH, Finished, make_frames
from tests.conftest import carvid as command
from tests.test_pipeline import FAST, TEXTS, files

SETTINGS = [*FAST, "temporal.key_every=2"]
SAID = (Correction(3, 1, point=(10, 13)), Correction(1, 2, point=(40, 30)))
"""Random networks find anything; here is what is said of it."""
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
    from fractions import Fraction

    from carvid.media.encode import VideoWriter

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
