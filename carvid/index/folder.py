"""IndexFolder: an index on disk, written piece by piece.

    clip.idx/index.json         version, settings, weights, clip, key frames
    clip.idx/pieces/00012.npz   key frame 12: features, affinity; motion of the frames after it
    clip.idx/pieces/00012.jpg   key frame 12, at 480p

While it is being made, `clip.idx/progress.json` holds what is done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import OVERWRITE, OutputError
from carvid.base.files import make_folder, read_json, write_text
from carvid.config.presets import INDEX_JSON
from carvid.index.facts import FORMAT, PROGRESS_JSON, IndexFacts
from carvid.index.pieces import Piece, write_picture, write_piece
from carvid.index.place import CONTENTS, INDEX_NAMES, PIECES, earlier_index
from carvid.run.earlier import listed
from carvid.run.layout import CHOOSE, check_contents
from carvid.run.progress import NOT_OURS
from carvid.temporal.state import TemporalState
from carvid.version import __version__


class IndexFolder:
    """Writes an index.

    Args:
        folder: the index's.
        facts: what it is made of.
    """

    def __init__(self, folder: Path, facts: IndexFacts) -> None:
        self.folder, self.facts = folder, facts
        self._progress, self._json = folder / PROGRESS_JSON, folder / INDEX_JSON
        self._keys: list[int] = []
        self._inputs: dict[str, Any] = json.loads(json.dumps(facts.to_dict()))

    def check(self, *, resume: bool, overwrite: bool) -> bool:
        """Look at what is in the folder; return whether it holds this very index, whole.

        Raises:
            OutputError: it holds something else, another index than the one to go on with, or
                something else is among what would be replaced; or it cannot be written.
        """
        found = earlier_index(self.folder, known=resume or overwrite)
        if found is None:
            check_contents(self.folder, INDEX_NAMES, CONTENTS)
            return False
        others = list(self._unlike(found))
        if others and not overwrite:
            raise OutputError(
                f"'{self.folder}' holds another index: {listed(others)}; replace it with "
                f"{OVERWRITE}, or {CHOOSE}"
            )
        if resume and not others and self._json.exists():
            self._progress.unlink(missing_ok=True)  # which a kill at the very end has left
            return True
        check_contents(self.folder, INDEX_NAMES, CONTENTS)
        return False

    def begin(self, *, resume: bool) -> tuple[int, TemporalState | None]:
        """Make the folder; return the first frame to do, and the state before it, if there is one.

        What was begun with other inputs, or is damaged, is made again.

        Raises:
            OutputError: the place cannot be written.
        """
        done, state = self._load() if resume else (0, None)
        if not done:
            self._remove()
        make_folder(self.folder / PIECES)
        return done, state

    def add(
        self, piece: Piece, picture: NDArray[np.uint8], following: int, state: TemporalState
    ) -> None:
        """Write a piece; the next frame is `following`, before which the state is `state`.

        Raises:
            OutputError: the place cannot be written.
        """
        path = self.folder / PIECES / f"{piece.index:05d}.npz"
        write_piece(path, piece)
        write_picture(path.with_suffix(".jpg"), picture)
        self._keys.append(piece.index)
        values = {"next": following, "key_frames": self._keys, "state": state.to_dict(),
                  "inputs": self._inputs}  # fmt: skip
        write_text(self._progress, json.dumps(values))

    def finish(self, frame_count: int, lost: Sequence[str]) -> None:
        """Write index.json: the index of so many frames is whole, but for what could not be read.

        Raises:
            OutputError: the place cannot be written.
        """
        values = self._inputs | {
            "frame_count": frame_count, "lost": list(lost), "key_frames": self._keys
        }  # fmt: skip
        write_text(self._json, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        self._progress.unlink(missing_ok=True)

    def forget_if_empty(self) -> None:
        """Leave nothing of an index without a piece, which would be in the way of a better one."""
        if not self._keys:
            for folder in (self.folder / PIECES, self.folder):
                with suppress(OSError):  # somebody else's things are in it
                    folder.rmdir()

    def _unlike(self, found: dict[str, Any]) -> Iterator[str]:
        """In what an earlier index differs from this one, a few words each."""
        try:
            earlier = IndexFacts.from_dict(found)
        except NOT_OURS:
            yield "it is damaged"
            return
        yield from self.facts.unlike(earlier)
        if found["index"] != FORMAT:
            yield f"its format was {found['index']}, is {FORMAT}"
        if self._json.exists():
            return
        # What is done of one that goes on has to fit to the rest, bit by bit.
        if found.get("carvid") != __version__:
            yield f"carvid {found.get('carvid')} has begun it"
        for name in ("device", "dtype"):
            if earlier.weights.get(name) != self.facts.weights.get(name):
                yield f"{name} was {earlier.weights.get(name)}, is {self.facts.weights.get(name)}"

    def _load(self) -> tuple[int, TemporalState | None]:
        """What is done of an index that was begun; 0 if it is damaged, or another one."""
        try:
            values = read_json(self._progress)
            done, keys = int(values["next"]), [int(key) for key in values["key_frames"]]
            state = TemporalState.from_dict(values["state"])
            others = list(self._unlike(values["inputs"]))
        except (OSError, *NOT_OURS):
            return 0, None
        files = [self.folder / PIECES / f"{key:05d}.npz" for key in keys]
        whole = all(path.is_file() and path.with_suffix(".jpg").is_file() for path in files)
        if others or not whole:
            return 0, None
        self._keys = keys
        return done, state

    def _remove(self) -> None:
        for path in map(self.folder.joinpath, INDEX_NAMES):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif os.path.lexists(path):
                path.unlink()
