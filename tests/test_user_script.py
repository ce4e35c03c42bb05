"""A user's script: mypy knows the types of what it calls, and it runs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import carvid
from tests import user_script


@pytest.fixture(scope="module")
def model() -> carvid.Carvid:
    loaded = user_script.load_or_say_why("tiny")
    assert loaded is not None
    return loaded


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from carvid.media.container import DEFAULT_FRAME_RATE
    from carvid.media.encode import VideoWriter
    from tests.conftest import make_frames

    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, (48, 96), DEFAULT_FRAME_RATE) as writer:
        for image in make_frames(4, 48, 96):
            writer.write(image)
    return path


def test_the_package_says_that_it_has_types() -> None:
    assert (resources.files(carvid) / "py.typed").is_file()


def test_files_and_frames(model: carvid.Carvid, clip: Path, tmp_path: Path) -> None:
    track = user_script.from_a_file(model, clip, tmp_path / "out")
    assert len(track) == 4 and (tmp_path / "out" / "coco.json").exists()
    of_frames = user_script.from_frames(model, str(clip))
    assert len(of_frames) == 2 and of_frames.masks[0].shape == (2, 48, 96)
    with carvid.open_video(clip) as reader:
        assert len(user_script.as_they_come(model, iter(reader))) == 4


def test_one_picture_in_three_forms(model: carvid.Carvid, clip: Path) -> None:
    with carvid.open_video(clip) as reader:
        image = next(iter(reader)).image
    first, *others = user_script.from_pictures(model, image)
    assert all(np.array_equal(first, other) for other in others)


def test_a_wrong_preset_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert user_script.load_or_say_why("tinny") is None
    assert "did you mean" in capsys.readouterr().out
