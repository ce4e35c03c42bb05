"""Which words ask for a place, a size or a motion, and where they may stand to do so.

A rule is a pattern, and where it is looked for: before the first noun ("left dog"), right after it
("girl far left"), or anywhere after it ("the dog on the left"). Words are taken only where what is
around them says that nothing else is meant: `fits` looks at the noun, and at what stands between
the noun and the words; what may follow them is part of the patterns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from carvid.car.word_lists import (
    APART,
    ARTICLES,
    BEINGS,
    BEST,
    BREAKS,
    COMPOUNDS,
    HAVING,
    LOOKS,
    MOVES,
    MOVING,
    NAMELESS,
    NOT_VERBS,
    PARTS,
    RIGHT,
    STAYING,
    THINGS,
    TURNED,
    VEHICLES,
)

TAKEN = "\n"
"""Stands in an expression where words were taken out: a boundary, as a comma is."""

_PICTURE = r"(?:picture|image|photo|photograph|frame|video|clip|screen|scene|view|shot)"
_OF_PICTURE = rf"(?:\s+(?:of|in)\s+(?:the\s+|this\s+)?{_PICTURE}\b)"
_OPEN = r"\s*(?:$|[\n,.;:!?)])"
"""An end, or what is as good as one."""
_THEN = (
    rf"(?={_OPEN}|\s+(?:with|without|who|that|which|whose|in|on|at|near|by|next|beside|behind|"
    r"under|above|below|between|among|against|across|through|along|inside|outside|opposite|while|"
    r"is|has|not|dressed|seated|parked|please)\b"
    rf"|\s+(?!(?:{'|'.join(sorted(NOT_VERBS))})\b)\w+ing\b(?!\s+(?:lane|room|lot|space|spot|path|"
    r"area|pool|machine|track|side|bag|cart|mall|dock)s?\b))"
)
"""What may follow words that are taken out; a noun would make them a part of its name."""
_ONLY = rf"(?={_OPEN}|\s+(?:with|wearing|carrying|holding|while)\b)"
"""Likewise, where the words could be of another kind ("moving right in front of")."""
_IS = r"(?:(?:(?:that|which|who)\s+)?(?:is|are|was|were)\s+|(?:that|which|who)['’]s\s+)?"
_FAR = r"(?:(?:very|far|extreme|furthest|farthest)\s+)"
_SIDE = r"(?:\s+(?:side|edge|half|part|portion|section|area|corner)|[\s-]?hand\s+side|-hand)"
_AT = (
    r"(?:(?:all\s+the\s+way|way|(?<!ing\s)right|just|over|off|far|located|positioned|situated|"
    r"placed)\s+)*"
)
_ON = rf"\b{_IS}{_AT}(?:on|at|in)\s+(?:the\s+)?"
_TO = rf"\b{_IS}{_AT}to\s+the\s+"
_HEAD = r"^(?P<rest>(?:the\s+)?)"
_ANY_HEAD = r"^(?P<rest>(?:(?:the|an?)\s+)?)"
_VIEWER = r"(?:(?:the\s+)?(?:camera|viewer|lens|screen|front|foreground)|us|me)"
_NO_MATCH_FOR = r"(?!(?:\s+[\w'-]+){1,5}?\s+(?:to|from|than)\b)"
"""After "the nearest": no "tree to the house"."""

COUNT = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
)  # fmt: skip
_ORDINAL = rf"(?P<nth>{'|'.join(COUNT)}|1st|2nd|3rd|[4-9]th|10th)"
_FROM = rf"\s+from\s+(?:the\s+)?(?P<to>left|right|top|bottom)(?:\s+side)?{_OF_PICTURE}?{_THEN}"

_SLOWLY = r"(?:(?:slowly|quickly|rapidly|steadily|swiftly|fast)\s+)?"
_HOW = r"(?:\s+(?:\w+ly|fast|straight|over|off))*"
_WHICH = r"(?:that|which|who)\s+"
_DOING = (
    rf"\b{_IS}{_SLOWLY}(?P<verb>{'|'.join(sorted(MOVING))}|"
    rf"{_WHICH}(?:{'|'.join(sorted(MOVES))})){_HOW}"
)
_ENTERING = rf"\b{_IS}(?P<verb>(?:com|enter|approach|arriv)ing|{_WHICH}(?:comes|enters))(?:\s+in)?"
_UPWARDS = (
    rf"\b{_IS}(?P<verb>moving|going|flying|floating|drifting|swimming|heading|travell?ing|"
    rf"{_WHICH}(?:moves|goes|flies|swims)){_HOW}"
)
"""What can go up and down in a picture, and nowhere else: not up a road."""
_EDGE = r"(?:[\s-]?hand)?(?:\s+(?:side|edge|half|corner))?"


@dataclass(frozen=True)
class Rule:
    """Words that ask for something."""

    kind: str
    """Of the wish."""
    where: str
    """`noun`: before the first noun, `thing`: likewise, and the noun is one of `THINGS`; `plain`:
    right after the first noun, or its colour; `after`: anywhere after it."""
    pattern: str
    """Groups: `to` and `row` (sides), `start` (side that a motion comes from), `nth`, and what is
    for CLIP still: `rest`, `noun`, `verb`."""


RULES: tuple[Rule, ...] = (
    Rule("still", "after", rf"\b{_IS}(?:(?:that|which|who)\s+)?(?:(?:does|is)\s+not|doesn['’]t|"
         rf"isn['’]t|not)\s+mov(?:e|ing)(?:\s+at\s+all)?{_THEN}"),
    Rule("still", "after", rf"\b{_IS}(?:(?:that|which|who)\s+)?(?:standing|sitting|lying|staying|"
         rf"keeping|stands|sits|lies|stays)\s+(?:\w+ly\s+)?still{_THEN}"),
    Rule("still", "after", rf"\b{_IS}(?:motionless|stationary|unmoving){_THEN}"),
    Rule("still", "thing", rf"{_ANY_HEAD}(?:motionless|stationary|unmoving)(?!\s+(?:bi|cycle))"),
    Rule("motion", "after", rf"{_DOING}\s+(?:from\s+)?(?:the\s+)?(?P<start>left|right|top|bottom)"
         rf"{_EDGE}{_OF_PICTURE}?[\s-]+to(?:wards?)?[\s-]+(?:the\s+)?"
         rf"(?P<to>(?!(?P=start))(?:left|right|top|bottom)){_EDGE}{_OF_PICTURE}?{_THEN}"),
    Rule("motion", "after", rf"{_DOING}\s+(?:to|towards?)\s+(?:the\s+)?{_FAR}?(?P<to>left|right)"
         rf"{_EDGE}{_OF_PICTURE}?{_THEN}"),
    Rule("motion", "after", rf"{_DOING}\s+(?:to|towards?)\s+(?:the\s+)?(?P<to>top|bottom)"
         rf"{_OF_PICTURE}{_THEN}"),
    Rule("motion", "after", rf"{_DOING}\s+(?:(?:to|towards?)\s+)?(?:the\s+)?(?P<row>top|upper|up|"
         rf"bottom|lower|down)[\s-]+(?P<to>left|right)(?:\s+(?:side|corner))?{_OF_PICTURE}?{_THEN}"),
    Rule("motion", "after", rf"{_DOING}\s+(?P<to>left|right){_ONLY}"),
    Rule("motion", "after", rf"{_DOING}\s+(?P<to>left|right|up|down)wards?{_THEN}"),
    Rule("motion", "after", rf"{_UPWARDS}\s+(?P<to>up|down){_ONLY}"),
    Rule("motion", "after", rf"{_ENTERING}\s+from\s+(?:the\s+)?(?P<start>left|right){_EDGE}"
         rf"{_OF_PICTURE}?{_THEN}"),
    Rule("nth", "noun", rf"{_HEAD}{_ORDINAL}(?P<noun>(?:\s+(?!\w*ing\b|on\b|of\b|from\b)[\w'-]+)"
         rf"{{1,5}}?){_FROM}"),
    Rule("nth", "noun", rf"{_HEAD}{_ORDINAL}\s+from\s+(?:the\s+)?(?P<to>left|right)"),
    Rule("nth", "plain", rf"\b{_IS}(?:the\s+)?{_ORDINAL}{_FROM}"),
    Rule("nth", "noun", rf"{_HEAD}{_FAR}?(?P<to>left|right|top|bottom)[\s-]?most"),
    Rule("nth", "plain", rf"\b{_IS}(?:the\s+)?(?P<to>left|right|top|bottom)[\s-]?most{_THEN}"),
    Rule("nth", "plain", rf"\b{_IS}(?:the\s+)?(?:furthest|farthest|most)\s+(?:to\s+the\s+)?"
         rf"(?P<to>left|right){_OF_PICTURE}?{_THEN}"),
    Rule("middle", "after", rf"{_ON}(?:(?:very|exact|dead)\s+)?(?:middle|cent(?:er|re))"
         rf"{_OF_PICTURE}?{_THEN}"),
    Rule("middle", "thing", rf"{_HEAD}(?:middle|cent(?:er|re)|central)"),
    Rule("side", "after", rf"{_ON}{_FAR}?(?P<row>top|upper|bottom|lower)[\s-]+(?P<to>left|right)"
         rf"{_SIDE}?{_OF_PICTURE}?{_THEN}"),
    Rule("side", "noun", rf"{_HEAD}{_FAR}?(?P<row>top|upper|bottom|lower)[\s-]+(?P<to>left|right)"
         r"(?:[\s-]+corner)?"),
    Rule("side", "plain", rf"\b{_FAR}?(?P<row>top|upper|bottom|lower)[\s-]+(?P<to>left|right)"
         rf"{_SIDE}?{_OF_PICTURE}?{_THEN}"),
    Rule("side", "after", rf"{_ON}{_FAR}?(?P<to>left|right){_SIDE}?{_OF_PICTURE}?{_THEN}"),
    Rule("side", "after", rf"{_TO}{_FAR}?(?P<to>left|right){_SIDE}?{_OF_PICTURE}?{_THEN}"),
    Rule("side", "noun", rf"{_HEAD}{_FAR}?(?P<to>left|right)(?:-?hand\b)?(?:\s+side)?"),
    Rule("side", "plain", rf"\b{_FAR}(?P<to>left|right){_SIDE}?{_OF_PICTURE}?{_THEN}"),
    Rule("side", "plain", rf"\b(?P<to>left|right)(?P<bare>)(?:{_SIDE}{_THEN}|{_OF_PICTURE}{_THEN}"
         rf"|{_ONLY}|(?=\s+in\s+(?:(?:the|an?)\s+)?(?:{'|'.join(sorted(LOOKS))})\b))"),
    Rule("side", "after", rf"\b{_IS}{_AT}(?:on\s+the|at(?:\s+the)?)\s+(?:very\s+)?"
         rf"(?P<to>top|bottom){_OF_PICTURE}?{_THEN}"),
    Rule("side", "plain", rf"\b{_IS}on\s+(?P<to>top|bottom){_OF_PICTURE}?{_THEN}"),
    Rule("side", "after", rf"{_ON}(?P<to>top|bottom|upper|lower)(?:{_SIDE}{_OF_PICTURE}?|"
         rf"{_OF_PICTURE}){_THEN}"),
    Rule("side", "thing", rf"{_HEAD}(?P<to>top|bottom|upper|lower)"),
    Rule("front", "after", rf"\b{_IS}{_AT}(?:in\s+(?:the\s+)?(?:front|foreground)|at\s+the\s+front|"
         rf"up\s+front){_OF_PICTURE}?{_THEN}"),
    Rule("front", "noun", rf"{_HEAD}(?:closest|nearest)(?P<noun>(?:\s+[\w'-]+){{1,4}}?)"
         rf"\s+to\s+{_VIEWER}{_THEN}"),
    Rule("front", "noun", rf"{_HEAD}(?:closest|nearest)\b{_NO_MATCH_FOR}"),
    Rule("front", "after", rf"\b{_IS}(?:the\s+)?(?:closest|nearest)"
         rf"(?:\s+(?:to\s+)?{_VIEWER})?{_THEN}"),
    Rule("front", "thing", rf"{_HEAD}(?:front[\s-]?most|foremost|foreground|front)"),
    Rule("back", "after", rf"\b{_IS}{_AT}(?:in\s+(?:the\s+)?(?:back|rear|background)|"
         rf"at\s+the\s+(?:back|rear)){_OF_PICTURE}?{_THEN}"),
    Rule("back", "noun", rf"{_HEAD}(?:farthest|furthest)\b{_NO_MATCH_FOR}"
         r"(?!\s+(?:left|right|away|back)\b)"),
    Rule("back", "after", rf"\b{_IS}(?:the\s+)?(?:farthest|furthest)(?:\s+(?:away|back))?"
         rf"(?:\s+from\s+{_VIEWER})?{_THEN}"),
    Rule("back", "thing", rf"{_HEAD}(?:rear[\s-]?most|back[\s-]?most|background|back|rear)"),
    Rule("biggest", "noun", rf"{_ANY_HEAD}(?:biggest|largest)\b"),
    Rule("biggest", "noun", rf"{_HEAD}(?:bigger|larger)\b(?!.*\bthan\b)"),
    Rule("smallest", "noun", rf"{_ANY_HEAD}smallest\b"),
    Rule("smallest", "noun", rf"{_HEAD}smaller\b(?!.*\bthan\b)"),
)  # fmt: skip
"""In this order; what a rule takes, later ones do not see."""


def fits(rule: Rule, match: re.Match[str]) -> bool:
    """Whether a rule's words mean what they seem to where they stand."""
    text = match.string
    before, after = text[: match.start()], text[match.end() :]
    if rule.where in ("noun", "thing"):
        noun = match.groupdict().get("noun") or after
        return noun.startswith(" ") and _may_stand_before(rule, match, noun_phrase(noun))
    if rule.where == "plain" and not _is_plain(before, bare="bare" in match.groupdict()):
        return False
    if re.search(rf"^{_IS}{_AT}to\s", match[0], re.IGNORECASE) and not _is_at_rest(before):
        return False
    return _is_of_the_first_noun(rule, match, before.lower())


