"""What an index.json says: what a clip's index was made of, and which frames are in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carvid.base.errors import OVERWRITE, ConfigError, VideoError, WeightsError
from carvid.base.files import read_json
from carvid.config import Config
from carvid.config.presets import INDEX_JSON
from carvid.index.settings import differences
from carvid.media.fingerprint import fingerprint
from carvid.media.frames import VideoInfo
from carvid.run.names import is_inside
from carvid.version import __version__

FORMAT = 1
"""Of what lies in an index; another one is made again."""
AGAIN = f"index the clip again, with {OVERWRITE}"
"""Ends messages."""


@dataclass(frozen=True)
class IndexFacts:
    """What an index was made of."""

    config: Config
    """The settings that it answers with."""
    video: VideoInfo
    weights: dict[str, str]
    """Names (with revisions) of generator and classifier, device and precision."""
    contents: Mapping[str, str]
    """What tells, by their content, the clip (`video`) and the weights (`generator`, `classifier`)
    from others of the same name, as far as that can be told."""

    @classmethod
    def of_clip(
        cls, config: Config, video: VideoInfo, weights: dict[str, str], contents: Mapping[str, str]
    ) -> IndexFacts:
        """Return the facts of an index that is to be made; `contents` is of the weights.

        Raises:
            VideoError: the clip can be read only once.
        """
        seen = fingerprint(video.path) if video.backend != "frames" else None
        if video.live or seen is None:
            raise VideoError(
                f"'{video.path}' can be read only once, and an index's clip is read again for "
                "masks; save it as a file first"
            )
        return cls(config, video, weights, {**contents, "video": seen})

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able mapping."""
        return {
            "carvid": __version__,
            "index": FORMAT,
            "video": self.video.to_dict(),
            "frames": list(self.video.names),
            "weights": self.weights,
            "contents": dict(self.contents),
            "config": self.config.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> IndexFacts:
        """Load what `to_dict` gave.

        Raises:
            ValueError: it is something else; so are LookupError, TypeError and AttributeError.
        """
        names = tuple(values["frames"])
        if not all(is_inside(name) for name in names):
            raise ValueError("a frame's name leads out of the folder")
        video = replace(VideoInfo.from_dict(values["video"]), names=names)
        config = Config.from_dict(values["config"])
        return cls(config, video, values["weights"], values["contents"])

    def check_model(
        self, config: Config, weights: Mapping[str, str], contents: Mapping[str, str]
    ) -> None:
        """Check that a model can answer from the index.

        Raises:
            ConfigError: settings differ that its contents depend on.
            WeightsError: its generator is another one.
        """
        for name, theirs, ours in differences(self.config, config):
            raise ConfigError(
                f"the index was made with {name}={_value(theirs)}, not {_value(ours)}; leave the "
                f"setting away, or {AGAIN}"
            )
        same = self.contents.get("generator") == contents.get("generator")
        if not same or self.weights["generator"] != weights["generator"]:
            raise WeightsError(
                f"the index was made with the generator '{self.weights['generator']}', and this "
                f"is another one, '{weights['generator']}'; use that one, or {AGAIN}"
            )

    def check_clip(self) -> None:
        """Check that the clip is where it was, and still the same.

        Raises:
            VideoError: it is not.
        """
        if not Path(self.video.path).exists() and "%" not in self.video.path:
            raise VideoError(
                f"the index is of '{self.video.path}', which is not there; put it back, or index "
                "it where it is now"
            )
        if fingerprint(self.video.path) != self.contents["video"]:
            raise VideoError(
                f"'{self.video.path}' has changed since it was indexed; {AGAIN}"
            )


def is_index(source: object) -> bool:
    """Whether an input is the folder of an index."""
    return isinstance(source, str | Path) and (Path(source) / INDEX_JSON).is_file()


def read_index_json(folder: Path) -> dict[str, Any]:
    """Read the index.json of a whole index.

    Raises:
        ConfigError: there is none, it is damaged, or of another format.
    """
    path = folder / INDEX_JSON
    try:
        values = read_json(path)
        found = values["index"]
    except OSError:
        raise ConfigError(
            f"no index '{folder}'; make one with: carvid index CLIP -o {folder}"
        ) from None
    except (ValueError, LookupError, TypeError):
        raise ConfigError(f"'{path}' is damaged; {AGAIN}") from None
    if found != FORMAT:
        raise ConfigError(
            f"'{folder}' is an index of format {found}, and this is carvid {__version__}, which "
            f"reads format {FORMAT}; {AGAIN}"
        )
    return dict(values)


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
