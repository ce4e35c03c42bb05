"""Compare carvid's `reference` behaviour on whole images with files of the released evaluation.

Such a file (`.json` with `.npz`) has, for each image of a semantic benchmark, the queries that were
kept and their scores at each step, and the label map; and the mIoU over all of them. An ablation's
has rows of such numbers. Text features are in the file, or follow from its token ids.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from check_golden import TOLERANCES, Line, golden_clip
from golden_metrics import SETS
from numpy.typing import NDArray
from transformers import BatchEncoding

from carvid.base.errors import CarvidError
from carvid.car.label_map import foreground_map, label_map
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.trace import Trace, TraceStep
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config, load_config, load_over
from carvid.datasets.class_lists import background_words
from carvid.datasets.open_semantic import open_semantic
from carvid.datasets.semantic_dataset import LabelledImage, SemanticDataset
from carvid.evaluation.confusion import confusion, one_class_short, semantic_scores, usual_scores

MAP_TOLERANCES = {
    "pixels": 0.005,  # share of an image's pixels
    "miou": 2e-3,
    "eta": 1e-4,  # by so much η is moved where a prompt may hang on a pixel
    "at_eta": 0.1,  # share of the images in which one does, rounded up
}
"""Float tolerances, beside those of `check_golden`."""

PRESETS = {
    "voc": "voc",
    "coco": "coco-object",
    "pascal_context": "pascal-context",
    "pascal_context_459": "pascal-context-459",
    "ade_150": "ade150",
    "ade_847": "ade847",
}
"""Released configuration → carvid's preset; its set and folder are in `golden_metrics.SETS`."""
SPLITS = ("val", "training")
MOST_LABELS = 65_534
NETWORKS = ("generator", "classifier")
BACKGROUNDS = {"T": "terrestrial", "A": "aquatic_atmospheric", "M": "man_made"}

Texts = dict[str, tuple[tuple[int, ...], dict[str, NDArray[np.float32]]]]


@dataclass(frozen=True)
class Set:
    """The data that a file's images are of."""

    dataset: SemanticDataset
    stuff: frozenset[str]

    @property
    def queries(self) -> Queries:
        return Queries(self.dataset.classes.queries, stuff=self.stuff, limit=MOST_LABELS)

    def image(self, name: str) -> LabelledImage:
        """Return the image called `name`."""
        (image,) = (each for each in self.dataset.images if each.name == name)
        return image


@dataclass(frozen=True)
class Found:
    """What carvid makes of one image."""

    steps: tuple[tuple[dict[int, float], tuple[int, ...]], ...]
    """Of each step, of one pass after the other: class → score, and the classes kept."""
    labels: NDArray[np.uint16]
    misassigned: bool = False
    """A class has another one's mask, as the released code does it where a step proposes nothing
    (carvid's `reference` keeps the class's own): `labels` is drawn so here."""


@cache
def load_texts(folder: Path) -> Texts:
    """Return of every text in a folder's files its token ids, and its features where they are."""
    texts: Texts = {}
    for path in sorted(folder.glob("*.npz")):
        arrays = np.load(path, allow_pickle=False)
        if "text_strings" not in arrays:
            continue
        strings, tokens = arrays["text_strings"].tolist(), arrays["text_tokens"].tolist()
        given = {name: arrays[f"text_{name}"] for name in NETWORKS if f"text_{name}" in arrays}
        for row, (text, ids) in enumerate(zip(strings, tokens, strict=True)):
            known = texts.setdefault(text, (tuple(ids), {}))[1]
            known.update({name: features[row] for name, features in given.items()})
    return texts


class GoldenTokenizer:
    """The token ids that a folder's files have of their texts."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def __call__(self, texts: Sequence[str], **_: Any) -> BatchEncoding:
        if unknown := [text for text in texts if text not in self._texts]:
            raise ValueError(f"no file beside has the token ids of '{unknown[0]}'")
        rows = [self._texts[text][0] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *([0] * (longest - len(row)))] for row in rows])
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids > 0).long()})


@cache
def golden_backbone(name: str, folder: Path, *, half_positions: bool = True) -> ClipBackbone:
    """Return the golden network `name`, which knows every text of a folder's files: its features
    or, where there are none, its token ids."""
    texts = load_texts(folder)
    backbone = ClipBackbone(
        golden_clip(name), GoldenTokenizer(texts), half_positions=half_positions, name=name  # type: ignore[arg-type]
    )  # fmt: skip
    given = {text: features[name] for text, (_, features) in texts.items() if name in features}
    if given:
        backbone.remember_texts(list(given), torch.from_numpy(np.stack(list(given.values()))))
    return backbone


def open_set(config: str, data: Path, stuff: Sequence[str]) -> Iterator[Set]:
    """Yield the splits of a released configuration's set in DIR that are there."""
    name, folder = SETS[config]
    for split in SPLITS:
        try:
            dataset = open_semantic(name, data / folder, split=split)
        except CarvidError:
            continue
        yield Set(dataset, frozenset(stuff))


