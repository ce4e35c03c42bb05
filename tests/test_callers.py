"""What callers in Python do with carvid's objects: print, compare, copy, pickle, share."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import carvid
from carvid.car.queries import Queries
from carvid.temporal.state import TemporalState
from tests.conftest import make_frames
from tests.fake_hub import FakeHub

FAST = ["crf.iterations=1", "proposals.max_tokens=300"]


class Word(StrEnum):
    DOG = "a dog"


@pytest.fixture(scope="module")
def model() -> carvid.Carvid:
    return carvid.load("tiny", FAST, device="cpu")


@pytest.fixture(scope="module")
def track(model: carvid.Carvid) -> carvid.Track:
    return model.segment(list(make_frames(3)), ["a dog", "a cat"])


def objects(model: carvid.Carvid, track: carvid.Track) -> Iterator[tuple[Any, str]]:
    """Each public object that holds results or settings, and what its repr names."""
    image = make_frames(1)[0]
    trace = carvid.Trace()
    yield track, "['a dog', 'a cat'], 3 frames of 48×34 of 'frames', in memory"
    yield next(model.stream([image], "a dog")), "masks=<bool (1, 34, 48)>"
    yield model.segment_image(image, "a dog", trace=trace), "masks=<bool (1, 34, 48)>"
    yield trace, "steps"
    yield carvid.Frame(2, 0.5, image), "Frame(index=2, time_s=0.5, image=<uint8 (34, 48, 3)>"
    yield carvid.load_config("default", ["car.theta=0.45"]), "car.theta=0.45"
    yield TemporalState.initial(2), "scores=<float32 (2,)>"


def test_objects_print_compare_copy_and_pickle(model: carvid.Carvid, track: carvid.Track) -> None:
    for each, named in objects(model, track):
        assert named in repr(each) and len(repr(each)) < 1200 and "\n" not in repr(each)
        others = [copy.copy(each), copy.deepcopy(each), pickle.loads(pickle.dumps(each))]
        same = isinstance(each, carvid.Config | carvid.Trace)  # these alone by their values
        for other in others:
            assert type(other) is type(each) and repr(other) == repr(each)
            assert (other == each) is same or isinstance(each, carvid.Trace)
        assert each == each and each != "another"
    assert repr(carvid.load_config(carvid.Config())) == "Config()"
    assert repr(model) == "Carvid('tiny', 'tiny', device='cpu')"
    copied = pickle.loads(pickle.dumps(track))
    assert (copied.masks[:] == track.masks[:]).all() and copied.texts == track.texts


def test_a_track_in_a_folder_says_where(track: carvid.Track, tmp_path: Path) -> None:
    track.save(tmp_path / "out")
    opened = carvid.Track.open(tmp_path / "out")
    assert repr(opened).endswith(f"in '{tmp_path / 'out'}')")
    copied = copy.deepcopy(opened)
    assert (copied.label_maps[:] == opened.label_maps[:]).all()
    assert len({track, opened, copied}) == 3  # hashable, each by itself


@pytest.mark.parametrize(
    "texts",
    [
        ["a dog", "a cat"], ("a dog", "a cat"), (text for text in ("a dog", "a cat")),
        np.array(["a dog", "a cat"]), np.array(["a dog", "a cat"], object),
        {"a dog": 1, "a cat": 2}.keys(), [Word.DOG, "a cat"],
    ],
)  # fmt: skip
def test_texts_in_any_order_keeping_form(texts: Any) -> None:
    found = Queries.of(texts, None).texts
    assert found == ("a dog", "a cat") and {type(text) for text in found} == {str}


def test_one_text_is_one() -> None:
    for one in ("a dog", np.array(["a dog"])[0], Word.DOG):
        assert Queries.of(one, one) == Queries(("a dog",), ("a dog",))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (b"a dog", r"texts is bytes; give text: texts\.decode\(\)"),
        ([b"a dog"], r"texts\[0\] is bytes; give text"),
        ({"a dog": 1}, "texts is a dict, whose labels would be by chance; give a list of texts"),
        ({"a dog"}, "texts is a set, whose labels would be by chance; give a list of texts"),
        (None, "texts is NoneType; give a text, or a list of texts"),
        (3, "texts is int; give a text, or a list of texts"),
        (np.array("a dog"), "texts is ndarray; give a text, or a list of texts"),
        (["a dog", None], r"texts\[1\] is NoneType; give text"),
        ([["a dog"]], r"texts\[0\] is list; give text"),
        (np.array([["a dog"]]), r"texts\[0\] is ndarray; give text"),
        (Path("a dog"), "texts is PosixPath|texts is WindowsPath"),
    ],
)
def test_what_is_no_text_is_refused(model: carvid.Carvid, texts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.segment(list(make_frames(1)), texts)
    if texts is not None:
        with pytest.raises(ValueError, match=message.replace("texts", "distractors", 1)[:16]):
            model.segment_image(make_frames(1)[0], "a dog", distractors=texts)


def test_a_distractor_may_be_one_text(model: carvid.Carvid) -> None:
    one = model.segment(list(make_frames(1)), "a dog", distractors="a cat")
    several = model.segment(list(make_frames(1)), ["a dog"], distractors=["a cat"])
    assert one.facts == several.facts and one.facts.distractors == ("a cat",)
    assert (one.scores == several.scores).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "torch has no device 'gpu'; use auto, cpu, cuda, cuda:1 or mps"),
        ({"device": "meta"}, "cannot use device 'meta': .*; use auto or cpu"),
        ({"device": "mps"}, "cannot use device 'mps': .*; use auto or cpu"),
        ({"device": torch.device("meta")}, "cannot use device 'meta': "),
        ({"device": 3}, "weights.device must be a text, got 3"),
        ({"dtype": "half"}, "weights.dtype cannot be 'half'; known are: auto, float32, float16"),
        ({"dtype": torch.float64}, "weights.dtype cannot be 'float64'"),
    ],
)
def test_devices_and_precisions_that_are_not_there(options: Any, message: str) -> None:
    if options.get("device") == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(carvid.errors.ConfigError, match=message) as caught:
        carvid.load("tiny", **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_cuda_is_one_line() -> None:
    with pytest.raises(carvid.errors.ConfigError, match=r"cannot use device 'cuda'.*auto or cpu$"):
        carvid.load("tiny", device="cuda")


def test_torchs_own_names_and_paths_are_taken(weights: dict[str, str]) -> None:
    loaded = carvid.load(
        "tiny", device=torch.device("cpu"), dtype=torch.float32,
        generator=Path(weights["generator"]), classifier=Path(weights["classifier"]),
    )  # fmt: skip
    assert loaded.config.weights.dtype == "float32" and loaded.config.weights.device == "cpu"


def test_weights_that_cannot_be_had_are_one_error_without_another_librarys(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.url = "http://127.0.0.1:9"
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for source in Path(carvid.__file__).parent.joinpath("clip", "tiny").iterdir():
        (damaged / source.name).write_bytes(source.read_bytes()[:20_000])
    for name in ("owner/model", str(damaged)):
        with pytest.raises(carvid.errors.WeightsError) as caught:
            carvid.load("default", generator=name)
        lines = "".join(traceback.format_exception(caught.value))
        assert lines.count("Traceback") == 1 and "huggingface_hub/" not in lines
        assert "\n" not in str(caught.value)


def test_two_threads_share_a_model(model: carvid.Carvid) -> None:
    clips = [(list(make_frames(4)), "a dog"), (list(make_frames(4, 40, 60)), "a cat")] * 2
    alone = [model.segment(*clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda clip: model.segment(*clip), clips))
    for one, other in zip(alone, together, strict=True):
        assert (one.scores == other.scores).all()
        assert (one.masks[:] == other.masks[:]).all()
