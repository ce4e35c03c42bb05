"""A cache on disk of SAM's automatic masks, which take minutes a frame on a CPU.

The key is a digest of what the masks depend on: the picture, the weights and the settings.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from carvid.base.errors import OutputError
from carvid.base.files import replacing

NAME = re.compile(r"\.?[0-9a-f]{40}(-\d+-\d+\.part)?\.npz")
"""Names of the files of a cache; nothing else is removed."""
ABANDONED_S = 3600.0
"""Age at which a half-written file has no writer any more, seconds."""


def cache_folder(setting: str) -> Path | None:
    """Return the folder that `sam.cache` means, or None for `off`.

    `auto` is `carvid/sam` in the user's cache: in `XDG_CACHE_HOME` or ~/.cache on Linux, in
    ~/Library/Caches on macOS; on Windows it is carvid\\Cache\\sam in `LOCALAPPDATA`.
    """
    if setting == "off":
        return None
    if setting != "auto":
        return Path(setting).expanduser()
    return user_cache_path("carvid", appauthor=False) / "sam"


class MaskCache:
    """A folder of files, one for each picture, weights and settings; it may be deleted at any time.

    Several processes may use it. When it outgrows its limit, the files used longest ago go.

    Args:
        folder: created when the first masks are kept.
        weights: tensors of the network that makes the masks, by name.
        settings: everything else that the masks depend on.
        max_bytes: limit on the size of all files together.
    """

    def __init__(
        self,
        folder: Path,
        weights: Mapping[str, Any],
        settings: tuple[float | str, ...],
        max_bytes: float = math.inf,
    ) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._weights, self._settings = weights, settings

    def get(
        self,
        image: NDArray[np.uint8],
        generate: Callable[[NDArray[np.uint8]], NDArray[np.bool_]],
    ) -> NDArray[np.bool_]:
        """Return the masks of a picture, bool (A, H, W), from the folder or else from `generate`.

        Raises:
            OutputError: the folder cannot be written.
        """
        path = self.folder / f"{self._key(image)}.npz"
        masks = _read(path, image.shape[:2])
        if masks is not None:
            with suppress(OSError):  # removed meanwhile, or of another user
                os.utime(path)  # when it was used last
            return masks
        masks = generate(image)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Somebody else may be at the same picture.
            with replacing(path, tag=f"-{os.getpid()}-{threading.get_ident()}") as partial:
                np.savez_compressed(partial, masks=np.packbits(masks, axis=2))
        except (OSError, OutputError) as error:
            raise OutputError(
                f"cannot keep SAM's masks in '{self.folder}': {error}; choose another folder "
                "with --set sam.cache=DIR, or none with --set sam.cache=off"
            ) from None
        with suppress(OSError):  # the folder is gone, or is not for us to list
            self._make_room(path)
        return masks

    def _make_room(self, newest: Path) -> None:
        """Remove the files used longest ago until the rest is within the limit; keep the newest."""
        files = sorted((*use, path) for path in self.folder.iterdir() if (use := _last_use(path)))
        total = sum(size for _, size, _ in files)
        for used, size, path in files:
            abandoned = path.name.startswith(".") and time.time() - used > ABANDONED_S
            excess = total > self.max_bytes and not path.name.startswith(".") and path != newest
            if abandoned or excess:
                with suppress(OSError):  # another process was faster, or has it open
                    path.unlink()
                total -= size

    def _key(self, image: NDArray[np.uint8]) -> str:
        digest = hashlib.blake2b(self._model, digest_size=20)
        digest.update(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()

    @cached_property
    def _model(self) -> bytes:
        """Digest of weights and settings; a second for a gigabyte, so only once it is needed."""
        digest = hashlib.blake2b(repr(self._settings).encode(), digest_size=20)
        for name, tensor in sorted(self._weights.items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.digest()


def _last_use(path: Path) -> tuple[float, int] | None:
    """When a file of the cache was used last, seconds since the epoch, and its size, bytes; None if
    it is no file of the cache, or gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime, stat.st_size) if NAME.fullmatch(path.name) else None


def _read(path: Path, size_hw: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Masks of a file, or None if there is none that can be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as values:
            packed = values["masks"]
        return np.unpackbits(packed, axis=2, count=size_hw[1]).astype(bool)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None
