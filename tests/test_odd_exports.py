"""Runs of folders and pictures, masks corrected by hand, and what other tools read of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import OutputError
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config, load_config
from carvid.exports.export import export
from carvid.media.label_images import read_labels
from carvid.media.label_png import palette, write_label_png
from carvid.media.open import open_video
from carvid.pipeline import Carvid
from carvid.run.facts import RunFacts
from carvid.run.layout import check_contents
from carvid.run.names import check_names, is_inside, png_name
from carvid.run.track import Track
from carvid.show.run_overlay import run_overlay
from tests.conftest import carvid, make_frames
from tests.export_scenes import Planes
from tests.trees import scene, scored_tree

COUNT, SIZE = 3, (34, 48)
NAMES = ("shot.998.jpg", "shot.1001.jpg", "shot.1002.jpg")
TEXTS = ("a dog", "a cat")
COLORS = np.array(palette(), np.uint8).reshape(-1, 3)


def planes(count: int = COUNT, labels: int = 2) -> NDArray[np.uint8]:
    """Label maps, uint8 (T, 34, 48), in which all labels are."""
    found = np.zeros((count, *SIZE), np.uint8)
    for t in range(count):
        found[t, 5:20, 4 + t : 20 + t] = 1
        found[t, 22:30, 30:44] = labels
    return found


def track_of(source: Path, *, labels: int = 2, keep_names: bool = False) -> Track:
    """A run of a source, in memory, as if it had been found what `planes` shows."""
    with open_video(source) as reader:
        info = reader.info
        count = sum(1 for _ in reader)
    texts = TEXTS[:labels]
    facts = RunFacts(Config(), info, texts, (), {}, keep_names=keep_names)
    found = planes(count, labels)
    masks: Any = Planes(found[:, None] == np.arange(1, labels + 1)[None, :, None, None])
    maps: Any = Planes(found)
    scores = np.full((count, labels), 0.5, np.float32)
    return Track(facts, np.arange(count) / 24, scores, masks, maps, make_overlay=run_overlay)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, image in zip(NAMES, make_frames(COUNT), strict=True):
        Image.fromarray(image).save(folder / name)
    return folder


@pytest.fixture
def run(frames: Path, tmp_path: Path) -> Path:
    """The folder of a finished run of two expressions."""
    track_of(frames).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def single(frames: Path, tmp_path: Path) -> Path:
    """The folder of a finished run of one expression."""
    track_of(frames, labels=1).save(tmp_path / "single")
    return tmp_path / "single"


def pngs(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


# COCO


def test_coco_names_the_images_of_a_folder(run: Path) -> None:
    assert carvid("export", run, "-f", "coco").returncode == 0
    values = json.loads((run / "coco.json").read_text(encoding="utf-8"))
    assert list(values) == ["info", "licenses", "images", "categories", "annotations"]
    assert values["licenses"] == []
    assert [image["file_name"] for image in values["images"]] == list(NAMES)
    assert values["categories"] == [
        {"id": k, "name": text, "supercategory": ""} for k, text in enumerate(TEXTS, 1)
    ]
    ids = {image["id"] for image in values["images"]}
    for each in values["annotations"]:
        assert each["image_id"] in ids and each["iscrowd"] == 0 and each["area"] > 0
        assert each["segmentation"]["size"] == list(SIZE)
        assert isinstance(each["segmentation"]["counts"], str)
    assert [each["id"] for each in values["annotations"]] == [1, 2, 3, 4, 5, 6]


def test_coco_names_the_frames_of_a_video_and_a_picture(clip: Path, tmp_path: Path) -> None:
    export(track_of(clip), tmp_path / "a", ["coco"])
    values = json.loads((tmp_path / "a" / "coco.json").read_text())
    assert [image["file_name"] for image in values["images"]][:2] == [
        "frame_000000.png", "frame_000001.png",
    ]  # fmt: skip
    photo = tmp_path / "photo.png"
    Image.fromarray(make_frames(1)[0]).save(photo)
    export(track_of(photo), tmp_path / "b", ["coco"])
    values = json.loads((tmp_path / "b" / "coco.json").read_text())
    assert [image["file_name"] for image in values["images"]] == ["photo.png"]


# Names


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("shot.1001.jpg", "shot.1001.png"), ("a/b.tar/IMG_1.JPG", "a/b.tar/IMG_1.png"),
        ("shot.1001", "shot.1001.png"), ("a.b/frame", "a.b/frame.png"), ("x.png", "x.png"),
    ],
)  # fmt: skip
def test_masks_are_named_as_frames(name: str, mask: str) -> None:
    assert png_name(name) == mask


def test_names_that_cannot_be_kept_are_said() -> None:
    for names in (("a.jpg", "a.png"), ("A.jpg", "a.jpg"), ("caf\u00e9.png", "cafe\u0301.png")):
        with pytest.raises(OutputError, match=r"would have one name; rename one"):
            check_names(names, "frames")
    with pytest.raises(OutputError, match=r"frames of 'clip.mp4' have no names to keep; leave"):
        check_names((), "clip.mp4")
    check_names(("a/1.png", "b/1.png"), "frames")


def test_run_json_maps_frames_to_their_names(run: Path, clip: Path, tmp_path: Path) -> None:
    values = json.loads((run / "run.json").read_text())
    assert values["frames"] == list(NAMES)
    assert "keep_names" not in values and "names" not in values["video"]
    assert pngs(run / "masks") == [f"{t:05d}.png" for t in range(COUNT)]
    track_of(clip).save(tmp_path / "of-a-video")
    values = json.loads((tmp_path / "of-a-video" / "run.json").read_text())
    assert "frames" not in values and "names" not in values["video"]


def test_kept_names_go_through_everything(frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    track_of(frames, keep_names=True).save(out)
    expected = sorted(png_name(name) for name in NAMES)
    assert pngs(out / "masks") == expected
    track = Track.open(out)
    assert (track.label_maps[:] == planes()).all()
    result = carvid("export", out, "-f", "cutouts", "-f", "matte", "-f", "html")
    assert result.returncode == 0, result.stderr
    assert pngs(out / "cutouts") == sorted(f"{k}/{name}" for k in (1, 2) for name in expected)
    matte = np.array(Image.open(out / "matte" / "2" / "shot.1001.png"))
    assert matte.dtype == np.uint8 and (matte == 255 * (planes()[1] == 2)).all()
    assert carvid("view", out, "--no-show").returncode == 0
    result = carvid("overlay", frames, out / "masks", "-o", tmp_path / "o.mp4")
    assert (result.returncode, result.stderr) == (0, "")
    with open_video(tmp_path / "o.mp4") as reader:
        assert sum(1 for _ in reader) == COUNT
    check_contents(out)
    track.save(tmp_path / "again")  # and the names go along
    assert pngs(tmp_path / "again" / "masks") == expected
    track_of(frames).save(out, overwrite=True)
    assert pngs(out / "masks") == [f"{t:05d}.png" for t in range(COUNT)]


def test_what_is_not_a_frames_mask_is_not_replaced(frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    track_of(frames, keep_names=True).save(out)
    mine = out / "masks" / "shot.1003.png"
    mine.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"shot\.1003\.png' is none of what carvid wrote"):
        track_of(frames).save(out, overwrite=True)
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "C:\\x.png", "..\\x.png"])
def test_a_run_json_names_nothing_outside(frames: Path, tmp_path: Path, name: str) -> None:
    assert not is_inside(name)
    out = tmp_path / "out"
    track_of(frames, keep_names=True).save(out)
    values = json.loads((out / "run.json").read_text())
    values["frames"][1] = name
    (out / "run.json").write_text(json.dumps(values))
    with pytest.raises(OutputError, match="no folder of a finished run"):
        Track.open(out)


def test_a_run_keeps_names_and_resumes(
    frames: Path, tmp_path: Path, backbones: tuple[ClipBackbone, ClipBackbone]
) -> None:
    model = Carvid(load_config("default", ["temporal.lag=0"]), *backbones)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    model.segment(frames, "a dog", out=whole, keep_names=True, formats=["cutouts", "coco"])
    expected = sorted(png_name(name) for name in NAMES)
    assert pngs(whole / "masks") == expected
    assert pngs(whole / "cutouts" / "1") == expected
    asked = iter([False, True, True, True, True, True])
    with pytest.raises(KeyboardInterrupt):
        model.segment(frames, "a dog", out=halves, keep_names=True, stop=lambda: next(asked))
    assert 0 < len(pngs(halves / "masks")) < COUNT
    with pytest.raises(OutputError, match="other inputs or settings"):
        model.segment(frames, "a dog", out=halves, resume=True)
    model.segment(frames, "a dog", out=halves, keep_names=True, resume=True)
    for name in expected:
        assert (halves / "masks" / name).read_bytes() == (whole / "masks" / name).read_bytes()
    assert (halves / "overlay.mp4").read_bytes() == (whole / "overlay.mp4").read_bytes()


def test_a_video_has_no_names_to_keep(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = carvid("run", clip, "-e", "dog", "--preset", "tiny", "-o", out, "--keep-names")
    assert result.returncode == 1 and not out.exists()
    assert re.fullmatch(r"carvid: the frames of '.*' have no names to keep; .*\n", result.stderr)


# Masks corrected by hand


def rgb(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return COLORS[labels]


def rgba(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels' colours on clear ground, which keeps some colour."""
    alpha = np.where(labels > 0, 255, 0).astype(np.uint8)
    return np.dstack([np.where(labels[..., None] > 0, rgb(labels), np.uint8(77)), alpha])


