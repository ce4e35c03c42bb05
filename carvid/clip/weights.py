"""A model's name or folder → a loaded `ClipBackbone`.

A name is looked for as `tiny` (the embedded model), as a local folder, in the hub library's cache,
and only then on the hub, after one short question whether the hub can be reached at all: without
network, transformers alone takes minutes to give up.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from transformers import CLIPModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from carvid.clip.backbone import ClipBackbone
from carvid.config import WeightsConfig
from carvid.errors import ConfigError, WeightsError
from carvid.files import read_json

EMBEDDED_NAME = "tiny"
EMBEDDED_FOLDER = Path(__file__).parent / "tiny"
HUB_TIMEOUT_S = 5.0
"""How long the hub may take to answer the one question before a download."""


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of a model come from."""

    name: str
    kind: Literal["embedded", "folder", "cache", "hub"]
    path: str
    """What `from_pretrained` is given."""
    revision: str | None
    """Commit of a hub model."""


def load_backbone(name: str, config: WeightsConfig) -> ClipBackbone:
    """Load the CLIP called `name` onto the device and in the precision that `config` asks for.

    Args:
        name: `tiny`, a local folder in `CLIPModel` format, or a model's name on the hub.
        config: device, dtype and the rounding of position embeddings.

    Raises:
        WeightsError: the weights cannot be found, read, or are no CLIP.
        ConfigError: the device does not exist.
    """
    device = resolve_device(config.device)
    source = find_weights(name)
    if source.kind == "hub":
        print(f"carvid: downloading {name} from the hub, once", file=sys.stderr)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, report = CLIPModel.from_pretrained(
            source.path,
            revision=source.revision or "main",
            dtype=torch.float32,
            local_files_only=source.kind != "hub",
            output_loading_info=True,
        )
        tokenizer = CLIPTokenizer.from_pretrained(
            source.path, revision=source.revision or "main", local_files_only=source.kind != "hub"
        )
    except Exception as error:
        # transformers and safetensors raise a dozen types here; each is one unreadable file.
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"cannot load '{name}' as a CLIP: {reason}; give a folder or a hub name of a "
            "CLIPModel with its tokenizer, such as openai/clip-vit-base-patch16"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise WeightsError(
            f"the weights of '{name}' lack {len(missing)} tensors of a CLIPModel, such as "
            f"'{missing[0]}'; give a complete CLIP"
        )
    return ClipBackbone(
        model,
        tokenizer,
        device=device,
        dtype=resolve_dtype(config.dtype, device),
        half_positions=config.half_positions,
        name=name if source.revision is None else f"{name}@{source.revision}",
    )


def find_weights(name: str) -> WeightsSource:
    """Find where the weights called `name` are, without loading them.

    Raises:
        WeightsError: nowhere; the message names every way out.
    """
    local = find_local(name)
    if local is not None:
        return local
    if not is_hub_name(name):
        raise WeightsError(
            f"no weights folder '{name}'; give an existing folder, a hub name such as "
            "openai/clip-vit-base-patch16, or 'tiny' for the embedded model"
        )
    ways_out = (
        "give a local folder (--weights-generator DIR --weights-classifier DIR), download it "
        "into the hub's cache on a machine with network and copy the cache (HF_HOME), or use "
        "the small embedded model (--preset tiny)"
    )
    return WeightsSource(name, "hub", name, ask_hub(name, ways_out))


def find_local(name: str) -> WeightsSource | None:
    """Find weights that are on this machine: embedded, in a folder, or in the hub's cache.

    Raises:
        WeightsError: the folder called `name` holds no CLIP.
    """
    if name == EMBEDDED_NAME:
        _check_model_type(EMBEDDED_FOLDER, name)
        return WeightsSource(name, "embedded", str(EMBEDDED_FOLDER), None)
    if Path(name).is_dir():
        _check_model_type(Path(name), name)
        return WeightsSource(name, "folder", str(Path(name).resolve()), None)
    cached = cached_revision(name) if is_hub_name(name) else None
    return WeightsSource(name, "cache", name, cached) if cached else None


def cached_revision(name: str) -> str | None:
    """Return the commit of a hub model whose config, weights and tokenizer are cached, or None."""
    config = try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    weights = any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
    tokenizer = (folder / "tokenizer.json").exists() or (folder / "vocab.json").exists()
    return folder.name if weights and tokenizer else None


def resolve_device(name: str) -> torch.device:
    """Return the torch device for `auto` or a device's name: the one place that chooses."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot use device '{name}': {reason}; use auto or cpu") from None
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the precision for `auto` (half on CUDA, float32 elsewhere) or a precision's name."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def is_hub_name(name: str) -> bool:
    """Whether a name has the form owner/model, and none of a path's."""
    return name.count("/") == 1 and name[0] not in "./~" and name[-1] != "/"


def _check_model_type(folder: Path, name: str) -> None:
    try:
        kind = read_json(folder / "config.json").get("model_type")
    except (OSError, ValueError, AttributeError):
        raise WeightsError(
            f"'{name}' is no model folder: it has no readable config.json; give a folder saved "
            "by CLIPModel.save_pretrained, with its tokenizer"
        ) from None
    if kind != "clip":
        raise WeightsError(
            f"'{name}' holds a '{kind}' model, not a CLIP; give a folder saved by "
            "CLIPModel.save_pretrained, with its tokenizer"
        )


def ask_hub(name: str, ways_out: str) -> str | None:
    """Return the hub's current commit of `name`, within seconds.

    Raises:
        WeightsError: it cannot be had; the message ends with `ways_out`.
    """
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "on", "yes", "true"):
        raise WeightsError(f"'{name}' is not cached and HF_HUB_OFFLINE is set; {ways_out}")
    try:
        return HfApi().model_info(name, timeout=HUB_TIMEOUT_S).sha
    except RepositoryNotFoundError:
        raise WeightsError(f"the hub has no public model '{name}'; {ways_out}") from None
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        reason = type(error).__name__
        raise WeightsError(
            f"'{name}' is not cached and the hub cannot be reached ({reason}); {ways_out}"
        ) from None
    except Exception as error:
        # The hub library's HTTP client has its own error tree, which is not part of its API.
        raise WeightsError(
            f"'{name}' is not cached and the hub did not answer ({type(error).__name__}); "
            f"{ways_out}"
        ) from error
