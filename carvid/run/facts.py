"""RunFacts: what a run.json says of a run, besides its timing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from carvid.car.queries import Queries
from carvid.config import Config
from carvid.media.fingerprint import fingerprint
from carvid.media.open import VideoInfo, is_live
from carvid.version import __version__


@dataclass(frozen=True)
class RunFacts:
    """What run.json says of a run, besides its timing."""

    config: Config
    video: VideoInfo
    texts: tuple[str, ...]
    distractors: tuple[str, ...]
    weights: dict[str, str]
    """Names (with revisions) of generator and classifier, device and precision."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """What tells, by their content, the input (`video`) and the weights (`generator`, `classifier`,
    `sam`) from others of the same name, as far as that can be told."""

    @classmethod
    def of_input(
        cls,
        config: Config,
        video: VideoInfo,
        queries: Queries,
        weights: dict[str, str],
        contents: Mapping[str, str] | None = None,
    ) -> RunFacts:
        """Return the facts of a run, with what tells its input from others; `contents` is of its
        weights."""
        seen = None if video.backend == "frames" else fingerprint(video.path)
        known = {**(contents or {}), **({} if seen is None else {"video": seen})}
        return cls(config, video, queries.texts, queries.distractors, weights, known)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping."""
        return {
            "carvid": __version__,
            "texts": list(self.texts),
            "distractors": list(self.distractors),
            "video": self.video.to_dict(),
            "weights": self.weights,
            "contents": dict(self.contents),
            "config": self.config.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunFacts:
        """Load what a run.json holds.

        Raises:
            ValueError: it is something else; so are LookupError, TypeError and AttributeError.
        """
        video = VideoInfo.from_dict(values["video"])
        # A file of that name was read; who only looks at a run wants no network and no camera.
        video = replace(video, live=video.live or is_live(video.path))
        return cls(
            Config.from_dict(values["config"]), video,
            tuple(values["texts"]), tuple(values["distractors"]), values["weights"],
            values.get("contents", {}),
        )  # fmt: skip
