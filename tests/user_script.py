"""What a user writes with carvid, from its public names alone.

mypy checks it strictly with the package (`tool.mypy.files` in pyproject.toml), so that a name that
loses its type is found; test_user_script.py runs it. Add what becomes public.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import carvid


def from_a_file(model: carvid.Carvid, video: Path, out: Path) -> carvid.Track:
    """One expression, a file; masks by index and by slice; the run on disk, and opened again."""
    track = model.segment(video, "the dog jumping")
    assert_type(track.masks[0], NDArray[np.bool_])  # (N, H, W)
    assert_type(track.masks[0:2], NDArray[np.bool_])  # (2, N, H, W)
    assert_type(track.scores, NDArray[np.float32])
    track.save(out)
    carvid.export(track, out, ["coco"])
    return carvid.Track.open(out)


def from_frames(model: carvid.Carvid, video: str) -> carvid.Track:
    """Several expressions, and frames from anywhere."""
    selection = carvid.Selection(end_s=1.0, stride=2)
    with carvid.open_video(video, selection=selection) as reader:
        assert_type(reader, carvid.VideoReader)
        images = [frame.image for frame in reader]
    assert_type(images, list[NDArray[np.uint8]])
    return model.segment(images, ["dog", "cat"], distractors=["a person"])


def as_they_come(model: carvid.Carvid, frames: Iterator[carvid.Frame]) -> list[int]:
    """How many pixels the dog has in each frame."""
    return [int(result.masks[0].sum()) for result in model.stream(frames, ["dog"])]


def from_pictures(model: carvid.Carvid, pixels: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
    """One picture in three forms."""
    found = [
        model.segment_image(pixels, ["dog"]),
        model.segment_image(Image.fromarray(pixels), ["dog"]),
        model.segment_image(torch.from_numpy(pixels).permute(2, 0, 1) / 255, ["dog"]),
    ]
    return [each.masks for each in found]


def several_films(folder: Path, out: Path) -> dict[str, str]:
    """Why each film that failed did."""
    selection = carvid.Selection()
    clips = [
        carvid.Clip(path.stem, str(path), ("the dog",), selection) for path in folder.glob("*.mp4")
    ]
    result = carvid.run_batch(clips, out, "tiny")
    assert_type(result, carvid.BatchResult)
    return dict(result.failed)


def score(predictions: Path, data: Path) -> float:
    """J&F in [0, 1]."""
    report = carvid.evaluate(predictions, data, "refdavis17")
    assert_type(report, carvid.Report)
    return report.j_and_f


def load_or_say_why(preset: str) -> carvid.Carvid | None:
    """Every mistake of a user is one kind of error."""
    try:
        return carvid.load(preset, ["crf.iterations=1"], device="cpu")
    except carvid.CarvidError as error:
        print(error)
        return None