def reordered(labels: NDArray[np.uint8]) -> Image.Image:
    """The same colours, indexed the other way round."""
    picture = Image.fromarray(2 - labels)
    picture.putpalette(COLORS[[2, 1, 0]].tobytes())
    return picture


def indexed(label: int) -> Image.Image:
    """A frame of one label."""
    picture = Image.fromarray(np.full(SIZE, label, np.uint8))
    picture.putpalette(palette())
    return picture


PAINTED: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    "RGB": lambda labels: Image.fromarray(rgb(labels)),
    "RGBA": lambda labels: Image.fromarray(rgba(labels)),
    "grey": lambda labels: Image.fromarray(labels),
    "grey and alpha": lambda labels: Image.fromarray(labels).convert("LA"),
    "16 bits": lambda labels: Image.fromarray(labels.astype(np.uint16)),
    "another order of colours": reordered,
}


@pytest.mark.parametrize("form", PAINTED)
def test_corrected_masks_are_exported(run: Path, form: str, caplog: Any) -> None:
    corrected = planes()
    corrected[1, 2:12, 10:40] = 2
    for t in range(COUNT):
        PAINTED[form](corrected[t]).save(run / "masks" / f"{t:05d}.png")
    scores = (run / "scores.csv").read_bytes()
    track = Track.open(run)
    with caplog.at_level("WARNING", logger="carvid"):
        assert (track.label_maps[:] == corrected).all()
    assert len(caplog.records) == 1 and "is no indexed PNG as a run writes it" in caplog.text
    result = carvid("export", run, "-f", "matte", "-f", "coco")
    assert result.returncode == 0, result.stderr
    assert (
        "are newer than its run.json" in result.stderr and "scores.csv still has" in result.stderr
    )
    matte = np.array(Image.open(run / "matte" / "2" / "00001.png"))
    assert (matte == 255 * (corrected[1] == 2)).all()
    values = json.loads((run / "coco.json").read_text())
    areas = [each["area"] for each in values["annotations"]]
    assert areas == [int((corrected[t] == k).sum()) for t in range(COUNT) for k in (1, 2)]
    assert (run / "scores.csv").read_bytes() == scores


