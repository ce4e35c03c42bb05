"""Ref-DAVIS 2017 on disk, in both of its layouts.

    DAVIS         JPEGImages/480p/<video>/*.jpg             images
                  ImageSets/2017/val.txt                    names of the videos
                  davis_text_annotations/Davis17_*.txt      four expressions of each object
    ReferFormer   valid/JPEGImages/<video>/*.jpg
                  meta_expressions/valid/meta_expressions.json

Full-Resolution stands in for 480p where that is not there; a DAVIS tree may hold the JSON as well.
Every object has four expressions, one in each set: Khoreva, Rohrbach and Schiele, *Video Object
Segmentation with Language Referring Expressions*, ACCV 2018. The truth is in `truth.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from carvid.base.errors import DatasetError
from carvid.base.files import read_text, replacing
from carvid.datasets.expressions import Expression, Video, find_meta, read_meta
from carvid.datasets.video_dataset import VideoDataset
from carvid.media.label_png import MAX_LABEL

TEXT_FILES = (
    ("Davis17_annot1.txt", "utf-8"),
    ("Davis17_annot1_full_video.txt", "utf-8"),
    ("Davis17_annot2.txt", "latin-1"),
    ("Davis17_annot2_full_video.txt", "latin-1"),
)
"""The original files, in order of the sets, each with its encoding."""
SETS = len(TEXT_FILES)
"""Two annotators, who saw the first frame or the whole video."""
MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
"""Names in the original files → names of the videos."""
TEXT_FOLDER = "davis_text_annotations"
SET_NAMES = tuple(f"anno_{index}" for index in range(SETS))
"""Names of the sets, in order; folders of predictions bear them."""

_TEXT_LINE = re.compile(r'(\S+)[ \t]+(\d+)[ \t]+(?:"(.*)"|([^"].*?))[ \t]*')


class RefDavis(VideoDataset):
    """A split of Ref-DAVIS 2017; expression k of a set, from 1, names object k."""

    name = "Ref-DAVIS 2017"
    set_names = SET_NAMES
    folders = (*VideoDataset.folders, TEXT_FOLDER)
    expression_files = (
        *VideoDataset.expression_files, f"{TEXT_FOLDER}/*.txt", f"../{TEXT_FOLDER}/*.txt",
    )  # fmt: skip

    @classmethod
    def read_expressions(cls, root: Path, split: str) -> tuple[Video, ...] | None:
        """Read the JSON, or the text files where there is none; None if keys follow another
        rule than 4 · (object − 1) + set, as those of other data sets do."""
        meta = find_meta(root, split)
        if meta is not None:
            videos = read_meta(meta)
        else:
            folders = (root / TEXT_FOLDER, root.parent / TEXT_FOLDER)
            folder = next((folder for folder in folders if folder.is_dir()), None)
            if folder is None:
                return None
            videos = read_texts(folder)
        ours = all(set_index(e) is not None for video in videos for e in video.expressions)
        return videos if ours else None

    @classmethod
    def faults(cls, video: Video) -> list[str]:
        """Return what is missing for every object to have its four expressions."""
        return super().faults(video) or _missing_expressions(video)

    def sets(self, video: Video) -> tuple[tuple[Expression, ...], ...]:
        """Return the four sets of a video's expressions, each in order of the objects."""
        return expression_sets(video)


def expression_sets(video: Video) -> tuple[tuple[Expression, ...], ...]:
    """Return the four sets of a video's expressions, each in order of the objects."""
    ordered = sorted(video.expressions, key=lambda e: int(e.key))
    return tuple(tuple(ordered[index::SETS]) for index in range(SETS))


def set_index(expression: Expression) -> int | None:
    """Return the set of an expression, 0 to 3: its key less 4 · (object − 1); None if its key
    does not follow this rule."""
    if expression.object_id is None or not expression.key.isdecimal():
        return None
    object_index, index = divmod(int(expression.key), SETS)
    return index if object_index == expression.object_id - 1 else None


