"""What is looked for: each thing's text, the name that is shown for it, and its colour."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from carvid.base.errors import ConfigError, ExpressionError
from carvid.base.palette import Color, color_of
from carvid.car.queries import in_one_line

MAX_LETTERS = 300
"""Of an expression or a name; CLIP takes some 75 words."""


@dataclass(frozen=True)
class Thing:
    """One thing that somebody looks for."""

    text: str
    """The expression that is asked for."""
    name: str
    """What is shown for it: in labels, tables and exports."""
    color: Color
    """RGB, 0 to 255."""
    label: int = 0
    """Its label in the run that there is, from 1; 0 if that was not asked for it."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping; the colour as `#rrggbb`."""
        return {"text": self.text, "name": self.name, "color": hex_of(self.color),
                "label": self.label}  # fmt: skip


def hex_of(color: Color) -> str:
    """Return a colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def color_from(text: str) -> Color:
    """Read `#rrggbb`.

    Raises:
        ConfigError: it is something else.
    """
    form = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", str(text))
    if form is None:
        raise ConfigError(f"cannot read the colour '{str(text)[:40]}'; write #ff8000")
    return (int(form[1], 16), int(form[2], 16), int(form[3], 16))


def one_line(text: object, what: str) -> str:
    """Return a text as people mean it, in one line.

    Raises:
        ExpressionError: it is empty, or longer than `MAX_LETTERS`.
    """
    line = in_one_line(str(text))
    if not line:
        raise ExpressionError(f"the {what} is empty; write what you see, as 'the white dog'")
    if len(line) > MAX_LETTERS:
        raise ExpressionError(
            f"the {what} has {len(line)} letters; write it with {MAX_LETTERS} or fewer"
        )
    return line


class Things:
    """The things of one clip, in their order.

    Args:
        most: there can be so many.
        palette: of `carvid.base.palette`; new things have its colours by turns.
    """

    def __init__(self, most: int, palette: str = "vivid") -> None:
        self.all: list[Thing] = []
        self._most, self._palette = most, palette
        self._made = 0

    @property
    def texts(self) -> list[str]:
        """What is asked for, each once."""
        return list(dict.fromkeys(thing.text for thing in self.all))

    def add(self, text: str) -> Thing:
        """Add a thing that is not looked for yet.

        Raises:
            ExpressionError: it is empty, too long, there already, or there are too many.
        """
        text = one_line(text, "expression")
        if text in self.texts:
            raise ExpressionError(f"'{text}' is in the list already")
        if len(self.all) >= self._most:
            raise ExpressionError(f"there are {self._most} things already; remove one first")
        name = self._free(text)
        thing = Thing(text, name, color_of(self._made, self._palette))
        self._made += 1
        self.all.append(thing)
        return thing

    def set(self, texts: Iterable[str]) -> None:
        """Look for these and no others; those that were there keep names and colours.

        Raises:
            ExpressionError: as `add`.
        """
        before, self.all = self.all, []
        known = {thing.text: thing for thing in before}
        try:
            for text in texts:
                if (thing := known.get(one_line(text, "expression"))) and thing not in self.all:
                    self.all.append(thing)
                else:
                    self.add(text)
        except ExpressionError:
            self.all = before
            raise

    def rename(self, place: int, name: str) -> None:
        """Show another name for thing `place`, from 0; what is asked for stays.

        Raises:
            ExpressionError: it is empty, too long, or another thing's.
        """
        thing, name = self[place], one_line(name, "name")
        if any(name == other.name for other in self.all if other is not thing):
            raise ExpressionError(f"another thing is called '{name}'; choose another name")
        self.all[place] = replace(thing, name=name)

    def paint(self, place: int, color: str) -> None:
        """Give thing `place`, from 0, the colour `#rrggbb`.

        Raises:
            ConfigError: it is no colour.
        """
        self.all[place] = replace(self[place], color=color_from(color))

    def remove(self, place: int) -> None:
        """Look for thing `place`, from 0, no longer.

        Raises:
            ConfigError: there is none.
        """
        self.all.remove(self[place])

    def asked(self, texts: Sequence[str], owners: Sequence[str] | None = None) -> None:
        """Take note of what the run that there is was asked for.

        Args:
            texts: text k, from 1, is label k.
            owners: the expression of each label, where it is another: of several things of one
                kind each has a label, and then a place in the list.
        """
        labels: dict[str, list[int]] = {}
        for label, owner in enumerate(owners or texts, 1):
            labels.setdefault(owner, []).append(label)
        rows: list[Thing] = []
        for text in self.texts:
            mine, known = [each for each in self.all if each.text == text], labels.get(text, [0])
            for place, label in enumerate(known):
                rows.append(self._row(mine, place, label, texts[label - 1] if label else text,
                                      same=len(mine) == len(known)))  # fmt: skip
        self.all = rows

    def _row(
        self, mine: Sequence[Thing], place: int, label: int, name: str, *, same: bool
    ) -> Thing:
        """The thing of a label, of those of its expression that were there before."""
        if place < len(mine):
            thing = replace(mine[place], label=label)
            return thing if same else replace(thing, name=name)
        self._made += 1
        return Thing(mine[0].text, name, color_of(self._made - 1, self._palette), label)

    def __getitem__(self, place: int) -> Thing:
        if not isinstance(place, int) or not 0 <= place < len(self.all):
            raise ConfigError(f"there is no thing {place!r}; load the page again")
        return self.all[place]

    def _free(self, name: str) -> str:
        names = {thing.name for thing in self.all}
        return next(
            each for each in (name, *(f"{name} {n}" for n in range(2, len(names) + 3)))
            if each not in names
        )  # fmt: skip
