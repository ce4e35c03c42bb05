"""HDR, wide colours, matrices and ranges: what a common monitor shows of them."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from carvid.media import sdr
from carvid.media.open import VideoReader, open_video
from tests.odd_videos import (
    QUIET,
    RATE,
    Change,
)


def tagged(transfer: int, primaries: int, matrix: int) -> Change:
    def change(stream: Any) -> None:
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, primaries
        context.colorspace, context.color_range = matrix, 1

    return change


def in_10_bits(path: Path, rgb: NDArray[np.float64], transfer: int, primaries: int = 9) -> Path:
    """Four frames of stripes of these R'G'B', float (N, 3) in [0, 1], in BT.2020's matrix."""
    luma = rgb @ np.array([0.2627, 0.6780, 0.0593])
    blue, red = (rgb[:, 2] - luma) / 1.8814, (rgb[:, 0] - luma) / 1.4746
    planes = [4 * (16 + 219 * luma), 4 * (128 + 224 * blue), 4 * (128 + 224 * red)]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(
            "libx265", rate=RATE, options={"x265-params": f"{QUIET}:lossless=1"}
        )
        stream.height, stream.width, stream.pix_fmt = 64, 16 * len(rgb), "yuv420p10le"
        tagged(transfer, primaries, 9)(stream)
        for t in range(4):
            frame = av.VideoFrame(16 * len(rgb), 64, "yuv420p10le")
            for plane, codes in zip(frame.planes, planes, strict=True):
                row = np.repeat(np.round(codes).astype(np.uint16), plane.width // len(rgb))
                rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                rows[:, : len(row)] = row
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = t, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def colors_of(reader: VideoReader, count: int) -> NDArray[np.int64]:
    """The colours in the middle of the stripes of the second frame, (N, 3)."""
    image = list(reader)[1].image
    return image[32, 8 + 16 * np.arange(count)].astype(int)


LIGHT = np.array(
    [(0, 0, 0), (0.5, 0.5, 0.5), (26, 26, 26), (100, 100, 100), (203, 203, 203),
     (1000, 1000, 1000), (4000, 4000, 4000), (120, 20, 20), (20, 90, 30), (15, 25, 80),
     (600, 500, 50)], float,
)  # fmt: skip
"""cd/m² of red, green and blue in BT.2020."""


def hlg_of(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100: display light up to 1000 cd/m² to an HLG signal."""
    shown = np.minimum(light, 1000) / 1000
    luma = np.maximum(shown @ np.array([0.2627, 0.6780, 0.0593]), 1e-9)[:, None]
    scene = shown * luma ** (1 / 1.2 - 1)
    root = np.sqrt(3 * scene)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.clip(np.where(scene <= 1 / 12, root, high), 0, 1)


@pytest.mark.parametrize("transfer", [sdr.PQ, sdr.HLG], ids=["PQ", "HLG"])
def test_hdr_is_tone_mapped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, transfer: int
) -> None:
    caplog.set_level(logging.INFO, "carvid")
    signal = sdr.pq_signal(LIGHT) if transfer == sdr.PQ else hlg_of(LIGHT)
    path = in_10_bits(tmp_path / "a.mp4", signal, transfer)
    with open_video(path) as reader:
        assert reader.info.backend == "pyav"
        read = colors_of(reader, len(LIGHT))
    wanted = np.round(255 * sdr.sdr(signal, transfer, 9))
    assert np.abs(read - wanted).max() <= 8 and np.abs(read - wanted).mean() < 1.5
    grey = read[:7, 0]
    assert grey[0] == 0 and grey[1] < 30 and (np.diff(grey[:6]) >= 0).all()
    assert 95 < grey[2] < 120  # 18 % grey
    assert 180 < grey[3] < 200
    assert 220 < grey[4] < 240  # a white page
    assert grey[5] >= 253 and grey[6] >= 253
    assert read[7, 0] > 2 * read[7, 1:].max() and read[8].argmax() == 1 and read[9].argmax() == 2
    said = [r.message for r in caplog.records if "HDR" in r.message]
    assert said == [f"{path}: HDR ({sdr.HDR[transfer]}, BT.2020), tone-mapped to SDR (BT.709)"]


