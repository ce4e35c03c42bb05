"""Ref-DAVIS 2017 on disk, in each of its layouts, and the expressions of its relatives.

    DAVIS         JPEGImages/480p/<video>/*.jpg             images
                  Annotations/480p/<video>/*.png            truth, semi-supervised
                  Annotations_unsupervised/480p/<video>/…   truth of 2019, 255 = void
                  ImageSets/2017/val.txt                    names of the videos
                  davis_text_annotations/Davis17_*.txt      four expressions of each object
    ReferFormer   valid/JPEGImages/<video>/*.jpg
                  valid/Annotations/<video>/*.png           the truth of 2019
                  meta_expressions/valid/meta_expressions.json

Full-Resolution stands in for 480p where that is not there. Ref-YouTube-VOS is laid out as the
second and has no object ids; MeViS keeps `meta_expressions.json` beside `JPEGImages`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carvid.base.errors import DatasetError, suggest
from carvid.base.files import read_json, read_text, replacing, write_text
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
META_NAME = "meta_expressions.json"
RESOLUTIONS = ("480p", "Full-Resolution")
SEMI_SUPERVISED, UNSUPERVISED = "Annotations", "Annotations_unsupervised"
READ_FOLDERS = ("JPEGImages", SEMI_SUPERVISED, UNSUPERVISED, "ImageSets", "meta_expressions",
                TEXT_FOLDER)  # fmt: skip
"""Folders in a data set's root that nothing is written to."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

_TEXT_LINE = re.compile(r'(\S+)[ \t]+(\d+)[ \t]+(?:"(.*)"|([^"].*?))[ \t]*')


@dataclass(frozen=True)
class Expression:
    """A sentence that names something in a video."""

    key: str
    """Its key in `meta_expressions.json`; in Ref-DAVIS 4 · (object − 1) + set."""
    text: str
    object_id: int | None
    """The object's label in the truth, from 1; None where the data set keeps it to itself."""


@dataclass(frozen=True)
class Video:
    """A video with its expressions.

    Raises:
        DatasetError: its name, a frame's or a key cannot be the name of a file or folder.
    """

    name: str
    frames: tuple[str, ...]
    """Names of the frames, in order, without suffix; empty where only texts are known."""
    expressions: tuple[Expression, ...]

    def __post_init__(self) -> None:
        for name in (self.name, *self.frames, *(e.key for e in self.expressions)):
            _check_name(name)

    def sets(self) -> tuple[tuple[Expression, ...], ...]:
        """Return the expressions that are asked for together, in order of their objects.

        Four sets in Ref-DAVIS, where expression k of a set names object k; elsewhere one.
        """
        if _lacking_sets(self):
            return (self.expressions,)
        ordered = sorted(self.expressions, key=lambda e: int(e.key))
        return tuple(tuple(ordered[index::SETS]) for index in range(SETS))


@dataclass(frozen=True)
class Dataset:
    """A data set to predict for: every video has its expressions and all its images."""

    root: Path
    images: Path
    """Folder of `<video>/<frame>.jpg`."""
    videos: tuple[Video, ...]
    has_sets: bool
    """Whether it has the four sets of Ref-DAVIS."""

    def sets(self, video: Video) -> tuple[tuple[Expression, ...], ...]:
        """Return the expressions of a video that are asked for together: four sets, or one."""
        return video.sets() if self.has_sets else (video.expressions,)

    def image_paths(self, video: Video) -> tuple[Path, ...]:
        """Return the images of a video's frames, in order."""
        files = _images(self.images / video.name)
        return tuple(files[frame] for frame in video.frames)

    def files(self) -> list[Path]:
        """Return the files that it is read from."""
        images = [path for video in self.videos for path in self.image_paths(video)]
        return [*described_in(self.root), *images]

    def holds(self, place: Path) -> bool:
        """Whether a place is among what it is read from: its images, truth or expressions."""
        inside = Path(os.path.realpath(place))
        root = Path(os.path.realpath(self.root))
        first = self.images.relative_to(self.root).parts[0]  # JPEGImages, or the split's folder
        return any(
            inside.is_relative_to(os.path.realpath(root / name))
            for name in (first, *READ_FOLDERS)
        )  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """Masks to evaluate against: every video has at least one."""

    folder: Path
    """Folder of `<video>/<frame>.png`."""
    videos: tuple[str, ...]
    """Names of the videos to evaluate, sorted."""

    def paths(self, video: str) -> tuple[Path, ...]:
        """Return the masks of a video, in order of the frames."""
        return tuple(sorted((self.folder / video).glob("[!.]*.png")))