@pytest.mark.parametrize("form", ["1", "L", "RGB", "soft", "16"])
def test_a_matte_is_the_mask_of_one_expression(single: Path, form: str) -> None:
    mask = np.zeros(SIZE, bool)
    mask[3:20, 7:30] = True
    picture = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    if form == "soft":
        blurred = cv2.GaussianBlur(np.asarray(picture), (5, 5), 0)
        mask, picture = blurred > 127, Image.fromarray(blurred)
    elif form == "16":
        picture = Image.fromarray(np.where(mask, 65535, 0).astype(np.uint16))
    else:
        picture = picture.convert(form)
    picture.save(single / "masks" / "00001.png")
    assert (Track.open(single).masks[1][0] == mask).all()
    result = carvid("export", single, "-f", "matte", "--out", single.parent / "elsewhere")
    assert result.returncode == 0, result.stderr
    matte = np.array(Image.open(single.parent / "elsewhere" / "matte" / "1" / "00001.png"))
    assert (matte == 255 * mask).all() and not (single / "matte").exists()


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("RGB", SIZE[::-1], (128, 1, 0)),
         r"00001\.png' has the colour \(128, 1, 0\) in 1632 pixels, .* up to 2; paint with"),
        (Image.fromarray(rgb(np.full(SIZE, 3, np.uint8))),
         r"00001\.png' has the colour \(128, 128, 0\) in 1632 pixels"),
        (Image.new("L", SIZE[::-1], 255), r"00001\.png' has grey level 255, .* up to 2; write"),
        (Image.new("1", SIZE[::-1], 1), r"00001\.png' has grey level 255, .* up to 2; write"),
        (indexed(3), r"00001\.png' has label 3, and the run has 2; write"),
        (Image.new("P", (20, 10), 0), r"00001\.png' is 20×10, its frame 48×34; write it in"),
    ],
)  # fmt: skip
def test_what_is_no_label_takes_one_line(run: Path, picture: Image.Image, message: str) -> None:
    picture.save(run / "masks" / "00001.png")
    for command in (("export", run, "-f", "matte"), ("view", run, "--no-show")):
        result = carvid(*command)
        assert result.returncode == 1
        assert re.search(message, result.stderr.splitlines()[-1]), result.stderr


