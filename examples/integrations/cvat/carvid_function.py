"""carvid as an auto-annotation function of CVAT: masks for what sentences name.

    cvat-cli task auto-annotate TASK --function-file carvid_function.py -p expr="str:the white dog"

See README.md beside it. Made for cvat-sdk 2.80 (`cvat_sdk.auto_annotation`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

import cv2
import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk import models
from cvat_sdk.masks import encode_mask
from numpy.typing import NDArray
from PIL import Image

import carvid

CORNERS = 3
"""A polygon has as many at least."""


class CarvidFunction:
    """A detection function that carries what it finds along, where frames follow each other.

    Args:
        expr: one sentence, or several with semicolons between them. A label of the task's stands
            before its sentence, `dog = the white dog`; without one the sentence is the label.
        preset: of carvid, as in `carvid.load`.
        device: `auto`, `cpu`, `cuda`, …
        step: how much the number in a frame's name grows from a frame to the next. A frame whose
            name follows the last one's goes on from it; any other one is looked at by itself. 0
            looks at all of them by themselves.

    Raises:
        ValueError: no sentence, a label twice, or a negative step.
        carvid.CarvidError: as `carvid.load`.
    """

    def __init__(
        self, expr: str, preset: str = "default", device: str = "auto", step: int = 1
    ) -> None:
        if step < 0:
            raise ValueError(f"step is {step}; give 0 or more")
        self._labels, self._texts = _labels_and_texts(expr)
        self._model = carvid.load(preset, device=device)
        self._step = step
        self._last: tuple[tuple[str, int] | None, tuple[int, int], carvid.FrameResult] | None = None
        """Of the last frame: its numbered name, its size, and what was found."""

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """The labels, numbered as the sentences are, from 1."""
        return cvataa.DetectionFunctionSpec(
            labels=[
                cvataa.label_spec(label, number, type="mask")
                for number, label in enumerate(self._labels, start=1)
            ]
        )

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: Image.Image
    ) -> list[models.LabeledShapeRequest]:
        """Return a mask, or polygons, for each sentence whose thing is in the frame."""
        found = self._follow(context.frame_name, image)
        return [
            shape
            for k, mask in enumerate(found.masks)
            if mask.any() and found.scores[k] >= (context.conf_threshold or 0)
            for shape in _shapes(k + 1, mask, polygons=context.conv_mask_to_poly)
        ]

    def _follow(self, name: str, image: Image.Image) -> carvid.FrameResult:
        """Find the things in a frame, going on from the last one if this one follows it."""
        number, state = _numbered(name), None
        if self._last is not None:
            before, size, result = self._last
            if self._follows(before, number) and size == image.size:
                state = result.state
        found = next(self._model.stream([image], self._texts, state=state))
        self._last = number, image.size, found
        return found

    def _follows(self, before: tuple[str, int] | None, now: tuple[str, int] | None) -> bool:
        if before is None or now is None or not self._step:
            return False
        return now == (before[0], before[1] + self._step)


def _labels_and_texts(expr: str) -> tuple[list[str], list[str]]:
    """The labels and sentences of `label = sentence; sentence`."""
    parts = [part.partition("=") for part in expr.split(";") if part.strip()]
    labels = [label.strip() for label, _, _ in parts]
    texts = [(text if equals else label).strip() for label, equals, text in parts]
    if not texts or not all(labels) or not all(texts):
        raise ValueError(f"expr is {expr!r}; give 'a sentence; label = another sentence'")
    if len(set(labels)) < len(labels):
        raise ValueError(f"a label stands twice in {expr!r}; give each sentence its own")
    return labels, texts


def _numbered(name: str) -> tuple[str, int] | None:
    """What of a frame's name is not its last number, and that number; None without one."""
    path = PurePath(name)
    match = re.fullmatch(r"(.*?)(\d+)(\D*)", path.name, re.S)
    return match and (f"{path.parent}/{match[1]}#{match[3]}", int(match[2]))


def _shapes(
    label: int, mask: NDArray[np.bool_], *, polygons: bool
) -> Iterator[models.LabeledShapeRequest]:
    """A mask as CVAT has it: run lengths, or the outlines of its parts, without their holes."""
    if not polygons:
        yield cvataa.mask(label, encode_mask(mask))
        return
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    for outline in outlines:
        if len(outline) >= CORNERS:
            yield cvataa.polygon(label, outline.ravel().astype(float).tolist())


create = CarvidFunction
