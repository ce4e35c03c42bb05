"""From proposals to masks: the CRF, and SAM after it (CaR section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from carvid.base.scale import cut_masks, resize, shrink, working_size
from carvid.car.crf import CPU, crf_masks
from carvid.car.exact_crf import check_installed
from carvid.config import Config
from carvid.sam.refiner import SamRefiner


class Sharpener:
    """Turns proposals into masks; without a CRF, by the threshold η.

    Raises:
        ConfigError: the CRF that is set is not installed.
    """

    def __init__(
        self, config: Config, sam: SamRefiner | None, device: torch.device = CPU
    ) -> None:
        check_installed(config.crf)
        self.config, self.sam = config, sam
        # Older versions of torch have no embedding_bag for Apple's GPUs.
        self._device = CPU if device.type == "mps" else device

    def __call__(
        self,
        image: NDArray[np.uint8],
        proposals: NDArray[np.float32],
        stuff: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.bool_]:
        """Return masks of the image, bool (n, H, W).

        Args:
            image: uint8 (H, W, 3) RGB.
            proposals: float32 (n, h, w) in [0, 1].
            stuff: bool (n,): in semantic mode things share a CRF, and stuff shares another one;
                where both want a pixel, things have it. None: there is no stuff.
        """
        joint = self.config.car.mode == "semantic"
        if joint and stuff is not None and stuff.any() and not stuff.all():
            masks = np.empty((len(proposals), *image.shape[:2]), bool)
            masks[~stuff] = self._cut(image, proposals[~stuff], joint=True)
            free = ~masks[~stuff].any(axis=0)
            masks[stuff] = self._cut(image, proposals[stuff], joint=True) & free
        else:
            masks = self._cut(image, proposals, joint=joint)
        return masks if self.sam is None else self.sam(image, masks)

    def of(
        self, stuff: NDArray[np.bool_]
    ) -> Callable[[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]], NDArray[np.bool_]]:
        """Return the same for some of N expressions, whose indices, int64 (n,), are given with the
        proposals; `stuff`, bool (N,), are those that name stuff."""
        return lambda image, proposals, rows: self(image, proposals, stuff[rows])

    def _cut(
        self, image: NDArray[np.uint8], proposals: NDArray[np.float32], *, joint: bool
    ) -> NDArray[np.bool_]:
        crf = self.config.crf
        if crf.enabled:
            small = shrink(image, working_size(image, crf.scale))
            proposals = resize(proposals, (small.shape[0], small.shape[1]))
            found = crf_masks(small, proposals, crf, joint=joint, device=self._device)
            return found if small is image else cut_masks(found.astype(np.float32), image)
        masks = np.zeros((len(proposals), *image.shape[:2]), bool)
        for mask, plane in zip(masks, proposals, strict=True):
            mask[:] = resize(plane[None], mask.shape)[0] > self.config.prompts.eta
        return masks