def config_of(
    name: str, settings: Mapping[str, Any], background: Sequence[str], way: str = "reference"
) -> Config:
    """Return carvid's settings for those that a file names, in one way of working."""
    config = load_over(load_config(way), PRESETS[name])
    kinds = tuple(settings["visual_prompt_type"])
    return replace(
        config,
        proposals=replace(
            config.proposals, lambda_=settings["clipes_threshold"], background=tuple(background)
        ),
        prompts=replace(
            config.prompts, eta=settings["mask_threshold"], kinds=kinds, stuff=(),
            stuff_kinds=tuple(settings.get("stuff_visual_prompt_type", kinds)),
        ),
        car=replace(config.car, theta=settings["confidence_threshold"]),
    )  # fmt: skip


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return the settings with those that a row of an ablation changes."""
    names = {"mask_threshold": ("prompts", "eta"), "confidence_threshold": ("car", "theta"),
             "clipes_threshold": ("proposals", "lambda_"),
             "visual_prompt_type": ("prompts", "kinds")}  # fmt: skip
    values: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        section, name = names[key.removeprefix("car.")]
        values.setdefault(section, {})[name] = value
    return Config.from_dict(values, base=config)


def find(unit: RecurrentSegmenter, data: Set, name: str) -> Found:
    """Segment the image called `name`."""
    picture, queries, trace = data.dataset.picture(data.image(name)), data.queries, Trace()
    result = unit.segment(picture, queries, trace=trace)
    steps = tuple(
        (dict(zip(step.queries, step.own.tolist(), strict=True)), step.kept) for step in trace.steps
    )
    stuff = unit.stuff_of(queries)
    masks = misassigned(unit, picture, trace.steps, result.masks, stuff)
    if masks is None:
        return Found(steps, label_map(result, stuff))
    return Found(steps, label_map(replace(result, masks=masks), stuff), misassigned=True)


def misassigned(
    unit: RecurrentSegmenter,
    image: NDArray[np.uint8],
    steps: Sequence[TraceStep],
    masks: NDArray[np.bool_],
    stuff: NDArray[np.bool_],
) -> NDArray[np.bool_] | None:
    """Return the masks, bool (N, H, W), that the released code makes where the last step of a pass
    proposes nothing: all proposals of the step before have one CRF, and the first mask becomes the
    first living class's, whosever it is. None if there is no such pass."""
    passes = [[step for step in steps if stuff[step.queries[0]] == is_stuff]
              for is_stuff in (False, True)]  # fmt: skip
    found = None
    for each in passes:
        if not each or each[-1].proposals.masks.any():
            continue
        before = [step for step in each if step.proposals.masks.any()]
        if before and len(before[-1].queries) > len(each[-1].kept):
            kept = list(each[-1].kept)
            found = masks.copy() if found is None else found
            found[kept] = unit.sharpen(image, before[-1].proposals.masks)[: len(kept)]
    return found


def moved(unit: RecurrentSegmenter, by: float) -> RecurrentSegmenter:
    """Return the unit with another η."""
    prompts = replace(unit.config.prompts, eta=unit.config.prompts.eta + by)
    networks = (unit.generator.backbone, unit.classifier.backbone)
    return RecurrentSegmenter(*networks, replace(unit.config, prompts=prompts))


def differences(
    found: Found,
    steps: Sequence[tuple[dict[int, float] | None, tuple[int, ...]]],
    pixels: Callable[[NDArray[np.uint16]], int],
) -> tuple[bool, str]:
    """Compare an image with the file: its steps (scores, if there are any; classes kept), and by
    how many pixels its label map differs."""
    faults = []
    if len(found.steps) != len(steps):
        faults.append(f"{len(found.steps)} steps, golden {len(steps)}")
    worst = 0.0
    for number, (made, wanted) in enumerate(zip(found.steps, steps, strict=False)):
        if made[1] != wanted[1]:
            faults.append(f"step {number} keeps {made[1]}, golden {wanted[1]}")
        if wanted[0] is None:
            continue
        if made[0].keys() != wanted[0].keys():
            faults.append(f"step {number} asks {sorted(made[0])}, golden {sorted(wanted[0])}")
            continue
        worst = max([worst, *(abs(made[0][k] - value) for k, value in wanted[0].items())])
    if worst > TOLERANCES["score"]:
        faults.append(f"scores differ by {worst:.2e}")
    share = pixels(found.labels) / found.labels.size
    if share > MAP_TOLERANCES["pixels"]:
        faults.append(f"{share:.2%} of the pixels differ")
    note = ", with another class's mask, which is the release's fault" if found.misassigned else ""
    good = f"kept equal, scores {worst:.1e}, pixels {share:.3%}{note}"
    return not faults, "; ".join(faults) or good


