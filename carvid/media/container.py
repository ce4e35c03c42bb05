"""A container's frames, decoded from front to back and past damage, and how they are shown."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache, partial
from itertools import chain, dropwhile
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from carvid.base.errors import VideoError
from carvid.media.fields import deinterlaced
from carvid.media.frames import SAME_TIME_S, Picture, check_size
from carvid.media.sdr import Sdr, described
from carvid.media.seek import Beginning, beginning

log = logging.getLogger("carvid")

DEFAULT_FRAME_RATE = Fraction(24)
"""Frame rate of what has none of its own, such as a folder of images (DAVIS is shown at 24)."""
SHORTEST_FRAME_S = 0.001
"""Frames that a file shows at one time are so far apart."""
FILES_ONLY = {"protocol_whitelist": "file"}
"""A playlist in a video's clothes must not reach for the network."""
ONE_PACKET_A_FRAME = {"h264", "hevc"}
NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
"""What a stream is marked with that holds pictures beside a film."""
INTRA = 1
"""FFmpeg's number of frames that need no others (I)."""
MAX_FAILURES = 50
"""Reading errors in a row after which a container is given up."""


@dataclass
class Decoding:
    """Decodes a container's video from front to back, past damage, and knows what was lost."""

    container: Any
    path: str
    resized: int = 0
    """Frames of another size than the first."""
    frames: int = field(default=0, init=False)
    _packets: int = field(default=0, init=False)
    _discarded: int = field(default=0, init=False)
    _undecodable: int = field(default=0, init=False)
    _concealed: int = field(default=0, init=False)
    _unreadable: int = field(default=0, init=False)
    _interlaced: bool = field(default=False, init=False)
    _end: float | None = field(default=None, init=False)
    """When the last frame begins, by the container's clock."""
    _steps: Counter[int] = field(default_factory=Counter, init=False)
    """Milliseconds between frames that follow each other."""
    _begun: tuple[Beginning, float] | None = field(default=None, init=False)
    """Where decoding begins, if not in front, and the time of the video's first frame, seconds."""
    _primed: list[av.VideoFrame] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.stream = video_stream(self.container, self.path)
        # Several threads conceal damage differently from run to run.
        self.stream.thread_type = "NONE"
        rate = self.stream.average_rate or self.stream.guessed_rate or DEFAULT_FRAME_RATE
        self.rate = Fraction(rate) if rate > 0 else DEFAULT_FRAME_RATE
        self.codec: str = self.stream.codec_context.name
        self._listed = "mp4" in self.container.format.name
        self._promised = len(self.stream.index_entries) if self._listed else self.stream.frames

        self._raw = self._decoded()
        self._sdr = Sdr()

    def begin_at(self, time_s: float, origin_s: float, *, frame_before: bool) -> bool:
        """Begin at a key frame that is shown at `time_s` or before, if from then on all frames are
        those that come when decoding begins in front.

        Args:
            time_s: when the first frame that is wanted is shown, seconds from the video's first.
            origin_s: when that one is shown by the container's clock, seconds.
            frame_before: a frame is needed that is shown before the first that is wanted.

        Returns:
            whether that can be; if not, the container is to be opened anew.
        """
        base = self.stream.time_base
        latest = math.floor(Fraction(origin_s + time_s - SAME_TIME_S) / base) + (not frame_before)
        found = beginning(self.container, self.stream, latest)
        if found is None:
            return False
        self._begun = (found, origin_s)
        first = next(self._raw, None)
        if first is None or first.pts != found.pts or first.is_corrupt or first.pict_type != INTRA:
            return False
        self._primed = [first]
        return frame_before or not first.interlaced_frame

    def __iter__(self) -> Iterator[tuple[float, av.VideoFrame]]:
        clock = _Clock(float(1 / self.rate), _shift=None if not self._begun else self._begun[1])
        for frame in deinterlaced(self._counted()):
            before = clock.last_s
            time_s = clock.read(frame.time)
            if before is not None:
                self._steps[round(1000 * (time_s - before))] += 1
            yield time_s, frame

    def picture(self, frame: av.VideoFrame) -> Picture:
        """Return what makes the picture of a frame, in SDR and upright."""
        return partial(upright, frame, self._sdr)

    def shown_s(self, frame: av.VideoFrame) -> float:
        """How long a frame is shown if it is the last one, seconds; NaN where nothing tells."""
        stream = self.stream
        if not self._listed:
            return float((frame.duration or math.nan) * (frame.time_base or math.nan))
        # The durations that an mp4 has are steps of decoding, in another order.
        if self._packets < self._promised or not stream.duration or frame.time is None:
            return math.nan
        end_s = float((stream.start_time + stream.duration) * stream.time_base)
        return end_s - frame.time if end_s > frame.time else math.nan

    def _counted(self) -> Iterator[av.VideoFrame]:
        for frame in chain(self._primed, self._raw):
            check_size(self.path, (frame.height, frame.width))
            self.frames += 1
            self._concealed += frame.is_corrupt
            self._interlaced |= frame.interlaced_frame
            self._end = frame.time if frame.time is not None else self._end
            yield frame

    def _decoded(self) -> Iterator[av.VideoFrame]:
        if self._begun is None:
            yield from self._decoded_from(self._read())
            return
        found, _ = self._begun
        self._packets = found.passed
        self.frames = found.passed
        frames = self._decoded_from(chain(found.packets, self._read()), found.pts)
        yield from dropwhile(lambda frame: frame.pts is not None and frame.pts < found.pts, frames)

    def _decoded_from(
        self, packets: Iterator[Any], first_pts: int | None = None
    ) -> Iterator[av.VideoFrame]:
        for packet in packets:
            if first_pts is not None and packet.pts is not None and packet.pts > first_pts:
                first_pts = None
            # What follows a key frame and is shown before it may need frames before it.
            leads = first_pts is not None and packet.pts is not None and packet.pts < first_pts
            self._packets += packet.size > 0
            self.frames += leads
            self._discarded += packet.is_discard
            try:
                yield from packet.decode()
            except av.FFmpegError:
                self._undecodable += not leads

    def _read(self) -> Iterator[Any]:
        failures = 0
        while failures <= MAX_FAILURES:
            try:
                for packet in self.container.demux(self.stream):
                    failures = 0
                    yield packet
                return
            except av.FFmpegError:
                self._unreadable += 1
                failures += 1

    @property
    def whole(self) -> bool:
        """Whether everything was read and nothing is damaged; once it is at its end."""
        return not self.losses()

    @property
    def interlaced(self) -> bool:
        """Whether any frame was made of two fields."""
        return self._interlaced

    def losses(self) -> list[str]:
        """Say what was lost, a line each."""
        seen = self._packets
        missing = max(0, self._promised - seen)
        mute = 0
        if self.codec in ONE_PACKET_A_FRAME and not self._interlaced:
            mute = max(0, seen - self._discarded - self._undecodable - self.frames)
        undecodable, holes = self._undecodable + mute, self._holes()
        lines = []
        if missing:
            lines.append(f"it is cut short: {missing} of {self._promised} frames are not there")
        elif (gap := self._cut_off()) is not None:
            lines.append(f"it is cut short: the last {gap:.2f} s are not there")
        if undecodable:
            lines.append(f"left out, for they cannot be decoded: {_frames(undecodable)}")
        if self._concealed:
            lines.append(f"damaged, and used as far as they decode: {_frames(self._concealed)}")
        if self._unreadable:
            lines.append(f"errors while reading: {self._unreadable}")
        if holes and not (missing or undecodable):
            lines.append(f"nothing to show for {sum(holes) / 1000:.2f} s between its frames")
        if self.resized:
            lines.append(f"of another size, and scaled to the first's: {_frames(self.resized)}")
        return lines

    def duration_s(self) -> float | None:
        """About how long the video is, as the container tells."""
        if self._promised:
            return float(self._promised / self.rate)
        return self.container.duration / 1e6 if self.container.duration else None

    def _cut_off(self) -> float | None:
        """Seconds that the header names and no frame has; None if it names none, or few."""
        if self._end is None or self._promised:
            return None
        stream, promise = self.stream, None
        if stream.duration and stream.time_base:
            start = stream.start_time or 0
            promise = float((start + stream.duration) * stream.time_base)
        elif self.container.duration and len(self.container.streams) == 1:
            promise = self.container.duration / 1e6
        gap = 0.0 if promise is None else promise - self._end - 1 / float(self.rate)
        return gap if gap > 0.1 + 1 / float(self.rate) else None

    def _holes(self) -> list[int]:
        """Gaps in the middle of a video of constant rate, milliseconds."""
        if self._promised or not self._steps:
            return []
        usual, _ = self._steps.most_common(1)[0]
        regular = sum(count for step, count in self._steps.items() if abs(step - usual) <= 1)
        odd = [step for step in self._steps.elements() if abs(step - usual) > 1]
        if usual < 5 or len(odd) > 0.1 * regular or any(step < 1.5 * usual for step in odd):
            return []  # of variable rate
        return [step - usual for step in odd]


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"


