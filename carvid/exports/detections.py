"""A frame's masks as `supervision.Detections`, which its annotators and trackers take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carvid.base.errors import ConfigError
from carvid.base.masks import box_of
from carvid.run.track import Track

if TYPE_CHECKING:
    import supervision


def detections(track: Track, index: int) -> supervision.Detections:
    """Return what a track has in frame `index` as `supervision.Detections`.

    `class_id` is the label, from 1; so is `tracker_id`; `data["class_name"]` is the expression.

    Raises:
        ConfigError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError:
        raise ConfigError("supervision is not installed; pip install supervision") from None
    masks = track.masks[index]
    found = np.flatnonzero(masks.any(axis=(1, 2)))
    boxes = [box_of(masks[k]) for k in found]
    return supervision.Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        mask=masks[found],
        confidence=track.scores[index][found].astype(np.float32),
        class_id=found + 1,
        tracker_id=found + 1,
        data={"class_name": np.array([track.texts[k] for k in found], dtype=object)},
    )
