"""A SAM 2 folder or hub name → a loaded `VideoNetwork` (Ravi et al. 2024, SAM 2).

The networks are transformers' own `Sam2VideoModel` and `EdgeTamVideoModel`, which are called alike.
Their processors need torchvision and are never imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    EdgeTamVideoInferenceSession,
    EdgeTamVideoModel,
    Sam2VideoInferenceSession,
    Sam2VideoModel,
)

from carvid.base.errors import WeightsError
from carvid.base.files import read_json
from carvid.clip.hub import fetch, find_cached, is_hub_name
from carvid.clip.model_files import (
    CONFIG,
    PREPROCESSORS,
    ModelKind,
    cannot_load,
    check_config,
    check_tensors,
    check_whole,
)
from carvid.clip.preprocessing import Preprocessing, read_preprocessing
from carvid.clip.weights import quiet_transformers, resolve_device
from carvid.sam import weights

Found = TypeVar("Found")

IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""SAM 2's mean and standard deviation, RGB in [0, 1] (facebookresearch/sam2, `utils/misc.py`)."""
REMEDY = (
    "give facebook/sam2.1-hiera-tiny, -small, -base-plus or -large, or a folder saved by "
    "Sam2VideoModel.save_pretrained"
)
SMALLER = "a smaller one (facebook/sam2.1-hiera-tiny), fewer objects"
"""What needs less memory."""
_IS_EDGETAM = "EdgeTAM is read as such"
SAM2_VIDEO = ModelKind(
    title="SAM 2 for videos",
    model_type="sam2_video",
    network="Sam2VideoModel",
    tokenizer=False,
    others={"sam": "the first SAM has no memory; it is for sam.model",
            "sam_hq": "HQ-SAM has no memory",
            "sam2": "SAM 2's image half alone: the memory that carries masks is missing",
            "edgetam": "EdgeTAM's image half alone: the memory that carries masks is missing",
            "sam3_video": "SAM 3 is another network", "sam3": "SAM 3 is another network",
            "edgetam_video": _IS_EDGETAM},
    remedy=REMEDY,
)  # fmt: skip
EDGETAM_VIDEO = ModelKind(
    title="EdgeTAM for videos",
    model_type="edgetam_video",
    network="EdgeTamVideoModel",
    tokenizer=False,
    others=SAM2_VIDEO.others,
    remedy=REMEDY,
)
NETWORKS = {
    "sam2_video": (SAM2_VIDEO, Sam2VideoModel, Sam2VideoInferenceSession),
    "edgetam_video": (EDGETAM_VIDEO, EdgeTamVideoModel, EdgeTamVideoInferenceSession),
}
"""By what a config.json calls itself: the kind, transformers' class, and that of its session."""


@dataclass(frozen=True, eq=False)
class VideoNetwork:
    """A frozen SAM 2, or EdgeTAM, that carries masks from frame to frame."""

    model: Any
    """`Sam2VideoModel` or `EdgeTamVideoModel`."""
    session: type
    """transformers' class of what such a model remembers."""
    preprocessing: Preprocessing
    """How its pixels are made."""
    name: str
    """What it is called in messages."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """The precision that it computes in."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def side(self) -> int:
        """Side of the square that a frame is stretched to, pixels."""
        return int(self.model.config.image_size)


def load_video(name: str, device: str, dtype: str = "auto") -> VideoNetwork:
    """Load a SAM 2 or an EdgeTAM onto a device.

    Args:
        name: a folder in `Sam2VideoModel` or `EdgeTamVideoModel` format, or a hub name.
        device: `auto`, or a torch device's name.
        dtype: `float32`, `bfloat16`, `float16`, or `auto`: bfloat16 on CUDA, as its authors run it,
            float32 elsewhere.

    Raises:
        WeightsError: it cannot be found or read, is none of them, or memory is too small for it.
        ConfigError: the device does not exist.
    """
    place = resolve_device(device)
    if dtype == "auto":
        dtype = "bfloat16" if place.type == "cuda" else "float32"
    with not_enough_memory(name):
        folder, kind = _find(name)
        model = _from_pretrained(name, folder, kind, getattr(torch, dtype))
        model = model.to(place).eval().requires_grad_(False)
    session = NETWORKS[kind.model_type][2]
    return VideoNetwork(model, session, _preprocessing(name, folder, kind), name)