@dataclass
class _Clock:
    """Makes times that begin at 0 and grow, whatever a file says."""

    step_s: float
    """How long a frame lasts whose time is not known."""
    last_s: float | None = None
    _shift: float | None = None
    _given: float | None = None

    def read(self, given: float | None) -> float:
        expected = 0.0 if self.last_s is None else self.last_s + self.step_s
        if given is None:
            time_s = expected
        else:
            if self._shift is None or (self._given is not None and given < self._given):
                self._shift = given - expected  # the beginning, or a clock that was set back
            time_s = given - self._shift
            if self.last_s is not None and time_s <= self.last_s:  # two frames of one time
                time_s = self.last_s + min(self.step_s, SHORTEST_FRAME_S)
            self._given = given
        self.last_s = time_s
        return time_s


def video_stream(container: Any, path: str | Path) -> Any:
    """Return the video stream that FFmpeg takes for the best, but no cover picture.

    Raises:
        VideoError: there is none, or its frames are too large.
    """
    streams = films(container)
    if not streams:
        raise VideoError(f"'{path}' has no video in it; give a file with a video stream")
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    context = stream.codec_context
    check_size(path, (context.height or 0, context.width or 0))
    return stream


def films(container: Any) -> list[Any]:
    """The video streams that are no pictures beside a film."""
    return [s for s in container.streams.video if not s.disposition & NO_FILM]


