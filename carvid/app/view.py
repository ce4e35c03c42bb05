"""What a page shows of a session, as JSON: small, whatever the length of the clip."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

from carvid.app.desk import CAN_FOLLOW_INSTANCES
from carvid.app.exporting import CHOICES
from carvid.app.project import Project
from carvid.app.session import Session
from carvid.base.names import shown

BASE = "carvid"
"""Below it lie pictures and files; `routes` serves them."""


def view_of(session: Session) -> dict[str, Any]:
    """Return what a page shows of a session, JSON-able."""
    project, job = session.project, session.job
    return {
        "token": session.token,
        "version": session.version,
        "clip": None if project is None else _clip(session, project),
        "things": [_thing(session, place) for place in range(len(session.things.all))],
        "run": None if project is None else project.run_json(),
        "going": 0 if project is None or not project.going else project.masks_there,
        "quick": _quick(project),
        "prepared": project is not None and project.index is not None,
        "corrections": [] if project is None else project.corrections,
        "job": None if job is None or job.over else _job(session),
        "message": None if session.message is None else list(session.message),
        "exports": [_file(session, name, path) for name, path in session.exports.items()],
        "instances": CAN_FOLLOW_INSTANCES,
        "from_disk": session.desk.limits.from_disk,
    }


def file_url(session: Session, name: str) -> str:
    """Return where a file to take along can be had, from the page."""
    return f"{BASE}/{session.token}/file/{quote(name)}"


def _clip(session: Session, project: Project) -> dict[str, Any]:
    clip = project.clip
    height, width = clip.info.size_hw
    rate = float(clip.info.frame_rate / clip.selection.stride)
    return {
        "name": "example: dog-jumping" if clip.is_example else shown(clip.path.name),
        "frames": len(clip),
        "width": width,
        "height": height,
        "aspect": round(width * float(clip.info.pixel_aspect) / height, 5),
        "rate": rate if math.isfinite(rate) and rate > 0 else 25.0,
        "start_s": clip.selection.start_s,
        "model": session.desk.models.name_for(example=clip.is_example),
        "theta": session.desk.models.theta_for(example=clip.is_example),
        "folder": shown(project.folder) if session.desk.limits.from_disk else "",
        "id": project.folder.name,
    }


def _thing(session: Session, place: int) -> dict[str, Any]:
    thing, project = session.things.all[place], session.project
    found = None
    if thing.label and project is not None and project.track is not None:
        found = sum(after - first for first, after in project.spans[thing.label - 1])
    quick = project.quick if project is not None else None
    row = quick.texts.index(thing.text) if quick and thing.text in quick.texts else None
    return {**thing.to_json(), "found": found, "row": row}


def _quick(project: Project | None) -> dict[str, Any] | None:
    return None if project is None or project.quick is None else project.quick.to_json()


def _job(session: Session) -> dict[str, Any]:
    assert session.job is not None
    return {**session.job.to_json(), "ahead": session.desk.worker.ahead_of(session.job)}


def _file(session: Session, name: str, path: Path) -> dict[str, Any]:
    size = path.stat().st_size if path.is_file() else 0
    return {"name": name, "bytes": size, "url": file_url(session, name)}


def choices() -> list[tuple[str, str]]:
    """Return what can be taken along, as a page lists it: words, and the name."""
    return [(words, name) for name, words in CHOICES.items()]
