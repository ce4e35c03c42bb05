"""The clip that carvid comes with, how it is drawn, and how well a run on it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from carvid.base.errors import DatasetError
from carvid.base.files import make_folder, replacing, shipped_folder
from carvid.base.guard import check_apart, files_in
from carvid.base.interrupt import never
from carvid.datasets.expressions import Expression, Video
from carvid.datasets.refdavis import SETS
from carvid.demo.pictures import Sprites, recolor
from carvid.demo.scenes import Course, Scene, SceneSpec, Shot, Thing
from carvid.demo.write import JPEG_QUALITY, KINDS, write_clip, write_lists
from carvid.evaluation.regions import mask_scores
from carvid.media.label_png import read_label_png, write_label_png
from carvid.media.open import open_video
from carvid.pipeline import load
from carvid.run.layout import MASK_NAME, run_paths
from carvid.run.track import Track

NAME = "dog-jumping"
TEXT = "the dog jumping"
"""What the example asks for; label 1 of its truth."""


TREE_TEXTS = (
    TEXT, "a dog", "the dog", "a dog jumping",
    "the ball rolling", "a ball", "the ball", "a ball rolling",
    "the cat standing still", "a cat", "the cat", "a cat standing still",
    "the red car", "a red car", "a car", "a red car running",
)  # fmt: skip
"""Four expressions of each label of the example, as four annotators may put it."""


@dataclass(frozen=True)
class ExampleResult:
    """A run on the example, and its quality."""

    track: Track
    j: float
    """Mean J over the frames, in [0, 1]."""
    f: float
    """Mean F over the frames, in [0, 1]."""

    @property
    def j_and_f(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2


def example_folder() -> Path:
    """Return where the clip and its masks are: package data, or `examples/` of a checkout.

    Raises:
        DatasetError: they are not there.
    """
    folder = Path(str(shipped_folder("examples")))
    if not (folder / f"{NAME}.mp4").is_file():
        raise DatasetError(f"the example clip is not in '{folder}'; install carvid again")
    return folder


def run_example(
    out: str | Path,
    *,
    preset: str | Path = "tiny",
    overrides: Iterable[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    stop: Callable[[], bool] = never,
) -> ExampleResult:
    """Segment the example by its sentence, as `carvid run` does, and compare with the truth; `stop`
    is that of `Carvid.segment`.

    Raises:
        CarvidError: as `carvid.load` and `Carvid.segment`.
    """
    folder = example_folder()
    check_apart(files_in(folder / NAME), run_paths(Path(out)))
    track = load(preset, overrides).segment(
        folder / f"{NAME}.mp4", [TEXT],
        out=out, resume=resume, overwrite=overwrite, progress=progress, stop=stop,
    )  # fmt: skip
    return ExampleResult(track, *score(track, folder / NAME))


def write_example_tree(root: str | Path, frames: int = 12) -> None:
    """Write the example's first frames as a tree in the form of Ref-DAVIS 2017, with four
    expressions of each of its four things.

    Raises:
        DatasetError: the example is not there.
        OutputError: a place cannot be written.
    """
    source = example_folder()
    images, *truths = (Path(root) / kind / "480p" / NAME for kind in KINDS)
    for folder in (images, *truths):
        make_folder(folder)
    names = []
    with open_video(source / f"{NAME}.mp4") as reader:
        for frame in islice(reader, frames):
            names.append(f"{frame.index:05d}")
            with replacing(images / f"{names[-1]}.jpg") as partial:
                Image.fromarray(frame.image).save(partial, quality=JPEG_QUALITY)
            for folder in truths:
                mask = MASK_NAME.format(frame.index)
                write_label_png(folder / mask, read_label_png(source / NAME / mask))
    expressions = tuple(
        Expression(str(number), text, number // SETS + 1) for number, text in enumerate(TREE_TEXTS)
    )
    write_lists(Path(root), [Video(NAME, tuple(names), expressions)])


def score(track: Track, masks: Path) -> tuple[float, float]:
    """Return mean J and F of a run's first expression against label 1 of a folder of DAVIS PNGs.

    Raises:
        DatasetError: a mask is missing or of another form.
    """
    pairs = []
    for index, labels in enumerate(track.label_maps):
        truth = read_label_png(masks / MASK_NAME.format(index))
        pairs.append(mask_scores(labels == 1, truth == 1))
    mean_j, mean_f = np.mean(pairs, axis=0)
    return float(mean_j), float(mean_f)


def example_scene(sprites: Sprites) -> Scene:
    """Stage the example: a dog jumps among a ball, a cat and a car."""
    dog, ball, cat, car = (sprites[noun][0] for noun in ("dog", "ball", "cat", "car"))
    things = (
        Thing("dog", None, TEXT, "jump", dog, flip=True),
        Thing("ball", None, "the ball rolling", "roll", ball, flip=False),
        Thing("cat", None, "the cat standing still", "stand", cat, flip=False),
        Thing("car", "red", "the red car", "run", recolor(car, "red"), flip=False),
    )
    courses = (
        Course(x=0.22, y=0.66, height=0.36, travel=0.35),
        Course(x=0.55, y=0.86, height=0.14, travel=-0.3),
        Course(x=0.87, y=0.74, height=0.28, travel=0.0),
        Course(x=0.66, y=0.52, height=0.22, travel=-0.15),
    )
    spec = SceneSpec(seed=7, frames=48, size_hw=(360, 640))
    return Scene(spec, things, (Shot(0, 5, courses, 0.0, None),))


def write_example(sprites: Sprites, folder: Path) -> None:
    """Draw the example: `<folder>/dog-jumping.mp4`, and its truth beside it.

    Raises:
        OutputError: a place cannot be written.
    """
    write_clip(example_scene(sprites), folder / f"{NAME}.mp4", folder / NAME)
