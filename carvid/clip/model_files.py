"""A model's files: which of them are needed, and why a folder is not what carvid runs.

A folder and a hub model's list of files are checked alike, so that a wrong model is refused before
its weights are downloaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import filter as matching
from pathlib import Path
from typing import Any

from carvid.base.errors import WeightsError
from carvid.base.files import read_json
from carvid.base.words import plural

CONFIG = "config.json"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Where a model says how pixels are prepared; the second is what transformers 5 writes."""
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Either of these is a whole tokenizer."""
SMALL_FILES = (
    CONFIG, *PREPROCESSORS, "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""All files that are read of a model beside its weights."""
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
)
"""Weights in one file, or an index of shards and the shards; the first that is there is read."""
LFS_POINTER = b"version https://git-lfs"
"""What a file begins with that git-lfs has not fetched."""
OTHER_FORMATS = {
    "*open_clip*": "OpenCLIP's",
    "*.onnx": "ONNX's",
    "*.gguf": "GGUF's",
    "tf_model*": "TensorFlow's",
    "flax_model*": "Flax's",
    "adapter_*": "PEFT's (an adapter)",
    "modules.json": "sentence-transformers' (try its subfolder 0_CLIPModel)",
    "model_index.json": "diffusers'",
    "*.pt": "a torch script's or checkpoint's",
}
"""Names of files by which a format shows that carvid does not read."""


@dataclass(frozen=True)
class ModelKind:
    """A kind of network that carvid runs."""

    title: str
    """What it is called in messages."""
    model_type: str
    """What its config.json calls itself."""
    network: str
    """transformers' class."""
    tokenizer: bool
    """Whether it comes with one; and with a preprocessor's settings, which matter to it."""
    others: Mapping[str, str]
    """Types of models that are taken for it, and why they are not."""
    remedy: str
    """Ends an error: what can be given."""


def check_files(files: Collection[str], name: str, kind: ModelKind) -> None:
    """Check that a model has all files that it needs.

    Args:
        files: their names, in the folder and below it.
        name: what the model is called in messages.
        kind: the network that is wanted.

    Raises:
        WeightsError: one is missing; says which, and which other format there is.
    """
    if CONFIG not in files:
        raise WeightsError(
            f"'{name}' is no model folder: it has no readable config.json{_hint(files)}; "
            f"{kind.remedy}"
        )
    if not weight_files(files):
        raise cannot_load(
            name, f"it has neither model.safetensors nor pytorch_model.bin{_hint(files)}", kind
        )
    if kind.tokenizer and not any(set(files).issuperset(each) for each in TOKENIZERS):
        raise cannot_load(
            name, "it has no tokenizer (tokenizer.json, or vocab.json and merges.txt)", kind
        )


def check_config(folder: Path, name: str, kind: ModelKind) -> None:
    """Check by a folder's config.json that it holds the network that is wanted.

    Raises:
        WeightsError: it holds another one; says which, and why that does not work.
    """
    try:
        config = read_json(folder / CONFIG)
        model_type = config.get("model_type")
    except (OSError, ValueError, AttributeError):
        raise WeightsError(
            f"'{name}' is no model folder: it has no readable config.json{_hint(_names(folder))}; "
            f"{kind.remedy}"
        ) from None
    if model_type != kind.model_type:
        reason = kind.others.get(str(model_type))
        why = f" ({reason})" if reason else ""
        raise WeightsError(
            f"'{name}' holds a '{model_type}' model, not a {kind.title}{why}; {kind.remedy}"
        )
    networks = config.get("architectures") or [kind.network]
    if kind.network not in networks or config.get("auto_map"):
        raise WeightsError(
            f"'{name}' holds a network of other code, {networks}, than transformers' "
            f"{kind.network}; "
            f"{kind.remedy}"
        )


def check_whole(folder: Path, name: str, kind: ModelKind) -> None:
    """Check that a folder holds all files that are read of a model, and no pointers of git-lfs.

    Raises:
        WeightsError: a file is missing, cannot be read, or is only a pointer.
    """
    files = _names(folder)
    check_files(files, name, kind)
    weights = weight_files(files)
    missing = sorted(set(_shards_of(folder / weights[0])).difference(files))
    if missing:
        raise cannot_load(name, f"'{missing[0]}' is missing", kind)
    for file in (*weights, *(file for file in SMALL_FILES if file in files)):
        try:
            with (folder / file).open("rb") as opened:
                begin = opened.read(len(LFS_POINTER))
        except OSError as error:  # a link to nothing, too
            raise cannot_load(name, f"'{file}' cannot be read ({error.strerror})", kind) from None
        if begin == LFS_POINTER:
            raise cannot_load(
                name, f"'{file}' is a pointer of git-lfs (run `git lfs pull` there)", kind
            )


def weight_files(files: Collection[str]) -> list[str]:
    """Return the names of the files to read weights from, an index of shards first; [] if none."""
    for single, index, shards in WEIGHTS:
        if single in files:
            return [single]
        if index in files:
            return [index, *sorted(matching(files, shards))]
    return []


def check_tensors(missing: Collection[str], name: str, kind: ModelKind) -> None:
    """Check that a model's files had all of its tensors.

    Args:
        missing: the names of those that they lack.
        name: what the model is called.
        kind: what it is.

    Raises:
        WeightsError: they lack some.
    """
    if missing:
        count = plural(len(missing), "tensor")
        raise WeightsError(f"'{name}' lacks {count}, as '{min(missing)}'; {kind.remedy}")


def cannot_load(name: str, reason: object, kind: ModelKind) -> WeightsError:
    """Return the error of a model that cannot be loaded."""
    line = " ".join(str(reason).split())[:200]
    return WeightsError(f"cannot load '{name}' as a {kind.title}: {line}; {kind.remedy}")


def _shards_of(path: Path) -> list[Any]:
    """Names of the shards that an index lists; of a single file, none."""
    if path.suffix != ".json":
        return []
    try:
        return list(read_json(path)["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return [f"a readable {path.name}"]


def _names(folder: Path) -> list[str]:
    """Names of what is in a folder and in its subfolders, as a hub's list has them."""
    paths = (*folder.glob("*"), *folder.glob("*/*"))
    return [path.relative_to(folder).as_posix() for path in paths]


def _hint(files: Collection[str]) -> str:
    """Say which other format the files are in."""
    for pattern, owner in OTHER_FORMATS.items():
        if matching([Path(file).name for file in files], pattern):
            return f", and carvid does not read {owner} format"
    return ""
