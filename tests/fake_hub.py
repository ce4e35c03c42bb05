"""A hub of models on this machine: as much of the hub's HTTP as `snapshot_download` asks for."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class FakeHub:
    """What is served, and what was asked."""

    models: dict[str, Files] = field(default_factory=dict)
    """Of each model, its files."""
    gated: set[str] = field(default_factory=set)
    """Models whose terms have not been accepted."""
    broken: set[str] = field(default_factory=set)
    """Files that cannot be had."""
    cut: dict[str, int] = field(default_factory=dict)
    """Files whose connection breaks once, after so many bytes."""
    delays_s: list[float] = field(default_factory=list)
    """How long the next requests wait."""
    asked: list[str] = field(default_factory=list)
    """Requests about models, as "GET /path", in order."""
    url: str = ""

    @property
    def got(self) -> list[str]:
        """Names of the files whose contents were asked for, sorted."""
        files = [line for line in self.asked if line.startswith("GET") and "/resolve/" in line]
        return sorted(line.split("/", 5)[5] for line in files)

    def add(self, name: str, folder: Path) -> None:
        """Serve the files of a folder."""
        self.models[name] = {path.name: path.read_bytes() for path in folder.iterdir()}

    @contextmanager
    def serving(self) -> Iterator[FakeHub]:
        """Serve until the end of the block."""
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # a client may have gone
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


def commit_of(name: str) -> str:
    """The one commit of a model."""
    return hashlib.sha1(name.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        parts = path.strip("/").split("/")
        if parts[:2] != ["api", "models"] and "resolve" not in parts:
            self._send(404, b"")  # the hub library has other errands, now and then
            return
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.delays_s:
            time.sleep(self.hub.delays_s.pop(0))
        if parts[:2] == ["api", "models"] and len(parts) >= 6:
            self._describe("/".join(parts[2:4]), parts[4], "/".join(parts[5:]))
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._send_file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._send(404, b"")

    do_HEAD = do_GET

    def _describe(self, name: str, what: str, revision: str) -> None:
        files = self._files(name, revision)
        if files is None:
            return
        listing: object = [
            {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for file, data in files.items()
        ]
        if what == "revision":
            siblings = [{"rfilename": file} for file in files]
            listing = {"id": name, "sha": commit_of(name), "siblings": siblings}
        self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def _send_file(self, name: str, revision: str, file: str) -> None:
        files = self._files(name, revision)
        if files is None:
            return
        if name in self.hub.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif file in self.hub.broken:
            self._send(403, b"")
        elif file not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            etag = hashlib.sha1(files[file]).hexdigest()
            self._send(200, files[file], {"ETag": f'"{etag}"', "X-Repo-Commit": commit_of(name)})

    def _files(self, name: str, revision: str) -> Files | None:
        if name not in self.hub.models:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", "v1", commit_of(name)):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            return self.hub.models[name]
        return None

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            most = self.hub.cut.pop(self.path.rpartition("/")[2], len(body))
            self.wfile.write(body[:most])
            self.close_connection = most < len(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""
