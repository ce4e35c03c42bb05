"""Automatic masks made by segment-anything, by a stand-in of it, and where it cannot be used."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import SamModel
from typer.testing import CliRunner

from carvid.base.errors import OutputError, WeightsError
from carvid.cli import app
from carvid.cli.information import gather
from carvid.config import SamConfig, load_config
from carvid.run.earlier import differences
from carvid.sam.automatic import automatic_masks
from carvid.sam.installed import MODULE, OWN, State, maker_in_json, state
from carvid.sam.network import SamNetwork
from carvid.sam.package import package_generator, package_network, warn_once
from carvid.sam.refiner import Ensemble, _say_once, masks_made_by, prompted, sam_refiner
from tests.test_sam import EASY, make_sam, original_state

PACKAGE = state()
needs_package = pytest.mark.skipif(
    not PACKAGE.version, reason="needs segment-anything and torchvision"
)
RATINGS = (0.9, 0.9, 0.7, 0.4)
"""What the stand-in says of its masks; the second is empty."""


class StandIn:
    """A package that knows the names and calls of segment-anything, and draws rectangles."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}
        self.tensors: dict[str, Tensor] = {}
        self.asked: dict[str, Any] = {}
        self.pictures = 0

    def part(self, name: str) -> Any:
        def make(**sizes: Any) -> str:
            self.parts[name] = sizes
            return name

        return make

    def sam(self, *parts: str) -> Any:
        assert parts == ("ImageEncoderViT", "PromptEncoder", "MaskDecoder")
        network = SimpleNamespace(
            state_dict=lambda: original_state(make_sam(1)),
            load_state_dict=lambda values, assign: self.tensors.update(values),
            eval=lambda: network,
            requires_grad_=lambda _: network,
        )
        return network

    def generator(self, network: Any, **settings: Any) -> Any:
        assert network.pixel_mean.shape == network.pixel_std.shape == (3, 1, 1)
        self.asked = settings
        return SimpleNamespace(generate=self.generate)

    def generate(self, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
        self.pictures += 1
        masks = np.zeros((len(RATINGS), *image.shape[:2]), bool)
        for number in (0, 2, 3):
            masks[number, number : number + 8] = True
        return [
            {"segmentation": mask, "area": int(mask.sum()), "predicted_iou": rating}
            for mask, rating in zip(masks, RATINGS, strict=True)
        ]

    def modules(self) -> dict[str, ModuleType]:
        names = ("ImageEncoderViT", "PromptEncoder", "MaskDecoder", "TwoWayTransformer")
        package, modeling = ModuleType(MODULE), ModuleType(f"{MODULE}.modeling")
        vars(package).update(SamAutomaticMaskGenerator=self.generator)
        vars(modeling).update({name: self.part(name) for name in names}, Sam=self.sam)
        for module in (package, modeling):
            module.__spec__ = ModuleSpec(module.__name__, None)
        return {module.__name__: module for module in (package, modeling)}


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    warn_once.cache_clear()
    _say_once.cache_clear()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    package = StandIn()
    for name, module in package.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("carvid.sam.installed._version", lambda: "9.9")
    return package


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A package that cannot be imported; why."""
    fault = "operator torchvision::nms does not exist"
    (tmp_path / "site" / MODULE).mkdir(parents=True)
    (tmp_path / "site" / MODULE / "__init__.py").write_text(f"raise RuntimeError({fault!r})")
    for name in [name for name in sys.modules if name.split(".")[0] == MODULE]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return fault


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sam")
    make_sam().save_pretrained(folder)
    return str(folder)


def refiner_of(folder: str, *changes: str) -> Any:
    easy = [f"sam.{key}={value}" for key, value in vars(EASY).items() if key != "model"]
    changes = ("weights.device=cpu", *easy, f"sam.model={folder}", *changes)
    return sam_refiner(load_config("default", list(changes)))


def test_states(no_package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state() == State()
    monkeypatch.delitem(sys.modules, MODULE)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert state() == State()


def test_a_broken_package_is_one_line_and_ours_is_used(
    broken: str, folder: str, image: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    assert state() == State(fault=broken)
    for _ in range(2):
        refiner = refiner_of(folder)
    expected = automatic_masks(SamNetwork(make_sam()), image, EASY)
    assert (refiner.generate(image) == expected).all() and len(expected)
    assert masks_made_by(refiner) == OWN
    assert caplog.messages == [
        f"segment-anything is installed but cannot be imported ({broken}); carvid's own code makes "
        "SAM's automatic masks"
    ]
    assert f"cannot be imported ({broken})" in gather("tiny")["notes"]["sam"]


def test_without_the_package_nothing_is_said(
    no_package: None, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "carvid")
    refiner = refiner_of(folder)
    assert isinstance(refiner, Ensemble) and refiner.made_by == OWN
    assert caplog.messages == [] and "sam" not in gather("tiny")["notes"]


def test_the_package_makes_the_masks(
    stand_in: StandIn, folder: str, image: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "carvid")
    for _ in range(2):
        refiner = refiner_of(folder, "sam.min_iou=0.4")
    assert refiner.made_by == masks_made_by(refiner) == "segment-anything 9.9"
    assert caplog.messages == ["SAM's automatic masks are made by segment-anything 9.9"]
    assert gather("tiny")["notes"]["sam"].startswith("segment-anything 9.9 makes")
    masks = refiner.generate(image)
    assert masks.dtype == bool and masks.shape == (2, *image.shape[:2])
    assert masks[0, :8].all() and masks[1, 2:10].all()  # neither the empty one nor one at the bound
    assert stand_in.asked == {
        "points_per_side": 4, "points_per_batch": 5, "pred_iou_thresh": 0.4,
        "stability_score_thresh": 0.0, "box_nms_thresh": 0.95,
    }  # fmt: skip
    refiner = refiner_of(folder, "sam.min_iou=0.95")
    assert refiner.generate(image).shape == (0, *image.shape[:2])
    assert masks_made_by(refiner_of(folder, "sam.mode=prompted")) == masks_made_by(None) == OWN


def test_the_package_holds_the_same_tensors(stand_in: StandIn) -> None:
    model = make_sam()
    found = package_generator(model, EASY)
    assert found is not None
    expected = original_state(model)
    assert stand_in.tensors.keys() == expected.keys()
    own = {value.data_ptr() for value in model.state_dict().values()}
    for key, value in stand_in.tensors.items():
        assert torch.equal(value, expected[key]) and value.data_ptr() in own
    encoder = stand_in.parts["ImageEncoderViT"]
    assert int(encoder["embed_dim"] * encoder["mlp_ratio"]) == 40
    assert (encoder["window_size"], encoder["global_attn_indexes"]) == (3, (1,))


def test_what_the_package_cannot_take_is_ours(
    stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_sam()
    model.config.vision_config.hidden_act = "relu"
    for _ in range(2):
        assert package_generator(model, EASY) is None
    (line,) = caplog.messages
    assert line.startswith("segment-anything cannot take this SAM (its activations are")


def test_want_of_memory_in_the_package_is_one_line(
    stand_in: StandIn, image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(stand_in, "generate", fail)
    found = package_generator(make_sam(), EASY)
    assert found is not None
    with pytest.raises(WeightsError, match="not enough memory"):
        found[0](image)


def test_the_cache_keeps_both_makers_apart(
    stand_in: StandIn, folder: str, image: NDArray[np.uint8], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for _ in range(2):
        refiner_of(folder, f"sam.cache={tmp_path}").generate(image)
    assert stand_in.pictures == 1 and len(list(tmp_path.iterdir())) == 1
    monkeypatch.setitem(sys.modules, MODULE, None)
    own = refiner_of(folder, f"sam.cache={tmp_path}").generate(image)
    assert len(list(tmp_path.iterdir())) == 2
    assert (own == automatic_masks(SamNetwork(make_sam()), image, EASY)).all()


def test_runs_of_both_makers_differ() -> None:
    weights = {"generator": "a", "classifier": "a", "device": "cpu", "dtype": "float32"}
    package = weights | {"automatic_masks": "segment-anything 1.0"}
    for saved, now, told in (
        (weights, weights, []),
        (package, package, []),
        (weights, package, ["weights.automatic_masks was 'carvid', is 'segment-anything 1.0'"]),
        (package, weights, ["weights.automatic_masks was 'segment-anything 1.0', is 'carvid'"]),
    ):
        assert differences({"weights": saved}, {"weights": now}) == told
    assert differences({"weights": package}, {}) == []


def test_a_run_does_not_go_on_with_another_maker(
    stand_in: StandIn, folder: str, clip: Path, weights: dict[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    arguments = [
        "run", str(clip), "--expr", "a dog", "--end", "0.1", "-o", str(tmp_path / "out"),
        "--weights-generator", weights["generator"], "--weights-classifier", weights["classifier"],
        "--set", "car.theta=0", "--set", "sam.cache=off", "--set", "sam.points_per_side=2",
        "--sam", folder,
    ]  # fmt: skip
    runner = CliRunner()
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    saved = json.loads((tmp_path / "out" / "run.json").read_text())
    assert saved["weights"].get("automatic_masks") == "segment-anything 9.9"
    assert runner.invoke(app, [*arguments, "--resume"]).exit_code == 0
    monkeypatch.setitem(sys.modules, MODULE, None)
    result = runner.invoke(app, [*arguments, "--resume"])
    assert isinstance(result.exception, OutputError)
    assert "automatic_masks was 'segment-anything 9.9', is 'carvid'" in str(result.exception)
    assert runner.invoke(app, [*arguments, "--overwrite"]).exit_code == 0
    saved = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "automatic_masks" not in saved["weights"]


def test_predictions_know_what_will_make_the_masks(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble, drawn = SamConfig(model="sam.pth"), SamConfig(model="sam.pth", mode="prompted")
    assert maker_in_json(SamConfig()) == maker_in_json(drawn) == {}
    package = maker_in_json(ensemble)
    monkeypatch.setitem(sys.modules, MODULE, None)
    own = maker_in_json(ensemble)
    assert own == {"weights": {}}
    named = "weights.automatic_masks was {}, is {}"
    for saved, now, told in (
        (package, package, []),
        ({}, own, []),  # of before there were two
        (own, package, [named.format("'carvid'", "'segment-anything 9.9'")]),
        (package, own, [named.format("'segment-anything 9.9'", "'carvid'")]),
    ):
        assert differences(saved, now) == told


# with the package itself --------------------------------------------------------------------


@needs_package
@pytest.mark.parametrize("seed", [0, 1])
def test_the_package_gives_the_same_masks(seed: int, image: NDArray[np.uint8]) -> None:
    """All masks as they come, none suppressed: the networks and the order."""
    model = make_sam(seed)
    config = replace(EASY, max_box_iou=1.0)
    found = package_generator(model, config)
    assert found is not None and found[1] == f"segment-anything {PACKAGE.version}"
    ours, theirs = automatic_masks(SamNetwork(model), image, config), found[0](image)
    assert ours.shape == theirs.shape and len(ours) > 3
    assert (ours != theirs).mean() < 1e-3  # sums in another order, at the edge of a mask


@needs_package
def test_the_package_reads_a_checkpoint_as_carvid_does(folder: str) -> None:
    model: SamModel = make_sam()
    package = package_network(model)
    expected = original_state(model)
    assert package.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in package.state_dict().items())
    assert not any(parameter.is_meta for parameter in package.parameters())
    assert package.device.type == "cpu"
    masks = np.zeros((1, 20, 30), bool)
    masks[0, 5:15, 5:15] = True
    drawn = prompted(SamNetwork(model), SamConfig(phi_iou=0.0))
    assert drawn(np.zeros((20, 30, 3), np.uint8), masks).shape == masks.shape
