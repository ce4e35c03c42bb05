"""Lists of class names that data sets bring: they tell in what order the labels are.

`labels.txt` and `59_labels.txt` of PASCAL Context have lines `12: name`, `objectInfo150.txt` of ADE
lines of columns with tabs, under a head: the label first, the name last.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carvid.base.errors import DatasetError
from carvid.base.files import read_text


def read_names(path: Path) -> dict[int, str]:
    """Read a list of class names: names by their labels, from 1; other lines are passed over.

    Raises:
        DatasetError: it cannot be read, or is no such list.
    """
    try:
        lines = read_text(path, encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read '{path}': {error}; unpack it again") from None
    names: dict[int, str] = {}
    for line in lines:
        parts = line.split("\t") if "\t" in line else line.split(":", 1)
        if len(parts) > 1 and parts[0].strip().isdecimal():
            names[int(parts[0])] = parts[-1].strip()
    if not names:
        raise DatasetError(f"'{path}' has no line with a number and a name; unpack it again")
    return names


def check_order(path: Path, names: Sequence[str]) -> None:
    """Refuse a list in another order than ours; other spellings of a name are let through.

    Args:
        path: the list.
        names: ours.

    Raises:
        DatasetError: a name of ours has another label there, or it cannot be read.
    """
    ours = {name: k for k, name in enumerate(names, 1)}
    for label, name in read_names(path).items():
        if ours.get(name, label) != label:
            raise DatasetError(
                f"'{path}' has another order of classes: '{name}' is {label} there, and "
                f"{ours[name]} as published; unpack the published maps and list again"
            )