def noun_phrase(text: str) -> list[str]:
    """The words, in lower case, up to the first that is not of the first noun's phrase."""
    words = []
    for word in re.findall(r"[\w'’-]+|[^\w\s]|\n", text.lower()):
        if not word[0].isalnum() or word in BREAKS or is_doing(word):
            break
        words.append(word)
    return words


def is_doing(word: str) -> bool:
    """Whether a word is a verb in -ing, as far as one can tell."""
    return len(word) > 4 and word.endswith("ing") and word not in NOT_VERBS


def _may_stand_before(rule: Rule, match: re.Match[str], noun: list[str]) -> bool:
    """Whether words before the noun, as "left" or "front", belong to the noun as a whole."""
    if not noun or any("'" in word or "’" in word for word in noun):
        return False  # "the left of", "the biggest dog's tail"
    if rule.where == "thing":
        best = noun[-1] in BEST and match.groupdict().get("to") == "top"
        return noun[-1] in THINGS and set(noun[:-1]) <= LOOKS and not best
    if rule.kind != "side":
        return True
    if match[0].lower().endswith("-hand") and noun == ["man"]:
        return False  # somebody's "right-hand man" may stand anywhere
    names = COMPOUNDS | RIGHT if (match["to"] or "").lower() == "right" else COMPOUNDS
    return not names & set(re.split(r"[ -]", " ".join(noun)))


