#!/usr/bin/env python
"""What SAM 2 costs at its published sizes: seconds a frame, memory, and whether that grows.

    tools/sam2_bench.py                            # sam2.1-hiera-tiny, 1 and 3 objects
    tools/sam2_bench.py --size large --objects 1 --dtype bfloat16
    tools/sam2_bench.py --size smallest --frames 5000 --objects 3  # does memory grow?
    tools/sam2_bench.py --folder DIR --device cuda  # a SAM 2 of yours

Without `--folder` the weights are random: the masks mean nothing, the work is the same. `smallest`
is a network of a few thousand weights and inputs of 64 pixels, to run long.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam2VideoConfig, Sam2VideoInferenceSession, Sam2VideoModel

from carvid.sam.video import VideoCarrier
from carvid.sam.video_weights import IMAGENET, VideoNetwork, load_video

PUBLISHED = {
    "tiny": ((96, 192, 384, 768), (1, 2, 4, 8), (1, 2, 7, 2), (5, 7, 9), (8, 4, 14, 7), 7, 38.9),
    "small": ((96, 192, 384, 768), (1, 2, 4, 8), (1, 2, 11, 2), (7, 10, 13), (8, 4, 14, 7), 7, 46),
    "base-plus": ((112, 224, 448, 896), (2, 4, 8, 16), (2, 3, 16, 3), (12, 16, 20), (8, 4, 14, 7),
                  14, 80.8),
    "large": ((144, 288, 576, 1152), (2, 4, 8, 16), (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8), 7,
              224.4),
}  # fmt: skip
"""Of each published SAM 2.1: channels, heads and blocks of each stage, blocks that look over the
whole image, windows, side of the positions' grid (facebookresearch/sam2, configs/sam2.1); millions
of parameters (its README)."""
SMALLEST_SIDE = 64
"""Side of the smallest network's input, pixels."""


def published_config(size: str) -> Sam2VideoConfig:
    """Return the configuration of a published SAM 2.1."""
    channels, heads, blocks, overall, windows, grid, _ = PUBLISHED[size]
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": channels[0],
        "num_attention_heads": heads[0], "embed_dim_per_stage": list(channels),
        "num_attention_heads_per_stage": list(heads), "blocks_per_stage": list(blocks),
        "global_attention_blocks": list(overall), "window_size_per_stage": list(windows),
        "window_positional_embedding_background_size": [grid, grid],
    }  # fmt: skip
    vision = {"model_type": "sam2_vision_model", "backbone_config": backbone,
              "backbone_channel_list": list(channels[::-1])}  # fmt: skip
    return Sam2VideoConfig(vision_config=vision)