def find_local_video(name: str) -> str | None:
    """Return where a SAM 2, or an EdgeTAM, is on this machine, `folder` or `cache`; None if it
    would be downloaded.

    Raises:
        WeightsError: what is called `name` here is none of them.
    """
    if Path(name).is_dir():
        _find(name)
        return "folder"
    cached = _of_hub(find_cached, name)[0] if is_hub_name(name) else None
    return None if cached is None else "cache"


def not_enough_memory(name: str) -> AbstractContextManager[None]:
    """Do as `carvid.sam.weights.not_enough_memory`, for a SAM 2 called `name`."""
    return weights.not_enough_memory(name, "SAM 2", SMALLER)


def _find(name: str) -> tuple[Path, ModelKind]:
    """The folder of a model, and what it is."""
    path = Path(name)
    if path.is_dir():
        kind = _kind_of(path)
        check_config(path, name, kind)
        check_whole(path, name, kind)
        return path, kind
    if path.is_file() or not is_hub_name(name) or path.suffix in (".pt", ".pth", ".safetensors"):
        what = "a file, not a folder" if path.is_file() else "no such folder"
        raise WeightsError(f"no SAM 2 at '{name}' ({what}); {REMEDY}")
    (folder, _), kind = _of_hub(partial(fetch, ways_out=REMEDY), name)
    return folder, kind


def _of_hub(find: Callable[[str, ModelKind], Found], name: str) -> tuple[Found, ModelKind]:
    """What is found of a hub model as a SAM 2, or as the EdgeTAM that it then says to be."""
    try:
        return find(name, SAM2_VIDEO), SAM2_VIDEO
    except WeightsError as error:
        if _IS_EDGETAM not in str(error):
            raise
    return find(name, EDGETAM_VIDEO), EDGETAM_VIDEO


def _kind_of(folder: Path) -> ModelKind:
    """What a folder's config.json says that it is; SAM 2 where it says nothing that is known."""
    try:
        kind, _, _ = NETWORKS[read_json(folder / CONFIG)["model_type"]]
    except (OSError, ValueError, LookupError, TypeError):
        return SAM2_VIDEO  # whose check says what is wrong
    return kind


def _from_pretrained(name: str, folder: Path, kind: ModelKind, dtype: torch.dtype) -> Any:
    try:
        with quiet_transformers():
            model, report = NETWORKS[kind.model_type][1].from_pretrained(
                folder, dtype=dtype, local_files_only=True, output_loading_info=True
            )
        _check_square(model.config)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # transformers and safetensors raise a dozen types here; each is one unreadable file.
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        raise cannot_load(name, error, kind) from None  # its own trace would hide this line
    check_tensors(report["missing_keys"], name, kind)
    return model


def _check_square(config: Any) -> None:
    """Check that a network sees squares, and has a memory.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(config.image_size, int):
        raise ValueError(f"its image_size is {config.image_size}, not one side of a square")
    if config.num_maskmem < 1:
        raise ValueError(f"its num_maskmem is {config.num_maskmem}: it remembers no frame")


def _preprocessing(name: str, folder: Path, kind: ModelKind) -> Preprocessing:
    """How pixels are prepared, by the folder's own settings; SAM 2's where it says nothing."""
    try:
        return read_preprocessing(folder) if _says_mean(folder) else IMAGENET
    except ValueError as error:
        raise cannot_load(name, error, kind) from None


def _says_mean(folder: Path) -> bool:
    """Whether the file that is read of a preprocessor names a mean."""
    for file in PREPROCESSORS:
        if (folder / file).exists():
            try:
                values = read_json(folder / file)
            except (OSError, ValueError):
                return True  # to be told what is wrong with it
            part = values if file == PREPROCESSORS[0] else values.get("image_processor")
            return isinstance(part, Mapping) and "image_mean" in part
    return False
