"""Automatic masks made by segment-anything itself, where it can be imported (it needs torchvision).

Its network is built with the sizes of the SAM that is loaded and holds the same tensors, not copies
of them. Without the package carvid's own code makes the masks (`automatic.py`).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import SamModel

from carvid.config import SamConfig
from carvid.sam.installed import MODULE, one_line, package_name, state
from carvid.sam.network import PIXEL_MEAN, PIXEL_STD
from carvid.sam.weights import not_enough_memory, rename

ACTIVATIONS = ("gelu", "gelu", "relu")
"""Of the encoder, of the masks of prompts and of the decoder: the package has no others."""
log = logging.getLogger("carvid")

Generate = Callable[[NDArray[np.uint8]], NDArray[np.bool_]]
"""uint8 (H, W, 3) RGB → automatic masks, bool (A, H, W), which may overlap."""


def package_generator(model: SamModel, config: SamConfig) -> tuple[Generate, str] | None:
    """Return what makes automatic masks by the package, and the package's name and version; None
    where that is not installed, or, which is logged, cannot be used.

    Args:
        model: the SAM that is loaded; its tensors are used, not copied.
        config: grid and thresholds.
    """
    found = state()
    if found.fault:
        warn_once(f"segment-anything is installed but cannot be imported ({found.fault})")
    if not found.version:
        return None
    try:
        generator = _generator(package_network(model), config)
    except Exception as error:  # another package of this name raises whatever it likes
        warn_once(f"segment-anything cannot take this SAM ({one_line(error)})")
        return None
    return partial(_generate, generator, config), package_name(found.version)


def package_network(model: SamModel) -> Any:
    """Return the package's `Sam` with the tensors of a `SamModel`, on the same device.

    Raises:
        ValueError: the package has no such network; so are RuntimeError, KeyError and TypeError.
    """
    modeling = importlib.import_module(f"{MODULE}.modeling")
    device = next(model.parameters()).device
    if device.type == "mps":
        raise ValueError("its points are float64, which Apple's GPUs lack")
    with torch.device("meta"):  # no weights of its own, which would be thrown away
        sam = _network(modeling, model.config)
    state = model.state_dict()
    sam.load_state_dict({key: state[rename(key)] for key in sam.state_dict()}, assign=True)
    for name, values in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):  # in no checkpoint
        setattr(sam, name, torch.tensor(values, device=device).reshape(3, 1, 1))
    return sam.eval().requires_grad_(False)


@cache
def warn_once(fault: str) -> None:
    """Log why the package does not make the masks; the same fault once in a process."""
    log.warning("%s; carvid's own code makes SAM's automatic masks", fault)


def _network(modeling: Any, config: Any) -> Any:
    """The package's `Sam` of the sizes in a `SamModel`'s config."""
    vision, prompts, decoder = (
        config.vision_config, config.prompt_encoder_config, config.mask_decoder_config,
    )  # fmt: skip
    activations = (vision.hidden_act, prompts.hidden_act, decoder.hidden_act)
    if activations != ACTIVATIONS:
        raise ValueError(f"its activations are {ACTIVATIONS}, not {activations}")
    side = vision.image_size // vision.patch_size
    return modeling.Sam(
        modeling.ImageEncoderViT(
            img_size=vision.image_size,
            patch_size=vision.patch_size,
            in_chans=vision.num_channels,
            embed_dim=vision.hidden_size,
            depth=vision.num_hidden_layers,
            num_heads=vision.num_attention_heads,
            mlp_ratio=(vision.mlp_dim + 0.5) / vision.hidden_size,  # it rounds the product down
            out_chans=vision.output_channels,
            qkv_bias=vision.qkv_bias,
            norm_layer=partial(nn.LayerNorm, eps=vision.layer_norm_eps),
            use_abs_pos=vision.use_abs_pos,
            use_rel_pos=vision.use_rel_pos,
            window_size=vision.window_size,
            global_attn_indexes=tuple(vision.global_attn_indexes),
        ),
        modeling.PromptEncoder(
            embed_dim=prompts.hidden_size,
            image_embedding_size=(side, side),
            input_image_size=(vision.image_size, vision.image_size),
            mask_in_chans=prompts.mask_input_channels,
        ),
        modeling.MaskDecoder(
            transformer_dim=decoder.hidden_size,
            transformer=modeling.TwoWayTransformer(
                depth=decoder.num_hidden_layers,
                embedding_dim=decoder.hidden_size,
                num_heads=decoder.num_attention_heads,
                mlp_dim=decoder.mlp_dim,
                attention_downsample_rate=decoder.attention_downsample_rate,
            ),
            num_multimask_outputs=decoder.num_multimask_outputs,
            iou_head_depth=decoder.iou_head_depth,
            iou_head_hidden_dim=decoder.iou_head_hidden_dim,
        ),
    )


def _generator(network: Any, config: SamConfig) -> Any:
    """The package's generator with carvid's settings, without crops, as CaR uses it."""
    return importlib.import_module(MODULE).SamAutomaticMaskGenerator(
        network,
        points_per_side=config.points_per_side,
        points_per_batch=config.points_per_batch,
        pred_iou_thresh=config.min_iou,
        stability_score_thresh=config.min_stability,
        box_nms_thresh=config.max_box_iou,
    )


def _generate(generator: Any, config: SamConfig, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Automatic masks of a frame, the best first: bool (A, H, W)."""
    with not_enough_memory(config.model):
        found = generator.generate(image)
    # It has no bound on the rating of 0 or less, and none on empty masks where stability may be 0.
    kept = [
        each["segmentation"]
        for each in found
        if each["predicted_iou"] > config.min_iou and each["area"]
    ]
    return np.stack(kept) if kept else np.zeros((0, *image.shape[:2]), bool)
