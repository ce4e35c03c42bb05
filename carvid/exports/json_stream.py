"""JSON that is written entry by entry, so that a thousand clips need no more memory than one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from carvid.base.files import replacing


class JsonFile:
    """Writes an object, or a list, by parts.

    Args:
        file: open for text.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write_object(self, values: Mapping[str, Any]) -> None:
        """Write an object; values that are iterators become lists, an entry after the other."""
        for number, (key, value) in enumerate(values.items()):
            self._file.write(f"{', ' if number else '{'}{_json(key)}: ")
            if isinstance(value, Iterator):
                self.write_list(value)
            else:
                self._file.write(_json(value))
        self._file.write("}")

    def write_list(self, entries: Iterator[Any]) -> None:
        """Write a list, an entry after the other."""
        with self.list_of() as add:
            for entry in entries:
                add(entry)

    @contextmanager
    def list_of(self) -> Iterator[Callable[[Any], None]]:
        """Give a function that adds an entry to a list, which ends with the block."""
        begin = "["

        def add(entry: Any) -> None:
            nonlocal begin
            self._file.write(begin + _json(entry))
            begin = ", "

        yield add
        self._file.write("[]" if begin == "[" else "]")


@contextmanager
def json_file(path: Path) -> Iterator[JsonFile]:
    """Give what writes a JSON file, which is whole at the end or as it was; a name's byte that is
    no UTF-8 is escaped, as `carvid.base.files.write_text` does.

    Raises:
        OutputError: the place cannot be written.
    """
    with replacing(path) as partial, partial.open(
        "w", encoding="utf-8", errors="backslashreplace"
    ) as file:  # fmt: skip
        yield JsonFile(file)
        file.write("\n")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
