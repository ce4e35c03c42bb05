"""Asking single images whose masks are known: what came of it, and a file that keeps it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError, OutputError
from carvid.base.files import read_json, write_text
from carvid.car.proposals import EncodedFrame, ProposalGenerator
from carvid.evaluation.regions import mask_scores
from carvid.pipeline import Carvid

THETAS = np.round(np.arange(0, 1, 0.01), 2)
"""Values of θ that are tried."""
SAVE_EVERY_S = 5.0
"""What was measured is written every so many seconds, and at the end of each step."""


class Sample(Protocol):
    """An image, what is asked of it together, and what is there; N texts and K absent ones."""

    @property
    def name(self) -> str:
        """What tells it from others."""

    @property
    def image_name(self) -> str:
        """What the samples of one image share, and those of others do not."""

    @property
    def texts(self) -> tuple[str, ...]:
        """What is asked, and known."""

    @property
    def absent(self) -> tuple[str, ...]:
        """What is asked, and not there."""

    def image(self) -> NDArray[np.uint8]:
        """Read the image, uint8 (H, W, 3) RGB."""

    def truth(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Read the truth of `texts`, bool (N, H, W), and void pixels, bool (H, W)."""


class Answer(NamedTuple):
    """What came of one query of a sample."""

    path_value: float
    """What its best candidate was worth, in units of score; θ asks for more."""
    found: float
    """J&F of its mask, in [0, 1]; 1 where mask and truth are empty."""
    there: bool
    """Whether the truth is not empty."""
    shown: bool
    """Whether its mask is not empty."""

    def value(self, theta: float) -> float:
        """J&F with this θ: without a mask 1 if it is not there, else 0."""
        return self.found if self.path_value > theta else float(not self.there)


Answers = dict[str, list[Answer]]
"""Name of a sample → its answers, in the order in which they were asked."""


def ask(model: Carvid, image: NDArray[np.uint8], sample: Sample) -> list[Answer]:
    """Segment an image and compare with the truth.

    Every other absent text, from the first, is asked alone, as users may; the rest with the texts.

    Returns:
        An answer for each of the sample's texts, and for each absent one.

    Raises:
        DatasetError: image and truth differ in size.
    """
    truths, void = sample.truth()
    if void.shape != image.shape[:2]:
        raise DatasetError(f"{sample.name}: image and truth differ in size; unpack both again")
    alone, beside = sample.absent[::2], sample.absent[1::2]
    nothing = np.zeros((len(beside), *void.shape), bool)
    all_truths = np.concatenate([truths, nothing])
    answers = _compare(model, image, (*sample.texts, *beside), all_truths, void)
    for text in alone:
        answers += _compare(model, image, (text,), np.zeros((1, *void.shape), bool), void)
    return answers


def _compare(
    model: Carvid,
    image: NDArray[np.uint8],
    texts: tuple[str, ...],
    truths: NDArray[np.bool_],
    void: NDArray[np.bool_],
) -> list[Answer]:
    """Ask for texts together; an answer for each, by its truth."""
    found = model.segment_image(image, texts)
    answers = []
    for k, (mask, truth) in enumerate(zip(found.masks, truths, strict=True)):
        j, f = mask_scores(mask, truth & ~void, void)
        candidates = found.candidates.get(k)
        path_value = 0.0 if candidates is None else float(candidates.values[candidates.best])
        there = bool((truth & ~void).any())
        answers.append(Answer(path_value, (j + f) / 2, there, bool(mask.any())))
    return answers


def best_theta(answers: Answers) -> float:
    """Return the θ of the largest mean J&F; of several, the one in their middle."""
    table = np.array([a for each in answers.values() for a in each], np.float64)
    path_value, found, there, _ = table.T
    means = [np.where(path_value > theta, found, 1 - there).mean() for theta in THETAS]
    best = np.flatnonzero(np.isclose(means, max(means), rtol=0, atol=1e-12))
    return float(THETAS[best[len(best) // 2]])


class Once:
    """The image at hand, and what the generator has made of it."""

    def __init__(self) -> None:
        self._name = ""
        self._pixels: NDArray[np.uint8] | None = None
        self.encoded: dict[Any, EncodedFrame] = {}

    def image(self, sample: Sample) -> NDArray[np.uint8]:
        """Read a sample's image, unless it is that of the sample before."""
        if self._pixels is None or sample.image_name != self._name:
            self._name, self._pixels, self.encoded = sample.image_name, sample.image(), {}
        return self._pixels


class SharingGenerator(ProposalGenerator):
    """A generator that encodes an image once for all who ask with the same settings."""

    def __init__(self, generator: ProposalGenerator, once: Once) -> None:
        super().__init__(generator.backbone, generator.config, competing=generator.competing)
        self._once = once

    def encode(self, image: NDArray[np.uint8]) -> EncodedFrame:
        """As `ProposalGenerator.encode`; `image` is the one at hand."""
        if self.config not in self._once.encoded:
            self._once.encoded[self.config] = super().encode(image)
        return self._once.encoded[self.config]


class Store:
    """What was measured, in a JSON file that an interrupted calibration goes on from."""

    def __init__(self, path: Path, inputs: dict[str, Any], *, fresh: bool) -> None:
        self._path, self._inputs = path, inputs
        self._answers: dict[str, Answers] = {}
        self._saved = time.monotonic()
        if fresh or not path.exists():
            return
        try:
            values = read_json(path)
            saved, variants = values["calibration"], values["answers"]
            self._answers = {
                name: {sample: [Answer(*each) for each in rows] for sample, rows in found.items()}
                for name, found in variants.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise OutputError(f"'{path}' is of no calibration; choose another -o") from None
        if saved != json.loads(json.dumps(inputs)):
            raise OutputError(
                f"'{path}' was measured on other data or with other settings; choose another -o, "
                "or replace it with --overwrite"
            )

    def known(self, name: str) -> Answers:
        """Return what is known of a variant."""
        return self._answers.setdefault(name, {})

    def add(self, name: str, sample: str, answers: list[Answer]) -> None:
        """Add a sample's answers; every few seconds everything is written."""
        self.known(name)[sample] = answers
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write everything."""
        write_text(self._path, json.dumps({"calibration": self._inputs, "answers": self._answers}))
        self._saved = time.monotonic()
