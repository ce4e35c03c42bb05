"""What an index keeps of a piece of a clip: a key frame, and the frames up to the next one."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from carvid.base.errors import ConfigError
from carvid.base.files import replacing
from carvid.base.scale import shrink, small_size
from carvid.car.affinity import NearestAffinity, nothing_near
from carvid.car.proposals import EncodedFrame
from carvid.clip.dense import DenseFeatures
from carvid.index.facts import AGAIN

PICTURE_QUALITY = 85
"""Of key frames' pictures, of 100: the classifier sees them at 224 pixels."""
FLOW_STEP = 8
"""Motion is kept of every so manieth pixel ..."""
FLOW_LEVELS = 4
"""... in steps of 1/4 pixel."""
JPEG_END = b"\xff\xd9"
"""The last bytes of a JPEG; OpenCV reads one that is cut, too."""
DAMAGED = (OSError, ValueError, LookupError, zipfile.BadZipFile, zlib.error, cv2.error)
"""What reading a damaged piece raises."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A key frame as the generator sees it, and how the frames after it move."""

    index: int
    """The key frame's index."""
    encoded: EncodedFrame
    """Its features and affinity."""
    begins_shot: bool
    """Nothing of the piece before goes on in it."""
    times_s: NDArray[np.float64]
    """float64 (T,): the times of its T frames, seconds; NaN where the clip has none."""
    motion: NDArray[np.int16]
    """int16 (T, h, w, 2): how far each of its frames has moved since the frame before it, (x, y) in
    quarters of a pixel of the flow, at every 8th one; zeros where a shot begins."""


def coarse_motion(motion: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return flow, float32 (h, w, 2) in pixels, as `Piece.motion` keeps it."""
    height, width = motion.shape[:2]
    size = (-(-width // FLOW_STEP), -(-height // FLOW_STEP))
    small = cv2.resize(motion, size, interpolation=cv2.INTER_AREA)
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(small * FLOW_LEVELS), limits.min, limits.max).astype(np.int16)


def write_piece(path: Path, piece: Piece) -> None:
    """Write a piece, whole, the same bytes each time.

    Raises:
        OutputError: the place cannot be written.
    """
    features = piece.encoded.features
    assert isinstance(features, DenseFeatures)
    affinity = piece.encoded.affinity or nothing_near(len(features.values))
    assert isinstance(affinity, NearestAffinity)
    columns = affinity.columns.cpu().numpy()
    patches = np.uint16 if len(columns) <= np.iinfo(np.uint16).max + 1 else np.int32
    arrays: dict[str, Any] = {
        "grid_hw": np.array(features.grid_hw, np.int64),
        "values": features.values.cpu().numpy(),
        "steps": features.steps.cpu().numpy(),
        "columns": columns.astype(patches),
        "levels": affinity.levels.cpu().numpy(),
        "row_steps": affinity.steps.cpu().numpy(),
        "begins_shot": np.array(piece.begins_shot),
        "times_s": piece.times_s,
        "motion": piece.motion,
    }
    buffer = io.BytesIO()  # a zip file is written back and forth
    np.savez_compressed(buffer, **arrays)
    with replacing(path) as partial:
        partial.write_bytes(buffer.getvalue())


def read_piece(path: Path, device: torch.device | str = "cpu") -> Piece:
    """Read a piece; its tensors are put on a device.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        with path.open("rb") as data, np.load(data, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        arrays["columns"] = arrays["columns"].astype(np.int64)
        values, steps, columns, levels, row_steps = (
            torch.from_numpy(arrays[name]).to(device)
            for name in ("values", "steps", "columns", "levels", "row_steps")
        )
        down, across = arrays["grid_hw"].tolist()
        _check_shapes(arrays, down * across)
        features = DenseFeatures((down, across), values, steps)
        affinity = NearestAffinity(columns, levels, row_steps) if columns.shape[1] else None
        return Piece(
            index=int(path.stem),
            encoded=EncodedFrame(features, affinity),
            begins_shot=bool(arrays["begins_shot"]),
            times_s=arrays["times_s"],
            motion=arrays["motion"],
        )
    except DAMAGED:
        raise ConfigError(f"'{path}' is damaged or missing; {AGAIN}") from None


def _check_shapes(arrays: dict[str, Any], patches: int) -> None:
    """Raise a ValueError if what was read of a piece with so many patches does not fit together."""
    count, near = len(arrays["motion"]), arrays["columns"].shape[1]
    expected = {
        "values": (patches, arrays["values"].shape[1]), "steps": (patches, 1),
        "columns": (patches, near), "levels": (patches, near), "row_steps": (patches, 1),
        "times_s": (count,), "motion": (count, *arrays["motion"].shape[1:3], 2),
    }  # fmt: skip
    wrong = [name for name, shape in expected.items() if arrays[name].shape != shape]
    inside = ((arrays["columns"] >= 0) & (arrays["columns"] < patches)).all()
    if wrong or not (count and inside):
        raise ValueError(f"{wrong} of a piece do not fit")


def write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a key frame, uint8 (H, W, 3) RGB, at 480p as a JPEG.

    Raises:
        OutputError: the place cannot be written.
    """
    small = shrink(image, small_size((image.shape[0], image.shape[1])))
    quality = [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), quality)
    assert done
    with replacing(path) as partial:
        partial.write_bytes(data.tobytes())


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a key frame's picture, uint8 (h, w, 3) RGB.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        data = path.read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None or not data.endswith(JPEG_END):
            raise ValueError("it is no whole JPEG")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    except DAMAGED:
        raise ConfigError(f"'{path}' is damaged or missing; {AGAIN}") from None


def coarse_size(piece: Piece) -> tuple[int, int]:
    """Return height and width at which a piece's motion is kept."""
    return piece.motion.shape[1], piece.motion.shape[2]
