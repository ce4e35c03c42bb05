"""SAM 2 for videos: weights and their errors, carrying, prompts, bounded memory, saved states."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    PreTrainedConfig,
    PreTrainedModel,
    Sam2Config,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
)
from transformers.modeling_outputs import BaseModelOutput

from carvid.base.errors import WeightsError
from carvid.sam import video_memory
from carvid.sam.video import Carried, VideoCarrier
from carvid.sam.video_memory import PROMPTED_FRAMES
from carvid.sam.video_weights import IMAGENET, find_local_video, load_video
from tests.fake_hub import FakeHub

sys.path.append(str(Path(__file__).parent.parent / "tools"))
import sam2_bench

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
SIDE = sam2_bench.SMALLEST_SIDE
NO_POINTS = np.zeros((0, 2))


def make_sam2(config: Sam2VideoConfig | None = None) -> Sam2VideoModel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return randomize(Sam2VideoModel(config or sam2_bench.smallest_config()))


def randomize(model: Any) -> Any:
    """Give a network weights by which its masks depend on all that it sees."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not name.endswith(("norm.weight", "layer_norm1.weight", "layer_norm2.weight")):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3.0)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SAM 2, saved as the published ones are."""
    place = tmp_path_factory.mktemp("sam2")
    make_sam2().save_pretrained(place)
    values = {"image_mean": IMAGENET.mean, "image_std": IMAGENET.std, "do_rescale": True,
              "image_processor_type": "Sam2ImageProcessorFast", "resample": 2,
              "size": {"height": SIDE, "width": SIDE}}  # fmt: skip
    (place / "preprocessor_config.json").write_text(json.dumps(values))
    return place


@pytest.fixture
def carrier(folder: Path) -> VideoCarrier:
    return VideoCarrier(load_video(str(folder), "cpu"))


def frames(count: int, size_hw: tuple[int, int] = (45, 80), seed: int = 0) -> list[Image]:
    """Frames of moving noise."""
    generator = np.random.default_rng(seed)
    picture = generator.integers(0, 255, (*size_hw, 3), dtype=np.uint8)
    return [np.roll(picture, 2 * i, axis=1) for i in range(count)]


