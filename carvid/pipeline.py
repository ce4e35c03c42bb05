"""Carvid: frames and expressions in, masks out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch

from carvid.base.errors import ConfigError
from carvid.base.guard import check_apart
from carvid.base.interrupt import EndingQuietly, Stopped, never, stop_when, until_stopped
from carvid.base.memory import telling_out_of_memory
from carvid.car.classes import Texts, queries_of
from carvid.car.competing import takes_classes
from carvid.car.exact_crf import check_installed
from carvid.car.marks import Instances
from carvid.car.queries import Queries
from carvid.clip.content import contents_meanwhile, weights_files
from carvid.clip.weights import load_backbone, resolve
from carvid.config import Config, settings_files
from carvid.corrections.models import CorrectingModel
from carvid.corrections.write import check_correctable
from carvid.exports.export import check_formats, write_formats
from carvid.index.clip_index import ClipIndex
from carvid.index.facts import is_index
from carvid.index.models import IndexingModel
from carvid.instances.run import Options, segment_instances
from carvid.media.given import Source, open_source
from carvid.media.open import ALL, Frame, Selection, VideoReader, files_of
from carvid.run.corrections import Correction, check_label
from carvid.run.facts import RunFacts
from carvid.run.folder import RunFolder
from carvid.run.layout import run_paths
from carvid.run.lock import locked
from carvid.run.names import check_names
from carvid.run.reading import reading
from carvid.run.record import record
from carvid.run.result import FrameResult
from carvid.run.track import MemoryStore, Track
from carvid.sam.followers import new_follower_of
from carvid.sam.refiner import sam_refiner
from carvid.show.run_overlay import run_overlay
from carvid.streaming import Seen, Streaming
from carvid.temporal.sam2_carrier import check_carrier
from carvid.temporal.state import TemporalState


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
    """Load the two frozen CLIPs that a preset names, and the SAM and SAM 2, if it names them.

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
        ConfigError: an unknown preset or setting, `crf.mode=exact` without pydensecrf, or SAM 2 for
            classes.
        WeightsError: weights that are missing or of the wrong kind.
        OutOfMemoryError: the models do not fit; so with whatever a `Carvid` does.
    """
    config = resolve(
        preset, overrides, generator=generator, classifier=classifier, device=device, dtype=dtype
    )
    check_installed(config.crf)
    check_carrier(config)
    with contents_meanwhile(config) as contents:
        sam = sam_refiner(config)
        first = load_backbone(config.weights.generator, config.weights)
        same = config.weights.classifier == config.weights.generator
        second = first if same else load_backbone(config.weights.classifier, config.weights)
        model = Carvid(config, first, second, sam)
        model.new_follower = new_follower_of(config)
        model.contents = contents()
    model.sources = (*settings_files(preset), *weights_files(config))
    return model


class Carvid(Streaming, IndexingModel, CorrectingModel):
    """Two frozen CLIPs and the settings they run with.

    Args:
        config: the resolved settings.
        generator: the CLIP of the mask proposal generator.
        classifier: the CLIP of the mask classifier; may be the same object.
        sam: what a SAM makes of a frame's masks.
    """

    def __repr__(self) -> str:
        generator, classifier = (backbone.name for backbone in self.backbones)
        return f"Carvid({generator!r}, {classifier!r}, device='{self.backbones[0].device}')"

    @takes_classes
    @telling_out_of_memory()
    def segment(
        self,
        video: Source | ClipIndex,
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
        thorough: bool = False,
        corrections: Sequence[Correction] = (),
        instances: Instances = False,
        stop: Callable[[], bool] = never,
    ) -> Track:
        """Segment a whole clip.

        Args:
            video: a video file, a folder or a pattern of images, one image, what `open_video` reads
                live, or frames: any iterable of `Frame`s or pictures, which is read once; or an
                index, or its folder, whose clip is read with the index's selection and settings.
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
            thorough: of an index: ask the classifier at each key frame, as a run of the clip with
                the same settings does, and not at a few for each text.
            corrections: what a user says of frames of the run; see `correct`, which follows the
                run. With `resume` a run with others, or none, goes on from what it was before them.
            instances: every thing of each expression has a label of its own, "dog 1", "dog 2" (see
                `carvid.instances.run`); or those of some expressions, by their texts.
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
        check_carrier(self.config)
        if formats and out is None:
            raise ValueError("formats are written into out; give out, or none of them")
        if corrections and instances is not False:
            raise ConfigError("things have no labels yet; correct the run when it is made")
        if corrections:
            check_correctable(
                video.folder if isinstance(video, ClipIndex) else video, self.config
            )
            check_formats(formats)
            labels = len(queries_of(texts, distractors).texts)
            for each in corrections:
                check_label(each.label, labels)
            run = partial(
                self.segment, video, texts, distractors=distractors, progress=progress,
                selection=selection, frame_rate=frame_rate, raw=raw, keep_names=keep_names,
                thorough=thorough, stop=stop,
            )  # fmt: skip
            return self._run_and_correct(
                run, corrections, out, formats, resume=resume, overwrite=overwrite,
                progress=progress, stop=stop,
            )  # fmt: skip
        if instances is not False:
            options = Options(
                None if out is None else Path(out), resume, overwrite, progress, selection,
                frame_rate, formats, keep_names, stop,
            )  # fmt: skip
            return segment_instances(self, video, texts, instances, distractors, options)
        if isinstance(video, str | Path) and is_index(video):
            video = self.open_index(video)
        if isinstance(video, ClipIndex):
            if selection != ALL or frame_rate is not None or raw is not None:
                raise ConfigError("an index has frames of its own; leave --start and the like away")
            model, clip, queries = self._of_index(video, texts, distractors, thorough, out)
            return model.segment(
                clip.path, queries, out=out, resume=resume, overwrite=overwrite,
                progress=progress, selection=clip.selection, frame_rate=clip.asked_rate,
                formats=formats, keep_names=keep_names, stop=stop,
            )  # fmt: skip
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

    def follow(
        self,
        reader: VideoReader,
        queries: Queries,
        start: int,
        state: TemporalState | None,
        *,
        progress: bool,
    ) -> Generator[FrameResult, None, None]:
        """Yield the results of a reader's frames from index `start` on, before which `state` was
        left, until somebody wants to stop."""
        return self._results(reader, queries, start, state, progress=progress)

    def _results(
        self,
        reader: VideoReader,
        queries: Queries,
        start: int,
        state: TemporalState | None,
        *,
        see: Callable[[Frame], Frame] | None = None,
        until: Callable[[Iterable[Seen]], Iterable[Seen]] = until_stopped,
        progress: bool,
    ) -> Generator[FrameResult, None, None]:
        """Yield the results of a reader's frames from index `start` on, before which `state` was
        left; `see` takes note of frames that come only once, `until` ends them."""
        late = self.config.temporal.looks_ahead and not reader.info.endless
        with reading(
            reader, start, state, self.config.temporal, see=see, progress=progress
        ) as frames:
            yield from self._follow(until(frames), queries, state, late=late)
