"""Which expressions are asked for all their things: by name, all of them, or by a star."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from carvid.base.errors import ExpressionError, suggest
from carvid.car.queries import Queries, in_one_line

STAR = "*"
ESCAPED = "\\*"
"""How a star is written that an expression ends with."""

Instances: TypeAlias = bool | str | Iterable[str]
"""All expressions, none of them, or which."""


def marked_in(queries: Queries, instances: Instances) -> tuple[int, ...]:
    """Return the indices of the expressions of which every thing is to be a track of its own.

    Args:
        queries: what is asked.
        instances: all of the expressions, none, or their texts.

    Raises:
        ExpressionError: a text is none of the expressions.
        ValueError: it is something else.
    """
    if isinstance(instances, bool):
        return tuple(range(len(queries.texts))) if instances else ()
    names = (instances,) if isinstance(instances, str) else tuple(instances)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"instances must be true, false or texts, got {type(name).__name__}")
        if in_one_line(name) not in queries.texts:
            raise ExpressionError(
                f"'{name}' is to be found one by one, and is none of the expressions"
                f"{suggest(name, queries.texts)}"
            )
    wanted = {in_one_line(name) for name in names}
    return tuple(k for k, text in enumerate(queries.texts) if text in wanted)


def read_stars(texts: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
    """Return expressions without the star that marks one whose things are to be found one by one,
    and the indices of those; an expression that ends with a star itself has `ESCAPED` there."""
    plain, marked = [], []
    for index, text in enumerate(texts):
        bare = text.rstrip()
        if bare.endswith(STAR) and not bare.endswith(ESCAPED):
            marked.append(index)
            bare = bare.removesuffix(STAR)
        elif not bare.endswith(ESCAPED):
            bare = text
        plain.append(bare.removesuffix(ESCAPED) + STAR if bare.endswith(ESCAPED) else bare)
    return plain, tuple(marked)
