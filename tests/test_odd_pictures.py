"""Pictures as people have them, alone, in folders and as sequences: what is read of them."""

from __future__ import annotations

import logging
import struct
import zlib
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

from carvid.base.errors import CarvidError, ConfigError, VideoError
from carvid.batch.manifest import read_manifest
from carvid.media.encode import VideoWriter
from carvid.media.frames import Frame, Selection, rate_of
from carvid.media.given import open_source
from carvid.media.images import say_once
from carvid.media.open import input_files, open_video
from carvid.media.sequences import decimal_values
from carvid.show.overlay import overlay_writer

HOLD_MS = [100, 100, 100, 3000]
GREYS = (0, 60, 120, 180)
LOSSLESS: dict[str, Any] = {".webp": {"lossless": True}}


def plain(grey: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.new("RGB", size, (grey,) * 3)


def animation(path: Path, form: str | None = None, **options: Any) -> Path:
    """Four greys, of which the last is shown for 3 s."""
    first, *others = (plain(grey) for grey in GREYS)
    given = {"duration": HOLD_MS, **LOSSLESS.get(path.suffix, {}), **options}
    first.save(path, form, save_all=True, append_images=others, **given)
    return path


def read(source: str | Path, **how: Any) -> list[Frame]:
    with open_source(source, **how) as reader:
        return list(reader)


def middles(frames: list[Frame]) -> list[int]:
    return [int(frame.image[20, 30, 0]) for frame in frames]


def named(folder: Path, *names: str) -> Path:
    """Images whose grey is their place in the list, times 10."""
    folder.mkdir(exist_ok=True)
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        plain(10 * place).save(folder / name)
    return folder


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    say_once.cache_clear()
    caplog.set_level(logging.INFO, logger="carvid")
    return lambda: "\n".join(caplog.messages)


@pytest.mark.parametrize(
    ("times_s", "hold_s"),
    [
        ((0.0, 0.1, 0.2, 0.3), 3.0), ((0.0, 3.0, 3.1, 3.2), 0.5), ((0.0, 1.0), 0.01), ((0.0,), 2.0),
        (tuple(k / 10 for k in range(30)), 4.0),
    ],
)  # fmt: skip
def test_a_video_ends_when_its_last_frame_does(
    tmp_path: Path, times_s: tuple[float, ...], hold_s: float
) -> None:
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "a.mp4", (32, 48), Fraction(10)) as writer:
        for time_s in times_s:  # only the last one's own duration counts
            writer.write(rng.integers(0, 255, (32, 48, 3), np.uint8), time_s, hold_s)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(times_s[-1] + hold_s, abs=1e-3)
        shown = [frame.time for frame in container.decode(video=0)]
    assert shown == pytest.approx(times_s, abs=1e-3)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif", "animation"])
def test_an_animation_has_all_its_frames_at_their_times(tmp_path: Path, name: str) -> None:
    path = animation(tmp_path / name, None if "." in name else "GIF")
    frames = read(path)
    assert middles(frames) == pytest.approx(GREYS, abs=2)
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert frames[-1].duration_s == pytest.approx(3)


def test_the_overlay_of_an_animation_is_as_long_as_it(tmp_path: Path) -> None:
    reader = open_video(animation(tmp_path / "a.gif"))
    with reader, overlay_writer(tmp_path / "o.mp4", reader.info) as writer:
        for frame in reader:
            writer.write(frame.image, frame.time_s, frame.duration_s)
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert (container.duration or 0) / 1e6 == pytest.approx(3.3, abs=0.01)


