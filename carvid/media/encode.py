"""Videos that editors and browsers play: H.264, the times of the frames and the sound kept."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import OutputError
from carvid.base.files import cannot_write, replacing
from carvid.media.container import FILES_ONLY, films, video_stream
from carvid.media.frames import VideoInfo

MP4_SOUND_CODECS = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}
BT709 = 1
"""H.273's number of BT.709 primaries, transfer and matrix; browsers take HD for it anyway."""
LIMITED_RANGE = 1
SUFFIXES = (".mp4", ".m4v", ".mov")
"""Others have no such times (AVI), or players that know them."""
MAX_SIDE = 16384
"""Longest side that x264 encodes, pixels."""
MIN_TICKS, MAX_TICKS = 90_000, 1_000_000
"""Ticks a second of a video's clock, at least and at most."""
H264_OPTIONS = {
    "preset": "veryfast", "crf": "18", "threads": "1", "x264-params": "mbtree=0",
}  # fmt: skip
"""The same frames give the same bytes in every process. x264's macroblock tree does not on CPUs
with AVX-512: 8 runs of 8 differed, none without it, at 1 % more bytes."""


@dataclass(frozen=True)
class Sound:
    """Which sound goes with a video that is written."""

    path: Path
    """Its first sound track is copied, packet by packet, if it has one that fits an mp4."""
    origin_s: float | None = None
    """The file's time at which its video's frames are at 0; None: where the video begins."""
    end_s: float | None = None
    """Packets that begin later are left out, seconds by the times of the frames."""
    cut: bool = False
    """Leave out packets that end before the first frame that is written."""


