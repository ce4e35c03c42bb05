"""Videos as cameras, editors and broadcasters leave them, made on the spot and read right."""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from carvid.base.errors import VideoError
from carvid.media import sdr
from carvid.media.encode import VideoWriter
from carvid.media.frames import Frame
from carvid.media.open import Selection, VideoReader, is_live, open_video

RATE = Fraction(25)
SIZE_HW = (64, 96)
COUNT, GOP = 60, 12
VFR_MS = [40 * t + (300 if t > 25 else 0) + 7 * (t % 3) for t in range(COUNT)]
Change = Callable[[Any], None]


def moving(count: int = COUNT, size_hw: tuple[int, int] = SIZE_HW) -> NDArray[np.uint8]:
    """A bright box on a shaded ground, another place in each frame, uint8 (T, H, W, 3)."""
    height, width = size_hw
    ground = np.linspace(30, 90, width, dtype=np.uint8)[None, :, None]
    frames = np.broadcast_to(ground, (count, height, width, 3)).copy()
    for t, frame in enumerate(frames):
        left = 3 * t % (width - 20)
        frame[height // 4 : height // 2, left : left + 20] = (230, 40 + 3 * t % 200, 60)
    return frames


def made(
    path: Path,
    codec: str,
    frames: NDArray[np.uint8] | None = None,
    *,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    times_ms: list[int] | None = None,
    change: Change | None = None,
    last_ms: int | None = None,
) -> Path:
    """Encode frames; skip the test where FFmpeg has no such encoder."""
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"FFmpeg was built without {codec}")
    with av.open(str(path), "w", options=container or {}) as out:
        stream: Any = out.add_stream(codec, rate=RATE, options=options or {})
        frames = moving() if frames is None else frames
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.thread_count = pixels, 1
        if times_ms is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if change is not None:
            change(stream)
        packets: list[Any] = []
        for t, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image).reformat(format=pixels)
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[t], Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode()
        if last_ms is not None:
            ticks = round(Fraction(last_ms, 1000) / stream.time_base)
            packets[-1].duration = max(packets, key=lambda p: p.pts).duration = ticks
        out.mux(packets)
    return path


QUIET = "log-level=none:pools=none:frame-threads=1"


def reordered(folder: Path) -> Path:
    return made(folder / "a.mp4", "libx264", options={"bf": "3", "g": str(GOP)})


def open_gop(folder: Path) -> Path:
    options = {"bf": "3", "g": str(GOP), "x264-params": "open-gop=1:b-adapt=0"}
    return made(folder / "a.mkv", "libx264", options=options)


def hevc(folder: Path) -> Path:
    options = {"x265-params": f"{QUIET}:open-gop=1:keyint={GOP}:min-keyint={GOP}:bframes=4"}
    return made(folder / "a.mp4", "libx265", options=options)


def vp9(folder: Path) -> Path:
    options = {"g": str(GOP), "auto-alt-ref": "1", "lag-in-frames": "8"}
    return made(folder / "a.webm", "libvpx-vp9", options=options)


def av1(folder: Path) -> Path:
    options = {"preset": "12", "svtav1-params": "lp=1", "g": str(GOP)}
    return made(folder / "a.mp4", "libsvtav1", options=options)


def variable_rate(folder: Path) -> Path:
    options = {"bf": "2", "g": str(GOP)}
    return made(folder / "a.mp4", "libx264", options=options, times_ms=VFR_MS)


def transport(folder: Path) -> Path:
    options = {"bf": "3", "g": str(GOP), "x264-params": "open-gop=1"}
    return made(folder / "a.ts", "libx264", options=options, container={"muxdelay": "3"})


def mpeg2(folder: Path) -> Path:
    return made(folder / "a.ts", "mpeg2video", options={"bf": "2", "g": str(GOP)})


def fragmented(folder: Path) -> Path:
    return made(
        folder / "a.mp4", "libx264", options={"bf": "2", "g": str(GOP)},
        container={"movflags": "frag_keyframe+empty_moov"},
    )  # fmt: skip


