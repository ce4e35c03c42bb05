"""What a run was asked for, where its labels are things that were found: "dog" → "dog 1", "dog 2".
Without torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carvid.run.facts import RunFacts


@dataclass(frozen=True)
class Asked:
    """One expression of a run in which things have labels."""

    text: str
    """The expression."""
    instances: bool
    """Whether every thing of it is a track of its own."""
    labels: tuple[int, ...] = ()
    """Its labels, from 1; none while they are not known."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping that `from_dict` loads back equal."""
        return {"text": self.text, "instances": self.instances, "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Asked:
        """Load what `to_dict` returned.

        Raises:
            LookupError: it is something else; so are TypeError and ValueError.
        """
        labels = tuple(int(label) for label in values["labels"])
        return cls(str(values["text"]), bool(values["instances"]), labels)


def asked_for(texts: Sequence[str], marked: Collection[int]) -> tuple[Asked, ...]:
    """Return what is asked for, where all things of some expressions are wanted, `marked` by index,
    before any is known; nothing where there are none."""
    return tuple(Asked(text, index in marked) for index, text in enumerate(texts) if marked)


def asked_in_json(asked: Sequence[Asked]) -> dict[str, Any]:
    """Return what a run.json says of it; nothing where there is nothing."""
    return {"asked": [each.to_dict() for each in asked]} if asked else {}


def with_asked(facts: RunFacts, marked: Collection[int]) -> RunFacts:
    """Return the facts of a run with `asked_for`."""
    return replace(facts, asked=asked_for(facts.texts, marked))


def with_labels(facts: RunFacts, things: Mapping[int, int]) -> RunFacts:
    """Return the facts of `with_asked` with a label for each thing.

    Args:
        facts: of the run.
        things: index of an expression that is asked for all its things → how many it has. One that
            has none has a label of its own, which is in no frame.
    """
    texts: list[str] = []
    asked = []
    for index, each in enumerate(facts.asked):
        names = [f"{each.text} {number + 1}" for number in range(things.get(index, 0))]
        first = len(texts) + 1
        texts += names or [each.text]
        asked.append(replace(each, labels=tuple(range(first, len(texts) + 1))))
    return replace(facts, texts=tuple(texts), asked=tuple(asked))


def as_asked(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a run.json says, with the expressions that were asked for in the place of labels,
    and under `asked` those of which every thing is a track; another one's as it is."""
    try:
        asked = [Asked.from_dict(each) for each in values["asked"]]
    except (LookupError, TypeError, ValueError):
        return values
    marked = [each.text for each in asked if each.instances]
    return {**values, "texts": [each.text for each in asked], "asked": marked}


def marks_differ(saved: Sequence[Any], now: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield the expressions that are asked for all their things in one of two runs alone, each with
    how that is told; of each run those that are."""
    for text in sorted({*map(str, saved)} ^ {*map(str, now)}):
        told = f"each thing of '{text}' has a label of its own in one of both"
        yield f"instances of {text}", told
