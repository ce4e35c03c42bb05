"""An index made of a clip, resumable piece by piece."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from carvid.base.errors import VideoError
from carvid.base.guard import check_apart
from carvid.base.interrupt import until_stopped
from carvid.base.names import shown
from carvid.base.words import plural
from carvid.car.proposals import ProposalGenerator
from carvid.index.build import build_pieces
from carvid.index.facts import IndexFacts
from carvid.index.folder import IndexFolder
from carvid.index.place import INDEX_NAMES
from carvid.media.given import ahead
from carvid.media.open import VideoReader, files_of
from carvid.run.lock import locked
from carvid.temporal.seen import AHEAD, seen_frames
from carvid.temporal.state import TemporalState

log = logging.getLogger("carvid")


def make_index(
    reader: VideoReader,
    out: Path,
    facts: IndexFacts,
    generator: ProposalGenerator,
    *,
    resume: bool,
    overwrite: bool,
    progress: bool,
    read: Iterable[Path] = (),
) -> None:
    """Make the index of a clip in a folder, or the rest of it.

    Args:
        reader: the clip's.
        out: the index's folder.
        facts: what the index is made of.
        generator: encodes key frames, by the settings in `facts`.
        resume: go on after the last whole piece there; a whole index stays as it is.
        overwrite: replace an index of something else.
        progress: show a bar with frames per second on stderr.
        read: what else is read, and not to be overwritten.

    Raises:
        Stopped: somebody wanted to stop; the index can be resumed.
        OutputError: the folder holds something else, or cannot be written.
        VideoError: the clip cannot be read.
    """
    folder = IndexFolder(out, facts)
    check_apart([*files_of(reader.info), *read], [out / name for name in INDEX_NAMES])
    if folder.check(resume=resume, overwrite=overwrite):
        return
    with locked(out):
        start, state = folder.begin(resume=resume)
        began_s = time.monotonic()
        try:
            count = _fill(folder, reader, generator, start, state, progress=progress)
        except VideoError:
            folder.forget_if_empty()
            raise
        folder.finish(count, reader.lost)
    if not progress:  # a bar says as much
        seconds, name = time.monotonic() - began_s, Path(reader.info.path).name
        counted = plural(count - start, "frame")
        log.info("%s: %s indexed in %.1f s", name, counted, seconds)


def _fill(
    folder: IndexFolder,
    reader: VideoReader,
    generator: ProposalGenerator,
    start: int,
    state: TemporalState | None,
    *,
    progress: bool,
) -> int:
    """Write the pieces from frame `start` on, before which `state` was left; return the number of
    all frames."""
    reader.known = None if state is None else (start - 1, state.time_s)
    config = folder.facts.config.temporal
    frames, info, count = ahead(reader, start), reader.info, start
    seen = seen_frames(frames, state, config, ahead=AHEAD)
    bar = tqdm(
        seen, initial=start, total=reader.expected, unit="frame",
        desc=shown(Path(info.path).name), disable=not progress,
    )  # fmt: skip
    with closing(frames), closing(seen), closing(bar):
        for built in build_pieces(until_stopped(bar), generator, config, state):
            folder.add(built.piece, built.picture, built.following, built.state)
            count = built.following
    return count
