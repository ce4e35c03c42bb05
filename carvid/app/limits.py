"""How much one server takes on: what may be sent to it, and by how many."""

from __future__ import annotations

import math
from dataclasses import dataclass

from carvid.base.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Bounds of what people send; clips that are opened from this machine's disk have none.

    Raises:
        ConfigError: a bound below which nothing could be done.
    """

    upload_mb: float = 500.0
    """A clip that is uploaded has at most so many megabytes."""
    frames: int = 3000
    """... and so many frames."""
    seconds: float = 300.0
    """... and is so long, seconds."""
    sessions: int = 32
    """So many windows have a workspace at a time; the one that was idle for longest makes room."""
    idle_s: float = 3600.0
    """After so many seconds without a sign of life a window's work is forgotten; infinity never."""
    expressions: int = 32
    """So many things can be asked for in one clip."""
    from_disk: bool = True
    """Whether clips may be opened by their path on this machine."""

    def __post_init__(self) -> None:
        for name, least in (
            ("upload_mb", 0.001), ("frames", 1), ("seconds", 0.001), ("sessions", 1), ("idle_s", 1),
            ("expressions", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if math.isnan(value) or value < least:
                raise ConfigError(f"the app's {name} must be {least:g} or more, got {value:g}")

    @property
    def upload_bytes(self) -> int:
        """`upload_mb` in bytes."""
        return math.ceil(self.upload_mb * 1e6)