def open_dataset(
    root: Path,
    *,
    split: str = "valid",
    resolution: str | None = None,
    videos: Iterable[str] | None = None,
) -> Dataset:
    """Open a data set for prediction, after a look at everything that it must hold.

    Args:
        root: folder of any layout of the module's docstring.
        split: as ReferFormer's folders are called (`valid`, `train`, MeViS also `valid_u`).
        resolution: `480p` or `Full-Resolution`, for DAVIS trees; 480p if it is there.
        videos: only these; otherwise those in `ImageSets/2017/val.txt`, or all.

    Raises:
        DatasetError: something is missing or malformed; the message lists all of it.
    """
    root = _existing(root)
    images = _image_folder(root, split, resolution)
    known = open_expressions(root, split=split)
    wanted = set(videos or _listed(root, split) or (v.name for v in known))
    is_ref_davis = all(_set_of(e) is not None for v in known for e in v.expressions)
    names = [video.name for video in known]
    problems = [
        f"no expressions for {name}{suggest(name, names) if videos else ''}"
        for name in sorted(wanted.difference(names))
    ]
    found = []
    for video in known:
        if video.name not in wanted:
            continue
        files = _images(images / video.name)
        frames = video.frames or tuple(sorted(files))
        lacking = [frame for frame in frames if frame not in files]
        if lacking or not frames:
            problems.append(describe_missing(images / video.name, lacking, len(frames), ".jpg"))
        if is_ref_davis or not video.expressions:
            problems.extend(_lacking_sets(video))
        found.append(Video(video.name, frames, video.expressions))
    if problems or not found:
        raise DatasetError(
            f"'{root}' is not whole: {'; '.join(problems) or 'no video'}; unpack the data set again"
        )
    return Dataset(root, images, tuple(found), is_ref_davis)


def described_in(root: Path) -> list[Path]:
    """Return the files of a data set that hold its expressions and lists of videos."""
    patterns = (
        f"meta_expressions/*/{META_NAME}", f"*/{META_NAME}", META_NAME, f"{TEXT_FOLDER}/*.txt",
        f"../{TEXT_FOLDER}/*.txt", "ImageSets/*/*.txt",
    )  # fmt: skip
    return [path for pattern in patterns for path in root.glob(pattern)]


def open_expressions(root: Path, *, split: str = "valid") -> tuple[Video, ...]:
    """Read the expressions of a data set, from whichever of the two formats it has.

    Raises:
        DatasetError: there are none, or they are malformed.
    """
    root = _existing(root)
    metas = [root / "meta_expressions" / split / META_NAME, root / split / META_NAME]
    metas.append(root / META_NAME)
    for path in metas:
        if path.is_file():
            return read_meta(path)
    for folder in (root / TEXT_FOLDER, root.parent / TEXT_FOLDER):
        if folder.is_dir():
            return read_texts(folder)
    raise DatasetError(
        f"no expressions in '{root}'; put '{metas[0].relative_to(root)}' or the folder "
        f"'{TEXT_FOLDER}' there"
    )


def open_truth(
    root: Path,
    kinds: Sequence[str],
    *,
    split: str = "valid",
    resolution: str | None = None,
    videos: Iterable[str] | None = None,
) -> Truth:
    """Find the masks to evaluate against.

    Args:
        root: folder of a DAVIS tree or of ReferFormer's layout.
        kinds: `Annotations_unsupervised` or `Annotations`, the first that is there is taken, and
            no other. ReferFormer's `valid/Annotations` is of the first kind.
        split: as in `open_dataset`.
        resolution: as in `open_dataset`.
        videos: only these; otherwise those in `ImageSets/2017/val.txt`, or all.

    Raises:
        DatasetError: a folder or a video has no truth; the message lists all that have none.
    """
    root = _existing(root)
    folders = [root / kind / each for kind in kinds for each in _resolutions(resolution)]
    if UNSUPERVISED in kinds and resolution is None:
        folders.insert(0, root / split / "Annotations")
    remedy = "unpack the masks there or choose another protocol"
    for other in {SEMI_SUPERVISED, UNSUPERVISED}.difference(kinds):
        if (root / other).is_dir():
            remedy = f"{other} is there, and is another truth; {remedy}"
    folder = _first_folder(root, folders, "truth", remedy)
    names = sorted(videos or _listed(root, split) or _folders(folder))
    truth = Truth(folder, tuple(names))
    lacking = [name for name in names if not truth.paths(name)]
    if lacking or not names:
        raise DatasetError(
            f"no truth for {', '.join(lacking) or 'any video'} in '{folder}' (<video>/*.png); "
            "unpack it there, or take the video out of the list"
        )
    return truth


def read_meta(path: Path) -> tuple[Video, ...]:
    """Read `meta_expressions.json`: Ref-DAVIS, Ref-YouTube-VOS or MeViS.

    Raises:
        DatasetError: unreadable, or of another form.
    """
    try:
        values = read_json(path, encoding="utf-8-sig")
        return tuple(_video(name, entry) for name, entry in values["videos"].items())
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}; check the path") from None
    except KeyError as error:
        raise DatasetError(f"'{path}' lacks the key {error}; {_META_FORM}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}; {_META_FORM}") from None


_META_FORM = (
    'write {"videos": {name: {"expressions": {"0": {"exp": …, "obj_id": …}}, "frames": […]}}}'
)


