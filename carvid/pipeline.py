"""Carvid: frames and expressions in, masks out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from carvid.base.background import run_in_background
from carvid.base.errors import VideoError
from carvid.base.guard import check_apart, files_in
from carvid.base.interrupt import never
from carvid.base.memory import telling_out_of_memory
from carvid.base.scale import cut
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter, StepResult, Trace
from carvid.clip.backbone import ClipBackbone
from carvid.clip.weights import load_backbone
from carvid.config import Config, load_config, settings_files
from carvid.exports.formats import check_formats, write_formats
from carvid.media.frames import frames_ahead
from carvid.media.open import (
    ALL,
    Frame,
    Selection,
    VideoInfo,
    VideoReader,
    input_files,
    open_video,
    prefetch,
)
from carvid.run.layout import run_paths, tidy
from carvid.run.lock import locked
from carvid.run.track import FrameResult, MemoryStore, RunFacts, RunFolder, Track
from carvid.sam.automatic import SamRefiner, sam_refiner
from carvid.temporal.lookahead import Step, smooth
from carvid.temporal.state import (
    TemporalState,
    after_carrying,
    after_key,
    apply_memory,
    observe,
    select_maps,
)

log = logging.getLogger("carvid")


@telling_out_of_memory()
def load(
    preset: str | Path | Config = "default",
    overrides: Iterable[str] = (),
    *,
    generator: str | None = None,
    classifier: str | None = None,
) -> Carvid:
    """Load the two frozen CLIPs that a preset names, and the SAM, if it names one.

    On a CPU, call it before anything else loads torch, or start Python with
    `OMP_WAIT_POLICY=PASSIVE`: otherwise OpenMP's threads spin while they wait, and a run beside
    other work takes many times as long.

    Args:
        preset: a preset's name, a YAML file, a run.json, or a `Config`.
        overrides: `section.key=value`, in order.
        generator: weights of the mask proposal generator: a folder, a hub name, or `tiny`.
        classifier: weights of the mask classifier, likewise.

    Raises:
        ConfigError: an unknown preset or setting.
        WeightsError: weights that are missing or of the wrong kind.
        OutOfMemoryError: the models do not fit; so with whatever a `Carvid` does.
    """
    config = resolve(preset, overrides, generator=generator, classifier=classifier)
    sam = sam_refiner(config)
    first = load_backbone(config.weights.generator, config.weights)
    same = config.weights.classifier == config.weights.generator
    second = first if same else load_backbone(config.weights.classifier, config.weights)
    model = Carvid(config, first, second, sam)
    model.sources = (*settings_files(preset), *weights_files(config))
    return model


def weights_files(config: Config) -> list[Path]:
    """Return the files and folders that the networks are read from, as far as they are local."""
    names = (config.weights.generator, config.weights.classifier, config.sam.model)
    return [path for name in dict.fromkeys(names) if name for path in files_in(name)]


def resolve(
    preset: str | Path | Config = "default",
    overrides: Iterable[str] = (),
    *,
    generator: str | None = None,
    classifier: str | None = None,
) -> Config:
    """Return the settings that `load` would run with, without loading anything."""
    config = load_config(preset, overrides)
    names = {"generator": generator, "classifier": classifier}
    chosen = {key: name for key, name in names.items() if name is not None}
    return Config.from_dict({"weights": chosen}, base=config)


class Carvid:
    """Two frozen CLIPs and the settings they run with.

    Args:
        config: the resolved settings.
        generator: the CLIP of the mask proposal generator.
        classifier: the CLIP of the mask classifier; may be the same object.
        sam: what a SAM makes of a frame's masks.
    """

    def __init__(
        self,
        config: Config,
        generator: ClipBackbone,
        classifier: ClipBackbone,
        sam: SamRefiner | None = None,
    ) -> None:
        self.config = config
        self.backbones = (generator, classifier)
        self.sources: tuple[Path, ...] = ()
        """Files that this was loaded from, which no run may write onto."""
        self.segmenter = RecurrentSegmenter(generator, classifier, config, sam)

    @telling_out_of_memory()
    def segment_image(
        self,
        image: NDArray[np.uint8],
        texts: Sequence[str],
        *,
        distractors: Sequence[str] = (),
        trace: Trace | None = None,
    ) -> StepResult:
        """CaR as published, on one image.

        Args:
            image: uint8 (H, W, 3) RGB.
            texts: the N expressions.
            distractors: texts that compete but get no mask.
            trace: is filled with the recurrent steps.

        Raises:
            ValueError: `image` has another dtype or shape.
            ExpressionError: an expression is empty or too long.
        """
        queries = Queries(tuple(texts), tuple(distractors))
        return self.segmenter.segment(image, queries, trace=trace)

    def stream(
        self,
        frames: Iterable[Frame | NDArray[np.uint8]],
        texts: Sequence[str],
        *,
        distractors: Sequence[str] = (),
        state: TemporalState | None = None,
    ) -> Iterator[FrameResult]:
        """Yield the masks of each frame as it comes; strictly causal, endless input is fine.

        Args:
            frames: `Frame`s, or images, uint8 (H, W, 3) RGB.
            texts: the N expressions.
            distractors: texts that compete but get no mask.
            state: the state that an earlier frame left (`FrameResult.state`), to go on from.

        Raises:
            ExpressionError: an expression is empty or too long.
        """
        queries = Queries(tuple(texts), tuple(distractors))
        with telling_out_of_memory():
            for step in self._steps(frames, queries, state):
                yield step.result

    def offline(
        self,
        frames: Iterable[Frame | NDArray[np.uint8]],
        texts: Sequence[str],
        *,
        distractors: Sequence[str] = (),
        state: TemporalState | None = None,
    ) -> Iterator[FrameResult]:
        """Yield the masks of each frame when `temporal.lag` further key frames have been seen, so
        that they have a say; as `stream` otherwise."""
        queries = Queries(tuple(texts), tuple(distractors))
        config = self.config.temporal
        if not config.looks_ahead:
            yield from self.stream(frames, texts, distractors=distractors, state=state)
            return
        steps = self._steps(frames, queries, state)
        with telling_out_of_memory():
            yield from smooth(
                steps, len(queries.texts), config, self.segmenter.sharpen,
                present=self.config.car.present,
            )  # fmt: skip

    def _steps(
        self,
        frames: Iterable[Frame | NDArray[np.uint8]],
        queries: Queries,
        state: TemporalState | None,
    ) -> Iterator[Step]:
        state = state or TemporalState.initial(len(queries.all))
        count, config = len(queries.texts), self.config.temporal
        phrases = [self.segmenter.understand(text) for text in queries.all]
        of_motion = [query for query, phrase in enumerate(phrases) if phrase.of_motion]
        surely = self.segmenter.surely_there(count)
        for index, given in enumerate(frames):
            frame = given if isinstance(given, Frame) else Frame(index, float("nan"), given)
            context = observe(
                state, frame.image, config, time_s=frame.time_s, of_motion=of_motion, surely=surely
            )
            if context.asked is None:
                assert context.carried is not None
                state = after_carrying(context)
                maps = select_maps(context.carried, state.chosen, count, context.carried.shape[1:])
                masks = cut(maps, frame.image)
            else:
                found = self.segmenter.segment(
                    frame.image,
                    queries,
                    alive=context.asked,
                    prior=context.prior(self.segmenter.size_of(frame.image), config),
                    apply_memory=partial(apply_memory, context, config=config),
                )
                masks, maps, state = after_key(context, found, self.config.car.theta, config)
            result = FrameResult(
                frame.index, frame.time_s, masks, maps, state.scores[:count],
                state,
            )  # fmt: skip
            yield Step(frame.image, context, result)

    @telling_out_of_memory()
    def segment(
        self,
        video: str | Path,
        texts: Sequence[str],
        *,
        distractors: Sequence[str] = (),
        out: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
        progress: bool = False,
        selection: Selection = ALL,
        raw: tuple[int, int, Fraction] | None = None,
        formats: Sequence[str] = (),
        stop: Callable[[], bool] = never,
    ) -> Track:
        """Segment a whole clip.

        Args:
            video: a video file, a folder of images, one image, or what `open_video` reads live.
            texts: the N expressions; expression k, from 1, is label k.
            distractors: texts that compete but get no mask.
            out: write the run's folder there, frame by frame; without it the masks stay in
                memory, packed, until `Track.save`.
            resume: go on after the last whole frame that `out` holds.
            overwrite: replace an earlier run in `out`, when the first frame is done; it is kept in
                `out/.carvid/replaced` until the new one is whole.
            progress: show a bar with frames per second on stderr.
            part: which of the frames are used, and how large.
            raw: of a pipe's frames without a header: height, width and frame rate.
            formats: what else to write into `out`; see `carvid.exports.formats.export`.
            stop: asked after each frame, of the video and of whatever is written of it; the run
                then ends as an interrupted one, with a video of what is done. Frames that looking
                ahead has not decided by then are done again. Without `out` the frames until then
                are the whole clip, and the track is returned.

        Raises:
            KeyboardInterrupt: `stop` said so, and there is `out`; it can be resumed, or is whole if
                the input is live.
            VideoError: the input cannot be read.
            ExpressionError: an expression is empty or too long.
            ConfigError: an unknown format.
            OutputError: `out` holds something else, or what is read here, cannot be written, or a
                format cannot be had of live input.
            ValueError: there are formats and no `out`.
        """
        if formats and out is None:
            raise ValueError("formats are written into out; give out, or none of them")
        queries = Queries(tuple(texts), tuple(distractors))
        with open_video(video, selection=selection, raw=raw) as reader:
            facts = self.facts(reader.info, queries)
            if out is None:
                return self._in_memory(facts, reader, queries, progress=progress, stop=stop)
            check_formats(formats, reader.info)
            folder = RunFolder(Path(out), facts)
            check_apart([*input_files(video), *self.sources], run_paths(folder.folder))
            folder.check(resume=resume, overwrite=overwrite)
            self.check_texts(queries)
            with locked(folder.folder):
                stopped = False
                if resume and folder.finished and not overwrite:
                    tidy(folder.folder)
                else:
                    start, state = folder.begin(resume=resume, overwrite=overwrite)
                    try:
                        stopped = self._fill(
                            folder, reader, queries, start, state, progress=progress, stop=stop
                        )
                    except VideoError:
                        folder.abandon()
                        folder.forget_if_empty()
                        raise
                    except BaseException:
                        folder.abandon()
                        raise
                track = Track.open(out)
                # What came live and was stopped will not come again: all of it is written.
                asked = never if stopped else stop
                write_formats(track, folder.folder, formats, progress=progress, stop=asked)
                if stopped:
                    raise KeyboardInterrupt
        return track

    def _in_memory(
        self,
        facts: RunFacts,
        reader: VideoReader,
        queries: Queries,
        *,
        progress: bool,
        stop: Callable[[], bool],
    ) -> Track:
        """Do a clip's frames until `stop` says so, and keep their masks."""
        store, stopped = MemoryStore(facts), False

        def noted() -> bool:
            nonlocal stopped
            stopped = stop()
            return stopped

        results = self._results(
            reader, queries, 0, None, progress=progress, stop=noted, decide_all=True
        )
        with closing(results):
            for result in results:
                store.add(result)
        return store.track(reader.lost, cut_short=stopped)

    def _fill(
        self,
        folder: RunFolder,
        reader: VideoReader,
        queries: Queries,
        start: int,
        state: TemporalState | None,
        *,
        progress: bool,
        stop: Callable[[], bool],
    ) -> bool:
        """Do a run's frames and finish its folder; return whether a live input was stopped."""
        began = time.monotonic()
        frames, stopped = 0, False
        if not start:
            folder.draw_along()
        found = self._results(
            reader, queries, start, state, progress=progress, see=folder.see, stop=stop
        )
        with (
            closing(found) as results,
            run_in_background(folder.add, attrgetter("nbytes")) as write,
        ):
            try:
                for result in results:
                    write(result)
                    frames += 1
            except _Stopped:
                stopped = True
        if stopped and not reader.info.live:
            folder.pause(progress=progress)
            raise KeyboardInterrupt
        seconds = time.monotonic() - began
        timing = {"seconds": round(seconds, 3), "frames_per_s": round(frames / seconds, 3)}
        if not progress:  # a bar says as much
            name = Path(reader.info.path).name
            rate = frames / seconds
            log.info("%s: %d frames in %.1f s, %.2f frame/s", name, frames, seconds, rate)
        folder.finish(timing, lost=reader.lost, progress=progress, stop=stop)
        return stopped

    def check_texts(self, queries: Queries) -> None:
        """Encode the run's texts, once; an expression that is too long is found before any frame.

        Raises:
            ExpressionError: an expression is longer than the text encoder reads.
        """
        generator, classifier = self.backbones
        texts = [self.segmenter.understand(text).text for text in queries.all]
        generator.encode_texts([self.config.proposals.template.format(text) for text in texts])
        for template in self.config.classifier.templates:
            classifier.encode_texts([template.format(text) for text in texts])

    def facts(self, video: VideoInfo, queries: Queries) -> RunFacts:
        """Return what a run.json says of a run of this model."""
        generator, classifier = self.backbones
        weights = {
            "generator": generator.name,
            "classifier": classifier.name,
            "device": str(generator.device),
            "dtype": str(generator.dtype).removeprefix("torch."),
        }
        return RunFacts(self.config, video, queries.texts, queries.distractors, weights)

    def _results(
        self,
        reader: VideoReader,
        queries: Queries,
        start: int,
        state: TemporalState | None,
        *,
        progress: bool,
        see: Callable[[Frame], Frame] | None = None,
        stop: Callable[[], bool] = never,
        decide_all: bool = False,
    ) -> Generator[FrameResult, None, None]:
        """Yield the frames' results; `stop` is asked after each frame that was looked at, whose
        result may have to wait for later ones.

        Raises:
            _Stopped: `stop` said so, and what still waits for later frames is not to be decided.
        """
        frames = prefetch(reader.frames(start), frames_ahead(reader.info.size_hw))
        shown = map(see, frames) if see is not None and reader.info.live else frames
        bar = tqdm(
            shown, initial=start, total=reader.expected, unit="frame",
            desc=Path(reader.info.path).name, disable=not progress,
        )  # fmt: skip
        try:
            follow = self.stream if reader.info.live else self.offline
            yield from follow(
                _until(bar, stop, quietly=decide_all), queries.texts,
                distractors=queries.distractors, state=state,
            )  # fmt: skip
        finally:
            bar.close()  # what is said next has a line of its own
            frames.close()


class _Stopped(Exception):
    """Somebody wants to stop."""


def _until(
    frames: Iterable[Frame], stop: Callable[[], bool], *, quietly: bool = False
) -> Iterator[Frame]:
    """Yield frames; `stop` is asked after each.

    Raises:
        _Stopped: it said so, and they should not end `quietly`.
    """
    for frame in frames:
        yield frame
        if stop():
            if quietly:
                return
            raise _Stopped
