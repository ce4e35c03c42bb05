"""The short way of decoding gives Pillow's pixels or leaves the file to it."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.davis.png import plain_indices
from carvid.davis.writer import palette


def encoded(labels: NDArray[np.uint8], **options: int) -> bytes:
    picture = Image.fromarray(labels)
    picture.putpalette(palette())
    file = io.BytesIO()
    picture.save(file, format="PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def assembled(
    rows: bytes, size: tuple[int, int], form: tuple[int, ...] = (8, 3, 0, 0, 0), extra: bytes = b""
) -> bytes:
    """A PNG of given rows (each begins with its filter), the stream cut into two chunks."""
    stream = zlib.compress(rows)
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], *form)),
        chunk(b"PLTE", bytes(palette())),
        extra,
        chunk(b"IDAT", stream[:7]),
        chunk(b"IDAT", stream[7:]),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def labels() -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, (13, 17), dtype=np.uint8)


def test_plain_files_give_the_pixels_that_pillow_gives(labels: NDArray[np.uint8]) -> None:
    for size in ((13, 17), (1, 1), (1, 17), (13, 1)):
        part = np.ascontiguousarray(labels[: size[0], : size[1]])
        for level in (0, 1, 9):
            found = plain_indices(encoded(part, compress_level=level))
            assert found is not None and found.dtype == np.uint8
            assert (found == part).all() and found.flags.writeable
    rows = b"".join(b"\0" + row.tobytes() for row in labels)
    data = assembled(rows, (13, 17), extra=chunk(b"tEXt", b"Title\0x"))
    found = plain_indices(data)
    assert found is not None and (found == labels).all()
    with Image.open(io.BytesIO(data)) as picture:
        assert (np.array(picture) == labels).all()


def test_every_other_form_is_left_to_pillow(labels: NDArray[np.uint8]) -> None:
    few = labels % 3
    packed = encoded(few, bits=4)
    assert plain_indices(packed) is None
    with Image.open(io.BytesIO(packed)) as picture:
        assert picture.mode == "P" and (np.array(picture) == few).all()
    for mode in ("L", "RGB"):
        file = io.BytesIO()
        Image.fromarray(labels).convert(mode).save(file, format="PNG")
        assert plain_indices(file.getvalue()) is None
    plain = b"".join(b"\0" + row.tobytes() for row in labels)
    filtered = b"".join(  # by the left neighbour
        b"\1" + np.diff(row, prepend=np.uint8(0)).tobytes() for row in labels
    )
    assert plain_indices(assembled(filtered, (13, 17))) is None
    with Image.open(io.BytesIO(assembled(filtered, (13, 17)))) as picture:
        assert (np.array(picture) == labels).all()
    animation = chunk(b"acTL", struct.pack(">II", 1, 0))
    assert plain_indices(assembled(plain, (13, 17), extra=animation)) is None
    assert plain_indices(assembled(plain, (13, 17), form=(8, 3, 0, 0, 1))) is None


def test_broken_files_are_left_to_pillow(labels: NDArray[np.uint8]) -> None:
    data = encoded(labels)
    assert plain_indices(b"") is None and plain_indices(b"no png") is None
    for length in range(len(data)):
        assert plain_indices(data[:length]) is None
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 4
        assert plain_indices(bytes(broken)) is None
    rows = b"".join(b"\0" + row.tobytes() for row in labels)
    for size in ((13, 18), (14, 17), (12, 17), (0, 17)):
        assert plain_indices(assembled(rows, size)) is None
