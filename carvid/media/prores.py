"""Videos with alpha, which editors lay over others: ProRes 4444."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from carvid.base.files import cannot_write, replacing
from carvid.media.encode import BT709, Sound, SoundCopy, copying_sound, hold_ticks
from carvid.media.frames import VideoInfo

PRORES_4444 = {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}
"""Its alpha is coded without loss."""
TICKS = 90_000
"""Of the video's clock, a second."""
MOV_SOUND_CODECS = {"aac", "ac3", "alac", "eac3", "mp3", "pcm_alaw", "pcm_f32le", "pcm_f64le",
                    "pcm_mulaw", "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be",
                    "pcm_s32le", "pcm_u8"}  # fmt: skip
"""Of sound that is copied into a .mov, which has no FLAC and no Opus."""


@contextmanager
def alpha_writer(path: Path, video: VideoInfo, sound: Sound | None = None) -> Iterator[AlphaWriter]:
    """Give what writes a .mov of a video's frames, beside its place and renamed when it is whole.

    Raises:
        OutputError: the place cannot be written.
    """
    try:
        with replacing(path) as partial, av.open(str(partial), "w") as out:
            stream = _stream(out, video)  # before the sound's
            with copying_sound(sound, out, MOV_SOUND_CODECS) as copy:
                rate = video.frame_rate / video.selection.stride
                writer = AlphaWriter(out, stream, copy, rate)
                yield writer
                writer.finish()
    except av.FFmpegError as error:
        raise cannot_write(path, str(error.strerror)) from None


@dataclass
class AlphaWriter:
    """Writes frames with alpha, BT.709, one after the other."""

    _out: Any
    _stream: Any
    _sound: SoundCopy | None
    _rate: Fraction
    """Frames per second, on average."""
    _first_s: float = field(default=math.nan, init=False)
    _last: list[Any] = field(default_factory=list, init=False)
    """Packets of the last frame, whose duration the end may set."""
    _hold: int = field(default=0, init=False)
    """How long the last frame lasts, ticks."""

    def write(
        self,
        image: NDArray[np.uint8],
        opaque: NDArray[np.bool_],
        time_s: float,
        duration_s: float = math.nan,
    ) -> None:
        """Append uint8 (H, W, 3) RGB that is seen where `opaque`, bool (H, W), from `time_s` on; if
        it is the last one, for `duration_s`, or one step of the frame rate where that is NaN."""
        if math.isnan(self._first_s):
            self._first_s = time_s
        rgba = np.dstack([image, np.where(opaque, 255, 0).astype(np.uint8)])
        picture: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba), "rgba")
        picture = picture.reformat(format="yuva444p10le", dst_colorspace="ITU709")
        picture.time_base = Fraction(1, TICKS)
        picture.pts = round((time_s - self._first_s) * TICKS)
        self._out.mux(self._last)
        self._last, self._hold = (
            self._stream.encode(picture), hold_ticks(duration_s, self._rate, TICKS),
        )  # fmt: skip
        if self._sound is not None:
            self._sound.copy_until(time_s, self._first_s)

    def finish(self) -> None:
        """Write what is still to be written."""
        packets = [*self._last, *self._stream.encode()]
        if packets and self._hold != hold_ticks(math.nan, self._rate, TICKS):
            packets[-1].duration = self._hold
        self._out.mux(packets)
        if self._sound is not None:
            self._sound.copy_until(math.inf, self._first_s)


def _stream(out: Any, video: VideoInfo) -> Any:
    """A stream for a video's frames in a container."""
    stream = out.add_stream(
        "prores_ks", rate=video.frame_rate / video.selection.stride, options=PRORES_4444
    )
    stream.height, stream.width = video.size_hw
    stream.pix_fmt = "yuva444p10le"
    context = stream.codec_context
    stream.time_base = context.time_base = Fraction(1, TICKS)
    context.sample_aspect_ratio = video.pixel_aspect
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.thread_count = 1
    return stream
