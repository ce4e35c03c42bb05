"""The server: one process, one port, the page and its pictures; it ends with Ctrl-C."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from carvid.app.desk import Desk
from carvid.app.doorkeeper import LOOPBACK, Doorkeeper, is_loopback
from carvid.app.sessions import Sessions
from carvid.base.errors import ConfigError, OutputError
from carvid.base.files import make_folder

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger("carvid")

UPLOADS = ".uploads"
"""In the workspace: what was sent and is not yet a clip, and files for clients."""
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Environment with which Gradio and the hub library tell nobody anything; read when imported."""
PATIENCE_S = 3.0
"""At the end the frame at hand is waited for so long."""


@contextmanager
def workspace(folder: Path | None) -> Iterator[Path]:
    """Give the folder that clips and runs go into: one that stays, or a temporary one.

    Raises:
        OutputError: it cannot be made.
    """
    if folder is not None:
        make_folder(folder)
        try:
            yield folder.absolute()
        finally:
            shutil.rmtree(folder / UPLOADS, ignore_errors=True)
        return
    made = Path(tempfile.mkdtemp(prefix="carvid-app-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigError: the port is in use, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol said asyncio sends at once (TCP_NODELAY); else pictures come 40 ms later.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # elsewhere it would let two programs have one port
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(128)
    except (OSError, OverflowError) as error:
        made.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {reason}; choose another with --port (0: any "
            "that is free)"
        ) from None
    return made


class Server:
    """The app, served until it is closed; a context manager.

    Args:
        desk: workspace, limits and networks.
        host: the address to listen on.
        port: 0 is any that is free.
        public: whether it is asked for under whatever name, as behind a proxy.

    Raises:
        ConfigError: the extra `app` is not installed, or as `listening`.
        OutputError: the workspace cannot be written.
    """

    def __init__(
        self, desk: Desk, host: str = "127.0.0.1", port: int = 7860, *, public: bool = False
    ) -> None:
        self.desk = desk
        self._uploads = desk.root / UPLOADS
        make_folder(self._uploads)
        self._socket = listening(host, port)
        try:
            self.sessions = Sessions(desk, self._uploads)
            self._server = self._made(host, public=public)
        except BaseException:
            self._socket.close()
            raise
        # Python 3.11 takes a thread for ended once a signal has interrupted `join`.
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carvid-app", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where the page is, from this machine."""
        host = self._socket.getsockname()[0]
        name = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"

    def __enter__(self) -> Server:
        self._thread.start()
        while not self._server.started and not self._ended.wait(0.02):
            pass
        if not self._server.started:
            raise OutputError("the server did not start; the lines above say why")
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def wait(self) -> None:
        """Wait until somebody interrupts."""
        while not self._ended.wait(0.5):  # what has no end could not be interrupted on Windows
            pass

    def close(self) -> bool:
        """Stop everything; return whether nothing is at work any more."""
        # Pages keep a request open all the time; that it ends now is nothing to be told.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        self._server.should_exit = True
        quiet = self.desk.worker.close(PATIENCE_S)
        self.sessions.close()
        return self._ended.wait(PATIENCE_S) and quiet

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._ended.set()

    def _made(self, host: str, *, public: bool) -> uvicorn.Server:
        """The web server; Gradio is imported here, under an environment in which it is quiet."""
        os.environ.update(QUIET)
        try:
            import gradio
            import uvicorn
            from fastapi import FastAPI
        except ImportError as error:
            raise ConfigError(
                f"carvid app needs the package {error.name}: pip install 'carvid[app]'"
            ) from None
        from carvid.app.routes import routes
        from carvid.app.web import HEAD, Web, asset, theme

        os.environ["GRADIO_TEMP_DIR"] = str(self._uploads)  # one server a process has it
        blocks = Web(self.sessions, self._uploads).blocks()
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.router.routes.extend(routes(self.sessions))
        gradio.mount_gradio_app(
            app, blocks, path="/", server_name=host, server_port=self.port, footer_links=["api"],
            run_history=False, show_error=True, max_file_size=self.desk.limits.upload_bytes,
            allowed_paths=[], blocked_paths=[],
            enable_monitoring=False, ssr_mode=False, mcp_server=False, pwa=False,
            theme=theme(), css=asset("page.css"), head=HEAD,
        )  # fmt: skip
        # Else Gradio, mounted, takes any path on this machine for that of an upload.
        blocks.has_launched = True
        hosts = None if public or not is_loopback(host) else {*LOOPBACK, host}
        config = uvicorn.Config(
            Doorkeeper(app, hosts), log_level="warning", access_log=False, lifespan="on",
            timeout_graceful_shutdown=1, server_header=False,
        )  # fmt: skip
        return uvicorn.Server(config)
