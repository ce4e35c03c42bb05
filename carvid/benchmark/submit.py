"""Predictions packed as the servers of MeViS and Ref-YouTube-VOS want them.

    MeViS              <video>/<expression>/<frame>.png
    Ref-YouTube-VOS    Annotations/<video>/<expression>/<frame>.png

Every frame of every expression of the split, as PNGs of 8 bits, 0 and 255, which is what
ReferFormer and its descendants write for both. The same predictions give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import cv2
import numpy as np
from tqdm import tqdm

from carvid.base.errors import OUT, OVERWRITE, ConfigError, DatasetError, OutputError, suggest
from carvid.base.files import read_json, replacing
from carvid.base.guard import check_apart, check_writable
from carvid.base.interrupt import until_stopped
from carvid.base.threads import cores
from carvid.benchmark.jobs import UNREADABLE
from carvid.datasets.expressions import Video
from carvid.datasets.folders import describe_missing, few, images_in
from carvid.datasets.mevis import Mevis
from carvid.datasets.open import recognize
from carvid.datasets.ref_youtube_vos import RefYoutubeVos
from carvid.datasets.video_dataset import VideoDataset
from carvid.evaluation.predicted_files import EXPRESSION_FOLDER
from carvid.evaluation.true_masks import read_mask
from carvid.run.lock import locked

SUFFIX = ".zip"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip, its earliest: when they were packed is nobody's business."""
UNIX, MODE = 3, 0o644 << 16
"""The system that files are from, and who may read them."""


@dataclass(frozen=True)
class Server:
    """What takes predictions, and how it wants them."""

    dataset: type[VideoDataset]
    top: str = ""
    """Folder in the zip that the videos are in, with a slash."""
    splits: tuple[str, ...] = ("valid", "test")
    """Whose truth is not published."""


SERVERS = {"mevis": Server(Mevis), "ref-youtube-vos": Server(RefYoutubeVos, "Annotations/")}
"""By the names of `--for`."""


