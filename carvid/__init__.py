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
import logging
from typing import TYPE_CHECKING, Any

from carvid.base.threads import sleeping_threads
from carvid.version import __version__ as __version__

if TYPE_CHECKING:
    from carvid.base.errors import CarvidError
    from carvid.car.segmenter import StepResult, Trace
    from carvid.config import Config, load_config
    from carvid.media.open import Frame, open_video
    from carvid.pipeline import Carvid, load
    from carvid.run.track import FrameResult, Track

# The library prints nothing: what it logs is shown where the program says so, of the log "carvid".
logging.getLogger("carvid").addHandler(logging.NullHandler())

_HOMES = {
    "Carvid": "carvid.pipeline",
    "CarvidError": "carvid.base.errors",
    "Config": "carvid.config",
    "Frame": "carvid.media.open",
    "FrameResult": "carvid.run.track",
    "StepResult": "carvid.car.segmenter",
    "Trace": "carvid.car.segmenter",
    "Track": "carvid.run.track",
    "load": "carvid.pipeline",
    "load_config": "carvid.config",
    "open_video": "carvid.media.open",
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
