"""What a model does with indexes: it makes and opens them, and takes key frames from one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from carvid.base.interrupt import never, stop_when
from carvid.base.memory import telling_out_of_memory
from carvid.car.classes import Texts, queries_of
from carvid.car.competing import with_settings
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config
from carvid.index.clip_index import ClipIndex
from carvid.index.facts import IndexFacts, check_clip, default_folder
from carvid.index.make import make_index
from carvid.index.place import check_outside, index_files
from carvid.index.quick import QuickSegmenter
from carvid.index.settings import index_config
from carvid.media.given import open_source
from carvid.media.open import ALL, Selection, VideoInfo
from carvid.run.facts import RunFacts
from carvid.sam.installed import made_by_in_json
from carvid.sam.refiner import masks_made_by

Model = TypeVar("Model", bound="IndexingModel")


class IndexingModel:
    """The part of a `Carvid` that knows indexes."""

    config: Config
    backbones: tuple[ClipBackbone, ClipBackbone]
    segmenter: RecurrentSegmenter
    sources: tuple[Path, ...] = ()
    """Files that this was loaded from, which nothing may be written onto."""
    contents: Mapping[str, str] = MappingProxyType({})
    """What tells the weights from others; see `RunFacts.contents`."""
    key_frames: ClipIndex | None
    """What key frames are taken from, in place of the generator."""

    @telling_out_of_memory()
    def index(
        self,
        video: str | Path,
        out: str | Path | None = None,
        *,
        resume: bool = True,
        overwrite: bool = False,
        progress: bool = False,
        selection: Selection = ALL,
        frame_rate: Fraction | float | None = None,
        stop: Callable[[], bool] = never,
    ) -> ClipIndex:
        """Read a clip once, and keep what does not depend on what is asked.

        Its settings are this model's with dense proposals (`carvid.index.settings.index_config`).

        Args:
            video: a video file, a folder or a pattern of images, or one image.
            out: the index's folder; None is beside the clip: `clip.idx` for `clip.mp4`.
            resume: go on after the last whole piece there; a whole index is opened as it is.
            overwrite: replace an index of something else.
            progress: show a bar with frames per second on stderr.
            selection: which of the frames are used, and how large.
            frame_rate: of pictures, frames per second; None is their own times, or else 24.
            stop: asked after each frame.

        Raises:
            Stopped: `stop` said so; the index can be resumed.
            VideoError: the clip cannot be read, or only once.
            ConfigError: it is an index itself.
            OutputError: `out` holds something else, or cannot be written.
        """
        check_clip(video)
        model = self._answering()
        given = open_source(video, frame_rate=frame_rate, selection=selection)
        with given as reader, stop_when(stop):
            folder = default_folder(video) if out is None else Path(out)
            facts = IndexFacts.of_clip(
                model.config, reader.info, self._weights_in_json, self.contents
            )
            make_index(
                reader, folder, facts, model.segmenter.generator, resume=resume,
                overwrite=overwrite, progress=progress, read=self.sources,
            )  # fmt: skip
        return self.open_index(folder)

    def open_index(self, folder: str | Path) -> ClipIndex:
        """Open an index that is there.

        Raises:
            ConfigError: there is none, it is not finished or damaged, or settings differ that it
                depends on.
            WeightsError: it was made with another generator.
        """
        model = self._answering()
        index = ClipIndex(folder, model.segmenter)
        index.facts.check_model(model.config, self._weights_in_json, self.contents)
        return index

    def _answering(self: Model, index: ClipIndex | None = None) -> Model:
        """The same model with the settings of an index, and key frames from one."""
        model: Model = with_settings(self, index_config(self.config))
        model.key_frames = index
        return model

    def _of_index(
        self: Model,
        index: ClipIndex,
        texts: Texts,
        distractors: str | Iterable[str],
        thorough: bool,
        out: str | Path | None,
    ) -> tuple[Model, VideoInfo, Queries]:
        """What segments the clip of an index, perhaps into a folder; the clip, and what is asked.

        Raises:
            CarvidError: as `open_index`; the clip is not there, or has changed; `out` is in the
                index.
        """
        queries, clip = queries_of(texts, distractors), index.facts.clip(index.folder)
        model = self._answering(index).forgetting_texts()
        index.facts.check_model(model.config, self._weights_in_json, self.contents)
        if out is not None:
            check_outside(Path(out), index.folder)
            model.sources = (*model.sources, *index_files(index.folder))
        if not thorough:
            model.segmenter = index.quick(model.segmenter, queries)
        return model, clip, queries

    def facts(self, video: VideoInfo, queries: Queries, *, keep_names: bool = False) -> RunFacts:
        """Return what a run.json says of a run of this model; `keep_names` as of `segment`."""
        return RunFacts.of_input(
            self.config, video, queries, self._weights_in_json, self.contents,
            keep_names=keep_names, quick=isinstance(self.segmenter, QuickSegmenter),
        )  # fmt: skip

    def forgetting_texts(self: Model) -> Model:
        """Return the same model, to which no text is known yet: whatever was asked before, it gives
        the bytes of a new one."""
        generator, classifier = self.backbones
        first = generator.forgetting()
        model = copy.copy(self)
        model.backbones = (first, first if classifier is generator else classifier.forgetting())
        settled: Model = with_settings(model, self.config)
        return settled

    @property
    def _weights_in_json(self) -> dict[str, str]:
        """What a run.json says of the weights, beside their contents."""
        generator, classifier = self.backbones
        dtypes = dict.fromkeys(str(each.dtype).removeprefix("torch.") for each in self.backbones)
        return {
            "generator": generator.name,
            "classifier": classifier.name,
            "device": str(generator.device),
            "dtype": ", ".join(dtypes),
            **made_by_in_json(masks_made_by(self.segmenter.sharpen.sam)),
        }
