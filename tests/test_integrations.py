"""carvid inside other tools, whose packages are stood in for: what of them is used, and no more."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import carvid
from carvid.demo.example import NAME, example_folder

FOLDER = Path(__file__).parent.parent / "examples" / "integrations"
CLIP = example_folder() / f"{NAME}.mp4"
TEXTS = ["the dog jumping", "the red car"]
FRAMES = 9
"""More than the frames between two key frames."""


@dataclass
class Made:
    """What a factory or a class of another package was called with."""

    given: tuple[Any, ...]
    named: dict[str, Any]


def maker(*given: Any, **named: Any) -> Made:
    return Made(given, named)


def module(name: str, **contents: Any) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(contents)
    return made


def load(monkeypatch: pytest.MonkeyPatch, path: Path, *others: ModuleType) -> Any:
    """Run a file of the examples with stand-ins of what it imports."""
    for other in others:
        monkeypatch.setitem(sys.modules, other.__name__, other)
    spec = importlib.util.spec_from_file_location("integration", path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def frames() -> list[Image.Image]:
    with carvid.open_video(CLIP) as reader:
        return [Image.fromarray(frame.image) for frame in islice(reader, FRAMES)]


@pytest.fixture(scope="module")
def streamed(frames: list[Image.Image]) -> list[carvid.FrameResult]:
    return list(carvid.load("tiny").stream(frames, TEXTS))


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes the CVAT function; a mask's run lengths are the mask itself."""
    names = ("label_spec", "mask", "polygon", "DetectionFunctionSpec", "DetectionFunctionContext")
    annotation = module("cvat_sdk.auto_annotation", **dict.fromkeys(names, maker))
    models = module("cvat_sdk.models", LabeledShapeRequest=Made)
    sdk = module("cvat_sdk", auto_annotation=annotation, models=models)
    masks = module("cvat_sdk.masks", encode_mask=lambda mask: mask)
    file = FOLDER / "cvat" / "carvid_function.py"
    yield load(monkeypatch, file, sdk, annotation, models, masks).create


def context(name: str, threshold: float | None = None, polygons: bool = False) -> Any:
    return SimpleNamespace(
        frame_name=name, conf_threshold=threshold, conv_mask_to_poly=polygons
    )  # fmt: skip


def test_cvat_gets_what_a_stream_finds(
    function: Callable[..., Any],
    frames: list[Image.Image],
    streamed: list[carvid.FrameResult],
) -> None:
    made = function("dog = the dog jumping; the red car;", preset="tiny")
    specs = made.spec.named["labels"]
    assert [spec.given for spec in specs] == [("dog", 1), ("the red car", 2)]
    for index, (frame, expected) in enumerate(zip(frames, streamed, strict=True)):
        shapes = made.detect(context(f"shots/b2.{index + 98}.png"), frame)
        assert [shape.given[0] for shape in shapes] == [1, 2]
        found = [shape.given[1] for shape in shapes]
        assert all(map(np.array_equal, found, expected.masks))


@pytest.mark.parametrize(
    ("first", "second", "step", "follows"),
    [
        ("f.0009.png", "f.0010.png", 1, True),
        ("f.0009.png", "f.0011.png", 1, False),
        ("f.0000.png", "f.0005.png", 5, True),
        ("f.0009.png", "f.0010.png", 0, False),
        ("f.0010.png", "f.0009.png", 1, False),
        ("a/1.png", "b/2.png", 1, False),
        ("dog.png", "dog.png", 1, False),
    ],
)
def test_cvats_frames_follow_each_other_by_their_numbers(
    function: Callable[..., Any],
    frames: list[Image.Image],
    streamed: list[carvid.FrameResult],
    first: str,
    second: str,
    step: int,
    follows: bool,
) -> None:
    """A frame that was carried to is not what it is by itself."""
    made = function("; ".join(TEXTS), preset="tiny", step=step)
    made.detect(context(first), frames[0])
    found = made.detect(context(second), frames[1])
    carried = np.array_equal(found[0].given[1], streamed[1].masks[0])
    assert carried == follows


