"""What carvid finds on this machine: versions, devices, weights."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from importlib import metadata
from typing import Any

from carvid.car.exact_crf import REMEDY, installed
from carvid.version import __version__

PACKAGES = (
    "torch", "transformers", "decord", "av", "pydensecrf2", "opencv-python-headless", "numpy",
    "pillow", "scipy", "segment-anything", "torchvision",
)  # fmt: skip


def gather(preset: str) -> dict[str, Any]:
    """Return the facts that a bug report needs, JSON-able.

    Raises:
        ConfigError: an unknown preset.
    """
    import torch

    from carvid.clip.precision import BFLOAT16_WIDTH, resolve_dtype
    from carvid.clip.weights import EMBEDDED_NAME, find_local, resolve_device
    from carvid.config import load_config

    config, device = load_config(preset), resolve_device("auto")
    names = dict.fromkeys((config.weights.generator, config.weights.classifier, EMBEDDED_NAME))
    weights = {}
    for name in names:
        found = find_local(name)
        weights[name] = "missing; downloaded at the first run" if found is None else found.kind
    return {
        "carvid": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": {
            "cpu threads": torch.get_num_threads(),
            "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "mps": torch.backends.mps.is_available(),
            "auto": str(device),
            "auto dtype": str(resolve_dtype("auto", device, BFLOAT16_WIDTH)).removeprefix("torch."),
        },
        "weights": weights,
        "notes": _notes(),
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
            reason = str(error).splitlines()[0]
            notes["torchvision"] = f"is installed but does not fit this torch ({reason}); remove it"
    return notes
