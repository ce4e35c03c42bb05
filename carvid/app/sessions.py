"""All sessions of a server: which window has which, and which are forgotten."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from carvid.app.desk import Desk
from carvid.app.session import Session

GRACE_S = 60.0
"""A window that was closed may have been loaded anew only: so long its work goes on."""
LOOK_S = 5.0
"""How often it is looked whether a session can be forgotten."""


class Sessions:
    """The sessions of a server.

    Args:
        desk: what they share.
        uploads: a folder in which what is older than a forgotten session is removed.
    """

    def __init__(self, desk: Desk, uploads: Path | None = None) -> None:
        self.desk, self._uploads = desk, uploads
        self._of_window: dict[str, Session] = {}
        self._left_s: dict[str, float] = {}
        """When a session's last window was closed, by token."""
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="carvid-app-sessions", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len({session.token for session in self._of_window.values()})

    def of(self, window: str | None) -> Session:
        """Return the session of a window, by Gradio's session hash; a new one the first time."""
        window = window or ""
        with self._lock:
            session = self._of_window.get(window)
            if session is None:
                self._make_room()
                session = self._of_window[window] = Session(self.desk)
            self._left_s.pop(session.token, None)
            session.seen_s = time.monotonic()
            return session

    def attach(self, window: str | None, token: str | None) -> Session:
        """Give a window that was loaded anew the session that it had, by its token."""
        with self._lock:
            known = self.by_token(token or "")
            if known is None:
                return self.of(window)
            self._left_s.pop(known.token, None)
            self._of_window[window or ""] = known
            return known

    def by_token(self, token: str) -> Session | None:
        """Return the session that has a token, if there is one."""
        with self._lock:
            for session in self._of_window.values():
                if session.token == token:
                    session.seen_s = time.monotonic()
                    return session
            return None

    def leave(self, window: str | None) -> None:
        """Take note that a window was closed, or is being loaded anew."""
        with self._lock:
            session = self._of_window.get(window or "")
            if session is None:
                return
            others = [key for key, each in self._of_window.items() if each is session]
            if len(others) > 1:
                del self._of_window[window or ""]
            else:
                self._left_s[session.token] = time.monotonic()

    def forget(self, session: Session) -> None:
        """End a session."""
        with self._lock:
            self._left_s.pop(session.token, None)
            windows = [key for key, each in self._of_window.items() if each is session]
            for window in windows:
                del self._of_window[window]
        session.close()

    def tidy(self) -> None:
        """Stop what windows that were closed have begun, and forget who was idle for long."""
        now_s = time.monotonic()
        with self._lock:
            sessions = {each.token: each for each in self._of_window.values()}
            gone = [
                session for session in sessions.values()
                if now_s - session.seen_s > self.desk.limits.idle_s and not _is_busy(session)
            ]  # fmt: skip
            left = [
                sessions[token] for token, left_s in self._left_s.items()
                if token in sessions and now_s - left_s > GRACE_S
            ]  # fmt: skip
        for session in left:
            session.cancel()
        for session in gone:
            self.forget(session)
        if self._uploads is not None:
            _remove_old(self._uploads, self.desk.limits.idle_s)

    def close(self) -> None:
        """End all sessions."""
        self._closed.set()
        for session in {each.token: each for each in self._of_window.values()}.values():
            self.forget(session)

    def _make_room(self) -> None:
        sessions = {each.token: each for each in self._of_window.values()}
        while len(sessions) >= self.desk.limits.sessions:
            idle = sorted(sessions.values(), key=lambda each: (_is_busy(each), each.seen_s))
            self.forget(sessions.pop(idle[0].token))

    def _look(self) -> None:
        while not self._closed.wait(LOOK_S):
            self.tidy()


def _remove_old(folder: Path, age_s: float) -> None:
    """Remove what was put into a folder so many seconds ago."""
    now_s = time.time()
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        with suppress(OSError):
            if now_s - path.stat().st_mtime > age_s:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_busy(session: Session) -> bool:
    return session.job is not None and not session.job.over