class VideoWriter:
    """Writes H.264 (yuv420p, BT.709, faststart), beside its place and renamed when it is whole.

    Odd sizes are extended by one row or column of the edge, since yuv420p needs even ones.

    Args:
        path: the video to make; its name ends in one of `SUFFIXES`.
        size_hw: height and width of the frames, pixels.
        frame_rate: exact, frames per second.
        sound: what to copy.
        pixel_aspect: width of a pixel over its height, as shown.

    Raises:
        OutputError: the place cannot be written, the name ends otherwise, or frames are too large
            for H.264.
    """

    def __init__(
        self,
        path: Path,
        size_hw: tuple[int, int],
        frame_rate: Fraction,
        *,
        sound: Sound | None = None,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self.path, self.size_hw, self._rate = Path(path), size_hw, frame_rate
        if self.path.suffix.lower() not in SUFFIXES:
            raise OutputError(
                f"cannot write '{path}': a video's name must end in {' or '.join(SUFFIXES)}"
            )
        if max(size_hw) > MAX_SIDE:
            raise OutputError(
                f"cannot write '{path}': frames of {size_hw[1]}×{size_hw[0]} pixels are too large "
                f"for H.264, which has {MAX_SIDE} at most; scale them down with --max-side"
            )
        self._ticks = _ticks_per_s(frame_rate)
        self._frames, self._closed = 0, False
        self._first_s = Fraction(0)
        self._waiting: av.VideoFrame | None = None
        """The last frame; how long it lasts tells the next one."""
        self._hold = 0
        """How long it lasts if it stays the last one, ticks."""
        self._first_dts: int | None = None
        """When the first packet is decoded, ticks."""
        self._place = ExitStack()
        partial = self._place.enter_context(replacing(self.path))
        self._container: Any = None
        try:
            partial.touch()  # FFmpeg would say only at the first frame
            self._container = av.open(str(partial), "w", options={"movflags": "faststart"})
            self._stream = self._container.add_stream(
                "libx264", rate=frame_rate, options=H264_OPTIONS
            )
            self._stream.height, self._stream.width = (side + side % 2 for side in size_hw)
            self._stream.pix_fmt = "yuv420p"
            self._stream.time_base = Fraction(1, self._ticks)
            context = self._stream.codec_context
            context.time_base = Fraction(1, self._ticks)
            context.sample_aspect_ratio = pixel_aspect
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = LIMITED_RANGE
            self._sound = self._place.enter_context(copying_sound(sound, self._container))
        except BaseException as error:
            self.discard()
            raise self._as_output_error(error) from None

    def write(
        self,
        image: NDArray[np.uint8],
        time_s: float | Fraction | None = None,
        duration_s: float = math.nan,
    ) -> None:
        """Append uint8 (H, W, 3) RGB of the writer's size, shown from `time_s` on.

        Times grow; the first is that of the video's beginning. Without times the frames follow
        each other at the frame rate. A frame lasts until the next one; the last for `duration_s`,
        or one step of the frame rate where that is NaN.
        """
        if image.dtype != np.uint8 or image.shape != (*self.size_hw, 3):
            raise ValueError(
                f"image must be uint8 {(*self.size_hw, 3)}, got {image.dtype} {image.shape}"
            )
        odd = [(0, side % 2) for side in self.size_hw]
        padded = np.pad(image, (*odd, (0, 0)), mode="edge") if any(o[1] for o in odd) else image
        frame = av.VideoFrame.from_ndarray(padded).reformat(
            format="yuv420p", dst_colorspace="ITU709"
        )
        shown_s = self._frames / self._rate if time_s is None else Fraction(time_s)
        if not self._frames:
            self._first_s = shown_s
        frame.time_base = Fraction(1, self._ticks)
        frame.pts = round((shown_s - self._first_s) * self._ticks)
        try:
            self._encode_waiting(frame.pts)
            self._waiting, self._hold = frame, hold_ticks(duration_s, self._rate, self._ticks)
            self._frames += 1
            if self._sound is not None:
                self._sound.copy_until(float(shown_s), float(self._first_s))
        except av.FFmpegError as error:
            raise self._as_output_error(error) from None

    def close(self) -> None:
        """Finish the file and give it its name; closing twice is fine.

        Raises:
            OutputError: what was still to be written could not be.
            ValueError: there is no frame.
        """
        if self._closed:
            return
        try:
            if self._waiting is None or self._waiting.pts is None:
                raise ValueError(f"no frame was written to '{self.path}'")
            self._encode_waiting(self._waiting.pts + self._hold)
            self._container.mux(self._stretched(self._stream.encode(), self._waiting.pts))
            if self._sound is not None:
                self._sound.copy_until(math.inf, float(self._first_s))
            self._container.close()
        except BaseException as error:
            self.discard()
            raise self._as_output_error(error) from None
        self._closed = True
        self._place.close()

    def _encode_waiting(self, next_pts: int) -> None:
        frame = self._waiting
        if frame is None:
            return
        assert frame.pts is not None
        if next_pts <= frame.pts:
            raise ValueError(f"times must grow, got {next_pts} after {frame.pts} ticks")
        frame.duration = next_pts - frame.pts
        packets = self._stream.encode(frame)
        if packets and self._first_dts is None:
            self._first_dts = packets[0].dts
        self._container.mux(packets)

    def _stretched(self, packets: list[Any], last_pts: int) -> list[Any]:
        """The last packets, of which FFmpeg takes each to last one step of the frame rate, so that
        the video ends when its last frame does; an mp4 adds up the steps of decoding, too."""
        if packets and self._hold != hold_ticks(math.nan, self._rate, self._ticks):
            first_dts = packets[0].dts if self._first_dts is None else self._first_dts
            decoded = packets[-1].dts - first_dts
            packets[-1].duration = max(1, last_pts + self._hold - decoded)
            max(packets, key=lambda packet: packet.pts).duration = self._hold
        return packets

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()

    def discard(self) -> None:
        """Remove what was written so far; after `close` nothing happens."""
        if self._closed:
            return
        if self._container is not None:
            with suppress(OSError, ValueError):  # it wants to write its index, too
                self._container.close()
        self._closed = True
        self._place.__exit__(GeneratorExit, GeneratorExit(), None)

    def _as_output_error(self, error: BaseException) -> BaseException:
        if isinstance(error, av.FFmpegError | OSError):
            return cannot_write(self.path, str(error.strerror or error))
        return error


def hold_ticks(duration_s: float, frame_rate: Fraction, ticks_per_s: int) -> int:
    """How long a video's last frame lasts, ticks: its own duration, or where that is NaN or 0 one
    step of the frame rate."""
    own = round(duration_s * ticks_per_s) if math.isfinite(duration_s) else 0
    return own if own > 0 else max(1, round(ticks_per_s / frame_rate))


def _ticks_per_s(frame_rate: Fraction) -> int:
    """A clock in which frames of a constant rate fall on whole ticks."""
    if frame_rate.numerator > MAX_TICKS:
        return MIN_TICKS
    return frame_rate.numerator * math.ceil(MIN_TICKS / frame_rate.numerator)


def sound_of(video: VideoInfo) -> Sound | None:
    """Return the sound that goes with a video's frames; None where there can be none."""
    if video.backend == "images" or video.live:
        return None
    selection = video.selection
    return Sound(Path(video.path), video.origin_s, selection.end_s, cut=selection.start_s > 0)


@contextmanager
def copying_sound(
    sound: Sound | None, into: Any, codecs: Collection[str] = MP4_SOUND_CODECS
) -> Iterator[SoundCopy | None]:
    """Open the sound to copy into a container, if there is any that it has by FFmpeg's names of
    `codecs`."""
    with ExitStack() as stack:
        source: Any = None
        if sound is not None:
            with suppress(av.FFmpegError):  # what is no file has no sound
                source = stack.enter_context(
                    av.open(os.path.abspath(sound.path), options=FILES_ONLY)
                )
        track = source.streams.audio[0] if source and source.streams.audio else None
        if sound is None or track is None or track.codec_context.codec.canonical_name not in codecs:
            yield None
            return
        copy = into.add_stream_from_template(track)
        origin_s = sound.origin_s
        if origin_s is None:
            first: Any = video_stream(source, sound.path) if films(source) else None
            known = first is not None and first.start_time and first.time_base
            origin_s = float(first.start_time * first.time_base) if known else 0.0
        yield SoundCopy(sound, track, copy, into, _packets(source, track), origin_s)


@dataclass
class SoundCopy:
    """Copies packets of sound into a container as its video goes on."""

    sound: Sound
    track: Any
    stream: Any
    into: Any
    packets: Iterator[Any]
    origin_s: float
    waiting: Any = None

    def copy_until(self, until_s: float, first_s: float) -> None:
        """Copy what begins before `until_s`; the video's beginning, `first_s`, becomes 0."""
        shift = round(Fraction(self.origin_s + first_s) / self.track.time_base)
        end_s = math.inf if self.sound.end_s is None else self.sound.end_s
        while True:
            packet = self.waiting if self.waiting is not None else next(self.packets, None)
            if packet is None:
                return
            begins_s = float(packet.pts * packet.time_base) - self.origin_s
            lasts_s = float((packet.duration or 0) * packet.time_base)
            self.waiting = None
            if begins_s >= end_s or (self.sound.cut and begins_s + lasts_s <= first_s):
                continue
            if begins_s >= until_s:
                self.waiting = packet
                return
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = self.stream
            self.into.mux(packet)


def _packets(source: Any, sound: Any) -> Iterator[Any]:
    """A sound track's packets, in order; damage ends them."""
    last = None
    with suppress(av.FFmpegError):
        for packet in source.demux(sound):
            if packet.dts is None or packet.pts is None:
                continue  # the end
            if last is not None and packet.dts <= last:
                continue  # an mp4 cannot hold it
            last = packet.dts
            yield packet
