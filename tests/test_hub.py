"""Weights of the hub, against a hub on this machine: downloaded once, found again, or one line."""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from safetensors.torch import load_file
from transformers import CLIPModel
from transformers.utils import logging as transformers_logging

from carvid.base.errors import WeightsError
from carvid.cli.information import gather
from carvid.clip.hub import is_hub_name, split_name
from carvid.clip.weights import find_local, find_weights, load_backbone
from carvid.config import WeightsConfig
from tests import HANGS_S
from tests.fake_hub import FakeHub, commit_of

NAME = "someone/clip"
CPU = WeightsConfig(device="cpu")
NEEDED = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
LOAD_TWICE = f"""
import sys
from carvid.cli.messages import messages_on_stderr
from carvid.clip.weights import load_backbone
from carvid.config import WeightsConfig
for run in "first", "second":
    print("carvid: start", run, file=sys.stderr, flush=True)
    with messages_on_stderr():
        print(load_backbone("{NAME}", WeightsConfig(device="cpu")).name, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def served(hub: FakeHub, weights: dict[str, str]) -> FakeHub:
    hub.add(NAME, Path(weights["generator"]))
    return hub


def test_the_first_run_downloads_with_a_bar_and_the_second_needs_no_hub(
    weights: dict[str, str], tmp_path: Path
) -> None:
    hub = FakeHub()
    hub.add(NAME, Path(weights["generator"]))
    shown = bytearray()
    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (24, 100))

    def read() -> None:
        while True:
            try:
                part = os.read(terminal, 1 << 16)
            except OSError:  # the other end is closed
                return
            shown.extend(part)

    with hub.serving():
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TQDM"))
        } | {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache")}
        process = subprocess.Popen(
            [sys.executable, "-c", LOAD_TWICE], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=its_end,
        )  # fmt: skip
        os.close(its_end)
        reader = threading.Thread(target=read)
        reader.start()
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == f"{NAME}@{commit_of(NAME)}\n"
    assert hub.got == NEEDED
    rest, _ = process.communicate("\n\n")
    reader.join()
    os.close(terminal)
    assert process.returncode == 0 and rest == f"{NAME}@{commit_of(NAME)}\n"
    first, second = bytes(shown).decode().split("carvid: start second")
    assert f"carvid: downloading {NAME} from the hub, once" in first
    assert "100%" in first and "█" in first
    assert second.strip() == ""


def test_only_what_is_read_is_downloaded(served: FakeHub, tmp_path: Path) -> None:
    served.models[NAME] |= {
        file: b"large" for file in ("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5",
                                    "onnx/model.onnx", "README.md", "text_encoder/config.json")
    }  # fmt: skip
    assert find_local(NAME) is None
    source = find_weights(NAME)
    assert (source.kind, source.revision, served.got) == ("hub", commit_of(NAME), NEEDED)
    served.asked.clear()
    local = find_local(NAME)
    assert local is not None and local.kind == "cache"
    assert load_backbone(NAME, CPU).name == f"{NAME}@{commit_of(NAME)}"
    assert served.asked == []


@pytest.mark.parametrize("form", ["one pickle", "shards", "shards of pickles"])
def test_weights_of_every_form(
    form: str, served: FakeHub, weights: dict[str, str], tmp_path: Path
) -> None:
    whole = load_file(Path(weights["generator"], "model.safetensors"))
    folder = tmp_path / "model"
    shutil.copytree(weights["generator"], folder)
    (folder / "model.safetensors").unlink()
    if form == "shards":
        CLIPModel.from_pretrained(weights["generator"]).save_pretrained(
            folder, max_shard_size="30KB"
        )
    elif form == "one pickle":
        torch.save(whole, folder / "pytorch_model.bin")
    else:
        keys, where = list(whole), {}
        for number in (1, 2):
            file = f"pytorch_model-0000{number}-of-00002.bin"
            torch.save({key: whole[key] for key in keys[number - 1 :: 2]}, folder / file)
            where |= dict.fromkeys(keys[number - 1 :: 2], file)
        index = {"metadata": {}, "weight_map": where}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    served.models.clear()
    served.add(NAME, folder)
    loaded = load_backbone(NAME, CPU).model.state_dict()
    assert all((loaded[key] == value).all() for key, value in whole.items())
    if form != "one pickle":
        shards = [file for file in served.got if "-of-" in file]
        assert len(shards) > 1
        cached = find_local(NAME)
        assert cached is not None
        (Path(cached.path) / shards[-1]).unlink()
        served.asked.clear()
        assert find_local(NAME) is None
        assert find_weights(NAME).kind == "hub"
        assert served.got == []  # its content is in the cache, under no name


def test_a_download_that_broke_off_goes_on(served: FakeHub, tmp_path: Path) -> None:
    served.broken.add("model.safetensors")
    with pytest.raises(WeightsError, match=r"download of 'someone/clip' broke off .*run again"):
        find_weights(NAME)
    assert find_local(NAME) is None
    preset = tmp_path / "mine.yaml"
    preset.write_text(f"weights:\n  generator: {NAME}\n")
    assert gather(str(preset))["weights"][NAME] == "missing; downloaded at the first run"
    served.broken.clear()
    served.asked.clear()
    assert find_weights(NAME).kind == "hub"
    assert served.got == ["model.safetensors"]
    assert gather(str(preset))["weights"][NAME] == "cache"


def test_a_connection_that_breaks_is_taken_up_again(served: FakeHub) -> None:
    served.cut["model.safetensors"] = 1000
    assert find_weights(NAME).kind == "hub"
    whole = served.models[NAME]["model.safetensors"]
    assert Path(find_weights(NAME).path, "model.safetensors").read_bytes() == whole


@pytest.mark.parametrize("file", NEEDED[:3])
def test_a_file_that_is_gone_from_the_cache_comes_again(file: str, served: FakeHub) -> None:
    path = Path(find_weights(NAME).path, file)
    path.resolve().unlink()  # its content; the name points to nothing
    assert find_local(NAME) is None
    served.asked.clear()
    load_backbone(NAME, CPU)
    assert served.got == [file] and path.exists()


def test_a_slow_hub_is_waited_for_as_long_as_the_user_says(
    served: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carvid.clip.hub.ANSWER_S", 0.2)
    for variable in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        name = f"{variable}/clip"
        served.models[name] = served.models[NAME]
        began = time.monotonic()
        served.delays_s[:] = [HANGS_S]
        with pytest.raises(WeightsError, match=r"did not answer within 0.2 s \(HF_HUB_ETAG_TIM"):
            find_weights(name)
        assert time.monotonic() - began < HANGS_S / 4
        with monkeypatch.context() as patch:
            patch.setenv(variable, "60")
            served.delays_s[:] = [0.6, 0.6]
            assert find_weights(name).kind == "hub"


def test_a_network_that_swallows_everything_is_told_within_seconds(
    served: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timeout of a client's holds while a name is looked up, nor over several addresses."""
    monkeypatch.setattr("carvid.clip.hub.ANSWER_S", 0.2)
    looking_up = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        looking_up.wait(HANGS_S)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    began = time.monotonic()
    try:
        with pytest.raises(WeightsError, match="did not answer within"):
            find_weights(NAME)
    finally:
        looking_up.set()
    assert time.monotonic() - began < HANGS_S / 4


