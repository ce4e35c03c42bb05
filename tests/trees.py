"""Small Ref-DAVIS trees whose numbers are known, and ways to break them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.davis.dataset import Expression, Video, write_meta
from carvid.davis.writer import write_label_png

SIZE = (30, 44)
FRAMES = 5
OBJECTS = {"cat": 2, "ape": 1}
BLANK = np.zeros(SIZE, np.uint8)


def scene(video: str, frame: int, shift: int = 0) -> NDArray[np.uint8]:
    """Squares that move to the right, `shift` pixels too low."""
    labels = np.zeros(SIZE, np.uint8)
    for k in range(OBJECTS[video]):
        top, left = 3 + 14 * k + shift, 4 + 3 * frame + 6 * k
        labels[top : top + 9, left : left + 9] = k + 1
    return labels


def write(folder: Path, draw: Callable[[str, int], NDArray[np.uint8]]) -> None:
    for video in OBJECTS:
        (folder / video).mkdir(parents=True)
        for frame in range(FRAMES):
            write_label_png(folder / video / f"{frame:05d}.png", draw(video, frame))


def scored_tree(root: Path) -> None:
    """A data set with void, and predictions of four sets and of every expression."""

    def with_void(video: str, frame: int) -> NDArray[np.uint8]:
        labels = scene(video, frame)
        labels[:2] = 255
        return labels

    data = root / "data"
    write(data / "Annotations" / "480p", scene)
    write(data / "Annotations_unsupervised" / "480p", with_void)
    (data / "ImageSets" / "2017").mkdir(parents=True)
    (data / "ImageSets" / "2017" / "val.txt").write_text("cat\nape\n")
    frames = tuple(f"{frame:05d}" for frame in range(FRAMES))
    videos = [
        Video(
            name,
            frames,
            tuple(Expression(str(k), f"{name} {k}", k // 4 + 1) for k in range(4 * count)),
        )
        for name, count in OBJECTS.items()
    ]
    write_meta(data / "meta_expressions.json", videos)
    for index in range(4):
        write(root / "run" / f"anno_{index}", lambda v, t, s=index: scene(v, t, s))  # type: ignore[misc]
    for video in videos:
        for e in video.expressions:
            folder = root / "run" / "expressions" / video.name / e.key
            folder.mkdir(parents=True)
            for frame in range(FRAMES):
                mask = scene(video.name, frame, int(e.key) % 4) == e.object_id
                write_label_png(folder / f"{frame:05d}.png", mask.astype(np.uint8))


def drop(*names: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        for name in names:
            path = tree / name
            path.unlink() if path.is_file() else shutil.rmtree(path)

    return change


def put(name: str, labels: NDArray[np.uint8], mode: str = "P") -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        if mode == "P":
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            write_label_png(tree / name, labels)
        else:
            Image.fromarray(labels).convert(mode).save(tree / name)

    return change
