"""What `--start` costs near the end of a long clip, against the same length from its beginning.

Used by `tools/bench.py seek`. The clips are drawn: a square moves over a shaded ground.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from carvid.media.open import Selection, open_video

RATE = 25
SIZE_HW = (180, 320)
CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "H.264 with B-frames, mp4": ("libx264", "mp4", {"bf": "3", "preset": "veryfast"}),
    "H.264 of variable rate, mp4": ("libx264", "mp4", {"bf": "3", "preset": "veryfast"}),
    "H.264 in a transport stream": ("libx264", "ts", {"bf": "3", "preset": "veryfast"}),
    "HEVC, mkv": ("libx265", "mkv", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "VP9, webm": ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8", "b": "400k"}),
}
"""Name to encoder, container and options."""


def measure(folder: Path, seconds: int, part_s: float, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield for each codec how long reading a part takes at 0 and at 90 % of a clip, seconds."""
    for number, (name, (codec, suffix, options)) in enumerate(CODECS.items()):
        path = folder / f"{number}.{suffix}"
        _draw(path, codec, options, seconds, varies="variable" in name)
        first, late = (
            min(_reading_s(path, start_s, part_s) for _ in range(repeats))
            for start_s in (0.0, 0.9 * seconds)
        )
        yield {"clip": name, "at 0": first, "at 90 %": late, "ratio": late / first}


def _reading_s(path: Path, start_s: float, part_s: float) -> float:
    selection = Selection(start_s=start_s, end_s=start_s + part_s)
    began = time.perf_counter()
    with open_video(path, selection=selection) as reader:
        count = sum(1 for _ in reader)
    assert abs(count - part_s * RATE) <= 2, count
    return time.perf_counter() - began


def _draw(path: Path, codec: str, options: dict[str, str], seconds: int, *, varies: bool) -> None:
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=RATE, options={"g": "100", **options})
        stream.height, stream.width, stream.pix_fmt = *SIZE_HW, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(seconds * RATE):
            frame: Any = av.VideoFrame.from_ndarray(_picture(index))
            frame.pts = 1000 * index // RATE + (7 * (index % 3) if varies else 0)
            frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def _picture(index: int) -> NDArray[np.uint8]:
    height, width = SIZE_HW
    shade = np.linspace(40, 160, width, dtype=np.uint8)[None, :, None]
    picture = np.broadcast_to(shade, (height, width, 3)).copy()
    left = 3 * index % (width - 60)
    picture[60:120, left : left + 60] = (220, index % 256, 60)
    return picture
