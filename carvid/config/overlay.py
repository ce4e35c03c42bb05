"""How the overlay video is drawn: a section of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from carvid.config.declare import Section, setting

PALETTES = ("vivid", "okabe-ito")
"""The overlay's colours: carvid's own, and those of Okabe and Ito (2008), whom the colour-blind can
tell apart too."""


@dataclass(frozen=True)
class OverlayConfig(Section):
    """The overlay video."""

    enabled: bool = setting(True)
    """Write overlay.mp4 (overlay.png of one picture) beside the masks."""
    fill: bool = setting(True)
    """Fill the masks with their colours."""
    opacity: float = setting(0.5, low=0.0, high=1.0)
    """Strength of the fill."""
    outline: bool = setting(True)
    """Draw the masks' outlines."""
    outline_width: int = setting(0, low=0, high=100)
    """Pixels; 0 is a 240th of the frame's height."""
    halo: bool = setting(False)
    """Put black or white around the outlines, so that they show on a ground of their colour."""
    dim: float = setting(0.0, low=0.0, high=1.0)
    """How much of its light what is outside the masks loses."""
    labels: bool = setting(True)
    """Draw the expressions."""
    legend: str = setting("auto", choices=("auto", "on", "off"))
    """`on`: what a frame has is listed beside it, each with its colour, and what it has not is
    named nowhere. `auto`: in semantic mode (`car.mode`)."""
    scores: bool = setting(True)
    """Draw the scores behind the expressions, where there are any."""
    palette: str = setting("vivid", choices=PALETTES)
    """The colours; those of `okabe-ito` come again after the seventh expression."""
    side_by_side: bool = setting(False)
    """Put the bare frame to the left of what is drawn."""