def cut_by_an_edit_list(folder: Path) -> Path:
    """Begins 7 frames after its first key frame."""
    path = made(folder / "a.mp4", "libx264", options={"bf": "2", "g": str(GOP)})
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 16
    begins = int.from_bytes(data[place : place + 4], "big") + 7 * 512
    data[place : place + 4] = begins.to_bytes(4, "big")
    path.write_bytes(data)
    return path


def interlaced_transport(folder: Path) -> Path:
    return made(
        folder / "a.ts", "mpeg2video", woven(moving(2 * COUNT)),
        options={"bf": "2", "g": str(GOP), "flags": "+ildct+ilme"}, change=top_first,
    )  # fmt: skip


def flash_video(folder: Path) -> Path:
    return made(folder / "a.flv", "libx264", options={"bf": "2", "g": str(GOP)})


def no_key_frames(folder: Path) -> Path:
    """Intra refresh: a column is renewed in each frame."""
    options = {"bf": "0", "x264-params": f"intra-refresh=1:keyint={GOP}"}
    return made(folder / "a.mp4", "libx264", options=options)


def raw_stream(folder: Path) -> Path:
    return made(folder / "a.264", "libx264", options={"bf": "2", "g": str(GOP)})


def no_times(folder: Path) -> Path:
    return made(folder / "a.avi", "mpeg4", options={"bf": "2", "g": str(GOP)})


