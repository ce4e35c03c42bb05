"""How a run is made in which things have labels of their own: "dog" → "dog 1", "dog 2".

How many there are is known at the end, so that there are two passes. The first one follows all
that may be a thing (`carvid.instances.follow`), and keeps what it finds (`carvid.run.tracklets`).
Then it is known what is a thing and what it is called (`carvid.temporal.census`), and the second
one writes an ordinary run. What is asked for beside that is followed there as always.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from carvid.base.errors import OutputError, VideoError
from carvid.base.files import read_json
from carvid.base.guard import check_apart
from carvid.base.interrupt import EndingQuietly, Stopped, never, stop_when, until_stopped
from carvid.car.classes import Texts, queries_of
from carvid.car.instance_segmenter import InstanceSegmenter
from carvid.car.marks import Instances, marked_in
from carvid.car.queries import MOST_TEXTS, Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.config import Config
from carvid.exports.export import check_formats, write_formats
from carvid.index.clip_index import ClipIndex
from carvid.instances.check import check_instances, iter_once
from carvid.instances.follow import instance_pass
from carvid.media.given import Source, open_source
from carvid.media.open import Selection, VideoInfo, VideoReader, files_of
from carvid.run.asked import as_asked, with_asked, with_labels
from carvid.run.facts import RunFacts
from carvid.run.folder import RunFolder
from carvid.run.instance_result import Labels
from carvid.run.layout import run_paths
from carvid.run.lock import locked
from carvid.run.names import check_names
from carvid.run.progress import NOT_OURS
from carvid.run.reading import reading
from carvid.run.record import record
from carvid.run.result import FrameResult
from carvid.run.track import MemoryStore, Track
from carvid.run.tracklets import Tracklets
from carvid.show.run_overlay import run_overlay
from carvid.temporal.census import Census, Thing
from carvid.temporal.instance_carrier import new_instance_carrier
from carvid.temporal.sam2_carrier import NewFollower
from carvid.temporal.state import TemporalState

log = logging.getLogger("carvid")


class Model(Protocol):
    """What is needed of a `carvid.Carvid`."""

    config: Config
    segmenter: RecurrentSegmenter
    sources: tuple[Path, ...]

    @property
    def new_follower(self) -> NewFollower | None:
        """Makes networks that carry masks; None where flow does."""

    def facts(self, video: VideoInfo, queries: Queries, *, keep_names: bool = False) -> RunFacts:
        """What a run.json says of a run."""

    def follow(
        self,
        reader: VideoReader,
        queries: Queries,
        start: int,
        state: TemporalState | None,
        *,
        progress: bool,
    ) -> Generator[FrameResult, None, None]:
        """The frames of a reader from one on, as an ordinary run has them."""


@dataclass(frozen=True)
class Options:
    """Those of `Carvid.segment` that are the same whatever is asked for."""

    out: Path | None
    resume: bool
    overwrite: bool
    progress: bool
    selection: Selection
    frame_rate: Fraction | float | None
    formats: Sequence[str]
    keep_names: bool
    stop: Callable[[], bool]


def segment_instances(
    model: Model,
    video: Source | ClipIndex,
    texts: Texts,
    instances: Instances,
    distractors: str | Iterable[str],
    options: Options,
) -> Track:
    """Segment a whole clip in which every thing of some expressions has a label of its own.

    Args:
        model: what segments.
        video: as of `Carvid.segment`; of frames that are given, those that can be read only once
            need every expression to be asked for all its things.
        texts: expressions.
        instances: of which of them every thing is wanted.
        distractors: as of `Carvid.segment`.
        options: likewise.

    Raises:
        CarvidError: as `check_instances` and `Carvid.segment`.
        ExpressionError: `instances` names none of the expressions.
        ValueError: queries with synonyms or stuff.
    """
    if isinstance(video, ClipIndex):
        video = video.folder
    check_instances(video, texts, model.config)
    queries = queries_of(texts, distractors)
    if any(queries.synonyms) or queries.stuff:
        raise ValueError("queries with synonyms or stuff have no instances; give plain texts")
    marked = marked_in(queries, instances)
    with ExitStack() as stack:
        reader = stack.enter_context(_opened(video, options))
        stack.enter_context(stop_when(options.stop))
        run = _Run(model, video, reader, queries, marked, options)
        run.check()
        if options.out is None:
            return run.in_memory()
        folder = RunFolder(options.out, run.facts)
        folder.check(resume=options.resume, overwrite=options.overwrite)
        model.segmenter.check_texts(queries)
        stack.enter_context(locked(folder.folder))
        return run.into(folder)


def _opened(video: Source, options: Options) -> VideoReader:
    return open_source(video, frame_rate=options.frame_rate, selection=options.selection)


class _Run:
    """One run."""

    def __init__(
        self,
        model: Model,
        video: Source,
        reader: VideoReader,
        queries: Queries,
        marked: tuple[int, ...],
        options: Options,
    ) -> None:
        self._model, self._video, self._reader = model, video, reader
        self._queries, self._marked, self._options = queries, marked, options
        self._plain = [k for k in range(len(queries.texts)) if k not in marked]
        """Expressions that are followed as always."""
        self._tracklets = Tracklets()
        self.facts = with_asked(
            model.facts(reader.info, queries, keep_names=options.keep_names), marked
        )

    def check(self) -> None:
        """Say what is wrong with the input or the folder.

        Raises:
            CarvidError: as `Carvid.segment`.
        """
        info, options = self._reader.info, self._options
        if options.keep_names:
            check_names(info.names, info.path)
        if self._plain and iter_once(self._video):
            raise VideoError(
                "frames that come only once cannot be read for things and for expressions; give "
                "a list of them, or ask for every thing of all expressions"
            )
        if options.out is not None:
            check_formats(options.formats, info)
            check_apart([*files_of(info), *self._model.sources], run_paths(options.out))

    def in_memory(self) -> Track:
        """Segment the clip, and keep its masks in memory."""
        ending = EndingQuietly()
        self._model.segmenter.check_texts(self._queries)
        self._follow_things(ending)
        labelled = self._labelled
        store = MemoryStore(labelled, run_overlay)
        with self._heeding(ending), closing(self._results(0, None)) as results:
            try:
                for result in results:
                    store.add(result)
            except Stopped:
                ending.stopped = True
        return store.track(self._tracklets.lost, cut_short=ending.stopped)

    def into(self, folder: RunFolder) -> Track:
        """Segment the clip into a folder, which is locked."""
        options, place = self._options, folder.folder
        ending = EndingQuietly()
        known = self._earlier(place)
        if options.resume and known is not None and RunFolder(place, known).done(
            resume=True, overwrite=options.overwrite
        ):  # fmt: skip
            RunFolder(place, known).complete()
        else:
            self._make(folder, ending)
        track = Track.open(place)
        with self._heeding(ending):
            write_formats(track, place, options.formats, progress=options.progress)
        if ending.stopped:
            raise Stopped
        return track

    def _make(self, folder: RunFolder, ending: EndingQuietly) -> None:
        """Do both passes."""
        options, once = self._options, self._reader.info.live
        resume, overwrite = options.resume, options.overwrite
        if once:  # frames that somebody gives
            self._follow_things(ending)
        else:
            self._tracklets = Tracklets(folder.folder, self.facts.to_dict())
            if resume:
                self._tracklets.take_up()
            if not self._tracklets.whole:
                folder.begin(resume=resume, overwrite=overwrite)
                resume, overwrite = resume or not folder.replaces, overwrite and folder.replaces
                self._follow_things_into(folder)
        labelled = self._labelled
        overlay = None if once else run_overlay(folder.folder, labelled)
        named = RunFolder(folder.folder, labelled, overlay)
        with self._heeding(ending):
            record(
                named, self._results, self._tracklets.lost, resume=resume, overwrite=overwrite,
                progress=options.progress,
            )  # fmt: skip

    def _follow_things_into(self, folder: RunFolder) -> None:
        """The first pass of a file; what it has is saved whatever ends it."""
        try:
            self._follow_things(until_stopped)
        except BaseException as failure:
            if isinstance(failure, VideoError) and not self._tracklets.done:
                self._tracklets.discard()
                folder.forget_if_empty()
            elif not isinstance(failure, OutputError):
                self._tracklets.save()
            raise

    def _follow_things(self, until: Callable[[Iterable[Any]], Iterable[Any]]) -> None:
        """The first pass, from where it is."""
        reader, tracklets, config = self._reader, self._tracklets, self._model.config
        marked = self._marked
        others = [text for k, text in enumerate(self._queries.texts) if k not in marked]
        queries = Queries(
            tuple(self._queries.texts[k] for k in marked), (*others, *self._queries.distractors)
        )
        segmenter = InstanceSegmenter(self._model.segmenter)
        segmenter.check_texts(queries)
        tracklets.begin()
        start, state = tracklets.done, tracklets.state
        carrier = new_instance_carrier(config, self._model.new_follower)
        before, progress = state if start else None, self._options.progress
        with reading(reader, start, before, config.temporal, progress=progress) as seen:
            found = instance_pass(until(seen), state, segmenter, queries, config, carrier=carrier)
            for frame, left in found:
                tracklets.add(frame, left)
        tracklets.finish(reader.lost)

    @staticmethod
    def _heeding(ending: EndingQuietly) -> AbstractContextManager[None]:
        """Let nobody stop what is made of frames that have come to an end because somebody wanted
        to: they will not come again."""
        return stop_when(never) if ending.stopped else nullcontext()

    @cached_property
    def _things(self) -> dict[int, list[Thing]]:
        """Index of an expression → its things, in order."""
        census = Census()
        for frame in self._tracklets.frames():
            census.add(frame)
        config, asked = self._model.config.instances, len(self._queries.texts)
        all_of_them = census.things(config)
        kept = census.things(config, MOST_TEXTS - asked)
        if kept != all_of_them:
            log.warning(
                "%s: %d things are found, and labels are for %d; those that are seen longest have "
                "one", self._reader.info.path, sum(map(len, all_of_them)), sum(map(len, kept)),
            )  # fmt: skip
        return dict(zip(self._marked, kept, strict=False))

    @cached_property
    def _labelled(self) -> RunFacts:
        """The facts of the run, with a label for each thing."""
        return with_labels(self.facts, {k: len(each) for k, each in self._things.items()})

    def _earlier(self, place: Path) -> RunFacts | None:
        """The facts of a finished run in a folder that was asked for the same; None if there is
        none."""
        try:
            values = read_json(place / "run.json")
            facts = RunFacts.from_dict(values)
        except (OSError, *NOT_OURS):
            return None
        same = as_asked(values).get("asked") == as_asked(self.facts.to_dict()).get("asked")
        return facts if facts.asked and same else None

    def _results(
        self, start: int, state: TemporalState | None
    ) -> Generator[FrameResult, None, None]:
        """The second pass: an ordinary run's frames, from one on."""
        labels = Labels(self._labelled, self._things, len(self._queries.all))
        with ExitStack() as stack:
            plain: Iterator[FrameResult | None] | None = None
            if self._plain:
                again = stack.enter_context(_opened(self._video, self._options))
                plain = stack.enter_context(closing(self._model.follow(
                    again, self._plain_queries, start, state if start else None,
                    progress=self._options.progress,
                )))  # fmt: skip
            best: tuple[float, ...] = (0.0,) * len(self._marked)
            frames = self._tracklets.frames()
            for frame in frames if plain is not None else until_stopped(frames):
                best = frame.best or best
                if frame.index >= start:
                    yield labels.of(frame, best, None if plain is None else next(plain))

    @property
    def _plain_queries(self) -> Queries:
        texts = self._queries.texts
        others = (texts[k] for k in self._marked)
        return Queries(tuple(texts[k] for k in self._plain), (*others, *self._queries.distractors))
