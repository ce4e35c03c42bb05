"""carvid: masks in every frame of a video for the object that a sentence names, without training.

    model = carvid.load("default")
    track = model.segment("dog.mp4", "the dog jumping")
    track.save("out/dog")

Letters in shapes: T frames, N expressions, Q queries (expressions and distractors), M competing
texts, B background queries or a batch, H W pixels, h w patches, D channels, L tokens or labels.
Images are uint8 (H, W, 3) RGB everywhere in memory.

carvid logs through `logging.getLogger("carvid")` and prints nothing; only its command line does.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from carvid.base.names import ShowNames
from carvid.base.threads import sleeping_threads
from carvid.version import __version__

if TYPE_CHECKING:
    from carvid.base import errors
    from carvid.base.errors import CarvidError
    from carvid.batch.manifest import Clip, read_manifest
    from carvid.batch.run import BatchResult, run_batch
    from carvid.benchmark.bench import bench
    from carvid.benchmark.bench_result import BenchResult
    from carvid.benchmark.predict import Prediction, predict
    from carvid.benchmark.submit import Submission, submit
    from carvid.car.classes import Classes, read_classes
    from carvid.car.step import StepResult
    from carvid.car.trace import Trace
    from carvid.config import Config, load_config
    from carvid.evaluation.protocols import evaluate
    from carvid.evaluation.report import Report
    from carvid.exports.export import export
    from carvid.index.answer import Answer
    from carvid.index.clip_index import ClipIndex
    from carvid.media.frames import Frame, Selection, VideoReader
    from carvid.media.open import open_video
    from carvid.pipeline import Carvid, load
    from carvid.run.corrections import Correction, read_corrections
    from carvid.run.result import FrameResult
    from carvid.run.track import Track

# What is logged is shown where the program says so, and nowhere else.
logging.getLogger("carvid").addHandler(logging.NullHandler())
logging.getLogger("carvid").addFilter(ShowNames())

_HOMES = {
    "Answer": "carvid.index.answer",
    "BatchResult": "carvid.batch.run",
    "BenchResult": "carvid.benchmark.bench_result",
    "Carvid": "carvid.pipeline",
    "CarvidError": "carvid.base.errors",
    "Classes": "carvid.car.classes",
    "Clip": "carvid.batch.manifest",
    "ClipIndex": "carvid.index.clip_index",
    "Config": "carvid.config",
    "Correction": "carvid.run.corrections",
    "Frame": "carvid.media.frames",
    "FrameResult": "carvid.run.result",
    "Prediction": "carvid.benchmark.predict",
    "Report": "carvid.evaluation.report",
    "Selection": "carvid.media.frames",
    "StepResult": "carvid.car.step",
    "Trace": "carvid.car.trace",
    "Submission": "carvid.benchmark.submit",
    "Track": "carvid.run.track",
    "VideoReader": "carvid.media.frames",
    "bench": "carvid.benchmark.bench",
    "evaluate": "carvid.evaluation.protocols",
    "export": "carvid.exports.export",
    "load": "carvid.pipeline",
    "load_config": "carvid.config",
    "open_video": "carvid.media.open",
    "predict": "carvid.benchmark.predict",
    "read_classes": "carvid.car.classes",
    "read_corrections": "carvid.run.corrections",
    "read_manifest": "carvid.batch.manifest",
    "run_batch": "carvid.batch.run",
    "submit": "carvid.benchmark.submit",
}
"""Where each public name is defined; it is imported when it is first asked for."""

__all__ = [
    "Answer",
    "BatchResult",
    "BenchResult",
    "Carvid",
    "CarvidError",
    "Classes",
    "Clip",
    "ClipIndex",
    "Config",
    "Correction",
    "Frame",
    "FrameResult",
    "Prediction",
    "Report",
    "Selection",
    "StepResult",
    "Submission",
    "Trace",
    "Track",
    "VideoReader",
    "__version__",
    "bench",
    "errors",
    "evaluate",
    "export",
    "load",
    "load_config",
    "open_video",
    "predict",
    "read_classes",
    "read_corrections",
    "read_manifest",
    "run_batch",
    "submit",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `carvid --help` and light uses do not wait for it.
    if name == "errors":
        return importlib.import_module("carvid.base.errors")
    if name in _HOMES:
        with sleeping_threads():  # of torch, if it is not loaded yet
            return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'carvid' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
