"""The texts that compete in the classifier's softmax: one set for a whole run (CaR section 3.2).

They are the run's expressions, its distractors and the background words. Background words that an
expression names do not compete with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carvid.car.word_lists import ARTICLES

SAME_THING = (
    {"road", "street"}, {"railway", "railroad"}, {"sea", "ocean"}, {"land", "ground"},
    {"water", "sea"}, {"water", "ocean"}, {"water", "lake"}, {"water", "river"},
    {"building", "house"},
)  # fmt: skip
"""Background words of which one can be said for the other."""
_HEAD_ENDS = re.compile(
    r"\b(?:in|on|at|of|with|near|by|behind|beside|under|over|between|from|to|into|along|across|"
    r"through|against|that|which|who|while)\b|,"
)
"""Ends the head of an expression: what follows says where a thing is, not what it is."""


@dataclass(frozen=True)
class Competitors:
    """The columns of P for n queries that are asked."""

    texts: tuple[str, ...]
    """M texts, without template: the run's, then background words."""
    own: NDArray[np.int64]
    """int64 (n,): the column that is each query's own text."""
    allowed: NDArray[np.bool_]
    """bool (n, M): which columns compete with each query; its own is among them."""


def compete(
    texts: Sequence[str],
    asked: Sequence[int],
    background: Sequence[str],
    *,
    collapse: bool = False,
    skip_own: bool = True,
) -> Competitors:
    """Return the texts that compete, and with whom.

    Args:
        texts: of all queries that compete, without template.
        asked: indices into `texts`: the n queries whose scores are wanted.
        background: background words.
        collapse: equal texts have a column each (the released code), so that they compete.
        skip_own: background words that a query names do not compete with it.
    """
    names = [normal(text) for text in texts]
    columns = list(range(len(names))) if collapse else [names.index(name) for name in names]
    kept = sorted(set(columns))
    words = [word for word in background if normal(word) not in names]
    own = np.array([kept.index(columns[i]) for i in asked], np.int64)
    allowed = np.ones((len(asked), len(kept) + len(words)), bool)
    if skip_own:
        allowed[:, len(kept) :] = [not_named(texts[i], words) for i in asked]
    return Competitors((*(texts[i] for i in kept), *words), own, allowed)


def not_named(text: str, background: Sequence[str]) -> NDArray[np.bool_]:
    """Return which background words an expression does not name, bool (B,).

    "the streets" names street, and its synonym road. "a duck on the sea" names sea, but not water:
    synonyms count only in the head of the expression. Of a text of several lines, all of them must
    not name it.
    """
    if "\n" in text:
        free = np.stack([not_named(line, background) for line in text.split("\n")])
        return np.asarray(free.all(axis=0), bool)
    head = _singulars(_HEAD_ENDS.split(text.lower(), maxsplit=1)[0])
    named = _singulars(text).union(*(same for same in SAME_THING if same & head))
    missing = [not all(_singulars(each) & named for each in _words(word)) for word in background]
    return np.array(missing, bool)


def normal(text: str) -> str:
    """Return an expression in lower case, with single spaces and without its article: so "dog"
    does not compete with "the dog"."""
    words = text.lower().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ARTICLES else words)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", text.lower()))


def _singulars(text: str) -> set[str]:
    """The words of a text, and what they are the plural of."""
    words = _words(text)
    found = set(words)
    for word in words:
        for end, instead in (("s", ""), ("es", ""), ("ies", "y")):
            if word.endswith(end):
                found.add(word.removesuffix(end) + instead)
    return found
