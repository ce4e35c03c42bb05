"""Odd and broken inputs: what is expected of each, and that it happens."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.filter
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import VideoError
from carvid.media.open import open_video
from tests.conftest import make_frames
from tests.odd_files import COUNT, MAKERS, SIZE, VFR_MS, pictures, plain_frames

LONGEST_S = 120.0
Pictures = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Expected:
    """What reading an input gives."""

    count: int | None = COUNT
    """None: as many as the reference decode has; encoders differ in where a cut file ends."""
    frames: Callable[[Path], Pictures] = plain_frames
    """A reference decode, or what was drawn where the codec loses nothing."""
    times_s: tuple[float, ...] | None = None
    """Of the first frames; a frame every 40 ms if None."""
    lost: tuple[str, ...] = ()
    """Patterns of what is said."""
    of: int | None = None
    """What the frames that are read and those that are said to be lost add up to."""
    backend: str = "pyav"
    size_hw: tuple[int, int] = SIZE
    pixel_aspect: Fraction = Fraction(1)


def drawn(_: Path) -> Pictures:
    return list(pictures())


def at(*times_ms: float) -> tuple[float, ...]:
    return tuple(time_ms / 1000 for time_ms in times_ms)


def changed(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Callable[[Path], Pictures]:
    return lambda path: [change(frame) for frame in plain_frames(path)]


def scaled(path: Path) -> Pictures:
    import cv2

    frames = plain_frames(path)
    small = [cv2.resize(f, (96, 64), interpolation=cv2.INTER_AREA) for f in frames[6:]]
    return [*frames[:6], *(np.asarray(f, np.uint8) for f in small)]


def deinterlaced(path: Path) -> Pictures:
    """What FFmpeg's bwdif makes of the frames that are marked as interlaced."""
    graph = av.filter.Graph()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stages = [
            graph.add_buffer(template=stream),
            graph.add("bwdif", "mode=send_frame:deint=interlaced"),
            graph.add("buffersink"),
        ]
        for one, other in itertools.pairwise(stages):
            one.link_to(other)
        graph.configure()
        for frame in container.decode(stream):
            stages[0].push(frame)
        stages[0].push(None)
    made = []
    with suppress(av.EOFError):
        while True:
            frame = cast(av.VideoFrame, graph.pull())
            made.append(frame.to_ndarray(format="rgb24").astype(np.uint8))
    return made


SHORT = "it is cut short"
UNDECODED = "left out, for they cannot be decoded"
DAMAGED = "damaged, and used as far as they decode"
READ: dict[str, Expected] = {
    "h264": Expected(backend="decord"),
    "h264_reordered": Expected(),
    "h264_in_rgb": Expected(frames=drawn),
    "h264_raw_stream": Expected(),
    "grey_10_bit": Expected(),
    "hevc_10_bit": Expected(),
    "av1": Expected(),
    "vp9": Expected(backend="decord"),
    "vp9_alpha": Expected(backend="decord"),
    "mpeg4_avi": Expected(backend="decord"),
    "mpeg2_ts": Expected(),
    "prores_mov": Expected(),
    "motion_jpeg": Expected(),
    "ffv1_mkv": Expected(frames=drawn),
    "gif": Expected(times_s=at(0, 40, 240, 340, 380, 580), backend="images"),
    "turned": Expected(size_hw=SIZE[::-1], frames=changed(lambda f: np.rot90(f, -1))),
    "mirrored": Expected(frames=changed(lambda f: f[:, ::-1])),
    "transposed": Expected(size_hw=SIZE[::-1], frames=changed(lambda f: f.transpose(1, 0, 2))),
    "variable_rate": Expected(times_s=at(*VFR_MS), backend="decord"),
    "variable_rate_reordered": Expected(times_s=at(*VFR_MS), backend="decord"),
    "odd_size": Expected(size_hw=(33, 47), frames=lambda _: list(make_frames(COUNT, 33, 47))),
    "a_pixel_wide": Expected(size_hw=(64, 1), frames=lambda _: list(pictures()[:, :, :1])),
    "pixels_not_square": Expected(backend="decord", pixel_aspect=Fraction(64, 45)),
    "interlaced": Expected(frames=deinterlaced),
    "negative_times": Expected(frames=drawn),
    "first_times_missing": Expected(),
    "late_start": Expected(frames=drawn),
    "a_gap_of_an_hour": Expected(
        frames=drawn, times_s=at(0, 40, 80, 120, 160, 200, 3_600_240),
        lost=(r"nothing to show for 3600\.00 s between its frames",),
    ),
    "missing_times": Expected(),
    "fragmented": Expected(backend="decord"),
    "cut_by_an_edit_list": Expected(8, lambda path: plain_frames(path)[-8:]),
    "two_sizes": Expected(
        frames=scaled, lost=("of another size, and scaled to the first's: 6 frames",)
    ),
    "one_frame": Expected(1, backend="decord"),
    "y4m": Expected(),
    "name_with_a_protocol": Expected(backend="decord"),
    "truncated_faststart": Expected(
        None, lost=(rf"{SHORT}: \d+ of 36 frames are not there", f"{UNDECODED}: 1 frame"), of=36
    ),
    "truncated_mkv": Expected(None, lost=(rf"{SHORT}: the last 0\.\d\d s are not there",)),
    "truncated_avi": Expected(
        None, lost=(rf"{SHORT}: \d+ of 36 frames are not there", f"{DAMAGED}: 1 frame"), of=36
    ),
    "truncated_ts": Expected(20),
    "stream_without_its_beginning": Expected(None, lost=(rf"{UNDECODED}: \d frames",)),
    "damaged_packet": Expected(
        35, times_s=at(*range(0, 440, 40), 480), lost=(f"{UNDECODED}: 1 frame",), of=36
    ),
    "flipped_bits": Expected(36, lost=(rf"{DAMAGED}: \d frames",)),
    "damaged_mpeg4": Expected(36, lost=(f"{DAMAGED}: 3 frames",)),
    "damaged_vp9": Expected(
        31, times_s=at(*range(0, 440, 40), 640),
        lost=(r"nothing to show for 0\.20 s between its frames",),
    ),
    "one_image": Expected(1, lambda _: [pictures()[0]], backend="images"),
    "images_with_gaps": Expected(
        6, lambda _: list(pictures()[:6]), tuple(t / 24 for t in range(6)), backend="images"
    ),
}  # fmt: skip

