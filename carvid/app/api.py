"""The API that `gradio_client` and others call: one session a client, each call waits for its end.

Functions here know no Gradio but for the request that says which client it is; `page` makes
endpoints of them. What cannot be done is raised as `gradio.Error`, one line.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio

from carvid.app.clicks import corrections_from
from carvid.app.jobs import Job
from carvid.app.session import Session
from carvid.app.sessions import Sessions
from carvid.base.errors import CarvidError, ConfigError
from carvid.media.open import Selection

FILE = {"_type": "gradio.FileData"}


def uploaded(given: Any, uploads: Path) -> tuple[Path, str]:
    """Return the path of an uploaded file, and what it was called.

    Args:
        given: what a client says: `path`, and perhaps `orig_name`.
        uploads: the folder that the server puts uploads into.

    Raises:
        ConfigError: it is no file there; clients may name any path.
    """
    path = given.get("path") if isinstance(given, dict) else given
    if not isinstance(path, str) or "\0" in path:
        raise ConfigError("upload a clip first")
    real, root = Path(os.path.realpath(path)), Path(os.path.realpath(uploads))
    if not real.is_relative_to(root) or not real.is_file():
        raise ConfigError("upload a clip first; this server opens nothing else by its path")
    name = given.get("orig_name") if isinstance(given, dict) else None
    return real, str(name or real.name)


class Api:
    """What clients call.

    Args:
        sessions: of the server.
        uploads: where it puts uploads, and serves files from.
    """

    def __init__(self, sessions: Sessions, uploads: Path) -> None:
        self._sessions, self._uploads = sessions, uploads

    def endpoints(self) -> list[Callable[..., Any]]:
        """Return the functions, each of which is an endpoint of its name."""
        return [
            self.open_clip, self.open_example, self.find, self.prepare, self.ask, self.correct,
            self.frame, self.rename, self.export, self.cancel, self.close,
        ]  # fmt: skip

    def open_clip(
        self,
        request: gradio.Request,
        clip: dict[str, Any],
        start_s: float = 0.0,
        end_s: float | None = None,
        stride: int = 1,
        max_side: int = 0,
    ) -> dict[str, Any]:
        """Open a clip: `clip` is `handle_file("clip.mp4")`; perhaps a part of it."""
        with _telling():
            selection = Selection(start_s, end_s, stride, max_side)
            session = self._session(request)
            _done(session.open_upload(*uploaded(clip, self._uploads), selection))
            return _clip_facts(session)

    def open_example(self, request: gradio.Request) -> dict[str, Any]:
        """Open the clip that carvid comes with; its embedded model segments it."""
        with _telling():
            session = self._session(request)
            _done(session.open_example())
            return _clip_facts(session)

    def find(
        self,
        request: gradio.Request,
        things: list[str],
        theta: float | None = None,
        others: list[str] | None = None,
        from_index: bool = False,
        instances: bool = False,
    ) -> dict[str, Any]:
        """Look for things in every frame; return in how many each was found, and its scores."""
        with _telling():
            session = self._session(request)
            session.things.set(things)
            found: dict[str, Any] = _done(
                session.find(
                    theta=theta, others=others or (), from_index=from_index, instances=instances
                )
            )
            return found

    def prepare(self, request: gradio.Request) -> dict[str, Any]:
        """Index the clip, for quick answers; return the number of key frames."""
        with _telling():
            return {"key_frames": _done(self._session(request).prepare())}

    def ask(self, request: gradio.Request, things: list[str], theta: float = 0.5) -> dict[str, Any]:
        """Ask the index: where and when things are, roughly. Another θ costs nothing."""
        with _telling():
            session = self._session(request)
            quick = None if session.project is None else session.project.quick
            session.things.set(things)
            if quick is None or list(quick.texts) != session.things.texts:
                _done(session.ask())
            assert session.project is not None and session.project.quick is not None
            return {"expressions": session.project.quick.spans(theta)}

    def correct(
        self, request: gradio.Request, corrections: list[dict[str, Any]], keep: int | None = None
    ) -> dict[str, Any]:
        """Correct the run: each correction has `frame`, `label`, and `point` with `wanted`, or
        `box`; `keep` keeps only the first of those that it has."""
        with _telling():
            made = corrections_from(corrections)
            found: dict[str, Any] = _done(self._session(request).correct(made, keep))
            return found

    def frame(
        self, request: gradio.Request, index: int, source: str = "run", theta: float = 0.5
    ) -> dict[str, Any]:
        """Return a frame with masks as a JPEG; `source` is run, quick or plain."""
        with _telling():
            picture = self._session(request).picture(index, source=source, theta=theta)
            path = self._folder() / f"{index:05d}.jpg"
            path.write_bytes(picture)
            return _file(path)

    def rename(
        self, request: gradio.Request, label: int, name: str = "", color: str = ""
    ) -> dict[str, Any]:
        """Give the thing of a label another name, a colour as #ff8000, or both."""
        with _telling():
            session = self._session(request)
            places = [k for k, each in enumerate(session.things.all) if each.label == label]
            if not places:
                raise ConfigError(f"no thing has label {label}")
            if name:
                session.change("rename", places[0], name)
            if color:
                session.change("paint", places[0], color)
            return session.things.all[places[0]].to_json()

    def export(self, request: gradio.Request, form: str) -> dict[str, Any]:
        """Return the run as a file: overlay, coco, alpha, masks, run …"""
        with _telling():
            path: Path = _done(self._session(request).export(form))
            target = self._folder() / path.name
            try:
                os.link(path, target)
            except OSError:  # on another disk
                shutil.copyfile(path, target)
            return _file(target)

    def cancel(self, request: gradio.Request) -> dict[str, Any]:
        """Stop what this client has begun, after the frame at hand."""
        session = self._session(request)
        busy = session.job is not None and not session.job.over
        session.cancel()
        return {"cancelled": busy}

    def close(self, request: gradio.Request) -> dict[str, Any]:
        """End the session."""
        self._sessions.forget(self._session(request))
        return {}

    def _session(self, request: gradio.Request) -> Session:
        return self._sessions.of(request.session_hash)

    def _folder(self) -> Path:
        """A new folder whose files are served to whoever knows their path."""
        folder = self._uploads / secrets.token_urlsafe(16)
        folder.mkdir(parents=True)
        return folder


def _clip_facts(session: Session) -> dict[str, Any]:
    assert session.project is not None
    clip = session.project.clip
    height, width = clip.info.size_hw
    return {"frames": len(clip), "width": width, "height": height,
            "frame_rate": float(clip.info.frame_rate)}  # fmt: skip


def _done(job: Job) -> Any:
    """Wait for a job; return what it returned.

    Raises:
        CarvidError: it failed, or was cancelled.
    """
    job.wait()
    if job.state != "done":
        raise CarvidError(job.error or f"cancelled: {job.name}")
    return job.result


def _file(path: Path) -> dict[str, Any]:
    return {"path": str(path), "orig_name": path.name, "size": path.stat().st_size, "meta": FILE}


@contextmanager
def _telling() -> Any:
    """Let clients have what is wrong in one line, without a traceback in the terminal."""
    try:
        yield
    except CarvidError as error:
        raise gradio.Error(str(error), print_exception=False) from None
