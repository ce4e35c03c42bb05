"""Small Ref-DAVIS trees whose numbers are known, and ways to break them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.datasets.expressions import Expression, Video, write_meta
from carvid.media.label_png import write_label_png
from tests.conftest import make_frames

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


def unseen_tree(root: Path, frames: dict[str, int]) -> Path:
    """A data set to predict for: textured frames with squares, two objects in the first video."""
    videos = []
    for count, (name, length) in zip((2, 1), frames.items(), strict=True):
        for kind in ("JPEGImages", "Annotations"):
            (root / "valid" / kind / name).mkdir(parents=True)
        for t, image in enumerate(make_frames(length)):
            Image.fromarray(image).save(root / "valid/JPEGImages" / name / f"{t:05d}.jpg")
            labels = np.zeros(image.shape[:2], np.uint8)
            labels[8:20, 4 + t : 16 + t] = 1
            if count == 2:
                labels[22:32, 20:30] = 2
            write_label_png(root / "valid/Annotations" / name / f"{t:05d}.png", labels)
        texts = ("a red ball", "the dog", "a white cat", "a woman", "grass", "a tree", "sky", "dog")
        videos.append(
            Video(
                name,
                tuple(f"{t:05d}" for t in range(length)),
                tuple(
                    Expression(str(key), text, key // 4 + 1)
                    for key, text in enumerate(texts[: 4 * count])
                ),
            )
        )
    (root / "meta_expressions" / "valid").mkdir(parents=True)
    write_meta(root / "meta_expressions" / "valid" / "meta_expressions.json", videos)
    return root


def drop(*names: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        for name in names:
            path = tree / name
            path.unlink() if path.is_file() else shutil.rmtree(path)

    return change


def paint(name: str, color: tuple[int, int, int]) -> Callable[[Path], None]:
    """Put an RGB PNG of one colour in the place of a mask."""

    def change(tree: Path) -> None:
        Image.new("RGB", BLANK.shape[::-1], color).save(tree / name)

    return change


def put(name: str, labels: NDArray[np.uint8], mode: str = "P") -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        if mode == "P":
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            write_label_png(tree / name, labels)
        else:
            Image.fromarray(labels).convert(mode).save(tree / name)

    return change