class Images:
    """The images of a file, one after the other: what they add up to, and which are out."""

    def __init__(self, unit: RecurrentSegmenter, data: Set, n_class: int) -> None:
        self.unit, self.data = unit, data
        self.matrix = np.zeros((n_class, n_class), np.int64)
        self.at_eta: list[str] = []
        self.count = 0

    def check(
        self,
        name: str,
        steps: Sequence[tuple[dict[int, float] | None, tuple[int, ...]]],
        pixels: Callable[[NDArray[np.uint16]], int],
    ) -> Line:
        """Compare an image; where it is out, but not with η moved a little, a prompt hangs on a
        pixel at η, and so it is counted."""
        found = find(self.unit, self.data, name)
        passed, detail = differences(found, steps, pixels)
        for by in (-MAP_TOLERANCES["eta"], MAP_TOLERANCES["eta"]) if not passed else ():
            other = find(moved(self.unit, by), self.data, name)
            if differences(other, steps, pixels)[0]:
                self.at_eta.append(name)
                passed, detail, found = True, f"at η ({detail})", other
                break
        truth = self.data.dataset.truth(self.data.image(name))
        self.matrix += confusion(truth, found.labels, len(self.matrix))
        self.count += 1
        return Line(name, passed, detail)

    def totals(self, with_background: float, without: float) -> Iterator[Line]:
        """Compare the mIoU over all images, and how many hang on a pixel at η."""
        for background, wanted in ((True, with_background), (False, without)):
            made = semantic_scores(self.matrix, background=background).miou
            name = f"mIoU {'with' if background else 'without'} background"
            yield close_number(name, made, wanted, MAP_TOLERANCES["miou"])
        most = math.ceil(MAP_TOLERANCES["at_eta"] * self.count)
        detail = f"{len(self.at_eta)} of {self.count} images, allowed {most}: {self.at_eta}"
        yield Line("prompts at η", len(self.at_eta) <= most, detail)


def close_number(name: str, made: float, wanted: float, tolerance: float) -> Line:
    """Compare a number; NaN passes nothing."""
    difference = abs(made - wanted)
    detail = f"{made:.6f}, golden {wanted:.6f}, allowed {tolerance:.0e}"
    return Line(name, bool(difference <= tolerance), detail)


def check_semantic(path: Path, data: Path) -> Iterator[Line]:
    """Compare a file of a semantic benchmark, image by image, and its mIoU."""
    golden, arrays = json.loads(path.read_text(encoding="utf-8")), np.load(path.with_suffix(".npz"))
    orders = [golden["queries"], *([golden["stuff_queries"]] if golden["stuff_queries"] else [])]
    names = [image["name"] for image in golden["images"]]
    of = set_with(golden["config"], data, golden["stuff_queries"] or (), names)
    classes = of.dataset.classes.queries
    rows = [[classes.index(text) for text in order] for order in orders]
    config = config_of(golden["config"], golden["settings"], golden["bg_cls"])
    images = Images(unit_of(golden["models"], config, path.parent), of, golden["n_class"])
    for image in golden["images"]:
        steps = []
        for order, each in zip(rows, image["passes"], strict=True):
            asked = range(len(order))
            for step in each["steps"]:
                scores = zip((order[i] for i in asked), step["scores"], strict=True)
                steps.append((dict(scores), tuple(sorted(order[i] for i in step["kept"]))))
                asked = step["kept"]
        wanted = arrays[f"pred_{image['name']}"]
        yield images.check(image["name"], steps, partial(differing_pixels, wanted))
    yield from images.totals(golden["with_background"]["mIoU"], golden["ignore_background"]["mIoU"])
    if "as_released_n_class_847" in golden:
        made = semantic_scores(one_class_short(images.matrix), background=False).miou
        wanted = golden["as_released_n_class_847"]["mIoU"]
        yield close_number("mIoU one class short", made, wanted, MAP_TOLERANCES["miou"])