def test_cvat_has_thresholds_and_polygons(
    function: Callable[..., Any], frames: list[Image.Image], streamed: list[carvid.FrameResult]
) -> None:
    made = function("; ".join(TEXTS), preset="tiny", step=0)
    scores = streamed[0].scores
    threshold = float(scores.mean())
    shapes = made.detect(context("0.png", threshold), frames[0])
    assert [shape.given[0] - 1 for shape in shapes] == [int(scores.argmax())]
    for shape in made.detect(context("0.png", polygons=True), frames[0]):
        label, points = shape.given
        rows, columns = np.nonzero(streamed[0].masks[label - 1])
        assert len(points) % 2 == 0
        assert columns.min() <= min(points[::2]) and max(points[::2]) <= columns.max()
        assert rows.min() <= min(points[1::2]) and max(points[1::2]) <= rows.max()


@pytest.mark.parametrize("expr", ["", " ; ", "dog =", "= the dog", "dog = a; dog = b"])
def test_cvat_says_what_cannot_be_asked(function: Callable[..., Any], expr: str) -> None:
    with pytest.raises(ValueError, match="give"):
        function(expr, preset="tiny")


@dataclass
class Detection:
    """Stands in for `fo.Detection`."""

    label: str
    bounding_box: list[float]
    mask: np.ndarray
    confidence: float
    index: int
    instance: object


@dataclass
class Detections:
    """Stands in for `fo.Detections`."""

    detections: list[Detection] = field(default_factory=list)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The source of FiftyOne's zoo models."""
    models = module("fiftyone.core.models", Model=object)
    core = module("fiftyone.core", models=models)
    package = module(
        "fiftyone", core=core, Detection=Detection, Detections=Detections, Instance=object
    )
    return load(monkeypatch, FOLDER / "fiftyone" / "__init__.py", package, core, models)


def whole(detection: Detection, size_hw: tuple[int, int]) -> np.ndarray:
    """A detection's mask in its frame."""
    (height, width), (x, y, _, _) = size_hw, detection.bounding_box
    top, left = round(y * height), round(x * width)
    mask = np.zeros(size_hw, bool)
    below, right = top + detection.mask.shape[0], left + detection.mask.shape[1]
    mask[top:below, left:right] = detection.mask
    return mask


class Reader:
    """Stands in for `eta.core.video.VideoReader`, of a clip that begins at frame 10."""

    frame_rate = 24.0

    def __init__(self, frames: list[Image.Image]) -> None:
        self._frames, self.frame_number = frames, 9

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self._frames:
            self.frame_number += 1
            yield np.asarray(frame)


def test_fiftyone_gets_a_videos_frames(source: Any, frames: list[Image.Image]) -> None:
    model = source.load_model("carvid", "note.txt", texts=TEXTS, preset="tiny")
    labels = model.predict(Reader(frames))
    assert list(labels) == list(range(10, 10 + FRAMES))
    track = carvid.load("tiny").segment(
        [carvid.Frame(k, k / 24, np.asarray(frame)) for k, frame in enumerate(frames)], TEXTS
    )
    for masks, found in zip(track.masks, labels.values(), strict=True):
        assert [each.index for each in found.detections] == [1, 2]
        assert [each.label for each in found.detections] == TEXTS
        for mask, each in zip(masks, found.detections, strict=True):
            assert np.array_equal(whole(each, mask.shape), mask)
    instances = {id(each.instance) for found in labels.values() for each in found.detections}
    assert len(instances) == 2
    assert list(source.frame_labels(track)) == list(range(1, FRAMES + 1))


def test_fiftyone_gets_an_image(source: Any, frames: list[Image.Image]) -> None:
    model = source.load_model("carvid-image", texts="the dog jumping", preset="tiny")
    (found,) = model.predict(np.asarray(frames[0])).detections
    expected = carvid.load("tiny").segment_image(frames[0], "the dog jumping")
    assert np.array_equal(whole(found, expected.masks[0].shape), expected.masks[0])
    assert found.confidence == pytest.approx(float(expected.scores[0]))
    with pytest.raises(ValueError, match="no model 'sam' here; there are carvid, carvid-image"):
        source.load_model("sam", texts="a dog")


def test_fiftyones_manifest_has_the_models_and_hides_no_package(
    source: Any, tmp_path: Path
) -> None:
    manifest = json.loads((FOLDER / "fiftyone" / "manifest.json").read_text(encoding="utf-8"))
    names = [model["base_name"] for model in manifest["models"]]
    assert names == [source.VIDEO_MODEL, source.IMAGE_MODEL]
    assert importlib.util.find_spec(manifest["name"]) is None
    source.download_model("carvid", str(tmp_path / "carvid.txt"))
    assert (tmp_path / "carvid.txt").exists()
