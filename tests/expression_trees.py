"""Small MeViS, Ref-YouTube-VOS, Long-RVOS and ReVOS trees, drawn here, whose truth is known.

    python -m tests.expression_trees FOLDER

makes them in FOLDER, predicts for all of them with the embedded model, scores those whose truth is
there, packs the others for their servers, and prints the commands with what they say.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from carvid.media.label_png import write_label_png

SIZE = (96, 128)
FRAMES = {"bird": 5, "cat": 4}
"""Videos; both show a red square (object 1), `bird` a blue circle (2) in every other frame."""
NAMES = {video: tuple(f"{5 * t:05d}" for t in range(count)) for video, count in FRAMES.items()}
TEXTS = {
    "bird": {
        "0": ("a red square", (1,)), "1": ("all things", (1, 2)),
        "odd key é": ("a blue circle", (2,)), "3": ("a yellow triangle", ()),
    },
    "cat": {"0": ("the square", (1,))},
}  # fmt: skip
"""Texts of each video by their keys, with the objects that they name."""

Mask = NDArray[np.bool_]


def shapes(video: str, t: int) -> dict[int, tuple[str, tuple[int, int, int, int]]]:
    """Colour and box (left, top, right, bottom) of what a frame shows, by object."""
    top = 20 if video == "bird" else 40
    found = {1: ("red", (8 + 6 * t, top, 38 + 6 * t, top + 30))}
    if video == "bird" and t % 2 == 0:
        found[2] = ("blue", (80, 50 + 2 * t, 110, 80 + 2 * t))
    return found


def picture(video: str, t: int, *, only: int | None = None) -> Image.Image:
    """A frame, or the mask of one object alone, white on black."""
    height, width = SIZE
    image = Image.new("RGB", (width, height), "black" if only else (120, 130, 110))
    draw = ImageDraw.Draw(image)
    for number, (color, box) in shapes(video, t).items():
        if only in (None, number):
            shape = draw.rectangle if number == 1 else draw.ellipse
            shape(box, fill="white" if only else color)
    return image


def true_mask(video: str, t: int, objects: Iterable[int]) -> Mask:
    """The union of objects, bool (H, W)."""
    masks = [np.array(picture(video, t, only=number))[..., 0] > 0 for number in objects]
    return np.logical_or.reduce(masks) if masks else np.zeros(SIZE, bool)


def compressed(mask: Mask) -> dict[str, Any]:
    """COCO's run lengths of a mask, letter by letter."""
    runs, last = [0], False
    for value in mask.T.ravel().tolist():
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    letters = ""
    for index, run in enumerate(runs):
        number, more = run - (runs[index - 2] if index > 2 else 0), True
        while more:
            five = number & 31
            number >>= 5
            more = number != (-1 if five & 16 else 0)
            letters += chr(48 + five + 32 * more)
    return {"size": [*mask.shape], "counts": letters}


def add_images(folder: Path, names: dict[str, str] | None = None) -> None:
    """Images of both videos; `names` are other names of them."""
    for video, frames in NAMES.items():
        place = folder / (names or {}).get(video, video)
        place.mkdir(parents=True)
        for t, frame in enumerate(frames):
            picture(video, t).save(place / f"{frame}.jpg", quality=95)


def write_meta(
    path: Path,
    entry: Callable[[str, str, tuple[int, ...]], dict[str, Any] | None],
    names: dict[str, str] | None = None,
) -> None:
    """Expressions: of each what `entry` gives for video, key and objects, beside its text."""
    videos = {}
    for video, texts in TEXTS.items():
        found = {key: entry(video, key, objects) for key, (_, objects) in texts.items()}
        videos[(names or {}).get(video, video)] = {
            "expressions": {
                key: {"exp": texts[key][0]} | more for key, more in found.items()
                if more is not None
            },
            "frames": list(NAMES[video]),
        }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"videos": videos}))


def annotation(video: str, number: int) -> int:
    return 100 * (video == "cat") + 10 + number


def write_mask_dict(path: Path) -> None:
    tracks = {}
    for video, frames in NAMES.items():
        for number in (1, 2):
            masks = [true_mask(video, t, [number]) for t in range(len(frames))]
            tracks[str(annotation(video, number))] = [
                compressed(mask) if mask.any() else None for mask in masks
            ]
    path.write_text(json.dumps(tracks))


def mevis_tree(root: Path) -> Path:
    """`valid_u` with its truth, and `valid` without."""
    for split in ("valid_u", "valid"):
        add_images(root / split / "JPEGImages")
        write_meta(
            root / split / "meta_expressions.json",
            lambda video, key, objects, split=split: (  # type: ignore[misc]
                {"obj_id": list(objects), "anno_id": [annotation(video, o) for o in objects]}
                if split == "valid_u" else {}
            ),
        )  # fmt: skip
    write_mask_dict(root / "valid_u" / "mask_dict.json")
    return root


