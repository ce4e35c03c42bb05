"""Pictures, files and the state of a session by plain GETs: one frame at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from carvid.app.pictures import LARGEST_SIDE
from carvid.app.session import Session
from carvid.app.sessions import Sessions
from carvid.app.view import BASE, view_of
from carvid.base.errors import CarvidError

SOURCES = ("run", "quick", "plain")


def routes(sessions: Sessions) -> list[Route]:
    """Return what is served beside Gradio.

    carvid/TOKEN/state          what the page shows, JSON
    carvid/TOKEN/frame/12.jpg   frame 12; ?source=run|quick|plain, show=0,2 (places in the
                                list), theta=0.4, side=1280, names=0|1
    carvid/TOKEN/file/NAME      what was exported
    """

    def known(request: Request) -> Session | None:
        return sessions.by_token(request.path_params["token"])

    def state(request: Request) -> Response:
        session = known(request)
        return _gone() if session is None else JSONResponse(view_of(session), headers=FRESH)

    def frame(request: Request) -> Response:
        session = known(request)
        return _gone() if session is None else _answering(lambda: _frame(session, request))

    def file(request: Request) -> Response:
        session = known(request)
        if session is None:
            return _gone()
        path = session.exports.get(request.path_params["name"])
        if path is None or not path.is_file():
            return PlainTextResponse("no such file; export it again", status_code=404)
        return FileResponse(path, filename=path.name, headers=FRESH)

    return [
        Route(f"/{BASE}/{{token}}/state", state),
        Route(f"/{BASE}/{{token}}/frame/{{frame:int}}.jpg", frame),
        Route(f"/{BASE}/{{token}}/file/{{name}}", file),
    ]


FRESH = {"cache-control": "no-store"}
"""Headers of what is another thing the next time."""


def _frame(session: Session, request: Request) -> Response:
    asked = request.query_params
    source = asked.get("source", "run")
    if source not in SOURCES:
        raise CarvidError(f"source must be one of {', '.join(SOURCES)}")
    shown = asked.get("show")
    try:
        places = None if shown is None else [int(part) for part in shown.split(",") if part]
        theta, side = float(asked.get("theta", 0.0)), int(asked.get("side", LARGEST_SIDE))
    except ValueError:
        raise CarvidError("show must be numbers, theta and side a number") from None
    if not math.isfinite(theta):
        raise CarvidError("theta must be a number")
    picture = session.picture(
        request.path_params["frame"], source=source, places=places, theta=theta, side=side,
        names=asked.get("names", "1") != "0",
    )  # fmt: skip
    return Response(picture, media_type="image/jpeg", headers=FRESH)


def _answering(make: Callable[[], Response]) -> Response:
    try:
        return make()
    except CarvidError as error:
        return PlainTextResponse(str(error), status_code=422)


def _gone() -> Response:
    return PlainTextResponse("this window was forgotten; load the page again", status_code=404)
