"""Whether segment-anything, the extra `sam`, can be used. Without torch, unless it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from importlib import metadata

from carvid.config import SamConfig

MODULE = "segment_anything"
OWN = "carvid"
"""What made automatic masks, where the package did not."""
MADE_BY = "automatic_masks"
"""What a run.json calls it, among `weights`; said only where it was the package."""


@dataclass(frozen=True)
class State:
    """Whether segment-anything can be used."""

    version: str = ""
    """Its version; empty where it is not installed or cannot be imported."""
    fault: str = ""
    """Why it cannot be imported, one line; empty where it can, and where it is not installed."""


def state() -> State:
    """Return whether segment-anything is installed and can be imported; logs nothing."""
    try:
        if importlib.util.find_spec(MODULE) is None:
            return State()
    except ValueError:  # its import is blocked: None stands for it in sys.modules
        return State()
    try:
        importlib.import_module(MODULE)
    except Exception as error:  # torchvision raises RuntimeError where it does not fit torch
        return State(fault=one_line(error))
    return State(version=_version())


def maker_in_json(config: SamConfig) -> dict[str, dict[str, str]]:
    """Return what a run.json says of what will make a SAM's automatic masks, before that is loaded;
    nothing where none are made."""
    if not config.model or config.mode != "ensemble":
        return {}
    version = state().version
    return {"weights": made_by_in_json(package_name(version) if version else OWN)}


def package_name(version: str) -> str:
    """Return what the package is called where it has made masks."""
    return f"segment-anything {version}"


def made_by_in_json(made_by: str) -> dict[str, str]:
    """Return what a run.json says of what made the automatic masks; nothing of carvid itself."""
    return {} if made_by == OWN else {MADE_BY: made_by}


def one_line(error: BaseException) -> str:
    """Return the first line of what an exception says, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _version() -> str:
    try:
        return metadata.version("segment-anything")
    except metadata.PackageNotFoundError:  # a copy of its source on the path
        return "(source)"
