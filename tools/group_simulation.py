"""Simulated networks (`real_bench`) for several things of one name: "objects 1 2" is both.

One CAM has all of them, each with its own errors; and any of them, or all of them together, is what
the text says to the classifier, which does not count.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from real_bench import (
    AXES,
    BACKGROUND_WORDS,
    LOGIT_MIDDLE,
    LOGIT_SLOPE,
    SCALE,
    Clip,
    Noise,
    SimulatedBackbone,
    SimulatedClassifier,
    SimulatedGenerator,
    Truth,
)
from torch import Tensor

import carvid
from carvid.car.proposals import Proposals, affinity_boxes, min_max, to_masks
from carvid.clip.backbone import ClipBackbone
from carvid.config import Config
from carvid.evaluation.regions import jaccard

GROUP = re.compile(r"\bobjects ((?:\d+ ?)+)")


def text_of(labels: Sequence[int]) -> str:
    """Return what names some objects."""
    return "objects " + " ".join(map(str, labels))


def labels_of(text: str) -> tuple[int, ...]:
    """Return the objects that a text names, within whatever template; none for any other text."""
    found = GROUP.search(text)
    return tuple(map(int, found[1].split())) if found else ()


class GroupBackbone(SimulatedBackbone):
    """Groups have an axis of their own."""

    @staticmethod
    def axis(text: str) -> int:
        labels, half = labels_of(text), AXES // 2
        if not labels:
            return SimulatedBackbone.axis(text)
        return half + zlib.crc32(text_of(labels).encode()) % half


class GroupGenerator(SimulatedGenerator):
    """A group's CAM is the highest of its objects'."""

    def propose(
        self, frame: Any, texts: Sequence[str], size_hw: tuple[int, int], **bare: Sequence[str]
    ) -> Proposals:
        """Return the proposals of `texts`; of a text that names no objects, zeros."""
        empty = np.zeros_like(self._truth.cam(1))
        maps = [
            np.max([empty, *(self._truth.cam(label) for label in labels_of(text))], axis=0)
            for text in texts
        ]
        cams = min_max(np.stack(maps))
        boxes = tuple(affinity_boxes(cam, self.config.lambda_) for cam in cams)
        nothing = np.zeros(len(cams), bool)
        return Proposals(cams, nothing, boxes, cams, to_masks(cams, size_hw))


class GroupClassifier(SimulatedClassifier):
    """A mask is a group's if it is one of its objects, or all of them."""

    def __init__(
        self, truth: Truth, backbone: SimulatedBackbone, config: Config, labels: Sequence[int]
    ) -> None:
        super().__init__(truth, backbone, config)
        self._labels = tuple(labels)

    def _feature(self, mask: NDArray[np.bool_]) -> Tensor:
        feature = super()._feature(mask)
        truth = self._truth
        if mask.shape != truth.mask(1).shape:
            import cv2

            size_wh = truth.mask(1).shape[::-1]
            levels = cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST)
            mask = levels > 0
        together = np.any([truth.mask(label) for label in self._labels], axis=0)
        logits = [truth.logit(label, mask) for label in self._labels]
        logits.append(LOGIT_SLOPE * (jaccard(mask, together) - LOGIT_MIDDLE))
        value = (max(logits) + float(np.log(BACKGROUND_WORDS))) / SCALE
        feature[GroupBackbone.axis(text_of(self._labels))] = value
        feature[-1] = 0
        feature[-1] = (1 - feature.square().sum()).clamp(min=0).sqrt()
        return feature


def simulate_group(
    clip: Clip, noise: Noise, seed: int, config: Config, labels: Sequence[int]
) -> carvid.Carvid:
    """Return carvid with simulated networks, which know this clip and this group only."""
    backbone = GroupBackbone()
    truth, networks = Truth(clip, noise, seed), cast(ClipBackbone, backbone)
    model = carvid.Carvid(config, networks, networks)
    model.segmenter.generator = GroupGenerator(truth, backbone, config)
    model.segmenter.classifier = GroupClassifier(truth, backbone, config, labels)
    return model
