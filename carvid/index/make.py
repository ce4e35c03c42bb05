"""An index made of a clip, resumable piece by piece."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from carvid.base.guard import check_apart
from carvid.base.interrupt import until_stopped
from carvid.base.names import shown
from carvid.car.proposals import ProposalGenerator
from carvid.config.presets import INDEX_JSON
from carvid.index.build import build_pieces
from carvid.index.facts import IndexFacts
from carvid.index.folder import PIECES, IndexFolder
from carvid.media.given import ahead
from carvid.media.open import VideoReader, files_of
from carvid.run.lock import locked


def make_index(
    reader: VideoReader,
    out: Path,
    facts: IndexFacts,
    generator: ProposalGenerator,
    *,
    resume: bool,
    overwrite: bool,
    progress: bool,
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

    Raises:
        Stopped: somebody wanted to stop; the index can be resumed.
        OutputError: the folder holds something else, or cannot be written.
        VideoError: the clip cannot be read.
    """
    folder = IndexFolder(out, facts)
    check_apart(files_of(reader.info), [out / name for name in (INDEX_JSON, PIECES)])
    if folder.check(resume=resume, overwrite=overwrite):
        return
    with locked(out):
        start, state = folder.begin(resume=resume)
        reader.known = None if state is None else (start - 1, state.time_s)
        frames, info = ahead(reader, start), reader.info
        bar = tqdm(
            frames, initial=start, total=reader.expected, unit="frame",
            desc=shown(Path(info.path).name), disable=not progress,
        )  # fmt: skip
        count = start
        with closing(frames), closing(bar):
            pieces = build_pieces(until_stopped(bar), generator, facts.config.temporal, state)
            for built in pieces:
                folder.add(built.piece, built.picture, built.following, built.state)
                count = built.following
        folder.finish(count)
