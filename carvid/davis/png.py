"""The form of PNG in which nearly all label maps are written, decoded without detours.

Most of an evaluation's time is decoding. The sums of a PNG's chunks vouch for its pixels before
they are inflated; a general reader sums what is inflated once more, and undoes filters by rows.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN_FORM = (8, 3, 0, 0, 0)
"""Bits, colour type (indexed), compression, filter method and interlacing in IHDR."""
ZLIB_HEADER_BYTES, ZLIB_SUM_BYTES = 2, 4


def plain_indices(data: bytes) -> NDArray[np.uint8] | None:
    """Decode an indexed PNG of 8 bits, neither interlaced nor filtered (PNG specification, 2003).

    Args:
        data: a whole file.

    Returns:
        uint8 (H, W) palette indices; None if the file is of any other form, or broken, which is
        for a general reader to tell.
    """
    chunks = _chunks(data)
    if [kind for kind, _ in chunks[:2]] != [b"IHDR", b"PLTE"] or chunks[-1][0] != b"IEND":
        return None
    header = chunks[0][1]
    stream = b"".join(body for kind, body in chunks if kind == b"IDAT")
    if len(header) != 13 or not _is_deflated(stream):
        return None
    width, height, *form = struct.unpack(">IIBBBBB", header)
    if tuple(form) != PLAIN_FORM:
        return None
    size = height * (width + 1)  # each row begins with the number of its filter; 0 is none
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        rows = inflate.decompress(stream[ZLIB_HEADER_BYTES:], size + 1)
    except zlib.error:
        return None
    if len(rows) != size or not inflate.eof or len(inflate.unused_data) != ZLIB_SUM_BYTES:
        return None
    table = np.frombuffer(rows, np.uint8).reshape(height, width + 1)
    return None if table[:, 0].any() else table[:, 1:].copy()


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks, kind and body, up to the last, a broken one, or the first of an animation."""
    found: list[tuple[bytes, bytes]] = []
    position = len(SIGNATURE)
    while data.startswith(SIGNATURE) and position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        kind_and_body = data[position + 4 : end]
        if data[end : end + 4] != zlib.crc32(kind_and_body).to_bytes(4, "big"):
            break
        kind = kind_and_body[:4]
        found.append((kind, kind_and_body[4:]))
        if kind in (b"IEND", b"acTL"):
            break
        position = end + 4
    return found


def _is_deflated(stream: bytes) -> bool:
    """Whether zlib's header is sound and asks for no dictionary (RFC 1950, 2.2)."""
    if len(stream) < ZLIB_HEADER_BYTES + ZLIB_SUM_BYTES:
        return False
    method, flags = stream[:ZLIB_HEADER_BYTES]
    return method & 15 == zlib.DEFLATED and (method * 256 + flags) % 31 == 0 and not flags & 32
