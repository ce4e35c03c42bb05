"""Session: what one window, or one client of the API, works on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from carvid.app.clip_session import ClipSession
from carvid.app.desk import CAN_FOLLOW_INSTANCES
from carvid.app.exporting import write_export
from carvid.app.jobs import Job
from carvid.app.project import EXPORTS, INDEX, Project
from carvid.app.quick import asked_for_all
from carvid.app.things import Thing
from carvid.base.errors import ConfigError
from carvid.base.words import plural
from carvid.run.track import Track


class Session(ClipSession):
    """What one window works on: a clip, the things that are looked for, and what was found.

    Methods that take long return at once, with a `Job`; there is one at a time. All of them may be
    called from any thread.

    Args:
        desk: what it shares with the others.
    """

    # What is looked for

    def change(self, action: str, place: int = 0, value: str = "") -> None:
        """Change the list of things: `add`, `rename`, `paint` or `remove`.

        Raises:
            ConfigError: it cannot be done.
        """
        with self._lock:
            if action == "add":
                for line in filter(str.strip, str(value).splitlines() or [""]) or [""]:
                    self.things.add(line)
            elif action == "rename":
                self.things.rename(place, value)
            elif action == "paint":
                self.things.paint(place, value)
            elif action == "remove":
                self.things.remove(place)
            else:
                raise ConfigError(f"unknown change '{action}'")
            self.exports = {}
            if self.project is not None and self.project.track is not None:
                self.project.keep_names(self.things.all)
            self.changed()

    def find(
        self,
        *,
        theta: float | None = None,
        others: Sequence[str] = (),
        from_index: bool = False,
        instances: bool = False,
    ) -> Job:
        """Look for all things in every frame; a run of the same that was cancelled goes on.

        Args:
            theta: θ, 0 to 1; None is the preset's.
            others: what else may be there; it competes and gets no mask.
            from_index: let the index answer, which is quicker and rougher.
            instances: tell several things of one name apart.

        Raises:
            ConfigError: there is no clip, nothing to look for, or no index.
        """
        project, texts = self._project, self._texts
        theta = _checked(theta)
        index = project.index if from_index else None
        if from_index and index is None:
            raise ConfigError("prepare the clip for quick answers first")
        if instances and not CAN_FOLLOW_INSTANCES:
            raise ConfigError("this version of carvid does not tell things of one kind apart")
        more: dict[str, Any] = {"instances": True} if instances else {}

        def work(job: Job) -> dict[str, Any]:
            clip, model = project.clip, self._model(theta)
            how: dict[str, Any] = {} if index is not None else {
                "selection": clip.selection, "frame_rate": clip.info.asked_rate,
            }  # fmt: skip
            project.begin()
            self.things.asked(texts)
            with self._taking_up(project, texts):
                track = model.segment(
                    clip.path if index is None else index.folder, texts, distractors=list(others),
                    out=project.run, resume=True, overwrite=True, stop=job.stop, **how, **more,
                )  # fmt: skip
            found: dict[str, Any] = track.summary()
            return found

        return self._start(
            Job(f"looking for {plural(len(texts), 'thing')}", work, len(project.clip))
        )

    def correct(self, corrections: Sequence[Any], keep: int | None = None) -> Job:
        """Correct the run by clicks.

        Args:
            corrections: `carvid.Correction`s, added to those that it has.
            keep: keep only so many of those that it has.

        Raises:
            ConfigError: there is no run.
        """
        project = self._project
        if project.track is None:
            raise ConfigError("find something first; then it can be corrected")
        if not corrections and keep is None:
            raise ConfigError("click on the picture first: on what is wrong, or what is missing")
        kept = {} if keep is None else {"keep": keep}

        def work(job: Job) -> dict[str, Any]:
            model: Any = self._model(None)
            with self._taking_up(project, ()):
                track = model.correct(
                    project.run, list(corrections), progress=False, stop=job.stop, **kept
                )
            found: dict[str, Any] = track.summary()
            return found

        return self._start(Job("correcting the clip", work, len(project.clip)))

    def prepare(self) -> Job:
        """Make the index of the clip, for quick answers; one that was begun goes on."""
        project, texts = self._project, self.things.texts

        def work(job: Job) -> int:
            clip, model = project.clip, self._model(None)
            index = model.index(
                clip.path, project.folder / INDEX, selection=clip.selection,
                frame_rate=clip.info.asked_rate, stop=job.stop,
            )  # fmt: skip
            quick = asked_for_all(model, index, texts) if texts else None
            project.index, project.quick = index, quick
            return len(index.key_frames)

        return self._start(Job("preparing quick answers", work, len(project.clip)))

    def ask(self) -> Job:
        """Ask the index for all things; θ may be anything afterwards.

        Raises:
            ConfigError: there is no index, or nothing to look for.
        """
        project, texts = self._project, self._texts
        if project.index is None:
            raise ConfigError("prepare the clip for quick answers first")
        index = project.index

        def work(job: Job) -> int:
            project.quick = asked_for_all(self._model(None), index, texts)
            return len(texts)

        return self._start(Job("asking", work))

    def export(self, name: str) -> Job:
        """Make a file to take along, in one of `carvid.app.exporting.CHOICES`.

        Raises:
            ConfigError: there is no run.
        """
        project, things = self._project, [each for each in self.things.all if each.label]
        if project.track is None:
            raise ConfigError("find something first; then there is something to export")

        def work(job: Job) -> Path:
            path = write_export(project.run, things, project.folder / EXPORTS, name)
            self.exports = {**self.exports, path.name: path}
            return path

        job = Job(f"writing {name}", work, len(project.clip))
        return self._start(job, beside=True)

    # What is seen

    def picture(
        self,
        frame: int,
        *,
        source: str = "run",
        places: Sequence[int] | None = None,
        theta: float = 0.0,
        side: int = 1280,
        names: bool = True,
    ) -> bytes:
        """Return a frame as a JPEG with the masks of things at some places in the list, from 0;
        None are all.

        Raises:
            CarvidError: there is no such frame, or it cannot be read.
        """
        project, things = self._project, self.things.all
        chosen = things if places is None else [things[k] for k in places if 0 <= k < len(things)]
        if source == "quick" and project.quick is not None:
            labels = {text: label for label, text in enumerate(project.quick.texts, 1)}
            chosen = [replace(each, label=labels.get(each.text, 0)) for each in chosen]
        there: list[Thing] = [each for each in chosen if each.label]
        return project.picture(
            frame, there, source=source, theta=_checked(theta) or 0.0, side=side, names=names
        )

    # Inside

    @property
    def _texts(self) -> list[str]:
        if not self.things.texts:
            raise ConfigError("say what to find first, as 'the white dog'")
        return self.things.texts

    @contextmanager
    def _taking_up(self, project: Project, texts: Sequence[str]) -> Iterator[None]:
        """Show what is in the run's folder when the block has ended, however it has."""
        try:
            yield
        finally:
            with self._lock:
                project.look_again()
                if project.track is not None:
                    self.things.asked(project.track.texts, _owners(project.track))
                else:
                    self.things.asked(texts if project.going else ())
                self.exports = {}
                if project.track is not None:
                    project.keep_names(self.things.all)


def _owners(track: Track) -> list[str]:
    """The expression of each label, where things of one kind have labels of their own."""
    asked = getattr(track.facts, "asked", ())
    owners = {label: entry.text for entry in asked for label in entry.labels}
    return [owners.get(label, text) for label, text in enumerate(track.texts, 1)]


def _checked(theta: float | None) -> float | None:
    """θ as it may be.

    Raises:
        ConfigError: it is not from 0 to 1.
    """
    if theta is None:
        return None
    if not (isinstance(theta, int | float) and math.isfinite(theta) and 0 <= theta <= 1):
        raise ConfigError(f"θ must be from 0 to 1, got {theta}")
    return float(theta)
