"""Which images an input names, in which order, and when they are shown, as far as names tell.

A folder, or a pattern: `frames/%05d.jpg`, `frames/shot.####.png` (a number of at least so many
digits), `frames/*.jpg` (a glob). Images follow each other in natural order: frame10 after frame9.

Names are times in seconds where all of them are decimal numbers, apart from what all begin and end
with, and could not be counted numbers behind a dot, such as shot1.0999 and shot1.1000:

- one has a dot, and no two are the same number;
- a fraction that is shorter or longer than another does not end in 0, as 1.10 after 1.9 does;
- where all have one whole part, their fractions, read as whole numbers, are more than
  `COUNTED_STEP` apart on average: 0.25, 0.5 are times, shot1.9, shot1.11 are counted;
- fractions that are all of one length, whose order is the same either way, lie evenly:
  no step is more than `EVEN` times the middle one.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from glob import glob
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from natsort import natsort_keygen, ns

from carvid.base.errors import VideoError
from carvid.media.images import IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
    ".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".vob", ".y4m", ".asf", ".dv", ".f4v",
})  # fmt: skip
"""Endings of videos' names, in small letters."""
ASIDE_SUFFIXES = frozenset({".gif", ".ppm", ".pgm", ".pbm", ".pnm"})
"""Images that are a folder's frames only if no others are in it: previews, flow, masks."""
COUNTED_STEP = 3
EVEN = 5
NAMED = 5
"""So many names or numbers are listed in a message, at most."""
NUMBER = re.compile(r"%(?:0(\d+))?d|(#+)")
"""Stands for digits in a pattern, as FFmpeg and as compositing programs write it."""
GLOB = re.compile(r"[*?\[]")
_NATURAL = natsort_keygen(alg=ns.INT | ns.IGNORECASE)
"""Digits in a row are a whole number. With `ns.FLOAT` shot.999 would follow shot.1001."""


@dataclass(frozen=True)
class ImageList:
    """The images that an input names, in order."""

    paths: list[Path]
    times_s: list[float] | None = None
    """When each is shown, seconds from the first, if their names are times."""
    notes: list[str] = field(default_factory=list)
    """What is not as one might expect, a line each."""


def is_pattern(source: str | Path) -> bool:
    """Whether an input is a pattern of names, and no file or folder of that very name."""
    name = str(source)
    return bool(NUMBER.search(name) or GLOB.search(name)) and not os.path.lexists(name)


def images_of(source: str | Path) -> ImageList:
    """Return the images of a folder or a pattern; none if there are none.

    Raises:
        OSError: the folder cannot be read.
    """
    seen = _seen(source)
    images = [path for path in seen if path.suffix.lower() in IMAGE_SUFFIXES]
    usual = [path for path in images if path.suffix.lower() not in ASIDE_SUFFIXES]
    chosen = sorted(usual or images, key=lambda path: natural_key(str(path)))
    aside = VIDEO_SUFFIXES | (ASIDE_SUFFIXES if usual else frozenset())
    left = sorted(path.name for path in seen if path.suffix.lower() in aside)
    notes = [f"left aside, for they are no frames of it: {_listed(left)}"] if left else []
    stems = [path.stem for path in chosen]
    values = decimal_values(stems)
    if values is None:
        return ImageList(chosen, None, notes + _gaps(stems))
    order = sorted(range(len(values)), key=values.__getitem__)
    times_s = [round(values[k] - values[order[0]], 9) for k in order]
    notes.append("its names are taken for times in seconds; --fps sets other times")
    return ImageList([chosen[k] for k in order], times_s, notes)


def no_images(source: str | Path) -> VideoError:
    """Return the error of a folder or a pattern without images."""
    videos = sorted(str(path) for path in _seen(source) if path.suffix.lower() in VIDEO_SUFFIXES)
    if videos:
        return VideoError(
            f"'{source}' holds videos and no images; give the videos themselves: {_listed(videos)}"
        )
    if is_pattern(source):
        return VideoError(
            f"no file '{source}', and no image whose name is like that; give a video, a folder of "
            "images, or a pattern such as 'frames/%05d.jpg', 'frames/*.jpg' or 'shot.####.png'"
        )
    suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
    return VideoError(f"'{source}' holds no images; give a folder of {suffixes}")


