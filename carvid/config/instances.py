"""How every thing of an expression is found and followed: a section of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from carvid.config.declare import Section, setting


@dataclass(frozen=True)
class InstancesConfig(Section):
    """Every thing of an expression as a track of its own (`--instances`)."""

    parts: int = setting(12, low=1)
    """Most parts of an expression's CAM that are looked at in a key frame."""
    level: float = setting(0.3, low=0.0, high=1.0)
    """Share of a CAM's maximum above which there may be a part."""
    saddle: float = setting(0.75, low=0.0, high=1.0)
    """Two peaks of a CAM are two parts where the map between them falls below this share of the
    lower one."""
    confirm: int = setting(2, low=1)
    """A thing gets a label if it was found at so many key frames; at each one of its shot, if that
    has fewer."""
    share: float = setting(0.7, low=0.0, high=1.0)
    """A thing's score, the mean over its key frames, is at least this share of the highest one of
    its expression."""
    hidden_s: float = setting(2.0, low=0.0)
    """A thing that is out of sight for longer has ended, seconds; what comes later is a new one."""
    color: float = setting(0.3, low=0.0)
    """Weight of how alike two things' colours are, in [0, 1], against the IoU of their masks, when
    what is found is matched with what is followed."""
    motion: float = setting(0.5, low=0.0)
    """Weight of how near what is found is to where a thing should be by its motion, in [0, 1],
    where that is not wholly in sight."""
