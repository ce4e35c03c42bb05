"""Scenes on disk: a clip with its truth, or a data set in the form of Ref-DAVIS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from PIL import Image

from carvid.base.files import make_folder, replacing, write_text
from carvid.datasets.expressions import Expression, Video, write_meta
from carvid.datasets.refdavis import SETS
from carvid.demo.pictures import MOTIONS, NOUNS
from carvid.demo.scenes import Scene, Thing
from carvid.media.encode import VideoWriter
from carvid.media.label_png import write_label_png
from carvid.run.layout import MASK_NAME

KINDS = ("JPEGImages", "Annotations", "Annotations_unsupervised")
TREE = (*KINDS, "ImageSets", "meta_expressions")
"""What `write_ref_davis` makes in a folder."""
FRAME_RATE = Fraction(24)
JPEG_QUALITY = 95


def write_clip(scene: Scene, path: Path, masks: Path) -> None:
    """Write a scene as an mp4, and its label maps as DAVIS PNGs.

    Raises:
        OutputError: a place cannot be written.
    """
    make_folder(masks)
    with VideoWriter(path, scene.spec.size_hw, FRAME_RATE) as writer:
        for index, (image, labels) in enumerate(scene.frames()):
            writer.write(image)
            write_label_png(masks / MASK_NAME.format(index), labels)


def write_ref_davis(scenes: Iterable[tuple[str, Scene]], root: Path) -> None:
    """Write named scenes as a tree in the form of Ref-DAVIS 2017.

    Every thing has four expressions, one for each set. Absent expressions, for which Ref-DAVIS has
    no form, are left out.

    Raises:
        OutputError: a place cannot be written.
    """
    videos = []
    for name, scene in scenes:
        images, *truths = (root / kind / "480p" / name for kind in KINDS)
        for folder in (images, *truths):
            make_folder(folder)
        for index, (image, labels) in enumerate(scene.frames()):
            with replacing(images / f"{index:05d}.jpg") as partial:
                Image.fromarray(image).save(partial, quality=JPEG_QUALITY)
            for folder in truths:
                write_label_png(folder / MASK_NAME.format(index), labels)
        expressions = tuple(
            Expression(str(SETS * k + set_index), text, k + 1)
            for k, thing in enumerate(scene.things)
            for set_index, text in enumerate(four_texts(thing))
        )
        frames = tuple(f"{index:05d}" for index in range(scene.spec.frames))
        videos.append(Video(name, frames, expressions))
    write_lists(root, videos)


def write_lists(root: Path, videos: Sequence[Video]) -> None:
    """Write which videos a tree in the form of Ref-DAVIS has, and their expressions.

    Raises:
        OutputError: a place cannot be written.
    """
    make_folder(root / "ImageSets" / "2017")
    write_text(root / "ImageSets" / "2017" / "val.txt", "".join(f"{v.name}\n" for v in videos))
    make_folder(root / "meta_expressions" / "valid")
    write_meta(root / "meta_expressions" / "valid" / "meta_expressions.json", videos)


def four_texts(thing: Thing) -> tuple[str, str, str, str]:
    """Return four expressions of one thing, as four annotators may put it."""
    synonym = NOUNS[thing.noun][1:2] or (thing.noun,)
    doing = MOTIONS[thing.motion][0]
    plain, other = (
        " ".join(part for part in (thing.color, word) if part) for word in (thing.noun, synonym[0])
    )
    return thing.text, f"a {plain}", f"the {other}", f"a {plain} {doing}"
