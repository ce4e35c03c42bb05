"""The models of a benchmark's runs in one worker, and how they do an image.

Several runs (the rows of an ablation) share what they can: each CLIP is loaded once, each text is
encoded once, and an image goes once through the generator for all runs that encode it alike.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from carvid.base.errors import ExpressionError
from carvid.base.memory import telling_out_of_memory
from carvid.benchmark.bench_plan import BenchWork, ImageJob
from carvid.benchmark.measurements import CurrentImage, SharedGenerator
from carvid.car.passes import passes_of
from carvid.car.queries import Queries, in_template
from carvid.clip.backbone import ClipBackbone
from carvid.clip.weights import load_backbone
from carvid.config import Config, WeightsConfig
from carvid.pipeline import Carvid
from carvid.sam.refiner import SamRefiner, sam_refiner


@dataclass(frozen=True)
class BenchRun:
    """One run: where its predictions go, and its settings."""

    out: Path
    config: Config


class BenchModels:
    """A model for each run.

    Args:
        runs: the runs.
        work: what all of them do.

    Raises:
        WeightsError: weights that are missing or no CLIP.
    """

    def __init__(self, runs: Sequence[BenchRun], work: BenchWork) -> None:
        self.work = work
        self.current = CurrentImage()
        self._backbones: dict[Any, ClipBackbone] = {}
        self._sams: dict[Any, SamRefiner | None] = {}
        self.models = [(run.out, self._model(run.config)) for run in runs]
        for _, model in self.models:
            encode_texts(model, work.texts())

    @property
    def backbones(self) -> tuple[ClipBackbone, ...]:
        """The CLIPs, each once."""
        return tuple(self._backbones.values())

    def _model(self, config: Config) -> Carvid:
        names = (config.weights.generator, config.weights.classifier)
        sam_key = (config.sam, config.weights.device)
        if sam_key not in self._sams:
            self._sams[sam_key] = sam_refiner(config)
        generator, classifier = (self._backbone(name, config.weights) for name in names)
        model = Carvid(config, generator, classifier, self._sams[sam_key])
        model.segmenter.generator = SharedGenerator(model.segmenter.generator, self.current)
        return model

    def _backbone(self, name: str, weights: WeightsConfig) -> ClipBackbone:
        key = (name, weights.device, weights.dtype, weights.half_positions)
        if key not in self._backbones:
            self._backbones[key] = load_backbone(name, weights)
        return self._backbones[key]


@telling_out_of_memory()
def load_models(runs: Sequence[BenchRun], work: BenchWork) -> BenchModels:
    """Load the models of runs; see `BenchModels`.

    Raises:
        WeightsError: weights that are missing or no CLIP.
        OutOfMemoryError: they do not fit.
    """
    return BenchModels(runs, work)


def do_job(models: BenchModels, job: ImageJob) -> Generator[int, None, None]:
    """Do what is not done of an image; yield 1 before each sample of a run is written."""
    work = models.work
    for sample in job.samples:
        for out, model in models.models:
            if work.is_done(out, sample.name):
                continue
            image = models.current.take(job.name, partial(work.picture, job))
            queries = work.queries(sample)
            result = model.segmenter.segment(image, queries)
            maps = work.maps(result, model.segmenter, queries)
            yield 1
            work.write(out, sample.name, maps)


def encode_texts(model: Carvid, asked: Sequence[Queries]) -> None:
    """Encode all texts that a model will ever compare, in an order that does not depend on which
    images are done: a text's features hang, in their last bits, on those beside it.

    A text that is too long is left to the images that ask for it.
    """
    for queries in asked:
        try:
            _encode(model, queries)
        except ExpressionError:
            for text in queries.texts:
                with suppress(ExpressionError):
                    _encode(model, Queries((text,)))


def _encode(model: Carvid, queries: Queries) -> None:
    segmenter, config = model.segmenter, model.config
    segmenter.check_texts(queries)
    generator, classifier = model.backbones
    if config.proposals.switch_text:
        generator.encode_texts([segmenter.understand(text).text for text in queries.texts])
    for each in passes_of(queries, config):
        if not each.background:
            continue
        template = config.proposals.template
        generator.encode_texts([in_template(template, word) for word in each.background])
        if config.classifier.background == "always":
            for template in config.classifier.templates:
                classifier.encode_texts([in_template(template, word) for word in each.background])
