"""Scores of single images whose true masks are known, and a file that keeps them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import OUT, OVERWRITE, DatasetError, OutputError
from carvid.base.files import read_json, write_text
from carvid.car.proposals import EncodedFrame, ProposalGenerator
from carvid.evaluation.regions import mask_scores
from carvid.pipeline import Carvid
from carvid.run.earlier import differences, listed

THETA_GRID = np.round(np.arange(0, 1, 0.01), 2)
"""Values of θ that are tried."""
SAVE_EVERY_S = 5.0
"""Seconds after which what was measured is written; it is at the end of each step, too."""


class Sample(Protocol):
    """An image with N texts that name what is in it, and K texts of which nothing is there."""

    @property
    def name(self) -> str:
        """Its name, unlike all others."""

    @property
    def image_name(self) -> str:
        """The image's name; several samples may have one image."""

    @property
    def texts(self) -> tuple[str, ...]:
        """N expressions whose masks are known."""

    @property
    def absent(self) -> tuple[str, ...]:
        """K expressions of which nothing is in the image."""

    def image(self) -> NDArray[np.uint8]:
        """Read the image, uint8 (H, W, 3) RGB."""

    def truth(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Read the true masks of `texts`, bool (N, H, W), and the void pixels, bool (H, W)."""


class QueryScore(NamedTuple):
    """What came of one query of a sample."""

    path_value: float
    """Path value of its best candidate, in units of score; it gets a mask if this exceeds θ."""
    j_and_f: float
    """J&F of its mask, in [0, 1]; 1 where mask and truth are empty."""
    present: bool
    """Whether the truth is not empty."""
    has_mask: bool
    """Whether its mask is not empty."""

    def j_and_f_at(self, theta: float) -> float:
        """Return J&F with this θ: of a query that gets no mask 1 if it is absent, else 0."""
        return self.j_and_f if self.path_value > theta else float(not self.present)


Measurements = dict[str, list[QueryScore]]
"""Name of a sample → scores of its queries: the texts and every other absent one, then the rest."""


def measure(model: Carvid, image: NDArray[np.uint8], sample: Sample) -> list[QueryScore]:
    """Segment a sample's image and compare the masks with the truth.

    Of the absent texts the first, the third … are each segmented alone, since users may ask for a
    single thing that is not there; the others are segmented together with the texts.

    Returns:
        A score for each of the sample's texts and of the absent texts beside them, then for each
        absent text that was alone.

    Raises:
        DatasetError: image and truth differ in size.
    """
    truths, void = sample.truth()
    if void.shape != image.shape[:2]:
        raise DatasetError(f"{sample.name}: image and truth differ in size; unpack both again")
    alone, beside = sample.absent[::2], sample.absent[1::2]
    nothing = np.zeros((len(beside), *void.shape), bool)
    all_truths = np.concatenate([truths, nothing])
    scores = _scores_of(model, image, (*sample.texts, *beside), all_truths, void)
    for text in alone:
        scores += _scores_of(model, image, (text,), np.zeros((1, *void.shape), bool), void)
    return scores


def _scores_of(
    model: Carvid,
    image: NDArray[np.uint8],
    texts: tuple[str, ...],
    truths: NDArray[np.bool_],
    void: NDArray[np.bool_],
) -> list[QueryScore]:
    """Segment an image for texts together; a score for each, by its truth, bool (N, H, W)."""
    found = model.segment_image(image, texts)
    scores = []
    for k, (mask, truth) in enumerate(zip(found.masks, truths, strict=True)):
        j, f = mask_scores(mask, truth & ~void, void)
        candidates = found.candidates.get(k)
        path_value = 0.0 if candidates is None else float(candidates.values[candidates.best])
        present = bool((truth & ~void).any())
        scores.append(QueryScore(path_value, (j + f) / 2, present, bool(mask.any())))
    return scores


def best_theta(measurements: Measurements) -> float:
    """Return the θ of `THETA_GRID` with the largest mean J&F over all queries; of several, the one
    in their middle."""
    table = np.array([each for scores in measurements.values() for each in scores], np.float64)
    path_value, j_and_f, present, _ = table.T
    means = [np.where(path_value > theta, j_and_f, 1 - present).mean() for theta in THETA_GRID]
    best = np.flatnonzero(np.isclose(means, max(means), rtol=0, atol=1e-12))
    return float(THETA_GRID[best[len(best) // 2]])


class CurrentImage:
    """The image of the sample at hand, read once, and what generators have encoded of it."""

    def __init__(self) -> None:
        self._name = ""
        self._pixels: NDArray[np.uint8] | None = None
        self.encoded: dict[Any, EncodedFrame] = {}
        """What its encoding depends on → what a generator encoded."""

    def read(self, sample: Sample) -> NDArray[np.uint8]:
        """Return a sample's image; it is read unless it is that of the sample before."""
        return self.take(sample.image_name, sample.image)

    def take(self, name: str, read: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the image of a name, uint8 (H, W, 3) RGB; it is read unless it is at hand."""
        if self._pixels is None or name != self._name:
            self._name, self._pixels, self.encoded = name, read(), {}
        return self._pixels


class SharedGenerator(ProposalGenerator):
    """A generator that encodes an image once for all models that encode it alike."""

    def __init__(self, generator: ProposalGenerator, current: CurrentImage) -> None:
        super().__init__(generator.backbone, generator.config, competing=generator.competing)
        self._current = current

    def encode(self, image: NDArray[np.uint8]) -> EncodedFrame:
        """As `ProposalGenerator.encode`; `image` is the current one."""
        size_hw = self.input_size(image.shape[:2])
        config = self.config
        dense = (config.dense_variant, config.dense_sigma, config.dense_precision)
        maps = config.affinity or config.method != "dense"  # whether maps of attention are made
        spread = (config.affinity_blocks, config.affinity_top, maps)
        key = (id(self.backbone), size_hw, config.method, dense, spread)
        if key not in self._current.encoded:
            self._current.encoded[key] = super().encode(image)
        return self._current.encoded[key]


class MeasurementFile:
    """What was measured, in a JSON file that an interrupted calibration goes on from.

    Args:
        path: the file.
        inputs: what must be equal for measurements to be comparable; JSON-able.
        resume: whether to read what the file holds, if it is there; it is replaced otherwise.
        overwrite: whether it is replaced, too, where it was measured with other inputs.

    Raises:
        OutputError: the file holds something else, or was measured with other inputs.
    """

    def __init__(
        self, path: Path, inputs: dict[str, Any], *, resume: bool, overwrite: bool = False
    ) -> None:
        self._path, self._inputs, self._overwrite = path, inputs, overwrite
        self._variants: dict[str, Measurements] = {}
        self._saved_at = time.monotonic()
        if resume and path.exists():
            self._read()

    def _read(self) -> None:
        try:
            values = read_json(self._path)
            saved, variants = values["calibration"], values["answers"]
            self._variants = {
                name: {
                    sample: [QueryScore(*each) for each in rows] for sample, rows in found.items()
                }
                for name, found in variants.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise OutputError(
                f"'{self._path}' is of no calibration, or damaged; choose another name with "
                f"{OUT}, or replace it with {OVERWRITE}"
            ) from None
        others = differences(saved, self._inputs)
        if others and self._overwrite:
            self._variants = {}
        elif others:
            raise OutputError(
                f"'{self._path}' was measured on other data or with other settings: "
                f"{listed(others)}; choose another name with {OUT}, or replace it with {OVERWRITE}"
            )

    def measured(self, variant: str) -> Measurements:
        """Return what was measured of a variant so far."""
        return self._variants.setdefault(variant, {})

    def add(self, variant: str, sample: str, scores: list[QueryScore]) -> None:
        """Add a sample's scores; every `SAVE_EVERY_S` everything is written."""
        self.measured(variant)[sample] = scores
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write everything."""
        values = {"calibration": self._inputs, "answers": self._variants}
        write_text(self._path, json.dumps(values))
        self._saved_at = time.monotonic()
