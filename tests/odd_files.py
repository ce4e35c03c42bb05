#!/usr/bin/env python
"""Odd and broken inputs, made with PyAV: `python -m tests.odd_files FOLDER`.

Each maker writes one input and returns where it is. Frames that a codec keeps exactly are known
beforehand; of the others plain PyAV (`plain_frames`) says what they are.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import wave
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import make_frames

RATE = Fraction(25)
COUNT = 12
SIZE = (64, 96)
VFR_MS = (0, 40, 60, 200, 233, 300, 400, 401, 500, 640, 720, 1000)
"""Times of the frames of variable rate."""
QUARTER = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
MIRROR = (-1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
TRANSPOSE = (0, 1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30)
"""Display matrices as an mp4's tkhd has them: a b u c d v x y w."""
LOSSLESS = {"crf": "0"}

Maker = Callable[[Path], Path]
MAKERS: dict[str, Maker] = {}
"""Name to maker; the maker gets a folder of its own."""


def maker(function: Maker) -> Maker:
    MAKERS[function.__name__] = function
    return function


def pictures() -> NDArray[np.uint8]:
    """The frames of nearly all inputs, uint8 (12, 64, 96, 3)."""
    return make_frames(COUNT, *SIZE)


def encode(
    path: Path,
    codec: str,
    pixels: str,
    *,
    frames: NDArray[np.uint8] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    times_ms: Sequence[int] | None = None,
    form: str | None = None,
    change: Callable[[Any], None] | None = None,
    matrix: tuple[int, ...] | None = None,
) -> Path:
    frames = pictures() if frames is None else frames
    given: Any = {"format": form} if form else {}
    with av.open(str(path), "w", options=container or {}, **given) as out:
        stream: Any = out.add_stream(codec, rate=RATE, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1  # so that damage hits the same bits everywhere
        if times_ms is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if change is not None:
            change(stream)
        for t, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image).reformat(format=pixels)
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[t], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    if matrix is not None:
        patch(path, b"tkhd", 44, matrix)
    return path


def patch(path: Path, box: bytes, offset: int, values: tuple[int, ...]) -> None:
    """Overwrite big-endian 32-bit numbers `offset` bytes into the first mp4 box of that name."""
    data = bytearray(path.read_bytes())
    struct.pack_into(f">{len(values)}i", data, data.index(box) + offset, *values)
    path.write_bytes(data)


def packets(path: Path) -> list[tuple[int, int]]:
    """Position and size of the video packets, in file order."""
    with av.open(str(path)) as container:
        return [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]


