"""SAM 2, which carries masks in place of flow: a section of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from carvid.config.declare import Section, setting


@dataclass(frozen=True)
class Sam2Config(Section):
    """SAM 2 in place of optical flow (`temporal.carrier=sam2`)."""

    model: str = setting("facebook/sam2.1-hiera-tiny")
    """A folder in `Sam2VideoModel` or `EdgeTamVideoModel` format, or a hub name."""
    dtype: str = setting("auto", choices=("auto", "float32", "bfloat16", "float16"))
    """Precision; `auto` is bfloat16 on CUDA, as its authors run it, and float32 elsewhere."""
    correct_above: float = setting(0.0)
    """SAM 2 is told anew where a thing is when CaR's path values refute it by more than this, in
    units of score: what its best candidate elsewhere is worth more than SAM 2's mask, summed over
    the key frames in a row at which it is elsewhere. -1 tells it at each key frame."""
