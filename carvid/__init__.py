"""carvid: masks in every frame of a video for the object that a sentence names, without training.

    model = carvid.load("default")
    track = model.segment("dog.mp4", ["the dog jumping"])
    track.save("out/dog")

Letters in shapes: T frames, N expressions, Q queries (expressions and distractors), M competing
texts, B background queries or a batch, H W pixels, h w patches, D channels, L tokens or labels.
Images are uint8 (H, W, 3) RGB everywhere in memory.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from carvid.threads import sleeping_threads

if TYPE_CHECKING:
    from carvid.car.segmenter import StepResult, Trace
    from carvid.config import Config, load_config
    from carvid.errors import CarvidError
    from carvid.pipeline import Carvid, load
    from carvid.tracks import FrameResult, Track
    from carvid.video import Frame, open_video

__version__ = "0.1.0"

_HOMES = {
    "Carvid": "carvid.pipeline",
    "CarvidError": "carvid.errors",
    "Config": "carvid.config",
    "Frame": "carvid.video",
    "FrameResult": "carvid.tracks",
    "StepResult": "carvid.car.segmenter",
    "Trace": "carvid.car.segmenter",
    "Track": "carvid.tracks",
    "load": "carvid.pipeline",
    "load_config": "carvid.config",
    "open_video": "carvid.video",
}

__all__ = [
    "Carvid",
    "CarvidError",
    "Config",
    "Frame",
    "FrameResult",
    "StepResult",
    "Trace",
    "Track",
    "load",
    "load_config",
    "open_video",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `carvid --help` and light uses do not wait for it.
    if name in _HOMES:
        with sleeping_threads():  # of torch, if it is not loaded yet
            return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'carvid' has no attribute '{name}'")
