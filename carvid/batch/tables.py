"""A table that a spreadsheet, an editor or a program has written → its rows.

Excel writes CSV in UTF-8 with a byte order mark, or in UTF-16; where the decimal mark is a comma it
parts cells by semicolons, and its "Unicode Text" by tabs. All of that is read. Other encodings
(Windows-1252, Mac Roman) are refused, since nothing in a file says which one it has.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from carvid.base.errors import suggest

SEPARATORS = (",", ";", "\t")
ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)  # fmt: skip
"""Encodings by the bytes that a file in them begins with; UTF-32's marks begin with UTF-16's."""
SEPARATOR_LINE = re.compile('"?sep=(.)"?', re.IGNORECASE)
"""What Excel takes in a first line for the separator."""
DECIMAL_COMMA = re.compile(r"(?P<whole>[\d:]+),(?P<part>\d{1,2}|\d{4,})")
"""A number with a decimal comma. With three digits after it, it may as well be a thousand's."""

Fault = tuple[int, str]
"""A line's number, from 1, and what is wrong with it."""
Row = tuple[int, dict[str, str]]
"""A line's number, and its cells that are not empty, by the columns' names."""


@dataclass(frozen=True)
class Columns:
    """The columns that a table may have."""

    known: tuple[str, ...]
    needed: tuple[str, ...]
    other_names: dict[str, str]
    """Another name of a column → its name."""
    numbers: tuple[str, ...]
    """Those whose cells may have a decimal comma, where commas part no cells."""

    def name_of(self, title: str) -> str:
        """Return the name of the column with a title, or the title."""
        plain = title.casefold().strip(" :*")
        name = self.other_names.get(plain, plain)
        return name if name in self.known else title


def decoded(data: bytes) -> str:
    """Return a file's text; a byte of UTF-8 that is none becomes a lone surrogate.

    Raises:
        UnicodeDecodeError: it begins as UTF-16 or UTF-32, and is cut off or damaged.
    """
    for mark, encoding in ENCODINGS:
        if data.startswith(mark):
            return data.decode(encoding, "surrogateescape")
    if b"\0" in data[:2]:  # the first letter is one of ASCII's
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le")
    return data.decode("utf-8", "surrogateescape")


def read_table(text: str, columns: Columns, faults: list[Fault]) -> Iterator[Row]:
    """Yield a table's rows; what is wrong with it is added to `faults`."""
    separator, skipped = _separator(text, columns)
    header: list[str] | None = None
    width = 0
    for line, cells in _cells(text, separator, faults):
        if not any(cells) or line <= skipped:
            continue
        if header is None:
            width = len(cells)
            header = [columns.name_of(cell) for cell in _without_empty_end(cells)]
            if problems := _header_faults(header, columns):
                faults.extend((line, problem) for problem in problems)
                return
            continue
        if len(cells) == width and not any(cells[len(header) :]):
            cells = cells[: len(header)]  # the columns without a title are empty
        if len(cells) != len(header):
            told = f"has {len(cells)} cells, the header {len(header)}; put quotes around "
            faults.append((line, told + {",": "commas", ";": "semicolons"}.get(separator, "tabs")))
            continue
        row = {key: cell for key, cell in zip(header, cells, strict=True) if cell}
        if separator != ",":
            row |= {key: with_point(row[key]) for key in columns.numbers if key in row}
        yield line, row


def with_point(number: str) -> str:
    """Return a number with its decimal comma as a point; anything else as it is."""
    match = DECIMAL_COMMA.fullmatch(number)
    return f"{match['whole']}.{match['part']}" if match else number


def _separator(text: str, columns: Columns) -> tuple[str, int]:
    """What parts the cells of a table, by its first line; and how many lines say nothing else."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line), "")
    if match := SEPARATOR_LINE.fullmatch(first):
        return match[1], 1
    return max(SEPARATORS, key=lambda separator: _known_in(first, separator, columns)), 0


def _known_in(line: str, separator: str, columns: Columns) -> int:
    """How many of a line's cells are titles of columns."""
    cells = (cell.strip().strip('"') for cell in line.split(separator))
    return sum(columns.name_of(cell) in columns.known for cell in cells)


def _cells(text: str, separator: str, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Each line's number and cells; an entry in quotes may go on over several lines."""
    rows = csv.reader(
        io.StringIO(text, newline=""), strict=True, skipinitialspace=True, delimiter=separator
    )
    while True:
        line = rows.line_num + 1
        try:
            yield line, [cell.strip() for cell in next(rows)]
        except StopIteration:
            return
        except csv.Error as error:
            faults.append((line, f"is no CSV: {error}"))


def _without_empty_end(cells: list[str]) -> list[str]:
    """Cells without the empty ones at the end."""
    count = max((number for number, cell in enumerate(cells, 1) if cell), default=0)
    return cells[:count]


def _header_faults(header: Sequence[str], columns: Columns) -> list[str]:
    twice = {name for name in header if header.count(name) > 1}
    return [
        *(f"unknown column '{name}'{suggest(name, columns.known)}" for name in header
          if name not in columns.known),
        *(f"column '{name}' is there twice" for name in sorted(twice)),
        *(f"there is no column '{name}'" for name in columns.needed if name not in header),
    ]  # fmt: skip
