"""Opening a data set of referring expressions by its name and root.

    <root>/<set>/…                                         refs and objects, see `refcoco.py`
    <root>/images/mscoco/images/train2014/COCO_train2014_<12 digits>.jpg
    <root>/images/train2014/…, <root>/train2014/…          instead

The root may be the set's own folder; then images lie there or one folder up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from carvid.base.errors import ConfigError, DatasetError, suggest
from carvid.base.words import plural
from carvid.datasets.coco_instances import CocoInstances, read_instances
from carvid.datasets.folders import existing_root, few
from carvid.datasets.grefcoco import GREFCOCO, gref_samples
from carvid.datasets.refcoco import (
    REFCOCO,
    REFCOCO_PLUS,
    REFCOCOG,
    ReferringSet,
    ref_samples,
)
from carvid.datasets.referring_dataset import ReferringDataset, ReferringSample
from carvid.datasets.refs import Ref, read_parquet, read_refs

Samples = Callable[[Ref, Path], Iterator[ReferringSample]]

REFERRING: dict[str, tuple[ReferringSet, Samples]] = {
    "refcoco": (REFCOCO, ref_samples),
    "refcoco+": (REFCOCO_PLUS, ref_samples),
    "refcocog": (REFCOCOG, ref_samples),
    "grefcoco": (GREFCOCO, gref_samples),
}
"""The data sets by name, and what makes their samples."""
INSTANCES = "instances.json"
IMAGE_FOLDERS = ("images/mscoco/images/train2014", "images/train2014", "train2014")
IMAGE_NAME = "COCO_train2014_{:012d}.jpg"
IMAGE_SOURCE = "train2014.zip of cocodataset.org"


@dataclass(frozen=True)
class _Found:
    """What lies on disk of a data set and a maker's splits."""

    refs: Path | None
    """Pickle or JSON, of all splits."""
    parquet: tuple[Path, ...]
    """Instead of it, of the split that is asked for."""
    instances: Path | None
    images: Path | None


def open_referring(
    name: str, root: Path, *, split: str = "val", by: str | None = None
) -> ReferringDataset:
    """Open a data set of referring expressions, after a look at everything that it must hold.

    Args:
        name: a name in `REFERRING`.
        root: what holds the set's folder and the images, or the set's folder itself.
        split: `val`, `train`, `testA` and `testB`; of RefCOCOg and of Google's `test`.
        by: who made the splits: `unc`, `google` or `umd`; the usual ones, if nobody is named.

    Raises:
        ConfigError: no such data set or maker; or a package that reads it is not installed.
        DatasetError: something is missing or malformed; the message lists all that is missing.
    """
    if name not in REFERRING:
        raise ConfigError(f"unknown data set '{name}'{suggest(name, REFERRING)}")
    kind, make = REFERRING[name]
    maker = kind.makers[0] if by is None else by
    if maker not in kind.makers:
        raise ConfigError(
            f"{kind.title} has no splits by '{by}'; choose of {', '.join(kind.makers)}"
        )
    root = existing_root(root)
    found = _find(kind, root, maker, split)
    _check_found(kind, root, maker, found)
    refs, instances, sources = _read(kind, found, split)
    samples = tuple(
        sample
        for ref in refs
        for sample in make(ref, _images_of(found) / IMAGE_NAME.format(ref.image_id))
    )
    _check_samples(kind, root, samples, instances)
    return ReferringDataset(kind.title, root, split, samples, sources, instances)


