"""Who is let in: requests that come from elsewhere, though the server is on loopback, are not.

A page of somebody else's that is open in the same browser can send requests to a server on
loopback: under another name that leads there (DNS rebinding; its `Host` is that name), or across
origins (its `Origin` is another). Nor does this server fetch what lies elsewhere, as Gradio's
would, and the browser is told to load nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import unquote, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FETCHING = ("/gradio_api/proxy=", "/gradio_api/file=http", "/proxy=", "/file=http")
"""Beginnings of paths by which Gradio fetches from other servers."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'"
)
"""What a page may load; Gradio compiles templates in the browser (`unsafe-eval`)."""


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own loopback."""
    return host.strip("[]").lower() in LOOPBACK or host.startswith("127.")


class Doorkeeper:
    """Lets requests through to a server, or not; an ASGI application.

    Args:
        app: the server's.
        hosts: names under which it is asked for; None lets all through, for servers in public.
    """

    def __init__(self, app: App, hosts: Iterable[str] | None = LOOPBACK) -> None:
        self._app = app
        self._hosts = None if hosts is None else {each.lower() for each in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if reason is not None:
            await _refuse(scope, send, reason)
            return

        async def with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and self._hosts is not None:
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self._app(scope, receive, with_policy)

    def _refusal(self, scope: Scope) -> str | None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        path = unquote(scope["path"]).lower()
        if any(part in path for part in FETCHING):
            return "this server fetches nothing from elsewhere"
        if self._hosts is None:
            return None
        if not self._knows(headers.get("host", "")):
            return "this server is asked for under another name than its own"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers["host"]:
            return "this server answers its own page only"
        if headers.get("sec-fetch-site", "none") == "cross-site" and scope["method"] != "GET":
            return "this server answers its own page only"
        return None

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        assert self._hosts is not None
        return name.lower() in self._hosts


async def _refuse(scope: Scope, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})