def clock_set_back(folder: Path) -> Path:
    """Two transport streams, one behind the other, whose clocks both begin at 0."""
    half = moving()[: COUNT // 2]
    one = made(folder / "1.ts", "mpeg2video", half, options={"g": str(GOP)})
    two = made(folder / "2.ts", "mpeg2video", half[::-1], options={"g": str(GOP)})
    path = folder / "a.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    return path


SOUGHT = (
    reordered, open_gop, hevc, vp9, av1, variable_rate, transport, mpeg2, cut_by_an_edit_list,
    interlaced_transport, flash_video, fragmented,
)  # fmt: skip
FROM_THE_FRONT = (no_key_frames, raw_stream, no_times, clock_set_back)


def same(some: list[Frame], others: list[Frame]) -> bool:
    """Whether times and pictures are exactly the same; indices count from the first of each."""
    assert [frame.index - some[0].index for frame in some] == list(range(len(some)))
    return (
        len(some) == len(others)
        and all(a.time_s == b.time_s for a, b in zip(some, others, strict=True))
        and all((a.image == b.image).all() for a, b in zip(some, others, strict=True))
    )


@pytest.mark.parametrize("make", [*SOUGHT, *FROM_THE_FRONT], ids=lambda make: make.__name__)
def test_what_is_sought_is_what_is_read_from_the_front(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    whole = list(open_video(path, backend="pyav"))
    assert len(whole) >= COUNT - 7
    for k in (1, GOP - 1, GOP, 2 * GOP + 1, 40, len(whole) - 1):
        start_s = whole[k].time_s
        for selection in (
            Selection(start_s=start_s), Selection(start_s=start_s - 0.003, stride=3),
            Selection(start_s=start_s, end_s=start_s + 0.3),
        ):  # fmt: skip
            wanted = [whole[i] for i in selection.chosen(frame.time_s for frame in whole)]
            read = list(open_video(path, backend="pyav", selection=selection))
            assert read[0].index == 0 and same(read, wanted), (k, selection)
    with open_video(path, backend="pyav", selection=Selection(start_s=0.5, stride=2)) as reader:
        part = list(reader)
        tail = list(reader.frames(12, part[11].time_s))
        assert tail[0].index == 12 and same(tail, part[12:])
        assert same(list(reader.frames(12, part[11].time_s + 0.01)), part[12:])  # not shown then
        assert not list(reader.frames(len(part), part[-1].time_s))


@pytest.mark.parametrize("make", SOUGHT, ids=lambda make: make.__name__)
def test_what_comes_before_a_start_is_not_decoded(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    with open_video(path, backend="pyav") as reader:
        times = [time_s for time_s, _ in reader.pictures()]
        read = [time_s for time_s, _ in reader.pictures_from(times[45])]
        assert not reader.lost
    assert read == times[-len(read) :]
    assert len(times) - 45 <= len(read) <= len(times) - 45 + 2 * GOP


def test_a_start_after_the_end_is_one_line(tmp_path: Path) -> None:
    path = reordered(tmp_path)
    with pytest.raises(VideoError, match=r"no frame .* from 9 s .*its last begins at 2\.36 s"):
        list(open_video(path, selection=Selection(start_s=9)))


def test_what_a_cut_file_lost_is_said_after_a_seek(tmp_path: Path) -> None:
    options = {"bf": "0", "g": str(GOP)}
    path = made(tmp_path / "a.mp4", "libx264", options=options, container={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.8)])
    with open_video(path) as reader:
        whole = list(reader)
        lost = list(reader.lost)
    with open_video(path, selection=Selection(start_s=1)) as reader:
        assert same(list(reader), whole[25:])
        assert reader.lost == lost and "it is cut short" in lost[0]


def thumbnail_first(path: Path, disposition: int, first: str = "mjpeg") -> Path:
    """A still picture in stream 0, the film in stream 1."""
    with av.open(str(path), "w") as out:
        still: Any = out.add_stream(first, rate=RATE)
        still.height, still.width = 240, 320
        still.pix_fmt = "yuvj420p" if first == "mjpeg" else "rgb24"
        still.disposition = disposition
        film: Any = out.add_stream("libx264", rate=RATE)
        film.height, film.width, film.pix_fmt = *SIZE_HW, "yuv420p"
        film.disposition = av.stream.Disposition.default
        grey = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 128, np.uint8))
        out.mux(still.encode(grey))
        out.mux(still.encode())
        for image in moving(25):
            out.mux(film.encode(av.VideoFrame.from_ndarray(image)))
        out.mux(film.encode())
    return path


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("a.mkv", 0), ("a.mkv", av.stream.Disposition.attached_pic),
        ("a.mov", av.stream.Disposition.attached_pic), ("a.mov", 0),
        ("a.mkv", av.stream.Disposition.still_image),
    ],
)  # fmt: skip
def test_of_several_streams_the_film_is_read(
    tmp_path: Path, name: str, disposition: av.stream.Disposition | int
) -> None:
    path = thumbnail_first(tmp_path / name, int(disposition))
    with open_video(path) as reader:
        assert reader.info.backend == "pyav"
        assert reader.info.size_hw == SIZE_HW and reader.info.codec == "h264"
        read = list(reader)
    assert len(read) == 25
    assert np.abs(read[0].image.astype(int) - moving(1)[0]).mean() < 8


def test_of_two_films_the_default_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        streams: list[Any] = [out.add_stream("libx264", rate=RATE) for _ in range(2)]
        for k, stream in enumerate(streams):
            stream.height, stream.width, stream.pix_fmt = (64, 96 + 32 * k, "yuv420p")
            stream.disposition = av.stream.Disposition.default if k else 0
        for image in moving(12, (64, 128)):
            out.mux(streams[0].encode(av.VideoFrame.from_ndarray(image[:, :96].copy())))
            out.mux(streams[1].encode(av.VideoFrame.from_ndarray(image)))
        for stream in streams:
            out.mux(stream.encode())
    with open_video(path) as reader:
        assert reader.info.size_hw == (64, 128)
        assert len(list(reader)) == 12


def top_first(stream: Any) -> None:
    stream.codec_context.options = {**stream.codec_context.options, "top": "1"}


def woven(frames: NDArray[np.uint8], top: bool = True) -> NDArray[np.uint8]:
    """Two frames to one: the rows of each one field, the earlier field on top or not."""
    first, second = frames[0::2], frames[1::2]
    made_of = first.copy()
    made_of[:, 1::2] = second[:, 1::2]
    if not top:
        made_of[:, 0::2], made_of[:, 1::2] = second[:, 0::2], first[:, 1::2]
    return made_of


