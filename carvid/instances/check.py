"""What things cannot have labels of their own in; without torch, so that it is said at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from carvid.base.errors import ConfigError, VideoError
from carvid.car.classes import Classes
from carvid.config import Config
from carvid.index.facts import is_index
from carvid.media.open import is_live


def check_instances(video: object, texts: object, config: Config) -> None:
    """Say early that things cannot have labels of their own.

    Raises:
        ConfigError: texts are classes, the input is an index, or masks are not carried.
        VideoError: the input comes only once.
    """
    if isinstance(texts, Classes) or config.car.mode == "semantic":
        raise ConfigError("classes are no things to count; leave --classes or --instances away")
    if not config.temporal.carry_masks:
        raise ConfigError(
            "things are followed along time; leave temporal.carry_masks=false or --instances away"
        )
    if isinstance(video, str | Path) and is_index(video):
        raise ConfigError("an index knows no instances; ask its clip, or leave --instances away")
    if isinstance(video, str | Path) and is_live(video):
        raise VideoError(
            f"'{video}' comes only once, and things are numbered at its end; record it first, or "
            "leave --instances away"
        )


def iter_once(video: str | Path | Iterable[object]) -> bool:
    """Return whether frames that are given can be read only once."""
    return not isinstance(video, str | Path) and iter(video) is video