def square(left: int, top: int, side: int = 20, size_hw: tuple[int, int] = (45, 80)) -> Mask:
    mask = np.zeros(size_hw, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def run(carrier: VideoCarrier, images: Iterable[Image]) -> list[Carried]:
    return [carrier.step(image) for image in images]


def maps_of(found: Sequence[Carried]) -> NDArray[np.float32]:
    return np.stack([each.maps for each in found])


# carrying -----------------------------------------------------------------------------------


def test_objects_are_carried_as_if_each_were_alone(folder: Path) -> None:
    """Bit for bit, whatever else is carried, appears or leaves."""
    network, images = load_video(str(folder), "cpu"), frames(9)
    given = {7: (0, square(5, 5)), 2: (2, square(40, 20)), 5: (4, square(20, 10))}

    alone = {}
    for number, (first, mask) in given.items():
        carrier = VideoCarrier(network)
        run(carrier, images[: first + 1])
        carrier.add_mask(number, mask)
        alone[number] = maps_of(run(carrier, images[first + 1 :]))[:, 0]

    together = VideoCarrier(network)
    for i, image in enumerate(images):
        found = together.step(image)
        for position, number in enumerate(found.numbers):
            first = given[number][0]
            np.testing.assert_array_equal(found.maps[position], alone[number][i - first - 1])
        for number, (first, mask) in given.items():
            if first == i:
                together.add_mask(number, mask)
        if i == 6:
            together.drop(7)
            together.drop(7)  # gone already
    assert together.numbers == (2, 5)
    assert alone[7].std() > 0.01 and not np.allclose(alone[7][-1], alone[5][-1])


def test_a_carrier_gives_what_transformers_own_session_gives(folder: Path) -> None:
    """One that keeps everything, for one object; past the reach of memory and of pointers."""
    network, images = load_video(str(folder), "cpu"), frames(10)
    ours = VideoCarrier(network)
    session = network.session(dtype=torch.float32)
    for i, image in enumerate(images):
        found = ours.step(image, (SIDE // 4, SIDE // 4))
        pixels = ours._to_pixels(image)
        if i == 0:
            ours.add_mask(0, square(5, 5))
            session.add_mask_inputs(session.obj_id_to_idx(0), 0, ours._to_square(square(5, 5)))
            session.obj_with_new_inputs = [0]
        theirs = network.model(session, frame_idx=i, frame=pixels)
        if i:
            expected = torch.sigmoid(theirs.pred_masks.reshape(1, SIDE // 4, SIDE // 4)).numpy()
            np.testing.assert_array_equal(found.maps, expected)
            score = torch.sigmoid(theirs.object_score_logits).numpy().reshape(1)
            np.testing.assert_array_equal(found.scores, score)
    assert len(session.processed_frames) == len(images)  # what ours has not


def test_frames_matter_and_their_order_does(carrier: VideoCarrier) -> None:
    """Backward is the same network, fed in the other order."""
    images, network = frames(8, seed=1), carrier.network
    back, again = VideoCarrier(network), VideoCarrier(network)
    for each, order in ((carrier, images), (back, images[::-1]), (again, images[::-1])):
        each.step(order[0])
        each.add_mask(0, square(30, 10))
    forward = maps_of(run(carrier, images[1:]))
    backward = maps_of(run(back, images[-2::-1]))
    np.testing.assert_array_equal(backward, maps_of(run(again, images[-2::-1])))
    assert not np.allclose(forward[3], backward[2])


def test_pixels_are_rgb_and_upright(carrier: VideoCarrier) -> None:
    """By the published mean and deviation; the frame is stretched, not padded."""
    image = np.zeros((40, 80, 3), np.uint8)
    image[:20, 40:] = (255, 128, 51)
    pixels = carrier._to_pixels(image)
    assert pixels.shape == (1, 3, SIDE, SIDE)
    levels = np.array([1, 128 / 255, 0.2])
    expected = (levels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(pixels[0, :, 5, -5].numpy(), expected, rtol=1e-5)
    ground = (0 - np.array(IMAGENET.mean)) / IMAGENET.std
    for y, x in ((5, 5), (-5, 5), (-5, -5)):
        np.testing.assert_allclose(pixels[0, :, y, x].numpy(), ground, rtol=1e-5)


def test_memory_reaches_back(carrier: VideoCarrier) -> None:
    """What a frame shows tells in those after it."""
    other = VideoCarrier(carrier.network)
    images = frames(16)
    odd = [*images[:3], 255 - images[3], *images[4:]]
    found = []
    for each, order in ((carrier, images), (other, odd)):
        each.step(order[0])
        each.add_mask(0, square(5, 5))
        found.append(maps_of(run(each, order[1:])))
    differ = [not np.array_equal(a, b) for a, b in zip(*found, strict=True)]
    assert differ[:3] == [False, False, True] and differ[3] and differ[4]


def test_no_objects_no_network(carrier: VideoCarrier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(carrier.network.model), "forward", None)
    found = carrier.step(frames(1)[0])
    assert found.numbers == () and found.maps.shape == (0, 45, 80) and found.scores.shape == (0,)


@pytest.mark.parametrize("size_hw", [(45, 80), (7, 301), (64, 64), (1, 1), (333, 10)])
def test_frames_of_any_size(carrier: VideoCarrier, size_hw: tuple[int, int]) -> None:
    images = frames(3, size_hw)
    carrier.step(images[0])
    carrier.add_mask(0, np.ones(size_hw, bool))
    found = carrier.step(images[1])
    assert found.maps.shape == (1, *size_hw) and found.maps.dtype == np.float32
    assert found.maps.min() >= 0 and found.maps.max() <= 1
    assert carrier.step(images[2], (30, 20)).maps.shape == (1, 30, 20)
    assert carrier.step(frames(1, (50, 60))[0]).maps.shape == (1, 50, 60)  # of another size


def test_an_object_that_is_not_there_has_no_map(carrier: VideoCarrier) -> None:
    head = carrier.network.model.mask_decoder.pred_obj_score_head.proj_out
    carrier.step(frames(1)[0])
    carrier.add_mask(0, square(5, 5))
    head.bias.fill_(-1e4)
    found = carrier.step(frames(1)[0])
    assert found.scores[0] < 0.5 and not found.maps.any()
    head.bias.fill_(1e4)
    assert carrier.step(frames(1)[0]).scores[0] > 0.5


# what is told of an object ------------------------------------------------------------------


def test_a_mask_in_a_later_frame_corrects(carrier: VideoCarrier) -> None:
    other, images = VideoCarrier(carrier.network), frames(6)
    for each in (carrier, other):
        each.step(images[0])
        each.add_mask(0, square(5, 5))
        run(each, images[1:3])
    other.add_mask(0, square(50, 20))
    uncorrected, corrected = (maps_of(run(each, images[3:])) for each in (carrier, other))
    assert not np.array_equal(uncorrected, corrected)
    given = {name.split("/")[2] for name in other.state() if "/cond" in name}
    assert given == {"0", "2"}


def test_a_mask_told_again_replaces_the_first(carrier: VideoCarrier) -> None:
    other, images = VideoCarrier(carrier.network), frames(4)
    carrier.step(images[0])
    carrier.add_mask(0, square(50, 20))
    other.step(images[0])
    other.add_mask(0, square(5, 5))
    other.add_mask(0, square(50, 20))
    once, again = (maps_of(run(each, images[1:])) for each in (carrier, other))
    np.testing.assert_array_equal(once, again)


def test_a_tiny_mask_stays_a_mask(carrier: VideoCarrier) -> None:
    mask = np.zeros((2160, 3840), bool)
    mask[100, 100] = True
    assert carrier._to_square(mask).sum() == 1
    assert carrier._to_square(np.zeros((5, 5), bool)).sum() == 0
    assert carrier._to_square(np.ones((5, 5), bool)).sum() == SIDE**2


def test_points_and_a_box_add_an_object(carrier: VideoCarrier) -> None:
    image, found = frames(1)[0], []
    prompts = [
        (np.array([[10.0, 10.0]]), NO_POINTS, None),
        (np.array([[60.0, 30.0]]), NO_POINTS, None),
        (np.array([[10.0, 10.0]]), np.array([[60.0, 30.0]]), None),
        (NO_POINTS, NO_POINTS, (5.0, 5.0, 25.0, 25.0)),
        (NO_POINTS, np.array([[10.0, 10.0]]), (5.0, 5.0, 25.0, 25.0)),
    ]
    for number, (inside, outside, box) in enumerate(prompts):
        carrier.step(image)
        each = carrier.add_clicks(number, inside, outside, box)
        assert each.numbers == (number,) and each.maps.shape == (1, 45, 80)
        found.append(each.maps)
    assert len({each.tobytes() for each in found}) == len(prompts)
    assert carrier.step(image).numbers == (0, 1, 2, 3, 4)


def test_points_are_pixels_of_the_frame(carrier: VideoCarrier) -> None:
    carrier.step(frames(1, (40, 80))[0])
    points, labels = carrier._prompt(np.array([[40.0, 10]]), np.array([[0.0, 39]]), (8, 4, 80, 40))
    scaled = np.array([[6.4, 6.4], [64, 64], [32, 16], [0, 62.4]])
    np.testing.assert_allclose(points[0, 0].numpy(), scaled, rtol=1e-6)
    assert labels.tolist() == [[[2, 3, 1, 0]]]


def test_points_correct_what_was_carried(carrier: VideoCarrier) -> None:
    """With all that is remembered of the object; and the frame is remembered as given."""
    fresh, images = VideoCarrier(carrier.network), frames(6)
    carrier.step(images[0])
    carrier.add_mask(0, square(5, 5))
    before = run(carrier, images[1:4])[-1]
    corrected = carrier.add_clicks(0, np.array([[60.0, 30.0]]), NO_POINTS)
    run(fresh, images[:4])
    clicked = fresh.add_clicks(0, np.array([[60.0, 30.0]]), NO_POINTS)
    assert not np.array_equal(corrected.maps, before.maps)
    assert not np.array_equal(corrected.maps, clicked.maps)
    assert {name.split("/")[2] for name in carrier.state() if "/cond" in name} == {"0", "3"}


def test_what_cannot_be_told(carrier: VideoCarrier) -> None:
    with pytest.raises(ValueError, match="no frame has come yet"):
        carrier.add_mask(0, square(5, 5))
    carrier.step(frames(1)[0])
    with pytest.raises(ValueError, match="object 3 has an empty mask"):
        carrier.add_mask(3, np.zeros((45, 80), bool))
    with pytest.raises(ValueError, match="no point inside"):
        carrier.add_clicks(3, NO_POINTS, np.array([[1.0, 1.0]]))
    assert not carrier.numbers
    carrier.add_mask(3, square(5, 5))
    carrier.step(frames(1)[0])
    carrier.add_mask(3, np.zeros((45, 80), bool))  # it has left
    assert carrier.numbers == (3,)


# memory and states --------------------------------------------------------------------------


def held_bytes(thing: Any, seen: set[int]) -> int:
    """Size of all tensors that an object holds; each number and text counts 8."""
    if thing is None or isinstance(thing, (int, float, str)):
        return 8
    if id(thing) in seen or isinstance(thing, nn.Module):
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        storage = thing.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return storage.nbytes()
    if isinstance(thing, dict):
        return sum(held_bytes(each, seen) for each in [*thing.keys(), *thing.values()])
    if isinstance(thing, (list, tuple, set)):
        return sum(held_bytes(each, seen) for each in thing)
    return held_bytes(vars(thing), seen) if hasattr(thing, "__dict__") else 0


def test_memory_is_flat_over_300_frames(carrier: VideoCarrier) -> None:
    """With an object given anew every 20 frames, one that comes and goes, and two that stay."""
    images, sizes = frames(40), []
    for i in range(300):
        carrier.step(images[i % 40])
        if i == 0:
            carrier.add_mask(0, square(5, 5))
            carrier.add_mask(1, square(40, 10))
        if i % 20 == 0:
            carrier.add_mask(0, square(5 + i % 40, 5))
            carrier.add_mask(100 + i, square(20, 20))
        if i % 20 == 19:
            carrier.drop(100 + i - 19)
            sizes.append(held_bytes(carrier, set()))
    assert len(sizes) == 15
    steady = sizes[PROMPTED_FRAMES + 1 :]
    assert max(steady) == min(steady), sizes
    features = [name for name in carrier.state() if "features" in name]
    assert len(features) == (PROMPTED_FRAMES + 3) + (1 + 3)  # num_maskmem is 3


def test_a_saved_state_goes_on_with_the_same_bits(folder: Path, tmp_path: Path) -> None:
    """In another process, through a file, at every kind of frame."""
    images = frames(14)
    expected, states = told(VideoCarrier(load_video(str(folder), "cpu")), images, 0)
    for k in (0, 1, 5, 9):
        np.savez(tmp_path / f"{k}.npz", **states[k])  # type: ignore[arg-type]
    program = (
        "import sys, numpy as np, torch\n"
        "torch.set_num_threads(int(sys.argv[3]))\n"
        "from tests.test_sam_video import frames, told\n"
        "from carvid.sam.video import VideoCarrier\n"
        "from carvid.sam.video_weights import load_video\n"
        "for k in (0, 1, 5, 9):\n"
        "    carrier = VideoCarrier(load_video(sys.argv[1], 'cpu'))\n"
        "    with np.load(f'{sys.argv[2]}/{k}.npz') as state: carrier.load(dict(state))\n"
        "    found, states = told(carrier, frames(14), k + 1)\n"
        "    maps = {str(i): each.maps for i, each in enumerate(found)}\n"
        "    np.savez(f'{sys.argv[2]}/{k}-found.npz', **maps, **states[-1])\n"
    )
    threads = str(torch.get_num_threads())  # by which a sum has its order
    arguments = [sys.executable, "-c", program, str(folder), str(tmp_path), threads]
    subprocess.run(arguments, check=True, capture_output=True)
    for k in (0, 1, 5, 9):
        with np.load(tmp_path / f"{k}-found.npz") as found:
            for i, each in enumerate(expected[k + 1 :]):
                np.testing.assert_array_equal(found[str(i)], each.maps)
            for name, value in states[-1].items():
                assert found[name].dtype == value.dtype
                np.testing.assert_array_equal(found[name], value)


def told(
    carrier: VideoCarrier, images: Sequence[Image], first: int
) -> tuple[list[Carried], list[dict[str, NDArray[Any]]]]:
    """Go on from a frame: what is found in each frame, and the state after it."""
    found, states = [], []
    for i in range(first, len(images)):
        found.append(carrier.step(images[i]))
        if i == 0:
            carrier.add_mask(4, square(5, 5))
        if i == 3:
            carrier.add_clicks(2, np.array([[60.0, 30.0]]), NO_POINTS)
        if i == 6:
            carrier.add_mask(4, square(30, 10))
        if i == 8:
            carrier.add_clicks(4, np.array([[60.0, 30.0]]), np.array([[1.0, 2.0]]))
        if i == 11:
            carrier.drop(2)
        states.append(carrier.state())
    return found, states


def test_a_state_is_a_copy(carrier: VideoCarrier) -> None:
    """What comes later does not change it, and loading it does not bind it."""
    _, states = told(carrier, frames(6), 0)
    kept = copy.deepcopy(states[2])
    other = VideoCarrier(carrier.network)
    other.load(states[2])
    run(other, frames(6))
    for name, value in kept.items():
        np.testing.assert_array_equal(states[2][name], value)


def test_what_is_no_state(carrier: VideoCarrier) -> None:
    _, states = told(carrier, frames(2), 0)
    numbers = carrier.numbers
    features = next(name for name in states[1] if "features" in name)
    damaged = [
        {},
        {**states[1], "numbers": np.array([4, 9])},
        {**states[1], "4/cond_frame_outputs/0/other": np.zeros(3)},
        {**states[1], "4/nonsense": np.zeros(3)},
        {**states[1], features: states[1][features][..., :5]},
    ]
    for state in damaged:
        with pytest.raises(ValueError):
            carrier.load(state)
        assert carrier.numbers == numbers
    carrier.load(states[1])
    with pytest.raises(ValueError, match="no frame has come yet"):
        carrier.add_mask(0, square(5, 5))


def test_memory_that_is_too_small_is_one_line(
    carrier: VideoCarrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough "
                           "memory: you tried to allocate 1 bytes.")  # fmt: skip

    carrier.step(frames(1)[0])
    carrier.add_mask(0, square(5, 5))
    monkeypatch.setattr(type(carrier.network.model), "forward", full)
    for call in (
        lambda: carrier.step(frames(1)[0]),
        lambda: carrier.add_mask(1, square(5, 5)),
        lambda: carrier.add_clicks(2, np.array([[1.0, 1.0]]), NO_POINTS),
    ):
        with pytest.raises(WeightsError, match="not enough memory for the SAM 2") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert carrier.numbers == (0,)


# weights ------------------------------------------------------------------------------------


def test_weights_are_read_as_they_were_saved(folder: Path) -> None:
    network = load_video(str(folder), "cpu")
    expected = make_sam2().state_dict()
    assert network.model.state_dict().keys() == expected.keys()
    for name, value in network.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert not network.model.training and network.dtype == torch.float32 and network.side == SIDE
    assert load_video(str(folder), "cpu", "bfloat16").dtype == torch.bfloat16


def test_bfloat16_is_nearly_the_same(folder: Path) -> None:
    maps = []
    for dtype in ("float32", "bfloat16"):
        carrier = VideoCarrier(load_video(str(folder), "cpu", dtype))
        carrier.step(frames(1)[0])
        carrier.add_mask(0, square(5, 5))
        state = carrier.state()
        run(carrier, frames(3))
        other = VideoCarrier(carrier.network)
        other.load(state)
        maps.append(maps_of(run(other, frames(3))))
        assert np.isfinite(maps[-1]).all()
    assert np.abs(maps[0] - maps[1]).mean() < 0.1


def test_preprocessing_is_the_folders(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    assert load_video(str(folder), "cpu").preprocessing.mean == pytest.approx(IMAGENET.mean)
    assert load_video(str(tmp_path), "cpu").preprocessing == IMAGENET
    file = tmp_path / "processor_config.json"
    file.write_text(json.dumps({"target_size": 1024}))  # as the published ones have it
    assert load_video(str(tmp_path), "cpu").preprocessing == IMAGENET
    values = {"image_mean": [0.5, 0.4, 0.3], "image_std": [1, 2, 3]}
    file.write_text(json.dumps({"image_processor": values}))
    assert load_video(str(tmp_path), "cpu").preprocessing.mean == pytest.approx((0.5, 0.4, 0.3))
    file.write_text(json.dumps({"image_processor": {**values, "image_std": [0, 2, 3]}}))
    with pytest.raises(WeightsError, match="image_std"):
        load_video(str(tmp_path), "cpu")


def test_what_is_no_sam2_is_one_line(
    folder: Path, tmp_path: Path, weights: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = sam2_bench.smallest_config()
    parts = {"vision_config": sam2_bench.smallest_vision(), **sam2_bench.smallest_parts()}
    image = Sam2Config(**{name: part for name, part in parts.items() if name.endswith("_config")})
    Sam2Model(image).save_pretrained(tmp_path / "image")
    (tmp_path / "file.pt").write_bytes(b"checkpoint")
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "config.json").write_bytes((folder / "config.json").read_bytes())
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    config.num_maskmem = 0
    forgetful = Sam2VideoModel(config)
    forgetful.save_pretrained(tmp_path / "forgetful")
    reasons = {
        str(tmp_path / "no-such"): "no such folder",
        str(tmp_path / "file.pt"): "a file, not a folder",
        str(tmp_path / "image"): "the memory that carries masks is missing",
        str(cut): "cannot load",
        str(tmp_path / "forgetful"): "remembers no frame",
        weights["generator"]: "holds a 'clip' model, not a SAM 2 for videos",
        "someone/no-such-sam2": "HF_HUB_OFFLINE",
    }
    for name, reason in reasons.items():
        with pytest.raises(WeightsError, match=reason) as caught:
            load_video(name, "cpu")
        assert "\n" not in str(caught.value) and "facebook/sam2.1-hiera-tiny" in str(caught.value)


def test_weights_with_a_tensor_missing(folder: Path, tmp_path: Path) -> None:
    model = make_sam2()
    values = {name: each for name, each in model.state_dict().items() if "mask_downsample." not in
              name}  # fmt: skip
    model.save_pretrained(tmp_path, state_dict=values)
    with pytest.raises(WeightsError, match=r"lacks 2 tensors, as 'mask_downsample\.bias'"):
        load_video(str(tmp_path), "cpu")


def test_a_hub_name_is_downloaded_once(folder: Path, hub: FakeHub) -> None:
    hub.add("someone/sam2", folder)
    first = load_video("someone/sam2", "cpu").model.state_dict()
    asked = len(hub.asked)
    again = load_video("someone/sam2", "cpu").model.state_dict()
    assert len(hub.asked) == asked
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("size", sam2_bench.PUBLISHED)
def test_the_published_sizes(size: str) -> None:
    """By their configuration alone: parameters, what a frame's features are, what is remembered."""
    config = sam2_bench.published_config(size)
    with torch.device("meta"):
        model = Sam2VideoModel(config).eval()
        features = model.get_image_features(torch.zeros(1, 3, 1024, 1024), return_dict=True)
        memory, positions = model.memory_encoder(
            torch.zeros(1, 256, 64, 64), torch.zeros(1, 1, 1024, 1024)
        )
    count = sum(each.numel() for each in model.parameters()) / 1e6
    assert count == pytest.approx(sam2_bench.PUBLISHED[size][-1], abs=0.1)
    shapes = [tuple(each.shape) for each in features.fpn_hidden_states]
    assert shapes == [(256**2, 1, 32), (128**2, 1, 64), (64**2, 1, 256)]
    assert memory.shape == positions.shape == (1, 64, 64, 64)
    assert (config.num_maskmem, config.max_object_pointers_in_encoder) == (7, 16)


# EdgeTAM ------------------------------------------------------------------------------------


class PlainConfig(PreTrainedConfig):  # type: ignore[misc]
    """An image encoder that stands for EdgeTAM's, which needs timm."""

    model_type = "plain_backbone_of_a_test"


class PlainBackbone(PreTrainedModel):  # type: ignore[misc]
    """Four strided convolutions."""

    config_class = PlainConfig
    config: PlainConfig

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        sizes = [(3, 8, 4), (8, 16, 2), (16, 32, 2), (32, 64, 2)]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, step, step) for a, b, step in sizes)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutput:
        planes, found = pixel_values, []
        for layer in self.layers:
            planes = layer(planes)
            found.append(planes)
        return BaseModelOutput(last_hidden_state=found)


@pytest.fixture(scope="module")
def edgetam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny EdgeTAM, saved."""
    AutoConfig.register(PlainConfig.model_type, PlainConfig, exist_ok=True)
    AutoModel.register(PlainConfig, PlainBackbone, exist_ok=True)
    vision = {**sam2_bench.smallest_vision(), "model_type": "edgetam_vision_model",
              "backbone_config": {"model_type": PlainConfig.model_type}}  # fmt: skip
    config = EdgeTamVideoConfig(
        vision_config=vision, memory_attention_mlp_hidden_size=64,
        memory_attention_rope_feat_sizes=[4, 4], memory_attention_rope_q_sizes=[4, 4],
        memory_attention_rope_k_sizes=[2, 2], perceiver_resampler_num_latents=4,
        perceiver_resampler_num_latents_2d=4, perceiver_resampler_mlp_intermediate_size=32,
        **sam2_bench.smallest_parts(),
    )  # fmt: skip
    place = tmp_path_factory.mktemp("edgetam")
    randomize(EdgeTamVideoModel(config)).save_pretrained(place)
    return place


def test_edgetam_is_called_alike(edgetam: Path) -> None:
    """Carried, corrected, dropped, saved and gone on with."""
    network = load_video(str(edgetam), "cpu")
    expected, states = told(VideoCarrier(network), frames(14), 0)
    for k in (1, 7):
        other = VideoCarrier(network)
        other.load(states[k])
        found, _ = told(other, frames(14), k + 1)
        for a, b in zip(expected[k + 1 :], found, strict=True):
            np.testing.assert_array_equal(a.maps, b.maps)
    assert len({each.maps.tobytes() for each in expected}) == len(expected)


def test_edgetam_from_the_hub(edgetam: Path, hub: FakeHub) -> None:
    hub.add("someone/edgetam", edgetam)
    assert isinstance(load_video("someone/edgetam", "cpu").model, EdgeTamVideoModel)


def test_nothing_needs_torchvision() -> None:
    """Neither it nor a processor that wants it is imported."""
    program = (
        "import sys, carvid.sam.video\n"
        "wanted = [n for n in sys.modules if n == 'torchvision' or n.startswith('transformers.')"
        " and 'processing_sam2' in n]\n"
        "assert not wanted, wanted"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_constants_are_those_of_transformers(carrier: VideoCarrier) -> None:
    """Names in what a session keeps."""
    carrier.step(frames(1)[0])
    carrier.add_mask(0, square(5, 5))
    outputs = carrier._objects[0]._outputs
    assert set(outputs) == {video_memory.GIVEN, video_memory.CARRIED}
    names = {video_memory.POINTER, video_memory.FEATURES, video_memory.POSITIONS}
    assert set(outputs[video_memory.GIVEN][0]) == names


def test_where_it_is_on_this_machine(folder: Path, tmp_path: Path) -> None:
    assert find_local_video(str(folder)) == "folder"
    assert find_local_video("nobody/sam2-of-nobody") is None
    assert find_local_video(str(tmp_path / "missing")) is None
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(WeightsError, match="'clip' model"):
        find_local_video(str(tmp_path))