def test_offline(served: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    find_weights(NAME)
    served.asked.clear()
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "1")
            assert load_backbone(NAME, CPU).name.startswith(NAME)
            with pytest.raises(WeightsError, match=f"is not cached and {variable} is set"):
                find_weights("someone/else")
    assert served.asked == []


def test_revisions(served: FakeHub) -> None:
    assert split_name("a/b@refs/pr/3") == ("a/b", "refs/pr/3") and is_hub_name("a/b@refs/pr/3")
    assert not any(map(is_hub_name, ("a", "a/b/c", "./a", "/a", "a/", "../a/b", "", "@", "~/a")))
    made = load_backbone(f"{NAME}@v1", CPU).name
    assert made == f"{NAME}@{commit_of(NAME)}"
    served.asked.clear()
    assert load_backbone(made, CPU).name == made  # what run.json holds can be given
    assert served.asked == []
    with pytest.raises(WeightsError, match="model 'someone/clip' has no revision 'v2'"):
        find_weights(f"{NAME}@v2")


def test_what_the_hub_refuses_is_one_line(served: FakeHub) -> None:
    served.gated.add(NAME)
    for name, reason in (
        (NAME, "'someone/clip' is gated: accept its terms on the hub and set HF_TOKEN"),
        ("no/body", "the hub has no public model 'no/body'"),
        ("a b/c", "'a b/c' is no name that the hub knows"),
    ):
        with pytest.raises(WeightsError, match=reason) as error:
            find_weights(name)
        assert "\n" not in str(error.value) and "--preset tiny" in str(error.value)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["open_clip_config.json", "open_clip_pytorch_model.bin"], "OpenCLIP's format"),
        (["config.json", "tokenizer.json", "onnx/model.onnx"], "ONNX's format"),
        (["config.json", "tokenizer.json", "flax_model.msgpack"], "Flax's format"),
        (["config.json", "model.safetensors"], "has no tokenizer"),
        (["config.json", "model.safetensors", "vocab.json"], "has no tokenizer"),
        (["config.json", "tokenizer.json", "model.fp16.safetensors"], "neither model.safetensors"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_downloaded(
    files: list[str], reason: str, hub: FakeHub
) -> None:
    hub.models[NAME] = dict.fromkeys(files, b"{}")
    with pytest.raises(WeightsError, match=reason):
        find_weights(NAME)
    assert hub.got == []


def test_another_kind_is_told_before_its_weights_come(served: FakeHub) -> None:
    served.models[NAME]["config.json"] = b'{"model_type": "siglip"}'
    for _ in range(2):  # the second time from the cache
        with pytest.raises(WeightsError, match=r"'siglip' model, not a CLIP \(SigLIP has no CLS"):
            find_weights(NAME)
    assert "model.safetensors" not in served.got


def test_a_cache_without_a_preprocessor_is_completed(
    served: FakeHub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caches that others filled have what transformers' model and tokenizer read, no more."""
    served.models[NAME]["preprocessor_config.json"] = b'{"image_mean": [0.5, 0.5, 0.5]}'
    Path(find_weights(NAME).path, "preprocessor_config.json").unlink()
    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        assert load_backbone(NAME, CPU).preprocessing.mean[0] == 0.48145466
    assert "is cached without its preprocessor_config.json" in caplog.text
    assert load_backbone(NAME, CPU).preprocessing.mean == (0.5, 0.5, 0.5)
    served.asked.clear()
    caplog.clear()
    load_backbone(NAME, CPU)
    assert served.asked == [] and caplog.text == ""


@pytest.mark.parametrize("verbosity", [transformers_logging.INFO, transformers_logging.ERROR])
@pytest.mark.parametrize("bars", [True, False])
def test_the_callers_transformers_are_left_as_they_were(
    verbosity: int, bars: bool, weights: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = transformers_logging.get_verbosity()
    monkeypatch.setattr(transformers_logging, "_tqdm_active", bars)
    damaged = tmp_path / "damaged"
    shutil.copytree(weights["generator"], damaged)
    (damaged / "model.safetensors").write_bytes(b"not tensors")
    try:
        transformers_logging.set_verbosity(verbosity)
        disabled = are_progress_bars_disabled(), are_progress_bars_disabled("a.group")
        load_backbone(weights["generator"], CPU)
        with pytest.raises(WeightsError, match="cannot load"):
            load_backbone(str(damaged), CPU)
        assert transformers_logging.get_verbosity() == verbosity
        assert transformers_logging.is_progress_bar_enabled() == bars
        assert disabled == (are_progress_bars_disabled(), are_progress_bars_disabled("a.group"))
    finally:
        transformers_logging.set_verbosity(before)