def comb(image: NDArray[np.uint8]) -> float:
    """How much rows differ from both of their neighbours, on average."""
    luma = image.astype(int).sum(axis=2) / 3
    up, down = luma[1:-1] - luma[:-2], luma[1:-1] - luma[2:]
    return float(np.where(up * down > 0, np.minimum(abs(up), abs(down)), 0).mean())


def broadcast(folder: Path, frames: NDArray[np.uint8]) -> Path:
    options = {"flags": "+ildct+ilme", "g": "12", "q": "2", "b": "4000000"}
    return made(folder / "a.ts", "mpeg2video", frames, options=options)


def mbaff(folder: Path, frames: NDArray[np.uint8]) -> Path:
    options = {"crf": "12", "bf": "0", "x264-params": "interlaced=1:tff=1"}
    return made(folder / "a.mp4", "libx264", frames, options=options)


def camcorder(folder: Path, frames: NDArray[np.uint8]) -> Path:
    """DV, whose lower field is the earlier one."""
    return made(folder / "a.dv", "dvvideo", frames, pixels="yuv420p")


def fast(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A box that moves 8 pixels from field to field."""
    height, width = size_hw
    frames = np.full((24, height, width, 3), 60, np.uint8)
    for t, frame in enumerate(frames):
        frame[height // 4 : height // 2, 8 * t : 8 * t + width // 4] = 220
    return frames


@pytest.mark.parametrize(
    ("make", "size_hw", "top"),
    [(broadcast, (96, 320), True), (mbaff, (96, 320), True), (camcorder, (576, 720), False)],
)
def test_fields_of_two_moments_become_one_picture(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[Path, NDArray[np.uint8]], Path],
    size_hw: tuple[int, int],
    top: bool,
) -> None:
    caplog.set_level(logging.INFO, "carvid")
    fields = fast(size_hw)
    path = make(tmp_path, woven(fields, top))
    with open_video(path) as reader:
        assert reader.info.backend == "pyav"
        read = list(reader)
        list(reader)
    assert [frame.time_s for frame in read] == pytest.approx([t / 25 for t in range(12)])
    sharp, wove = comb(fields[4]), comb(woven(fields, top)[4])
    assert wove > 4 * sharp + 0.3
    assert comb(read[4].image) < sharp + 0.2 * (wove - sharp)
    assert np.abs(read[4].image.astype(int) - fields[8]).mean() < 4  # the earlier of its fields
    said = [r.message for r in caplog.records if "bwdif" in r.message]
    assert len(said) == 1 and str(path) in said[0]


def test_whole_frames_that_are_marked_as_fields_stay(tmp_path: Path) -> None:
    """Films in transport streams."""
    path = broadcast(tmp_path, fast((96, 320))[::2])
    with av.open(str(path)) as container:
        plain = [(f.interlaced_frame, f.to_ndarray(format="rgb24")) for f in container.decode(0)]
    read = list(open_video(path))
    assert all(marked for marked, _ in plain) and len(read) == len(plain) == 12
    for frame, (_, image) in zip(read[1:-1], plain[1:-1], strict=True):
        assert (frame.image == image).all(), frame.index


SIGNALS = {"pq": (16, sdr.PQ), "hlg": (18, sdr.HLG)}


def tagged(transfer: int, primaries: int, matrix: int) -> Change:
    def change(stream: Any) -> None:
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, primaries
        context.colorspace, context.color_range = matrix, 1

    return change


def in_10_bits(path: Path, rgb: NDArray[np.float64], transfer: int, primaries: int = 9) -> Path:
    """Four frames of stripes of these R'G'B', float (N, 3) in [0, 1], in BT.2020's matrix."""
    luma = rgb @ np.array([0.2627, 0.6780, 0.0593])
    blue, red = (rgb[:, 2] - luma) / 1.8814, (rgb[:, 0] - luma) / 1.4746
    planes = [4 * (16 + 219 * luma), 4 * (128 + 224 * blue), 4 * (128 + 224 * red)]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(
            "libx265", rate=RATE, options={"x265-params": f"{QUIET}:lossless=1"}
        )
        stream.height, stream.width, stream.pix_fmt = 64, 16 * len(rgb), "yuv420p10le"
        tagged(transfer, primaries, 9)(stream)
        for t in range(4):
            frame = av.VideoFrame(16 * len(rgb), 64, "yuv420p10le")
            for plane, codes in zip(frame.planes, planes, strict=True):
                row = np.repeat(np.round(codes).astype(np.uint16), plane.width // len(rgb))
                rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                rows[:, : len(row)] = row
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = t, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def colors_of(reader: VideoReader, count: int) -> NDArray[np.int64]:
    """The colours in the middle of the stripes of the second frame, (N, 3)."""
    image = list(reader)[1].image
    return image[32, 8 + 16 * np.arange(count)].astype(int)


LIGHT = np.array(
    [(0, 0, 0), (0.5, 0.5, 0.5), (26, 26, 26), (100, 100, 100), (203, 203, 203),
     (1000, 1000, 1000), (4000, 4000, 4000), (120, 20, 20), (20, 90, 30), (15, 25, 80),
     (600, 500, 50)], float,
)  # fmt: skip
"""cd/m² of red, green and blue in BT.2020."""


def hlg_of(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100: display light up to 1000 cd/m² to an HLG signal."""
    shown = np.minimum(light, 1000) / 1000
    luma = np.maximum(shown @ np.array([0.2627, 0.6780, 0.0593]), 1e-9)[:, None]
    scene = shown * luma ** (1 / 1.2 - 1)
    root = np.sqrt(3 * scene)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.clip(np.where(scene <= 1 / 12, root, high), 0, 1)


@pytest.mark.parametrize("transfer", [sdr.PQ, sdr.HLG], ids=["PQ", "HLG"])
def test_hdr_is_tone_mapped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, transfer: int
) -> None:
    caplog.set_level(logging.INFO, "carvid")
    signal = sdr.pq_signal(LIGHT) if transfer == sdr.PQ else hlg_of(LIGHT)
    path = in_10_bits(tmp_path / "a.mp4", signal, transfer)
    with open_video(path) as reader:
        assert reader.info.backend == "pyav"
        read = colors_of(reader, len(LIGHT))
    wanted = np.round(255 * sdr.sdr(signal, transfer, 9))
    assert np.abs(read - wanted).max() <= 8 and np.abs(read - wanted).mean() < 1.5
    grey = read[:7, 0]
    assert grey[0] == 0 and grey[1] < 30 and (np.diff(grey[:6]) >= 0).all()
    assert 95 < grey[2] < 120  # 18 % grey
    assert 180 < grey[3] < 200
    assert 220 < grey[4] < 240  # a white page
    assert grey[5] >= 253 and grey[6] >= 253
    assert read[7, 0] > 2 * read[7, 1:].max() and read[8].argmax() == 1 and read[9].argmax() == 2
    said = [r.message for r in caplog.records if "HDR" in r.message]
    assert said == [f"{path}: HDR ({sdr.HDR[transfer]}, BT.2020), tone-mapped to SDR (BT.709)"]


