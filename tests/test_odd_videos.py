"""Videos as cameras, editors and broadcasters leave them, made on the spot and read right."""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from carvid.base.errors import VideoError
from carvid.media.encode import VideoWriter
from carvid.media.open import Selection, is_live, open_video
from tests.odd_videos import (
    COUNT,
    RATE,
    SIZE_HW,
    fragmented,
    made,
    moving,
    mpeg2,
    open_gop,
    reordered,
    transport,
    woven,
)


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
