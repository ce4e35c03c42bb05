"""Cameras, pipes and streams from the network: read once, as they come."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from carvid.base.errors import VideoError
from carvid.media.container import Decoding, pixel_aspect, say_once, shown_size, treatment
from carvid.media.decode import first_line
from carvid.media.frames import Picture, Selection, VideoInfo, VideoReader, check_size

STDIN = 0
LIVE_TIMEOUT_S = 15.0
URL = re.compile(r"(?:rtsps?|rtmps?|https?|udp|tcp|rtp|srt)://", re.IGNORECASE)
STREAMS_WELL = (
    "send MPEG-TS, Matroska or y4m, or an mp4 made with -movflags frag_keyframe+empty_moov"
)
CAMERA = "camera:"
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
"""FFmpeg's format and name of camera k, by platform."""


class LiveReader(VideoReader):
    """A camera, a pipe or a network stream: read once, as it comes.

    Args:
        source: `-`, `camera:0`, a URL, or a named pipe.
        raw: of frames without a header (uint8 RGB, row by row): height, width, frame rate.
    """

    def __init__(
        self, source: str, selection: Selection, raw: tuple[int, int, Fraction] | None = None
    ) -> None:
        try:
            self._container, self._pipe = _open_live(source, raw)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise VideoError(f"cannot open '{source}': {reason}; {_remedy(source, raw)}") from None
        try:
            self._decoding = Decoding(self._container, source)
            self._items: Iterator[tuple[float, av.VideoFrame]] | None = iter(self._decoding)
            first = next(self._items, None)
            if first is None:
                raise VideoError(
                    f"'{source}' sends no frame that can be decoded; {_remedy(source, raw)}"
                )
        except BaseException:
            self._container.close()
            self._release()
            raise
        self._first = first
        size_hw = shown_size(first[1])
        if (said := treatment(first[1], interlaced=self._decoding.interlaced)) is not None:
            say_once(f"{source}: {said}")
        super().__init__(
            VideoInfo(
                source, "pyav", selection.size_hw(size_hw), self._decoding.rate, None,
                self._decoding.codec, pixel_aspect(self._decoding.stream, first[1]), selection,
                live=True,
            )
        )  # fmt: skip

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        items, self._items = self._items, None
        if items is None:
            raise VideoError(f"'{self.info.path}' can be read only once; save it to a file first")
        yield self._first[0], self._decoding.picture(self._first[1])
        for time_s, frame in items:
            yield time_s, self._decoding.picture(frame)
        self.lost.extend(self._decoding.losses())
        self._release()

    def close(self) -> None:
        if self._items is not None:  # else another thread may still be reading
            self._items = None
            self._container.close()
            self._release()

    def _release(self) -> None:
        if self._pipe is not None and self._pipe.descriptor != STDIN:
            os.close(self._pipe.descriptor)
        self._pipe = None


def _open_live(source: str, raw: tuple[int, int, Fraction] | None) -> tuple[Any, _Pipe | None]:
    """Open what comes only once: its container, and the pipe if it is one."""
    if source.startswith(CAMERA):
        number = source.removeprefix(CAMERA)
        form, name = CAMERAS.get(sys.platform, ("", ""))
        if not form or not number.isdigit():
            raise ValueError("cameras are numbered from 0, on Linux and macOS")
        return av.open(name.format(number), format=form), None
    if URL.match(source):
        return av.open(source, timeout=LIVE_TIMEOUT_S), None
    facts: dict[str, str] = {}
    if raw is not None:
        height, width, rate = raw
        check_size(source, (height, width))
        size = f"{width}x{height}"
        facts = {"video_size": size, "pixel_format": "rgb24", "framerate": str(rate)}
    pipe = _Pipe(STDIN if source == "-" else os.open(source, os.O_RDONLY))
    file: Any = pipe
    if raw is not None:
        return av.open(file, format="rawvideo", options=facts), pipe
    return av.open(file), pipe


def _remedy(source: str, raw: tuple[int, int, Fraction] | None) -> str:
    """What to do about a live input that does not come."""
    if raw is not None or source.startswith(CAMERA) or URL.match(source):
        return "see that it is there and sends video"
    return STREAMS_WELL


@dataclass(frozen=True)
class _Pipe:
    """Gives what is there instead of waiting for a full buffer, and cannot seek."""

    descriptor: int

    def read(self, size: int) -> bytes:
        return os.read(self.descriptor, size)
