"""Frames of HDR or of wider colours than BT.709, brought to what a common monitor shows."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

PQ, HLG = 16, 18
HDR = {PQ: "PQ", HLG: "HLG"}
"""Transfer characteristics, by their numbers in H.273."""
XYZ_OF = {
    9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    1: ("BT.709", (0.640, 0.330, 0.300, 0.600, 0.150, 0.060)),
}
"""Name, and x and y of red, green and blue, of primaries, by their numbers in H.273; all of them
have the white D65."""
BT709, BT2020, UNSPECIFIED = 1, 9, 2
D65 = (0.3127, 0.3290)
PQ_PEAK_CD_M2 = 10_000.0
SOURCE_PEAK_CD_M2 = 1_000.0
"""What HDR is taken to be graded for: HLG's nominal peak (BT.2100), and the usual one of PQ."""
WHITE_CD_M2 = 203.0
"""Light of a white page in HDR (BT.2408); what SDR's white stands for."""
HLG_GAMMA = 1.2
"""Of the scene's light to that of a display of 1000 cd/m² (BT.2100)."""
SDR_GAMMA = 2.4
"""Of an SDR display (BT.1886)."""
LUT_POINTS = 49
"""Along each axis; between them FFmpeg interpolates in tetrahedra. The mean error is under 1.5 of
255; it is up to 8 in the darkest channel of colours that BT.709 just lacks."""
PLANAR = "gbrp16le"
"""What FFmpeg's `lut3d` is quickest in: 1080p in 23 ms on one core, of which the frame's plain
conversion to RGB is 10."""


def conversion(frame: av.VideoFrame) -> tuple[int, int] | None:
    """Return transfer and primaries of a frame that needs `Sdr`, None for all others."""
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    if transfer in HDR:
        return transfer, primaries if primaries in XYZ_OF else BT2020
    if primaries in XYZ_OF and primaries != BT709:
        return BT709, primaries
    return None


def described(frame: av.VideoFrame) -> str | None:
    """Say what is done to a frame's colours; None if nothing is."""
    found = conversion(frame)
    if found is None:
        return None
    transfer, primaries = found
    name, _ = XYZ_OF[primaries]
    if transfer in HDR:
        return f"HDR ({HDR[transfer]}, {name}), tone-mapped to SDR (BT.709)"
    return f"colours of {name}, converted to BT.709"


class Sdr:
    """Brings frames to SDR in BT.709, through a table of colours that is applied by FFmpeg."""

    def __init__(self) -> None:
        self._graphs: dict[tuple[int, int, int, int], tuple[Any, Any]] = {}

    def rgb(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The frame as an SDR display shows it, uint8 (H, W, 3) RGB."""
        found = conversion(frame)
        if found is None:
            return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        if int(frame.colorspace) == UNSPECIFIED and found[1] == BT2020:
            frame.colorspace = BT2020
        planes = frame.reformat(format=PLANAR)
        planes.pts, planes.time_base = 0, Fraction(1, 25)
        key = (*found, frame.width, frame.height)
        if key not in self._graphs:
            self._graphs[key] = _graph(found, frame.width, frame.height)
        graph, source = self._graphs[key]
        source.push(planes)
        mapped: av.VideoFrame = graph.pull()
        return mapped.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _graph(found: tuple[int, int], width: int, height: int) -> tuple[Any, Any]:
    graph: Any = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=width, height=height, format=PLANAR, time_base=Fraction(1, 25)
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="carvid-") as folder:
        cube = Path(folder) / "sdr.cube"
        cube.write_text(_cube(*found), encoding="ascii")
        table, sink = graph.add("lut3d", file=str(cube)), graph.add("buffersink")
        source.link_to(table)
        table.link_to(sink)
        graph.configure()  # reads the table
    return graph, source


@lru_cache(maxsize=4)
def _cube(transfer: int, primaries: int) -> str:
    """The conversion as a table in the format .cube, red fastest."""
    axis = np.linspace(0, 1, LUT_POINTS)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    signal = np.stack([red, green, blue], axis=-1).reshape(-1, 3)
    rows = "\n".join(
        "{:.6f} {:.6f} {:.6f}".format(*row) for row in sdr(signal, transfer, primaries)
    )
    return f"LUT_3D_SIZE {LUT_POINTS}\n{rows}\n"


def sdr(signal: NDArray[np.float64], transfer: int, primaries: int) -> NDArray[np.float64]:
    """Convert R'G'B' of a transfer and primaries, float64 (N, 3) in [0, 1], to SDR in BT.709."""
    if transfer in HDR:
        light = _tone_mapped(pq_light(signal) if transfer == PQ else hlg_light(signal))
    else:
        light = signal**SDR_GAMMA
    narrow = light @ _to_bt709(primaries).T
    result: NDArray[np.float64] = np.clip(narrow, 0, 1) ** (1 / SDR_GAMMA)
    return result


def _tone_mapped(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Display light, cd/m², to light of an SDR display, 1 for its white: the largest of red, green
    and blue follows BT.2390's curve, and their ratios stay."""
    largest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    mapped: NDArray[np.float64] = light * (_rolled_off(largest) / largest) / WHITE_CD_M2
    return mapped


def pq_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084: the light of a PQ signal in [0, 1], cd/m²."""
    root = signal ** (1 / _M2)
    power: NDArray[np.float64] = np.maximum(root - _C1, 0) / (_C2 - _C3 * root)
    light: NDArray[np.float64] = PQ_PEAK_CD_M2 * power ** (1 / _M1)
    return light


def pq_signal(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084: the PQ signal, in [0, 1], of light in cd/m²."""
    power = (light / PQ_PEAK_CD_M2) ** _M1
    signal: NDArray[np.float64] = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal


def hlg_light(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100: an HLG signal (N, 3) in [0, 1] to the light of a display of 1000 cd/m²."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luma = np.maximum(scene @ np.array([0.2627, 0.6780, 0.0593]), 1e-12)[..., None]
    light: NDArray[np.float64] = SOURCE_PEAK_CD_M2 * luma ** (HLG_GAMMA - 1) * scene
    return light


def _rolled_off(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2390's EETF: light up to the source's peak to light up to SDR's white, cd/m²."""
    peak = pq_signal(np.array(SOURCE_PEAK_CD_M2))
    largest = pq_signal(np.array(WHITE_CD_M2)) / peak
    knee = 1.5 * largest - 0.5
    signal = np.minimum(pq_signal(light) / peak, 1)
    t = (signal - knee) / (1 - knee)
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * largest
    )
    return pq_light(np.where(signal < knee, signal, curve) * peak)


def _to_bt709(primaries: int) -> NDArray[np.float64]:
    matrix: NDArray[np.float64] = np.linalg.inv(_to_xyz(BT709)) @ _to_xyz(primaries)
    return matrix


def _to_xyz(primaries: int) -> NDArray[np.float64]:
    """Linear RGB of primaries to CIE XYZ, float64 (3, 3) (SMPTE RP 177)."""
    _, places = XYZ_OF[primaries]
    x, y = np.array(places[0::2]), np.array(places[1::2])
    corners = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    white = np.array([D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]])
    matrix: NDArray[np.float64] = corners * np.linalg.solve(corners, white)
    return matrix


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
"""Constants of SMPTE ST 2084."""
