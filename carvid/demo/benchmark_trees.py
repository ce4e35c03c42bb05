"""Drawn image benchmarks: stills in the layouts that `carvid bench` reads, with exact truth.

They are for trying things out, for tests, and for the embedded model, which knows drawn things
alone. The classes are those of the data set whose layout it is, and all of them are asked for,
but only those are drawn for which carvid has a drawing (`drawn_nouns`).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import ConfigError, suggest
from carvid.base.files import make_folder, replacing, write_text
from carvid.datasets.class_lists import ClassList, class_ids, class_list
from carvid.demo.pictures import HUES, NOUNS, Sprites
from carvid.demo.scenes import COLORFUL, colorfulness
from carvid.demo.stills import Still, StillSpec, StillThing, draw_still, shipped_sprites
from carvid.demo.write import JPEG_QUALITY
from carvid.media.label_png import VOID_LABEL, write_label_png

OTHER_WORDS = {"ball": "sports ball", "phone": "cell phone"}
"""What data sets call a thing, where no synonym of `NOUNS` is meant."""


@dataclass(frozen=True)
class Layout:
    """Where the files of a data set of labelled images lie; `{}` is an image's name."""

    classes: str
    """Its list of classes."""
    names: str
    """How images are called, by their number."""
    image: str
    truth: str
    listed: str | None = None
    """The list of its images."""
    grounds: bool = False
    """Grounds have a class, too, where there is one; they are background otherwise."""


_VOC, _CONTEXT, _ADE = "VOCdevkit/VOC2012", "VOCdevkit/VOC2010", "ADEChallengeData2016"
_PASCAL_NAMES = "drawn_{:06d}"
VOC = Layout(
    "voc", _PASCAL_NAMES, f"{_VOC}/JPEGImages/{{}}.jpg", f"{_VOC}/SegmentationClass/{{}}.png",
    f"{_VOC}/ImageSets/Segmentation/val.txt",
)  # fmt: skip
CONTEXT = Layout(
    "context59", _PASCAL_NAMES, f"{_CONTEXT}/JPEGImages/{{}}.jpg",
    f"{_CONTEXT}/SegmentationClassContext/{{}}.png",
    f"{_CONTEXT}/ImageSets/SegmentationContext/val.txt", grounds=True,
)  # fmt: skip
COCO_OBJECT = Layout(
    "coco-object", "{:012d}", "images/val2017/{}.jpg",
    "annotations/val2017/{}_instanceTrainIds.png",
)  # fmt: skip
ADE150 = Layout(
    "ade150", "ADE_val_{:08d}", f"{_ADE}/images/validation/{{}}.jpg",
    f"{_ADE}/annotations/validation/{{}}.png", grounds=True,
)  # fmt: skip
LAYOUTS = {
    "voc20": VOC, "voc21": VOC, "context59": CONTEXT, "context60": CONTEXT,
    "coco-object": COCO_OBJECT, "ade150": ADE150,
}  # fmt: skip
REFCOCO = "refcoco"
BENCHMARKS = (*LAYOUTS, REFCOCO)
"""The data sets of `carvid bench` whose layouts can be drawn."""
REFCOCO_IMAGE = "images/mscoco/images/train2014/COCO_train2014_{:012d}.jpg"


def write_benchmark(
    name: str,
    root: str | Path,
    *,
    images: int = 100,
    seed: int = 0,
    side: int = 500,
    void_px: int = 0,
    sprites: Sprites | None = None,
) -> None:
    """Draw stills, and write them with their truth in the layout of a data set, as its split `val`.

    Two or three things are in each still, in front of one ground or two. In RefCOCO's layout two
    are of one kind and differ in colour.

    Args:
        name: one of `BENCHMARKS`.
        root: the folder that becomes the data set.
        images: how many.
        seed: of the first still; that of still k is `seed + k`.
        side: the longer side of an image, pixels.
        void_px: VOC: so many pixels on both sides of a thing's edge are void (255).
        sprites: drawings, as `load_sprites` gives them; those that carvid comes with, if none.

    Raises:
        ConfigError: no such layout.
        OutputError: a place cannot be written.
    """
    root, drawings = Path(root), shipped_sprites() if sprites is None else sprites
    seeds = range(seed, seed + images)
    if name == REFCOCO:
        nouns = colorful_nouns(drawings)
        specs = [StillSpec(each, nouns, side=side, colors=tuple(HUES)) for each in seeds]
        write_refcoco(zip(seeds, (draw_still(s, drawings) for s in specs), strict=True), root)
        return
    if name not in LAYOUTS:
        raise ConfigError(f"no drawn benchmark '{name}'{suggest(name, BENCHMARKS)}")
    nouns = drawn_nouns(class_list(LAYOUTS[name].classes), drawings)
    specs = [StillSpec(each, nouns, side=side) for each in seeds]
    stills = zip(seeds, (draw_still(spec, drawings) for spec in specs), strict=True)
    write_labelled(LAYOUTS[name], stills, root, void_px=void_px)


def drawn_nouns(classes: ClassList, sprites: Sprites) -> tuple[str, ...]:
    """Return the nouns of some drawings that are a class of a data set."""
    return tuple(noun for noun in NOUNS if noun in sprites and label_of_noun(noun, classes))


def colorful_nouns(sprites: Sprites) -> tuple[str, ...]:
    """Return those of COCO's nouns whose drawings take another colour."""
    nouns = drawn_nouns(class_list("coco-object"), sprites)
    return tuple(n for n in nouns if all(colorfulness(each) > COLORFUL for each in sprites[n]))


