"""A model's name on the hub → its folder in the hub library's cache.

The cache is searched first, without network. What is missing is downloaded in three steps: one
short request, because without network the hub library alone takes minutes to give up; then the
small files; then, if they are those of a model that carvid runs, the weights. The hub library's own
variables (`HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_TOKEN`, the timeouts) are obeyed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from carvid.base.errors import CarvidError, WeightsError
from carvid.clip.model_files import (
    CONFIG,
    PREPROCESSORS,
    SMALL_FILES,
    ModelKind,
    check_config,
    check_files,
    check_whole,
    weight_files,
)

log = logging.getLogger("carvid")

ANSWER_S = 5.0
"""How long the hub may take to answer the first question, where the user has not set a timeout."""
TIMEOUTS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
"""The hub library's variables for its timeouts, seconds."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""The variables that forbid the network."""

T = TypeVar("T")


def is_hub_name(name: str) -> bool:
    """Whether a name has the form owner/model or owner/model@revision, and none of a path's."""
    repo, _ = split_name(name)
    return repo.count("/") == 1 and repo[0] not in "./~" and repo[-1] != "/"


def split_name(name: str) -> tuple[str, str]:
    """Split owner/model@revision into the model and a branch, tag or commit, `main` if none."""
    repo, _, revision = name.partition("@")
    return repo, revision or constants.DEFAULT_REVISION


def find_cached(name: str, kind: ModelKind) -> Path | None:
    """Return the folder of a hub model that is cached and can be loaded, or None.

    Raises:
        WeightsError: it is cached, and of another kind.
    """
    repo, revision = split_name(name)
    try:
        folder = Path(
            snapshot_download(
                repo, revision=revision, local_files_only=True, allow_patterns=[CONFIG]
            )
        )
    except (OSError, ValueError):  # not there, or no name of the hub's
        return None
    if not (folder / CONFIG).exists():
        return None
    check_config(folder, name, kind)
    try:
        check_whole(folder, name, kind)
    except WeightsError:  # not all of its files
        return None
    return folder


def fetch(name: str, kind: ModelKind, ways_out: str) -> tuple[Path, bool]:
    """Return the folder of a hub model, and whether it had to be downloaded.

    Args:
        name: owner/model, or owner/model@revision.
        kind: what it must be.
        ways_out: ends the error of a model that cannot be had.

    Raises:
        WeightsError: it cannot be had, or is of another kind.
    """
    cached = find_cached(name, kind)
    if cached is not None and (not kind.tokenizer or _knows_pixels(cached)):
        return cached, False
    try:
        return download(name, kind, ways_out), True
    except WeightsError:
        if cached is None:
            raise
    log.warning(
        "'%s' is cached without its %s, and the hub cannot be reached; pixels are prepared as for "
        "OpenAI's CLIPs",
        name, PREPROCESSORS[0],
    )  # fmt: skip
    return cached, False


def download(name: str, kind: ModelKind, ways_out: str) -> Path:
    """Download what is missing of a hub model into the cache.

    Raises:
        WeightsError: it cannot be had, or is of another kind.
    """
    repo, revision = split_name(name)
    info = ask_hub(name, ways_out)
    try:
        files = [file.rfilename for file in info.siblings or ()]
        files = files or HfApi().list_repo_files(repo, revision=info.sha)
        check_files(files, name, kind)
        log.info("downloading %s from the hub, once", name)
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(SMALL_FILES)))
        check_config(folder, name, kind)
        snapshot_download(repo, revision=folder.name, allow_patterns=weight_files(files))
        check_whole(folder, name, kind)
        _remember_absence(folder)
    except CarvidError:
        raise
    except Exception as error:
        # The HTTP client's errors are no part of the hub library's interface.
        reason = _refusal(error, name) or (
            f"the download of '{name}' broke off ({_short(error)}); run again to go on with it"
        )
        raise WeightsError(f"{reason}; {ways_out}") from None
    return folder


def ask_hub(name: str, ways_out: str) -> ModelInfo:
    """Return what the hub knows of a model, within seconds.

    Raises:
        WeightsError: it cannot be had; the message ends with `ways_out`.
    """
    repo, revision = split_name(name)
    limit = answer_limit_s()
    try:
        if _offline():  # it may have been set after the hub library was imported
            raise OfflineModeIsEnabled
        return _within(limit, lambda: HfApi().model_info(repo, revision=revision, timeout=limit))
    except Exception as error:
        reason = _refusal(error, name)
        if reason is None and "Timeout" in type(error).__name__:
            reason = (
                f"'{name}' is not cached and the hub did not answer within {limit:g} s "
                f"({TIMEOUTS[0]}=60 waits longer)"
            )
        elif reason is None:
            reason = f"'{name}' is not cached and the hub cannot be reached ({_short(error)})"
        raise WeightsError(f"{reason}; {ways_out}") from None


def _refusal(error: Exception, name: str) -> str | None:
    """Why a model cannot be had, where it is not for the network."""
    repo, revision = split_name(name)
    if isinstance(error, OfflineModeIsEnabled):
        return f"'{name}' is not cached and {_offline() or OFFLINE[0]} is set"
    if isinstance(error, HFValidationError):
        return f"'{name}' is no name that the hub knows"
    if isinstance(error, GatedRepoError):
        return f"'{repo}' is gated: accept its terms on the hub and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no public model '{repo}' (a private one needs HF_TOKEN)"
    if isinstance(error, RevisionNotFoundError):
        return f"the hub's model '{repo}' has no revision '{revision}'"
    return None


def answer_limit_s() -> float:
    """Return how long the hub may take to answer, seconds: what the user set, or `ANSWER_S`."""
    by_user = [float(os.environ[name]) for name in TIMEOUTS if os.environ.get(name)]
    return max(by_user, default=ANSWER_S)


def _offline() -> str | None:
    """The variable that forbids the network, if one does."""
    yes = ("1", "on", "yes", "true")
    return next((name for name in OFFLINE if os.environ.get(name, "").lower() in yes), None)


def _within(limit_s: float, ask: Callable[[], T]) -> T:
    """Return what `ask` returns, or raise what it raises, within `limit_s`.

    A client's timeout is one of each step: looking up a name, each address, each read.

    Raises:
        TimeoutError: it has not answered; the thread that waits for it ends with the program.
    """
    answers: SimpleQueue[T | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask())
        except BaseException as error:
            answers.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        answer = answers.get(timeout=limit_s)
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _knows_pixels(folder: Path) -> bool:
    """Whether a cached model has a preprocessor's settings, or is known to have none."""
    return any((folder / file).exists() for file in PREPROCESSORS) or _absence(folder).exists()


def _absence(folder: Path) -> Path:
    """Where the hub library notes that a model lacks its preprocessor's settings."""
    return folder.parents[1] / ".no_exist" / folder.name / PREPROCESSORS[0]


def _remember_absence(folder: Path) -> None:
    if not _knows_pixels(folder):
        _absence(folder).parent.mkdir(parents=True, exist_ok=True)
        _absence(folder).touch()


def _short(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")[:120]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