def test_the_formulas_of_hdr_meet_published_values() -> None:
    """ST 2084 and BT.2408: 100 and 203 cd/m² are 51 % and 58 % of PQ; 203 are 75 % of HLG."""
    assert sdr.pq_signal(np.array([100.0, 203.0, 1e4])) == pytest.approx(
        [0.508, 0.581, 1], abs=1e-3
    )
    assert sdr.pq_light(np.array([0.508, 0.581, 1])) == pytest.approx([100, 203, 1e4], rel=0.01)
    assert sdr.hlg_light(np.full((1, 3), 0.75))[0, 0] == pytest.approx(203, rel=0.01)
    assert sdr.hlg_light(np.full((1, 3), 1.0))[0, 0] == pytest.approx(1000, rel=0.01)
    # BT.2087: of linear BT.709's red in BT.2020.
    assert np.linalg.inv(sdr._to_bt709(9))[:, 0] == pytest.approx(
        [0.6274, 0.0691, 0.0164], abs=1e-3
    )


def test_sdr_of_wider_colours_is_converted(tmp_path: Path) -> None:
    """What BT.709 can show comes out as it was drawn."""
    colors = np.array([(1, 1, 1), (0.5, 0.5, 0.5), (0.8, 0.2, 0.2), (0.1, 0.6, 0.3), (0, 0, 0)])
    wide = (colors**2.4 @ np.linalg.inv(sdr._to_bt709(9)).T) ** (1 / 2.4)
    path = in_10_bits(tmp_path / "a.mp4", wide, 14)
    read = colors_of(open_video(path), len(colors))
    assert np.abs(read - 255 * colors).max() <= 4


