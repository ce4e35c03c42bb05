"""What a model does with corrections: it decides what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from carvid.base.errors import ConfigError, DatasetError, OutputError, VideoError
from carvid.base.interrupt import never, stop_when
from carvid.base.memory import telling_out_of_memory
from carvid.base.names import existing
from carvid.car.competing import with_settings
from carvid.car.segmenter import RecurrentSegmenter
from carvid.config import Config
from carvid.corrections.clip import Clip, FramesFrom, frames_of
from carvid.corrections.correct import Corrector
from carvid.corrections.masks import CorrectedMasks
from carvid.corrections.prompts import NewPromptedFollower
from carvid.corrections.write import (
    CorrectedFolder,
    check_settings,
    corrected_folder,
    corrected_track,
    corrections_in,
    place_of_run,
    tidy_corrected,
    uncorrected,
    write_corrected,
)
from carvid.exports.export import check_formats, write_formats
from carvid.media.frames import Frame
from carvid.media.given import GivenFrames, open_source
from carvid.media.pictures import Picture
from carvid.run.corrections import Correction
from carvid.run.facts import RunFacts
from carvid.run.layout import overlay_name
from carvid.run.lock import locked
from carvid.run.track import Track

Model = TypeVar("Model", bound="CorrectingModel")


class CorrectingModel:
    """The part of a `Carvid` that corrects runs."""

    config: Config
    segmenter: RecurrentSegmenter
    new_follower: NewPromptedFollower | None

    @telling_out_of_memory()
    def correct(
        self,
        run: Track | str | Path,
        corrections: Iterable[Correction] = (),
        *,
        keep: int | None = None,
        frames: Sequence[Frame | Picture] | None = None,
        formats: Sequence[str] = (),
        progress: bool = False,
        stop: Callable[[], bool] = never,
    ) -> Track:
        """Correct a finished run: what is said of a frame holds in it, and spreads from there.

        Only frames that a correction changes are computed again. The run as it was stays in
        `uncorrected/` of its folder; other formats there are written again if they are asked for,
        and removed otherwise. Scores are those of the run: what CLIP said.

        Args:
            run: a run's folder, or a track.
            corrections: are added to those that the run has, in order.
            keep: of those that it has, only the first so many stay; None keeps all.
            frames: those of a track in memory that was made of frames.
            formats: what else to write into the run's folder; see `carvid.export`.
            progress: show a bar on stderr.
            stop: asked after each frame; the run stays as it was, or is resumed by the same call.
                Corrections that are the last ones of the run already are not made again.

        Returns:
            The corrected run: in its folder, or in memory.

        Raises:
            Stopped: `stop` said so.
            ConfigError: a correction cannot be said of this run; its expressions are classes, or
                it was made with other weights; an unknown format; or `frames`, `formats` or `keep`
                that are not for such a run.
            OutputError: the folder holds no finished run, or cannot be written.
            VideoError: the clip is no longer there, or came only once.
            DatasetError: a mask of the run is damaged.
            WeightsError: memory is too small for SAM 2.
        """
        if keep is not None and keep < 0:
            raise ConfigError(f"keep is 0 or more corrections, got {keep}")
        with stop_when(stop):
            if isinstance(run, Track) and run.folder is None:
                if formats:
                    raise ConfigError("a track in memory has no folder for formats; save it first")
                return self._correct_in_memory(run, list(corrections), keep, frames, progress)
            if frames is not None:
                raise ConfigError("frames are for a track in memory; a run's folder has its clip's")
            folder = existing(run.folder or "" if isinstance(run, Track) else run)
            uncorrected(folder)  # there is one; else the lock would make a folder
            with locked(folder):
                return self._correct_folder(folder, list(corrections), keep, formats, progress)

    def _run_and_correct(
        self,
        run: Callable[..., Track],
        corrections: Sequence[Correction],
        out: str | Path | None,
        formats: Sequence[str],
        *,
        resume: bool,
        overwrite: bool,
        progress: bool,
        stop: Callable[[], bool],
    ) -> Track:
        """Do a run and correct it; `run` takes `out`, `resume` and `overwrite`."""
        if out is None:
            return self.correct(run(), corrections, progress=progress, stop=stop)
        place = place_of_run(Path(out), corrections, resume=resume)
        if place == Path(out) or not _goes_on(run, place, or_not=overwrite):
            run(out=out, resume=resume, overwrite=overwrite)
        return self.correct(out, corrections, keep=0, formats=formats, progress=progress, stop=stop)

    def _correct_in_memory(
        self,
        track: Track,
        new: list[Correction],
        keep: int | None,
        frames: Sequence[Frame | Picture] | None,
        progress: bool,
    ) -> Track:
        earlier = track.facts.corrections
        if keep is not None and keep < len(earlier):
            raise ConfigError("a track in memory forgets no corrections; correct the first one")
        masks = CorrectedMasks(track)
        self._apply(track, masks, new, earlier, frames, progress)
        return corrected_track(track, masks, [*earlier, *new])

    def _correct_folder(
        self,
        folder: Path,
        new: list[Correction],
        keep: int | None,
        formats: Sequence[str],
        progress: bool,
    ) -> Track:
        """Correct the run of a folder, which is locked."""
        tidy_corrected(folder)
        start = uncorrected(folder)
        check_formats(formats, start.facts.video)
        earlier = corrections_in(corrected_folder(folder, start.facts))
        kept = earlier[:keep]
        if keep is None and new == earlier[len(earlier) - len(new) :]:
            new = []  # the same call again, whose end was interrupted
        wanted = [*kept, *new]
        target = corrected_folder(folder, replace(start.facts, corrections=tuple(wanted)))
        if not target.done(resume=True, overwrite=True):
            masks, known = _masks_of(start, target, kept if kept == earlier else [])
            self._apply(start, masks, wanted[known:], wanted[:known], None, progress)
            write_corrected(target, masks, progress=progress)
        track = Track.open(folder)
        write_formats(track, folder, formats, progress=progress)
        return track

    def _apply(
        self,
        track: Track,
        masks: CorrectedMasks,
        new: Sequence[Correction],
        earlier: Sequence[Correction],
        frames: Sequence[Frame | Picture] | None,
        progress: bool,
    ) -> None:
        """Change masks by corrections."""
        facts = track.facts
        for each in new:
            each.check(facts.video.size_hw, len(track), len(facts.texts))
        model = self._model_of(facts)
        with _open(track, frames) as frames_from:
            clip = Clip(frames_from, facts.video.size_hw, facts.config.temporal)
            corrector = Corrector(
                clip, masks, model.segmenter, facts.queries, facts.config, model.new_follower,
                progress=progress,
            )  # fmt: skip
            corrector.apply(new, earlier)

    def _model_of(self: Model, facts: RunFacts) -> Model:
        """The same model with a run's settings."""
        check_settings(facts.config)
        mine, its = self.config.networks, facts.config.networks
        for use in ("generator", "classifier", "sam2"):
            if use in its and mine.get(use) != its[use]:
                this = f"this is '{mine[use]}'" if use in mine else "this model has none"
                raise ConfigError(f"the run was made with the {use} '{its[use]}', {this}")
        model: Model = with_settings(self, facts.config)
        return model