REFUSED = {
    "truncated_without_index": "cannot read .* as a video",
    "empty": "is empty",
    "text": "cannot read .* as a video",
    "random_bytes": "cannot read .* as a video",
    "no_such_file": "no file or folder",
    "dangling_link": "no file or folder",
    "sound_alone": "has no video in it",
    "sound_with_a_cover": "has no video in it",
    "folder_without_images": "holds no images",
    "images_of_two_sizes": r"1\.png' is 20×20, the first image 96×64",
    "a_broken_image_among_others": r"cannot read .*frame9\.png' as an image",
    "image_bomb": "frames of 40000×40000 pixels, more than 80 million",
    "video_bomb": "frames of 20000×10000 pixels, more than 80 million",
    "all_frames_damaged": "has no frame that can be decoded",
}


def test_every_odd_file_has_its_expectation() -> None:
    assert {*READ, *REFUSED} == set(MAKERS)
    assert len(MAKERS) >= 25


@pytest.mark.parametrize("name", READ)
def test_what_decodes_is_used_and_the_rest_is_said(tmp_path: Path, name: str) -> None:
    path, expected = MAKERS[name](tmp_path), READ[name]
    began = time.monotonic()
    with open_video(path) as reader:
        read = list(reader)
        lost = list(reader.lost)
        again = list(reader)
    assert time.monotonic() - began < LONGEST_S
    assert reader.info.backend == expected.backend
    assert reader.info.size_hw == expected.size_hw
    assert reader.info.pixel_aspect == expected.pixel_aspect
    wanted = expected.frames(path)
    assert len(wanted) == (expected.count or len(wanted)) > 0
    assert reader.info.frame_count in (None, len(wanted))
    assert [frame.index for frame in read] == list(range(len(wanted)))
    for frame, picture in zip(read, wanted, strict=True):
        assert (frame.image == picture).all(), frame.index
    times = expected.times_s or tuple(0.04 * t for t in range(len(wanted)))
    shown = [frame.time_s for frame in read[: len(times)]]
    assert shown == pytest.approx(list(times), abs=1e-6)
    assert all((a.image == b.image).all() for a, b in zip(read, again, strict=True))
    assert reader.lost == lost and len(lost) == len(expected.lost)
    for line, pattern in zip(lost, expected.lost, strict=True):
        assert re.fullmatch(pattern, line), line
    if expected.of is not None:
        missing = [int(n) for line in lost for n in re.findall(r"(\d+) (?:of \d+ )?frame", line)
                   if not line.startswith(DAMAGED)]  # fmt: skip
        assert len(read) + sum(missing) == expected.of


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path)
    began = time.monotonic()
    with pytest.raises(VideoError, match=REFUSED[name]) as error, open_video(path) as reader:
        list(reader)
    assert time.monotonic() - began < LONGEST_S
    assert "\n" not in str(error.value) and "; " in str(error.value)


def test_a_large_image_is_refused_without_a_warning(tmp_path: Path) -> None:
    """Between carvid's limit and the size from which on Pillow warns."""
    Image.new("1", (10_000, 8_500)).save(tmp_path / "a.png")
    with pytest.raises(VideoError, match="frames of 10000×8500 pixels, more than 80 million"):
        open_video(tmp_path / "a.png")
