"""Corrections: what a user says of a frame, as data. Without torch.

A file of them is JSON, a list of entries such as

    {"frame": 120, "expression": "the dog", "point": [350, 210], "answer": "yes"}
    {"frame": 120, "box": [300, 180, 420, 260]}

`expression` is a text of the run or its label, from 1, and may be left out where there is one;
`answer` is `yes` unless it is said.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

from carvid.base.errors import ConfigError, suggest
from carvid.base.files import read_json

KEYS = ("frame", "expression", "point", "box", "answer")
ANSWERS = {"yes": True, "no": False}
LARGEST = 10**9
"""No number of a correction is larger: no clip has so many frames, or pixels in a row."""
NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
CLICK = re.compile(
    rf"\s*(\d{{1,10}})\s*:{NUMBER},{NUMBER}(?:,{NUMBER},{NUMBER})?(?::\s*(yes|no)\s*)?(?::\s*(\S.*?)\s*)?"
)
"""FRAME:X,Y or FRAME:LEFT,TOP,RIGHT,BOTTOM, then :yes or :no, then :EXPRESSION."""
MAX_FILE_BYTES = 10_000_000
"""Longer files of corrections are not read."""


@dataclass(frozen=True)
class Correction:
    """What a user says of one frame: here is the thing, or this is not it.

    Raises:
        ConfigError: it is neither a point nor a box, or one that cannot be.
    """

    frame: int
    """The frame's index in the run, from 0."""
    label: int
    """The expression's label, from 1."""
    wanted: bool = True
    """Whether what is there is the thing that the expression names."""
    point: tuple[float, float] | None = None
    """x and y, pixels of the run's frames, from the left and the top."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom of the thing, pixels of the run's frames."""

    def __post_init__(self) -> None:
        if (self.point is None) == (self.box is None):
            raise ConfigError("a correction is a point, or a box")
        for name, place, count in (("point", self.point, 2), ("box", self.box, 4)):
            if place is not None:
                object.__setattr__(self, name, _place(place, count))
        for name, value, least in (("frame", self.frame, 0), ("label", self.label, 1)):
            if not (_is_number(value) and isinstance(value, numbers.Integral) and value >= least):
                raise ConfigError(
                    f"a correction's {name} must be {least} or more, got {_shown(value)}"
                )
            object.__setattr__(self, name, int(value))
        if not isinstance(self.wanted, bool):
            raise ConfigError(f"wanted is True or False, got {_shown(self.wanted)}")
        if self.box is not None:
            left, top, right, bottom = self.box
            if right <= left or bottom <= top:
                raise ConfigError(f"a box is left, top, right, bottom; got {list(self.box)}")
            if not self.wanted:
                raise ConfigError("a box says where the thing is; what it is not, a point says")

    def check(self, size_hw: tuple[int, int], frames: int, labels: int) -> None:
        """Check that it can be said of a run.

        Raises:
            ConfigError: there is no such frame or label, or it lies outside of the picture.
        """
        if self.frame >= frames:
            raise ConfigError(
                f"there is no frame {self.frame} to correct; the last is {frames - 1}"
            )
        check_label(self.label, labels)
        height, width = size_hw
        place: tuple[float, ...] = self.point or self.box or ()
        right, bottom = place[-2:]
        if self.box is not None:
            inside = right <= width and bottom <= height
        else:
            inside = right < width and bottom < height
        if not inside or min(place) < 0:
            where = ", ".join(f"{number:g}" for number in place)
            raise ConfigError(
                f"{where} lies outside of the picture, which is {width}×{height} pixels"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, with the label as its expression."""
        place = {"point": list(self.point)} if self.point else {"box": list(self.box or ())}
        answer = "yes" if self.wanted else "no"
        return {"frame": self.frame, "expression": self.label, **place, "answer": answer}


def check_label(label: int, labels: int) -> None:
    """Check that a label is one of those, from 1, of a run that has so many.

    Raises:
        ConfigError: it is none.
    """
    if not 1 <= label <= labels:
        raise ConfigError(f"there is no label {_shown(label)} to correct; there are {labels}")


def correction_of(values: Any, texts: Sequence[str]) -> Correction:
    """Return a correction as JSON has it, of a run with these expressions.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(values, dict) or "frame" not in values:
        raise ConfigError(f"a correction is a mapping with a frame, got {_shown(values)}")
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"a correction has no {_shown(key)}{suggest(str(key), KEYS)}")
    answer = values.get("answer", "yes")
    if not isinstance(answer, str) or answer not in ANSWERS:
        raise ConfigError(f"a correction's answer is yes or no, got {_shown(answer)}")
    point, box = (_numbers(values.get(key), key) for key in ("point", "box"))
    return Correction(
        frame=values["frame"], label=_label_of(values.get("expression"), texts),
        wanted=ANSWERS[answer], point=point, box=box,  # type: ignore[arg-type]
    )  # fmt: skip


