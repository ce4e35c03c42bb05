"""A model's name or folder → a loaded `ClipBackbone`.

A name is looked for as `tiny` (the embedded model), as a local folder, and then on the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from carvid.base.errors import ConfigError, WeightsError
from carvid.base.words import plural
from carvid.clip.backbone import ClipBackbone
from carvid.clip.hub import fetch, find_cached, is_hub_name, split_name
from carvid.clip.model_files import ModelKind, cannot_load, check_config, check_whole
from carvid.clip.precision import resolve_dtype
from carvid.clip.preprocessing import read_preprocessing
from carvid.clip.tokens import check_tokenizer
from carvid.config import Config, WeightsConfig, load_config

EMBEDDED_NAME = "tiny"
EMBEDDED_FOLDER = Path(__file__).parent / "tiny"

CLIP = ModelKind(
    title="CLIP",
    model_type="clip",
    network="CLIPModel",
    tokenizer=True,
    others={
        "siglip": "SigLIP has no CLS token, and scores each text by itself",
        "siglip2": "SigLIP has no CLS token, and scores each text by itself",
        "chinese_clip": "its text encoder is a BERT",
        "altclip": "its text encoder is an XLM-R",
        "metaclip_2": "its tokenizer is not CLIP's",
        "blip": "BLIP's towers and tokenizer are others",
        "blip-2": "BLIP's towers and tokenizer are others",
        "clipseg": "it draws masks itself",
        "clip_vision_model": "the text half is missing",
        "clip_text_model": "the image half is missing",
    },
    remedy=(
        "give the hub name or folder of a transformers CLIPModel with its tokenizer, such as "
        "openai/clip-vit-base-patch16 or laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
    ),
)


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of a model are."""

    name: str
    kind: Literal["embedded", "folder", "cache", "hub"]
    """`hub`: they have just been downloaded."""
    path: str
    """The folder."""
    revision: str | None
    """Commit of a hub model."""

    @property
    def full_name(self) -> str:
        """The name, of a hub model with its commit."""
        return self.name if self.revision is None else f"{split_name(self.name)[0]}@{self.revision}"


def load_backbone(name: str, config: WeightsConfig) -> ClipBackbone:
    """Load the CLIP called `name` onto the device and in the precision that `config` asks for.

    Args:
        name: `tiny`, a local folder in `CLIPModel` format, or a model's name on the hub,
            owner/model or owner/model@revision.
        config: device, dtype and the rounding of position embeddings.

    Raises:
        WeightsError: the weights cannot be found, read, or are no CLIP that carvid runs.
        ConfigError: the device does not exist.
    """
    device = resolve_device(config.device)
    source = find_weights(name)
    try:
        with quiet_transformers():
            settings = CLIPConfig.from_pretrained(source.path, local_files_only=True)
            check_grid(settings.vision_config)
            tokenizer = CLIPTokenizer.from_pretrained(source.path, local_files_only=True)
            check_tokenizer(tokenizer, settings.text_config)
            preprocessing = read_preprocessing(Path(source.path))
            model, report = CLIPModel.from_pretrained(
                source.path,
                config=settings,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        # transformers and safetensors raise a dozen types here; each is one unreadable file.
        raise cannot_load(name, error, CLIP) from None  # its own trace would hide this line
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise WeightsError(
            f"the weights of '{name}' lack {plural(len(missing), 'tensor')} of a CLIPModel, such "
            f"as '{missing[0]}'; give a complete CLIP"
        )
    return ClipBackbone(
        model,
        tokenizer,
        device=device,
        dtype=resolve_dtype(config.dtype, device, settings.vision_config.hidden_size),
        half_positions=config.half_positions,
        name=source.full_name,
        preprocessing=preprocessing,
    )


def find_weights(name: str) -> WeightsSource:
    """Find where the weights called `name` are; those of a hub model are downloaded, once.

    Raises:
        WeightsError: nowhere; the message names every way out.
    """
    local = _find_folder(name)
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
    folder, new = fetch(name, CLIP, ways_out)
    return WeightsSource(name, "hub" if new else "cache", str(folder), folder.name)


def find_local(name: str) -> WeightsSource | None:
    """Find weights that are on this machine: embedded, in a folder, or in the hub's cache.

    Raises:
        WeightsError: what is called `name` here is no CLIP.
    """
    found = _find_folder(name)
    cached = find_cached(name, CLIP) if found is None and is_hub_name(name) else None
    return WeightsSource(name, "cache", str(cached), cached.name) if cached else found


def _find_folder(name: str) -> WeightsSource | None:
    """Find weights that are embedded or in a folder of the user's, and check their files."""
    folder = EMBEDDED_FOLDER if name == EMBEDDED_NAME else Path(name)
    if not folder.is_dir():
        return None
    check_config(folder, name, CLIP)
    check_whole(folder, name, CLIP)
    kind: Literal["embedded", "folder"] = "embedded" if name == EMBEDDED_NAME else "folder"
    return WeightsSource(name, kind, str(folder.resolve()), None)


def resolve(
    preset: str | Path | Config = "default",
    overrides: Iterable[str] = (),
    *,
    generator: str | Path | None = None,
    classifier: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Config:
    """Return the settings that `load` would run with, without loading anything."""
    config = load_config(preset, overrides)
    given: dict[str, Any] = {"generator": generator, "classifier": classifier}
    given |= {"device": device, "dtype": dtype}
    chosen = {key: _setting_of(value) for key, value in given.items() if value is not None}
    return Config.from_dict({"weights": chosen}, base=config)


def _setting_of(value: Any) -> Any:
    """Return a folder, a torch device or a torch dtype as settings have it; all else as it is."""
    if isinstance(value, Path | torch.device):
        return str(value)
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value


def resolve_device(name: str) -> torch.device:
    """Return the torch device for `auto` or a device's name: the one place that chooses."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"torch has no device '{name}'; use auto, cpu, cuda, cuda:1 or mps"
        ) from None
    try:
        torch.zeros(1, device=device).item()  # of a device without memory, too
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ConfigError(f"cannot use device '{name}': {reason}; use auto or cpu") from None
    return device


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Mute transformers' messages and bars; afterwards they are what the caller had them be.

    Its own switch of bars is the hub library's too, whose bars of a download are wanted, and
    forgets what was set there.
    """
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging._tqdm_active
    transformers_logging.set_verbosity_error()
    transformers_logging._tqdm_active = False
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging._tqdm_active = bars


def check_grid(vision: Any) -> None:
    """Check by a vision tower's settings that it sees squares of square RGB patches.

    Raises:
        ValueError: it does not.
    """
    for key in ("image_size", "patch_size"):
        if not isinstance(getattr(vision, key), int):
            raise ValueError(f"its {key} is {getattr(vision, key)}, not one side of a square")
    if vision.num_channels != 3:
        raise ValueError(f"it sees {vision.num_channels} channels, not RGB")