def cut_file(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def plain_frames(path: Path) -> list[NDArray[np.uint8]]:
    """What PyAV decodes, in one thread, when nothing is done about anything."""
    frames = []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for packet in container.demux(video=0):
            with suppress(av.InvalidDataError):
                frames += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
    return frames


@maker
def h264(folder: Path) -> Path:
    return encode(folder / "a.mp4", "libx264", "yuv420p", options={"bf": "0"})


@maker
def h264_reordered(folder: Path) -> Path:
    return encode(folder / "a.mp4", "libx264", "yuv420p", options={"bf": "3"})


@maker
def h264_in_rgb(folder: Path) -> Path:
    return encode(folder / "a.mp4", "libx264rgb", "rgb24", options=LOSSLESS)


@maker
def h264_raw_stream(folder: Path) -> Path:
    """No container: no time, no count, no index."""
    return encode(folder / "a.h264", "libx264", "yuv420p", options={"bf": "2"}, form="h264")


@maker
def grey_10_bit(folder: Path) -> Path:
    return encode(folder / "a.mkv", "ffv1", "gray10le")


@maker
def hevc_10_bit(folder: Path) -> Path:
    return encode(
        folder / "a.mp4", "libx265", "yuv420p10le", options={"x265-params": "log-level=none"}
    )


@maker
def av1(folder: Path) -> Path:
    os.environ["SVT_LOG"] = "1"  # errors alone
    return encode(folder / "a.mp4", "libsvtav1", "yuv420p", options={"preset": "11"})


@maker
def vp9(folder: Path) -> Path:
    return encode(folder / "a.webm", "libvpx-vp9", "yuv420p", options={"deadline": "realtime"})


@maker
def vp9_alpha(folder: Path) -> Path:
    return encode(folder / "a.webm", "libvpx-vp9", "yuva420p", options={"deadline": "realtime"})


@maker
def mpeg4_avi(folder: Path) -> Path:
    return encode(folder / "a.avi", "mpeg4", "yuv420p")


@maker
def mpeg2_ts(folder: Path) -> Path:
    """A transport stream: it starts at 1.4 s and has no index."""
    return encode(folder / "a.ts", "mpeg2video", "yuv420p")


@maker
def prores_mov(folder: Path) -> Path:
    return encode(folder / "a.mov", "prores_ks", "yuv422p10le")


@maker
def motion_jpeg(folder: Path) -> Path:
    return encode(folder / "a.avi", "mjpeg", "yuvj420p")


@maker
def ffv1_mkv(folder: Path) -> Path:
    return encode(folder / "a.mkv", "ffv1", "bgr0")


@maker
def gif(folder: Path) -> Path:
    """Delays of 40, 200 and 100 ms."""
    images = [Image.fromarray(image).quantize(64) for image in pictures()]
    images[0].save(
        folder / "a.gif", save_all=True, append_images=images[1:], loop=0,
        duration=[(40, 200, 100)[t % 3] for t in range(COUNT)],
    )  # fmt: skip
    return folder / "a.gif"


@maker
def turned(folder: Path) -> Path:
    return encode(folder / "a.mov", "libx264", "yuv420p", options={"bf": "0"}, matrix=QUARTER)


@maker
def mirrored(folder: Path) -> Path:
    return encode(folder / "a.mp4", "libx264", "yuv420p", options={"bf": "0"}, matrix=MIRROR)


@maker
def transposed(folder: Path) -> Path:
    return encode(folder / "a.mp4", "libx264", "yuv420p", options={"bf": "0"}, matrix=TRANSPOSE)


@maker
def variable_rate(folder: Path) -> Path:
    return encode(
        folder / "a.mp4", "libx264", "yuv420p", options={"bf": "0"}, times_ms=VFR_MS,
        container={"video_track_timescale": "1000"},
    )  # fmt: skip


@maker
def variable_rate_reordered(folder: Path) -> Path:
    return encode(folder / "a.mkv", "libx264", "yuv420p", options={"bf": "2"}, times_ms=VFR_MS)


@maker
def odd_size(folder: Path) -> Path:
    frames = make_frames(COUNT, 33, 47)
    return encode(folder / "a.mp4", "libx264rgb", "rgb24", frames=frames, options=LOSSLESS)


@maker
def a_pixel_wide(folder: Path) -> Path:
    frames = np.ascontiguousarray(pictures()[:, :, :1])
    return encode(folder / "a.mov", "png", "rgb24", frames=frames)


@maker
def pixels_not_square(folder: Path) -> Path:
    def anamorphic(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)

    return encode(folder / "a.mp4", "libx264", "yuv420p", options={"bf": "0"}, change=anamorphic)


@maker
def interlaced(folder: Path) -> Path:
    return encode(
        folder / "a.mp4", "libx264", "yuv420p",
        options={"bf": "0", "x264-params": "interlaced=1:tff=1"},
    )  # fmt: skip


@maker
def negative_times(folder: Path) -> Path:
    times, kept = [40 * t - 200 for t in range(COUNT)], {"avoid_negative_ts": "disabled"}
    return encode(folder / "a.mkv", "ffv1", "bgr0", times_ms=times, container=kept)


@maker
def first_times_missing(folder: Path) -> Path:
    """FFmpeg's H.264 parser drops times below 0: five frames without one, then 0."""
    times, kept = [40 * t - 200 for t in range(COUNT)], {"avoid_negative_ts": "disabled"}
    return encode(
        folder / "a.mkv", "libx264", "yuv420p", times_ms=times, container=kept,
        options={"bf": "0"},
    )  # fmt: skip


@maker
def late_start(folder: Path) -> Path:
    times = [5000 + 40 * t for t in range(COUNT)]
    return encode(folder / "a.mkv", "ffv1", "bgr0", times_ms=times)


@maker
def a_gap_of_an_hour(folder: Path) -> Path:
    times = [40 * t + (3_600_000 if t >= 6 else 0) for t in range(COUNT)]
    return encode(folder / "a.mkv", "ffv1", "bgr0", times_ms=times)


@maker
def missing_times(folder: Path) -> Path:
    """An AVI of B-frames: its packets have no presentation times."""
    return encode(folder / "a.avi", "mpeg4", "yuv420p", options={"bf": "2"})


@maker
def fragmented(folder: Path) -> Path:
    """No sample table, so no count of frames."""
    flags = {"movflags": "frag_keyframe+empty_moov"}
    return encode(folder / "a.mp4", "libx264", "yuv420p", options={"g": "4"}, container=flags)


@maker
def cut_by_an_edit_list(folder: Path) -> Path:
    path = encode(folder / "a.mp4", "libx264", "yuv420p", options={"bf": "0"})
    patch(path, b"elst", 16, (4 * 512,))
    return path


@maker
def two_sizes(folder: Path) -> Path:
    """The picture's size changes after half of a raw stream."""
    parts = []
    for name, size in (("one", SIZE), ("two", (32, 48))):
        part = encode(
            folder / f"{name}.h264", "libx264", "yuv420p", frames=make_frames(COUNT // 2, *size),
            options={"bf": "0"}, form="h264",
        )  # fmt: skip
        parts.append(part.read_bytes())
        part.unlink()
    (folder / "a.h264").write_bytes(b"".join(parts))
    return folder / "a.h264"


@maker
def one_frame(folder: Path) -> Path:
    return encode(folder / "a.mp4", "libx264", "yuv420p", frames=pictures()[:1])


@maker
def y4m(folder: Path) -> Path:
    return encode(folder / "a.y4m", "wrapped_avframe", "yuv444p", form="yuv4mpegpipe")


@maker
def name_with_a_protocol(folder: Path) -> Path:
    (folder / "concat:x|y").mkdir()
    name = "http:$(touch x);'\"%05d -i.mp4"
    return encode(folder / "concat:x|y" / name, "libx264", "yuv420p", options={"bf": "0"})


def _long(path: Path, **more: Any) -> Path:
    """More frames and a key frame in every eight, so that damage ends."""
    rng = np.random.default_rng(3)
    frames = np.concatenate([pictures()] * 3)
    noise = rng.integers(0, 40, frames.shape, dtype=np.uint8)
    return encode(path, frames=frames + noise // 2, **more)


H264_OF_8 = {
    "codec": "libx264", "pixels": "yuv420p",
    "options": {"bf": "0", "g": "8", "x264-params": "mbtree=0"},
}  # fmt: skip


@maker
def truncated_faststart(folder: Path) -> Path:
    """The index comes first and knows frames that are no longer there."""
    return cut_file(_long(folder / "a.mp4", container={"movflags": "faststart"}, **H264_OF_8), 0.6)


@maker
def truncated_mkv(folder: Path) -> Path:
    return cut_file(_long(folder / "a.mkv", **H264_OF_8), 0.6)


@maker
def truncated_avi(folder: Path) -> Path:
    return cut_file(_long(folder / "a.avi", codec="mpeg4", pixels="yuv420p"), 0.6)


@maker
def truncated_ts(folder: Path) -> Path:
    """Nothing in it tells of more."""
    path = _long(folder / "a.ts", **H264_OF_8)
    path.write_bytes(path.read_bytes()[: packets(path)[20][0]])
    return path


@maker
def stream_without_its_beginning(folder: Path) -> Path:
    """Recorded from within: no key frame at first."""
    path = _long(folder / "a.ts", **H264_OF_8)
    data = path.read_bytes()
    place = (len(data) // 188 // 10) * 188
    path.write_bytes(data[place:])
    return path


@maker
def damaged_packet(folder: Path) -> Path:
    path = _long(folder / "a.mp4", **H264_OF_8)
    place, size = packets(path)[11]
    data = bytearray(path.read_bytes())
    data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    return path


@maker
def flipped_bits(folder: Path) -> Path:
    """Bits inside coded slices: most frames still decode, wrongly."""
    path = _long(folder / "a.mp4", **H264_OF_8)
    data = bytearray(path.read_bytes())
    for place, size in packets(path)[3::7]:
        data[place + size // 2] ^= 0x10
    path.write_bytes(data)
    return path


@maker
def damaged_mpeg4(folder: Path) -> Path:
    path = _long(folder / "a.avi", codec="mpeg4", pixels="yuv420p")
    data = bytearray(path.read_bytes())
    for place, size in packets(path)[5:8]:
        data[place + 8 : place + size] = bytes(size - 8)
    path.write_bytes(data)
    return path


@maker
def damaged_vp9(folder: Path) -> Path:
    path = _long(
        folder / "a.webm", codec="libvpx-vp9", pixels="yuv420p",
        options={"deadline": "realtime", "g": "8"},
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    place, size = packets(path)[11]
    data[place : place + size + 8] = b"\xff" * (size + 8)
    path.write_bytes(data)
    return path


@maker
def one_image(folder: Path) -> Path:
    Image.fromarray(pictures()[0]).save(folder / "a.png")
    return folder / "a.png"


@maker
def images_with_gaps(folder: Path) -> Path:
    (folder / "a").mkdir()
    for t, image in zip((1, 2, 9, 10, 11, 100), pictures(), strict=False):
        Image.fromarray(image).save(folder / "a" / f"frame{t}.png")
    (folder / "a" / ".frame3.png").write_bytes(b"hidden")
    (folder / "a" / "notes.txt").write_text("not an image")
    return folder / "a"


# What cannot be read at all.


@maker
def truncated_without_index(folder: Path) -> Path:
    """An mp4 whose index, at the end, is gone."""
    return cut_file(_long(folder / "a.mp4", **H264_OF_8), 0.6)


@maker
def empty(folder: Path) -> Path:
    (folder / "a.mp4").touch()
    return folder / "a.mp4"


@maker
def text(folder: Path) -> Path:
    (folder / "a.mp4").write_text("this is no video, however it is called\n" * 50)
    return folder / "a.mp4"


@maker
def random_bytes(folder: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, 100_000, dtype=np.uint8)
    (folder / "a.mp4").write_bytes(noise.tobytes())
    return folder / "a.mp4"


@maker
def no_such_file(folder: Path) -> Path:
    return folder / "a.mp4"


@maker
def dangling_link(folder: Path) -> Path:
    (folder / "a.mp4").symlink_to(folder / "gone.mp4")
    return folder / "a.mp4"


@maker
def sound_alone(folder: Path) -> Path:
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    return folder / "a.wav"


@maker
def sound_with_a_cover(folder: Path) -> Path:
    """A song whose only picture is its cover."""
    cover = io.BytesIO()
    Image.fromarray(pictures()[0]).save(cover, "JPEG")
    with av.open(str(folder / "a.m4a"), "w", format="ipod") as out:
        sound: Any = out.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        out.mux(sound.encode(frame))
        out.mux(sound.encode())
    data = (folder / "a.m4a").read_bytes()
    (folder / "a.m4a").write_bytes(_with_cover(data, cover.getvalue()))
    return folder / "a.m4a"


def _with_cover(data: bytes, jpeg: bytes) -> bytes:
    """Put a cover (ilst, covr) into an m4a without other tags; it must end with its moov."""

    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), name) + content

    cover = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + jpeg))
    handler = box(b"hdlr", struct.pack(">II4s4sIIB", 0, 0, b"mdir", b"appl", 0, 0, 0))
    tags = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", cover)))
    moov = data.rindex(b"moov") - 4
    (size,) = struct.unpack(">I", data[moov : moov + 4])
    inside = data[moov + 8 : moov + size]
    if (old := inside.find(b"udta")) >= 0:
        inside = inside[: old - 4]
    return data[:moov] + box(b"moov", inside + tags) + data[moov + size :]


@maker
def folder_without_images(folder: Path) -> Path:
    (folder / "a.mp4").mkdir()
    (folder / "a.mp4" / "notes.txt").write_text("nothing")
    return folder / "a.mp4"


@maker
def images_of_two_sizes(folder: Path) -> Path:
    (folder / "a").mkdir()
    for t, size in enumerate((SIZE, (20, 20))):
        Image.fromarray(make_frames(1, *size)[0]).save(folder / "a" / f"{t}.png")
    return folder / "a"


@maker
def a_broken_image_among_others(folder: Path) -> Path:
    path = images_with_gaps(folder)
    cut_file(path / "frame9.png", 0.5)
    return path


@maker
def image_bomb(folder: Path) -> Path:
    """40,000 × 40,000 pixels in a small file."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    content = zlib.compress(bytes(10**7))
    (folder / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content)
        + chunk(b"IEND", b"")
    )  # fmt: skip
    return folder / "a.png"


@maker
def video_bomb(folder: Path) -> Path:
    path = folder / "a.y4m"
    path.write_bytes(b"YUV4MPEG2 W20000 H10000 F25:1 C420\nFRAME\n" + bytes(1000))
    return path


@maker
def all_frames_damaged(folder: Path) -> Path:
    path = h264(folder)
    data = bytearray(path.read_bytes())
    for place, size in packets(path):
        data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def make_all(folder: Path) -> dict[str, Path]:
    """Make every input, each in a folder of its own."""
    made = {}
    for name, make in MAKERS.items():
        (folder / name).mkdir(parents=True)
        made[name] = make(folder / name)
    return made


if __name__ == "__main__":
    for _name, _path in make_all(Path(sys.argv[1])).items():
        size = os.path.getsize(_path) if _path.exists() else 0
        print(f"{_name:32} {_path}  {size} bytes")
