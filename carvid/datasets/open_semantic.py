"""Opening a data set of labelled images by its name.

A new one is a file in this folder, with a subclass of `SemanticDataset`, a list of classes in
`classes/`, and a line in `SEMANTIC_SETS`. What lies where is drawn in the head of each file.
"""

from __future__ import annotations

from pathlib import Path

from carvid.base.errors import ConfigError, suggest
from carvid.datasets.ade import Ade150, Ade847
from carvid.datasets.class_lists import class_list
from carvid.datasets.coco_object import CocoObject
from carvid.datasets.context import SAY, Context
from carvid.datasets.semantic_dataset import SemanticDataset
from carvid.datasets.voc import Voc

SEMANTIC_SETS: dict[str, tuple[type[SemanticDataset], str]] = {
    "voc20": (Voc, "voc"),
    "voc21": (Voc, "voc"),
    "context59": (Context, "context59"),
    "context60": (Context, "context59"),
    "context459": (Context, "context459"),
    "coco-object": (CocoObject, "coco-object"),
    "ade150": (Ade150, "ade150"),
    "ade847": (Ade847, "ade847"),
}
"""The data set and the list of classes of each benchmark."""


def open_semantic(
    name: str, root: Path, *, split: str = "val", old_order: bool = False
) -> SemanticDataset:
    """Open a data set of labelled images, after a look at everything that it must hold.

    Args:
        name: one of `SEMANTIC_SETS`.
        root: its folder, or one above it.
        split: as the data set calls it.
        old_order: `context59` and `context60`: the maps are numbered as older converters did,
            VOC's 20 classes first, which their values do not tell.

    Raises:
        ConfigError: there is no such data set, or it has no old order.
        DatasetError: something is missing or malformed; the message lists all that is missing.
    """
    if name not in SEMANTIC_SETS:
        raise ConfigError(f"no data set '{name}'{suggest(name, SEMANTIC_SETS)}")
    kind, classes = SEMANTIC_SETS[name]
    if not old_order:
        return kind.open(root, split, class_list(classes)).tried()
    if classes != "context59":
        raise ConfigError(f"{SAY} is of context59 and context60; leave it out for {name}")
    return Context.open(root, split, class_list(classes), old_order=True).tried()
