"""Words about place, size and motion, which CLIP does not understand: "left", "moving up".

`parse` splits an expression into a text for CLIP and wishes about place, size and motion;
`rate_wishes` says how well masks fulfil the wishes. The words are those of `phrase_rules`.
Relations between things ("left of the car", "in front of the house"), names ("the right lane") and
sides of a thing's own ("his left hand") stay in the text for CLIP; so does all that is in doubt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import SAME_IOU, iou
from carvid.car.phrase_rules import COUNT, RULES, TAKEN, Rule, fits, noun_phrase
from carvid.car.word_lists import (
    ARTICLES,
    BARE_VERBS,
    BEINGS,
    LOOKS,
    NAMELESS,
    NUMBERS,
    PLURALS,
    SINGULAR_S,
    VEHICLES,
)
from carvid.config import PhrasesConfig

STILL = 0.048
"""Speed, in picture widths a second, at which a thing is half still."""
MOVING = 0.096
"""Speed, likewise, at which a direction is half sure."""
_WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_WAY_NAMES = {"top": "up", "upper": "up", "bottom": "down", "lower": "down"}
_SIDE_NAMES = {"upper": "top", "lower": "bottom"}
_OPPOSITE = {"left": "right", "right": "left"}
_AXES = {
    "nth": "side", "still": "motion", "back": "front", "smallest": "biggest",
}  # fmt: skip
_NOT = r"(?:\b(?:not|never|nor|neither|except|excluding|instead|rather|unlike|cannot)\b|n['’]t\b)"
_PLACES = "left|right|top|bottom|middle|center|centre|front|back|side|corner|moving"
LONGEST = 500
"""Characters: a longer expression stays whole; CLIP reads 77 tokens."""


@dataclass(frozen=True)
class Wish:
    """One constraint on place, size or motion."""

    kind: str
    """`side`, `middle`, `nth`, `motion`, `still`, `front`, `back`, `biggest` or `smallest`."""
    to: str = ""
    """left, right, top, bottom (up and down, for motions)."""
    nth: int = 0
    """Place in the row, counted from the side `to`, from 1."""

    def __str__(self) -> str:
        if self.kind == "nth":
            return f"{COUNT[self.nth - 1]} from the {self.to}"
        if self.kind == "motion":
            return f"moving {self.to}"
        return {
            "side": f"on the {self.to}", "middle": "in the middle", "still": "standing still",
            "front": "in front", "back": "in the back", "biggest": "the biggest",
            "smallest": "the smallest",
        }[self.kind]  # fmt: skip


@dataclass(frozen=True)
class Phrase:
    """An expression, understood."""

    expression: str
    """As the user wrote it."""
    text: str
    """What CLIP looks for: the expression without the words of the wishes."""
    wishes: tuple[Wish, ...] = ()
    """Wishes about place, size and motion, in the order of the words."""

    @property
    def of_motion(self) -> bool:
        """Whether a wish is about motion, which one frame alone cannot show."""
        return any(wish.kind in ("motion", "still") for wish in self.wishes)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping."""
        return {
            "expression": self.expression, "text": self.text,
            "chosen_by": [str(wish) for wish in self.wishes],
        }  # fmt: skip

    def __str__(self) -> str:
        if not self.wishes:
            return f'"{self.expression}": CLIP looks for it as it stands'
        wishes = ", ".join(str(wish) for wish in self.wishes)
        return f'"{self.expression}": CLIP looks for "{self.text}"; chosen by: {wishes}'


@lru_cache(maxsize=4096)
def parse(expression: str) -> Phrase:
    """Split an expression into what CLIP looks for, and wishes about place, size and motion.

    Words are taken out only where the rest still says what was meant; in doubt all of them stay.
    """
    if len(expression) > LONGEST:
        return Phrase(expression, expression)
    rest, wishes = " ".join(expression.split()), list[Wish]()
    while found := _first_match(rest):
        rule, match = found
        wishes += _wishes_of(rule.kind, match)
        kept = _words_kept(match)
        gap = "" if rule.where in ("noun", "thing") else TAKEN
        rest = f"{rest[: match.start()]}{kept} {gap} {rest[match.end() :]}"
        rest = re.sub(r" +", " ", rest).strip(" ")
    if not wishes or not _is_sensible(rest, wishes := list(dict.fromkeys(wishes))):
        return Phrase(expression, expression)
    return Phrase(expression, _tidy(rest), tuple(wishes))