def test_a_label_map_of_our_own_is_read_as_it_is(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_label_png(tmp_path / "a.png", labels)
    for repainted in (False, True):
        found, form = read_labels(tmp_path / "a.png", repainted=repainted)
        assert form == "" and (found == labels).all()
    Image.fromarray(rgb(labels)).save(tmp_path / "b.png")
    assert (read_labels(tmp_path / "b.png")[0] == labels).all()


def test_the_page_of_corrected_masks_is_made_again(run: Path) -> None:
    page = run / "view.html"
    assert carvid("view", run, "--no-show").returncode == 0
    first = page.read_bytes()
    page.write_bytes(first.replace(b"</html>", b"</html>\n"))
    assert carvid("view", run, "--no-show").returncode == 0
    assert page.read_bytes() == first.replace(b"</html>", b"</html>\n")  # it was current
    write_label_png(run / "masks" / "00001.png", planes()[0])
    assert carvid("view", run, "--no-show").returncode == 0
    assert page.read_bytes() not in (first, first.replace(b"</html>", b"</html>\n"))
    page.write_text("<h1>mine</h1>")
    result = carvid("view", run, "--no-show")
    assert result.returncode == 1 and "is no page of carvid; move it away" in result.stderr
    assert page.read_text() == "<h1>mine</h1>"


# Formats


def test_alpha_of_each_expression(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "alpha").mkdir()
    stale, mine = tmp_path / "alpha" / "3.mov", tmp_path / "alpha" / "mine.mov"
    for path in (stale, mine):
        path.write_bytes(b"x")
    export(track_of(frames), tmp_path, ["alpha-each"])
    for label in (1, 2):
        with av.open(str(tmp_path / "alpha" / f"{label}.mov")) as container:
            for frame, plane in zip(container.decode(video=0), planes(), strict=True):
                alpha = frame.to_ndarray(format="rgba")[..., 3]
                assert (alpha == np.where(plane == label, 255, 0)).all()
    assert mine.exists() and not stale.exists()


def test_mattes_of_an_earlier_longer_run_go(frames: Path, tmp_path: Path) -> None:
    stale, mine = tmp_path / "matte" / "3" / "00000.png", tmp_path / "matte" / "1" / "mine.png"
    for path in (stale, mine):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    export(track_of(frames), tmp_path, ["matte"])
    assert mine.exists() and not stale.parent.exists()
    assert len(pngs(tmp_path / "matte")) == 2 * COUNT + 1


@pytest.mark.parametrize(
    ("codec", "suffix"), [("aac", "mp4"), ("pcm_s16le", "mov"), ("mp3", "mkv"), ("libopus", "mkv")]
)
def test_alpha_has_the_sound(tmp_path: Path, codec: str, suffix: str) -> None:
    clip = tmp_path / f"clip.{suffix}"
    with av.open(str(clip), "w") as out:
        stream: Any = out.add_stream("mpeg4", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        sound: Any = out.add_stream(codec, rate=48000)
        for image in make_frames(25):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        out.mux(stream.encode())
        tone = (8000 * np.sin(np.arange(48000) / 20)).astype(np.int16)
        samples = av.AudioFrame.from_ndarray(np.stack([tone, tone], 1).reshape(1, -1))
        samples.sample_rate = 48000
        resampler = av.AudioResampler(sound.format, "stereo", 48000, sound.frame_size or 1024)
        for part in resampler.resample(samples):
            out.mux(sound.encode(part))
        out.mux(sound.encode())
    export(track_of(clip), tmp_path, ["alpha"])
    with av.open(str(tmp_path / "alpha.mov")) as written:
        streams = written.streams.audio
        assert len(streams) == (codec != "libopus")  # which .mov does not have
        if streams:
            assert streams[0].codec_context.name.startswith(codec[:3])
            decoded = sum(frame.samples for frame in written.decode(audio=0))
            assert abs(decoded - 48000) < 4800


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_the_overlay_of_a_picture_is_one(tmp_path: Path, name: str) -> None:
    photo, out = tmp_path / name, tmp_path / "out"
    Image.fromarray(make_frames(1)[0]).save(photo)
    track_of(photo).save(out)
    with Image.open(out / "overlay.png") as overlay:
        assert overlay.size == SIZE[::-1] and overlay.mode == "RGB"
        drawn = np.array(overlay)
    assert (drawn != np.array(Image.open(photo))).any() and not (out / "overlay.mp4").exists()
    check_contents(out)
    for suffix in (".png", ".jpg", ".mp4"):
        target = tmp_path / f"again{suffix}"
        assert carvid("overlay", photo, out / "masks", "-o", target).returncode == 0
        assert target.stat().st_size > 0
    track = Track.open(out)
    track.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "overlay.png").read_bytes() == (out / "overlay.png").read_bytes()
    track_of(photo).save(out, overwrite=True)


def test_a_video_is_no_picture(clip: Path, tmp_path: Path) -> None:
    track_of(clip).save(tmp_path / "out")
    result = carvid("overlay", clip, tmp_path / "out" / "masks", "-o", tmp_path / "o.png")
    assert result.returncode == 1 and "a video's name must end in" in result.stderr


# Predictions of other programs


def evaluated(tree: Path, protocol: str, folder: str, *more: object) -> Any:
    return carvid(
        "eval", tree / folder, tree / "data", "--protocol", protocol, "--workers", 1, *more
    )


def score(result: Any) -> float:
    assert result.returncode == 0, result.stderr
    return float(json.loads(result.stdout)["J&F"])


@pytest.mark.parametrize("protocol", ["unsupervised", "semi-supervised"])
@pytest.mark.parametrize("form", ["L", "RGB", "16"])
def test_label_maps_by_cv2_are_scored(tmp_path: Path, protocol: str, form: str) -> None:
    scored_tree(tmp_path)
    expected = score(evaluated(tmp_path, protocol, "run/anno_1", "--json"))
    for path in (tmp_path / "run" / "anno_1").rglob("*.png"):
        labels = scene(path.parent.name, int(path.stem), 1)
        picture: Any = {
            "L": labels, "RGB": rgb(labels)[..., ::-1], "16": labels.astype(np.uint16)
        }[form]  # fmt: skip
        cv2.imwrite(str(path), picture)
    result = evaluated(tmp_path, protocol, "run/anno_1", "--json")
    assert score(result) == expected < 1
    assert result.stderr.count("\n") == 1 and "are no indexed PNGs;" in result.stderr


@pytest.mark.parametrize("form", ["L", "three channels", "1"])
def test_masks_of_expressions_by_cv2_are_scored(tmp_path: Path, form: str) -> None:
    scored_tree(tmp_path)
    expected = score(evaluated(tmp_path, "per-expression", "run", "--json"))
    for path in (tmp_path / "run" / "expressions").rglob("*.png"):
        mask = np.array(Image.open(path)) * np.uint8(255)
        picture = np.dstack([mask] * 3) if form == "three channels" else mask
        options = [cv2.IMWRITE_PNG_BILEVEL, 1] if form == "1" else []
        cv2.imwrite(str(path), picture, options)
    result = evaluated(tmp_path, "per-expression", "run", "--json")
    assert score(result) == expected and result.stderr == ""


def test_a_few_missing_frames_are_named(tmp_path: Path) -> None:
    data = tmp_path / "data" / "Annotations_unsupervised" / "480p" / "cat"
    folder = tmp_path / "run" / "cat"
    folder.mkdir(parents=True)
    data.mkdir(parents=True)
    for t in range(40):
        write_label_png(data / f"{t:05d}.png", scene("cat", t % 5))
    write_label_png(folder / "00007.png", scene("cat", 2))
    result = evaluated(tmp_path, "unsupervised", "run")
    assert result.returncode == 1 and len(result.stderr) < 400 + 2 * len(str(tmp_path))
    assert "lacks 00000.png, 00001.png, 00002.png, 00003.png, 00004.png and 34 more" in (
        result.stderr
    )


@pytest.mark.parametrize("option", ["--plot", "--csv"])
def test_a_place_that_cannot_be_written_is_said_first(tmp_path: Path, option: str) -> None:
    scored_tree(tmp_path)
    (tmp_path / "run" / "anno_1" / "cat" / "00002.png").write_bytes(b"")  # and is not looked at
    for place, message in ((tmp_path / "no" / "x.png", "no folder"), (tmp_path, "is a folder")):
        result = evaluated(tmp_path, "unsupervised", "run/anno_1", option, place)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("carvid: cannot write") and message in result.stderr


def test_misspelt_videos_are_told_from_missing_ones(tmp_path: Path) -> None:
    scored_tree(tmp_path)
    for protocol, folder in (("unsupervised", "run/anno_1"), ("per-expression", "run")):
        result = evaluated(tmp_path, protocol, folder, "--videos", "cta")
        assert result.returncode == 1 and "unpack" not in result.stderr
        assert re.search(r"no truth for cta in '.*'; did you mean 'cat'\?", result.stderr)
    result = evaluated(tmp_path, "unsupervised", "run/anno_1", "--videos", "zebra")
    assert re.search("no truth for zebra in '.*'; choose of ape, cat", result.stderr)