def _is_plain(before: str, *, bare: bool) -> bool:
    """Whether there is only the first noun, and its colour, before words.

    Args:
        before: what stands there.
        bare: the words are "left" or "right" alone, which say a place only in a telegram's style
            ("guy left in red"), of what is not eaten up ("pizza left").
    """
    lower = before.lower().strip(" \n,")
    match = re.fullmatch(rf"(.*?)\s+in\s+(?:{'|'.join(LOOKS)})(?:\s+\w+)?", lower)
    words = re.findall(r"[\w'’-]+", match[1] if match else lower)
    if not set(words) - NAMELESS or words != noun_phrase(" ".join(words)):
        return False
    if not bare:
        return words[-1] not in TURNED
    return words[0] not in ARTICLES and words[-1] in BEINGS | VEHICLES


def _is_at_rest(before: str) -> bool:
    """Whether "to the left" after these words is a place, not a direction."""
    words = re.findall(r"[\w'’-]+", before.lower())
    if not words or words[-1] in STAYING:
        return True
    last = words[-1]
    return not (is_doing(last) or last in TURNED or last in BREAKS or last.endswith("ly"))


def _is_of_the_first_noun(rule: Rule, match: re.Match[str], before: str) -> bool:
    """Whether words after several nouns can only be said of the first, the thing looked for."""
    if re.search(rf"\b(?:{APART})\b", before):
        return False
    if re.search(r"\b(?:of|with|has|having)\s+(?:his|her|its|their|my|your)\b", before):
        return False
    if re.search(r"\bof\s+(?:the|an?|this|that|these|those|two|three)\b", before):
        return False
    having = re.search(rf"\b(?:{HAVING})\s(?P<what>.*)", before)
    if having is None or rule.kind in ("motion", "still"):
        return True
    head = noun_phrase(before)
    living = bool(head) and head[-1] in BEINGS
    flat = rule.kind in ("side", "middle", "nth") and match.groupdict().get("to") not in (
        "top", "bottom",
    )  # fmt: skip
    return living and flat and not PARTS & set(re.findall(r"\w+", having["what"]))