def understand(expression: str, config: PhrasesConfig) -> Phrase:
    """Return `parse(expression)`; the expression as it stands, if `phrases.enabled` is off."""
    return parse(expression) if config.enabled else Phrase(expression, expression)


def _tidy(text: str) -> str:
    """What is left of an expression, without gaps and doubled commas."""
    text = re.sub(r"\(\s*\)", "", " ".join(text.split()))
    return re.sub(r"(?:\s*[,.;:])*\s*([,.;:!?)])", r"\1", text).strip(" ,.;:!?")


def _first_match(text: str) -> tuple[Rule, re.Match[str]] | None:
    for rule in RULES:
        for match in re.finditer(rule.pattern, text, re.IGNORECASE):
            if fits(rule, match):
                return rule, match
    return None


def _wishes_of(kind: str, match: re.Match[str]) -> list[Wish]:
    groups = {key: (value or "").lower() for key, value in match.groupdict().items()}
    to = groups.get("to", "") or _OPPOSITE.get(groups.get("start", ""), "")
    if kind == "nth":
        word = groups.get("nth", "first")
        return [Wish("nth", to, int(word[:-2]) if word[0].isdigit() else COUNT.index(word) + 1)]
    names = _WAY_NAMES if kind == "motion" else _SIDE_NAMES
    return [Wish(kind, names.get(each, each)) for each in (groups.get("row", ""), to) if each] or [
        Wish(kind)
    ]


def _words_kept(match: re.Match[str]) -> str:
    """The words of a match that stay in the text for CLIP: its noun, or a verb with a meaning."""
    groups = match.groupdict()
    verb = groups.get("verb") or ""
    said = "" if set(verb.lower().split()) & BARE_VERBS else verb
    rest, noun = groups.get("rest") or "", (groups.get("noun") or "").lstrip()
    if rest.lower() in ("a ", "an "):  # it was chosen for the word that is taken out
        vowel = re.match(r"\s*[aeiou]", match.string[match.end() :], re.IGNORECASE)
        rest = rest[0] + ("n " if vowel else " ")
    return rest + noun + said


def _is_sensible(rest: str, wishes: Sequence[Wish]) -> bool:
    """Whether the rest of an expression names one thing, and wishes and rest keep its meaning."""
    lower = rest.lower()
    head = [word for word in noun_phrase(lower.lstrip(TAKEN + " ,")) if word not in ARTICLES]
    words = set(re.findall(r"[^\W\d_]+", lower))
    return bool(
        head
        and words - NAMELESS - LOOKS
        and not _is_plural(head)
        and not _contradict(wishes)
        and not _names_several(lower)
        and not re.search(rf"{_NOT}.*{TAKEN}", lower, re.DOTALL)
        and not re.search(rf"{_NOT}.*\b(?:{_PLACES})\b", lower, re.DOTALL)
    )


def _is_plural(head: Sequence[str]) -> bool:
    """Whether the first noun is plural, counted, or one of a row: wishes choose one thing."""
    if {"last", "next", *COUNT} & set(head) or NUMBERS & set(head[:2]) or head[0].isdigit():
        return True
    noun = head[-1]
    if noun in PLURALS or re.search(r"(?:wo|fire|police|sports?|crafts?|cow)men$", noun):
        return True
    ends = noun.endswith("s") and not noun.endswith(("ss", "us", "'s", "’s"))
    return ends and noun not in SINGULAR_S


def _contradict(wishes: Sequence[Wish]) -> bool:
    """Whether no single thing can fulfil all of the wishes."""
    axes = [(_AXES.get(wish.kind, wish.kind), wish.to in ("left", "right")) for wish in wishes]
    return len(set(axes)) < len(axes)


