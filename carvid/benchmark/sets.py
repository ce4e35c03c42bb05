"""The image benchmarks of the CaR paper: how each is read, its settings, the published numbers.

Numbers are of the paper's Table 1 (semantic segmentation, mIoU; with HQ-SAM on the masks, where the
paper has that) and Table 7 (referring segmentation, mIoU).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from carvid.base.errors import ConfigError, suggest
from carvid.datasets.open_referring import open_referring
from carvid.datasets.open_semantic import open_semantic
from carvid.datasets.referring_dataset import ReferringDataset
from carvid.datasets.semantic_dataset import SemanticDataset

B16, L14 = "openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14"
"""The paper's two CLIPs."""


@dataclass(frozen=True)
class BenchSet:
    """A benchmark."""

    name: str
    """As `carvid bench` calls it."""
    title: str
    """As the paper does."""
    preset: str
    """Holds its η, θ, λ, prompts, templates and mode."""
    table: str
    """The paper's."""
    paper: Mapping[tuple[str, str], float]
    """Split and kind of refs, "" for the usual one → the paper's mIoU, percent."""
    paper_sam: float | None = None
    """The same with HQ-SAM."""
    background: bool = True
    """Whether the background is a class; of semantic sets."""
    referring: bool = False
    target: bool = True
    """Whether what is asked for is always there."""
    splits: tuple[str, ...] = field(default=("val",))
    """Those that there are; the first is the usual one."""

    @property
    def noun(self) -> str:
        """What is counted."""
        if not self.referring:
            return "image"
        return "ref" if self.target else "sentence"


_REFCOCO_SPLITS = ("val", "testA", "testB", "test", "train")
SETS: dict[str, BenchSet] = {
    each.name: each
    for each in (
        BenchSet(
            "voc20", "Pascal VOC, 20 classes", "voc", "1", {("val", ""): 91.4}, background=False
        ),
        BenchSet("voc21", "Pascal VOC, 21 classes", "voc", "1", {("val", ""): 67.6}, 70.2),
        BenchSet(
            "context59", "Pascal Context, 59 classes", "pascal-context", "1", {("val", ""): 39.5},
            background=False,
        ),
        BenchSet(
            "context60", "Pascal Context, 60 classes", "pascal-context", "1", {("val", ""): 30.5},
            31.1,
        ),
        BenchSet(
            "context459", "Pascal Context, 459 classes", "pascal-context-459", "1",
            {("val", ""): 13.9}, background=False,
        ),
        BenchSet("coco-object", "COCO Object", "coco-object", "1", {("val", ""): 36.6}, 37.6),
        BenchSet("ade150", "ADE20K, 150 classes", "ade150", "1", {("val", ""): 17.7},
                 background=False),
        BenchSet("ade847", "ADE20K, 847 classes", "ade847", "1", {("val", ""): 8.1},
                 background=False),
        BenchSet(
            "refcoco", "RefCOCO", "refcoco", "7",
            {("val", ""): 33.57, ("testA", ""): 35.36, ("testB", ""): 30.51},
            referring=True, splits=_REFCOCO_SPLITS,
        ),
        BenchSet(
            "refcoco+", "RefCOCO+", "refcoco+", "7",
            {("val", ""): 34.22, ("testA", ""): 36.03, ("testB", ""): 31.02},
            referring=True, splits=_REFCOCO_SPLITS,
        ),
        BenchSet(
            "refcocog", "RefCOCOg", "refcocog", "7",
            {("val", ""): 36.67, ("test", ""): 36.57, ("val", "google"): 36.63},
            referring=True, splits=("val", "test", "train"),
        ),
        BenchSet(
            "grefcoco", "gRefCOCO", "grefcoco", "7", {("val", ""): 16.8},
            referring=True, target=False, splits=("val", "testA", "testB", "train"),
        ),
    )
}  # fmt: skip
"""The benchmarks by name."""
USUAL_REFS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd", "grefcoco": "unc"}
"""Whose refs are taken if nothing else is said, which the paper's numbers are of."""


def bench_set(name: str) -> BenchSet:
    """Return a benchmark by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in SETS:
        raise ConfigError(f"no benchmark '{name}'{suggest(name, SETS)}")
    return SETS[name]


def open_set(
    bench: BenchSet, root: Path, *, split: str, by: str | None, old_order: bool
) -> SemanticDataset | ReferringDataset:
    """Open the data of a benchmark.

    Raises:
        ConfigError: `by` is given where there are no refs, or `old_order` where there is but one.
        DatasetError: the data set is not whole; the message lists all that is missing.
    """
    if by is not None and not bench.referring:
        raise ConfigError(f"{bench.name} has no refs by anybody; leave --by (by=) away")
    if old_order and bench.preset != "pascal-context":
        raise ConfigError(
            f"{bench.name} has one order of classes; leave --old-order (old_order=) away"
        )
    if bench.referring:
        return open_referring(bench.name, root, split=split, by=by)
    return open_semantic(bench.name, root, split=split, old_order=old_order)


def paper_number(bench: BenchSet, split: str, by: str | None, *, sam: bool) -> float | None:
    """Return the paper's mIoU, percent; None where it has none.

    Args:
        bench: the benchmark.
        split: of the data.
        by: whose refs; None is the usual ones.
        sam: whether a SAM sharpened the masks.
    """
    if sam:
        return bench.paper_sam if (split, "") in bench.paper else None
    kind = "" if by is None or by == USUAL_REFS.get(bench.name) else by
    return bench.paper.get((split, kind))
