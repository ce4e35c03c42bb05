#!/usr/bin/env python
"""Compare carvid's metrics with those that the released evaluation made of the same label maps.

    tools/golden_metrics.py FILE.json [FILE.json ...] --data DIR

A file has a `.npz` beside it with the label maps. Its JSON has either a part `semantic`, several
data sets with made-up maps (`<set>_<image>`, `<set>_confusion`), or is of one data set, `config`,
whose maps a method predicted (`pred_<image>`, `confusion`). The truth is read from DIR. Every
number is computed anew: the matrix must be equal, the others to 1e-12.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from check_golden import Line
from numpy.typing import NDArray

from carvid.base.errors import DatasetError
from carvid.datasets.open_semantic import open_semantic
from carvid.datasets.semantic_dataset import LabelledImage, SemanticDataset
from carvid.evaluation.confusion import (
    Matrix,
    SemanticScores,
    confusion,
    never_labelled,
    one_class_short,
    semantic_scores,
)

EXACT = 1e-12
"""Largest difference of a number."""
SETS = {
    "voc": ("voc21", "voc"),
    "coco": ("coco-object", "coco"),
    "context": ("context60", "context"),
    "pascal_context": ("context60", "context"),
    "pascal_context_459": ("context459", "context"),
    "ade_150": ("ade150", "ade"),
    "ade_847": ("ade847", "ade"),
}
"""The files' names of data sets: carvid's name, and the folder in DIR."""
WITHOUT_BACKGROUND = ("pascal_context_459", "ade_150", "ade_847")
"""Configurations of the release whose background is no class, in the mIoU of an image, too."""
SPLITS = ("val", "train")
"""Where images are looked for, in this order."""
ONE_SHORT = "as_released_n_class_847"

Arrays = Mapping[str, NDArray[Any]]


def check_semantic_metrics(json_path: Path, data: Path) -> Iterator[Line]:
    """Compute all numbers of a file's part `semantic` from its maps and the truth.

    Args:
        json_path: the file; a `.npz` of its name lies beside it.
        data: holds the data sets, in the folders that `SETS` names.
    """
    values, arrays = _read(json_path)
    for name, wanted in values.get("semantic", {}).items():
        images = {each["name"]: each["mIoU"] for each in wanted["per_image"]}
        maps = {image: arrays[f"{name}_{image}"] for image in images}
        matrix = arrays[f"{name}_confusion"]
        yield from _check_set(name, wanted, images, maps, matrix, data, background=True)


def check_predicted_metrics(json_path: Path, data: Path) -> Iterator[Line]:
    """Compute the numbers of a file of one data set from the maps that it has.

    Args:
        json_path: the file; a `.npz` of its name lies beside it.
        data: holds the data sets, in the folders that `SETS` names.
    """
    values, arrays = _read(json_path)
    images = {each["name"]: each["miou"] for each in values["images"]}
    maps = {image: arrays[f"pred_{image}"] for image in images}
    name = values["config"]
    background = name not in WITHOUT_BACKGROUND
    yield from _check_set(
        name, values, images, maps, arrays["confusion"], data, background=background
    )


def _check_set(
    name: str,
    wanted: Mapping[str, Any],
    images: Mapping[str, float],
    maps: Arrays,
    matrix: Matrix,
    data: Path,
    *,
    background: bool,
) -> Iterator[Line]:
    """Compare one data set: the matrix, then each number from it. `background` is whether the mIoU
    of an image counts it."""
    if name not in SETS:
        yield Line(name, False, f"no data set of this name; known are {', '.join(SETS)}")
        return
    try:
        truths = _truths(*SETS[name], list(images), data)
        counts = {
            image: confusion(dataset.truth(place), maps[image], wanted["n_class"])
            for image, (dataset, place) in truths.items()
        }
    except DatasetError as error:
        yield Line(name, False, str(error))
        return
    made = np.sum(list(counts.values()), axis=0)
    differs = int(np.abs(made - matrix).sum())
    yield Line(f"{name} confusion", not differs, f"{differs} pixels differ")
    yield _scores(f"{name} with background", semantic_scores(made, background=True),
                  wanted["with_background"])  # fmt: skip
    yield _scores(f"{name} without background", semantic_scores(made, background=False),
                  wanted["ignore_background"])  # fmt: skip
    if ONE_SHORT in wanted:
        short = semantic_scores(one_class_short(made), background=False)
        yield _scores(f"{name} one class short", short, wanted[ONE_SHORT])
    each = {k: semantic_scores(m, background=background).miou for k, m in counts.items()}
    yield _numbers(f"{name} mIoU of {len(images)} images", each, images)
    key = "classes_predicted_but_never_labelled"
    if key in wanted:
        only, told = list(never_labelled(made)), wanted[key]
        detail = "equal" if only == told else f"got {only}, golden {told}"
        yield Line(f"{name} never labelled", only == told, detail)


def _truths(
    benchmark: str, folder: str, names: Sequence[str], data: Path
) -> dict[str, tuple[SemanticDataset, LabelledImage]]:
    """Where the truth of each image is.

    Raises:
        DatasetError: there is none of an image.
    """
    found: dict[str, tuple[SemanticDataset, LabelledImage]] = {}
    problems: list[str] = []
    for split in SPLITS:
        if len(found) == len(names):
            break
        try:
            dataset = open_semantic(benchmark, data / folder, split=split)
        except DatasetError as error:
            problems.append(str(error))
            continue
        found |= {each.name: (dataset, each) for each in dataset.images if each.name in names}
    lacking = [name for name in names if name not in found]
    if lacking:
        told = f" ({'; '.join(problems)})" if problems else ""
        raise DatasetError(f"no truth of {', '.join(lacking)} in '{data / folder}'{told}")
    return {name: found[name] for name in names}


def _scores(name: str, made: SemanticScores, wanted: Mapping[str, Any]) -> Line:
    values = made.to_json()
    return _numbers(name, _flat(values), _flat(wanted))


def _flat(values: Mapping[str, Any]) -> dict[str, float | None]:
    classes = {f"IoU of {k}": iou for k, iou in values["class_iou"].items()}
    return {name: value for name, value in values.items() if name != "class_iou"} | classes


def _numbers(
    name: str, made: Mapping[str, float | None], wanted: Mapping[str, float | None]
) -> Line:
    """Compare numbers by name; None and NaN are one, a number there is not."""
    if made.keys() != wanted.keys():
        one_sided = ", ".join(sorted(made.keys() ^ wanted.keys()))
        return Line(name, False, f"on one side only: {one_sided}")
    pairs = {key: (_number(made[key]), _number(wanted[key])) for key in made}
    apart = {
        key: 0.0 if np.isnan(a) and np.isnan(b) else abs(a - b) for key, (a, b) in pairs.items()
    }
    bad = [key for key, difference in apart.items() if not difference <= EXACT]
    if bad:
        detail = f"{bad[0]}: got {made[bad[0]]}, golden {wanted[bad[0]]}"
        return Line(name, False, f"{len(bad)} of {len(apart)} numbers differ, {detail}")
    return Line(name, True, f"{len(apart)} numbers, largest difference {max(apart.values()):.1e}")


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _read(json_path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    values = json.loads(json_path.read_text("utf-8"))
    return values, dict(np.load(json_path.with_suffix(".npz"), allow_pickle=False))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="holds the data sets' folders")
    options = parser.parse_args()
    good = True
    for path in options.files:
        kind = json.loads(path.read_text("utf-8"))
        check = check_semantic_metrics if "semantic" in kind else check_predicted_metrics
        for line in check(path, options.data):
            good &= line.passed
            print(f"{'ok  ' if line.passed else 'OUT '} {path.stem} {line.name}: {line.detail}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
