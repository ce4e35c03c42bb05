"""carvid in FiftyOne: a remote source of zoo models, and the labels of a finished run.

    foz.register_zoo_model_source(SOURCE)
    model = foz.load_zoo_model("carvid", texts=["the white dog"])
    dataset.apply_model(model, label_field="carvid")

See README.md beside it. Made for FiftyOne 1.22.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np
from numpy.typing import NDArray

import carvid

VIDEO_MODEL, IMAGE_MODEL = "carvid", "carvid-image"


def download_model(model_name: str, model_path: str) -> None:
    """Leave a note where FiftyOne looks for weights: carvid finds its own, in the cache of the
    Hugging Face hub, when a model is loaded."""
    Path(model_path).write_text("carvid loads its weights itself\n", encoding="utf-8")


def load_model(
    model_name: str,
    model_path: str | None = None,
    *,
    texts: str | Sequence[str],
    preset: str = "default",
    device: str = "auto",
) -> fom.Model:
    """Load a model of the manifest.

    Args:
        model_name: one of the manifest.
        model_path: not used; FiftyOne gives it.
        texts: the sentences, one or several; label k is sentence k, from 1.
        preset: of carvid, as in `carvid.load`.
        device: `auto`, `cpu`, `cuda`, …

    Raises:
        ValueError: it has no such model.
        carvid.CarvidError: as `carvid.load`.
    """
    models = {VIDEO_MODEL: VideoModel, IMAGE_MODEL: ImageModel}
    if model_name not in models:
        raise ValueError(f"no model '{model_name}' here; there are {', '.join(models)}")
    asked = [texts] if isinstance(texts, str) else list(texts)
    return models[model_name](carvid.load(preset, device=device), asked)


def frame_labels(track: carvid.Track) -> dict[int, fo.Detections]:
    """Return what a run found, by FiftyOne's numbers of its frames, from 1: for `add_labels` of the
    video's sample. What one sentence names is one `fo.Instance` in all frames."""
    instances = [fo.Instance() for _ in track.texts]
    return {
        index + 1: _detections(track.masks[index], track.scores[index], track.texts, instances)
        for index in range(len(track))
    }


class _Model(fom.Model):
    """What both models are."""

    def __init__(self, model: carvid.Carvid, texts: Sequence[str]) -> None:
        self.config = None
        """FiftyOne asks whether it has thresholds of its own."""
        self._model, self._texts = model, tuple(texts)

    @property
    def transforms(self) -> None:
        """None: pictures come as they are."""
        return None

    @property
    def preprocess(self) -> bool:
        """Always False."""
        return False

    @property
    def ragged_batches(self) -> bool:
        """Always True: pictures may be of any sizes."""
        return True


class VideoModel(_Model):
    """Finds what sentences name in every frame of a video."""

    media_type = "video"

    def predict(self, arg: Any) -> dict[int, fo.Detections]:
        """Return the labels of a video's frames, or of a clip's.

        Args:
            arg: an `eta.core.video.VideoReader`, whose numbers the frames keep.
        """
        numbers: list[int] = []
        labels = frame_labels(self._model.segment(_frames(arg, numbers), self._texts))
        return dict(zip(numbers, labels.values(), strict=True))


class ImageModel(_Model):
    """Finds what sentences name in an image."""

    media_type = "image"

    def predict(self, arg: NDArray[np.uint8]) -> fo.Detections:
        """Return the labels of an image, uint8 (H, W, 3) RGB."""
        found = self._model.segment_image(arg, self._texts)
        return _detections(found.masks, found.scores, self._texts, [None] * len(self._texts))


def _frames(reader: Any, numbers: list[int]) -> Iterator[carvid.Frame]:
    """The frames that a video reader gives; their numbers in the video, from 1, go into a list."""
    for index, image in enumerate(reader):
        numbers.append(reader.frame_number)
        yield carvid.Frame(index, index / reader.frame_rate, image)


def _detections(
    masks: NDArray[np.bool_],
    scores: NDArray[np.float32],
    texts: Sequence[str],
    instances: Sequence[fo.Instance | None],
) -> fo.Detections:
    """A frame's masks, bool (N, H, W), as FiftyOne has them: cut to their boxes."""
    height, width = masks.shape[1:]
    found = []
    for k in np.flatnonzero(masks.any(axis=(1, 2))):
        rows, columns = (np.flatnonzero(masks[k].any(axis=axis)) for axis in (1, 0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        box = left / width, top / height, (right - left) / width, (bottom - top) / height
        found.append(fo.Detection(
            label=texts[k], bounding_box=[float(side) for side in box],
            mask=masks[k][top:bottom, left:right], confidence=float(scores[k]), index=int(k) + 1,
            instance=instances[k],
        ))  # fmt: skip
    return fo.Detections(detections=found)
