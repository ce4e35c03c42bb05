"""Project: the folder of one clip in a workspace, and what was found in it.

workspace/dog-jumping/clip/     the clip, if it was uploaded
workspace/dog-jumping/run/      a run's folder, as `carvid run` makes it
workspace/dog-jumping/clip.idx/ the index, for quick answers
workspace/dog-jumping/exports/  what was taken along
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from carvid.app.clips import Clip, FrameSource
from carvid.app.pictures import Masks, draw, fitted, to_jpeg
from carvid.app.quick import QuickAnswer
from carvid.app.things import Thing
from carvid.base.errors import OutputError
from carvid.base.files import read_json, write_text
from carvid.base.palette import color_of
from carvid.config import OverlayConfig
from carvid.index.clip_index import ClipIndex
from carvid.media.label_png import read_label_png
from carvid.run.layout import MASK_FOLDER, MASK_NAME
from carvid.run.track import Track

RUN, INDEX, EXPORTS, CLIP = "run", "clip.idx", "exports", "clip"
NAMES_JSON = "names.json"
"""What the things of a run are called, and their colours; the run itself has what was asked."""


def new_folder(root: Path, name: str) -> Path:
    """Make a folder in a workspace that nobody else has, called as a clip is.

    Raises:
        OutputError: it cannot be made.
    """
    plain = re.sub(r"[^\w.-]+", "-", Path(name).stem, flags=re.ASCII).strip("-._")[:60] or "clip"
    for number in count(1):
        folder = root / (plain if number == 1 else f"{plain}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(
                f"cannot make the folder '{folder}': {error.strerror or error}; start the app with "
                "another folder (-o)"
            ) from None
        return folder
    raise AssertionError


class Project:
    """One clip, with what was found in it.

    Args:
        folder: in the workspace.
        clip: the clip.
    """

    def __init__(self, folder: Path, clip: Clip) -> None:
        self.folder, self.clip = folder, clip
        self.track: Track | None = None
        self.index: ClipIndex | None = None
        self.quick: QuickAnswer | None = None
        self.corrections: list[dict[str, Any]] = []
        """Those that the run has: frame, label, wanted, and point or box."""
        self.spans: list[list[list[int]]] = []
        """Where each expression of the run is: first frame and the one after the last."""
        self.going = False
        """Whether a run is going on, or was cancelled: some of its masks are there."""
        self._source = FrameSource(clip)

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / RUN

    def begin(self) -> None:
        """Take note that a run begins: masks are seen as they come."""
        self.track, self.spans, self.corrections, self.going = None, [], [], True

    @property
    def masks_there(self) -> int:
        """Of how many frames of a run that is not whole the masks are there."""
        folder = self.run / MASK_FOLDER
        if (self.run / "run.json").exists() or not folder.is_dir():  # of an earlier one
            return 0
        return sum(1 for _ in os.scandir(folder))

    def look_again(self) -> None:
        """Take up what is in the run's folder now, whole or begun."""
        self.track, self.spans, self.corrections = None, [], []
        self.going = self.masks_there > 0
        if not (self.run / "run.json").is_file():
            return
        track = Track.open(self.run)
        values = read_json(self.run / "run.json")
        self.corrections = [_shown(each) for each in values.get("corrections", [])]
        self.spans = spans_of(self.run / "scores.csv", len(track.texts), len(track))
        self.track, self.going = track, False

    def keep_names(self, things: Sequence[Thing]) -> None:
        """Write beside the run what its things are called."""
        write_text(self.folder / NAMES_JSON, things_json(things))

    def picture(
        self,
        frame: int,
        things: Sequence[Thing],
        *,
        source: str,
        theta: float,
        side: int,
        names: bool,
    ) -> bytes:
        """Return a frame as a JPEG, with masks over it.

        Args:
            frame: its index.
            things: those whose masks are drawn; their labels are of the source.
            source: `run`, `quick`, or `plain` for no masks.
            theta: of `quick`.
            side: longer side, pixels.
            names: whether names are drawn.

        Raises:
            CarvidError: there is no such frame, or it or its masks cannot be read.
        """
        image = fitted(self._source.image(frame), side)
        masks, style = None, OverlayConfig()
        if source == "quick" and self.quick is not None:
            scores = self.quick.scores(frame)
            masks = Masks(self.quick.labels(frame, theta), things,
                          [scores[thing.label - 1] for thing in things])  # fmt: skip
        elif source == "run" and (track := self.track) is not None:
            style, row = track.facts.config.overlay, track.scores[frame]
            masks = Masks(track.label_maps[frame], things,
                          [float(row[thing.label - 1]) for thing in things])  # fmt: skip
        elif source == "run" and self.going and not (self.run / "run.json").exists():
            path = self.run / MASK_FOLDER / MASK_NAME.format(frame)
            masks = Masks(read_label_png(path), things) if path.is_file() else None
        return to_jpeg(draw(image, masks, style, names=names))

    def close(self) -> None:
        """Release the clip's file."""
        self._source.close()

    def run_json(self) -> dict[str, Any] | None:
        """Return what a page knows of the run; None if there is none."""
        if self.track is None:
            return None
        return {
            "texts": list(self.track.texts),
            "theta": self.track.facts.config.car.theta,
            "quick": self.track.facts.quick,
            "spans": self.spans,
            "frames_found": [sum(b - a for a, b in spans) for spans in self.spans],
            "colors": [color_of(k) for k in range(len(self.track.texts))],
        }


def _shown(correction: dict[str, Any]) -> dict[str, Any]:
    """A correction as a page has it, from a run.json."""
    place: dict[str, Any] = {key: correction[key] for key in ("point", "box") if key in correction}
    wanted = correction.get("answer", "yes") == "yes"
    return {"frame": correction["frame"], "label": correction["expression"], "wanted": wanted,
            **place}  # fmt: skip


def things_json(things: Sequence[Thing]) -> str:
    """Return what things are called, as JSON."""
    return json.dumps([each.to_json() for each in things], indent=2, ensure_ascii=False) + "\n"


def spans_of(scores: Path, texts: int, frames: int) -> list[list[list[int]]]:
    """Return where each of N expressions is found, by a scores.csv: of each stretch the first frame
    and the one after the last.

    Raises:
        OutputError: it is damaged.
    """
    found = np.zeros((texts, frames + 2), np.int8)
    try:
        with scores.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found[int(row["label"]) - 1, int(row["frame"]) + 1] = int(row["area"]) > 0
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise OutputError(f"'{scores}' is damaged; look for the things again") from None
    edges = np.diff(found, axis=1)
    return [
        np.stack([np.flatnonzero(row == 1), np.flatnonzero(row == -1)], axis=1).tolist()
        for row in edges
    ]
