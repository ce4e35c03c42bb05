"""What SAM makes of the masks of a frame (CaR section 3.3; Kirillov et al. 2023, Segment Anything).

Two ways to refine a mask. The *ensemble*, the paper's: SAM's automatic masks are matched to it and
united. *Prompted*, beyond the paper: the mask is the prompt, and SAM draws it anew; one pass of the
decoder for each mask, where the automatic masks take a thousand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from carvid.base.masks import iou
from carvid.config import Config, SamConfig
from carvid.sam.automatic import automatic_masks
from carvid.sam.cache import MaskCache, cache_folder
from carvid.sam.installed import OWN
from carvid.sam.network import SamNetwork
from carvid.sam.package import Generate, package_generator
from carvid.sam.weights import load_sam, not_enough_memory

SamRefiner = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.bool_]]
"""uint8 (H, W, 3) RGB and masks, bool (N, H, W) → refined masks, bool (N, H, W)."""
log = logging.getLogger("carvid")


def sam_refiner(config: Config) -> SamRefiner | None:
    """Load the SAM that `config.sam` names, for its mode; None, if it names none.

    Raises:
        WeightsError: it cannot be found or read, is no SAM, or memory is too small for it.
        ConfigError: the device does not exist.
    """
    if not config.sam.model:
        return None
    network = SamNetwork(load_sam(config.sam.model, config.weights.device))
    if config.sam.mode == "prompted":
        return prompted(network, config.sam)
    return _ensemble(network, config.sam)


@dataclass(frozen=True)
class Ensemble:
    """Matches masks with the automatic ones of a frame, which are made once a frame."""

    generate: Generate
    """Makes the automatic masks."""
    config: SamConfig
    """Thresholds and rule."""
    made_by: str = OWN
    """What makes them: carvid, or segment-anything and its version."""

    def __call__(self, image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return refined masks, bool (N, H, W); see `match_masks`."""
        return match_masks(masks, self.generate(image), self.config) if masks.any() else masks


def masks_made_by(refiner: SamRefiner | None) -> str:
    """Return what makes the automatic masks; so, too, where none are made."""
    return refiner.made_by if isinstance(refiner, Ensemble) else OWN


def prompted(network: SamNetwork, config: SamConfig) -> SamRefiner:
    """Return what lets SAM draw each mask anew, from its box, points in it, and itself.

    What SAM draws replaces the mask if their IoU is above φ_iou.
    """

    def refine(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        refined = masks.copy()
        there = np.flatnonzero(masks.any(axis=(1, 2)))
        if not len(there):
            return refined
        with not_enough_memory(config.model):
            embedding = network.embed(image)
            for k in there:
                drawn = network.mask_like(embedding, masks[k])
                if iou(drawn, masks[k]) > config.phi_iou:
                    refined[k] = drawn
        return refined

    return refine


def match_masks(
    masks: NDArray[np.bool_], automatic: NDArray[np.bool_], config: SamConfig
) -> NDArray[np.bool_]:
    """Replace masks by the union of the automatic masks that match them.

    An automatic mask matches if its IoM with the mask, the intersection over the smaller of the
    two, is above φ_iom. `paper`: the union replaces the mask if their IoU is above φ_iou.
    `released`: it does whatever the IoU; if nothing matches, the automatic mask of the largest IoM
    does. An empty mask stays empty, and an empty automatic mask matches nothing.

    Args:
        masks: bool (N, H, W).
        automatic: bool (A, H, W).
        config: thresholds and rule.

    Returns:
        bool (N, H, W).

    Raises:
        ValueError: sizes differ.
    """
    if masks.shape[1:] != automatic.shape[1:]:
        raise ValueError(f"automatic masks must be (A, {masks.shape[1:]}), got {automatic.shape}")
    automatic = automatic[automatic.any(axis=(1, 2))]
    refined = masks.copy()
    for k, mask in enumerate(masks):
        if not mask.any() or not len(automatic):
            continue
        intersections = (automatic & mask).sum(axis=(1, 2))
        iom = intersections / np.minimum(automatic.sum(axis=(1, 2)), mask.sum())  # (A,)
        matching = iom > config.phi_iom
        if config.match == "released" and not matching.any():
            matching[iom.argmax()] = True
        union = automatic[matching].any(axis=0)
        if config.match == "released" or iou(union, mask) > config.phi_iou:
            refined[k] = union
    return refined


def _ensemble(network: SamNetwork, config: SamConfig) -> Ensemble:
    """Return the ensemble whose masks segment-anything makes, if it can, or else carvid's own code;
    they are kept on disk unless `sam.cache` is off."""
    generate: Generate = partial(automatic_masks, network, config=config)
    found = package_generator(network.model, config)
    made_by = OWN
    if found is not None:
        generate, made_by = found
        _say_once(made_by)
    folder = cache_folder(config.cache)
    if folder is None:
        return Ensemble(generate, config, made_by)
    # What the masks depend on, beside picture and weights; the two makers may differ in a pixel.
    settings = (
        config.points_per_side, config.min_iou, config.min_stability, config.max_box_iou,
        f"{OWN} 2" if made_by == OWN else made_by,  # 2: boxes and ε are the package's
    )  # fmt: skip
    kept = MaskCache(folder, network.model.state_dict(), settings, 1e6 * config.cache_mb)
    return Ensemble(partial(kept.get, generate=generate), config, made_by)


@cache
def _say_once(made_by: str) -> None:
    log.info("SAM's automatic masks are made by %s", made_by)
