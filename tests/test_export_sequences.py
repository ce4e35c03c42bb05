"""Sequences for compositors: the input's own numbers, and layers of OpenEXR."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from carvid.base.errors import ConfigError, OutputError
from carvid.exports.export import export
from carvid.exports.exr import LONGEST_LAYER, layer_name
from carvid.exports.numbered import frame_numbers, sequence_names
from carvid.media.open import Selection, open_video
from carvid.run.layout import LIST_NAME
from carvid.run.track import Track
from tests.conftest import make_frames
from tests.export_scenes import SIZE, images, odd_masks, run_of

TEXTS = ("ein weißer Hund, der springt und springt", "собака", "dog 1")
STEPS_MS = (40, 40, 120, 40, 80, 40, 40, 200, 40, 40, 40, 40)


def odd_run(folder: Path, form: str = "shot.{:04d}.png") -> Track:
    masks = np.zeros((len(odd_masks()) + 1, len(TEXTS), *SIZE), bool)
    masks[:-1, 1] = list(odd_masks().values())
    masks[:-1, 0] = ~masks[:-1, 1]
    return run_of(images(folder, len(masks), form=form), masks, TEXTS)


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """A video of 12 frames whose distances in time are uneven."""
    path = tmp_path / "my clip.mkv"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 34, 48, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for t, image in enumerate(make_frames(len(STEPS_MS))):
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = sum(STEPS_MS[:t]), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def selected(path: Path, selection: Selection) -> Track:
    """A run of some frames of a video, of one expression that is everywhere."""
    with open_video(path, selection=selection) as reader:
        info, count = reader.info, sum(1 for _ in reader)
    track = run_of(path, np.ones((count, 1, *info.size_hw), bool), ("dog",))
    return replace(track, facts=replace(track.facts, video=info))


def test_numbered_pngs_are_the_masks(tmp_path: Path) -> None:
    track = odd_run(tmp_path / "frames")
    export(track, tmp_path, ["png"])
    for t, masks in enumerate(track.masks.planes):  # type: ignore[attr-defined]
        for k, mask in enumerate(masks, 1):
            matte = np.asarray(Image.open(tmp_path / "png" / str(k) / f"shot.{t:04d}.png"))
            assert matte.dtype == np.uint8 and (matte == 255 * mask).all()


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Selection(), range(12)),
        (Selection(stride=5), [0, 5, 10]),
        (Selection(start_s=0.15), range(3, 12)),
        (Selection(start_s=0.15, end_s=0.5, stride=2), [3, 5, 7]),
    ],
)
def test_numbers_are_those_of_the_video(
    uneven: Path, selection: Selection, numbers: Any, tmp_path: Path
) -> None:
    track = selected(uneven, selection)
    assert frame_numbers(track.facts.video, len(track)) == list(numbers)
    export(track, tmp_path, ["png"])
    names = sorted(path.name for path in (tmp_path / "png" / "1").iterdir())
    assert names == [f"my_clip.{number:05d}.png" for number in numbers]


def test_a_video_that_is_another_one_is_said(uneven: Path, tmp_path: Path) -> None:
    video = selected(uneven, Selection(start_s=0.15)).facts.video
    with pytest.raises(OutputError, match="another number of frames than the 20 masks"):
        frame_numbers(video, 20)
    with pytest.raises(OutputError, match="comes only once, and which of its frames"):
        frame_numbers(replace(video, live=True), 3)


def test_images_that_would_have_one_name_are_told_apart(tmp_path: Path) -> None:
    folder = images(tmp_path / "f", 1, form="a.png")
    for name in ("A.png", "a.bmp"):
        Image.open(folder / "a.png").save(folder / name)
    track = run_of(folder, np.ones((3, 1, *SIZE), bool), ("dog",))
    names = sequence_names(track)
    assert len({name.casefold() for name in names}) == 3 and names[0].casefold() == "a"


def test_an_earlier_longer_sequence_goes(uneven: Path, tmp_path: Path) -> None:
    export(selected(uneven, Selection()), tmp_path, ["png"])
    mine = tmp_path / "png" / "1" / "mine.png"
    mine.write_bytes(b"mine")
    export(selected(uneven, Selection(stride=5)), tmp_path, ["png"])
    names = {path.name for path in (tmp_path / "png").rglob("*") if path.is_file()}
    assert names == {LIST_NAME, "mine.png", *(f"my_clip.{n:05d}.png" for n in (0, 5, 10))}


def test_exr_gives_the_masks_back(tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR")
    track = odd_run(tmp_path / "frames", "кадр.{:04d}.png")
    object.__setattr__(track.facts.video, "pixel_aspect", Fraction(64, 45))
    export(track, tmp_path, ["exr"])
    for t, masks in enumerate(track.masks.planes):  # type: ignore[attr-defined]
        with exr.File(str(tmp_path / "exr" / f"кадр.{t:04d}.exr"), separate_channels=True) as file:
            channels, header = file.channels(), file.header()
            assert set(channels) == {"m1_ein_weier_Hund_der_spring.A", "m2.A", "m3_dog_1.A"}
            for k, mask in enumerate(masks, 1):
                layer = layer_name(k, TEXTS[k - 1])
                pixels = channels[f"{layer}.A"].pixels
                assert pixels.dtype == np.float16 and (pixels == mask).all()
                assert header[f"carvid/{layer}"] == TEXTS[k - 1]
            assert header["pixelAspectRatio"] == pytest.approx(64 / 45)


def test_names_that_are_no_utf8_are_written(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR")
    folder = images(tmp_path / "x", 1, form="caf\udce9.png")
    track = run_of(folder, np.ones((1, 1, *SIZE), bool), ("a \udce9",))
    export(track, tmp_path / "out\udce9", ["exr", "png", "yolo", "labelme", "youtube-vis", "coco"])
    out = tmp_path / "out\udce9"
    assert (out / "exr" / "caf\udce9.exr").stat().st_size > 300
    assert (out / "png" / "1" / "caf\udce9.png").is_file()
    assert (out / "yolo" / "labels" / "train" / "caf_.txt").is_file()
    assert (out / "labelme" / "caf_.json").is_file()
    export(track, out, ["exr"])
    assert [path.name for path in (out / "exr").glob("*.exr")] == ["caf\udce9.exr"]


def test_layers_have_names_that_compositors_take() -> None:
    texts = ["dog " * 30, "собака", "a.b/c", "1", "\udce9", "Ünïcode ünd so weiter und so fort"]
    for label, text in [*enumerate(texts, 1), (254, texts[0])]:
        name = layer_name(label, text)
        assert name.isascii() and name.isidentifier() and len(name) <= LONGEST_LAYER < 30
        assert name.split("_")[0] == f"m{label}"


def test_classes_that_are_nowhere_have_no_sequence(tmp_path: Path) -> None:
    masks = np.zeros((1, 3, *SIZE), bool)
    masks[0, 1, 4:9] = True
    texts = ("sky", "dog", "cat")
    track = run_of(images(tmp_path / "f", 1), masks, texts, mode="semantic")
    export(track, tmp_path, ["png"])
    assert [path.name for path in (tmp_path / "png").iterdir() if path.is_dir()] == ["2"]


def test_a_missing_package_takes_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track = odd_run(tmp_path / "frames")
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(ConfigError, match=r"format exr needs OpenEXR 3\.3; pip install"):
        export(track, tmp_path, ["exr"])
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ConfigError, match="format youtube-vis needs pycocotools"):
        export(track, tmp_path, ["youtube-vis"])
    assert not (tmp_path / "exr").exists()
