"""The classes of a semantic segmentation, as somebody lists them in a text file.

    dog                        a class a line
    cat: kitten, tomcat        a colon, and further words for the same class
    stuff: sky                 this class is stuff, without a shape of its own
    stuff: sea: ocean, water   so is this one, with further words
    stuff:                     alone in its line: those below are stuff ...
    things:                    ... and those below this one are things again
    # a comment                a line, or the end of one after a space

UTF-8; empty lines and spaces around words mean nothing. Commas part synonyms and nothing else, so
that a list in one line is a mistake: `stuff: sky, sea` could be two classes or one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from carvid.base.errors import ConfigError
from carvid.base.files import read_text
from carvid.base.names import existing
from carvid.car.competitors import normal
from carvid.car.queries import MOST_TEXTS, NO_TEXT, Queries
from carvid.config import Config, load_config

CLASS_SETTINGS = ("car.mode=semantic", "phrases.enabled=false", "overlay.labels=false")
"""What classes need: they compete, are words by themselves, and have a legend."""
KINDS = {"stuff": True, "things": False}
"""The words before a colon that are no class: whether what follows is stuff."""
LINE_END = re.compile(r"\r\n|\r|\n")
COMMENT = re.compile(r"(?:^|\s)#.*")
MAX_BYTES = 1_000_000
"""Longer files are no lists of classes."""
MAX_LETTERS = 200
"""Of a name or a synonym; CLIP reads 77 tokens, a word each or less."""
MOST_FAULTS = 5
"""Faults that a message lists."""

Fault = tuple[int, str]
"""A line's number, from 1, and what is wrong with it and how to mend that."""


@dataclass(frozen=True)
class Classes:
    """The classes of a semantic segmentation; each pixel gets one of them, or none.

    Raises:
        ConfigError: there is none, there are too many, or two that are called the same.
        ValueError: `synonyms` has another length than `names`, or `stuff` names no class.
    """

    names: tuple[str, ...]
    """N names; class k, from 1, is label k."""
    synonyms: tuple[tuple[str, ...], ...] = ()
    """Further words of each class, N entries that may be empty; none at all are N empty ones."""
    stuff: frozenset[str] = frozenset()
    """Which of the names are stuff (sky, grass); the others are things, which cover it."""

    def __post_init__(self) -> None:
        if not self.names:
            raise ConfigError("no class is given; name at least one")
        if len(self.names) > MOST_TEXTS:
            raise ConfigError(_too_many(len(self.names)))
        object.__setattr__(self, "names", tuple(self.names))
        words = tuple(map(tuple, self.synonyms)) or ((),) * len(self.names)
        object.__setattr__(self, "synonyms", words)
        object.__setattr__(self, "stuff", frozenset(self.stuff))
        if len(words) != len(self.names):
            raise ValueError(f"synonyms must have {len(self.names)} entries, got {len(words)}")
        if unknown := self.stuff.difference(self.names):
            raise ValueError(f"stuff names {sorted(unknown)}, which are none of the names")
        seen: set[str] = set()
        for word in (word for pair in zip(self.names, words, strict=True) for word in _all(*pair)):
            if _key(word) in seen:
                raise ConfigError(f"'{word}' is given twice among the classes; leave one away")
            seen.add(_key(word))

    def queries(self, distractors: str | Iterable[str] | None = ()) -> Queries:
        """Return what is asked of a frame: the names, with their synonyms.

        Args:
            distractors: texts that compete but get no label.

        Raises:
            ExpressionError: a text is empty or holds control characters.
        """
        others = Queries.of(self.names, distractors).distractors
        return Queries(self.names, others, stuff=self.stuff, synonyms=self.synonyms)


Texts: TypeAlias = str | Iterable[str] | Classes | Queries
"""One expression, or several; classes; or queries, which have distractors of their own."""


def queries_of(texts: Texts, distractors: str | Iterable[str] | None = ()) -> Queries:
    """Return what a caller asks.

    Raises:
        ExpressionError: a text is empty or holds control characters.
        ValueError: as `Queries.of`.
    """
    if isinstance(texts, Classes):
        return texts.queries(distractors)
    return Queries.of(texts, distractors)


def config_for(texts: Texts, config: Config) -> Config:
    """Return the settings with which texts are asked for: those that are given, or, of classes and
    in another mode than `semantic`, with `CLASS_SETTINGS` over them."""
    if not isinstance(texts, Classes) or config.car.mode == "semantic":
        return config
    return load_config(config, CLASS_SETTINGS)


@dataclass(frozen=True)
class _Entry:
    """A class, as a line says it."""

    line: int
    name: str
    synonyms: tuple[str, ...]
    is_stuff: bool