def label_of_noun(noun: str, classes: ClassList) -> int:
    """Return the label of a thing's class: one that is called like it, or like a synonym; 0 if
    there is none."""
    return label_of((noun, *NOUNS[noun][1:], OTHER_WORDS.get(noun, "")), classes)


def label_of(words: Sequence[str], classes: ClassList) -> int:
    """Return the label of the class that the first of some words names, 0 if there is none. A
    class may have several names, between commas."""
    for word in words:
        for label, names in enumerate(classes.names, 1):
            if word in names.split(", "):
                return label
    return 0


def truth_of(still: Still, classes: ClassList, *, grounds: bool) -> NDArray[np.uint8]:
    """Return a still's labels in a data set of at most 254 classes, uint8 (H, W)."""
    surfaces = [label_of(words, classes) if grounds else 0 for words in still.surfaces]
    things = [label_of_noun(thing.noun, classes) for thing in still.things]
    truth = np.array(surfaces, np.uint8)[still.ground]
    shown = still.labels > 0
    truth[shown] = np.array([0, *things], np.uint8)[still.labels[shown]]
    return truth


def with_void(truth: NDArray[np.uint8], still: Still, void_px: int) -> NDArray[np.uint8]:
    """Return labels, uint8 (H, W), in which what is nearer than `void_px` to the edge of a thing is
    void."""
    around = np.ones((2 * void_px + 1, 2 * void_px + 1), np.uint8)
    is_edge = cv2.dilate(still.labels, around) != cv2.erode(still.labels, around)
    return np.where(is_edge, np.uint8(VOID_LABEL), truth)


def write_labelled(
    layout: Layout, stills: Iterable[tuple[int, Still]], root: Path, *, void_px: int = 0
) -> None:
    """Write numbered stills as a data set of labelled images.

    Raises:
        OutputError: a place cannot be written.
    """
    classes, names = class_list(layout.classes), []
    for number, still in stills:
        names.append(layout.names.format(number))
        truth = truth_of(still, classes, grounds=layout.grounds)
        if void_px:
            truth = with_void(truth, still, void_px)
        _write_image(root / layout.image.format(names[-1]), still)
        path = root / layout.truth.format(names[-1])
        make_folder(path.parent)
        write_label_png(path, truth)
    if layout.listed is not None:
        path = root / layout.listed
        make_folder(path.parent)
        write_text(path, "".join(f"{name}\n" for name in names))


def write_refcoco(stills: Iterable[tuple[int, Still]], root: Path) -> None:
    """Write numbered stills as RefCOCO: three sentences for each thing, and its exact mask as run
    lengths.

    Raises:
        OutputError: a place cannot be written.
    """
    classes, ids = class_list("coco-object"), class_ids("coco-object")
    pictures: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    for number, still in stills:
        path = root / REFCOCO_IMAGE.format(number)
        _write_image(path, still)
        height, width = still.labels.shape
        pictures.append({"id": number, "file_name": path.name, "height": height, "width": width})
        for label, texts in enumerate(sentences(still), 1):
            mask = still.labels == label
            key = len(objects) + 1
            category = ids[label_of_noun(still.things[label - 1].noun, classes) - 1]
            objects.append({
                "id": key, "image_id": number, "category_id": category, "iscrowd": 0,
                "area": int(mask.sum()), "segmentation": run_lengths(mask),
            })  # fmt: skip
            refs.append({
                "ref_id": key, "ann_id": key, "image_id": number, "category_id": category,
                "split": "val", "file_name": path.name, "sent_ids": [3 * key + k for k in range(3)],
                "sentences": [
                    {"raw": text, "sent": text, "tokens": text.split(), "sent_id": 3 * key + k}
                    for k, text in enumerate(texts)
                ],
            })  # fmt: skip
    categories = [{"id": k, "name": name} for k, name in zip(ids, classes.names, strict=True)]
    folder = root / REFCOCO
    make_folder(folder)
    values = {"images": pictures, "annotations": objects, "categories": categories}
    write_text(folder / "instances.json", json.dumps(values))
    with replacing(folder / "refs(unc).p") as partial:
        partial.write_bytes(pickle.dumps(refs, protocol=2))


def sentences(still: Still) -> Iterator[tuple[str, str, str]]:
    """Yield three expressions for each thing of a still: by its colour, if it has one, by another
    word, and by its place."""
    for thing in still.things:
        other = NOUNS[thing.noun][1:2] or (thing.noun,)
        plain, further = (
            " ".join(part for part in (thing.color, word) if part)
            for word in (thing.noun, other[0])
        )
        yield f"the {plain}", f"{further}", f"the {thing.noun} {_place(thing, still)}"


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask, bool (H, W), as COCO's uncompressed run lengths: down the columns, zeros
    first."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return {"counts": np.diff(changes, prepend=0).tolist(), "size": list(mask.shape)}


def _place(thing: StillThing, still: Still) -> str:
    """Where a thing is among the others, along the longer side of the picture."""
    height, width = still.labels.shape
    axis = 0 if width >= height else 1
    places = sorted(each.center_xy[axis] for each in still.things)
    if thing.center_xy[axis] == places[0]:
        return ("on the left", "at the top")[axis]
    if thing.center_xy[axis] == places[-1]:
        return ("on the right", "at the bottom")[axis]
    return "in the middle"


def _write_image(path: Path, still: Still) -> None:
    make_folder(path.parent)
    with replacing(path) as partial:
        Image.fromarray(still.image).save(partial, quality=JPEG_QUALITY)
