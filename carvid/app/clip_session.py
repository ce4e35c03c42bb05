"""ClipSession: the clip that a window has opened, and the job that is done for it."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carvid.app.clips import Clip, read_clip
from carvid.app.desk import Desk
from carvid.app.jobs import Job, run_beside
from carvid.app.limits import Limits
from carvid.app.project import CLIP, Project, new_folder
from carvid.app.things import Things
from carvid.base.errors import CarvidError, ConfigError
from carvid.base.files import make_folder
from carvid.demo.example import NAME, example_folder
from carvid.media.open import ALL, Selection


class ClipSession:
    """The part of a `Session` that opens clips, and does one job at a time.

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

    def cancel(self) -> None:
        """Stop what is being done, after the frame at hand."""
        job = self.job
        if job is not None and not job.over:
            job.cancel()
            self.changed()

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

    def _model(self, theta: float | None) -> Any:
        return self.desk.models.get(example=self._project.clip.is_example, theta=theta)

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
