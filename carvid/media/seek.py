"""Where in a file decoding can begin, so that what comes is the same as when read from the front.

Damage, and clocks that are set back, are for reading from the front: `None` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av

INDEXED = {"mov", "matroska"}
"""Containers, by a part of FFmpeg's names for them, whose times are right wherever one begins. Of
others each packet is looked at, and only those from the last key frame on are decoded."""
TRIES = 3
"""A key frame may be decoded earlier than it is shown; then the one before it is taken."""
MAX_HELD_BYTES = 64_000_000
"""Packets since a key frame that are kept, at most."""


@dataclass(frozen=True)
class Beginning:
    """A key frame from which on a stream is decoded."""

    pts: int
    """When it is shown, ticks of the stream."""
    packets: list[Any]
    """It and what has been read after it; the container goes on behind."""
    passed: int
    """Packets of the stream before it."""


def beginning(container: Any, stream: Any, latest: int) -> Beginning | None:
    """Find the last key frame that is shown at `latest`, ticks of the stream, or before."""
    try:
        if not INDEXED.isdisjoint(container.format.name.split(",")):
            return _sought(container, stream, latest)
        return _read_over(container, stream, latest)
    except (av.FFmpegError, StopIteration):
        return None


def _sought(container: Any, stream: Any, latest: int) -> Beginning | None:
    place = latest
    for _ in range(TRIES):
        container.seek(place, stream=stream)
        packet = next(container.demux(stream))
        if not packet.is_keyframe or packet.pts is None:
            return None
        decoded = packet.pts if packet.dts is None else packet.dts
        if packet.pts <= latest:
            passed = sum(entry.timestamp < decoded for entry in stream.index_entries)
            return Beginning(packet.pts, [packet], passed)
        place = min(packet.pts, decoded) - 1
    return None


def _read_over(container: Any, stream: Any, latest: int) -> Beginning | None:
    held: list[Any] = []
    held_bytes, passed = 0, 0
    last_pts = last_dts = None
    packets: Iterator[Any] = container.demux(stream)
    for packet in packets:
        if not packet.size:
            break  # the end
        if packet.pts is None or packet.dts is None or packet.is_corrupt:
            return None
        if last_dts is not None and packet.dts < last_dts:
            return None  # the clock was set back
        if packet.is_keyframe and packet.pts <= latest:
            if last_pts is not None and packet.pts <= last_pts:
                return None
            passed += len(held)
            held, held_bytes = [], 0
        held.append(packet)
        held_bytes += packet.size
        last_dts = packet.dts
        last_pts = packet.pts if last_pts is None else max(packet.pts, last_pts)
        if packet.dts > latest:
            break  # later key frames are shown later
        if held_bytes > MAX_HELD_BYTES:
            return None
    first = held[0] if held else None
    if first is None or not first.is_keyframe or first.pts > latest:
        return None
    return Beginning(first.pts, held, passed)
