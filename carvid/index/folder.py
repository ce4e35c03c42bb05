"""IndexFolder: an index on disk, written piece by piece.

    clip.idx/index.json         version, settings, weights, clip, key frames
    clip.idx/pieces/00012.npz   key frame 12: features, affinity; motion of the frames after it
    clip.idx/pieces/00012.jpg   key frame 12, at 480p

While it is being made, `clip.idx/.carvid/progress.json` holds what is done.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import OVERWRITE, RESUME, OutputError
from carvid.base.files import is_partial, make_folder, read_json, write_text
from carvid.config.presets import INDEX_JSON
from carvid.index.facts import IndexFacts
from carvid.index.pieces import Piece, write_picture, write_piece
from carvid.run.layout import CHOOSE, LITTER, PROGRESS_FOLDER
from carvid.run.progress import NOT_OURS
from carvid.temporal.state import TemporalState

PIECES = "pieces"


class IndexFolder:
    """Writes an index.

    Args:
        folder: the index's.
        facts: what it is made of.
    """

    def __init__(self, folder: Path, facts: IndexFacts) -> None:
        self.folder, self.facts = folder, facts
        self._progress = folder / PROGRESS_FOLDER / "progress.json"
        self._keys: list[int] = []

    @property
    def _inputs(self) -> dict[str, Any]:
        """What must be equal for an index to go on; as JSON reads it back."""
        return dict(json.loads(json.dumps(self.facts.to_dict())))

    def check(self, *, resume: bool, overwrite: bool) -> bool:
        """Look at what is in the folder; return whether it holds this very index, whole.

        Raises:
            OutputError: it holds something else, or another index than the one to resume.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"'{self.folder}' is a file; {CHOOSE}")
        found = self._earlier()
        if found is None:
            return False
        if not (resume or overwrite):
            raise OutputError(
                f"'{self.folder}' holds an index; go on with {RESUME}, replace it with "
                f"{OVERWRITE}, or {CHOOSE}"
            )
        same = all(found.get(key) == value for key, value in self._inputs.items())
        if resume and not same and not overwrite:
            raise OutputError(
                f"'{self.folder}' holds an index of something else, or made otherwise; replace it "
                f"with {OVERWRITE}, or {CHOOSE}"
            )
        return resume and same and (self.folder / INDEX_JSON).exists()

    def begin(self, *, resume: bool) -> tuple[int, TemporalState | None]:
        """Make the folder; return the first frame to do, and the state before it, if there is one.

        What was begun with other inputs, or is damaged, is made again.
        """
        done, state = 0, None
        if resume and self._progress.exists():
            done, state = self._load()
        if not done:
            for name in (INDEX_JSON, PIECES, PROGRESS_FOLDER):
                self._remove(self.folder / name)
            self._keys = []
        make_folder(self._progress.parent)
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

    def finish(self, frame_count: int) -> None:
        """Write index.json: the index is whole."""
        values = self._inputs | {"frame_count": frame_count, "key_frames": self._keys}
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        write_text(self.folder / INDEX_JSON, text)
        shutil.rmtree(self._progress.parent)

    def _earlier(self) -> dict[str, Any] | None:
        """What an earlier index in the folder was made of; None if there is none.

        Raises:
            OutputError: the folder holds something else.
        """
        for path in (self.folder / INDEX_JSON, self._progress):
            try:
                values = read_json(path)
                return dict(values["inputs"] if path == self._progress else values)
            except (OSError, *NOT_OURS):
                continue
        names = [path for path in self.folder.glob("*") if path.name not in LITTER]
        ours = {PIECES, PROGRESS_FOLDER, INDEX_JSON}
        if all(is_partial(path) or path.name in ours for path in names):
            return {} if (self.folder / INDEX_JSON).exists() else None
        raise OutputError(f"'{self.folder}' exists and holds something else; {CHOOSE}")

    def _load(self) -> tuple[int, TemporalState | None]:
        """What is done of an index that was begun; 0 if it is damaged, or another one."""
        try:
            values = read_json(self._progress)
            done, keys = int(values["next"]), [int(key) for key in values["key_frames"]]
            state = TemporalState.from_dict(values["state"])
        except (OSError, *NOT_OURS):
            return 0, None
        files = [self.folder / PIECES / f"{key:05d}.npz" for key in keys]
        if values["inputs"] != self._inputs or not all(path.is_file() for path in files):
            return 0, None
        self._keys = keys
        return done, state

    def _remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