def upright(frame: av.VideoFrame, colors: Sdr) -> NDArray[np.uint8]:
    """The frame as shown, uint8 (H, W, 3) RGB."""
    image = colors.rgb(frame)
    turns, mirrored = turns_of(frame)
    image = image[:, ::-1] if mirrored else image
    return np.ascontiguousarray(np.rot90(image, turns)).astype(np.uint8, copy=False)


def treatment(frame: av.VideoFrame, *, interlaced: bool) -> str | None:
    """Say what is done to a video's pictures before they are used; None if nothing is."""
    fields = "interlaced, deinterlaced by bwdif" if interlaced else None
    return "; ".join(part for part in (described(frame), fields) if part) or None


@lru_cache(maxsize=64)
def say_once(line: str) -> None:
    """Log a line, unless it was."""
    log.info(line)


def turns_of(frame: av.VideoFrame) -> tuple[int, bool]:
    """Quarter turns to the left, after mirroring left to right, that a frame is shown with."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).astype(float) / (1 << 16)
    # A stored pixel (x, y) is shown at (a x + c y, b x + d y), y down.
    mirrored = bool(a * d - b * c < 0)
    if mirrored:
        a, b = -a, -b
    return round(np.degrees(np.arctan2(-b, a)) / 90) % 4, mirrored


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
    size_hw = (frame.height, frame.width)
    return size_hw[::-1] if turns_of(frame)[0] % 2 else size_hw


def pixel_aspect(stream: Any, frame: av.VideoFrame) -> Fraction:
    aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
    return 1 / aspect if turns_of(frame)[0] % 2 else aspect


def origin_s(stream: Any, first: av.VideoFrame) -> float:
    """When the first frame is shown by the container's clock, seconds."""
    if first.time is not None:
        return first.time
    return float(stream.start_time * stream.time_base) if stream.start_time else 0.0