def test_the_formulas_of_hdr_meet_published_values() -> None:
    """ST 2084 and BT.2408: 100 and 203 cd/m² are 51 % and 58 % of PQ; 203 are 75 % of HLG."""
    assert sdr.pq_signal(np.array([100.0, 203.0, 1e4])) == pytest.approx(
        [0.508, 0.581, 1], abs=1e-3
    )
    assert sdr.pq_light(np.array([0.508, 0.581, 1])) == pytest.approx([100, 203, 1e4], rel=0.01)
    assert sdr.hlg_light(np.full((1, 3), 0.75))[0, 0] == pytest.approx(203, rel=0.01)
    assert sdr.hlg_light(np.full((1, 3), 1.0))[0, 0] == pytest.approx(1000, rel=0.01)
    # BT.2087: of linear BT.709's red in BT.2020.
    assert np.linalg.inv(sdr._to_bt709(9))[:, 0] == pytest.approx(
        [0.6274, 0.0691, 0.0164], abs=1e-3
    )


def test_sdr_of_wider_colours_is_converted(tmp_path: Path) -> None:
    """What BT.709 can show comes out as it was drawn."""
    colors = np.array([(1, 1, 1), (0.5, 0.5, 0.5), (0.8, 0.2, 0.2), (0.1, 0.6, 0.3), (0, 0, 0)])
    wide = (colors**2.4 @ np.linalg.inv(sdr._to_bt709(9)).T) ** (1 / 2.4)
    path = in_10_bits(tmp_path / "a.mp4", wide, 14)
    read = colors_of(open_video(path), len(colors))
    assert np.abs(read - 255 * colors).max() <= 4


def test_10_bits_of_sdr_stay_as_they_are(tmp_path: Path) -> None:
    colors = np.array([(1, 1, 1), (0.5, 0.5, 0.5), (0.8, 0.2, 0.2), (0.1, 0.6, 0.3), (0, 0, 0)])
    path = in_10_bits(tmp_path / "a.mp4", colors, 1, primaries=1)
    read = colors_of(open_video(path), len(colors))
    assert np.abs(read - 255 * colors).max() <= 3


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize(("matrix", "red", "blue"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114)])
def test_matrices_and_ranges_are_obeyed(
    tmp_path: Path, matrix: int, red: float, blue: float, color_range: int, pixels: str
) -> None:
    colors = np.array([(0.8, 0.1, 0.1), (0.1, 0.7, 0.2), (0.2, 0.2, 0.9), (0.9, 0.9, 0.9)])
    luma = colors @ np.array([red, 1 - red - blue, blue])
    chroma = [(colors[:, 2] - luma) / (2 - 2 * blue), (colors[:, 0] - luma) / (2 - 2 * red)]
    deep = 4 if "10" in pixels else 1
    scale = (219, 224, 16) if color_range == 1 else (255, 255, 0)
    codes = [scale[2] + scale[0] * luma, *(128 + scale[1] * c for c in chroma)]
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options={"crf": "0", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 128, pixels
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, color_range
        for t in range(3):
            frame = av.VideoFrame(128, 64, pixels)
            frame.colorspace, frame.color_range = matrix, color_range
            kind = np.uint8 if deep == 1 else np.uint16
            for plane, values in zip(frame.planes, codes, strict=True):
                rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
                row = np.repeat(np.round(deep * values).astype(kind), plane.width // 4)
                rows[:, : len(row)] = row
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = t, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    for backend in ("auto", "pyav"):
        image = list(open_video(path, backend=backend))[1].image  # type: ignore[arg-type]
        assert np.abs(image[32, 16 + 32 * np.arange(4)] - 255 * colors).max() <= 3
