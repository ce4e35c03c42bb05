from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from carvid.base.errors import OutputError
from carvid.base.palette import color_of, contrast
from carvid.config import PALETTES, OverlayConfig
from carvid.media.encode import MAX_SIDE
from carvid.media.open import Backend, Frame, Selection, VideoInfo, open_video
from carvid.show import overlay
from carvid.show.overlay import draw_overlay, write_overlay
from tests import HANGS_S
from tests.conftest import make_frames
from tests.odd_files import MAKERS, VFR_MS
from tests.test_video import sound_packets, write_with_sound

PLAIN = OverlayConfig(outline=False, labels=False, opacity=0.5)


def test_fill_is_the_expressions_color_and_the_rest_is_untouched() -> None:
    image = make_frames(1)[0]
    labels = np.zeros(image.shape[:2], np.uint8)
    labels[8:20, 4:16] = 2
    made = draw_overlay(image, labels, ["a", "b"], PLAIN)
    expected = (image[8:20, 4:16].astype(int) + color_of(1)) // 2
    assert (made[8:20, 4:16] == expected).all()
    assert (made[labels == 0] == image[labels == 0]).all()


def test_colors_are_distinct() -> None:
    assert len({color_of(k) for k in range(60)}) == 60


@pytest.mark.parametrize("size_hw", [(40, 60), (240, 432), (480, 854)])
def test_labels_stay_inside_and_say_what_is_absent(size_hw: tuple[int, int]) -> None:
    image = np.full((*size_hw, 3), 90, np.uint8)
    labels = np.zeros(size_hw, np.uint8)
    labels[:8, -12:] = 1
    texts = ["a dog in the corner " * 5, "un café", "狗"]
    config = OverlayConfig(outline=True, labels=True)
    made = draw_overlay(image, labels, texts, config, scores=[0.9, 0.1, 0.2])
    assert made.shape == image.shape
    assert (made[-size_hw[0] // 3 :, : size_hw[1] // 2] != 90).any()  # the list of what is absent


def test_labels_have_the_frames_size() -> None:
    with pytest.raises(ValueError, match="labels must be"):
        draw_overlay(make_frames(1)[0], np.zeros((3, 3), np.uint8), ["a"], PLAIN)


def luminance(color: tuple[int, int, int]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in np.array(color) / 255]  # fmt: skip
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_ink_is_legible_on_every_plate() -> None:
    for color in [*(color_of(k) for k in range(60)), overlay.GREY]:
        dark, light = sorted((luminance(color), luminance(contrast(color))))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_labels_do_not_overlap() -> None:
    taken = [(10, 40, 80, 20)]
    assert overlay._free_row(taken, (20, 45, 50, 20), 200) == 60
    assert overlay._free_row(taken, (20, 30, 50, 20), 200) == 20
    assert overlay._free_row(taken, (95, 45, 50, 20), 200) == 45


def test_a_long_list_of_absent_things_leaves_the_picture_free() -> None:
    image = np.full((240, 432, 3), 90, np.uint8)
    made = draw_overlay(
        image, np.zeros((240, 432), np.uint8), [f"thing {k}" for k in range(50)], OverlayConfig()
    )
    assert (made[:150] == 90).all()
    assert (made[150:] != 90).any()


def test_the_overlay_keeps_the_sound(tmp_path: Path) -> None:
    write_with_sound(tmp_path / "clip.mp4", "aac", Fraction(25))
    planes = np.zeros((12, 48, 64), np.uint8)
    with open_video(tmp_path / "clip.mp4") as reader:
        write_overlay(tmp_path / "out.mp4", reader.info, reader, planes, ["a"], PLAIN)
    wanted, copied = (sound_packets(tmp_path / name) for name in ("clip.mp4", "out.mp4"))
    assert len(wanted) > 0
    assert copied == wanted


def times_ms(path: Path) -> list[float]:
    """When the frames are shown, by the container."""
    with av.open(str(path)) as container:
        return [1000 * (frame.time or 0.0) for frame in container.decode(video=0)]


def vfr_clip(path: Path) -> Path:
    """Frames of variable rate with sound, both beginning at 0."""
    with av.open(str(path), "w", options={"video_track_timescale": "1000"}) as out:
        picture: Any = out.add_stream("libx264", rate=25, options={"bf": "2"})
        picture.height, picture.width, picture.pix_fmt = 64, 96, "yuv420p"
        picture.time_base = picture.codec_context.time_base = Fraction(1, 1000)
        sound: Any = out.add_stream("aac", rate=48000, layout="mono")
        for time_ms, image in zip(VFR_MS, make_frames(12, 64, 96), strict=True):
            frame = av.VideoFrame.from_ndarray(image).reformat(format="yuv420p")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            out.mux(picture.encode(frame))
        out.mux(picture.encode())
        for block in range(49):
            tone = np.sin(np.arange(1024) * (1 + block) / 40).astype(np.float32)[None] / 3
            made = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
            made.sample_rate, made.pts = 48000, 1024 * block
            out.mux(sound.encode(made))
        out.mux(sound.encode())
    return path


@pytest.mark.parametrize("backend", ["auto", "pyav"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_times_of_frames_and_sound_are_kept(tmp_path: Path, name: str, backend: Backend) -> None:
    clip, out = vfr_clip(tmp_path / name), tmp_path / "out.mp4"
    planes = np.zeros((12, 64, 96), np.uint8)
    with open_video(clip, backend=backend) as reader:
        write_overlay(out, reader.info, reader, planes, ["a"], PLAIN)
    assert times_ms(out) == pytest.approx(list(VFR_MS), abs=1)
    wanted, copied = sound_packets(clip), sound_packets(out)
    assert [data for _, data in copied] == [data for _, data in wanted]
    assert [t for t, _ in copied] == pytest.approx([t for t, _ in wanted], abs=1e-3)


def packets_of(path: Path, kind: str) -> list[dict[str, str]]:
    """A stream's packets as ffprobe lists them, in order of their times."""
    listed = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", kind, "-show_packets", "-show_data_hash",
         "md5", "-of", "json", path],
        capture_output=True, text=True, check=True, timeout=HANGS_S,
    )  # fmt: skip
    packets: list[dict[str, str]] = json.loads(listed.stdout)["packets"]
    return sorted(packets, key=lambda packet: float(packet["pts_time"]))


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe")
def test_ffprobe_sees_the_same_times_and_the_same_sound(tmp_path: Path) -> None:
    clip, out = vfr_clip(tmp_path / "clip.mp4"), tmp_path / "out.mp4"
    planes = np.zeros((12, 64, 96), np.uint8)
    with open_video(clip) as reader:
        write_overlay(out, reader.info, reader, planes, ["a"], PLAIN)
    for kind, count in (("v", 12), ("a", 50)):
        wanted, made = packets_of(clip, kind), packets_of(out, kind)
        assert len(wanted) == count
        assert [float(p["pts_time"]) for p in made] == pytest.approx(
            [float(p["pts_time"]) for p in wanted], abs=1e-3
        )
        if kind == "a":
            assert [p["data_hash"] for p in made] == [p["data_hash"] for p in wanted]
        else:
            assert [1000 * float(p["pts_time"]) for p in made] == pytest.approx(VFR_MS, abs=1)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_part_has_its_own_sound(tmp_path: Path, name: str) -> None:
    clip, out = vfr_clip(tmp_path / name), tmp_path / "out.mp4"
    part = Selection(start_s=0.2, end_s=0.641)
    with open_video(clip, selection=part) as reader:
        shown = [t for t in VFR_MS if 200 <= t < 641]
        planes = np.zeros((len(shown), 64, 96), np.uint8)
        assert write_overlay(out, reader.info, reader, planes, ["a"], PLAIN) == len(shown)
    assert times_ms(out) == pytest.approx([t - 200 for t in shown], abs=1)
    wanted = [(t, data) for t, data in sound_packets(clip) if 0.2 - 1024 / 48000 < t < 0.641]
    copied = sound_packets(out)
    assert [data for _, data in copied] == [data for _, data in wanted]
    assert [t + 0.2 for t, _ in copied] == pytest.approx([t for t, _ in wanted], abs=1e-3)


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    clip = MAKERS["pixels_not_square"](tmp_path)
    with open_video(clip) as reader:
        planes = np.zeros((12, 64, 96), np.uint8)
        write_overlay(tmp_path / "out.mp4", reader.info, reader, planes, ["a"], PLAIN)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(64, 45)


def test_the_same_bytes_in_every_process(shared: Path, tmp_path: Path) -> None:
    """As a resumed run must give. Drawn pictures show no difference; real ones do.

    Without `carvid.run.track`, which imports torch: four seconds in each process.
    """
    script = """
import hashlib, sys
from pathlib import Path
from carvid.config import OverlayConfig
from carvid.media.label_png import read_label_png
from carvid.show.overlay import write_overlay
from carvid.media.open import open_video

masks, clip, path = map(Path, sys.argv[1:])
planes = (read_label_png(mask) for mask in sorted(masks.iterdir()))
with open_video(clip) as reader:
    texts = ["a dog", "a dog", "a woman"]
    print(write_overlay(path, reader.info, reader, planes, texts, OverlayConfig()))
print(hashlib.sha1(path.read_bytes()).hexdigest())
"""
    data = shared / "data"
    masks = data / "davis-mini" / "Annotations" / "480p" / "dogs-jump"
    clip = data / "clips" / "dogs-jump.mp4"
    printed = {
        subprocess.run(
            [sys.executable, "-c", script, masks, clip, tmp_path / "out.mp4"],
            capture_output=True, text=True, check=True, timeout=HANGS_S,
        ).stdout
        for _ in range(4)
    }  # fmt: skip
    assert len(printed) == 1 and printed.pop().startswith("66\n")


BARE = OverlayConfig(fill=False, outline=False, labels=False)


def one_square(size_hw: tuple[int, int] = (40, 60)) -> NDArray[np.uint8]:
    labels = np.zeros(size_hw, np.uint8)
    labels[12:28, 20:36] = 1
    return labels


def test_with_everything_off_the_frame_is_left() -> None:
    image = make_frames(1, 40, 60)[0]
    assert (draw_overlay(image, one_square(), ["a"], BARE) == image).all()


@pytest.mark.parametrize("dim", [0.25, 1.0])
def test_what_is_outside_is_dimmed_and_the_masks_are_not(dim: float) -> None:
    image, labels = make_frames(1, 40, 60)[0], one_square()
    made = draw_overlay(image, labels, ["a"], replace(BARE, dim=dim))
    assert (made[labels == 1] == image[labels == 1]).all()
    left = round(256 * (1 - dim))
    assert (made[labels == 0] == image[labels == 0].astype(int) * left // 256).all()
    assert (made[labels == 0] != image[labels == 0]).any()


@pytest.mark.parametrize("width", [2, 4, 9])
def test_outlines_have_the_width_that_is_asked_for(width: int) -> None:
    """But for two pixels on each side, over which OpenCV smooths."""
    image, labels = np.full((40, 60, 3), 90, np.uint8), one_square()
    config = replace(BARE, outline=True, outline_width=width)
    made = draw_overlay(image, labels, ["a"], config)
    # Row 20 crosses the sides of the square, columns 20 and 35, at a right angle.
    columns = np.arange(60)
    far = np.minimum(abs(columns - 20), abs(columns - 35))
    assert (made[20, far <= (width - 1) // 2] == color_of(0)).all()
    assert (made[20, far > width // 2 + 2] == 90).all()
    assert (far > width // 2 + 2).sum() > 20


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("ground", ["white", "black", "own", "busy"])
def test_a_halo_shows_the_outline_on_every_ground(palette: str, ground: str) -> None:
    color = color_of(0, palette)
    image = make_frames(1, 40, 60)[0]
    if ground != "busy":
        image[:] = {"white": (255,) * 3, "black": (0,) * 3, "own": color}[ground]
    labels = one_square()
    config = OverlayConfig(labels=False, halo=True, outline_width=3, palette=palette)
    made = draw_overlay(image, labels, ["a"], config)
    ink = contrast(color)
    dark, light = sorted((luminance(color), luminance(ink)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5
    assert (made[20, 19:22] == color).all() and (made[20, [16, 24]] == ink).all()


def test_side_by_side_is_the_frame_and_the_overlay() -> None:
    image, labels = make_frames(1, 40, 60)[0], one_square()
    made = draw_overlay(image, labels, ["a"], OverlayConfig(side_by_side=True), scores=[0.5])
    assert made.shape == (40, 120, 3)
    assert (made[:, :60] == image).all()
    alone = draw_overlay(image, labels, ["a"], OverlayConfig(), scores=[0.5])
    assert (made[:, 60:] == alone).all()


def test_scores_can_be_left_out() -> None:
    image, labels = np.full((240, 432, 3), 90, np.uint8), np.zeros((240, 432), np.uint8)
    labels[100:150, 200:260] = 1

    def drawn(given: list[float] | None, **style: Any) -> NDArray[np.uint8]:
        return draw_overlay(image, labels, ["a dog"], OverlayConfig(**style), scores=given)

    assert (drawn([0.5], scores=False) == drawn(None)).all()
    assert (drawn([0.5]) != drawn(None)).any()
    assert (drawn([0.5], labels=False) == drawn(None, labels=False)).all()


def test_the_palette_is_that_of_okabe_and_ito() -> None:
    published = {"E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7"}
    colors = [color_of(k, "okabe-ito") for k in range(7)]
    assert {"%02X%02X%02X" % color for color in colors} == published  # noqa: UP031
    assert color_of(7, "okabe-ito") == colors[0]
    image, labels = make_frames(1, 40, 60)[0], one_square()
    config = replace(BARE, fill=True, opacity=1.0, palette="okabe-ito")
    made = draw_overlay(image, 2 * labels, ["a", "b"], config)
    assert (made[labels == 1] == colors[1]).all()
    for color in colors:
        dark, light = sorted((luminance(color), luminance(contrast(color))))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_what_is_too_wide_for_a_video_is_said(tmp_path: Path) -> None:
    for width in (MAX_SIDE // 2, MAX_SIDE // 2 + 1):
        info = VideoInfo("frames", "images", (16, width), Fraction(25), 1)
        frames = [Frame(0, 0.0, np.zeros((16, width, 3), np.uint8))]
        planes, config = [np.zeros((16, width), np.uint8)], OverlayConfig(side_by_side=True)
        path = tmp_path / f"{width}.mp4"
        if 2 * width <= MAX_SIDE:
            write_overlay(path, info, frames, planes, ["a"], config)
            assert path.stat().st_size > 0
            continue
        with pytest.raises(OutputError, match="frames of 16386×16 pixels are too large for H"):
            write_overlay(path, info, frames, planes, ["a"], config)


def test_a_video_of_frame_and_overlay_is_twice_as_wide(tmp_path: Path) -> None:
    clip = MAKERS["odd_size"](tmp_path)
    with open_video(clip) as reader:
        height, width = reader.info.size_hw
        planes = np.zeros((12, height, width), np.uint8)
        config = OverlayConfig(side_by_side=True)
        write_overlay(tmp_path / "out.mp4", reader.info, reader, planes, ["a"], config)
    with open_video(tmp_path / "out.mp4") as made:
        assert made.info.size_hw == (height + height % 2, 2 * width)
        assert len(list(made)) == 12
