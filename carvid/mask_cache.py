"""SAM's automatic masks on disk, by content: they take minutes on a CPU and never change."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.errors import OutputError
from carvid.files import replacing


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

    Args:
        folder: is made at the first mask.
        weights: the tensors that the masks come from.
        settings: everything else that they depend on.
    """

    def __init__(
        self, folder: Path, weights: Mapping[str, Any], settings: tuple[float, ...]
    ) -> None:
        self.folder = folder
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
        if masks is None:
            masks = generate(image)
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with replacing(path) as partial:
                    np.savez_compressed(partial, masks=np.packbits(masks, axis=2))
            except (OSError, OutputError) as error:
                raise OutputError(
                    f"cannot keep SAM's masks in '{self.folder}': {error}; choose another folder "
                    "with --set sam.cache=DIR, or none with --set sam.cache=off"
                ) from None
        return masks

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


def _read(path: Path, size_hw: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Masks of a file, or None if there is none that can be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as values:
            packed = values["masks"]
        return np.unpackbits(packed, axis=2, count=size_hw[1]).astype(bool)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None
