"""A full memory is told in one line with the remedy, and the others of a batch go on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import carvid as package
from carvid.base.errors import CarvidError, OutOfMemoryError, VideoError
from carvid.base.memory import release_unused, telling_out_of_memory
from carvid.benchmark.predict import predict
from carvid.car.segmenter import RecurrentSegmenter
from carvid.clip import weights as weights_module
from carvid.media.open import open_video
from carvid.run.folder import RunFolder
from tests.conftest import carvid
from tests.test_batch import TINY, write_clips
from tests.trees import unseen_tree

CPU_SAYS = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 41990400000 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA_SAYS = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"
FULL: list[Callable[[], Exception]] = [
    MemoryError,
    lambda: torch.OutOfMemoryError(CUDA_SAYS),
    lambda: RuntimeError(CPU_SAYS),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    lambda: RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    lambda: cv2.error("OpenCV(4.11) alloc.cpp:73: (-4:Insufficient memory) Failed to allocate 99"),
    lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
    lambda: np._core._exceptions._ArrayMemoryError((9, 9), np.dtype("f4")),  # type: ignore[attr-defined]
]


def raising(make: Callable[[], Exception]) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise make()

    return fail


@pytest.mark.parametrize("make", FULL)
def test_whoever_runs_out_of_memory(make: Callable[[], Exception]) -> None:
    told = pytest.raises(OutOfMemoryError, match=r"not enough memory.*--max-side")
    with told as caught, telling_out_of_memory():
        raise make()
    assert isinstance(caught.value, CarvidError) and "\n" not in str(caught.value)


def test_how_much_was_asked_for_is_said() -> None:
    told = pytest.raises(OutOfMemoryError, match=r"tried to allocate 2\.00 GiB")
    with told, telling_out_of_memory():
        raise torch.OutOfMemoryError(CUDA_SAYS)


def test_what_led_to_an_error_counts() -> None:
    with pytest.raises(OutOfMemoryError), telling_out_of_memory():
        try:
            raise MemoryError
        except MemoryError:
            raise VideoError("cannot read the frame; give another file") from None


@pytest.mark.parametrize(
    "error", [ValueError("memory"), VideoError("a file called out of memory.mp4"), OSError(28, "x")]
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)), telling_out_of_memory():
        raise error


def test_the_real_allocators_words_are_known() -> None:
    with pytest.raises(OutOfMemoryError), telling_out_of_memory():
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(OutOfMemoryError), telling_out_of_memory():
        np.empty(1 << 60, np.uint8)


def test_memory_is_released() -> None:
    release_unused()


@pytest.mark.parametrize("way", ["segment_image", "stream", "offline", "segment"])
def test_every_way_to_masks_tells(
    monkeypatch: pytest.MonkeyPatch, clip: Path, image: NDArray[np.uint8], way: str
) -> None:
    model = package.load("tiny", ["weights.device=cpu"])
    monkeypatch.setattr(RecurrentSegmenter, "segment", raising(FULL[2]))
    given = {"segment_image": image, "segment": clip}.get(way, [image])
    with pytest.raises(OutOfMemoryError):
        made = getattr(model, way)(given, ["a dog"])
        list(made)


def test_models_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module.CLIPModel, "from_pretrained", raising(FULL[1]))
    with pytest.raises(OutOfMemoryError):
        package.load("tiny")


@pytest.mark.parametrize("where", ["segmenting", "writing", "reading"])
def test_a_run_says_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, where: str
) -> None:
    with open_video(clip) as reader:
        kind = type(reader)
    owner, name = {
        "segmenting": (RecurrentSegmenter, "segment"), "writing": (RunFolder, "write_masks"),
        "reading": (kind, "_fitted"),
    }[where]  # fmt: skip
    monkeypatch.setattr(owner, name, raising(MemoryError))
    result = carvid("run", clip, "--expr", "a dog", "-o", tmp_path / "out", *TINY)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("carvid: there is not enough memory; scale the frames down (--max-side")


def test_the_other_clips_of_a_batch_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clips = write_clips(tmp_path, 3)
    segment, seen = package.Carvid.segment, []

    def fails_once(self: package.Carvid, video: str, *rest: object, **options: object) -> object:
        seen.append(video)
        if "clip-01" in str(video):
            monkeypatch.setattr(RecurrentSegmenter, "segment", raising(FULL[1]))
        try:
            return segment(self, video, *rest, **options)  # type: ignore[arg-type]
        finally:
            monkeypatch.setattr(RecurrentSegmenter, "segment", plain)

    plain = RecurrentSegmenter.segment
    monkeypatch.setattr(package.Carvid, "segment", fails_once)
    out = tmp_path / "out"
    result = carvid("run", *clips, "--expr", "the dog", "-o", out, *TINY)
    assert result.returncode == 1 and len(seen) == 3
    last = result.stderr.splitlines()[-2:]
    assert last[0].startswith("carvid: clip-01 failed: there is not enough memory (tried to")
    assert last[1].startswith("carvid: 1 of 3 clips failed")
    assert "Traceback" not in result.stderr
    assert (out / "clip-02" / "run.json").exists()


def test_the_other_videos_of_a_data_set_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: dict[str, str]
) -> None:
    tree = unseen_tree(tmp_path / "data", {"bear": 2, "cow": 2})
    offline = package.Carvid.offline

    def fails(self: package.Carvid, frames: object, *rest: object, **options: object) -> object:
        first = next(frames)  # type: ignore[call-overload]
        if len(done) < 1:
            done.append(first)
            raise RuntimeError(CPU_SAYS)
        return offline(self, iter([first, *frames]), *rest, **options)  # type: ignore[misc, arg-type]

    done: list[object] = []
    monkeypatch.setattr(package.Carvid, "offline", fails)
    result = predict(tree, tmp_path / "out", "davis", ["crf.enabled=false"], **weights)
    assert result.videos == ("cow",)
    assert result.failed["bear"].startswith("there is not enough memory")