def _goes_on(run: Callable[..., Track], kept: Path, *, or_not: bool) -> bool:
    """Go on with a run that was kept in a corrected one's folder; return whether it is one, which
    it must be unless `or_not`."""
    with locked(kept.parent):
        try:
            track = run(out=kept, resume=True)
        except OutputError:
            if or_not:
                return False
            raise
        # Of one that was damaged, and made again: that of the corrected run is beside it.
        (kept / overlay_name(track.facts.video)).unlink(missing_ok=True)
    return True


def _masks_of(
    start: Track, target: CorrectedFolder, kept: Sequence[Correction]
) -> tuple[CorrectedMasks, int]:
    """A run's masks with what corrections that its folder has, and that are kept, have changed; and
    how many these are. Where the corrected run is not whole they are none."""
    masks = CorrectedMasks(start)
    if kept and target.finished:
        try:
            masks.take(Track.open(target.folder))
        except (OutputError, DatasetError):  # it is damaged, and is made again
            return CorrectedMasks(start), 0
        return masks, len(kept)
    return masks, 0


@contextmanager
def _open(track: Track, frames: Sequence[Frame | Picture] | None) -> Iterator[FramesFrom]:
    """Give what yields a run's frames from an index on."""
    video = track.facts.video
    if frames is not None:
        given = partial(GivenFrames, frames, video.frame_rate, video.selection)
        count, size_hw = sum(1 for _ in given().frames()), given().info.size_hw
        if count != len(track) or size_hw != video.size_hw:
            raise ConfigError(
                f"the track has {len(track)} frames of height and width {video.size_hw}, and "
                f"{count} of {size_hw} are given"
            )
        yield lambda start: given().frames(start)
        return
    if video.live:
        raise VideoError(
            f"'{video.path}' came only once, and its frames are needed to correct it; give frames"
        )
    source = open_source(video.path, frame_rate=video.asked_rate, selection=video.selection)
    with source as reader:
        yield frames_of(reader, track.times_s)
