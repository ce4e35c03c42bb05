"""exr/: a sequence of OpenEXR, in each file a layer for each expression."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from carvid.base.errors import ConfigError
from carvid.base.files import replacing
from carvid.base.names import is_unicode, shown
from carvid.exports.format import Format
from carvid.exports.mattes import labels_shown
from carvid.exports.numbered import sequence_names
from carvid.exports.written import writing_into
from carvid.media.frames import Frame
from carvid.run.layout import EXR_FOLDER
from carvid.run.track import Track

LAYER = "m{label}_{words}"
CHANNEL = "A"
"""Coverage is alpha."""
LONGEST_LAYER = 28
"""Letters; OpenEXR files that older programs read have channel names of up to 31."""
NOTE = "carvid/{layer}"
"""The attribute that holds what a layer is of, whatever letters that has."""


def write_exr(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write coverage of each expression, half floats 0 and 1, as a layer `m1_white_dog.A`, whose
    words stand in the header in full; frames need no image. In semantic mode a class that is
    nowhere has no layer. What an earlier export wrote and this one does not is removed.

    Raises:
        ConfigError: OpenEXR is not installed.
        OutputError: the place cannot be written, or `sequence_names` says why.
    """
    tools = exr_tools()
    layers = {label: layer_name(label, track.texts[label - 1]) for label in labels_shown(track)}
    header = _header(track, layers)
    names = sequence_names(track)
    with writing_into(path) as written:
        for frame, labels in zip(frames, track.label_maps, strict=True):
            channels = {
                f"{layer}.{CHANNEL}": (labels == label).astype(np.float16)
                for label, layer in layers.items()
            }
            with replacing(written.place(f"{names[frame.index]}.exr")) as partial:
                _write(tools, header, channels, partial)


def layer_name(label: int, text: str) -> str:
    """Return a name that every compositor takes: a letter, then letters, digits and `_`."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")
    return LAYER.format(label=label, words=words)[:LONGEST_LAYER].rstrip("_")


def exr_tools() -> Any:
    """Return `OpenEXR`.

    Raises:
        ConfigError: it is not installed, or of before 3.3.
    """
    try:
        import OpenEXR

        OpenEXR.File  # noqa: B018  which older ones lack
    except (ImportError, AttributeError):
        raise ConfigError("format exr needs OpenEXR 3.3; pip install 'carvid[exr]'") from None
    return OpenEXR


def _header(track: Track, layers: dict[int, str]) -> dict[str, Any]:
    tools, video = exr_tools(), track.facts.video
    return {
        "compression": tools.ZIP_COMPRESSION,
        "type": tools.scanlineimage,
        "pixelAspectRatio": float(video.pixel_aspect),
        "framesPerSecond": Fraction(video.frame_rate),
        **{NOTE.format(layer=layer): shown(track.texts[label - 1])
           for label, layer in layers.items()},
    }  # fmt: skip


def _write(tools: Any, header: dict[str, Any], channels: dict[str, Any], path: Path) -> None:
    if not is_unicode(str(path)):  # the library takes no other names
        with TemporaryDirectory() as folder:
            other = Path(folder, "layers.exr")
            _write(tools, header, channels, other)
            shutil.copyfile(other, path)
        return
    try:
        tools.File(dict(header), channels).write(str(path))
    except RuntimeError as error:  # what the library makes of the system's refusal
        raise OSError(str(error)) from None


FORMAT = Format("exr", EXR_FOLDER, write_exr, shows_frames=False, check=exr_tools)
