"""A folder of masks, drawn over the video that they were made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from tqdm import tqdm

from carvid.base.errors import OutputError
from carvid.base.files import is_partial, read_json
from carvid.base.guard import check_apart
from carvid.base.interrupt import until_stopped
from carvid.base.words import plural
from carvid.config import OverlayConfig
from carvid.media.label_png import read_label_png
from carvid.media.open import (
    ALL,
    DEFAULT_FRAME_RATE,
    Selection,
    input_files,
    natural_key,
    open_video,
)
from carvid.run.progress import NOT_OURS
from carvid.show.overlay import write_overlay


def draw_masks(
    masks: Path,
    video: str | Path,
    output: Path,
    texts: Sequence[str],
    config: OverlayConfig,
    *,
    scores: Sequence[Sequence[float]] | None = None,
    frame_rate: Fraction = DEFAULT_FRAME_RATE,
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
    if not masks.is_dir():
        raise OutputError(f"no folder '{masks}'; give the folder of masks that carvid run made")
    paths = [path for path in masks.glob("*.png") if not is_partial(path)]
    paths.sort(key=lambda path: natural_key(path.name))
    check_apart([*input_files(video), *paths, masks.parent / "run.json"], [output])
    with open_video(video, frame_rate=frame_rate, selection=selection) as reader:
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
        planes = (read_label_png(path) for path in paths)
        try:
            return write_overlay(
                output, reader.info, bar, planes, texts, config, scores=scores,
            )  # fmt: skip
        except ValueError:  # one of the two ended first, or a mask has another size
            raise mismatch from None
        finally:
            bar.close()


def expressions_beside(masks: Path) -> list[str]:
    """Return the expressions that the run.json beside a folder of masks names, or none.

    Raises:
        OutputError: it is damaged.
    """
    path = masks.parent / "run.json"
    if not path.exists():
        return []
    with _what_we_wrote(path):
        return [str(text) for text in read_json(path)["texts"]]


def selection_beside(masks: Path) -> Selection:
    """Return the part of the video that the run.json beside a folder of masks names, or all.

    Raises:
        OutputError: it is damaged.
    """
    path = masks.parent / "run.json"
    if not path.exists():
        return ALL
    with _what_we_wrote(path):
        video = read_json(path).get("video", {})
        return Selection(**video.get("selection", video.get("part", {})))


@contextmanager
def _what_we_wrote(path: Path) -> Iterator[None]:
    try:
        yield
    except NOT_OURS:
        raise OutputError(
            f"'{path}' is not what carvid run wrote; move it away from the masks"
        ) from None
