"""Shared fixtures: tiny seeded CLIPs in the real class, small clips, data that may be absent."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, TextIO
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from carvid.cli import main
from carvid.config import WeightsConfig
from carvid.media.encode import VideoWriter
from tests.fake_hub import FakeHub

if TYPE_CHECKING:  # slow, and pytest-xdist's own process, which all others wait for, needs neither
    from transformers import CLIPModel, CLIPTokenizer

    from carvid.clip.backbone import ClipBackbone

os.environ["HF_HUB_OFFLINE"] = "1"
# Else each of many processes would compile all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SHARED = Path(__file__).parent.parent.parent / "shared"
WORDS = [
    "a", "the", "dog", "cat", "woman", "white", "red", "ball", "on", "left", "clean", "origami",
    "photo", "of", "ground", "grass", "sky", "tree",
]  # fmt: skip
WIDTH, HEIGHT = 48, 34

Finished = subprocess.CompletedProcess[str]


def pytest_configure(config: pytest.Config) -> None:
    """Tests of a file run in one process (`--dist loadfile`), so that a cluster begins once; groups
    only begin first."""
    config.addinivalue_line("markers", "xdist_group(name): of pytest-xdist")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put groups first: they take longest, and would be alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Of torch, in each process that has tests."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def written_to(out: TextIO, err: TextIO) -> Iterator[None]:
    """Send there all that this process writes: by Python, by native libraries, by log handlers."""
    loggers = [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    handlers = {handler for logger in loggers for handler in logger.handlers}
    with ExitStack() as stack:
        for descriptor, file in ((1, out), (2, err)):
            kept = os.dup(descriptor)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(file.fileno(), descriptor)
        for handler in handlers:
            if type(handler) is logging.StreamHandler:  # pytest's own are of other types
                stack.callback(handler.setStream, handler.setStream(err))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        yield


def in_this_process(
    command: Callable[[], object], *arguments: object, stderr: TextIO | None = None
) -> Finished:
    """Run a program's main function as a process of its own would, without starting one; what it
    says goes to `stderr`, if that is given."""
    words = ["carvid", *map(str, arguments)]
    code: object = 0
    with (
        TemporaryFile("w+", buffering=1, encoding="utf-8") as out,
        TemporaryFile("w+", buffering=1, encoding="utf-8") as err,
    ):
        with written_to(out, stderr or err), mock.patch.object(sys, "argv", words):
            try:
                command()
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        out.seek(0)
        err.seek(0)
        return Finished(words, code, out.read(), err.read())


def carvid(*arguments: object) -> Finished:
    """The command line in this process; most of a process of its own is importing torch."""
    return in_this_process(main, *arguments)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Research data that is not ours to publish."""
    if not SHARED.is_dir():
        pytest.skip("the research data is not here")
    return SHARED


def make_tokenizer() -> CLIPTokenizer:
    """A byte-level tokenizer that knows a few words whole."""
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    tokens = [*letters, *(x + "</w>" for x in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = ["".join(parts[:2])]
            tokens.append(parts[0])
    merges = list(dict.fromkeys(merges))
    tokens = [*list(dict.fromkeys(tokens)), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)


def make_model(tokenizer: CLIPTokenizer, seed: int, *, patch: int, image: int) -> CLIPModel:
    """A seeded CLIP whose axes all have different lengths."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    config = CLIPConfig(
        projection_dim=20,
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 24, "intermediate_size": 40,
            "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 77,
            "projection_dim": 20, "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": 36, "intermediate_size": 44, "num_hidden_layers": 3,
            "num_attention_heads": 3, "image_size": image, "patch_size": patch,
            "projection_dim": 20,
        },
    )  # fmt: skip
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "embedding" not in name:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    return model


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of two CLIPs, saved as real ones are."""
    folder = tmp_path_factory.mktemp("weights")
    tokenizer = make_tokenizer()
    for name, seed, patch, image in (("generator", 1, 8, 32), ("classifier", 2, 7, 28)):
        make_model(tokenizer, seed, patch=patch, image=image).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {name: str(folder / name) for name in ("generator", "classifier")}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine, with an empty cache, which the hub library asks instead of its own."""
    from huggingface_hub import close_session, constants

    for name in ("HF_HUB_OFFLINE", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    with FakeHub().serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub
        close_session()


@pytest.fixture
def ready_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked from a process of its own that has imported what each would spend most of
    its time to import; all else is as with spawned ones, as `test_bench.py` has them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["carvid.benchmark.predict"])
    monkeypatch.setattr("multiprocessing.get_context", lambda _: context)


@pytest.fixture
def backbones(weights: dict[str, str]) -> tuple[ClipBackbone, ClipBackbone]:
    """Freshly loaded, so that their counts start at 0."""
    from carvid.clip.weights import load_backbone

    config = WeightsConfig(device="cpu")
    return load_backbone(weights["generator"], config), load_backbone(weights["classifier"], config)


def make_frames(count: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Seeded frames, uint8 (T, H, W, 3): a bright square moving over a textured ground."""
    rng = np.random.default_rng(5)
    ground = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    frames = np.repeat(ground[None], count, axis=0)
    for t, frame in enumerate(frames):
        frame[8:20, 4 + t : 16 + t] = (230, 40 + 3 * t, 60)
    return frames


@pytest.fixture
def image() -> NDArray[np.uint8]:
    return make_frames(1)[0]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A small H.264 clip of 6 frames at 30000/1001 frames per second."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, (HEIGHT, WIDTH), Fraction(30000, 1001)) as writer:
        for frame in make_frames(6):
            writer.write(frame)
    return path
