"""Out of memory: whoever runs out of it, it is told in one line with the remedy."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from carvid.base.errors import OutOfMemoryError

PHRASES = (
    "out of memory", "not enough memory", "insufficient memory", "cannot allocate memory",
    "can't allocate memory", "failed to allocate", "bad_alloc", "alloc_failed",
)  # fmt: skip
"""What PyTorch (CPU, CUDA, MPS, cuBLAS), OpenCV, FFmpeg, safetensors and C++ say, in lower case."""
ASKED_FOR = re.compile(r"[Tt]ried to allocate ([\d.]+ ?\w+)")
REMEDY = (
    "scale the frames down (--max-side 854), see less of them (--set proposals.max_tokens=800), "
    "ask for fewer expressions at a time, take fewer --workers, half precision (--set "
    "weights.dtype=bfloat16), or another --device"
)


def release_unused() -> None:
    """Give the system back what was freed; glibc keeps up to hundreds of MB of what torch frees,
    and large frames have none to spare. Elsewhere nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


@contextmanager
def telling_out_of_memory() -> Iterator[None]:
    """Turn whatever says that the memory is full, also behind another error, into one error.

    Raises:
        OutOfMemoryError: it is full.
    """
    try:
        yield
    except OutOfMemoryError:
        raise
    except Exception as error:
        full = out_of_memory_behind(error)
        if full is None:
            raise
        asked = ASKED_FOR.search(str(full))
        size = f" (tried to allocate {asked[1]})" if asked else ""
        raise OutOfMemoryError(f"there is not enough memory{size}; {REMEDY}") from None


def out_of_memory_behind(error: BaseException | None) -> BaseException | None:
    """Return the error that says that the memory is full, among one and those that led to it."""
    while error is not None:
        if _is_out_of_memory(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    """By type where there is one (torch's own has the name of ours), else by what it says."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    foreign = not type(error).__module__.startswith("carvid.")
    return foreign and any(phrase in str(error).lower() for phrase in PHRASES)
