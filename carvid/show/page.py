"""A run as a web page in one file: frames to scrub through, masks to switch, scores over time."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import OutputError
from carvid.base.files import replacing
from carvid.base.names import shown
from carvid.base.palette import color_of
from carvid.media.frames import Frame, VideoInfo
from carvid.run.sequences import FolderLabels

if TYPE_CHECKING:
    from carvid.run.track import Track

HEAD_BYTES = 4096
"""Of a page, in which its digest is."""

MAX_SIDE = 720
"""Longer side of the page's pictures, pixels."""
MAX_FRAMES = 600
"""Of longer videos every n-th frame is shown, so that a browser can hold the page."""
JPEG_QUALITY = 80


def write_page(track: Track, path: Path, frames: Iterable[Frame]) -> None:
    """Write the page; frames that it shows are embedded as JPEGs, label maps as PNGs.

    Raises:
        OutputError: the place cannot be written.
    """
    video = track.facts.video
    step, size = -(-len(track) // MAX_FRAMES), _page_size(video)
    before, after = template().split("{{pictures}}")
    filling = {
        "title": html.escape(shown(Path(video.path).name)),
        "facts": for_script(_facts(track, step)),
        "digest": _digest(track),
    }  # fmt: skip
    before = re.sub(r"{{(\w+)}}", lambda gap: filling[gap[1]], before)  # names may look like gaps
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as page:
        page.write(before)
        for frame in frames:
            if frame.index % step == 0:
                labels = track.label_maps[frame.index]
                entry = [_jpeg(frame.image, size), _png(labels, size)]
                page.write((",\n" if frame.index else "") + for_script(entry))
        page.write(after)


def is_current(path: Path, track: Track) -> bool:
    """Whether there is a page at `path` that shows a track's masks and scores as they are now.

    Raises:
        OutputError: what is there is no page of carvid.
    """
    if not path.is_file():
        return False
    with path.open("rb") as page:
        head = page.read(HEAD_BYTES)
    digest = re.search(rb'<meta name="carvid" content="(\w+)">', head)
    if digest is not None:
        return digest[1].decode() == _digest(track)
    if b"const facts = " not in path.read_bytes():
        raise OutputError(f"'{path}' is no page of carvid; move it away")
    return False  # of an earlier carvid


def template() -> str:
    """Return the page without its contents."""
    return (resources.files("carvid.show") / "page.html").read_text(encoding="utf-8")


def for_script(values: object) -> str:
    """JSON that can stand in a page's script: nothing in it ends the script or begins a tag."""
    text = json.dumps(values, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _facts(track: Track, step: int) -> dict[str, Any]:
    """What a page knows of a track, of which every `step`-th frame is shown."""
    palette = track.facts.config.overlay.palette
    return {
        "texts": list(track.texts),
        "colors": [f"rgb{color_of(k, palette)}" for k in range(len(track.texts))],
        "times": [round(float(time_s), 3) for time_s in track.times_s],
        "scores": np.round(track.scores.astype(float), 4).tolist(),
        "unseen": _unseen(track),
        "step": step,
        "size": "{1} × {0}".format(*track.facts.video.size_hw),
    }


def _unseen(track: Track) -> list[int]:
    """Which expressions have no row: of classes, which may be hundreds, those in no frame."""
    if not track.facts.semantic:
        return []
    found = track.summary()["expressions"]
    return [k for k, entry in enumerate(found) if not entry["frames_found"]]


def _digest(track: Track) -> str:
    """SHA-256 of a track's masks, as they are stored, and of what else a page shows of it."""
    digest = hashlib.sha256(for_script(_facts(track, 1)).encode())
    labels = track.label_maps
    for index in range(len(track)):
        if isinstance(labels, FolderLabels) and labels.path(index).is_file():
            digest.update(labels.path(index).read_bytes())
        else:
            digest.update(labels[index].tobytes())
    return digest.hexdigest()


def _page_size(video: VideoInfo) -> tuple[int, int]:
    """Width and height of the page's pictures, whose pixels are square."""
    aspect = float(video.pixel_aspect)
    width, height = video.size_hw[1] * max(1.0, aspect), video.size_hw[0] / min(1.0, aspect)
    scale = min(1.0, MAX_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _jpeg(image: NDArray[np.uint8], size: tuple[int, int]) -> str:
    picture = Image.fromarray(image)
    picture = picture if picture.size == size else picture.resize(size)
    return _encoded(picture, "JPEG", quality=JPEG_QUALITY)


def _png(labels: NDArray[np.uint8], size: tuple[int, int]) -> str:
    return _encoded(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST), "PNG")


def _encoded(picture: Image.Image, form: str, **options: int) -> str:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return base64.b64encode(file.getvalue()).decode("ascii")
