"""Interlaced frames, whose two fields show two moments, made one picture each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph

MIN_SIDE = 4
"""Smallest side that bwdif takes, pixels."""
VERDICT, PROGRESSIVE = "lavfi.idet.single.current_frame", "progressive"
"""What idet says of a frame by itself and its two neighbours."""


def deinterlaced(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield as many frames, at the same times; those whose fields show two moments go through
    FFmpeg's bwdif, which looks at the frame before and the one after. All others stay: also what is
    marked as interlaced while FFmpeg's idet sees that it is not, such as films in a transport
    stream.
    """
    filtering: _Bwdif | None = None
    before: av.VideoFrame | None = None
    for frame in frames:
        if filtering is None and frame.interlaced_frame and min(_size(frame)) >= MIN_SIDE:
            filtering = _Bwdif(frame)
            if before is not None and _form(before) == filtering.form:
                filtering.lead(before)
        if filtering is None:
            yield frame
        else:
            if _form(frame) != filtering.form:
                yield from filtering.end()
                filtering = _Bwdif(frame)
            yield from filtering.put(frame)
        before = frame
    if filtering is not None:
        yield from filtering.end()


class _Bwdif:
    """The filter, with the frames that it has not given back yet."""

    def __init__(self, first: av.VideoFrame) -> None:
        self.form = _form(first)
        self._waiting: deque[av.VideoFrame | None] = deque()
        width, height, form = self.form
        self._graph: Any = Graph()
        self._graph.threads = 1
        self._source = self._graph.add_buffer(
            width=width, height=height, format=av.VideoFormat(form), time_base=Fraction(1, 25)
        )
        idet = self._graph.add("idet")
        bwdif = self._graph.add("bwdif", mode="send_frame", parity="auto", deint="all")
        sink = self._graph.add("buffersink")
        self._source.link_to(idet)
        idet.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()
        self._count = 0

    def lead(self, frame: av.VideoFrame) -> None:
        """Put in the frame before the first, which has been shown already."""
        self._push(frame, None)

    def put(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        self._push(frame, frame)
        yield from self._pulled()

    def end(self) -> Iterator[av.VideoFrame]:
        self._source.push(None)
        yield from self._pulled()
        yield from (frame for frame in self._waiting if frame is not None)

    def _push(self, frame: av.VideoFrame, shown: av.VideoFrame | None) -> None:
        pts, time_base = frame.pts, frame.time_base
        frame.pts, frame.time_base = self._count, Fraction(1, 25)  # some frames have no time
        self._source.push(frame)
        frame.pts = pts
        if time_base is not None:
            frame.time_base = time_base
        self._waiting.append(shown)
        self._count += 1

    def _pulled(self) -> Iterator[av.VideoFrame]:
        while self._waiting:
            try:
                made: Any = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            frame = self._waiting.popleft()
            if frame is None:
                continue
            if not frame.interlaced_frame or made.metadata.get(VERDICT) == PROGRESSIVE:
                yield frame
                continue
            made.pts = frame.pts
            if frame.time_base is not None:
                made.time_base = frame.time_base
            yield made


def _size(frame: av.VideoFrame) -> tuple[int, int]:
    return frame.width, frame.height


def _form(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
