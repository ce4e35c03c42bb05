"""The page, on Gradio: what it shows, what its buttons do, and the endpoints of its API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import gradio

from carvid.app.api import Api, uploaded
from carvid.app.clicks import corrections_from
from carvid.app.desk import CAN_FOLLOW_INSTANCES
from carvid.app.session import Session
from carvid.app.sessions import Sessions
from carvid.app.view import choices, view_of
from carvid.base.errors import CarvidError, ConfigError
from carvid.media.frames import Selection, seconds

FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
"""Fonts that machines have: none is fetched."""
HEAD = """<script>document.documentElement.classList.add("dark");
addEventListener("DOMContentLoaded", () => document.body.classList.add("dark"));</script>
<meta name="viewport" content="width=device-width, initial-scale=1">"""
TITLE = (
    '<p class="cv-title"><b>carvid</b><span>Say what you look for; get its mask in every frame.'
    '</span></p><p class="cv-small cv-where"></p>'
)
TOKEN = "() => { try { return sessionStorage.getItem('carvid') } catch (error) { return null } }"
"""A window's session, where it was loaded before."""
IF_MOVED = (
    "(text, theta, ...more) => [text, window.carvid.moved ? window.carvid.theta : null, ...more]"
)
"""θ is the preset's own until somebody moves the slider."""
BEST, QUICK = "Thorough: reads the whole clip", "Quick: from the prepared clip, rougher"


def asset(name: str) -> str:
    """Return a file of `carvid/app/page`."""
    return (resources.files("carvid.app") / "page" / name).read_text(encoding="utf-8")


def theme() -> Any:
    """Return the page's looks: neutral greys, and fonts that are there."""
    return gradio.themes.Base(
        primary_hue="blue", neutral_hue="zinc", radius_size="md", text_size="md",
        font=list(FONTS), font_mono=list(MONO_FONTS),
    ).set(
        body_background_fill="#17181a", body_background_fill_dark="#17181a",
        block_background_fill_dark="#1f2023", block_border_color_dark="#34363b",
        input_background_fill_dark="#17181a", input_border_color_dark="#34363b",
        button_primary_background_fill_dark="#4c9aff", button_primary_text_color_dark="#071426",
        button_primary_background_fill_hover_dark="#6cadff",
        button_secondary_background_fill_dark="#2b2d31",
        button_secondary_border_color_dark="#34363b",
        border_color_primary_dark="#34363b", block_label_background_fill_dark="#1f2023",
    )  # fmt: skip