def smallest_config() -> Sam2VideoConfig:
    """Return the configuration of a network that is built like the published ones, but small."""
    rope = [SMALLEST_SIDE // 16] * 2
    return Sam2VideoConfig(
        vision_config=smallest_vision(), memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=rope, **smallest_parts(),
    )  # fmt: skip


def smallest_vision() -> dict[str, Any]:
    """Return the image encoder's part of `smallest_config`."""
    grids = [[SMALLEST_SIDE // part] * 2 for part in (4, 8, 16)]
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1,
        "image_size": [SMALLEST_SIDE] * 2, "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1], "blocks_per_stage": [1, 1, 2, 1],
        "global_attention_blocks": [3], "window_size_per_stage": [8, 4, 4, 2],
        "window_positional_embedding_background_size": [2, 2],
    }  # fmt: skip
    return {
        "model_type": "sam2_vision_model", "backbone_config": backbone, "fpn_hidden_size": 128,
        "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": grids,
    }  # fmt: skip


def smallest_parts() -> dict[str, Any]:
    """Return the other parts of `smallest_config`, which EdgeTAM has, too."""
    return {
        "image_size": SMALLEST_SIDE,
        "prompt_encoder_config": {"hidden_size": 128, "image_size": SMALLEST_SIDE,
                                  "mask_input_channels": 4},
        "mask_decoder_config": {"hidden_size": 128, "mlp_dim": 64, "num_attention_heads": 2,
                                "iou_head_hidden_dim": 32},
        "memory_attention_hidden_size": 128, "memory_attention_num_layers": 1,
        "memory_encoder_hidden_size": 128, "mask_downsampler_embed_dim": 128,
        "memory_fuser_num_layers": 1, "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 64, "max_object_pointers_in_encoder": 5,
        "num_maskmem": 3,
    }  # fmt: skip


def random_network(size: str, device: str, dtype: str) -> VideoNetwork:
    """Return a SAM 2 of a size with random weights, in which objects are always there."""
    torch.manual_seed(0)
    config = smallest_config() if size == "smallest" else published_config(size)
    model = Sam2VideoModel(config).eval().requires_grad_(False)
    model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5.0)
    model = model.to(device, getattr(torch, dtype))
    return VideoNetwork(model, Sam2VideoInferenceSession, IMAGENET, f"random {size}")


def steps(
    carrier: VideoCarrier, count: int, size_hw: tuple[int, int]
) -> Iterator[tuple[float, float]]:
    """Carry objects over frames of noise; yield the seconds that each frame took, by the clock and
    of processors."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (*size_hw, 3), dtype=np.uint8)
    for index in range(count):
        frame: NDArray[np.uint8] = np.roll(picture, 3 * index, axis=1)
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        carrier.step(frame)
        yield time.perf_counter() - began_s, time.process_time() - began_cpu_s


def give_objects(carrier: VideoCarrier, count: int, size_hw: tuple[int, int]) -> None:
    """Add objects, squares in the frame."""
    side = size_hw[0] // 4
    for number in range(count):
        mask = np.zeros(size_hw, bool)
        mask[side : 2 * side, number * side : (number + 1) * side] = True
        carrier.add_mask(number, mask)


def measure(
    network: VideoNetwork, objects: int, options: argparse.Namespace, began_mb: float
) -> dict[str, Any]:
    """Return the median seconds of a frame, megabytes beyond `began_mb` in each quarter of the run,
    and those of a state."""
    carrier, size_hw = VideoCarrier(network), (options.height, options.height * 16 // 9)
    quarters, seconds = [], []
    for index, step_s in enumerate(steps(carrier, options.frames + 1, size_hw)):
        if index == 0:
            give_objects(carrier, objects, size_hw)
            continue
        seconds.append(step_s)
        if index * 4 % options.frames < 4:
            quarters.append(resident_mb() - began_mb)
    state_mb = sum(each.nbytes for each in carrier.state().values()) / 1e6
    warm = seconds[min(len(seconds) - 1, 6) :]
    wall_s, cpu_s = (statistics.median(each) for each in zip(*warm, strict=True))
    return {"s": wall_s, "cpu_s": cpu_s, "mb": quarters, "state": state_mb}


def resident_mb() -> float:
    """Return the megabytes that this process has in memory now, or held at most without /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=[*PUBLISHED, "smallest"], default="tiny")
    parser.add_argument("--folder", help="of a SAM 2, instead of random weights")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=480, help="of the frames, pixels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    begin_mb = resident_mb()
    if options.folder:
        network = load_video(options.folder, options.device, options.dtype)
    else:
        network = random_network(options.size, options.device, options.dtype)
    print(f"{network.name}, {options.device}, {options.dtype}, {torch.get_num_threads()} threads: "
          f"weights {resident_mb() - begin_mb:.0f} MB")  # fmt: skip
    print("objects | s/frame | CPU s/frame | state, MB | MB beyond the weights, at each quarter")
    with_weights_mb = resident_mb()
    for objects in options.objects:
        found = measure(network, objects, options, with_weights_mb)
        mb = ", ".join(f"{each:.0f}" for each in found["mb"])
        print(
            f"{objects} | {found['s']:.3f} | {found['cpu_s']:.3f} | {found['state']:.1f} | {mb}",
            flush=True,
        )


if __name__ == "__main__":
    main()
