"""Runs as one data set: an expression is one category in all of them, a thing one track."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from carvid.exports.written import safe_stem
from carvid.media.frames import Frame, VideoInfo
from carvid.run.facts import RunFacts
from carvid.run.names import png_name
from carvid.run.track import Track

VIDEO_FRAME = "frame_{:06d}.png"
"""What CVAT, and FFmpeg as people call it, name the frames of a video."""

FramesOf = Callable[[Track], Iterable[Frame]]
"""Gives the frames that a track was made from."""


@dataclass(frozen=True)
class Member:
    """A run in a data set."""

    number: int
    """From 0, in the set's order."""
    name: str
    """What tells it from the others; empty where the set is one run."""
    track: Track
    categories: tuple[int, ...]
    """Of each label its category, from 0."""
    images_before: int
    """Frames of the runs before it."""
    tracks_before: int
    """Labels of the runs before it."""
    frames: Iterable[Frame]
    """Those that it was made from, once."""

    @property
    def title(self) -> str:
        """What its video is called in the set."""
        return self.name or stem_of(self.track.facts.video)

    def image_name(self, index: int) -> str:
        """Return what the image of frame `index` is called where it lies: in a set of several
        runs in a folder of the run's name."""
        own = self._own_name(index) or VIDEO_FRAME.format(index)
        return f"{self.name}/{own}" if self.name else own

    def stem(self, index: int) -> str:
        """Return what frame `index` is to be called, without an ending, in one folder with those
        of other runs."""
        own = self._own_name(index)
        if own:
            frame = png_name(own).removesuffix(".png")
        else:
            frame = f"{index:06d}" if self.name else f"frame_{index:06d}"
        return f"{self.name}_{frame}" if self.name else frame

    def masks(self, index: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Yield the labels, from 1, that are in frame `index`, each with its mask, bool (H, W)."""
        if self.track.folder is not None:  # no mask of the many classes that are not there
            labels = self.track.label_maps[index]
            for label in np.unique(labels[labels > 0]).tolist():
                yield label, np.asarray(labels == label)
            return
        for k, mask in enumerate(self.track.masks[index]):
            if mask.any():
                yield k + 1, mask

    def _own_name(self, index: int) -> str:
        """The name of the file that a frame is, if it is one."""
        names = self.track.facts.video.names
        return names[index] if index < len(names) else ""


class DataSet:
    """Runs that are joined, opened one after the other.

    Args:
        tracks: name → run; one run without others has no name. A mapping may open them when they
            are asked for.
        frames_of: gives a run's frames.
    """

    def __init__(self, tracks: Mapping[str, Track], frames_of: FramesOf) -> None:
        self._tracks, self._frames_of = tracks, frames_of
        self._numbers: dict[str, int] = {}
        self.is_thing: dict[str, int] = {}
        """Of each category that is a class, whether it is a thing: 1 or 0."""
        for track in tracks.values():
            for text in category_names(track.facts):
                self._numbers.setdefault(text, len(self._numbers))
                if track.facts.semantic:
                    self.is_thing.setdefault(text, int(not track.facts.is_stuff(text)))

    def __len__(self) -> int:
        return len(self._tracks)

    @property
    def categories(self) -> list[str]:
        """The expressions of all runs, in the order in which they come first."""
        return list(self._numbers)

    def members(self) -> Iterator[Member]:
        """Yield the runs, in order."""
        images = tracks = 0
        for number, (name, track) in enumerate(self._tracks.items()):
            categories = tuple(self._numbers[text] for text in category_names(track.facts))
            frames = self._frames_of(track)
            yield Member(number, name, track, categories, images, tracks, frames)
            images, tracks = images + len(track), tracks + len(categories)


def category_names(facts: RunFacts) -> list[str]:
    """Return of each label what it is one of: its expression, and "dog" of "dog 1" where each
    thing has a label of its own. A thing that people have named is of the kind they say."""
    names = list(facts.texts)
    for asked in facts.asked:
        for number, label in enumerate(asked.labels, 1):
            if names[label - 1] == f"{asked.text} {number}":
                names[label - 1] = asked.text
    return names


def stem_of(video: VideoInfo) -> str:
    """Return an input's name, without its ending, as that of a file."""
    return safe_stem(PurePath(video.path).stem)
