"""What carvid finds on this machine: versions, devices, weights."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from importlib import metadata
from typing import Any

from carvid.car.exact_crf import REMEDY, installed
from carvid.sam.installed import one_line, state
from carvid.version import __version__

PACKAGES = (
    "torch", "transformers", "decord", "av", "pydensecrf2", "opencv-python-headless", "numpy",
    "pillow", "scipy", "segment-anything", "torchvision",
)  # fmt: skip

MISSING = "missing; downloaded at the first run"
"""Of weights that are not on this machine."""


def gather(preset: str) -> dict[str, Any]:
    """Return the facts that a bug report needs, JSON-able; without devices and weights where a
    torchvision that does not fit keeps transformers' networks from being imported.

    Raises:
        ConfigError: an unknown preset.
    """
    notes = _notes()
    facts = {
        "carvid": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
    }
    found = {} if "torchvision" in notes else _networks(preset)
    return {**facts, **found, "notes": notes}


def _networks(preset: str) -> dict[str, Any]:
    """What there is for networks to run on, and which of a preset's are at hand."""
    import torch

    from carvid.clip.precision import BFLOAT16_WIDTH, resolve_dtype
    from carvid.clip.weights import EMBEDDED_NAME, find_local, resolve_device
    from carvid.config import load_config
    from carvid.sam.video_weights import find_local_video

    config, device = load_config(preset), resolve_device("auto")
    names = dict.fromkeys((config.weights.generator, config.weights.classifier, EMBEDDED_NAME))
    weights = {}
    for name in names:
        found = find_local(name)
        weights[name] = MISSING if found is None else found.kind
    if "sam2" in config.networks:
        weights[config.sam2.model] = find_local_video(config.sam2.model) or MISSING
    return {
        "devices": {
            "cpu threads": torch.get_num_threads(),
            "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "mps": torch.backends.mps.is_available(),
            "auto": str(device),
            "auto dtype": str(resolve_dtype("auto", device, BFLOAT16_WIDTH)).removeprefix("torch."),
        },
        "weights": weights,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _notes() -> dict[str, str]:
    """States that break other libraries or leave something out, in words."""
    notes = {}
    if not installed():
        notes["crf.mode=exact"] = f"is not available; {REMEDY}"
    if importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except Exception as error:  # an operator that this torch lacks raises RuntimeError
            reason = one_line(error)
            notes["torchvision"] = (
                f"is installed but does not fit this torch ({reason}), and transformers' networks "
                "cannot be imported; remove it, or install the one that fits"
            )
    package = state()
    if package.version:
        notes["sam"] = f"segment-anything {package.version} makes the automatic masks"
    elif package.fault:
        notes["sam"] = (
            f"segment-anything is installed but cannot be imported ({package.fault}); carvid's own "
            "code makes the automatic masks"
        )
    return notes