def _find(kind: ReferringSet, root: Path, maker: str, split: str) -> _Found:
    """Look for everything."""
    folders = [root / each for each in kind.folders if (root / each).is_dir()]
    if not folders:
        folders = [root]  # its own, as far as its name does not tell otherwise
        for other, _ in REFERRING.values():
            if other is not kind and root.name in other.folders:
                raise DatasetError(
                    f"'{root}' is {other.title}'s folder; give that of {kind.title}, or the root"
                )
    stem = kind.stem.format(maker)
    named = [folder / f"{stem}{suffix}" for folder in folders for suffix in (".p", ".json")]
    refs = next((path for path in named if path.is_file()), None)
    parquet: list[Path] = []
    if refs is None and maker == kind.makers[0]:
        places = [each for folder in folders for each in (folder, folder / "data")]
        if split not in kind.hub_splits and any(_hub_files(p, "*") for p in places):
            raise DatasetError(
                f"'{folders[0]}' has no split '{split}'; choose of {', '.join(kind.hub_splits)}"
            )
        called = kind.hub_splits.get(split, split)
        parquet = next(filter(None, (_hub_files(p, f"{called}-*") for p in places)), [])
    instances = next((f / INSTANCES for f in folders if (f / INSTANCES).is_file()), None)
    likely = [base / each for base in (root, root.parent) for each in IMAGE_FOLDERS]
    images = next((place for place in likely if place.is_dir()), None)
    return _Found(refs, tuple(parquet), instances, images)


def _hub_files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(f"{pattern}.parquet"))


def _check_found(kind: ReferringSet, root: Path, maker: str, found: _Found) -> None:
    """Say all that is missing, and where it is to be had."""
    missing = []
    stem = kind.stem.format(maker)
    folder = kind.folders[0]
    if found.refs is None and not found.parquet:
        what = f"{folder}/{stem}.p or .json"
        if kind.hub_splits and maker == kind.makers[0]:
            what += ", or the hub's parquet of the split"
        missing.append(f"{what} ({kind.source})")
    if found.instances is None and not found.parquet:
        missing.append(f"{folder}/{INSTANCES} ({kind.source})")
    if found.images is None:
        missing.append(f"{IMAGE_FOLDERS[0]} or {IMAGE_FOLDERS[1]} ({IMAGE_SOURCE})")
    if missing:
        raise DatasetError(
            f"'{root}' is not {kind.title}, or not whole: it lacks {'; '.join(missing)}; "
            "put it there"
        )


def _read(
    kind: ReferringSet, found: _Found, split: str
) -> tuple[tuple[Ref, ...], CocoInstances, tuple[Path, ...]]:
    """The refs of a split, the objects of their images, and the files that hold them."""
    if found.refs is None:
        refs, instances = read_parquet(found.parquet, split)
        return refs, instances, found.parquet
    known = read_refs(found.refs)
    refs = tuple(ref for ref in known if ref.split == split)
    if not refs:
        there = sorted({ref.split for ref in known})
        raise DatasetError(
            f"'{found.refs}' has no split '{split}'; choose of {', '.join(there) or 'none'}"
        )
    assert found.instances is not None
    instances = read_instances(found.instances, {ref.image_id for ref in refs})
    return refs, instances, (found.refs, found.instances)


def _images_of(found: _Found) -> Path:
    assert found.images is not None
    return found.images


def _check_samples(
    kind: ReferringSet, root: Path, samples: tuple[ReferringSample, ...], instances: CocoInstances
) -> None:
    """Say which images and objects of samples are missing."""
    missing = []
    paths = dict.fromkeys(sample.image for sample in samples)
    images = [path.name for path in paths if not path.is_file()]
    if images:
        missing.append(f"{plural(len(images), 'image')} ({few(images)}; from {IMAGE_SOURCE})")
    sizes = dict.fromkeys(
        sample.image_id for sample in samples if sample.image_id not in instances.sizes
    )
    if sizes:
        missing.append(f"the sizes of {plural(len(sizes), 'image')} in {INSTANCES}")
    objects = dict.fromkeys(
        each
        for sample in samples
        for each in sample.annotations
        if instances.annotations.get(each, {}).get("image_id") != sample.image_id
    )
    if objects:
        missing.append(
            f"{plural(len(objects), 'object')} of its images in {INSTANCES} "
            f"({few([str(k) for k in objects])}; from {kind.source})"
        )
    if missing or not samples:
        raise DatasetError(
            f"'{root}' is not whole: it lacks {'; '.join(missing) or 'sentences'}; put it there"
        )
