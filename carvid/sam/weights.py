"""A SAM checkpoint, folder or hub name → a loaded `SamModel`.

The `.pth` files of segment-anything hold the weights of transformers' `SamModel` under other names,
so that they need neither that package nor torchvision, which it imports.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from transformers import SamConfig, SamModel

from carvid.base.errors import WeightsError
from carvid.clip.hub import fetch, is_hub_name
from carvid.clip.model_files import (
    ModelKind,
    cannot_load,
    check_config,
    check_tensors,
    check_whole,
)
from carvid.clip.weights import quiet_transformers, resolve_device

REMEDY = (
    "give a segment-anything checkpoint (sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth or "
    "sam_vit_h_4b8939.pth) or a folder saved by SamModel.save_pretrained"
)
SMALLER = "a smaller one (vit_b), fewer points at a time (--set sam.points_per_batch=16)"
"""What needs less memory."""
SAM = ModelKind(
    title="SAM",
    model_type="sam",
    network="SamModel",
    tokenizer=False,
    others={"sam2": "SAM 2 is another network", "sam2_video": "SAM 2 is another network",
            "sam_hq": "HQ-SAM has further layers", "edgetam": "EdgeTAM is another network"},
    remedy=REMEDY,
)  # fmt: skip
NAMES = (
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.(\d+)\.norm", r"vision_encoder.layers.\1.layer_norm"),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
     "prompt_encoder.shared_embedding.positional_embedding"),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.transformer\.)norm_final_attn\.", r"\1layer_norm_final_attn."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.)norm", r"\1layer_norm"),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+)\.)layers\.0\.",
     r"\1proj_in."),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+)\.)layers\.1\.",
     r"\1layers.0."),
    (r"^(mask_decoder\.(?:iou_prediction_head|output_hypernetworks_mlps\.\d+)\.)layers\.2\.",
     r"\1proj_out."),
)  # fmt: skip
"""Names of a checkpoint's tensors, and what a `SamModel` calls them; the first match holds."""


def load_sam(name: str, device: str) -> SamModel:
    """Load a SAM, float32, onto a device.

    Args:
        name: a segment-anything checkpoint (a file), a folder in `SamModel` format, or a hub name.
        device: `auto`, or a torch device's name.

    Raises:
        WeightsError: it cannot be found or read, is no SAM, or memory is too small for it.
        ConfigError: the device does not exist.
    """
    place = resolve_device(device)
    path = Path(name)
    with not_enough_memory(name):
        if path.is_file():
            model = _from_checkpoint(path)
        elif path.is_dir():
            check_config(path, name, SAM)
            check_whole(path, name, SAM)
            model = _from_pretrained(name, path)
        elif is_hub_name(name) and path.suffix not in (".pth", ".pt", ".safetensors"):
            folder, _ = fetch(name, SAM, REMEDY)
            model = _from_pretrained(name, folder)
        else:
            raise WeightsError(f"no SAM at '{name}'; {REMEDY}")
        return model.to(place).eval()


@contextmanager
def not_enough_memory(name: str, kind: str = "SAM", smaller: str = SMALLER) -> Iterator[None]:
    """Turn what torch raises for want of memory into one line.

    Args:
        name: the network's, in the message.
        kind: what it is.
        smaller: what to use instead.

    Raises:
        WeightsError: memory is too small for it.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        pass
    except RuntimeError as error:
        if "memory" not in str(error):  # the CPU's allocator has no type of its own
            raise
    else:
        return
    raise WeightsError(
        f"not enough memory for the {kind} '{name}'; use {smaller}, or another device "
        "(--set weights.device=cpu)"
    )


def _from_checkpoint(path: Path) -> SamModel:
    """Read a file of segment-anything."""
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError):
        raise WeightsError(f"cannot read '{path}' as a checkpoint; {REMEDY}") from None
    except RuntimeError as error:
        if "memory" in str(error):
            raise
        raise WeightsError(f"cannot read '{path}' as a checkpoint; {REMEDY}") from None
    if not isinstance(values, Mapping) or "image_encoder.pos_embed" not in values:
        raise WeightsError(f"'{path}' is no checkpoint of segment-anything; {REMEDY}")
    if any(key.startswith("mask_decoder.hf_") for key in values):
        raise WeightsError(f"'{path}' is an HQ-SAM, which carvid does not read; {REMEDY}")
    try:
        with torch.device("meta"):  # no weights of its own, which would be thrown away
            model = SamModel(checkpoint_config(values))
        renamed = {rename(key): value.float() for key, value in values.items()}
        shared = renamed["prompt_encoder.shared_embedding.positional_embedding"]
        renamed["shared_image_embedding.positional_embedding"] = shared
        model.load_state_dict(renamed, assign=True)
    except (KeyError, IndexError, ValueError, RuntimeError, StopIteration) as error:
        reason = " ".join(str(error).split())[:150]
        raise WeightsError(f"'{path}' is no whole SAM ({reason}); {REMEDY}") from None
    return model


def rename(key: str) -> str:
    """Return what a checkpoint's tensor is called in a `SamModel`."""
    for pattern, replacement in NAMES:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key


def checkpoint_config(values: Mapping[str, Tensor]) -> SamConfig:
    """Read a model's sizes from its tensors' shapes; segment-anything writes them nowhere."""
    _, patches, _, width = values["image_encoder.pos_embed"].shape
    patch = values["image_encoder.patch_embed.proj.weight"].shape[-1]
    depth = 1 + max(
        int(key.split(".")[2]) for key in values if key.startswith("image_encoder.blocks.")
    )
    offsets = [values[f"image_encoder.blocks.{i}.attn.rel_pos_h"] for i in range(depth)]
    reach = [(len(offset) + 1) // 2 for offset in offsets]  # patches that a block looks over
    channels = values["image_encoder.neck.0.weight"].shape[0]
    layers = "mask_decoder.transformer.layers"
    inner = values[f"{layers}.0.cross_attn_token_to_image.q_proj.weight"].shape[0]
    rating = values["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0]
    return SamConfig(
        vision_config={
            "hidden_size": width,
            "num_hidden_layers": depth,
            "num_attention_heads": width // offsets[0].shape[1],
            "mlp_dim": values["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
            "image_size": patches * patch,
            "patch_size": patch,
            "output_channels": channels,
            "window_size": min(reach),
            "global_attn_indexes": [i for i in range(depth) if reach[i] == patches],
            "num_pos_feats": channels // 2,
        },
        prompt_encoder_config={
            "hidden_size": channels,
            "image_size": patches * patch,
            "patch_size": patch,
            "mask_input_channels": values["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        },
        mask_decoder_config={
            "hidden_size": channels,
            "mlp_dim": values[f"{layers}.0.mlp.lin1.weight"].shape[0],
            "attention_downsample_rate": channels // inner,
            "iou_head_hidden_dim": rating,
        },
    )


def _from_pretrained(name: str, folder: Path) -> SamModel:
    try:
        with quiet_transformers():
            model, report = SamModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # transformers and safetensors raise a dozen types here; each is one unreadable file.
        raise cannot_load(name, error, SAM) from None  # its own trace would hide this line
    check_tensors(report["missing_keys"], name, SAM)
    return model
