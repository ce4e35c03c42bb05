"""RunFacts: what a run.json says of a run, besides its timing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from carvid.car.queries import Queries
from carvid.config import Config
from carvid.media.fingerprint import fingerprint
from carvid.media.open import VideoInfo, is_live
from carvid.run.asked import Asked, asked_in_json
from carvid.run.corrections import Correction, correction_of, in_json
from carvid.run.layout import MASK_NAME
from carvid.run.names import is_inside, png_name
from carvid.version import __version__


def queries_in_json(
    asked: Queries | RunFacts,
) -> dict[str, Any]:
    """Return what a run.json says of queries; nothing of synonyms and stuff where none has any."""
    stuff = [text for text in asked.texts if text in asked.stuff]
    return {
        "texts": list(asked.texts),
        "distractors": list(asked.distractors),
        **({"synonyms": list(map(list, asked.synonyms))} if any(asked.synonyms) else {}),
        **({"stuff": stuff} if stuff else {}),
    }


@dataclass(frozen=True)
class RunFacts:
    """What run.json says of a run, besides its timing."""

    config: Config
    video: VideoInfo
    texts: tuple[str, ...]
    distractors: tuple[str, ...]
    weights: dict[str, str]
    """Names (with revisions) of generator and classifier, device and precision (of both, where a
    small network's is another); and what made SAM's automatic masks, where not carvid did."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """What tells, by their content, the input (`video`) and the weights (`generator`, `classifier`,
    `sam`) from others of the same name, as far as that can be told."""
    keep_names: bool = False
    """Whether masks are named as the frames, which then have names."""
    synonyms: tuple[tuple[str, ...], ...] = ()
    """Further words of each expression; none at all where no expression has any."""
    stuff: tuple[str, ...] = ()
    """The expressions that name stuff, in their order."""
    quick: bool = False
    """Whether it is answered from an index, and the classifier was asked at a few key frames."""
    corrections: tuple[Correction, ...] = ()
    """What a user has corrected in it, in order."""
    asked: tuple[Asked, ...] = ()
    """What was asked for, where things have labels of their own; then `texts` names those."""

    @classmethod
    def of_input(
        cls,
        config: Config,
        video: VideoInfo,
        queries: Queries,
        weights: dict[str, str],
        contents: Mapping[str, str] | None = None,
        *,
        keep_names: bool = False,
        quick: bool = False,
    ) -> RunFacts:
        """Return the facts of a run, with what tells its input from others; `contents` is of its
        weights."""
        seen = None if video.backend == "frames" else fingerprint(video.path)
        known = {**(contents or {}), **({} if seen is None else {"video": seen})}
        asked = queries_in_json(queries)
        return cls(
            config, video, queries.texts, queries.distractors, weights, known, keep_names,
            tuple(map(tuple, asked.get("synonyms", ()))), tuple(asked.get("stuff", ())),
            quick,
        )  # fmt: skip

    @property
    def queries(self) -> Queries:
        """What each label is asked for by; of things that have labels of their own, by their
        expression."""
        texts = list(self.texts)
        for asked in self.asked:
            for label in asked.labels:
                texts[label - 1] = asked.text
        return Queries(
            tuple(texts), self.distractors, synonyms=self.synonyms, stuff=frozenset(self.stuff)
        )

    @property
    def semantic(self) -> bool:
        """Whether the expressions are classes, of which each pixel gets one, or none."""
        return self.config.car.mode == "semantic"

    def is_stuff(self, text: str) -> bool:
        """Whether an expression names stuff."""
        return text in self.stuff or text in self.config.prompts.stuff

    def mask_name(self, index: int) -> str:
        """Return what the mask of frame `index` is called, from the folder of masks, with `/`."""
        return png_name(self.video.names[index]) if self.keep_names else MASK_NAME.format(index)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping; `frames` maps indices to names, where frames have them."""
        names = {"frames": list(self.video.names)} if self.video.names else {}
        kept = {"keep_names": True} if self.keep_names else {}
        quick = {"quick": True} if self.quick else {}
        corrected = {"corrections": in_json(self.corrections)} if self.corrections else {}
        return {
            "carvid": __version__,
            **queries_in_json(self),
            **asked_in_json(self.asked),
            "video": self.video.to_dict(),
            **names,
            **kept,
            **quick,
            **corrected,
            "weights": self.weights,
            "contents": dict(self.contents),
            "config": self.config.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunFacts:
        """Load what a run.json holds.

        Raises:
            ValueError: it is something else; so are LookupError, TypeError and AttributeError.
            ConfigError: settings or corrections cannot be used.
        """
        video, names = VideoInfo.from_dict(values["video"]), tuple(values.get("frames", ()))
        if not all(is_inside(name) for name in names):
            raise ValueError("a frame's name leads out of the folder")
        # A file of that name was read; who only looks at a run wants no network and no camera.
        video = replace(video, live=video.live or is_live(video.path), names=names)
        texts = tuple(values["texts"])
        return cls(
            Config.from_dict(values["config"]), video,
            texts, tuple(values["distractors"]), values["weights"],
            values.get("contents", {}),
            bool(values.get("keep_names", False)),
            tuple(map(tuple, values.get("synonyms", ()))), tuple(values.get("stuff", ())),
            bool(values.get("quick", False)),
            tuple(correction_of(each, texts) for each in values.get("corrections", ())),
            tuple(map(Asked.from_dict, values.get("asked", ()))),
        )  # fmt: skip
