"""Videos that editors and browsers play: H.264, the times of the frames and the sound kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray

from carvid.files import cannot_write, replacing

MP4_SOUND_CODECS = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}
BT709 = 1
"""H.273's number of BT.709 primaries, transfer and matrix; browsers take HD for it anyway."""
LIMITED_RANGE = 1
H264_OPTIONS = {
    "preset": "veryfast", "crf": "18", "threads": "1", "x264-params": "mbtree=0",
}  # fmt: skip
"""The same frames give the same bytes in every process. x264's macroblock tree does not on CPUs
with AVX-512: 8 runs of 8 differed, none without it, at 1 % more bytes."""


class VideoWriter:
    """Writes H.264 (yuv420p, BT.709, faststart), beside its place and renamed when it is whole.

    Odd sizes are extended by one row or column of the edge, since yuv420p needs even ones.

    Args:
        path: the .mp4 to make.
        size_hw: height and width of the frames, pixels.
        frame_rate: exact, frames per second.
        audio_from: copy this file's first sound track, packet by packet, if it has one that
            fits an mp4; its time 0 is that of the file's first video frame.

    Raises:
        OutputError: the place cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size_hw: tuple[int, int],
        frame_rate: Fraction,
        *,
        audio_from: str | Path | None = None,
    ) -> None:
        self.path, self.size_hw, self._rate = Path(path), size_hw, frame_rate
        self._frames, self._closed = 0, False
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
            context = self._stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = LIMITED_RANGE
            self._copy_sound_until = self._place.enter_context(
                _copied_sound(audio_from, self._container)
            )
        except BaseException as error:
            self._discard()
            raise self._as_output_error(error) from None

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append uint8 (H, W, 3) RGB of the writer's size."""
        if image.dtype != np.uint8 or image.shape != (*self.size_hw, 3):
            raise ValueError(
                f"image must be uint8 {(*self.size_hw, 3)}, got {image.dtype} {image.shape}"
            )
        odd = [(0, side % 2) for side in self.size_hw]
        padded = np.pad(image, (*odd, (0, 0)), mode="edge") if any(o[1] for o in odd) else image
        frame = av.VideoFrame.from_ndarray(padded).reformat(
            format="yuv420p", dst_colorspace="ITU709"
        )
        try:
            self._container.mux(self._stream.encode(frame))
            self._frames += 1
            self._copy_sound_until(float(self._frames / self._rate))
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
            if not self._frames:
                raise ValueError(f"no frame was written to '{self.path}'")
            self._container.mux(self._stream.encode())
            self._copy_sound_until(math.inf)
            self._container.close()
        except BaseException as error:
            self._discard()
            raise self._as_output_error(error) from None
        self._closed = True
        self._place.close()

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
            self._discard()

    def _discard(self) -> None:
        """Remove what was written so far."""
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


@contextmanager
def _copied_sound(
    path: str | Path | None, into: av.container.OutputContainer
) -> Iterator[Callable[[float], None]]:
    """Give a function that copies a file's sound up to a time, seconds, if there is any."""
    with ExitStack() as stack:
        source = None
        if path is not None:
            with suppress(av.FFmpegError):  # what is no file has no sound
                source = stack.enter_context(av.open(str(path)))
        sound = source.streams.audio[0] if source and source.streams.audio else None
        if source is None or sound is None or sound.codec_context.name not in MP4_SOUND_CODECS:
            yield lambda until_s: None
            return
        copy = into.add_stream_from_template(sound)
        video = source.streams.video[0] if source.streams.video else None
        first_s = (video.start_time or 0) * video.time_base if video and video.time_base else 0
        packets = _packets_from(source, sound, Fraction(first_s))
        waiting = next(packets, None)

        def copy_until(until_s: float) -> None:
            nonlocal waiting
            while waiting is not None and waiting.dts * waiting.time_base < until_s:
                waiting.stream = copy
                into.mux(waiting)
                waiting = next(packets, None)

        yield copy_until


def _packets_from(
    source: av.container.InputContainer, sound: av.AudioStream, first_s: Fraction
) -> Iterator[Any]:
    """A sound track's packets, in order, with `first_s` as time 0; damage ends them."""
    last = None
    with suppress(av.FFmpegError):
        for packet in source.demux(sound):
            if packet.dts is None or packet.pts is None:
                continue  # the end
            if last is not None and packet.dts <= last:
                continue  # an mp4 cannot hold it
            last = packet.dts
            shift = round(first_s / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            yield packet
