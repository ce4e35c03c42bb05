"""The SAM 2 that a run's masks are carried by, by its settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from carvid.config import Config
from carvid.sam.video import VideoCarrier
from carvid.sam.video_weights import load_video


def new_follower_of(config: Config) -> Callable[[], VideoCarrier] | None:
    """Load the SAM 2 that carries masks; return what begins with it anew, following nothing, or
    None where flow carries them.

    Raises:
        WeightsError: it cannot be found or read, is no SAM 2, or memory is too small for it.
        ConfigError: the device does not exist.
    """
    if config.temporal.carrier != "sam2":
        return None
    network = load_video(config.sam2.model, config.weights.device, config.sam2.dtype)
    return partial(VideoCarrier, network)
