"""What an index.json says: what a clip's index was made of, and which frames are in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carvid.base.errors import OVERWRITE, RESUME, ConfigError, VideoError, WeightsError
from carvid.base.files import read_json
from carvid.base.names import existing, is_there
from carvid.config import Config
from carvid.config.presets import INDEX_JSON
from carvid.index.settings import differences
from carvid.media.fingerprint import fingerprint
from carvid.media.frames import VideoInfo
from carvid.media.open import is_live
from carvid.media.sequences import is_pattern
from carvid.run.names import is_inside
from carvid.run.progress import NOT_OURS
from carvid.version import __version__

FORMAT = 1
"""Of what lies in an index; another one is made again."""
AGAIN = f"index the clip again, with {OVERWRITE}"
"""Ends messages."""
PROGRESS_JSON = "progress.json"
"""In the folder of an index that is being made: what is done."""
SUFFIX = ".idx"
"""Of an index's folder, where no other name is given."""


@dataclass(frozen=True)
class IndexFacts:
    """What an index was made of."""

    config: Config
    """The settings that it answers with."""
    video: VideoInfo
    """The clip, by its absolute path."""
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
        seen = None if video.live else fingerprint(video.path)
        if seen is None:
            raise only_once(video.path)
        video = replace(video, path=os.path.abspath(video.path))
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
        weights, contents = dict(values["weights"]), dict(values["contents"])
        if not {"generator", "classifier"} <= weights.keys() or "video" not in contents:
            raise ValueError("it does not say what it was made of")
        return cls(config, video, weights, contents)

    def unlike(self, earlier: IndexFacts) -> Iterator[str]:
        """Yield in what an earlier index has other contents than this one will have, a few words
        each; the clip may lie elsewhere by now."""
        old, new = earlier.video, self.video
        if earlier.contents.get("video") != self.contents["video"]:
            yield f"its clip is another one, '{old.path}'"
        elif (old.selection, old.asked_rate) != (new.selection, new.asked_rate):
            yield "its frames were chosen otherwise (--start and the like)"
        for name, theirs, ours in differences(earlier.config, self.config):
            yield f"{name} was {_value(theirs)}, is {_value(ours)}"
        if not earlier.has_generator(self.weights, self.contents):
            yield f"the generator was '{earlier.weights['generator']}'"

    def has_generator(self, weights: Mapping[str, str], contents: Mapping[str, str]) -> bool:
        """Whether it was made with the generator that a model has, by name and content."""
        same = self.contents.get("generator") == contents.get("generator")
        return same and self.weights["generator"] == weights["generator"]

    def check_settings(self, config: Config) -> None:
        """Check that the index answers with a model's settings.

        Raises:
            ConfigError: settings differ that its contents depend on.
        """
        for name, theirs, ours in differences(self.config, config):
            raise ConfigError(
                f"the index was made with {name}={_value(theirs)}, not {_value(ours)}; leave the "
                f"setting away, or {AGAIN}"
            )

    def check_model(
        self, config: Config, weights: Mapping[str, str], contents: Mapping[str, str]
    ) -> None:
        """Check that a model can answer from the index.

        Raises:
            ConfigError: as `check_settings`.
            WeightsError: its generator is another one.
        """
        self.check_settings(config)
        if not self.has_generator(weights, contents):
            raise WeightsError(
                f"the index was made with the generator '{self.weights['generator']}', and this "
                f"is another one, '{weights['generator']}'; use that one, or {AGAIN}"
            )

    def clip(self, folder: Path) -> VideoInfo:
        """Return the clip where it is now: where it was, or beside the index's folder.

        Raises:
            VideoError: it is not there, or has changed.
        """
        path = Path(self.video.path)
        name = Path(*path.parts[-2:]) if is_pattern(path) else Path(path.name)
        places = [str(path), str(folder.absolute().parent / name)]
        found = {place: fingerprint(place) for place in dict.fromkeys(places)}
        for place, seen in found.items():
            if seen == self.contents["video"]:
                return replace(self.video, path=place)
        there = [place for place, seen in found.items() if seen is not None]
        if not there:
            raise VideoError(
                f"the index is of '{path}', which is not there; put it back, or beside the index"
            )
        raise VideoError(f"'{there[0]}' has changed since it was indexed; {AGAIN}")


def check_clip(video: object) -> None:
    """Check that something may be a clip to index, before it is opened.

    Raises:
        VideoError: it can be read only once.
        ConfigError: it is an index.
    """
    if not isinstance(video, str | Path) or is_live(video):
        what = video if isinstance(video, str | Path) else type(video).__name__
        raise only_once(what)
    if is_index(video):
        raise ConfigError(f"'{video}' is an index already; ask it with: carvid run {video} -e TEXT")


def only_once(video: object) -> VideoError:
    """Return the error of a clip that cannot be read again."""
    return VideoError(
        f"'{video}' can be read only once, and an index's clip is read again for masks; save it "
        "as a file first"
    )


def default_folder(video: str | Path) -> Path:
    """Return where the index of a clip goes if nobody says: `clip.idx` beside `clip.mp4`, or
    beside a folder of images."""
    path = existing(video).parent if is_pattern(video) else existing(video)
    if path.name in ("", ".."):
        path = path.resolve()
    return path.with_name(f"{path.stem if path.is_file() else path.name}{SUFFIX}")


def is_index(source: object) -> bool:
    """Whether an input is the folder of an index, or of one that is not finished."""
    if not isinstance(source, str | Path):
        return False
    folder = existing(source)
    return is_there(folder / INDEX_JSON) or is_unfinished(folder)


def is_unfinished(folder: Path) -> bool:
    """Whether a folder holds an index that is being made, or was broken off."""
    try:
        return "index" in read_json(folder / PROGRESS_JSON)["inputs"]
    except (OSError, *NOT_OURS):
        return False


def read_facts(folder: Path) -> IndexFacts:
    """Read what a whole index was made of.

    Raises:
        ConfigError: as `read_index_json`.
    """
    try:
        return IndexFacts.from_dict(read_index_json(folder))
    except NOT_OURS:
        raise ConfigError(f"'{folder / INDEX_JSON}' is damaged; {AGAIN}") from None


def read_index_json(folder: Path) -> dict[str, Any]:
    """Read the index.json of a whole index.

    Raises:
        ConfigError: there is none, it is not finished, damaged, or of another format.
    """
    path = folder / INDEX_JSON
    if not path.exists() and is_unfinished(folder):
        raise ConfigError(
            f"the index '{folder}' is not finished; go on with: carvid index CLIP -o {folder} "
            f"{RESUME}"
        )
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
