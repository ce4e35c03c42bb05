"""Who competes with an expression for a mask: one set for a whole run (CaR section 3.2).

The softmax of the classifier runs over the run's expressions, its distractors and the background
words. An expression does not meet itself: background words that it names are left out for it.
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
"""What follows tells where a thing is, not what it is."""


@dataclass(frozen=True)
class Competitors:
    """The columns of P for n queries that are asked."""

    texts: tuple[str, ...]
    """M texts, bare: the run's, then background words."""
    own: NDArray[np.int64]
    """int64 (n,): the column that is each query's own text."""
    allowed: NDArray[np.bool_]
    """bool (n, M): which columns each query meets."""


def compete(
    texts: Sequence[str],
    asked: Sequence[int],
    background: Sequence[str],
    *,
    collapse: bool = False,
    skip_own: bool = True,
) -> Competitors:
    """Gather the texts that compete.

    Args:
        texts: of everybody who competes, bare.
        asked: indices into `texts`: those whose scores are wanted.
        background: background words.
        collapse: equal texts have a column each (the released code), so that they compete.
        skip_own: leave out, for each query, the background words that it names.
    """
    names = [normal(text) for text in texts]
    columns = list(range(len(names))) if collapse else [names.index(name) for name in names]
    kept = sorted(set(columns))
    words = [word for word in background if normal(word) not in names]
    own = np.array([kept.index(columns[i]) for i in asked], np.int64)
    allowed = np.ones((len(asked), len(kept) + len(words)), bool)
    if skip_own:
        allowed[:, len(kept) :] = [strangers(texts[i], words) for i in asked]
    return Competitors((*(texts[i] for i in kept), *words), own, allowed)


def strangers(text: str, background: Sequence[str]) -> NDArray[np.bool_]:
    """Say which background words an expression does not name: bool (B,).

    "the streets" names street, and road, which is the same thing. "a duck on the sea" names sea,
    but not water: of what only tells where the thing is, the word itself goes out.
    """
    head = _singulars(_HEAD_ENDS.split(text.lower(), maxsplit=1)[0])
    named = _singulars(text).union(*(same for same in SAME_THING if same & head))
    met = [not all(_singulars(each) & named for each in _words(word)) for word in background]
    return np.array(met, bool)


def normal(text: str) -> str:
    """An expression as CLIP's tokenizer reads it (lower case, single spaces), less its article:
    "dog" does not compete with "the dog"."""
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