def youtube_tree(root: Path) -> Path:
    """`train` with its truth, `valid` without, and `test`, whose video `valid` names as well."""
    for split in ("train", "valid", "test"):
        add_images(root / split / "JPEGImages")
        write_meta(
            root / "meta_expressions" / split / "meta_expressions.json",
            lambda video, key, objects, split=split: (  # type: ignore[misc]
                ({"obj_id": str(objects[0])} if split == "train" else {})
                if len(objects) == 1 else None
            ),
        )  # fmt: skip
    test = root / "meta_expressions" / "test" / "meta_expressions.json"
    test.write_text(json.dumps({"videos": {"cat": json.loads(test.read_text())["videos"]["cat"]}}))
    for video, frames in NAMES.items():
        folder = root / "train" / "Annotations" / video
        folder.mkdir(parents=True)
        for t, frame in enumerate(frames):
            labels = np.zeros(SIZE, np.uint8)
            for number in shapes(video, t):
                labels[true_mask(video, t, [number])] = number
            write_label_png(folder / f"{frame}.png", labels)
    return root


def long_rvos_tree(root: Path) -> Path:
    """`valid`, with a kind of each expression; no PNG where an object is not to be seen."""
    kinds = {"0": "static", "odd key é": "dynamic", "1": "hybrid"}
    add_images(root / "valid" / "JPEGImages")
    write_meta(
        root / "valid" / "meta_expressions.json",
        lambda video, key, objects: (
            {"obj_id": str(objects[0]), "type": kinds[key]} if objects else None
        ),
    )
    for video, frames in NAMES.items():
        for t, frame in enumerate(frames):
            for number in shapes(video, t):
                folder = root / "valid" / "Annotations" / video / str(number)
                folder.mkdir(parents=True, exist_ok=True)
                mask = true_mask(video, t, [number]) * np.uint8(255)
                Image.fromarray(mask).save(folder / f"{frame}.png")
    return root


PATHS = {"bird": "UVO/all/bird", "cat": "LVVIS/cat"}
"""ReVOS calls videos so."""


def revos_tree(root: Path) -> Path:
    """`valid`: the first expression of a video refers, the second needs reasoning."""
    add_images(root / "JPEGImages", PATHS)
    types = {"0": 0, "1": 1, "odd key é": 0, "3": 1}
    write_meta(
        root / "meta_expressions_valid_.json",
        lambda video, key, objects: {
            "obj_id": list(objects), "anno_id": [annotation(video, o) for o in objects],
            "type_id": types[key],
        },
        PATHS,
    )  # fmt: skip
    write_mask_dict(root / "mask_dict.json")
    return root


def predicted_mask(video: str, key: str, t: int) -> Mask:
    """What a method might find: the truth, some pixels off, not always, and now and then more."""
    mask = np.roll(true_mask(video, t, TEXTS[video][key][1]), (t % 3, 1 + len(key) % 4), (0, 1))
    if key == "1" and t == 2:
        mask[:] = False
    if key == "odd key é" and t == 1:
        mask[5:9, 5:9] = True
    return mask


def write_predictions(
    base: Path, keys: dict[str, Sequence[str]], names: dict[str, str] | None = None
) -> None:
    """`<video>/<key>/<frame>.png`, as carvid writes them."""
    for video, wanted in keys.items():
        for key in wanted:
            folder = base / (names or {}).get(video, video) / key
            folder.mkdir(parents=True)
            for t, frame in enumerate(NAMES[video]):
                mask = predicted_mask(video, key, t).astype(np.uint8)
                write_label_png(folder / f"{frame}.png", mask)


TREES = {
    "mevis": (mevis_tree, "valid_u"), "ref-youtube-vos": (youtube_tree, "train"),
    "long-rvos": (long_rvos_tree, "valid"), "revos": (revos_tree, "valid"),
}  # fmt: skip
"""By protocol: how the tree is made, and its split with truth."""
TINY = ["--weights-generator", "tiny", "--weights-classifier", "tiny", "--device", "cpu"]


def main(root: Path) -> None:
    """Predict, score and submit, as a user would."""

    def say(*words: str) -> None:
        print(f"$ carvid {shlex.join(words)}", flush=True)
        subprocess.run([sys.executable, "-m", "carvid", *words], check=True, cwd=root)

    for name, (make, split) in TREES.items():
        make(root / name)
        say("davis", name, "-o", f"runs/{name}", "--split", split, "-q", *TINY)
        say("eval", f"runs/{name}", name, "--protocol", name, "--split", split)
    for name in ("mevis", "ref-youtube-vos"):
        say("davis", name, "-o", f"runs/{name}-valid", "-q", *TINY)
        say("submit", f"runs/{name}-valid", "--for", name, "-o", f"{name}.zip")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