def read_texts(
    folder: Path, frames: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[Video, ...]:
    """Read the four original text files; misspelt names of videos are put right.

    Args:
        folder: that of the four files.
        frames: names of the frames of each video, which the files do not hold.

    Raises:
        DatasetError: a file is missing or a line is malformed; the message lists all of it.
    """
    problems: list[str] = []
    found: dict[str, dict[int, Expression]] = {}
    for index in range(SETS):
        _read_set(folder, index, found, problems)
    if problems:
        raise DatasetError(
            f"the expressions in '{folder}' are not whole: {'; '.join(problems)}; unpack "
            f"{TEXT_FOLDER} again"
        )
    return tuple(
        Video(name, (frames or {}).get(name, ()), tuple(each[key] for key in sorted(each)))
        for name, each in found.items()
    )


def write_texts(folder: Path, videos: Iterable[Video]) -> None:
    """Write the four original text files into a folder that is there.

    Raises:
        DatasetError: an expression names no object, or cannot be written in its file's encoding.
        OutputError: the place cannot be written.
    """
    files: list[list[str]] = [[] for _ in TEXT_FILES]
    for video in videos:
        for e in video.expressions:
            index = set_index(e)
            if index is None or "\n" in e.text or "\r" in e.text:
                raise DatasetError(
                    f"expression {e.key} of {video.name} has no place in the text files; it must "
                    "be one line, and its key 4 · (object − 1) + set; keep the JSON"
                )
            files[index].append(f'{video.name} {e.object_id} "{e.text}"\n')
    contents = []
    for (name, encoding), lines in zip(TEXT_FILES, files, strict=True):
        try:
            contents.append("".join(lines).encode(encoding))
        except UnicodeEncodeError as error:
            raise DatasetError(
                f"{error.object[error.start]!r} cannot be written in '{name}', which is "
                f"{encoding.upper()}; keep the JSON"
            ) from None
    for (name, _), content in zip(TEXT_FILES, contents, strict=True):
        with replacing(folder / name) as partial:
            partial.write_bytes(content)


def _read_set(
    folder: Path, index: int, found: dict[str, dict[int, Expression]], problems: list[str]
) -> None:
    """Add the expressions of a set to `found`, by video and key, and its faults to `problems`."""
    name, encoding = TEXT_FILES[index]
    try:
        text = read_text(folder / name, encoding=encoding).removeprefix("\ufeff")
    except OSError as error:
        problems.append(f"cannot read '{name}' ({error.strerror})")
        return
    except UnicodeDecodeError:
        problems.append(f"'{name}' is not {encoding.upper()}")
        return
    except ValueError as error:
        problems.append(f"'{name}' cannot be read ({error})")
        return
    # Not splitlines: in Latin-1 it breaks lines within a sentence.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _TEXT_LINE.fullmatch(line.rstrip("\r"))
        object_id = int(match[2]) if match and len(match[2]) <= len(str(MAX_LABEL)) else 0
        if match is None or not 0 < object_id <= MAX_LABEL:
            problems.append(f"'{name}' line {number} is not <video> <object> \"<text>\"")
            continue
        key = SETS * (object_id - 1) + index
        video = found.setdefault(MISSPELT.get(match[1], match[1]), {})
        if key in video:
            problems.append(f"'{name}' line {number} repeats object {object_id} of {match[1]}")
        video[key] = Expression(str(key), match[3] or match[4] or "", object_id)


def _missing_expressions(video: Video) -> list[str]:
    count = max(e.object_id or 0 for e in video.expressions)
    if count > MAX_LABEL:
        return [f"{video.name} has object {count}, and a label map no more than {MAX_LABEL}"]
    keys = {int(e.key) for e in video.expressions}
    return [
        f"{video.name} object {key // SETS + 1} lacks the expression of "
        f"{TEXT_FILES[key % SETS][0]} (key {key})"
        for key in range(SETS * count)
        if key not in keys
    ]