class Web:
    """The page of a server.

    Args:
        sessions: who has which window.
        uploads: the folder that uploads are put into.
    """

    def __init__(self, sessions: Sessions, uploads: Path) -> None:
        self._sessions, self._uploads = sessions, uploads

    def blocks(self) -> gradio.Blocks:
        """Build the page and its API."""
        with gradio.Blocks(title="carvid", analytics_enabled=False) as blocks:
            gradio.HTML(TITLE, elem_id="cv-head")
            with gradio.Row(elem_id="cv-main"):
                with gradio.Column(scale=7, min_width=320):
                    viewer = self._viewer()
                with gradio.Column(scale=3, min_width=300, elem_id="cv-side"):
                    self._panel(viewer)
            token = gradio.Textbox(visible=False)
            blocks.load(self._hello, token, viewer, js=TOKEN, **_quiet())
            blocks.unload(self._bye)
            for endpoint in Api(self._sessions, self._uploads).endpoints():
                gradio.api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)
        blocks.queue(default_concurrency_limit=None, max_size=1000)
        return blocks

    def _viewer(self) -> Any:
        limits = self._sessions.desk.limits
        told = (
            f"Up to {limits.upload_mb:g} MB, {limits.frames} frames, {limits.seconds:g} s. "
            "It stays on this server; nothing is sent anywhere else."
        )
        viewer = gradio.HTML(
            None, html_template=asset("viewer.html"), js_on_load=asset("viewer.js"),
            apply_default_css=False, bounds={"bytes": limits.upload_bytes, "text": told},
        )  # fmt: skip
        viewer.act(self._act, None, viewer, **_quiet())
        return viewer

    def _panel(self, viewer: Any) -> None:
        """What is beside the viewer: things, how to find them, quick answers, export, the clip."""
        text = gradio.Textbox(
            label="What do you look for?", placeholder="the dog jumping", lines=1, max_lines=4,
            elem_id="cv-text", submit_btn="Add",
        )  # fmt: skip
        gradio.HTML(
            None, html_template=asset("things.html"), js_on_load=asset("things.js"),
            apply_default_css=False,
        )  # fmt: skip
        find = gradio.Button("Find in every frame", variant="primary", elem_id="cv-find")
        own = self._sessions.desk.models.theta_for(example=False)
        with gradio.Accordion("Quick answers and θ", open=False, elem_id="cv-quick"):
            gradio.HTML('<div id="cv-theta-note" class="cv-note"></div>')
            theta = gradio.Slider(
                0, 1, value=own, step=0.01, label="θ: how sure carvid must be", elem_id="cv-theta",
            )  # fmt: skip
            prepare = gradio.Button("Prepare the clip", size="sm", elem_id="cv-prepare")
        with gradio.Accordion("Export", open=False, elem_id="cv-export"):
            form = gradio.Dropdown(choices(), value="overlay", label="As", elem_id="cv-form")
            export = gradio.Button("Make the file", size="sm", elem_id="cv-make")
            gradio.HTML('<div class="cv-files"></div>')
        with gradio.Accordion("How to look", open=False, elem_id="cv-how"):
            how = gradio.Radio([BEST, QUICK], value=BEST, label="How", show_label=False)
            others = gradio.Textbox(
                label="What else is in the clip (it gets no mask)", lines=2,
                placeholder="one thing a line",
            )  # fmt: skip
            instances = gradio.Checkbox(
                label="Tell several of one kind apart", visible=CAN_FOLLOW_INSTANCES
            )
        part = self._clip_panel(viewer)
        chosen = gradio.Number(visible=False)  # θ; a slider has always a value
        asked = (chosen, others, how, instances)
        listed = [viewer, text]
        text.submit(self._add, text, listed, **_quiet())
        find.click(self._find, [text, *asked], listed, js=IF_MOVED, **_quiet())
        prepare.click(self._prepare, None, viewer, **_quiet())
        viewer.opened(self._opened, None, theta, **_quiet())
        theta.input(None, theta, None, js="(theta) => { window.carvid.setTheta(theta); }")
        export.click(self._export, form, viewer, **_quiet())
        part()

    def _clip_panel(self, viewer: Any) -> Callable[[], None]:
        """Another clip, or a part of this one; what is returned connects the buttons."""
        with gradio.Accordion("The clip", open=False, elem_id="cv-clip"):
            with gradio.Row():
                other = gradio.Button("Open another", size="sm", elem_id="cv-other")
                example = gradio.Button("The example", size="sm", elem_id="cv-example")
            path, opened = None, None
            if self._sessions.desk.limits.from_disk:
                path = gradio.Textbox(
                    label="Or a file or folder of images on this computer",
                    placeholder="/home/me/clip.mp4", elem_id="cv-path", submit_btn="Open",
                )  # fmt: skip
            with gradio.Group(elem_id="cv-part"):
                with gradio.Row():
                    start = gradio.Textbox(label="From", placeholder="0:00", min_width=80)
                    end = gradio.Textbox(label="To", placeholder="the end", min_width=80)
                with gradio.Row():
                    stride = gradio.Number(1, label="Every n-th frame", precision=0, minimum=1,
                                           min_width=80)  # fmt: skip
                    side = gradio.Number(0, label="Longer side, px", precision=0, minimum=0,
                                         info="0: as it is", min_width=80)  # fmt: skip
                opened = gradio.Button("Use this part", size="sm")

        def connect() -> None:
            part = [start, end, stride, side]
            other.click(None, None, None, js="() => { window.carvid.choose(); }")
            example.click(self._example, None, viewer, **_quiet())
            if path is not None:
                path.submit(self._open_path, [path, *part], viewer, **_quiet())
            opened.click(self._open_part, part, viewer, **_quiet())

        return connect

    # What buttons do

    def _hello(self, token: str | None, request: gradio.Request) -> dict[str, Any]:
        return view_of(self._sessions.attach(request.session_hash, token))

    def _bye(self, request: gradio.Request) -> None:
        self._sessions.leave(request.session_hash)

    def _prepare(self, request: gradio.Request) -> dict[str, Any]:
        return self._telling(request, lambda session: session.prepare())

    def _opened(self, request: gradio.Request) -> float:
        session = self._sessions.of(request.session_hash)
        is_example = session.project is not None and session.project.clip.is_example
        return self._sessions.desk.models.theta_for(example=is_example)

    def _export(self, form: str, request: gradio.Request) -> dict[str, Any]:
        return self._telling(request, lambda session: session.export(form))

    def _example(self, request: gradio.Request) -> dict[str, Any]:
        return self._telling(request, lambda session: session.open_example())

    def _open_path(
        self, path: str, start: str, end: str, stride: float, side: float, request: gradio.Request
    ) -> dict[str, Any]:
        return self._telling(
            request, lambda session: session.open_path(path, _part(start, end, stride, side))
        )

    def _open_part(
        self, start: str, end: str, stride: float, side: float, request: gradio.Request
    ) -> dict[str, Any]:
        return self._telling(
            request, lambda session: session.open_part(_part(start, end, stride, side))
        )

    def _add(self, text: str, request: gradio.Request) -> tuple[dict[str, Any], str]:
        def add(session: Session) -> None:
            session.change("add", value=text)
            if session.project is not None and session.project.index is not None:
                session.ask()

        view = self._telling(request, add)
        return view, "" if text.strip() in _texts(view) else text

    def _find(
        self,
        text: str,
        theta: float | None,
        others: str,
        how: str,
        instances: bool,
        request: gradio.Request,
    ) -> tuple[dict[str, Any], str]:
        def find(session: Session) -> None:
            if text.strip():
                session.change("add", value=text)
            session.find(
                theta=theta, others=_lines(others), from_index=how == QUICK, instances=instances
            )

        view = self._telling(request, find)
        return view, "" if text.strip() in _texts(view) else text

    def _act(self, event: gradio.EventData, request: gradio.Request) -> dict[str, Any]:
        """Do what the viewer and the list ask for."""
        asked: dict[str, Any] = dict(event._data or {})
        action = asked.pop("action", "")

        def do(session: Session) -> None:
            if action in ("add", "rename", "paint", "remove"):
                session.change(action, asked.get("place", 0), asked.get("value", ""))
            elif action == "open":
                path, name = uploaded(asked.get("path"), self._uploads)
                session.open_upload(path, str(asked.get("name") or name))
            elif action == "example":
                session.open_example()
            elif action == "cancel":
                session.cancel()
            elif action == "correct":
                session.correct(corrections_from(asked.get("corrections", [])))
            elif action == "undo" and session.project is not None:
                session.correct([], keep=max(0, len(session.project.corrections) - 1))
            elif action != "hello":
                raise ConfigError(f"unknown action '{action}'")

        return self._telling(request, do)

    def _telling(self, request: gradio.Request, do: Callable[[Session], object]) -> dict[str, Any]:
        """Do something to the session of a window; what is wrong is told on the page."""
        session = self._sessions.of(request.session_hash)
        try:
            do(session)
        except CarvidError as error:
            session.message = ("error", str(error))
            session.changed()
        return view_of(session)


def _part(start: str, end: str, stride: float | None, side: float | None) -> Selection:
    """Read which part of a clip is meant.

    Raises:
        ConfigError: a time that is none, or an empty part.
    """
    begin_s = seconds(start.strip()) if start.strip() else 0.0
    end_s = seconds(end.strip()) if end.strip() else None
    return Selection(begin_s, end_s, int(stride or 1), int(side or 0))


def _lines(text: str) -> Sequence[str]:
    return [line.strip() for line in (text or "").splitlines() if line.strip()]


def _texts(view: dict[str, Any]) -> list[str]:
    return [thing["text"] for thing in view["things"]]


def _quiet() -> dict[str, Any]:
    """How the page's own events are: at once, without Gradio's own veil, and no part of the API."""
    return {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