def decimal_values(stems: Sequence[str]) -> list[float] | None:
    """Return the numbers that names without their endings are, if those are times in seconds by
    the rule above; else None."""
    numbers = _numbers_in(stems, r"[0-9]+(?:\.[0-9]+)?")
    if numbers is None or not any("." in number for number in numbers):
        return None
    values = [float(number) for number in numbers]
    parts = [number.partition(".") for number in numbers]
    fractions = [fraction for _, _, fraction in parts]
    alike = len({len(fraction) for fraction in fractions}) == 1
    padded = any(len(fraction) > 1 and fraction.endswith("0") for fraction in fractions)
    if len(set(values)) < len(values) or (padded and not alike):
        return None
    if len({whole for whole, _, _ in parts}) == 1:
        counted = [int(fraction or 0) for fraction in fractions]
        if max(counted) - min(counted) <= COUNTED_STEP * (len(counted) - 1):
            return None
    steps = [after - before for before, after in pairwise(sorted(values))]
    return None if alike and max(steps) > EVEN * median(steps) else values


def natural_key(name: str) -> tuple[Any, str]:
    """Sort key under which frame10 follows frame9, in small and capital letters alike; names that
    are the same to it, such as 1.png and 01.png, have one order on every file system."""
    return _NATURAL(name), name


def _seen(source: str | Path) -> list[Path]:
    """The files of a folder or a pattern that are not hidden, in any order; nor those that macOS
    writes beside each file on foreign disks, `._a.jpg`."""
    found = _matches(str(source)) if is_pattern(source) else list(Path(source).iterdir())
    return [path for path in found if not path.name.startswith(".") and path.is_file()]


def _matches(pattern: str) -> list[Path]:
    """The files that have names like a pattern, in any order."""
    folder, name = os.path.split(pattern)
    if not NUMBER.search(name):
        return [Path(found) for found in glob(pattern, recursive=True)]
    ends, form = 0, ""
    for number in NUMBER.finditer(name):
        digits = int(number[1] or len(number[2] or "1"))
        exactly = rf"(?:[0-9]{{{digits}}}|[1-9][0-9]{{{digits},}})"
        form += re.escape(name[ends : number.start()]) + (exactly if digits > 1 else "[0-9]+")
        ends = number.end()
    form += re.escape(name[ends:])
    if not os.path.isdir(folder or "."):
        return []
    return [Path(folder, each) for each in os.listdir(folder or ".") if re.fullmatch(form, each)]


def _numbers_in(stems: Sequence[str], form: str) -> list[str] | None:
    """What differs in names, between what all of them begin and end with, if each is a number of
    a form; None of fewer than two."""
    if len(stems) < 2:
        return None
    begins = re.sub(r"[0-9.]+\Z", "", _common_start(stems))
    backwards = _common_start([stem[::-1] for stem in stems])
    ends = re.sub(r"\A[0-9.]+", "", backwards[::-1])
    middles = [stem[len(begins) : len(stem) - len(ends)] for stem in stems]
    return middles if all(re.fullmatch(form, middle) for middle in middles) else None


def _common_start(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)  # all others begin with what these two do
    pairs = enumerate(zip(low, high, strict=False))
    return low[: next((k for k, (a, b) in pairs if a != b), len(low))]


def _gaps(stems: Sequence[str]) -> list[str]:
    """Say which numbers are missing among names that are counted by one step."""
    numbers = _numbers_in(stems, r"\.?[0-9]+")
    if numbers is None or len(numbers) < 3:
        return []
    counted = sorted(int(number.lstrip(".")) for number in numbers)
    steps = Counter(after - before for before, after in pairwise(counted))
    step, often = steps.most_common(1)[0]
    if step < 1 or 2 * often < len(counted) - 1:
        return []
    missing = [
        number
        for before, after in pairwise(counted)
        for number in range(before + step, after, step)
    ]
    if not missing:
        return []
    return [
        f"{len(missing)} of its numbers are missing ({_listed(map(str, missing))}); the images "
        "follow each other without a gap"
    ]


def _listed(names: Iterable[str]) -> str:
    each = list(names)
    more = f" and {len(each) - NAMED} more" if len(each) > NAMED else ""
    return ", ".join(each[:NAMED]) + more
