"""Session: what one window, or one client of the API, works on."""

from __future__ import annotations

import math
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from carvid.app.clips import Clip, read_clip
from carvid.app.exporting import write_export
from carvid.app.jobs import Job, Worker, run_beside
from carvid.app.limits import Limits
from carvid.app.models import Models
from carvid.app.project import CLIP, EXPORTS, INDEX, Project, new_folder
from carvid.app.quick import asked_for_all
from carvid.app.things import Thing, Things
from carvid.base.errors import CarvidError, ConfigError
from carvid.base.files import make_folder
from carvid.base.words import plural
from carvid.demo.example import NAME, example_folder
from carvid.media.open import ALL, Selection

CAN_FOLLOW_INSTANCES = False
"""Whether the page offers to tell several things of one name apart (`segment(instances=True)`)."""


@dataclass
class Desk:
    """What all sessions of a server share."""

    root: Path
    """The workspace; each clip has a folder in it."""
    keep: bool = True
    """Whether folders stay when a window opens another clip, or is closed."""
    limits: Limits = field(default_factory=Limits)
    models: Models = field(default_factory=Models)
    worker: Worker = field(default_factory=Worker)


class Session:
    """What one window works on: a clip, the things that are looked for, and what was found.

    Methods that take long return at once, with a `Job`; there is one at a time. All of them may be
    called from any thread.

    Args:
        desk: what it shares with the others.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.token = secrets.token_urlsafe(16)
        """What its pictures and files are asked for with; nobody can guess it."""
        self.seen_s = time.monotonic()
        """When it was last heard of."""
        self.project: Project | None = None
        self.things = Things(desk.limits.expressions)
        self.job: Job | None = None
        self.message: tuple[str, str] | None = None
        """What is to be told, and its kind: `error` or `done`."""
        self.exports: dict[str, Path] = {}
        """Files to take along, by name."""
        self._folders: list[Path] = []
        self.version = 0
        """Grows with each change of what is seen."""
        self._lock = threading.RLock()

    # The clip

    def open_example(self) -> Job:
        """Open the clip that carvid comes with."""
        path = example_folder() / f"{NAME}.mp4"
        return self._open(path, ALL, None, is_example=True)

    def open_path(self, path: str, selection: Selection = ALL) -> Job:
        """Open a clip on this machine's disk.

        Raises:
            ConfigError: this server does not do that.
        """
        if not self.desk.limits.from_disk:
            raise ConfigError("this server opens no files of its own disk; upload the clip")
        plain = str(path).strip().strip("'\"")
        if not plain or "\0" in plain:
            raise ConfigError("say where the clip is, as /home/me/clip.mp4")
        return self._open(Path(plain).expanduser(), selection, None)

    def open_upload(self, path: Path, name: str, selection: Selection = ALL) -> Job:
        """Open a clip that was uploaded, and take the file over.

        Args:
            path: where the server put it.
            name: what it was called.
            selection: which of its frames.
        """
        return self._open(path, selection, self.desk.limits, uploaded_as=Path(name).name)

    def open_part(self, selection: Selection) -> Job:
        """Open another part of the same clip."""
        clip = self._project.clip
        uploaded = clip.path.is_relative_to(self.desk.root)
        limits = self.desk.limits if uploaded else None
        return self._open(clip.path, selection, limits, is_example=clip.is_example)

    def _open(
        self,
        path: Path,
        selection: Selection,
        limits: Limits | None,
        *,
        uploaded_as: str | None = None,
        is_example: bool = False,
    ) -> Job:
        def work(job: Job) -> Clip:
            source = path
            folder = new_folder(self.desk.root, uploaded_as or path.name)
            try:
                if uploaded_as is not None:
                    make_folder(folder / CLIP)
                    source = folder / CLIP / f"{folder.name}{Path(uploaded_as).suffix.lower()}"
                    shutil.move(path, source)
                clip = read_clip(source, selection=selection, limits=limits, is_example=is_example)
                project = Project(folder, clip)
            except BaseException as error:
                shutil.rmtree(folder, ignore_errors=True)
                if uploaded_as is not None and isinstance(error, CarvidError):
                    raise type(error)(str(error).replace(str(source), uploaded_as)) from None
                raise
            self._take(project)
            return clip

        return self._start(Job(f"reading {uploaded_as or path.name}", work), beside=True)

    def _take(self, project: Project) -> None:
        with self._lock:
            if self.project is not None:
                self.project.close()
            self.project, self.exports = project, {}
            self._folders.append(project.folder)
            self.forget(but=project.clip.path)
            self.things.asked(())
            lost = project.clip.lost
            self.message = (
                ("error", f"part of the clip cannot be read: {lost[0]}") if lost else None
            )

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
        more: dict[str, Any] = {"instances": True} if instances and CAN_FOLLOW_INSTANCES else {}

        def work(job: Job) -> dict[str, Any]:
            clip, model = project.clip, self._model(theta)
            how: dict[str, Any] = {} if index is not None else {
                "selection": clip.selection, "frame_rate": clip.info.asked_rate,
            }  # fmt: skip
            model.segment(
                clip.path if index is None else index.folder, texts, distractors=list(others),
                out=project.run, resume=True, overwrite=True, stop=job.stop, **how, **more,
            )  # fmt: skip
            return self._found(project)

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
            model.correct(project.run, list(corrections), progress=False, stop=job.stop, **kept)
            return self._found(project)

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

    def cancel(self) -> None:
        """Stop what is being done, after the frame at hand."""
        job = self.job
        if job is not None and not job.over:
            job.cancel()
            self.changed()

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

    def changed(self) -> None:
        """Take note that something is seen otherwise now."""
        self.version += 1

    def close(self) -> None:
        """Stop its job and release its clip; its folders are removed if they are not to stay."""
        with self._lock:
            self.cancel()
            project, self.project = self.project, None
            if project is not None:
                project.close()
            self.forget()

    def forget(self, but: Path | None = None) -> None:
        """Remove folders of clips that are no longer open, if they are not to stay; not the one at
        hand, and not that in which the clip `but` lies."""
        if self.desk.keep:
            return
        open_now = None if self.project is None else self.project.folder
        stay = [
            each for each in self._folders
            if each == open_now or (but is not None and but.is_relative_to(each))
        ]  # fmt: skip
        for folder in set(self._folders) - set(stay):
            shutil.rmtree(folder, ignore_errors=True)
        self._folders = stay

    # Inside

    @property
    def _project(self) -> Project:
        if self.project is None:
            raise ConfigError("open a clip first")
        return self.project

    @property
    def _texts(self) -> list[str]:
        if not self.things.texts:
            raise ConfigError("say what to find first, as 'the white dog'")
        return self.things.texts

    def _model(self, theta: float | None) -> Any:
        return self.desk.models.get(example=self._project.clip.is_example, theta=theta)

    def _found(self, project: Project) -> dict[str, Any]:
        with self._lock:
            project.look_again()
            assert project.track is not None
            self.things.asked(project.track.texts)
            self.exports = {}
            project.keep_names(self.things.all)
        return project.track.summary()

    def _start(self, job: Job, *, beside: bool = False) -> Job:
        with self._lock:
            if self.job is not None and not self.job.over:
                raise ConfigError(f"wait until this is done, or cancel it: {self.job.name}")
            job.then = self._ended
            self.job, self.message = job, None
            self.changed()
        start: Callable[[Job], None] = run_beside if beside else self.desk.worker.submit
        try:
            start(job)
        except CarvidError:
            job.cancel()
            job.run()
            raise
        return job

    def _ended(self, job: Job) -> None:
        with self._lock:
            if job.state == "failed":
                self.message = ("error", job.error or "it failed")
            elif job.state == "cancelled":
                self.message = ("done", f"cancelled: {job.name}")
            self.changed()


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
