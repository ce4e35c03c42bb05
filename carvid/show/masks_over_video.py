"""A folder of masks, drawn over the video that they were made of."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from carvid.base.errors import OutputError
from carvid.base.files import is_partial, read_json
from carvid.base.guard import check_apart
from carvid.base.interrupt import until_stopped
from carvid.base.names import existing
from carvid.base.words import plural
from carvid.config import OverlayConfig
from carvid.media.label_images import read_labels
from carvid.media.label_png import MAX_LABEL
from carvid.media.open import (
    ALL,
    Selection,
    VideoInfo,
    input_files,
    natural_key,
    open_video,
)
from carvid.run.names import png_name
from carvid.run.progress import NOT_OURS
from carvid.show.overlay import write_overlay

log = logging.getLogger("carvid")


def draw_masks(
    masks: Path,
    video: str | Path,
    output: Path,
    texts: Sequence[str],
    config: OverlayConfig,
    *,
    scores: Sequence[Sequence[float]] | None = None,
    frame_rate: Fraction | None = None,
    selection: Selection = ALL,
    unfinished: bool = False,
    progress: bool = False,
) -> int:
    """Draw a folder of DAVIS PNGs over a video; return the number of frames.

    Of an `unfinished` run as many frames are drawn as have scores.

    Raises:
        Stopped: somebody wanted to stop; nothing is left.
        OutputError: there are fewer or more masks than frames, or the place cannot be written, or
            is one of what is read.
        VideoError: the video cannot be read.
        DatasetError: a mask cannot be read.
    """
    masks = existing(masks)
    if not masks.is_dir():
        raise OutputError(f"no folder '{masks}'; give the folder of masks that carvid run made")
    found = [path for path in masks.rglob("*.png") if not is_partial(path)]
    check_apart([*input_files(video), *found, masks.parent / "run.json"], [output])
    with open_video(video, frame_rate=frame_rate, selection=selection) as reader:
        paths = _in_order(masks, found, reader.info.names)
        count, frames = reader.info.frame_count, reader.frames()
        if unfinished and scores is not None:
            paths = paths[: len(scores)]
            count, frames = len(scores), itertools.islice(frames, len(scores))
        mismatch = OutputError(
            f"'{masks}' holds {plural(len(paths), 'mask')}, '{video}' has "
            f"{count or 'another number of'} frames; give the masks of this video"
        )
        if not paths or (count is not None and count != len(paths)):
            raise mismatch
        bar = tqdm(
            until_stopped(frames), total=len(paths), desc="overlay", unit="frame",
            disable=not progress,
        )  # fmt: skip
        planes = _label_maps(paths, len(texts))
        try:
            return write_overlay(
                output, reader.info, bar, planes, texts, config, scores=scores,
            )  # fmt: skip
        except ValueError:  # one of the two ended first, or a mask has another size
            raise mismatch from None
        finally:
            bar.close()


def _in_order(masks: Path, found: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """The masks of a folder in the order of the frames: by the frames' names, if they are named so,
    of an unfinished run some of them; else by their own."""
    named, there = [masks / png_name(name) for name in names], set(found)
    if there <= set(named) or there > set(named) > set():
        return [path for path in named if path in there]
    paths = [path for path in found if path.parent == masks]
    return sorted(paths, key=lambda path: natural_key(path.name))


def _label_maps(paths: Sequence[Path], count: int) -> Iterator[NDArray[np.uint8]]:
    """Read masks of `count` expressions, 0 if that is not known; say once what is no indexed PNG.

    Raises:
        DatasetError: one cannot be read.
    """
    told: set[str] = set()
    for path in paths:
        labels, form = read_labels(
            path, count or MAX_LABEL, single=count < 2, repainted=count > 0
        )  # fmt: skip
        if form and form not in told:
            told.add(form)
            log.warning("'%s' is no indexed PNG as a run writes it; %s", path, form)
        yield labels


def expressions_beside(masks: Path) -> list[str]:
    """Return the expressions that the run.json beside a folder of masks names, or none.

    Raises:
        OutputError: it is damaged.
    """
    path = existing(masks).parent / "run.json"
    if not path.exists():
        return []
    with _what_we_wrote(path):
        return [str(text) for text in read_json(path)["texts"]]


def is_semantic_beside(masks: Path) -> bool:
    """Whether the run.json beside a folder of masks is of a run in semantic mode.

    Raises:
        OutputError: it is damaged.
    """
    path = existing(masks).parent / "run.json"
    if not path.exists():
        return False
    with _what_we_wrote(path):
        return bool(read_json(path).get("config", {}).get("car", {}).get("mode") == "semantic")


def selection_beside(masks: Path) -> Selection:
    """Return the part of the video that the run.json beside a folder of masks names, or all.

    Raises:
        OutputError: it is damaged.
    """
    path = existing(masks).parent / "run.json"
    if not path.exists():
        return ALL
    with _what_we_wrote(path):
        video = read_json(path).get("video", {})
        return Selection(**video.get("selection", video.get("part", {})))


def rate_beside(masks: Path) -> Fraction | None:
    """Return the frame rate that the run.json beside a folder of masks gave to images, if any.

    Raises:
        OutputError: it is damaged.
    """
    path = masks.parent / "run.json"
    if not path.exists():
        return None
    with _what_we_wrote(path):
        video = read_json(path).get("video")
        return None if video is None else VideoInfo.from_dict(video).asked_rate


@contextmanager
def _what_we_wrote(path: Path) -> Iterator[None]:
    try:
        yield
    except NOT_OURS:
        raise OutputError(
            f"'{path}' is not what carvid run wrote; move it away from the masks"
        ) from None