def read_corrections(path: str | Path, texts: Sequence[str]) -> list[Correction]:
    """Read a JSON file of corrections of a run with these expressions.

    Raises:
        ConfigError: there is no such file, or something else is in it.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"'{path}' is too large for a file of corrections")
        entries = read_json(path, encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read corrections from '{path}': {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"'{path}' is no JSON; give a list of corrections") from None
    if not isinstance(entries, list):
        raise ConfigError(f"'{path}' holds no list of corrections")
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(correction_of(entry, texts))
        except ConfigError as error:
            raise ConfigError(f"'{path}', entry {number}: {error}") from None
    return found


def parse_click(text: str, texts: Sequence[str]) -> Correction:
    """Return what `--click` says: `120:350,210`, `120:400,80:no`, `120:400,80:no:the dog`.

    Raises:
        ConfigError: it says something else.
    """
    found = CLICK.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"a click is FRAME:X,Y, perhaps with :no and :EXPRESSION after it, got {_shown(text)}"
        )
    frame, *numbers, answer, expression = found.groups()
    place = [float(number) for number in numbers if number is not None]
    values = {"frame": int(frame), "point" if len(place) == 2 else "box": place}
    if answer is not None:
        values["answer"] = answer
    if expression is not None:
        values["expression"] = expression
    return correction_of(values, texts)


def in_json(corrections: Iterable[Correction]) -> list[dict[str, Any]]:
    """Return corrections as a run.json has them."""
    return [each.to_dict() for each in corrections]


def _label_of(expression: Any, texts: Sequence[str]) -> int:
    if expression is None:
        if len(texts) == 1:
            return 1
        raise ConfigError(f"say which of the {len(texts)} expressions is corrected")
    if isinstance(expression, str) and expression in texts:
        return texts.index(expression) + 1
    label = expression
    if isinstance(expression, str) and expression.isdecimal() and len(expression) < 10:
        label = int(expression)
    if isinstance(label, int) and not isinstance(label, bool):
        check_label(label, len(texts))
        return label
    hint = suggest(expression, list(texts)) if isinstance(expression, str) else ""
    raise ConfigError(f"there is no expression {_shown(expression)} to correct{hint}")


def _numbers(values: Any, name: str) -> tuple[float, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list | tuple) or not all(map(_is_number, values)):
        raise ConfigError(f"a correction's {name} is a list of numbers, got {_shown(values)}")
    return tuple(values)


def _place(values: Any, count: int) -> tuple[float, ...]:
    """The numbers of a point or a box, of Python's own types."""
    try:
        place = tuple(values)
    except TypeError:
        place = ()
    if len(place) != count or not all(map(_is_number, place)):
        raise ConfigError(
            f"a point is x, y and a box is left, top, right, bottom; got {_shown(values)}"
        )
    return tuple(map(float, place))


def _is_number(value: Any) -> bool:
    """Whether it is a number, also one of NumPy, that is neither huge nor NaN."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_real and abs(value) <= LARGEST


def _shown(value: Any) -> str:
    """What somebody gave, in a line that is not long, whatever it is."""
    short = Repr()
    short.maxstring = short.maxother = 60
    try:
        return " ".join(short.repr(value).split())
    except ValueError:  # Python writes no number of thousands of digits
        return "a huge number"