def write_meta(path: Path, videos: Iterable[Video]) -> None:
    """Write `meta_expressions.json`; the file is whole or absent."""
    values = {
        video.name: {
            "expressions": {
                e.key: {"exp": e.text}
                | ({} if e.object_id is None else {"obj_id": str(e.object_id)})
                for e in video.expressions
            },
            "frames": list(video.frames),
        }
        for video in videos
    }
    write_text(path, json.dumps({"videos": values}, indent=1, ensure_ascii=False))


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
    for index, (name, encoding) in enumerate(TEXT_FILES):
        try:
            text = read_text(folder / name, encoding=encoding).removeprefix("\ufeff")
        except OSError as error:
            problems.append(f"cannot read '{name}' ({error.strerror})")
            continue
        except UnicodeDecodeError:
            problems.append(f"'{name}' is not {encoding.upper()}")
            continue
        except ValueError as error:
            problems.append(f"'{name}' cannot be read ({error})")
            continue
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
            expression = Expression(str(key), match[3] or match[4] or "", object_id)
            video = found.setdefault(MISSPELT.get(match[1], match[1]), {})
            if key in video:
                problems.append(f"'{name}' line {number} repeats object {object_id} of {match[1]}")
            video[key] = expression
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
            index = _set_of(e)
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


def describe_missing(folder: Path, lacking: Sequence[str], total: int, suffix: str) -> str:
    """Return `'folder' lacks 00003.png, 00011.png`; all of its frames are not told one by one."""
    if len(lacking) == total:
        return f"'{folder}' lacks all frames ({total})" if total else f"'{folder}' has no frames"
    return f"'{folder}' lacks {', '.join(name + suffix for name in lacking)}"


def _existing(root: Path) -> Path:
    if not root.is_dir():
        raise DatasetError(f"no folder '{root}'; give the data set's root")
    return root


def _resolutions(resolution: str | None) -> tuple[str, ...]:
    return RESOLUTIONS if resolution is None else (resolution,)


def _image_folder(root: Path, split: str, resolution: str | None) -> Path:
    folders = [root / "JPEGImages" / each for each in _resolutions(resolution)]
    if resolution is None:
        folders.insert(0, root / split / "JPEGImages")
    return _first_folder(root, folders, "images", "give the data set's root")


def _first_folder(root: Path, folders: Sequence[Path], what: str, remedy: str) -> Path:
    """Return the first that is there; the error names all that were looked for."""
    for folder in folders:
        if folder.is_dir():
            return folder
    looked_for = ", ".join(str(folder.relative_to(root)) for folder in folders)
    raise DatasetError(f"no {what} in '{root}': looked for {looked_for}; {remedy}")


def _listed(root: Path, split: str) -> list[str]:
    """Names in the DAVIS list of a split, none if there is no list."""
    name = "val" if split == "valid" else split
    for year in ("2017", "2019"):
        path = root / "ImageSets" / year / f"{name}.txt"
        if path.is_file():
            try:
                return read_text(path).split()
            except ValueError as error:
                raise DatasetError(
                    f"cannot read '{path}': {error}; write one name a line"
                ) from None
    return []


def _folders(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]


def _check_name(name: str) -> None:
    """Refuse what would lead out of the folder that it is put into."""
    if name in ("", ".", "..") or not set("/\\\0").isdisjoint(name):
        raise DatasetError(
            f"{name!r} is the name of a video, a frame or an expression, and none of a file; "
            "rename it"
        )


def _images(folder: Path) -> dict[str, Path]:
    """Names of frames → images; none if there is no such folder."""
    if not folder.is_dir():
        return {}
    return {
        p.stem: p
        for p in sorted(folder.iterdir(), reverse=True)  # .jpg wins over .png
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    }


def _video(name: str, entry: dict[str, Any]) -> Video:
    return Video(
        name,
        tuple(str(frame) for frame in entry["frames"]),
        tuple(
            Expression(key, str(each["exp"]), _object_id(each.get("obj_id")))
            for key, each in entry["expressions"].items()
        ),
    )


def _object_id(value: Any) -> int | None:
    # MeViS gives lists: an expression there names several objects, which no label stands for.
    return None if value is None or isinstance(value, list) else int(value)


def _set_of(expression: Expression) -> int | None:
    """The Ref-DAVIS set of an expression, None if its key does not follow the rule."""
    if expression.object_id is None or not expression.key.isdecimal():
        return None
    object_index, set_index = divmod(int(expression.key), SETS)
    return set_index if object_index == expression.object_id - 1 else None


def _lacking_sets(video: Video) -> list[str]:
    """What is missing for every object to have the four expressions of Ref-DAVIS."""
    if not video.expressions:
        return [f"{video.name} has no expressions"]
    if any(_set_of(e) is None for e in video.expressions):
        return [f"{video.name} has keys other than 4 · (object − 1) + set"]
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
