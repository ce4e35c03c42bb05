"""Words that CLIP does not understand, but time and place do: "left", "biggest", "moving up".

`parse` splits an expression into what CLIP shall look for and wishes about place, size and motion;
`grant` says how well masks fulfil the wishes. Relations between things ("left of the car", "in
front of the house") and sides of a thing's own ("his left hand") are left to CLIP, as they stand.
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

from carvid.config import PhrasesConfig

_PICTURE = r"(?:picture|image|frame|video|screen|scene|view)"
_ALONE = rf"(?:\s+of\s+the\s+{_PICTURE}\b)?(?!\s+of\b)"
"""Ends a place: what follows must not make it a relation to another thing."""
_PLACE = r"(?:on|at|in|(?<!ing )to)\s+the\s+(?:very\s+|far\s+)?"
"""Begins a place; "looking to the left" is none."""
_DOING = (
    r"(?:(?:which|that|who)\s+(?:is|are)\s+)?"
    r"(?P<verb>moving|going|heading|coming|travell?ing|running|walking|driving|riding|flying|"
    r"swimming|jumping|hopping|rolling|sliding|drifting|racing|climbing|rising|falling)"
)
"""Verbs that take a thing from place to place."""
_OWN = r"(?:hand|arm|leg|foot|eye|ear|side|shoulder|shoe|wheel|paw|wing|door|lane|turn|half|one's)"
_HEAD = r"^(?P<rest>(?:(?:the|a|an)\s+)?)"
"""Further inside, "the biggest" may be said of another thing."""
_COUNT = ("first", "second", "third", "fourth", "fifth")
_ORDINAL = r"(?P<nth>first|second|third|fourth|fifth|1st|2nd|3rd|4th|5th)"

_RULES: tuple[tuple[str, str], ...] = (
    ("motion", rf"\b{_DOING}\s+(?:to|towards?)\s+the\s+(?P<to>left|right)\b{_ALONE}"),
    ("motion", rf"\b{_DOING}\s+(?P<to>left|right|up|down)(?:wards?)?\b(?!\s+(?:the|a|an)\b)"),
    ("still", r"\b(?:which|that|who)\s+(?:does\s+not|doesn't|is\s+not|isn't)\s+mov(?:e|ing)\b"),
    ("still", r"\b(?:standing|sitting|lying|staying|keeping)\s+still\b"),
    ("still", r"\b(?:not\s+moving|motionless|stationary|unmoving)\b"),
    ("nth", rf"\b{_ORDINAL}\b(?P<rest>.*?)\s*\bfrom\s+(?:the\s+)?(?P<to>left|right|top|bottom)\b"),
    ("nth", r"\b(?P<to>left|right|top|bottom)-?most\b"),
    ("middle", rf"\b{_PLACE}(?:middle|cent(?:er|re))\b{_ALONE}"),
    ("corner", rf"\b{_PLACE}(?P<row>top|upper|bottom|lower)[\s-]+(?P<to>left|right)"
               rf"(?:\s+corner)?\b{_ALONE}"),
    ("side", rf"\b{_PLACE}(?P<to>left|right|top|bottom)(?:-?hand)?"
             rf"(?:\s+(?:side|edge|half))?\b{_ALONE}"),
    ("side", rf"(?<=\bthe\s)(?P<to>left|right)(?:-?hand)?\b(?!\s+(?:{_OWN}|of)\b)(?=\s+\w)"),
    ("front", r"\bin\s+(?:the\s+)?(?:front|foreground)\b(?!\s+of\b)"),
    ("front", r"\b(?:closest|nearest)(?:\s+to\s+the\s+(?:camera|viewer))?\b"),
    ("back", r"\bin\s+the\s+(?:back|background)\b(?!\s+of\b)"),
    ("back", r"\b(?:farthest|furthest)(?:\s+(?:away\s+)?from\s+the\s+(?:camera|viewer))?\b"),
    ("biggest", rf"{_HEAD}(?:biggest|bigger|largest|larger)\b"),
    ("smallest", rf"{_HEAD}(?:smallest|smaller)\b"),
)  # fmt: skip
"""Kind of wish, and the words that ask for it; what a rule takes, later ones do not see."""

_NAMELESS = {"the", "a", "an", "one", "thing", "object", "that", "is", "which", "who"}
"""Words that name nothing: an expression of them alone stays as it is."""
_BARE_MOTION = {"moving", "going", "heading", "coming", "travelling", "traveling"}
"""Verbs that say nothing but the motion."""
STILL = 0.048
"""Speed, in picture widths a second, at which a thing is half still."""
MOVING = 0.096
"""Speed, likewise, at which a direction is half sure."""
_WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SAME = 0.5
"""Masks that overlap by more (IoU) are one thing, where things are counted."""


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
            return f"{_COUNT[self.nth - 1]} from the {self.to}"
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
    """What CLIP looks for."""
    wishes: tuple[Wish, ...] = ()
    """What else is asked."""

    @property
    def of_motion(self) -> bool:
        """Whether one frame alone cannot tell."""
        return any(wish.kind in ("motion", "still") for wish in self.wishes)

    def __str__(self) -> str:
        if not self.wishes:
            return f'"{self.expression}": CLIP looks for it as it stands'
        wishes = ", ".join(str(wish) for wish in self.wishes)
        return f'"{self.expression}": CLIP looks for "{self.text}"; chosen by: {wishes}'


@lru_cache(maxsize=4096)
def parse(expression: str) -> Phrase:
    """Split an expression into what CLIP looks for, and wishes about place, size and motion."""
    rest, wishes = " ".join(expression.split()), []
    for kind, pattern in _RULES:
        while match := re.search(pattern, rest, re.IGNORECASE):
            wishes += _wishes(kind, match)
            rest = " ".join(
                f"{rest[: match.start()]} {_left_over(match)} {rest[match.end() :]}".split()
            )
    rest = re.sub(r"\s+([,.;])", r"\1", rest).strip(" ,.;")
    if not wishes or not set(re.findall(r"[a-z]+", rest.lower())) - _NAMELESS:
        return Phrase(expression, expression)
    return Phrase(expression, rest, tuple(dict.fromkeys(wishes)))


def understand(expression: str, config: PhrasesConfig) -> Phrase:
    """Return what an expression asks, as the settings have it."""
    return parse(expression) if config.enabled else Phrase(expression, expression)


def _wishes(kind: str, match: re.Match[str]) -> list[Wish]:
    groups = {key: (value or "").lower() for key, value in match.groupdict().items()}
    to = groups.get("to", "")
    if kind == "nth":
        word = groups.get("nth", "first")
        nth = int(word[0]) if word[0].isdigit() else _COUNT.index(word) + 1
        return [Wish("nth", to, nth)]
    if kind == "corner":
        row = "top" if groups["row"] in ("top", "upper") else "bottom"
        return [Wish("side", row), Wish("side", to)]
    return [Wish(kind, to)]


def _left_over(match: re.Match[str]) -> str:
    """What of a match is still for CLIP: the noun within it, or a verb that says more."""
    groups = match.groupdict()
    verb = groups.get("verb") or ""
    return groups.get("rest") or ("" if verb.lower() in _BARE_MOTION else verb)


def grant(
    wishes: Sequence[Wish], masks: NDArray[np.bool_], flow: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Say how well masks fulfil wishes.

    Args:
        wishes: at least one.
        masks: bool (C, H, W), none of them empty.
        flow: float32 (h, w, 2), pixels a second: how fast each pixel has moved (x, y) since the
            frame before; the camera's part, the median, is taken away. None where it is not known:
            then nothing seems to move.

    Returns:
        float32 (C,) in [0, 1], the mean over the wishes.
    """
    boxes = np.array([cv2.boundingRect(mask.astype(np.uint8)) for mask in masks], np.float32)
    values = [_grant_one(wish, masks, boxes, flow) for wish in wishes]
    return np.asarray(np.mean(values, axis=0), np.float32)


def _grant_one(
    wish: Wish,
    masks: NDArray[np.bool_],
    boxes: NDArray[np.float32],
    flow: NDArray[np.float32] | None,
) -> NDArray[Any]:
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
    """1 for the masks of the `nth` thing in the order of `along`, the largest first, else 0."""
    things: list[list[int]] = []
    for index in np.argsort(-along, kind="stable").tolist():
        home = next((t for t in things if _overlap(masks[t[0]], masks[index]) > SAME), None)
        if home is None:
            things.append([index])
        else:
            home.append(index)
    chosen = np.zeros(len(masks), np.float32)
    if nth <= len(things):
        chosen[things[nth - 1]] = 1
    return chosen


def _speeds(masks: NDArray[np.bool_], flow: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Median motion of each mask, float32 (C, 2), picture widths a second, without the camera's."""
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


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))
