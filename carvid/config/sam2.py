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
    correct: str = setting("better", choices=("better", "always", "never"))
    """When SAM 2 is told anew where a thing is. `better`: at key frames where CaR's path value is
    higher elsewhere than where SAM 2 has the thing; where that scores no more than θ; or where
    CaR's mask of the same thing scores higher than the one that SAM 2 was told by. At others SAM
    2's masks stand. `always`: at each key frame; `never`: only when it is new."""
    fade: float = setting(0.5, low=0.0)
    """By so much the mask that SAM 2 was told by counts less with each key frame, in log odds of
    its score."""
