"""Makers of videos as cameras, editors and broadcasters leave them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

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
        options={"bf": "2", "g": str(GOP), "flags": "+ildct+ilme"},
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


def woven(frames: NDArray[np.uint8], top: bool = True) -> NDArray[np.uint8]:
    """Two frames to one: the rows of each one field, the earlier field on top or not."""
    first, second = frames[0::2], frames[1::2]
    made_of = first.copy()
    made_of[:, 1::2] = second[:, 1::2]
    if not top:
        made_of[:, 0::2], made_of[:, 1::2] = second[:, 0::2], first[:, 1::2]
    return made_of