def _names_several(text: str) -> bool:
    """Whether several things are asked for, as in "the dog and the cat", "dog and cat"."""
    for match in re.finditer(r"\b(?:and|or)\b\s*(?:(an?|the|another|one)\s+)?", text):
        before, after = text[: match.start()].split(), noun_phrase(text[match.end() :])
        if not after:  # "and holding a bag", or nothing
            if not re.match(r"\w+ing\b", text[match.end() :]):
                return True
            continue
        of_the_first = len(noun_phrase(" ".join(before))) == len(before)
        looks = match[1] is None and {*before[-1:]} <= LOOKS  # "black and white"
        beings = after[-1] in BEINGS | VEHICLES
        if not looks and (of_the_first or match[1] == "the" or beings):
            return True
    return False


def rate_wishes(
    wishes: Sequence[Wish], masks: NDArray[np.bool_], flow: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return how well each of C masks fulfils wishes.

    Args:
        wishes: at least one.
        masks: bool (C, H, W), none of them empty.
        flow: float32 (h, w, 2): motion, (x, y) in pixels of its own size a second; the median, the
            camera's motion, is subtracted. None if it is not known: then nothing moves.

    Returns:
        float32 (C,) in [0, 1], the mean over the wishes.
    """
    boxes = np.array([cv2.boundingRect(mask.astype(np.uint8)) for mask in masks], np.float32)
    values = [_rate_wish(wish, masks, boxes, flow) for wish in wishes]
    return np.asarray(np.mean(values, axis=0), np.float32)


def _rate_wish(
    wish: Wish,
    masks: NDArray[np.bool_],
    boxes: NDArray[np.float32],
    flow: NDArray[np.float32] | None,
) -> NDArray[Any]:
    """How well each mask fulfils one wish, (C,) in [0, 1]; boxes are float32 (C, 4), x, y, width,
    height."""
    height, width = masks.shape[1:]
    x = (boxes[:, 0] + boxes[:, 2] / 2) / width
    y = (boxes[:, 1] + boxes[:, 3] / 2) / height
    bottom = (boxes[:, 1] + boxes[:, 3]) / height  # on the ground, nearer is lower
    areas = masks.sum(axis=(1, 2))
    along = {"left": 1 - x, "right": x, "top": 1 - y, "bottom": y}
    values: dict[str, Callable[[], NDArray[Any]]] = {
        "side": lambda: along[wish.to],
        "middle": lambda: 1 - np.hypot(x - 0.5, y - 0.5),
        "nth": lambda: _in_row(along[wish.to], masks, wish.nth),
        "front": lambda: bottom,
        "back": lambda: 1 - bottom,
        "biggest": lambda: areas / areas.max(),
        "smallest": lambda: areas.min() / areas,
        "still": lambda: 1 / (1 + np.square(np.hypot(*_speeds(masks, flow).T) / STILL)),
        "motion": lambda: 1 / (1 + np.exp(-(_speeds(masks, flow) @ _WAYS[wish.to]) / MOVING)),
    }
    return values[wish.kind]()


def _in_row(along: NDArray[np.float32], masks: NDArray[np.bool_], nth: int) -> NDArray[np.float32]:
    """1 for the masks of the `nth` thing in the order of `along`, the largest first, else 0.

    Masks whose IoU is above `SAME_IOU` are one thing.
    """
    things: list[list[int]] = []
    for index in np.argsort(-along, kind="stable").tolist():
        home = next((t for t in things if iou(masks[t[0]], masks[index]) > SAME_IOU), None)
        if home is None:
            things.append([index])
        else:
            home.append(index)
    chosen = np.zeros(len(masks), np.float32)
    if nth <= len(things):
        chosen[things[nth - 1]] = 1
    return chosen


def _speeds(masks: NDArray[np.bool_], flow: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Median motion within each mask, less the whole picture's: float32 (C, 2), (x, y) in picture
    widths a second."""
    if flow is None:
        return np.zeros((len(masks), 2), np.float32)
    height, width = flow.shape[:2]
    moved = (flow - np.median(flow.reshape(-1, 2), axis=0)) / width
    speeds = np.zeros((len(masks), 2), np.float32)
    for speed, mask in zip(speeds, masks, strict=True):
        small = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) > 0
        if small.any():
            speed[:] = np.median(moved[small], axis=0)
    return speeds