def check_ablation(path: Path, data: Path) -> Iterator[Line]:
    """Compare the rows of an ablation; images that the released code lost are left out."""
    golden = json.loads(path.read_text(encoding="utf-8"))
    names = list(dict.fromkeys(each["name"] for row in golden["rows"] for each in row["images"]))
    of = set_with(golden["config"], data, (), names)
    preset = load_over(load_config("reference"), PRESETS[golden["config"]])
    n_class = len(of.dataset.classes.names) + 1
    for row in golden["rows"]:
        words = words_of(row)
        config = changed(preset, row["changed"])
        config = replace(config, proposals=replace(config.proposals, background=words))
        images = Images(unit_of(row["models"], config, path.parent), of, n_class)
        for image in row["images"]:
            steps: list[tuple[None, tuple[int, ...]]] = []
            asked = tuple(range(len(of.dataset.classes.queries)))
            for kept in image["kept"]:
                asked = tuple(asked[i] for i in kept)
                steps.append((None, asked))
            wanted = {int(label): count for label, count in image["labels"].items()}
            line = images.check(image["name"], steps, partial(moved_pixels, wanted))
            yield replace(line, name=f"table {row['table']} {row['row']} {line.name}")
        for line in images.totals(row["mIoU"], row["mIoU_ignore_background"]):
            yield replace(line, name=f"table {row['table']} {row['row']} {line.name}")
        for name, error in row["errors"]:
            yield Line(f"table {row['table']} {row['row']} {name}", True,
                       f"not reproduced: the released code ends with {error}")  # fmt: skip


def differing_pixels(wanted: NDArray[Any], labels: NDArray[np.uint16]) -> int:
    """How many pixels of a label map are not as wanted."""
    return int(np.count_nonzero(labels != wanted))


def moved_pixels(wanted: Mapping[int, int], labels: NDArray[np.uint16]) -> int:
    """How many pixels of a label map would have to change for these counts of labels."""
    values, counts = np.unique(labels, return_counts=True)
    made = zip(values.tolist(), counts.tolist(), strict=True)
    return sum(max(0, count - wanted.get(label, 0)) for label, count in made)


def words_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The background words of an ablation's row; so many as it says."""
    lists = [BACKGROUNDS[letter] for letter in row["row"].split("+") if letter in BACKGROUNDS]
    if row["table"] != "6":
        lists = ["released"]
    words = tuple(word for name in lists for word in background_words(name))
    assert len(words) == row["bg_cls"], f"{len(words)} words, golden {row['bg_cls']}"
    return words


def set_with(config: str, data: Path, stuff: Sequence[str], names: Sequence[str]) -> Set:
    """Return the split in DIR that has all these images."""
    for each in open_set(config, data, stuff):
        if {image.name for image in each.dataset.images}.issuperset(names):
            return each
    raise FileNotFoundError(f"no split of '{data / SETS[config][1]}' has all images of the file")


def unit_of(models: Mapping[str, str], config: Config, folder: Path) -> RecurrentSegmenter:
    """Return the unit of the golden networks that a file names."""
    half = config.weights.half_positions
    networks = [golden_backbone(models[name], folder, half_positions=half) for name in NETWORKS]
    return RecurrentSegmenter(networks[0], networks[1], config)


def measure_ways(path: Path, data: Path) -> Iterator[dict[str, Any]]:
    """Yield what carvid's two ways of working reach on the images of a file, percent: as released
    (`reference`), and as the paper means it (`default`), by both protocols."""
    golden = json.loads(path.read_text(encoding="utf-8"))
    names = [image["name"] for image in golden["images"]]
    of = set_with(golden["config"], data, golden["stuff_queries"] or (), names)
    for way in ("reference", "default"):
        config = config_of(golden["config"], golden["settings"], golden["bg_cls"], way)
        unit = unit_of(golden["models"], config, path.parent)
        maps = [np.zeros((golden["n_class"],) * 2, np.int64) for _ in range(2)]
        for image in of.dataset.images:
            if image.name in names:
                result = unit.segment(of.dataset.picture(image), of.queries)
                labels = label_map(result, unit.stuff_of(of.queries))
                truth = of.dataset.truth(image)
                maps[0] += confusion(truth, labels, golden["n_class"])
                maps[1] += confusion(truth, foreground_map(result, labels), golden["n_class"])
        yield {
            "file": path.stem,
            "preset": way,
            "with background": round(100 * semantic_scores(maps[0], background=True).miou, 2),
            "released": round(100 * semantic_scores(maps[0], background=False).miou, 2),
            "usual": round(100 * usual_scores(maps[1]).miou, 2),
        }
