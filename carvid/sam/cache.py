"""SAM's automatic masks on disk, by content: they take minutes on a CPU and never change."""

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

from carvid.base.errors import OutputError
from carvid.base.files import replacing

NAME = re.compile(r"\.?[0-9a-f]{40}(-\d+-\d+\.part)?\.npz")
"""What the files of a cache are called; nothing else is removed."""
ABANDONED_S = 3600.0
"""A file that was being written so long ago has no writer any more."""


def cache_folder(setting: str) -> Path | None:
    """Return the folder that `sam.cache` means, or None for `off`."""
    if setting == "off":
        return None
    if setting != "auto":
        return Path(setting).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "carvid" / "sam"


class MaskCache:
    """A folder of files, one for each picture, weights and settings; it may be deleted at any time.

    Several processes may use it. Of files that were not used for long so many go that the others
    keep within the limit.

    Args:
        folder: is made at the first mask.
        weights: the tensors that the masks come from.
        settings: everything else that they depend on.
        max_bytes: of all files together.
    """

    def __init__(
        self,
        folder: Path,
        weights: Mapping[str, Any],
        settings: tuple[float, ...],
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
        """Remove what was used longest ago until the rest is small enough; not the newest."""
        files = sorted((*facts, path) for path in self.folder.iterdir() if (facts := _facts(path)))
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


def _facts(path: Path) -> tuple[float, int] | None:
    """When a file of the cache was used last, seconds, and its bytes; None if it is none, or
    gone."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return (facts.st_mtime, facts.st_size) if NAME.fullmatch(path.name) else None


def _read(path: Path, size_hw: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Masks of a file, or None if there is none that can be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as values:
            packed = values["masks"]
        return np.unpackbits(packed, axis=2, count=size_hw[1]).astype(bool)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None
