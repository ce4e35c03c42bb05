"""What is asked of a frame; without torch, so that a wrong question is answered at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from carvid.base.errors import ExpressionError
from carvid.base.names import is_unicode


@dataclass(frozen=True)
class Queries:
    """What is asked of a frame.

    Raises:
        ExpressionError: no expression at all, or one that is empty or no Unicode.
    """

    texts: tuple[str, ...]
    """The N expressions, in the user's order; expression k, from 1, is label k."""
    distractors: tuple[str, ...] = ()
    """Further queries, which compete but get neither label nor mask."""

    def __post_init__(self) -> None:
        if not self.texts:
            raise ExpressionError("no expression is given; name at least one object")
        for text in self.all:
            if not text.strip():
                raise ExpressionError("an expression is empty; write what to look for")
            if not is_unicode(text):
                raise ExpressionError(f"the expression '{text}' is no UTF-8; write it in UTF-8")

    @classmethod
    def of(cls, texts: str | Iterable[str], distractors: str | Iterable[str] = ()) -> Queries:
        """Return what a caller asks: one text, or several."""
        one, other = ((each,) if isinstance(each, str) else each for each in (texts, distractors))
        return cls(tuple(one), tuple(other))

    @property
    def all(self) -> tuple[str, ...]:
        """Expressions, then distractors: Q queries."""
        return (*self.texts, *self.distractors)
