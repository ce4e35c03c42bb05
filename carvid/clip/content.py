"""What a model's weights are, told by the content of their files and not by their folder's name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download

from carvid.base.guard import files_in
from carvid.clip.hub import is_hub_name, split_name
from carvid.clip.model_files import CONFIG, SMALL_FILES, weight_files
from carvid.clip.weights import EMBEDDED_FOLDER, EMBEDDED_NAME
from carvid.config import Config


def content_of(name: str) -> str | None:
    """Return what tells a model's weights from others: "sha256:" and 64 hexadecimal digits over the
    whole files that are read of it, or "commit:" and that of a hub model, whose cache is never
    written twice; None of what cannot be read.

    Reading all of 1.7 GB takes 1.6 s where the processor knows SHA-256, else about 5 s; so it is
    done while the same files are loaded (`contents_meanwhile`).
    """
    place = EMBEDDED_FOLDER if name == EMBEDDED_NAME else Path(name)
    try:
        if place.is_dir():
            return _digest(_files_in(place))
        if place.is_file():
            return _digest([place])
        return _commit(name) if is_hub_name(name) else None
    except (OSError, ValueError):  # unreadable, not cached, or no name of a file
        return None


@contextmanager
def contents_meanwhile(config: Config) -> Iterator[Callable[[], dict[str, str]]]:
    """Read the contents of the models that a run has in a thread, within the block; give what
    returns for each that can be told what it is for → `content_of`. That is to be called when the
    models are loaded, which may have downloaded them."""
    named = config.networks
    with ThreadPoolExecutor(1, "carvid-content") as pool:
        once = {name: pool.submit(content_of, name) for name in dict.fromkeys(named.values())}

        def contents() -> dict[str, str]:
            found = {use: once[name].result() or content_of(name) for use, name in named.items()}
            return {use: content for use, content in found.items() if content is not None}

        yield contents


def weights_files(config: Config) -> list[Path]:
    """Return the files and folders that the networks are read from, as far as they are local."""
    return [path for name in dict.fromkeys(config.networks.values()) for path in files_in(name)]


def _files_in(folder: Path) -> list[Path]:
    """The files that are read of a model in a folder."""
    names = [path.name for path in folder.iterdir()]
    small = [name for name in SMALL_FILES if name in names]
    return [folder / name for name in (*weight_files(names), *small)]


def _commit(name: str) -> str:
    repo, revision = split_name(name)
    folder = snapshot_download(
        repo, revision=revision, local_files_only=True, allow_patterns=[CONFIG]
    )
    return f"commit:{Path(folder).name}"


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest() + path.suffix.encode())
    return f"sha256:{digest.hexdigest()}"
