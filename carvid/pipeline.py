"""Carvid: frames and expressions in, masks out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from carvid.base.guard import check_apart
from carvid.base.interrupt import EndingQuietly, Stopped, never, stop_when, until_stopped
from carvid.base.memory import telling_out_of_memory
from carvid.base.names import shown
from carvid.base.scale import cut_masks
from carvid.car.classes import Texts, queries_of
from carvid.car.competing import takes_classes
from carvid.car.exact_crf import check_installed
from carvid.car.queries import Queries
from carvid.car.segmenter import RecurrentSegmenter
from carvid.car.step import StepResult
from carvid.car.trace import Trace
from carvid.clip.backbone import ClipBackbone
from carvid.clip.content import contents_meanwhile, weights_files
from carvid.clip.weights import load_backbone, resolve
from carvid.config import Config, settings_files
from carvid.exports.export import check_formats, write_formats
from carvid.media.given import Source, ahead, open_source, to_frame
from carvid.media.open import ALL, Frame, Selection, VideoInfo, VideoReader, files_of
from carvid.media.pictures import Picture, to_rgb
from carvid.run.facts import RunFacts
from carvid.run.folder import RunFolder
from carvid.run.layout import run_paths
from carvid.run.lock import locked
from carvid.run.names import check_names
from carvid.run.record import record
from carvid.run.result import FrameResult
from carvid.run.track import MemoryStore, Track
from carvid.sam.refiner import SamRefiner, sam_refiner
from carvid.show.run_overlay import run_overlay
from carvid.temporal.carry import select_maps
from carvid.temporal.lookahead import smooth
from carvid.temporal.memory import apply_memory
from carvid.temporal.observe import observe
from carvid.temporal.pending import CausalFrame
from carvid.temporal.state import TemporalState
from carvid.temporal.update import after_carrying, after_key


@telling_out_of_memory()
def load(
    preset: str | Path | Config = "default",
    overrides: Iterable[str] = (),
    *,
    generator: str | Path | None = None,
    classifier: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
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
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, or a torch device.
        dtype: `auto`, `float32`, `float16`, `bfloat16`, or that of torch.

    Raises:
        ConfigError: an unknown preset or setting, or `crf.mode=exact` without pydensecrf.
        WeightsError: weights that are missing or of the wrong kind.
        OutOfMemoryError: the models do not fit; so with whatever a `Carvid` does.
    """
    config = resolve(
        preset, overrides, generator=generator, classifier=classifier, device=device, dtype=dtype
    )
    check_installed(config.crf)
    with contents_meanwhile(config) as contents:
        sam = sam_refiner(config)
        first = load_backbone(config.weights.generator, config.weights)
        same = config.weights.classifier == config.weights.generator
        second = first if same else load_backbone(config.weights.classifier, config.weights)
        model = Carvid(config, first, second, sam)
        model.contents = contents()
    model.sources = (*settings_files(preset), *weights_files(config))
    return model


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
        self.contents: dict[str, str] = {}
        """What tells the weights from others; see `RunFacts.contents`."""
        self.segmenter = RecurrentSegmenter(generator, classifier, config, sam)

    def __repr__(self) -> str:
        generator, classifier = (backbone.name for backbone in self.backbones)
        return f"Carvid({generator!r}, {classifier!r}, device='{self.backbones[0].device}')"

    @takes_classes
    @telling_out_of_memory()
    def segment_image(
        self,
        image: Picture,
        texts: Texts,
        *,
        distractors: str | Iterable[str] = (),
        trace: Trace | None = None,
    ) -> StepResult:
        """CaR as published, on one image.

        Args:
            image: uint8 (H, W, 3) RGB, or another picture that `to_rgb` knows.
            texts: the N expressions, one, or classes.
            distractors: texts that compete but get no mask.
            trace: is filled with the recurrent steps.

        Raises:
            ValueError: `image` is no picture.
            ExpressionError: an expression is empty or too long.
        """
        queries = queries_of(texts, distractors)
        return self.segmenter.segment(to_rgb(image), queries, trace=trace)

    @takes_classes
    def stream(
        self,
        frames: Iterable[Frame | Picture],
        texts: Texts,
        *,
        distractors: str | Iterable[str] = (),
        state: TemporalState | None = None,
    ) -> Iterator[FrameResult]:
        """Yield the masks of each frame as it comes; strictly causal, endless input is fine.

        Args:
            frames: `Frame`s, or pictures: uint8 (H, W, 3) RGB, or others that `to_rgb` knows.
            texts: the N expressions, one, or classes.
            distractors: texts that compete but get no mask.
            state: the state that an earlier frame left (`FrameResult.state`), to go on from.

        Raises:
            ExpressionError: an expression is empty or too long.
            ValueError: a frame is no picture.
        """
        queries = queries_of(texts, distractors)
        stuff = self.segmenter.stuff_of(queries) if self.segmenter.competing else None
        with telling_out_of_memory():
            for frame in self._causal_pass(frames, queries, state):
                yield FrameResult.of(frame, stuff)

    @takes_classes
    def offline(
        self,
        frames: Iterable[Frame | Picture],
        texts: Texts,
        *,
        distractors: str | Iterable[str] = (),
        state: TemporalState | None = None,
    ) -> Iterator[FrameResult]:
        """Yield the masks of each frame when `temporal.lag` further key frames have been seen, so
        that they have a say; as `stream` otherwise."""
        queries = queries_of(texts, distractors)
        config = self.config.temporal
        if not config.looks_ahead:
            yield from self.stream(frames, queries, state=state)
            return
        causal, stuff = self._causal_pass(frames, queries, state), self.segmenter.stuff_of(queries)
        with telling_out_of_memory():
            decided = smooth(
                causal, len(queries.texts), config, self.segmenter.sharpen.of(stuff),
                present=self.config.car.present,
            )  # fmt: skip
            for frame in decided:
                yield FrameResult.of(frame, stuff if self.segmenter.competing else None)

    def _causal_pass(
        self,
        frames: Iterable[Frame | Picture],
        queries: Queries,
        state: TemporalState | None,
    ) -> Iterator[CausalFrame]:
        """Yield each frame's masks and the state that it leaves; no later frame has a say."""
        state = state or TemporalState.initial(len(queries.all))
        count, config = len(queries.texts), self.config.temporal
        phrases = [self.segmenter.understand(text) for text in queries.all]
        of_motion = [query for query, phrase in enumerate(phrases) if phrase.of_motion]
        always_there = self.segmenter.always_there(count)
        for index, given in enumerate(frames):
            frame = to_frame(given, index)
            context = observe(
                state, frame.image, config, time_s=frame.time_s, of_motion=of_motion,
                always_there=always_there,
            )  # fmt: skip
            if not context.is_key:
                assert context.carried is not None
                state = after_carrying(context)
                maps = select_maps(context.carried, state.chosen, count, context.carried.shape[1:])
                masks = cut_masks(maps, frame.image)
            else:
                found = self.segmenter.segment(
                    frame.image,
                    queries,
                    alive=context.alive,
                    prior=context.prior(self.segmenter.size_of(frame.image), config),
                    apply_memory=partial(apply_memory, context, config=config),
                )
                masks, maps, state = after_key(context, found, self.config.car.theta, config)
            yield CausalFrame(
                index=frame.index, time_s=frame.time_s, image=frame.image, context=context,
                masks=masks, maps=maps, state=state,
            )  # fmt: skip

    @takes_classes
    @telling_out_of_memory()
    def segment(
        self,
        video: Source,
        texts: Texts,
        *,
        distractors: str | Iterable[str] = (),
        out: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
        progress: bool = False,
        selection: Selection = ALL,
        frame_rate: Fraction | float | None = None,
        raw: tuple[int, int, Fraction] | None = None,
        formats: Sequence[str] = (),
        keep_names: bool = False,
        stop: Callable[[], bool] = never,
    ) -> Track:
        """Segment a whole clip.

        Args:
            video: a video file, a folder or a pattern of images, one image, what `open_video` reads
                live, or frames: any iterable of `Frame`s or pictures, which is read once.
            texts: the N expressions, one, or classes; text k, from 1, is label k.
            distractors: texts that compete but get no mask.
            out: write the run's folder there, frame by frame; without it the masks stay in
                memory, packed, until `Track.save`.
            resume: go on after the last whole frame that `out` holds; a damaged run is made again.
            overwrite: replace an earlier run in `out`, when the first frame is done; it is kept in
                `out/.carvid/replaced` until the new one is whole. With `resume`, too: one that is
                made of the same goes on.
            progress: show a bar with frames per second on stderr.
            selection: which of the frames are used, and how large.
            frame_rate: of pictures, frames per second; None is their own times, or else 24.
            raw: of a pipe's frames without a header: height, width and frame rate.
            formats: what else to write into `out`; see `carvid.export`.
            keep_names: name masks and cut-outs as the frames of a folder, not by numbers.
            stop: asked after each frame, of the video and of whatever is written of it; the run
                then ends as an interrupted one, with a video of what is done. Frames that looking
                ahead has not decided by then are done again. Without `out` the frames until then
                are the whole clip, and the track is returned.

        Raises:
            Stopped: `stop` said so, and there is `out`; it can be resumed, or is whole if the input
                comes only once. It is a KeyboardInterrupt.
            VideoError: the input cannot be read.
            ExpressionError: an expression is empty or too long.
            ConfigError: an unknown format; or a frame rate that is none, or of a video file.
            OutputError: `out` holds something else, or what is read here, cannot be written, or a
                format cannot be had of what comes only once; or frames have no names to keep.
            ValueError: there are formats and no `out`; or a frame is no picture.
        """
        if formats and out is None:
            raise ValueError("formats are written into out; give out, or none of them")
        queries = queries_of(texts, distractors)
        given = open_source(video, frame_rate=frame_rate, selection=selection, raw=raw)
        with given as reader, stop_when(stop):
            if keep_names:
                check_names(reader.info.names, reader.info.path)
            facts = self.facts(reader.info, queries, keep_names=keep_names)
            if out is None:
                return self._in_memory(reader, facts, queries, progress=progress)
            check_formats(formats, reader.info)
            check_apart([*files_of(reader.info), *self.sources], run_paths(Path(out)))
            folder = RunFolder(Path(out), facts, run_overlay(Path(out), facts))
            folder.check(resume=resume, overwrite=overwrite)
            self.segmenter.check_texts(queries)
            with locked(folder.folder):
                return self._into(
                    folder, reader, queries, formats,
                    resume=resume, overwrite=overwrite, progress=progress,
                )  # fmt: skip

    def _in_memory(
        self, reader: VideoReader, facts: RunFacts, queries: Queries, *, progress: bool
    ) -> Track:
        """Segment a clip's frames until somebody wants to stop, and keep their masks."""
        store = MemoryStore(facts, run_overlay)
        ending = EndingQuietly()
        found = self._results(reader, queries, 0, None, until=ending, progress=progress)
        with closing(found) as results:
            for result in results:
                store.add(result)
        return store.track(reader.lost, cut_short=ending.stopped)

    def _into(
        self,
        folder: RunFolder,
        reader: VideoReader,
        queries: Queries,
        formats: Sequence[str],
        *,
        resume: bool,
        overwrite: bool,
        progress: bool,
    ) -> Track:
        """Segment a clip into a run's folder, which is locked, with what else is to be written."""
        ending = EndingQuietly()
        if resume and folder.done(resume=resume, overwrite=overwrite):
            folder.complete()
        else:
            results = partial(
                self._results, reader, queries,
                see=None if folder.overlay is None else folder.overlay.see,
                until=ending if reader.info.live else until_stopped, progress=progress,
            )  # fmt: skip
            record(
                folder, results, reader.lost,
                resume=resume, overwrite=overwrite, progress=progress,
            )  # fmt: skip
        track = Track.open(folder.folder)
        if not ending.stopped:
            write_formats(track, folder.folder, formats, progress=progress)
            return track
        with stop_when(never):  # what came once will not come again: all of it is written
            write_formats(track, folder.folder, formats, progress=progress)
        raise Stopped

    def facts(self, video: VideoInfo, queries: Queries, *, keep_names: bool = False) -> RunFacts:
        """Return what a run.json says of a run of this model; `keep_names` as of `segment`."""
        generator, classifier = self.backbones
        weights = {
            "generator": generator.name,
            "classifier": classifier.name,
            "device": str(generator.device),
            "dtype": str(generator.dtype).removeprefix("torch."),
        }
        return RunFacts.of_input(
            self.config, video, queries, weights, self.contents, keep_names=keep_names
        )

    def _results(
        self,
        reader: VideoReader,
        queries: Queries,
        start: int,
        state: TemporalState | None,
        *,
        see: Callable[[Frame], Frame] | None = None,
        until: Callable[[Iterable[Frame]], Iterable[Frame]] = until_stopped,
        progress: bool,
    ) -> Generator[FrameResult, None, None]:
        """Yield the results of a reader's frames from index `start` on, before which `state` was
        left; `see` takes note of frames that come only once, `until` ends them."""
        reader.known = None if state is None else (start - 1, state.time_s)
        frames, info = ahead(reader, start), reader.info
        bar = tqdm(
            map(see, frames) if see is not None and info.live else frames, initial=start,
            total=reader.expected, unit="frame", desc=shown(Path(info.path).name),
            disable=not progress,
        )  # fmt: skip
        follow = self.stream if info.endless else self.offline
        try:
            yield from follow(until(bar), queries, state=state)
        finally:
            bar.close()  # what is said next has a line of its own
            frames.close()
