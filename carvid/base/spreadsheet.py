"""Texts of strangers in CSV files that somebody opens in a spreadsheet, which would run them as
formulas (OWASP, "CSV Injection": an apostrophe is put before; it shows them as they are)."""

from __future__ import annotations

import re

FORMULA = re.compile("'*[-=+@\t\r\n＝＋－＠]")
"""How what a spreadsheet runs begins, in half and full width; and that with an apostrophe before,
so that `from_text` gives back every text."""


def as_text(text: str) -> str:
    """Return a cell that every spreadsheet takes for text; almost always the text itself."""
    return f"'{text}" if FORMULA.match(text) else text


def from_text(cell: str) -> str:
    """Return the text of which `as_text` has made a cell."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell[1:]) else cell
