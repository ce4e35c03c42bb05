"""What is asked of a frame; without torch, so that a wrong question is answered at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

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
    stuff: frozenset[str] = frozenset()
    """Those of the texts that name stuff, not things (semantic mode, `carvid.car.passes`)."""
    synonyms: tuple[tuple[str, ...], ...] = ()
    """For each text other words for the same, which are asked for with it as one query; none of
    any, if there are none."""
    limit: int = MOST_TEXTS
    """How many texts there may be: as many as the labels that are written."""

    def __post_init__(self) -> None:
        if not self.texts:
            raise ExpressionError("no expression is given; name at least one object")
        if len(self.texts) > self.limit:
            raise ExpressionError(
                f"{len(self.texts)} expressions are given, and labels are for {self.limit} at "
                "most; ask for them in several runs"
            )
        for name in ("texts", "distractors"):
            object.__setattr__(self, name, tuple(in_one_line(text) for text in getattr(self, name)))
        given = self.synonyms or ((),) * len(self.texts)
        clean = tuple(tuple(in_one_line(word) for word in words) for words in given)
        if len(clean) != len(self.texts):
            raise ValueError(
                f"synonyms are for {len(clean)} texts, and there are {len(self.texts)}"
            )
        object.__setattr__(self, "synonyms", clean)
        object.__setattr__(self, "stuff", frozenset(in_one_line(text) for text in self.stuff))

    @classmethod
    def of(
        cls, texts: str | Iterable[str] | Queries, distractors: str | Iterable[str] | None = ()
    ) -> Queries:
        """Return what a caller asks: one text, or several in any iterable that has an order; or
        queries, as they are.

        Raises:
            ExpressionError: as the class.
            ValueError: something else than text is given, or what has no order; or distractors
                beside queries, which have theirs.
        """
        others = _texts_of(() if distractors is None else distractors, "distractors")
        if not isinstance(texts, Queries):
            return cls(_texts_of(texts, "texts"), others)
        if others:
            raise ValueError("distractors are given beside queries; put them into those")
        return texts

    @property
    def all(self) -> tuple[str, ...]:
        """Expressions, then distractors: Q queries."""
        return (*self.texts, *self.distractors)

    def synonyms_of(self, query: int) -> tuple[str, ...]:
        """Return other words for the same as a query's, which is an index into `all`."""
        return self.synonyms[query] if query < len(self.texts) else ()


def in_template(template: str, text: str) -> str:
    """Put a query's text into a template; each line of one that has synonyms, a line each."""
    return "\n".join(template.format(line) for line in text.split("\n"))


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
