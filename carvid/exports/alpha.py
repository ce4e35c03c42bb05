"""alpha.mov: ProRes 4444, opaque where any expression is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from carvid.base.files import cannot_write, replacing
from carvid.exports.format import Format
from carvid.media.encode import BT709, hold_ticks
from carvid.media.frames import Frame
from carvid.run.track import Track

PRORES_4444 = {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}
"""Its alpha is coded without loss."""
TICKS = 90_000
"""Of the video's clock, a second."""


def write_alpha(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write the frames with what was found opaque, and all else transparent.

    Raises:
        OutputError: the place cannot be written.
    """
    video = track.facts.video
    height, width = video.size_hw
    rate = video.frame_rate / video.selection.stride
    try:
        with replacing(path) as partial, av.open(str(partial), "w") as out:
            stream: Any = out.add_stream("prores_ks", rate=rate, options=PRORES_4444)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuva444p10le"
            context = stream.codec_context
            stream.time_base = context.time_base = Fraction(1, TICKS)
            context.sample_aspect_ratio = video.pixel_aspect
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.thread_count = 1
            first_s, hold = float(track.times_s[0]), 0
            waiting: list[Any] = []
            for frame, labels in zip(frames, track.label_maps, strict=True):
                rgba = np.dstack([frame.image, np.where(labels > 0, 255, 0).astype(np.uint8)])
                picture: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba), "rgba")
                picture = picture.reformat(format="yuva444p10le", dst_colorspace="ITU709")
                picture.time_base = Fraction(1, TICKS)
                picture.pts = round((frame.time_s - first_s) * TICKS)
                out.mux(waiting)
                waiting = stream.encode(picture)
                hold = hold_ticks(frame.duration_s, rate, TICKS)
            waiting += stream.encode()
            if waiting and hold != hold_ticks(math.nan, rate, TICKS):
                waiting[-1].duration = hold
            out.mux(waiting)
    except av.FFmpegError as error:
        raise cannot_write(path, str(error.strerror)) from None


FORMAT = Format("alpha", "alpha.mov", write_alpha)
