"""What is asked of a frame; without torch, so that a wrong question is answered at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from carvid.base.errors import ExpressionError

BREAKS = re.compile(r" *[\t\n\v\f\r\x85\u2028\u2029]+ *")
"""Line breaks and tabs; CLIP reads them as spaces, and every line of a report would be torn."""
NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters (terminals obey some) and surrogates (UTF-8 has none)."""
MOST_TEXTS = 254
"""Labels are uint8: 0 is the ground, and 255 are DAVIS's void pixels."""


@dataclass(frozen=True)
class Queries:
    """What is asked of a frame. Line breaks and tabs in a text become spaces.

    Raises:
        ExpressionError: no expression at all, too many of them, an empty one, or one that holds
            what is no text.
    """

    texts: tuple[str, ...]
    """The N expressions, in the user's order; expression k, from 1, is label k."""
    distractors: tuple[str, ...] = ()
    """Further queries, which compete but get neither label nor mask."""

    def __post_init__(self) -> None:
        if not self.texts:
            raise ExpressionError("no expression is given; name at least one object")
        if len(self.texts) > MOST_TEXTS:
            raise ExpressionError(
                f"{len(self.texts)} expressions are given, and labels are for {MOST_TEXTS} at "
                "most; ask for them in several runs"
            )
        for name in ("texts", "distractors"):
            object.__setattr__(self, name, tuple(in_one_line(text) for text in getattr(self, name)))

    @classmethod
    def of(cls, texts: str | Iterable[str], distractors: str | Iterable[str] = ()) -> Queries:
        """Return what a caller asks: one text, or several."""
        one, other = ((each,) if isinstance(each, str) else each for each in (texts, distractors))
        return cls(tuple(one), tuple(other))

    @property
    def all(self) -> tuple[str, ...]:
        """Expressions, then distractors: Q queries."""
        return (*self.texts, *self.distractors)


def in_one_line(text: str) -> str:
    """Return a text as it is asked for: line breaks and tabs, and the spaces around them, become
    one space.

    Raises:
        ExpressionError: it is empty, or holds control characters or bytes that are no UTF-8.
    """
    line = BREAKS.sub(" ", text).strip(" ") if BREAKS.search(text) else text
    if not line.strip():
        raise ExpressionError("an expression is empty; write what to look for")
    if NO_TEXT.search(line):
        raise ExpressionError(
            f"the expression {line[:60]!a} holds control characters or bytes that are no UTF-8; "
            "write it in letters"
        )
    return line