def read_classes(path: str | Path) -> Classes:
    """Read a file that lists classes (see the module).

    Raises:
        ConfigError: it cannot be read, or not understood; the message names lines and remedies.
    """
    path = existing(path)
    faults: list[Fault] = []
    entries = list(_entries(_text_of(path), faults))
    faults += _duplicates(entries)
    if len(entries) > MOST_TEXTS:
        faults.append((entries[MOST_TEXTS].line, _too_many(len(entries))))
    if faults:
        raise _unusable(path, faults)
    if not entries:
        raise ConfigError(f"'{path}' names no class; write one a line")
    return Classes(
        tuple(entry.name for entry in entries),
        tuple(entry.synonyms for entry in entries),
        frozenset(entry.name for entry in entries if entry.is_stuff),
    )


def _text_of(path: Path) -> str:
    try:
        text = read_text(path, limit=MAX_BYTES, encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"cannot read the classes in '{path}': {error.strerror}; give a text file"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"'{path}' is not UTF-8 in line {line}; save the classes as text in UTF-8"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"'{path}' is no list of classes: {error}; give a text file with a class a line"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigError(
            f"'{path}' is no text: line {line} holds zeros; save the classes as text in UTF-8"
        )
    return text


def _entries(text: str, faults: list[Fault]) -> Iterator[_Entry]:
    """The classes of a text; what is wrong with its lines is added to `faults`."""
    below_is_stuff = False
    for line, written in enumerate(LINE_END.split(text), 1):
        said = COMMENT.sub("", written).strip()
        if not said:
            continue
        head, colon, rest = _parted(said)
        is_stuff = below_is_stuff
        if head.casefold() in KINDS:
            if not colon:
                faults.append((line, f"'{said}' is no class; write '{said}:' above its classes"))
                continue
            is_stuff = KINDS[head.casefold()]
            if not rest:
                below_is_stuff = is_stuff
                continue
            head, colon, rest = _parted(rest)
        synonyms = tuple(_one_space(word) for word in rest.split(",")) if colon else ()
        fault = _fault(said, head, rest if colon else None, synonyms)
        if fault is not None:
            faults.append((line, fault))
            continue
        yield _Entry(line, head, synonyms, is_stuff)


def _parted(said: str) -> tuple[str, str, str]:
    """What stands before the first colon, the colon, and what stands behind it."""
    head, colon, rest = said.partition(":")
    return _one_space(head), colon, rest.strip()


def _fault(said: str, name: str, rest: str | None, synonyms: Sequence[str]) -> str | None:
    """What is wrong with a class of that name; `rest` is what stands behind its colon."""
    if NO_TEXT.search(said.replace("\t", " ")):
        return "holds control characters; write names in letters"
    if not name:
        return f"'{said}' has an empty name; write 'name' or 'name: synonym, synonym'"
    if "," in name:
        first, *others = [word for word in map(_one_space, name.split(",")) if word] or ["name"]
        one = f"{first}: {', '.join(others or ['synonym'])}"
        return f"'{said}' may be several classes; write one a line, or '{one}' for synonyms"
    if rest is not None and ":" in rest:
        return f"'{said}' has a colon too many; write 'name: synonym, synonym'"
    if rest == "":
        return f"'{said}' has no synonyms; leave the colon away, or write '{name}: synonym'"
    if "" in synonyms:
        return f"'{said}' has an empty synonym; take one comma away"
    if any(len(word) > MAX_LETTERS for word in (name, *synonyms)):
        return f"'{said[:40]}…' is longer than {MAX_LETTERS} letters; write a shorter name"
    return None


def _duplicates(entries: Iterable[_Entry]) -> Iterator[Fault]:
    """What is said twice; that it is in another spelling does not make it another word to CLIP."""
    lines: dict[str, int] = {}
    for entry in entries:
        for word in _all(entry.name, entry.synonyms):
            if _key(word) not in lines:
                lines[_key(word)] = entry.line
                continue
            first = lines[_key(word)]
            place = "in it twice" if first == entry.line else f"in line {first}, too"
            yield entry.line, f"'{word}' is {place}; leave one away"


def _all(name: str, synonyms: Sequence[str]) -> tuple[str, ...]:
    return (name, *synonyms)


def _key(word: str) -> str:
    """Equal for words that are the same text to CLIP, or nearly."""
    return normal(unicodedata.normalize("NFC", word).casefold())


def _one_space(text: str) -> str:
    """A text with single spaces."""
    return " ".join(text.split())


def _too_many(count: int) -> str:
    return (
        f"there are {count} classes, and labels are for {MOST_TEXTS} at most; ask for them in "
        "several runs"
    )


def _unusable(path: Path, faults: Sequence[Fault]) -> ConfigError:
    """The error of a file with faults; of many, the first."""
    ordered = sorted(faults, key=lambda fault: fault[0])
    told = "; ".join(f"line {line}: {fault}" for line, fault in ordered[:MOST_FAULTS])
    more = len(faults) - MOST_FAULTS
    return ConfigError(f"'{path}': {told}" + (f"; and {more} more faults" if more > 0 else ""))
