"""Refs: which sentences name which objects of which image. RefCOCO's pickles, gRefCOCO's JSON, and
the parquet files of the hub hold the same fields:

    {ref_id, ann_id, image_id, split, sentences: [{raw, …}, …], …}

Parquet has the outlines and the size of the image, too, as JSON text. `file_name` is no image's
name: images go by `image_id`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carvid.base.errors import ConfigError, DatasetError
from carvid.base.files import read_text
from carvid.datasets.coco_instances import CocoInstances
from carvid.datasets.pickles import MAX_PICKLE_BYTES, read_pickle

NO_TARGET = -1
"""The id of an object that is not there (gRefCOCO)."""

_FORM = "a list of {ref_id, ann_id, image_id, split, sentences: [{raw}, …]}"


@dataclass(frozen=True)
class Ref:
    """What is said of one object of an image, or of several."""

    ref_id: int
    image_id: int
    split: str
    texts: tuple[str, ...]
    """As they were written (`raw`)."""
    annotations: tuple[int, ...]
    """Ids of the objects; none if there is no target."""


def read_refs(path: Path) -> tuple[Ref, ...]:
    """Read a pickle (`.p`) or JSON of refs, all splits.

    Raises:
        DatasetError: it cannot be read, would run code, or is of another form.
    """
    try:
        if path.suffix == ".json":
            values = json.loads(read_text(path, limit=MAX_PICKLE_BYTES))
        else:
            values = read_pickle(path)
        return _unique(path, tuple(_ref(each, str(each["split"])) for each in values))
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}; check the path") from None
    except KeyError as error:
        raise DatasetError(f"'{path}' lacks the key {error}; it must be {_FORM}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f"'{path}' cannot be read: {error}; it must be {_FORM}") from None


def read_parquet(paths: Sequence[Path], split: str) -> tuple[tuple[Ref, ...], CocoInstances]:
    """Read the hub's parquet files of one split.

    Raises:
        ConfigError: pyarrow is not installed.
        DatasetError: a file cannot be read, or is of another form.
    """
    parquet = _parquet_tools(paths[0])
    refs: list[Ref] = []
    sizes: dict[int, tuple[int, int]] = {}
    annotations: dict[int, dict[str, Any]] = {}
    for path in paths:
        try:
            columns = ["ref_id", "ann_id", "image_id", "sentences", "raw_anns", "raw_image_info"]
            for row in parquet.read_table(path, columns=columns).to_pylist():
                refs.append(_ref(row, split))
                image = json.loads(row["raw_image_info"])
                sizes[refs[-1].image_id] = (int(image["height"]), int(image["width"]))
                annotations.update(_objects(row))
        except OSError as error:  # pyarrow's own errors are of this kind, or ValueErrors
            raise DatasetError(f"cannot read '{path}': {error}; download it again") from None
        except KeyError as error:
            raise DatasetError(f"'{path}' lacks the field {error}; download it again") from None
        except (ValueError, TypeError, RecursionError) as error:
            told = " ".join(str(error).split())
            raise DatasetError(f"'{path}' cannot be read: {told}; download it again") from None
    return _unique(paths[0], tuple(refs)), CocoInstances(sizes, annotations)


def _ref(value: Any, split: str) -> Ref:
    given = value["ann_id"]
    ids = given if isinstance(given, list | tuple) else [given]
    return Ref(
        int(value["ref_id"]),
        int(value["image_id"]),
        split,
        tuple(str(each["raw"]) for each in value["sentences"]),
        tuple(int(each) for each in ids if int(each) != NO_TARGET),
    )


def _objects(row: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The objects of a parquet file's row by id: one, or a list of them."""
    values = json.loads(row["raw_anns"])
    return {
        int(each["id"]): {
            "image_id": int(row["image_id"]), "segmentation": each["segmentation"],
        }
        for each in (values if isinstance(values, list) else [values])
    }  # fmt: skip


def _unique(path: Path, refs: tuple[Ref, ...]) -> tuple[Ref, ...]:
    """The refs, whose ids name files later."""
    double = _first_double(ref.ref_id for ref in refs)
    if double is not None:
        raise DatasetError(f"'{path}' has ref {double} twice; give every ref an id of its own")
    return refs


def _first_double(ids: Iterable[int]) -> int | None:
    seen: set[int] = set()
    for each in ids:
        if each in seen:
            return each
        seen.add(each)
    return None


def _parquet_tools(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f"'{path}' is read by pyarrow; pip install 'carvid[parquet]'") from None
    return pyarrow.parquet