def test_10_bits_of_sdr_stay_as_they_are(tmp_path: Path) -> None:
    colors = np.array([(1, 1, 1), (0.5, 0.5, 0.5), (0.8, 0.2, 0.2), (0.1, 0.6, 0.3), (0, 0, 0)])
    path = in_10_bits(tmp_path / "a.mp4", colors, 1, primaries=1)
    read = colors_of(open_video(path), len(colors))
    assert np.abs(read - 255 * colors).max() <= 3


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize(("matrix", "red", "blue"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114)])
def test_matrices_and_ranges_are_obeyed(
    tmp_path: Path, matrix: int, red: float, blue: float, color_range: int, pixels: str
) -> None:
    colors = np.array([(0.8, 0.1, 0.1), (0.1, 0.7, 0.2), (0.2, 0.2, 0.9), (0.9, 0.9, 0.9)])
    luma = colors @ np.array([red, 1 - red - blue, blue])
    chroma = [(colors[:, 2] - luma) / (2 - 2 * blue), (colors[:, 0] - luma) / (2 - 2 * red)]
    deep = 4 if "10" in pixels else 1
    scale = (219, 224, 16) if color_range == 1 else (255, 255, 0)
    codes = [scale[2] + scale[0] * luma, *(128 + scale[1] * c for c in chroma)]
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options={"crf": "0", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 128, pixels
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, color_range
        for t in range(3):
            frame = av.VideoFrame(128, 64, pixels)
            frame.colorspace, frame.color_range = matrix, color_range
            kind = np.uint8 if deep == 1 else np.uint16
            for plane, values in zip(frame.planes, codes, strict=True):
                rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
                row = np.repeat(np.round(deep * values).astype(kind), plane.width // 4)
                rows[:, : len(row)] = row
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = t, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    for backend in ("auto", "pyav"):
        image = list(open_video(path, backend=backend))[1].image  # type: ignore[arg-type]
        assert np.abs(image[32, 16 + 32 * np.arange(4)] - 255 * colors).max() <= 3


@pytest.mark.parametrize("name", ["a.mp4", "b.mp4", "a.mkv", "a.webm"])
def test_the_last_frame_lasts_as_long_as_it_did(tmp_path: Path, name: str) -> None:
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    options = {} if name == "a.webm" else {"bf": "0" if name == "a.mp4" else "2"}
    times = [0, 40, 80, 200, 240, 280]
    path = made(
        tmp_path / name, codec, moving(6), options=options, times_ms=times, last_ms=3000
    )  # fmt: skip
    out = tmp_path / "out.mp4"
    with open_video(path) as reader:
        read = list(reader)
        assert read[-1].duration_s == pytest.approx(3, abs=2e-3)
        with VideoWriter(out, SIZE_HW, reader.info.frame_rate) as writer:
            for frame in read:
                writer.write(frame.image, frame.time_s, frame.duration_s)
    with av.open(str(out)) as container:
        assert (container.duration or 0) / 1e6 == pytest.approx(3.28, abs=0.02)
    with open_video(path, selection=Selection(end_s=1.28)) as reader:
        assert list(reader)[-1].duration_s == pytest.approx(1, abs=2e-3)


def test_steps_of_a_constant_rate_are_left_to_it(tmp_path: Path) -> None:
    for make in (reordered, open_gop, mpeg2):
        with open_video(make(tmp_path)) as reader:
            assert math.isnan(list(reader)[-1].duration_s)


@pytest.mark.parametrize(
    "name",
    ["-x.mp4", "http:x.mp4", "a%05d.mp4", "camera:0.mp4", "file:x.mp4", "a?b#c.mp4",
     "concat:x|y.mp4", "camera:0", "[a];b,c='d'.mp4"],
)  # fmt: skip
def test_names_that_look_like_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.rename(made(tmp_path / "plain.mp4", "libx264", moving(5)), tmp_path / name)
    assert not is_live(name)
    assert len(list(open_video(name))) == 5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.m3u8", "#EXTM3U\n#EXTINF:1,\nfilm.mp4\n", "is a list of videos; give one of them"),
        ("a.mp4", "#EXTM3U\nfilm.mp4\n", "is a list of videos; give one of them"),
        ("a.txt", "ffconcat version 1.0\nfile film.mp4\n", "is a list of videos; give one"),
        ("a.txt", "film.mp4\nfilm.mp4\n", "cannot read|is a text"),
        ("a.nfo", "a film\n" * 30, "is a text; give a video"),
        ("a.mp4", "<!DOCTYPE html><html><body>404</body></html>" * 9, "cannot read"),
        ("a.mkv", '{"error": "not found"}' * 99, "cannot read"),
        ("a.sdp", "v=0\nm=video 5004 RTP/AVP 96\nc=IN IP4 127.0.0.1\n", "cannot read|list"),
    ],
)
def test_what_is_no_video_is_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    made(tmp_path / "film.mp4", "libx264", moving(5))
    (tmp_path / name).write_text(text)
    with pytest.raises(VideoError, match=message) as error:
        list(open_video(tmp_path / name))
    assert "\n" not in str(error.value) and "; " in str(error.value)


