"""What is asked of a frame; without torch, so that a wrong question is answered at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

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
    def of(
        cls, texts: str | Iterable[str], distractors: str | Iterable[str] | None = ()
    ) -> Queries:
        """Return what a caller asks: one text, or several in any iterable that has an order.

        Raises:
            ExpressionError: as the class.
            ValueError: something else than text is given, or what has no order.
        """
        others = () if distractors is None else distractors
        return cls(_texts_of(texts, "texts"), _texts_of(others, "distractors"))

    @property
    def all(self) -> tuple[str, ...]:
        """Expressions, then distractors: Q queries."""
        return (*self.texts, *self.distractors)


def _texts_of(given: object, name: str) -> tuple[str, ...]:
    if isinstance(given, str):
        return (str.__str__(given),)
    kind = type(given).__name__
    if isinstance(given, bytes | bytearray):
        raise ValueError(f"{name} is {kind}; give text: {name}.decode()")
    if isinstance(given, Mapping | set | frozenset):
        raise ValueError(
            f"{name} is a {kind}, whose labels would be by chance; give a list of texts"
        )
    try:
        items: tuple[object, ...] = tuple(cast("Iterable[object]", given))
    except TypeError:  # nothing to iterate over; of a NumPy array without an axis, too
        raise ValueError(f"{name} is {kind}; give a text, or a list of texts") from None
    for number, item in enumerate(items):
        if not isinstance(item, str):
            raise ValueError(f"{name}[{number}] is {type(item).__name__}; give text")
    texts = cast("tuple[str, ...]", items)
    return tuple(str.__str__(text) for text in texts)  # NumPy's and enumerations' as plain text