def test_the_last_frame_that_is_read_lasts_until_the_end_that_was_asked_for(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp")
    assert read(path, selection=Selection(end_s=1.3))[-1].duration_s == pytest.approx(1)
    strided = read(path, selection=Selection(stride=2))
    assert [frame.time_s for frame in strided] == pytest.approx([0, 0.2])
    assert strided[-1].duration_s == pytest.approx(3.1)


def test_a_frame_rate_takes_the_place_of_an_animations_times(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.gif")
    frames = read(path, frame_rate=Fraction(4))
    assert [frame.time_s for frame in frames] == [0, 0.25, 0.5, 0.75]
    with open_video(path, frame_rate=Fraction(4)) as reader:
        assert reader.info.asked_rate == 4
    with open_video(path) as reader:
        assert reader.info.asked_rate is None


def test_a_picture_for_those_who_cannot_play_an_apng_is_no_frame(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.apng", "PNG", default_image=True, duration=100)
    assert middles(read(path)) == list(GREYS[1:])


def test_a_damaged_animation_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, *others = (Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)) for _ in "12345")
    path = tmp_path / "a.gif"
    first.save(path, save_all=True, append_images=others, duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    with open_video(path) as reader:
        assert 1 < len(list(reader)) < 5
        assert reader.lost and "damaged" in reader.lost[0]


def test_pages_of_one_size_are_frames(tmp_path: Path, told: Callable[[], str]) -> None:
    frames = read(animation(tmp_path / "a.tif"), frame_rate=Fraction(2))
    assert middles(frames) == list(GREYS) and frames[-1].time_s == 1.5
    assert "4 pages are taken for frames" in told()
    plain(9).save(tmp_path / "b.tif", save_all=True, append_images=[plain(0, (30, 20))])
    assert middles(read(tmp_path / "b.tif")) == [9]
    assert "of which the first one is used" in told()


def heic(path: Path, *, orientation: int = 1) -> Path:
    """A picture of 64×32 whose left half is white."""
    open_video_knows_heif()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = plain(0, (64, 32))
    image.paste((255, 255, 255), (0, 0, 32, 32))
    image.save(path, "HEIF", exif=exif.tobytes(), quality=95)
    return path


def open_video_knows_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    if not pillow_heif.libheif_info()["encoders"].get("x265"):
        pytest.skip("this pillow-heif writes no HEIC")


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg", "photo"])
def test_a_phones_photo_is_read_and_turned_once(tmp_path: Path, name: str) -> None:
    [frame] = read(heic(tmp_path / name, orientation=6))  # to be turned a quarter to the right
    assert frame.image.shape == (64, 32, 3)
    assert frame.image[5].min() > 200 and frame.image[-5].max() < 50


def test_a_folder_of_phones_photos_is_read(tmp_path: Path) -> None:
    heic(tmp_path / "IMG_2.HEIC")
    heic(tmp_path / "IMG_10.HEIC")
    assert [path.name for path in input_files(tmp_path)[1:]] == ["IMG_2.HEIC", "IMG_10.HEIC"]
    assert len(read(tmp_path)) == 2


def save_deep(folder: Path, suffix: str, *arrays: NDArray[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for place, array in enumerate(arrays):
        assert cv2.imwrite(str(folder / f"{place}{suffix}"), array)
    return folder


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_pictures_share_one_range(
    tmp_path: Path, suffix: str, channels: int, bits: int, told: Callable[[], str]
) -> None:
    shape = (40, 60) if channels == 1 else (40, 60, channels)
    bright, dark = (np.full(shape, 2**bits // part - 1, np.uint16) for part in (1, 4))
    if channels == 4:
        dark[..., 3] = bright[..., 3]
    save_deep(tmp_path / "a", suffix, dark, bright)
    assert middles(read(tmp_path / "a")) == [63, 255]
    assert f"values from 0 to {2**bits - 1} are shown as 0 to 255" in told()


@pytest.mark.parametrize(
    ("low", "high", "dtype", "greys"),
    [
        (0.0, 1.0, np.float32, [0, 255]), (-3.0, 5.0, np.float32, [0, 255]),
        (10.0, 200.0, np.float32, [10, 200]), (20000, 24000, np.uint16, [0, 255]),
    ],
)  # fmt: skip
def test_floats_and_narrow_values_are_stretched(
    tmp_path: Path, low: float, high: float, dtype: Any, greys: list[int]
) -> None:
    arrays = [np.full((40, 60), value, dtype) for value in (low, high)]
    assert middles(read(save_deep(tmp_path / "a", ".tif", *arrays))) == greys


@pytest.mark.parametrize(("dtype", "name"), [(">u2", "a.tif"), ("<i4", "a.tif"), ("<u2", "a.pgm")])
def test_deep_modes_of_pillows(tmp_path: Path, dtype: str, name: str) -> None:
    values = np.full((40, 60), 4095)
    values[0] = 0
    Image.fromarray(values.astype(dtype)).save(tmp_path / name)
    assert middles(read(tmp_path / name)) == [255]


def test_a_grey_png_of_16_bits_with_alpha(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    rows = (b"\0" + struct.pack(">HH", 4000, 65535) * 60) * 40
    head = struct.pack(">IIBBBBB", 60, 40, 16, 4, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip
    assert middles(read(tmp_path / "a.png")) == [4000 >> 4]


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "L", "gif", "webp"])
def test_hidden_colours_are_not_seen(tmp_path: Path, kind: str, told: Callable[[], str]) -> None:
    path = tmp_path / f"a.{kind if kind.islower() else 'png'}"
    if kind in ("P", "L"):
        hidden = Image.new(kind, (60, 40), 3)
        if kind == "P":
            hidden.putpalette([90] * 12)
        hidden.save(path, transparency=3)
    else:
        mode = "LA" if kind == "LA" else "RGBA"
        picture = Image.new(mode, (60, 40), (90, 0) if mode == "LA" else (90, 90, 90, 0))
        picture.save(path, **LOSSLESS.get(path.suffix, {}))
    assert middles(read(path)) == [255]
    assert middles(read(path)) == [255]
    assert told().count("what is transparent is laid on white") == 1


def test_opaque_pictures_with_alpha_keep_their_values(
    tmp_path: Path, told: Callable[[], str]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    rgba = np.dstack([picture, np.full((40, 60), 255, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png")[0].image == picture).all()
    assert not told()


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["2.png", "10²3.png"], [0, 1]), (["frame①.png", "frame2.png"], None),
        (["5.175.png", "5.2.png", "5.4337.png"], [0, 1, 2]),
        (["0.1.png", "0.12.png", "0.2.png"], [0, 1, 2]),
        (["f_0.png", "f_0.5.png", "f_1.png"], [0, 1, 2]),
        (["shot.999.png", "shot.1001.png"], [0, 1]), (["take1.999.png", "take1.1001.png"], [0, 1]),
        (["v1.2_0003.png", "v1.2_0010.png"], [0, 1]), (["v1.9.png", "v1.10.png"], [0, 1]),
    ],
)  # fmt: skip
def test_order_of_names(tmp_path: Path, names: list[str], order: list[int] | None) -> None:
    greys = [grey // 10 for grey in middles(read(named(tmp_path / "a", *names)))]
    assert greys == order if order is not None else sorted(greys) == [0, 1]


@pytest.mark.parametrize(
    ("stems", "times"),
    [
        (["1305031102.175304", "1305031102.211214", "1305031102.243211"], True),
        (["0.00", "0.04", "0.08"], True), (["9.9", "10.0", "10.1"], True),
        (["0.5s", "0.75s"], True),
        (["shot.0001", "shot.0002"], False), (["1.0001", "1.0002", "2.0001", "2.0002"], False),
        (["take1.990", "take1.1000"], False), (["1", "2"], False), (["1.5", "1.50"], False),
        (["1.5"], False), ([], False), (["a", "1.5"], False),
    ],
)  # fmt: skip
def test_which_names_are_times(stems: list[str], times: bool) -> None:
    assert (decimal_values(stems) is not None) == times


def test_names_that_are_times_are_used_and_said(tmp_path: Path, told: Callable[[], str]) -> None:
    folder = named(tmp_path / "a", "7.175.png", "7.2.png", "7.4337.png")
    frames = read(folder)
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.025, 0.2587])
    assert "taken for times in seconds" in told()
    assert [frame.time_s for frame in read(folder, frame_rate=Fraction(2))] == [0, 0.5, 1]


@pytest.mark.parametrize("pattern", ["%05d.png", "#####.png", "*.png", "0000[0-9].png", "%d.png"])
def test_patterns_name_sequences_that_begin_anywhere(
    tmp_path: Path, pattern: str, told: Callable[[], str]
) -> None:
    folder = named(tmp_path / "f", "00003.png", "00004.png", "00006.png", "00007.png")
    frames = read(f"{folder}/{pattern}")
    assert middles(frames) == [0, 10, 20, 30]
    assert "1 of its numbers are missing (5)" in told()
    assert len(input_files(f"{folder}/{pattern}")) == 4


def test_a_pattern_takes_only_its_own_names(tmp_path: Path) -> None:
    folder = named(tmp_path, "shot.0999.png", "shot.1000.png", "shot.10000.png", "shot.12.png")
    assert [path.name for path in input_files(f"{folder}/shot.####.png")] == [
        "shot.0999.png", "shot.1000.png", "shot.10000.png",
    ]  # fmt: skip


def test_a_name_that_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    plain(5).save(tmp_path / "a#1 [x].png")
    assert middles(read(tmp_path / "a#1 [x].png")) == [5]


def test_what_is_no_frame_is_left_aside_and_said(tmp_path: Path, told: Callable[[], str]) -> None:
    folder = named(tmp_path / "a", "1.jpg", "2.JPG")
    for name in ("._1.jpg", "Thumbs.db", ".DS_Store", "making-of.mp4"):
        (folder / name).write_bytes(b"x")
    animation(folder / "preview.gif")
    assert len(read(folder)) == 2
    assert "left aside, for they are no frames of it: making-of.mp4, preview.gif" in told()


@pytest.mark.parametrize("name", ["a.jfif", "a.JPEG", "a.avif", "a.jp2", "a.ppm", "a.png"])
def test_images_of_many_names(tmp_path: Path, name: str) -> None:
    form = {"a.png": "JPEG", "a.jfif": "JPEG"}.get(name)  # a JPEG that is named .png
    plain(100).save(tmp_path / name, form)
    assert middles(read(tmp_path / name)) == pytest.approx([100], abs=3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_images_of_many_modes(tmp_path: Path, mode: str) -> None:
    plain(255).convert(mode).save(tmp_path / f"a.{'jpg' if mode == 'CMYK' else 'png'}")
    assert middles(read(tmp_path))[0] >= 253


def broken(folder: Path, kind: str) -> Path:
    folder = named(folder, "1.png", "2.png")
    last = folder / "3.png"
    if kind == "html":
        last.write_text("<html>not found</html>")
    elif kind == "empty":
        last.touch()
    elif kind == "sizes":
        plain(0, (30, 40)).save(last)
    else:
        last.write_bytes((folder / "1.png").read_bytes()[:20])
    return folder


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("html", "is no image, or of a kind"), ("empty", r"is empty \(0 bytes\)"),
        ("sizes", "is 30×40, the first image 60×40; give images of one size"), ("cut", "3.png"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_read(tmp_path: Path, kind: str, why: str) -> None:
    folder = broken(tmp_path / "a", kind)
    with pytest.raises(VideoError, match=why) as caught:
        open_video(folder)
    assert "\n" not in str(caught.value)
    assert len(read(folder, selection=Selection(end_s=0.08))) == 2  # which does without it


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("v", r"holds videos and no images; give the videos themselves: .*v/a\.mp4"),
        ("v/*.mp4", "give the videos themselves"), ("v/%04d.png", "whose name is like that"),
        ("none/####.png", "whose name is like that"), ("e", "holds no images"),
    ],
)  # fmt: skip
def test_no_images_is_one_line(tmp_path: Path, source: str, why: str) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "e").mkdir()
    (tmp_path / "v" / "a.mp4").write_bytes(b"x")
    with pytest.raises(VideoError, match=why) as caught:
        open_video(tmp_path / source)
    assert "\n" not in str(caught.value)


def test_truncated_photos_are_one_line(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="truncated"):
        open_video(tmp_path / "a.jpg")


def test_a_video_has_times_of_its_own(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", (32, 48), Fraction(10)) as writer:
        writer.write(np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(ConfigError, match="has times of its own"):
        open_source(tmp_path / "a.mp4", frame_rate=Fraction(5))


@pytest.mark.parametrize("text", ["0", "-1", "x", "1/0", "1e9", "nan", ""])
def test_odd_frame_rates_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write 24"):
        rate_of(text)


def test_a_manifest_gives_frame_rates_and_patterns(tmp_path: Path) -> None:
    named(tmp_path / "f", "01.png", "02.png")
    path = tmp_path / "m.csv"
    path.write_text("clip,expr,fps,name\nf/%02d.png,dog,30000/1001,\nf,dog,,b\n")
    first, second = read_manifest(path, frame_rate=Fraction(7))
    assert first.name == "f" and first.frame_rate == Fraction(30000, 1001)
    assert second.frame_rate == 7
    path.write_text("clip,expr,fps\nf,dog,fast\n")
    with pytest.raises(CarvidError, match="line 2: cannot use 'fast' frames per second"):
        read_manifest(path)