@dataclass(frozen=True)
class Submission:
    """A zip that was written."""

    out: Path
    videos: int
    expressions: int
    masks: int
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping."""
        return {
            "out": str(self.out), "videos": self.videos, "expressions": self.expressions,
            "masks": self.masks, "bytes": self.size_bytes,
        }  # fmt: skip


def submit(
    predictions: str | Path,
    server: str,
    out: str | Path,
    *,
    data: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Submission:
    """Pack the predictions of `carvid davis` for an evaluation server.

    Args:
        predictions: the folder that `predict` wrote.
        server: a name in `SERVERS`.
        out: the zip; it is whole or not there.
        data: the data set's root, if it is no longer where it was predicted for.
        overwrite: replace the zip if it is there.
        progress: show a bar on stderr.

    Raises:
        ConfigError: no such server, or `out` is no .zip.
        DatasetError: the predictions are not whole, are no masks, or are of another data set or of
            a split that no server takes.
        OutputError: `out` is there already, cannot be written, or is read; or somebody is writing
            the predictions.
    """
    predictions, out = Path(predictions), Path(out)
    if server not in SERVERS:
        raise ConfigError(f"unknown server '{server}'{suggest(server.lower(), SERVERS)}")
    _check_out(out, overwrite)
    facts = _facts(predictions)
    root, split = Path(facts["root"]) if data is None else Path(data), str(facts["split"])
    videos = _videos(predictions, server, root, split)
    with locked(predictions):
        folders = [
            (predictions / EXPRESSION_FOLDER / video.name / e.key, video, e.key)
            for video in videos
            for e in video.expressions
        ]
        _check_whole(predictions, folders, root, split)
        masks = sum(len(video.frames) for _, video, _ in folders)
        check_apart((p for folder, _, _ in folders for p in folder.iterdir()), [out])
        with tqdm(total=masks, desc="submit", unit="mask", disable=not progress) as bar:
            _write(out, SERVERS[server].top, folders, bar)
    size = out.stat().st_size
    return Submission(out, len({video.name for _, video, _ in folders}), len(folders), masks, size)


Folders = Sequence[tuple[Path, Video, str]]
"""Folder of the masks, video and key of each expression."""


def _check_out(out: Path, overwrite: bool) -> None:
    if out.suffix.lower() != SUFFIX:
        raise ConfigError(f"a submission is a .zip, got '{out}'; give such a name with {OUT}")
    check_writable(out)
    if out.exists() and not overwrite:
        raise OutputError(
            f"'{out}' is there already; add {OVERWRITE} to replace it, or choose another name with "
            f"{OUT}"
        )


def _facts(predictions: Path) -> Mapping[str, Any]:
    """What the predictions are for: root and split."""
    if not predictions.is_dir():
        raise DatasetError(f"no folder '{predictions}'; give the folder of predictions")
    try:
        facts: Mapping[str, Any] = read_json(predictions / "run.json")["dataset"]
        return {"root": str(facts["root"]), "split": str(facts["split"])}
    except UNREADABLE:
        raise DatasetError(
            f"'{predictions}' is no folder of predictions by carvid davis (its run.json names no "
            "data set); give one"
        ) from None


def _videos(predictions: Path, server: str, root: Path, split: str) -> list[Video]:
    """The split's videos that have expressions, with the names of their frames."""
    if not root.is_dir():
        raise DatasetError(
            f"the data set of '{predictions}' is no longer in '{root}'; give its place with --data "
            "(data=)"
        )
    wanted = SERVERS[server]
    kind, videos = recognize(root, split)
    videos = tuple(video for video in videos if video.expressions)
    if not videos:
        raise DatasetError(f"no expressions in '{root}' for split '{split}'; unpack it again")
    if kind is not wanted.dataset:
        name = next((name for name, each in SERVERS.items() if each.dataset is kind), None)
        remedy = f"give --for {name}" if name else "score them by carvid eval"
        raise DatasetError(
            f"'{predictions}' holds predictions for {kind.name}, and {server} takes those for "
            f"{wanted.dataset.name}; {remedy}"
        )
    if split not in wanted.splits:
        raise DatasetError(
            f"'{predictions}' holds predictions for {kind.name}'s {split}, whose truth is "
            f"published: score them by carvid eval --protocol {server} --split {split}; the server "
            f"takes those for {' or '.join(wanted.splits)}"
        )
    if all(video.frames for video in videos):
        return list(videos)
    images = kind.image_folder(root, split, None)
    return [
        replace(video, frames=video.frames or tuple(sorted(images_in(images / video.name))))
        for video in videos
    ]


def _check_whole(predictions: Path, folders: Folders, root: Path, split: str) -> None:
    lacking, problems = 0, []
    for folder, video, _ in folders:
        have = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        missing = [frame for frame in video.frames if f"{frame}.png" not in have]
        lacking += len(missing)
        if missing or not video.frames:
            problems.append(describe_missing(folder, missing, len(video.frames), ".png"))
    if problems:
        total = sum(len(video.frames) for _, video, _ in folders)
        raise DatasetError(
            f"'{predictions}' lacks {lacking} of {total} masks: {few(problems, '; ')}; predict "
            f"them with carvid davis '{root}' -o '{predictions}' --split {split} --resume"
        )


def _write(out: Path, top: str, folders: Folders, bar: tqdm[Any]) -> None:
    """Write the zip; an expression's masks at a time are in memory, packed."""
    with (
        replacing(out) as partial,
        ZipFile(partial, "w", ZIP_STORED) as archive,
        ThreadPoolExecutor(cores()) as pool,
    ):
        for folder, video, key in until_stopped(folders):
            paths = [folder / f"{frame}.png" for frame in video.frames]
            packed: Iterator[bytes] = pool.map(_black_and_white, paths)
            for path, content in zip(paths, packed, strict=True):
                archive.writestr(_entry(f"{top}{video.name}/{key}/{path.name}"), content)
                bar.update()


def _entry(name: str) -> ZipInfo:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise DatasetError(f"{name!r} cannot be the name of a file in a zip; rename it") from None
    entry = ZipInfo(name, EPOCH)
    entry.create_system, entry.external_attr = UNIX, MODE
    return entry


def _black_and_white(path: Path) -> bytes:
    """A mask as a PNG of 8 bits, 0 and 255."""
    return bytes(cv2.imencode(".png", read_mask(path) * np.uint8(255))[1])