def test_an_mp4_without_samples_is_one_line(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        with av.open(str(tmp_path / name), "w") as out:
            stream: Any = out.add_stream("mpeg4", rate=RATE)
            stream.height, stream.width, stream.pix_fmt = *SIZE_HW, "yuv420p"
            out.start_encoding()
        with pytest.raises(VideoError) as error:
            list(open_video(tmp_path / name))
        assert "\n" not in str(error.value) and "; " in str(error.value)


@pytest.fixture
def piped(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Makes a named pipe that a file is written into."""
    import threading

    threads = []

    def pipe(source: Path) -> Path:
        place = tmp_path / f"pipe{len(threads)}"
        os.mkfifo(place)

        def write() -> None:
            with io.FileIO(place, "w") as end:
                data = source.read_bytes()
                try:
                    while data:
                        data = data[end.write(data) :]
                except BrokenPipeError:
                    return

        threads.append(threading.Thread(target=write, daemon=True))
        threads[-1].start()
        return place

    yield pipe
    for thread in threads:
        thread.join(10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_of_mp4_is_told_what_works(tmp_path: Path, piped: Callable[[Path], Path]) -> None:
    with pytest.raises(VideoError, match=r"MPEG-TS, Matroska or y4m, or .*empty_moov") as error:
        noise = np.random.default_rng(0).integers(0, 255, (40, *SIZE_HW, 3), np.uint8)
        large = made(tmp_path / "large.mp4", "libx264", noise, options={"crf": "1"})
        list(open_video(piped(large)))
    assert "\n" not in str(error.value)
    for make in (fragmented, open_gop, transport):
        assert len(list(open_video(piped(make(tmp_path))))) == COUNT
