"""Desk: what all sessions of a server share."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path

from carvid.app.jobs import Worker
from carvid.app.limits import Limits
from carvid.app.models import Models
from carvid.pipeline import Carvid

CAN_FOLLOW_INSTANCES = "instances" in inspect.signature(Carvid.segment).parameters
"""Whether the page offers to tell several things of one kind apart (`segment(instances=True)`)."""


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
