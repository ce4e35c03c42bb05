"""Pictures as people have them, alone, in folders and as sequences: what is read of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from carvid.media.encode import VideoWriter


@pytest.mark.parametrize(
    ("times_s", "hold_s"),
    [
        ((0.0, 0.1, 0.2, 0.3), 3.0), ((0.0, 3.0, 3.1, 3.2), 0.5), ((0.0, 1.0), 0.01), ((0.0,), 2.0),
        (tuple(k / 10 for k in range(30)), 4.0),
    ],
)  # fmt: skip
def test_a_video_ends_when_its_last_frame_does(
    tmp_path: Path, times_s: tuple[float, ...], hold_s: float
) -> None:
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "a.mp4", (32, 48), Fraction(10)) as writer:
        for time_s in times_s:  # only the last one's own duration counts
            writer.write(rng.integers(0, 255, (32, 48, 3), np.uint8), time_s, hold_s)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(times_s[-1] + hold_s, abs=1e-3)
        shown = [frame.time for frame in container.decode(video=0)]
    assert shown == pytest.approx(times_s, abs=1e-3)
